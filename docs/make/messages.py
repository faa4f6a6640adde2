"""``python -m docs.make.messages``: writes docs/alarm-messages.md: what people receive for each fault, and at its end.

Each message comes from the real decision and the real text, over an emulated EC2 on a clock of its own.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lambdas.domain.alarm.message import Change, Links, Message, message
from lambdas.domain.guide import GUIDE, Trouble
from lambdas.domain.model.status import Status
from lambdas.telemetry import logger
from tests.support.fakes import World

PAGE = Path(__file__).parents[2] / "docs" / "alarm-messages.md"
LINKS = Links(
    runbook="https://example.com/runbook",
    dashboard="https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#dashboards/dashboard/spotpools-fleet",
)
HEAD = """# What the alarms say to people

One message for each fault, and one when it is over, as the topic for people (output `MessagesTopic`) sends them: first
the subject, then the text. Which alarms there are, and what to do about each: [runbook.md](runbook.md). Who
receives the messages: [deploying.md](deploying.md#who-receives-the-alarms). Made by `python -m docs.make.messages`.
"""

SILENT = """
## The tick has stopped

CloudWatch itself sends this one, to both topics: what explains alarms may have stopped too. It names no pool and has no
attribute `severity`. Its text has the alarm's description. When ticks finish again, a message says that it is over.

```text
{text} Runbook: {runbook}
```
"""


def refused(code: str, text: str) -> Callable[[World], None]:
    """Let EC2 refuse every launch with this error."""
    return lambda world: world.fault(action="CreateFleet", error=code, message=text, times=1000)


def no_capacity(world: World) -> None:
    """Let EC2 have no capacity."""
    world.set_all(capacity=0)


def nothing(_: World) -> None:
    """Leave EC2 as it is: the item is the fault."""


@dataclass(frozen=True)
class Story:
    """A fault: what goes wrong, in EC2 or in the item, and the alarm that it raises."""

    title: str
    trouble: Trouble
    begin: Callable[[World], None] = nothing
    item: dict[str, Any] = field(default_factory=dict)


DENIED = (
    "You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/spotpools is not"
)
STORIES = (
    Story("No capacity", Trouble.BELOW_TARGET, no_capacity),
    Story("A price above the cap", Trouble.PRICE_ABOVE_MAX, item={"spot_max_price": "0.1"}),
    Story(
        "A quota is used up",
        Trouble.QUOTA,
        refused("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded"),
    ),
    Story(
        "Denied by IAM",
        Trouble.CONFIG,
        refused("UnauthorizedOperation", f"{DENIED} authorized to perform: ec2:CreateFleet"),
    ),
    Story(
        "No service-linked role",
        Trouble.CONFIG,
        refused(
            "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
            "The provided credentials do not have permission to create the service-linked role for EC2 Spot Instances.",
        ),
    ),
    Story("EC2 throttles", Trouble.THROTTLED, refused("RequestLimitExceeded", "Request limit exceeded.")),
    Story("An invalid item", Trouble.ITEM_INVALID, item={"max_instnaces": 9}),
)


def messages_of(story: Story) -> tuple[Message, Message]:
    """The messages at the beginning and at the end of a story."""
    world = World(status_check_seconds=5)
    well: dict[str, Any] = {"target_size": 4, "max_instances": 8, "instance_types": ["g5.xlarge"]}
    story.begin(world)
    world.edit("training", **well, **story.item)
    world.minutes(12)
    begun = said(world, story.trouble)
    world.market.faults.clear()
    world.set_all(capacity=20)
    world.edit("training", **well)
    while not said_over(world, story.trouble):
        world.minutes(1)
    return begun, said(world, story.trouble, over=True)


def said_over(world: World, trouble: Trouble) -> bool:
    """Whether the pool's trouble has ended."""
    return bool(Change(trouble, over=True, at=world.clock()).ended(world.status("training")))


def said(world: World, trouble: Trouble, *, over: bool = False) -> Message:
    """What the alarm says now."""
    statuses: dict[str, Status | None] = {"training": world.status("training")}
    change = Change(trouble, over, world.clock(), ("training",))
    return message(change, statuses, stack="spotpools", links=LINKS, now=world.clock())


def page() -> str:
    """The whole page as Markdown."""
    stories = "".join("\n".join(_section(story)) for story in STORIES)
    runbook = f"{LINKS.runbook}#{Trouble.HEARTBEAT.value}"
    return HEAD + stories + SILENT.format(text=GUIDE[Trouble.HEARTBEAT].text, runbook=runbook)


def _section(story: Story) -> Iterator[str]:
    yield f"\n## {story.title}\n"
    for each in messages_of(story):
        yield f"```text\n{each.subject}\n\n{each.body.strip()}\n```\n"


if __name__ == "__main__":
    logging.getLogger(logger.name).setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()):  # metrics
        written = page()
    PAGE.write_text(written, encoding="utf-8")
