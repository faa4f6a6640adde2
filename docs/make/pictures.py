"""``python -m docs.make.pictures`` (``make pictures``): draws the command's output for pools in many states, for docs.

The real command runs in this process on a separate stack: tables in ministack, EC2 by the market. The clock is moved by
hand, so that a picture changes only if the command does. A test compares them.
"""

from __future__ import annotations

import io
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli import live_listing, output
from cli import main as command
from cli.deployment import Deployment
from lambdas.domain.model.status import Notice, NoticeKind
from lambdas.reconcile import reconcile
from lambdas.telemetry import logger
from localcloud.demo.pages import recording, svg
from localcloud.market.model.clock import ManualClock
from localcloud.market.model.settings import Settings
from tests.cli.site import Site, new_site, served_market
from tests.support.empty_aws import empty_aws

FOLDER = Path(__file__).parents[1] / "pictures"
BEGINNING = datetime(2026, 11, 23, 9, 2, 11, tzinfo=UTC)
MACHINES = Settings(pending_seconds=20, status_check_seconds=90)
COLUMNS, LINES = 110, 11

PICTURES = {
    "list": ("list",),
    "explain": ("explain", "gpu-training"),
    "watch": ("watch", "--times", "1"),
}
POOLS: dict[str, dict[str, Any]] = {
    "ci-runners": {"instance_types": ["c7i.xlarge", "m7i.xlarge"], "target_size": 20, "max_instances": 30},
    "etl": {"instance_types": ["m6i.xlarge"], "target_size": 3},
    "gpu-training": {"instance_types": ["g5.12xlarge", "g4dn.12xlarge"], "target_size": 6, "max_instances": 8},
    "inference": {"instance_types": ["g6.xlarge"], "target_size": 3, "image_id": "ami-0a1b2c3d", "update": "rolling"},
    "llm": {"instance_types": ["p4d.24xlarge"], "target_size": 2, "spot_max_price": "8.05"},
    "notebooks": {"instance_types": ["g4dn.xlarge"], "target_size": 2, "spot_max_price": "0.25"},
    "rendering": {"instance_types": ["c7g.4xlarge"], "target_size": 8, "max_instances": 12},
}


class Preparation:
    """Brings the pools into the states that the pictures show."""

    def __init__(self, site: Site, clock: ManualClock) -> None:
        self.site, self.clock, self.market = site, clock, site.market

    def play(self) -> None:
        """Bring every pool to its size, then change most of them."""
        for pool in POOLS:
            self.edit(pool)
        self.minutes(4)
        self.edit("notebooks", paused=True)
        self.minutes(7)
        self.edit("etl", max_instnaces=6)
        self.market.set_offering("p4d.24xlarge", "us-east-1a", spot_price=Decimal("8.25"))
        self.market.set_offering("p4d.24xlarge", "us-east-1b", spot_price=Decimal("8.10"))
        self.market.set_offering("p4d.24xlarge", "us-east-1c", spot_price=Decimal("8.40"))
        self.market.set_offering("p4d.24xlarge", "us-east-1d", spot_price=Decimal("9.11"))
        self.minutes(3)
        for instance_type in POOLS["gpu-training"]["instance_types"]:
            for zone in "abcd":
                self.market.set_offering(instance_type, f"us-east-1{zone}", capacity=0)
        self.take("gpu-training", 2)
        self.minutes(14)
        self.edit("inference", image_id="ami-4e5f6a7b")
        self.minutes(1)
        self.take("rendering", 1)
        self.forward(25)
        reconcile("rendering", self.site.plane)

    def edit(self, pool: str, **changes: Any) -> None:
        """Write the pool's item with these changes."""
        self.site.put(pool, **{**POOLS[pool], **changes})

    def forward(self, seconds: float) -> None:
        """Let time pass on the market."""
        self.clock.forward(seconds)
        self.market.catch_up()

    def minutes(self, number: int) -> None:
        """Let minutes pass, with a reconcile of every pool at the end of each."""
        for _ in range(number):
            self.forward(60)
            for pool in POOLS:
                reconcile(pool, self.site.plane)

    def take(self, pool: str, number: int) -> None:
        """Interrupt instances, and tell the control plane."""
        of_pool = [one for one in self.market.instances.values() if one.tags.get("spotpools:pool") == pool]
        for instance in of_pool[:number]:
            self.market.notice(instance, self.clock(), cause="capacity")
            offering = f"{instance.instance_type}/{instance.zone}"
            notice = Notice(at=self.clock(), offering=offering, kind=NoticeKind.INTERRUPTION)
            self.site.plane.statuses.note(pool, instance.id, notice)
        reconcile(pool, self.site.plane)


def drawn(site: Site, clock: ManualClock) -> Iterator[tuple[str, str]]:
    """The name and the SVG of each picture."""
    looks = live_listing.frames
    with pytest.MonkeyPatch.context() as patch:
        site.enter(patch)
        patch.setenv("SPOTPOOLS_MARKET_URL", site.ec2_url)  # addresses in the console have names that differ each time
        patch.setattr(Deployment, "now", lambda _: clock())
        for name, words in PICTURES.items():
            page = recording(COLUMNS, LINES)
            patch.setattr(output, "out", page)
            patch.setattr(command, "out", page)
            patch.setattr(live_listing, "frames", lambda *given, page=page, **told: _alone(looks(*given, **told), page))
            command.app(words, standalone_mode=False)
            title = f"spotpools {' '.join(words).partition(' --')[0]}"
            yield name, svg(page, title)


def _alone(found: Iterator[live_listing.Frame], page: Console) -> Iterator[live_listing.Frame]:
    """Frames, each drawn on an empty page."""
    for frame in found:
        page.export_text()
        yield frame


def pictures(aws_url: str) -> dict[str, str]:
    """The pictures by name, drawn from a stack in the AWS at this address."""
    clock = ManualClock(BEGINNING)
    with served_market(clock, MACHINES) as (ec2_url, market):
        site = new_site(aws_url, ec2_url, market, MACHINES)
        ids = count(1)
        site.plane = replace(site.plane, new_id=lambda: f"attempt-{next(ids)}")
        with redirect_stdout(io.StringIO()):  # the metrics
            Preparation(site, clock).play()
        return dict(drawn(site, clock))


def main() -> None:
    """Draw all pictures into docs."""
    FOLDER.mkdir(exist_ok=True)
    logging.getLogger(logger.name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, empty_aws(Path(folder)) as aws_url:
        for name, picture in pictures(aws_url).items():
            path = FOLDER / f"{name}.svg"
            path.write_text(picture, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(Path.cwd())}\n")


if __name__ == "__main__":
    main()
