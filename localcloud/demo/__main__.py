"""``make demo``: plays the walkthrough, or a recorded market (``--trace``), on its own cloud and writes a report."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from time import monotonic

from rich.table import Table
from rich.text import Text

from localcloud.__main__ import explain
from localcloud.cloud import ROOT, LocalCloud
from localcloud.demo.chart import picture
from localcloud.demo.live import Screen
from localcloud.demo.pages import recording, svg
from localcloud.demo.replay import ReplayDemo, choose_recording
from localcloud.demo.report import render
from localcloud.demo.results import Report
from localcloud.demo.walkthrough import METAL_TYPES, NOTICE_SECONDS, TICK_SECONDS, ZONES_TYPES, Walkthrough
from localcloud.demo.watch import NotSeenError, Watcher
from localcloud.processes import LocalCloudError
from localcloud.progress import Progress

REPORT = ROOT / "demo-report.html"
PICTURE_COLUMNS = 120
WHERE = (
    "The CDK deployed the same stack as on AWS, into ministack, with IAM enforced. EC2 was the market of "
    "localcloud/market. No AWS account was used."
)
RECORDED = (
    "Interruptions, shortages and prices are recorded ones. The recording does not say how many instances an available "
    "offering could hold; the replay assumes many."
)
SPED_UP = (
    "Waiting times and ticks are as much faster as the recording; the functions are not. So, in recorded time, "
    "reactions are slower than on AWS."
)


def main() -> int:
    """Play the demo. Returns exit status 0 only if all steps passed."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    progress = Progress()
    try:
        return _replay(arguments, progress) if arguments.trace else _walkthrough(arguments, progress)
    except KeyboardInterrupt:
        progress.say("Stopped.")
        return 1
    except LocalCloudError as error:
        return explain(error)


def _walkthrough(arguments: argparse.Namespace, progress: Progress) -> int:
    begun = monotonic()
    with LocalCloud(family="demo", progress=progress) as cloud, Watcher(cloud) as watcher:
        ready = monotonic() - begun
        progress.say(f"Ready after {ready:.0f} s.")
        screen = Screen(progress.console, watcher, [*METAL_TYPES, *ZONES_TYPES])
        walkthrough = Walkthrough(cloud, watcher, screen)
        failure = _play(screen, walkthrough.play)
        report = Report(
            title="Spot Pools: the demo",
            summary=f"Two pools on the local cloud, {watcher.started:%Y-%m-%d %H:%M} UTC.",
            start=watcher.started,
            end=datetime.now(UTC) + timedelta(seconds=2),  # room in the chart after the last step
            steps=walkthrough.steps,
            pools=walkthrough.chapters(),
            alarms=watcher.alarms,
            messages=watcher.messages,
            notes=[
                WHERE,
                f"Starting and deploying took {ready:.0f} s.",
                f"An interruption notice lasts {NOTICE_SECONDS} s here and two minutes on AWS.",
                f"Here the tick also runs every {TICK_SECONDS:g} s; on AWS only once a minute, by its schedule.",
            ],
        )
        if arguments.pictures and failure is None:
            _draw(report, arguments.pictures)
        return _conclude(report, failure, cloud, begun)


def _draw(report: Report, folder: Path) -> None:
    """Write pictures for a document: a table of the steps, and each pool's chart."""
    steps = Table("", "step", "what was seen", "time", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for step in report.steps:
        time = "" if step.seconds is None else f"{step.seconds:.1f} s"
        steps.add_row(Text("✓", style="green"), step.name, step.seen, Text(time, style="dim", justify="right"))
    page = recording(PICTURE_COLUMNS)
    page.print(steps)
    (folder / "demo.svg").write_text(svg(page, "make demo"))
    for pool in report.pools:
        (folder / f"demo-{pool.name}.svg").write_text(picture(report, pool))


def _replay(arguments: argparse.Namespace, progress: Progress) -> int:
    begun = monotonic()
    recording = choose_recording(
        arguments.trace,
        speed=arguments.speed,
        cap=arguments.cap,
        zones=arguments.zones,
        start_hours=arguments.start,
        hours=arguments.hours,
    )
    progress.say(
        f"{recording.hours:.1f} recorded hours from {recording.trace.start:%Y-%m-%d %H:%M} UTC, "
        f"{recording.speed:g} times faster: {recording.hours * 60 / recording.speed:.1f} minutes."
    )
    with LocalCloud(family="demo", pace=recording.speed, progress=progress) as cloud, Watcher(cloud) as watcher:
        screen = Screen(progress.console, watcher, recording.types)
        replay = ReplayDemo(recording, cloud, watcher, screen)
        failure = _play(screen, replay.play)
        passed = all(step.passed for step in replay.steps)
        if failure is None and not passed:
            failure = NotSeenError("; ".join(f"{one.name}: {one.seen}" for one in replay.steps if not one.passed))
        report = Report(
            title="Spot Pools: a recorded market",
            summary=f"{recording.path.name}, {recording.trace.start:%Y-%m-%d %H:%M} to "
            f"{recording.trace.end:%Y-%m-%d %H:%M} UTC, played {recording.speed:g} times faster.",
            start=replay.began_at,
            end=replay.ended_at,
            steps=replay.steps,
            pools=[replay.chapter()],
            alarms=[alarm for alarm in watcher.alarms if alarm.at >= replay.began_at],
            messages=[one for one in watcher.messages if one.at >= replay.began_at],
            notes=[
                WHERE,
                RECORDED,
                SPED_UP,
            ],
            clock=replay.clock,
            speed=recording.speed,
        )
        return _conclude(report, failure, cloud, begun)


def _play(screen: Screen, play: Callable[[], None]) -> NotSeenError | None:
    with screen.open():
        try:
            play()
        except NotSeenError as error:
            return error
    return None


def _conclude(report: Report, failure: NotSeenError | None, cloud: LocalCloud, begun: float) -> int:
    REPORT.write_text(render(report))
    cloud.progress.say(f"Report: {os.path.relpath(REPORT)}")
    if failure is None:
        cloud.progress.say(f"All steps passed, in {monotonic() - begun:.0f} s.")
        return 0
    sys.stderr.write(f"demo: {failure}\nLogs of every part: {os.path.relpath(cloud.logs)}\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m localcloud.demo", description=__doc__)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="also write SVG pictures into this folder")
    replay = parser.add_argument_group("a recorded market instead of the walkthrough")
    replay.add_argument("--trace", type=Path, help="CSV with time, type, zone, available, price; may be gzipped")
    replay.add_argument("--speed", type=float, default=60, help="recorded seconds per second (default: 60)")
    replay.add_argument("--start", type=float, help="hours into the recording (default: where most changes)")
    replay.add_argument("--hours", type=float, help="recorded hours to play (default: as many as play in 4 minutes)")
    replay.add_argument("--zones", default="us-east-1", help="prefix of the zones' names (default: us-east-1)")
    replay.add_argument("--cap", type=Decimal, default=Decimal("1.20"), help="spot_max_price (default: 1.20)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
