"""``python -m tests.support.first_contact`` (``make first-contact``): times the first minutes of a new user.

In a new clone of the last commit, with nothing installed: the demo, the local cloud, a first pool that cannot be
filled, and the reason why. Each step must succeed. The times do not include reading and typing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

ROOT = Path(__file__).parents[2]
POOL = '{pool_name: mine, instance_types: [g5.xlarge], target_size: 2, spot_max_price: "0.01"}\n'
REASON = "PRICE_ABOVE_MAX"
PATIENCE_SECONDS = 90
INSTALLS = "installing everything, deploying and playing the story"


def main() -> None:
    """Do the steps. Raises CalledProcessError or TimeoutError at the first that fails."""
    begun = monotonic()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "spotpools"
        with timed("git clone"):
            subprocess.run(["/usr/bin/env", "git", "clone", "--quiet", str(ROOT), str(clone)], check=True)  # noqa: S603  our own repository
        with timed(f"make demo: {INSTALLS}"):
            played = shell("make demo", clone)
        sys.stdout.writelines(f"{'':11}{line}\n" for line in played.splitlines() if line.endswith(" s."))
        with timed("make local: until it says Ready"):
            local = started(clone)
        try:
            (clone / "mine.yaml").write_text(POOL, encoding="utf-8")
            with timed("spotpools apply mine.yaml: written"):
                shell(". .localcloud/env; .venv/bin/spotpools apply mine.yaml", clone)
            with timed(f"spotpools explain mine: until it says {REASON}"):
                until_told(clone)
        finally:
            os.killpg(local.pid, signal.SIGTERM)  # processes in the background ignore Ctrl-C
            local.communicate()
    say(monotonic() - begun, "in all")


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the step took."""
    begun = monotonic()
    yield
    say(monotonic() - begun, what)


def say(seconds: float, what: str) -> None:
    sys.stdout.write(f"{seconds:7.1f} s  {what}\n")
    sys.stdout.flush()


def shell(command: str, folder: Path) -> str:
    """Run a command and return its output. If it fails, all output goes to standard error."""
    done = subprocess.run(  # noqa: S603  the commands above
        ["/bin/bash", "-c", command],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
    done.check_returncode()
    return done.stdout


def started(folder: Path) -> subprocess.Popen[str]:
    """Start ``make local`` in its own process group, and wait until it is ready."""
    local = subprocess.Popen(
        ["/usr/bin/env", "make", "local"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert local.stdout is not None
    for line in local.stdout:
        if line.startswith("Ready:"):
            return local
    raise subprocess.CalledProcessError(local.wait(), "make local")


def until_told(folder: Path) -> None:
    """Call explain until its answer has the reason."""
    deadline = monotonic() + PATIENCE_SECONDS
    while REASON not in shell(". .localcloud/env; .venv/bin/spotpools explain mine", folder):
        if monotonic() > deadline:
            raise TimeoutError(f"explain did not say {REASON} within {PATIENCE_SECONDS} s")


def environment() -> dict[str, str]:
    """The environment of a user who has set up nothing yet."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SPOTPOOLS_", "VIRTUAL"))}
    return kept | {"PYTHON": getattr(sys, "_base_executable", sys.executable)}


if __name__ == "__main__":
    main()
