"""``python -m tests``: every test, in three parts side by side; most of a whole-path test is waiting.

Arguments are handed to pytest, in one process then. The exit status is 0 only if every part passed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

WHOLE_PATH = Path(__file__).parent / "e2e"
ALONE = ("test_workloads", "test_faults", "test_kills")
"""The longer ones; about as long as the others together."""

PYTEST = [sys.executable, "-m", "pytest", "-q", "--durations=5"]
LOOK_SECONDS = 5.0


def parts() -> dict[str, list[str]]:
    """What each process runs."""
    files = sorted(WHOLE_PATH.glob("test_*.py"))
    long = [str(path) for path in files if path.stem in ALONE]
    return {
        "whole path, long": long,
        "whole path": [str(path) for path in files if str(path) not in long],
        "all others": [f"--ignore={WHOLE_PATH}"],
    }


def side_by_side() -> int:
    """Run the parts at once, say how far each is, and show the whole output of those that failed."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        running: dict[str, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}
        for number, (name, arguments) in enumerate(parts().items()):
            output: IO[bytes] = Path(folder, str(number)).open("w+b")  # noqa: SIM115  closed with its process
            running[name] = subprocess.Popen([*PYTEST, *arguments], stdout=output, stderr=subprocess.STDOUT), output  # noqa: S603  our own tests
            say(f"{name}: started")
        failed = 0
        while running:
            time.sleep(LOOK_SECONDS)
            for name in [name for name, (process, _) in running.items() if process.poll() is not None]:
                process, written = running.pop(name)
                failed += process.returncode != 0
                tell(name, process.returncode, written, time.monotonic() - began)
        return 1 if failed else 0


def tell(name: str, status: int, output: IO[bytes], seconds: float) -> None:
    """Say how a part ended: in a line, or with all it wrote."""
    output.seek(0)
    text = output.read().decode(errors="replace").rstrip()
    output.close()
    if status:
        say(text)
    say(f"{name}: {text.splitlines()[-1] if text else f'exit status {status}'} ({seconds:.0f} s)")


def say(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(subprocess.run([*PYTEST, *sys.argv[1:]], check=False).returncode if sys.argv[1:] else side_by_side())  # noqa: S603  our own tests
