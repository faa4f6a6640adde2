"""``python -m localcloud``: starts the local cloud, deploys the stack and runs until stopped (``make local``)."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from localcloud.cloud import ROOT, LocalCloud
from localcloud.processes import LocalCloudError
from localcloud.progress import Progress


def main() -> int:
    """Run until Ctrl-C or SIGTERM. Returns the exit status."""
    arguments = _parser().parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # also during the start: it stops what it has started
    progress = Progress()
    try:
        with LocalCloud(
            name=arguments.name,
            port=arguments.port,
            market_port=arguments.market_port,
            tick_seconds=arguments.tick_seconds,
            pace=arguments.pace,
            market_arguments=arguments.market,
            progress=progress,
        ) as cloud:
            progress.say(f"\nReady: AWS at {cloud.endpoint_url}, EC2 and the market at {cloud.market.url}")
            if arguments.tick_seconds:
                progress.say(f"Ticks every {arguments.tick_seconds:g} s instead of every minute.")
            progress.say(f"In another shell:  source {_short(cloud.env_files[0])}")
            if cloud.env_files[1:]:
                progress.say(f"  (always of the newest cloud; of this cloud: {_short(cloud.env_files[1])})")
            progress.say(f"Logs in {_short(cloud.logs)}. Ctrl-C stops everything.")
            try:
                stop.wait()
            finally:  # also at SIGTERM
                progress.say("Stopping: the emulated AWS ends the functions that still run. This takes some seconds.")
    except KeyboardInterrupt:
        progress.say("Stopped.")
    except LocalCloudError as error:
        return explain(error)
    return 0


def explain(error: LocalCloudError) -> int:
    """Write the error and the end of its log, if any, to standard error. Returns the exit status."""
    if error.log is not None and error.log.exists():
        sys.stderr.write("".join(f"  {line}\n" for line in error.log.read_text(errors="replace").splitlines()[-60:]))
        sys.stderr.write(f"  (whole log: {_short(error.log)})\n")
    sys.stderr.write(f"local cloud: {error}\n")
    return 1


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(ROOT) else str(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m localcloud", description=__doc__)
    parser.add_argument("--name", help="folder under .localcloud for its state; needed only if several clouds run")
    parser.add_argument("--port", type=int, default=0, help="port of AWS (default: a free one)")
    parser.add_argument("--market-port", type=int, default=0, help="port of the market (default: a free one)")
    parser.add_argument("--tick-seconds", type=float, help="tick this often, in addition to the schedule")
    parser.add_argument("--pace", type=float, default=1, help="divide the stack's waiting times by this")
    parser.add_argument("market", nargs="*", help="arguments for the market, after --")
    return parser


if __name__ == "__main__":
    sys.exit(main())
