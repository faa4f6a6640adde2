"""``make demo``: plays the story, or a recorded market (``--trace``), on a cloud of its own, and leaves a report."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from localcloud.__main__ import explain
from localcloud.cloud import ROOT, LocalCloud
from localcloud.live import Stage
from localcloud.processes import LocalCloudError
from localcloud.progress import Progress
from localcloud.report import Report, render
from localcloud.story import METAL_TYPES, NOTICE_SECONDS, ZONES_TYPES, Story
from localcloud.watch import NotSeenError, Watcher

REPORT = ROOT / "demo-report.html"
TICK_SECONDS = 2.0
WHERE = (
    "The stack is the one that goes to AWS, deployed by the CDK into ministack with IAM enforced; EC2 is the market of "
    "localcloud/market. Nothing here has touched an AWS account."
)


def main() -> int:
    """Play; answers exit status 0 only if everything was seen to happen."""
    _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    progress = Progress()
    try:
        return _tell_story(progress)
    except KeyboardInterrupt:
        progress.say("Stopped.")
        return 1
    except LocalCloudError as error:
        return explain(error)


def _tell_story(progress: Progress) -> int:
    begun = monotonic()
    with LocalCloud(family="demo", tick_seconds=TICK_SECONDS, progress=progress) as cloud:
        ready = monotonic() - begun
        progress.say(
            f"Ready after {ready:.0f} s. Besides the schedule's tick every minute, one every {TICK_SECONDS:g} s."
        )
        with Watcher(cloud) as watcher:
            stage = Stage(progress.console, watcher, [*METAL_TYPES, *ZONES_TYPES])
            story = Story(cloud, watcher, stage)
            failure = None
            with stage.open():
                try:
                    story.play()
                except NotSeenError as error:
                    failure = error
            report = Report(
                title="Spot Pools: the demo",
                summary=f"Two pools on the local cloud, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
                start=watcher.started,
                end=datetime.now(UTC),
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
            REPORT.write_text(render(report))
        return _conclude(progress, cloud, failure, begun)


def _conclude(progress: Progress, cloud: LocalCloud, failure: NotSeenError | None, begun: float) -> int:
    progress.say(f"Report: {_short(REPORT)}")
    if failure is None:
        progress.say(f"Everything was seen to happen, {monotonic() - begun:.0f} s in all.")
        return 0
    sys.stderr.write(f"demo: {failure}\nLogs of every part: {_short(cloud.logs)}\n")
    return 1


def _short(path: Path) -> str:
    return os.path.relpath(path)


def _parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog="python -m localcloud.demo", description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
