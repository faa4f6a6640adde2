"""``python -m tests.bench``: measures the command with many pools: its time, with Python's start, and its calls.

AWS is on this machine, so the times do not include the network: add a round trip for each sequential call.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from time import perf_counter

from lambdas.aws.tables import to_attribute
from lambdas.reconcile import reconcile
from lambdas.telemetry import logger
from tests.cli.site import Site, new_site, served_market
from tests.support.empty_aws import empty_aws

COMMANDS = (["--version"], ["list"], ["explain", "pool-0"], ["history", "pool-0"], ["apply", "FILE"])
ROUNDS = 5


def main() -> None:
    """Create the pools, run each command several times, and print the median."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pools", type=int, default=200, help="default: %(default)s")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        empty_aws(Path(folder)) as aws_url,
        served_market() as (ec2_url, market),
    ):
        site = new_site(aws_url, ec2_url, market)
        file = Path(folder, "pools.yaml")
        logging.getLogger(logger.name).setLevel(logging.ERROR)
        with redirect_stdout(io.StringIO()):  # the metrics
            _fill(site, asked.pools, file)
        say = sys.stdout.write
        say(f"{asked.pools} pools; median of {ROUNDS} runs\n")
        for command in COMMANDS:
            words = [str(file) if word == "FILE" else word for word in command]
            market.calls.clear()
            seconds = _median(partial(_run, site, words))
            calls = ", ".join(f"{times // ROUNDS} {name}" for name, times in sorted(market.calls.items()))
            say(f"spotpools {' '.join(command):<20} {seconds:5.2f} s   EC2: {calls or 'not asked'}\n")


def _fill(site: Site, pools: int, file: Path) -> None:
    """Create pools with an instance each, some of them waiting, and their decisions in the log."""
    text = []
    for number in range(pools):
        cap = "0.01" if number % 4 == 0 else "2.5"
        item = {"pool_name": f"pool-{number}", "instance_types": ["g5.xlarge"], "target_size": 1, "spot_max_price": cap}
        written = {name: to_attribute(value) for name, value in item.items()}
        site.client("dynamodb").put_item(TableName=site.settings.pools_table, Item=written)
        text.append(
            f'- {{pool_name: pool-{number}, instance_type: g5.xlarge, target_size: 2, spot_max_price: "{cap}"}}'
        )
        reconcile(f"pool-{number}", site.plane)
    line = {"message": "reconciled", "wanted": 1, "running": 1, "steps": [], "failures": []}
    for start in range(0, 60 * pools, 1000):
        lines = [{**line, "pool": f"pool-{number % pools}"} for number in range(start, min(start + 1000, 60 * pools))]
        site.log("PoolDueFunction", *lines)
    file.write_text("\n".join(text), encoding="utf-8")


def _run(site: Site, words: list[str]) -> None:
    environment = {**os.environ, **site.environment}
    subprocess.run([sys.executable, "-m", "cli.main", *words], env=environment, capture_output=True, check=True)  # noqa: S603  our own command


def _median(call: Callable[[], None]) -> float:
    def timed() -> float:
        began = perf_counter()
        call()
        return perf_counter() - began

    return sorted(timed() for _ in range(ROUNDS))[ROUNDS // 2]


if __name__ == "__main__":
    main()
