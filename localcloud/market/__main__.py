"""``python -m localcloud.market``: serves the market until it is stopped, or until its standard input (a pipe) ends."""

import argparse
import logging
import os
import sys

from localcloud.market.model.market import ACCOUNT
from localcloud.market.model.settings import PROFILES, TIMES
from localcloud.market.model.trace import CAPACITY_WHEN_AVAILABLE


def main() -> int:
    """Serve the market. The first line of standard output is the URL, printed as soon as it answers."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    # moto reads its account from here at its import, so all that imports moto is imported later.
    os.environ["MOTO_ACCOUNT_ID"] = arguments.account
    from localcloud.market.faces.serving import serve  # noqa: PLC0415  # see above

    return serve(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m localcloud.market",
        description="An EC2 market on this machine; docs/market.md describes it. Events go to AWS_ENDPOINT_URL.",
    )
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--region", default=os.environ.get("AWS_REGION", "us-east-1"))
    parser.add_argument("--account", default=ACCOUNT, help="account id in events and answers (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="makes ids repeatable; default: another one each time")
    parser.add_argument("--profile", choices=PROFILES, default="quick", help="how long things take (default: quick)")
    for name in TIMES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, help="default: the profile's")
    replay = parser.add_argument_group("replay of a recorded market")
    replay.add_argument("--trace", metavar="CSV", help="play this file (.csv or .csv.gz) from the start")
    replay.add_argument("--hold", action="store_true", help="start only at POST /market/replay")
    replay.add_argument("--speed", type=float, help="recorded seconds per second (default: 1)")
    replay.add_argument("--start", help="recorded time to start at, ISO 8601 with time zone (default: the first)")
    replay.add_argument("--hours", type=float, help="recorded hours to play (default: to the end)")
    replay.add_argument("--zones", help="only zones whose names begin with this, such as us-east-1")
    replay.add_argument(
        "--capacity-when-available",
        type=int,
        help=f"capacity of an available offering (default: {CAPACITY_WHEN_AVAILABLE})",
    )
    replay.add_argument("--on-demand-price", help="USD per hour, for types that are new to the market")
    return parser


if __name__ == "__main__":
    sys.exit(main())
