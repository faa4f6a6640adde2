"""Runs a command, and ends it with all its children when the other end of standard input closes.

``localcloud.processes`` starts it as a separate script. Even a parent that is killed closes its pipe, on every system.
A signal to the process group reaches what the command itself started (ministack's function workers). It needs only the
standard library, so that it starts in a few milliseconds.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 4.0


def main() -> int:
    """Run the command in ``sys.argv``. Returns its exit status."""
    # The command shares this pipe as standard input. Nothing is written to it, and it closes for both.
    child = subprocess.Popen(sys.argv[1:], start_new_session=True)  # noqa: S603 - a command of our own

    def end(number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)

    def stop(*_: object) -> None:
        end(signal.SIGTERM)
        late = threading.Timer(GRACE_SECONDS, end, [signal.SIGKILL])
        late.daemon = True
        late.start()

    def watch() -> None:
        while os.read(0, 4096):
            pass
        stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    threading.Thread(target=watch, daemon=True).start()
    status = child.wait()
    end(signal.SIGKILL)  # what the command left running
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
