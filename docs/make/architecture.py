"""``python -m docs.make.architecture``: draws docs/architecture.svg.

This module has the positions. The resources come from the synthesized template. A function, table, queue, rule,
schedule or trigger without a position is an error, and so is a position without a resource.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from infra.synthesis import ROOT, template

PICTURE = ROOT / "docs" / "architecture.svg"
WIDTH, TOP, HEIGHT = 1335, 26, 861 - 26
BOX_WIDTH, BOX_HEIGHT, WIDE, TALL, LINE = 165, 72, 380, 362, 15
LEFT, SECOND, THIRD, FOURTH, FIFTH, RIGHT = 30, 245, 460, 675, 890, 1140

DRAWN = re.compile(
    r"AWS::(DynamoDB::GlobalTable|Events::Rule|Lambda::Function|SNS::Topic|SQS::Queue|Scheduler::Schedule)"
)
LOGICAL_ID = re.compile(r"(Alerts|Data|Functions|Queues|Triggers)(?P<name>\w+?)[0-9A-F]{8}")

FILL = {
    "function": ("#fff3e0", "#d9822b"),
    "table": ("#e8f0fe", "#4a7fd1"),
    "queue": ("#f2eafd", "#8e62cf"),
    "event": ("#fdeaf1", "#cf5a8a"),
    "watch": ("#e9f6ee", "#3f9d63"),
    "outside": ("#ffffff", "#8a94a0"),
}
STEPS = ("load", "observe", "decide", "act", "record")


@dataclass(frozen=True)
class Box:
    """A rectangle: the service in small letters, the resource's name, and lines of text."""

    x: int
    y: int
    kind: str
    service: str
    name: str
    lines: tuple[str, ...] = ()
    width: int = BOX_WIDTH
    height: int = BOX_HEIGHT


TRIGGERS = {
    ("Tick", "OnTick"),
    ("Pools", "OnPoolEdit"),
    ("Due", "OnPoolDue"),
    ("Edited", "OnPoolDue"),
    ("Notices", "OnSpotNotice"),
    ("AlarmChanges", "Alarms"),
    ("Alarms", "OnAlarm"),
    ("InterruptionWarnings", "Notices"),
    ("RebalanceRecommendations", "Notices"),
    ("StateChanges", "Notices"),
    ("Maintenance", "Notices"),
}
"""What starts what, in the picture."""


def parts(made: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The resources to draw, by their construct's name."""
    found = {}
    for logical_id, resource in made["Resources"].items():
        if DRAWN.fullmatch(resource["Type"]):
            found[_name(logical_id)] = resource.get("Properties", {})
    return found


def triggers(made: Mapping[str, Any]) -> set[tuple[str, str]]:
    """What starts what, in the template."""
    found = set()
    for logical_id, resource in made["Resources"].items():
        properties = resource.get("Properties", {})
        match resource["Type"]:
            case "AWS::Lambda::EventSourceMapping":
                found.add((_target(properties["EventSourceArn"]), _target(properties["FunctionName"])))
            case "AWS::Events::Rule":
                found |= {(_name(logical_id), _target(one["Arn"])) for one in properties["Targets"]}
            case "AWS::Scheduler::Schedule":
                found.add((_name(logical_id), _target(properties["Target"]["Arn"])))
    return found


def _name(logical_id: str) -> str:
    known = LOGICAL_ID.fullmatch(logical_id)
    return known["name"] if known else logical_id


def _target(reference: Mapping[str, Any]) -> str:
    return _name(reference["Ref"] if "Ref" in reference else reference["Fn::GetAtt"][0])


def boxes(made: Mapping[str, Any]) -> dict[str, Box]:
    """All boxes. Raises ValueError if picture and template differ."""
    there = parts(made)
    rules = [name for name, one in there.items() if "EventPattern" in one and name != "AlarmChanges"]
    dead = [name for name in there if name.endswith("Dead")]
    alarms = sum(one["Type"] == "AWS::CloudWatch::Alarm" for one in made["Resources"].values())
    every = there["Tick"]["ScheduleExpression"].removeprefix("rate(").removesuffix(")")

    def function(name: str, x: int, y: int, *lines: str) -> Box:
        return Box(x, y, "function", "Lambda", there[name]["Handler"].split(".")[-2], lines)

    status = ("what runs, and why", "the rest waits; lease")
    single = {
        "Tick": Box(LEFT, 56, "event", "EventBridge Scheduler", f"every {every.removeprefix('1 ')}"),
        "OnTick": function("OnTick", SECOND, 56, "finds due pools", "gauges, heartbeat"),
        "PoolStatus": Box(FIFTH, 56, "table", "DynamoDB", "PoolStatus", status),
        "Pools": Box(SECOND, 190, "table", "DynamoDB", "Pools", ("what is wanted,", "one item a pool")),
        "OnPoolEdit": function("OnPoolEdit", SECOND, 316, "forwards pool names"),
        "Due": Box(THIRD, 190, "queue", "SQS", "due pools"),
        "Edited": Box(THIRD, 316, "queue", "SQS", "edited pools", ("before the others",)),
        "OnPoolDue": function("OnPoolDue", FOURTH, 190, "one pool at a time"),
        "Notices": Box(THIRD, 455, "queue", "SQS", "notices"),
        "OnSpotNotice": function("OnSpotNotice", FOURTH, 455, "saves, then reconciles"),
        "Topic": Box(FIFTH, 622, "watch", "SNS", "alarm topic", ("for machines",)),
        "AlarmChanges": Box(LEFT, 748, "event", "EventBridge", "changes of alarms", width=WIDE),
        "Alarms": Box(THIRD, 748, "queue", "SQS", "alarm events"),
        "OnAlarm": function("OnAlarm", FOURTH, 748, "explains, from PoolStatus"),
        "Messages": Box(FIFTH, 748, "watch", "SNS", "messages topic", ("for people",)),
    }
    missing = {*single, *rules, *dead} ^ there.keys() | TRIGGERS ^ triggers(made)
    if missing:
        raise ValueError(
            f"picture and template differ in {sorted(map(str, missing))}: change docs/make/architecture.py"
        )
    events = tuple(there[name]["EventPattern"]["detail-type"][0] for name in rules)
    senders = ", ".join(re.sub(r"(?<!^)([A-Z])", r" \1", name.removesuffix("Dead")).lower() for name in dead)
    by_rule, buried = f"{len(rules)} rules of EventBridge", f"{len(dead)} dead-letter queues"
    watched = ("logs and metrics of all functions,", "ages and depths of all queues")
    return single | {
        "You": Box(LEFT, 190, "outside", "console, CLI, spotpools", "you", ("edit Pools,", "read PoolStatus")),
        "Rules": Box(LEFT, 430, "event", by_rule, "events of EC2 and Health", events, WIDE, 122),
        "reconcile": Box(FIFTH, 190, "function", "in both functions", "reconcile(pool)", height=TALL),
        "EC2": Box(RIGHT, 190, "outside", "your account", "EC2", height=TALL),
        "Dead": Box(LEFT, 622, "queue", "SQS", buried, (senders, "messages that failed every try"), WIDE),
        "CloudWatch": Box(THIRD, 622, "watch", "CloudWatch", f"{alarms} alarms, a dashboard", watched, WIDE),
        "Machines": Box(RIGHT, 622, "outside", "pager, chat", "machines"),
        "Called": Box(RIGHT, 748, "outside", "e-mail", "on call"),
    }


ARROWS = (
    (((195, 92), (245, 92)), "", None),
    (((410, 92), (542, 92), (542, 190)), "pools that are due", (476, 84)),
    (((195, 226), (245, 226)), "edit", (220, 218)),
    (((327, 262), (327, 316)), "stream", (358, 294)),
    (((410, 352), (460, 352)), "", None),
    (((625, 352), (757, 352), (757, 262)), "", None),
    (((625, 226), (675, 226)), "", None),
    (((840, 226), (890, 226)), "", None),
    (((410, 491), (460, 491)), "", None),
    (((625, 491), (675, 491)), "", None),
    (((840, 491), (890, 491)), "", None),
    (((972, 190), (972, 128)), "", None),
    (((1055, 268), (1140, 268)), "launch", (1097, 260)),
    (((1055, 330), (1140, 330)), "terminate", (1097, 322)),
    (((1140, 392), (1055, 392)), "list, prices", (1097, 384)),
    (((1222, 552), (1222, 586), (220, 586), (220, 552)), "notices, recommendations, state changes", (676, 578)),
    (((410, 658), (460, 658)), "", None),
    (((840, 658), (890, 658)), "", None),
    (((1055, 658), (1140, 658)), "", None),
    (((410, 784), (460, 784)), "", None),
    (((625, 784), (675, 784)), "", None),
    (((840, 784), (890, 784)), "", None),
    (((1055, 784), (1140, 784)), "", None),
)  # fmt: skip
"""Each arrow: its corners, its label, and the label's position."""


def picture(made: Mapping[str, Any]) -> str:
    """The whole picture as SVG."""
    drawn = boxes(made)
    shapes = [
        *(_arrow(corners) for corners, _, _ in ARROWS),
        *(_text(place, label, "label") for _, label, place in ARROWS if place),
        *(shape for box in drawn.values() for shape in _box(box)),
        *_steps(drawn["reconcile"]),
        *_instances(drawn["EC2"]),
        _text(
            (LEFT, TOP + HEIGHT - 12),
            "Dashed frames are not part of the stack. Drawn by python -m docs.make.architecture.",
            "note",
        ),
    ]
    return HEAD + "\n".join(shapes) + "\n</svg>\n"


def _box(box: Box) -> Iterator[str]:
    fill, stroke = FILL[box.kind]
    dashes = ' stroke-dasharray="6 4"' if box.kind == "outside" else ""
    yield (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="8" '
        f'fill="{fill}" stroke="{stroke}"{dashes}/>'
    )
    middle, height = box.x + box.width // 2, 26 + LINE * len(box.lines)
    top = box.y + (16 if box.height == TALL else (box.height - height) // 2 + 6)
    yield _text((middle, top), box.service, "service")
    yield _text((middle, top + 19), box.name, "name")
    for number, line in enumerate(box.lines):
        yield _text((middle, top + 35 + LINE * number), line, "line")


def _steps(box: Box) -> Iterator[str]:
    """The steps of a reconcile, one below the other."""
    for number, step in enumerate(STEPS):
        top = box.y + 56 + 44 * number
        yield (
            f'<rect x="{box.x + 30}" y="{top}" width="{box.width - 60}" height="30" rx="15" '
            'fill="#ffffff" stroke="#d9822b"/>'
        )
        yield _text((box.x + box.width // 2, top + 20), step, "step")
        if number:
            yield _arrow(((box.x + box.width // 2, top - 14), (box.x + box.width // 2, top)))
    for number, line in enumerate(("under the pool's lease:", "one at a time,", "for all triggers")):
        yield _text((box.x + box.width // 2, box.y + 296 + LINE * number), line, "line")


def _instances(box: Box) -> Iterator[str]:
    """A few instances, and the rules for them."""
    for number in range(6):
        x, y = box.x + 25 + 42 * (number % 3), box.y + 66 + 42 * (number // 3)
        yield f'<rect x="{x}" y="{y}" width="31" height="31" rx="5" fill="#e9f6ee" stroke="#3f9d63"/>'
    lines = ("instances tagged", "with stack and pool", "", "one CreateFleet", "for a launch;", "IAM: termination only",
             "with the stack's tag")  # fmt: skip
    for number, line in enumerate(lines):
        yield _text((box.x + box.width // 2, box.y + 178 + LINE * number), line, "line")


def _arrow(corners: Iterable[tuple[int, int]]) -> str:
    points = " ".join(f"{x},{y}" for x, y in corners)
    return f'<polyline points="{points}" class="arrow"/>'


def _text(place: tuple[int, int], text: str, kind: str) -> str:
    return f'<text x="{place[0]}" y="{place[1]}" class="{kind}">{escape(text)}</text>' if text else ""


HEAD = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {TOP} {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">
<title>What starts what in Spot Pools</title>
<style>
text {{ font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; text-anchor: middle }}
text {{ font-size: 12px; fill: #1f2933 }}
.service, .note {{ font-size: 11px }}
.service, .note, .label {{ fill: #5b6773 }}
.note {{ text-anchor: start }}
.name {{ font-size: 15px; font-weight: 600 }}
.step {{ font-size: 13px }}
.arrow {{ fill: none; stroke: #5b6773; stroke-width: 1.5; stroke-linejoin: round; marker-end: url(#tip) }}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0,0 L8,4 L0,8 z" fill="#5b6773"/></marker></defs>
<rect y="{TOP}" width="{WIDTH}" height="{HEIGHT}" rx="12" fill="#ffffff" stroke="#d5dbe1"/>
"""


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(picture(template()), encoding="utf-8")


if __name__ == "__main__":
    main()
