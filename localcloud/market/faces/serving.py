"""The command line's work: it creates a market from the options and serves it until it is stopped."""

import argparse
import os
import signal
import stat
import sys
import threading
from http import HTTPStatus

from localcloud.market.faces.control import Control
from localcloud.market.faces.events import EventBridge
from localcloud.market.faces.iam import Iam
from localcloud.market.faces.moto_surroundings import MotoSurroundings
from localcloud.market.faces.parameters import Parameters
from localcloud.market.faces.server import MarketServer
from localcloud.market.model.clock import system_clock
from localcloud.market.model.market import Market
from localcloud.market.model.offerings import default_offerings
from localcloud.market.model.settings import PROFILES, TIMES

_REPLAY = ("trace", "speed", "start", "hours", "zones", "capacity_when_available", "on_demand_price")


def serve(arguments: argparse.Namespace) -> int:
    """Serve the market. The first line of standard output is the URL, printed as soon as it answers."""
    times = {name: value for name in TIMES if (value := getattr(arguments, name)) is not None}
    settings = PROFILES[arguments.profile]().changed(times)
    market = Market(
        clock=system_clock,
        seed=arguments.seed if arguments.seed is not None else int.from_bytes(os.urandom(8)),
        offerings=default_offerings(),
        settings=settings,
        surroundings=MotoSurroundings(arguments.region, Parameters(arguments.region)),
        region=arguments.region,
        account=arguments.account,
    )
    iam = Iam.from_environment(arguments.region)
    bus = EventBridge.from_environment(arguments.region)
    replay = {name: value for name in _REPLAY if (value := getattr(arguments, name)) is not None}
    control = Control(
        market, settings=settings, replay_defaults=replay, event_counts=bus.counts if bus else lambda: {"to": None}
    )
    if arguments.trace and not arguments.hold:
        status, answer = control.handle("POST", "/market/replay", {}, b"")
        if status != HTTPStatus.OK:
            print(answer["error"], file=sys.stderr)  # noqa: T201  # a command's answer
            return 1
    try:
        server = MarketServer(
            market,
            control,
            port=arguments.port,
            sink=bus.deliver if bus else None,
            rights=iam.rights if iam else lambda _: None,
        )
    except SystemExit:
        return 1  # werkzeug has printed that the port is in use
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
