"""Runs one command and ends it, with all it started, when whoever holds the other end of standard input goes away.

Started by ``localcloud.processes`` as a script of its own: even a parent that was killed outright closes its pipe, on
every system, and a process group reaches what the command itself started (ministack's function workers). Needs the
standard library only, so that it starts in a few milliseconds.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 4.0


def main() -> int:
    """Run the command in ``sys.argv``; answers its exit status."""
    # The command gets the same pipe as its standard input: nothing is ever written to it, and it ends for both.
    child = subprocess.Popen(sys.argv[1:], start_new_session=True)  # noqa: S603 - our own caller's command

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
    end(signal.SIGKILL)  # what the command left behind
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
