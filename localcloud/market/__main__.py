"""``python -m localcloud.market``: serves the market until told to stop, or until its standard input (a pipe) ends."""

import argparse
import logging
import os
import signal
import stat
import sys
import threading

from localcloud.market.clock import system_clock
from localcloud.market.errors import ControlError
from localcloud.market.model import ACCOUNT
from localcloud.market.settings import Settings
from localcloud.market.trace import CAPACITY_WHEN_AVAILABLE

_REPLAY = ("trace", "speed", "start", "hours", "zones", "capacity_when_available", "on_demand_price")


def main() -> int:
    """Serve; print the URL as the first line of standard output as soon as it answers."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    # moto reads its account from here when it is imported, which is why its importers come only now.
    os.environ["MOTO_ACCOUNT_ID"] = arguments.account
    from localcloud.market.control import Control  # noqa: PLC0415  # see above
    from localcloud.market.events import EventBridge  # noqa: PLC0415
    from localcloud.market.model import Market  # noqa: PLC0415
    from localcloud.market.moto_surroundings import MotoSurroundings  # noqa: PLC0415
    from localcloud.market.offerings import default_offerings  # noqa: PLC0415
    from localcloud.market.server import MarketServer  # noqa: PLC0415

    settings = Settings(
        pending_seconds=arguments.pending_seconds,
        notice_seconds=arguments.notice_seconds,
        shutting_down_seconds=arguments.shutting_down_seconds,
        describe_lag_seconds=arguments.describe_lag_seconds,
    )
    market = Market(
        clock=system_clock,
        seed=arguments.seed if arguments.seed is not None else int.from_bytes(os.urandom(8)),
        offerings=default_offerings(),
        settings=settings,
        surroundings=MotoSurroundings(arguments.region),
        region=arguments.region,
        account=arguments.account,
    )
    bus = EventBridge.from_environment(arguments.region)
    replay = {name: value for name in _REPLAY if (value := getattr(arguments, name)) is not None}
    control = Control(
        market, settings=settings, replay_defaults=replay, event_counts=bus.counts if bus else lambda: {"to": None}
    )
    if arguments.trace and not arguments.hold:
        try:
            control.start_replay({})
        except ControlError as error:
            print(error, file=sys.stderr)  # noqa: T201  # a command's answer
            return 1
    try:
        server = MarketServer(market, control, port=arguments.port, sink=bus.deliver if bus else None)
    except SystemExit:
        return 1  # werkzeug has said that the port is in use
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    print(server.url, flush=True)  # noqa: T201  # a command's answer
    if stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        threading.Thread(target=_wait_for_end_of_input, args=[stop], daemon=True).start()
    stop.wait()
    server.stop()
    return 0


def _wait_for_end_of_input(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m localcloud.market",
        description="An EC2 market on this machine; docs/market.md describes it. Events go to AWS_ENDPOINT_URL.",
    )
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--region", default=os.environ.get("AWS_REGION", "us-east-1"))
    parser.add_argument("--account", default=ACCOUNT, help="account id in events and answers (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="makes ids repeatable; default: a new one each time")
    for name in ("pending_seconds", "notice_seconds", "shutting_down_seconds", "describe_lag_seconds"):
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=float, default=getattr(defaults, name), help="default: %(default)s")
    replay = parser.add_argument_group("replay of a recorded market")
    replay.add_argument("--trace", metavar="CSV", help="play this file (.csv or .csv.gz) from the start")
    replay.add_argument("--hold", action="store_true", help="begin only at POST /market/replay")
    replay.add_argument("--speed", type=float, help="recorded seconds per second (default: 1)")
    replay.add_argument("--start", help="recorded time to begin at, ISO 8601 with zone (default: the first)")
    replay.add_argument("--hours", type=float, help="recorded hours to play (default: to the end)")
    replay.add_argument("--zones", help="only zones whose names begin so, such as us-east-1")
    replay.add_argument(
        "--capacity-when-available",
        type=int,
        help=f"instances that an available offering holds (default: {CAPACITY_WHEN_AVAILABLE})",
    )
    replay.add_argument("--on-demand-price", help="USD per hour, for a type that the market does not know")
    return parser


if __name__ == "__main__":
    sys.exit(main())
