"""``make demo``: plays the story, or a recorded market (``--trace``), on a cloud of its own, and leaves a report."""

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
from localcloud.demo.live import Stage
from localcloud.demo.pages import recording, svg
from localcloud.demo.replay import Replay, choose_recording
from localcloud.demo.report import Report, chart, render
from localcloud.demo.story import METAL_TYPES, NOTICE_SECONDS, TICK_SECONDS, ZONES_TYPES, Story
from localcloud.demo.watch import NotSeenError, Watcher
from localcloud.processes import LocalCloudError
from localcloud.progress import Progress

REPORT = ROOT / "demo-report.html"
PICTURE_COLUMNS = 120
WHERE = (
    "The stack is the one that goes to AWS, deployed by the CDK into ministack with IAM enforced; EC2 is the market of "
    "localcloud/market. Nothing here has touched an AWS account."
)
RECORDED = (
    "Interruptions, droughts and prices are the recorded ones; an offering that was available is taken to hold many "
    "instances, which the recording cannot tell."
)
SPED_UP = (
    "Waiting times and the tick follow the speed; how long functions take does not, so reactions are slower here, in "
    "recorded time, than on AWS."
)


def main() -> int:
    """Play; answers exit status 0 only if everything was seen to happen."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    progress = Progress()
    try:
        return _replay(arguments, progress) if arguments.trace else _story(arguments, progress)
    except KeyboardInterrupt:
        progress.say("Stopped.")
        return 1
    except LocalCloudError as error:
        return explain(error)


def _story(arguments: argparse.Namespace, progress: Progress) -> int:
    begun = monotonic()
    with LocalCloud(family="demo", progress=progress) as cloud, Watcher(cloud) as watcher:
        ready = monotonic() - begun
        progress.say(f"Ready after {ready:.0f} s.")
        stage = Stage(progress.console, watcher, [*METAL_TYPES, *ZONES_TYPES])
        story = Story(cloud, watcher, stage)
        failure = _play(stage, story.play)
        report = Report(
            title="Spot Pools: the demo",
            summary=f"Two pools on the local cloud, {watcher.started:%Y-%m-%d %H:%M} UTC.",
            start=watcher.started,
            end=datetime.now(UTC) + timedelta(seconds=2),  # room to see the end
            checks=story.checks,
            pools=story.chapters(),
            alarms=watcher.alarms,
            notes=[
                WHERE,
                f"Starting and deploying took {ready:.0f} s.",
                f"Interruption notices last {NOTICE_SECONDS} s here, two minutes on AWS.",
                f"The tick runs every {TICK_SECONDS:g} s here, besides the schedule's once a minute.",
            ],
        )
        if arguments.pictures and failure is None:
            _draw(report, arguments.pictures)
        return _conclude(report, failure, cloud, begun)


def _draw(report: Report, folder: Path) -> None:
    """Leave what was seen as pictures for a page: the steps in a table, and each pool's chart."""
    steps = Table("", "step", "what was seen", "time", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for check in report.checks:
        time = "" if check.seconds is None else f"{check.seconds:.1f} s"
        steps.add_row(Text("✓", style="green"), check.name, check.seen, Text(time, style="dim", justify="right"))
    page = recording(PICTURE_COLUMNS)
    page.print(steps)
    (folder / "demo.svg").write_text(svg(page, "make demo"))
    for pool in report.pools:
        (folder / f"demo-{pool.name}.svg").write_text(chart(report, pool))


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
        stage = Stage(progress.console, watcher, recording.types)
        replay = Replay(recording, cloud, watcher, stage)
        failure = _play(stage, replay.play)
        passed = all(check.passed for check in replay.checks)
        if failure is None and not passed:
            failure = NotSeenError("; ".join(f"{one.name}: {one.seen}" for one in replay.checks if not one.passed))
        report = Report(
            title="Spot Pools: a recorded market",
            summary=f"{recording.path.name}, {recording.trace.start:%Y-%m-%d %H:%M} to "
            f"{recording.trace.end:%Y-%m-%d %H:%M} UTC, played {recording.speed:g} times faster.",
            start=replay.began_at,
            end=replay.ended_at,
            checks=replay.checks,
            pools=[replay.chapter()],
            alarms=[alarm for alarm in watcher.alarms if alarm.at >= replay.began_at],
            notes=[
                WHERE,
                RECORDED,
                SPED_UP,
            ],
            clock=replay.clock,
            speed=recording.speed,
        )
        return _conclude(report, failure, cloud, begun)


def _play(stage: Stage, play: Callable[[], None]) -> NotSeenError | None:
    with stage.open():
        try:
            play()
        except NotSeenError as error:
            return error
    return None


def _conclude(report: Report, failure: NotSeenError | None, cloud: LocalCloud, begun: float) -> int:
    REPORT.write_text(render(report))
    cloud.progress.say(f"Report: {os.path.relpath(REPORT)}")
    if failure is None:
        cloud.progress.say(f"Everything was seen to happen, {monotonic() - begun:.0f} s in all.")
        return 0
    sys.stderr.write(f"demo: {failure}\nLogs of every part: {os.path.relpath(cloud.logs)}\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m localcloud.demo", description=__doc__)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="also leave the story there as SVG files")
    replay = parser.add_argument_group("a recorded market instead of the story")
    replay.add_argument("--trace", type=Path, help="CSV of time, type, zone, available, price; may be gzipped")
    replay.add_argument("--speed", type=float, default=60, help="recorded seconds per second (default: 60)")
    replay.add_argument("--start", type=float, help="hours into the recording (default: where most happens)")
    replay.add_argument("--hours", type=float, help="recorded hours to play (default: what takes 4 minutes)")
    replay.add_argument("--zones", default="us-east-1", help="zones whose names begin so (default: us-east-1)")
    replay.add_argument("--cap", type=Decimal, default=Decimal("1.20"), help="spot_max_price (default: 1.20)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
