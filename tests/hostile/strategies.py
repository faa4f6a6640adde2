"""Hostile inputs: valid inputs with harmful parts, and random junk."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

NASTY_TEXTS = (
    "", " ", "\t", "\x00", "\x1b[31m", "\u202egnp", "a\u200bb", "\ufeff", "🦄", "\uff41", "é", "٣", "*", "?", "tr?in",
    "%s%n", "${jndi:x}", "{}", "null", "NaN", "Infinity", "-0", "1e999999999", "1_000", "0x10", "true", "../../etc",
    "'; --", "x" * 300, "é" * 1024, "9" * 5000, "[" * 1000, "2026-02-30", "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00+14:00", "2026-11-23T12:00:00", "i-0123456789abcdef0", "EC2 Spot Instance Interruption Warning",
)  # fmt: skip


def evenly(*ways: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One of the strategies, each with the same probability."""
    return st.sampled_from(range(len(ways))).flatmap(lambda number: ways[number])


TEXTS = st.sampled_from(NASTY_TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
"""Text that UTF-8 can encode."""

LONE_HALVES = st.sampled_from(["\ud800", "a\udfffb"])

NASTY_NUMBERS = (
    "0", "-0", "-1", "1", "6.5", "1000", "1001", "99999999999999999999999999999999999999", "1E+38", "1E+100",
    "9.9E+125", "-9.9E+125", "1E-130", "0.00100000000000000000000000000000000001", "253402300799", "1E+12", "0.918",
)  # fmt: skip
NUMBERS = st.sampled_from(NASTY_NUMBERS) | st.integers(-(10**38) + 1, 10**38 - 1).map(str)

SCALARS = st.one_of(
    TEXTS.map(lambda text: {"S": text}),
    NUMBERS.map(lambda number: {"N": number}),
    st.binary(max_size=20).map(lambda data: {"B": data}),
    st.booleans().map(lambda value: {"BOOL": value}),
    st.just({"NULL": True}),
    st.lists(TEXTS, min_size=1, max_size=4, unique=True).map(lambda texts: {"SS": texts}),
    st.lists(st.integers(-99, 99).map(str), min_size=1, max_size=4, unique=True).map(lambda numbers: {"NS": numbers}),
    st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=4, unique=True).map(lambda data: {"BS": data}),
)


def _nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"S": "deep"}
    for level in range(levels):
        value = {"M": {"a": value}} if level % 2 else {"L": [value]}
    return value


ATTRIBUTES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda values: {"L": values})
        | st.dictionaries(TEXTS, inner, max_size=4).map(lambda values: {"M": values})
    ),
    max_leaves=8,
) | st.sampled_from([_nested(31), {"S": "x" * 10_000}])
"""Values in DynamoDB's notation, all accepted by DynamoDB."""

NAMES = st.sampled_from(["p", "gpu-1", "x" * 63])
KEYS = evenly(NAMES, TEXTS.filter(lambda text: 0 < len(text.encode()) <= 2048) | st.just("k" * 2048))

SOUND: dict[str, Any] = {"instance_types": {"L": [{"S": "g5.xlarge"}]}, "target_size": {"N": "1"}}
FIELDS = (
    "instance_types", "instance_type", "target_size", "min_instances", "max_instances", "subnet_ids", "launch_template",
    "spot", "spot_max_price", "paused",
)  # fmt: skip
PLAUSIBLE = st.fixed_dictionaries(
    {},
    optional={
        "target_size": st.sampled_from(
            [{"N": "2"}, {"S": "2"}, {"N": "2.000"}, {"N": "2E+0"}, {"S": " 2 "}, {"N": "6"}]
        ),
        "max_instances": st.sampled_from([{"N": "5"}, {"S": "5"}, {"N": "1000"}, {"N": "1"}]),
        "spot_max_price": st.sampled_from([{"N": "0.5"}, {"S": "0.5"}, {"NULL": True}, {"N": "0.4999999"}]),
        "paused": st.sampled_from([{"BOOL": True}, {"BOOL": False}, {"S": "true"}]),
        "instance_types": st.sampled_from([{"SS": ["g5.xlarge"]}, {"S": "g5.xlarge"}, {"BS": [b"g5.xlarge"]}]),
        "launch_template": st.just({"M": {"name": {"S": "test-default"}}}),
    },
)
"""Values that owners write: correct, or almost."""

HUGE = st.sampled_from(
    [
        {f"unknown-{number}": {"S": "x"} for number in range(10_000)},
        {"description": {"S": "x" * 390_000}},
        {"instance_types": {"L": [{"S": "g5.xlarge"}] * 20_000}},
        {"ünknown " + "🦄" * 60: {"NULL": True}, "\u202e": {"N": "1E+100"}},
        {f"{'long' * 4000}{number}": {"S": "x" * 4000} for number in range(15)},
    ]
)
POOL_ITEMS = st.tuples(
    KEYS,
    evenly(
        *[PLAUSIBLE] * 4,
        *[st.dictionaries(evenly(st.sampled_from(FIELDS), TEXTS.filter(str.strip)), ATTRIBUTES, max_size=4)] * 4,
        HUGE,
    ),
)
"""A key, and attributes that replace those of a valid item."""

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, LONE_HALVES),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
JUNK_BODIES = st.one_of(
    TEXTS,
    JSON.map(json.dumps),
    st.just("[" * 100_000),
    st.just('{"a":' * 100_000),
    st.just('{"pool_name": ' + "9" * 10_000 + "}"),
)

KINDS = (
    "EC2 Spot Instance Interruption Warning",
    "EC2 Instance Rebalance Recommendation",
    "EC2 Instance State-change Notification",
    "EC2 Fleet Instance Change",
)
OURS = "i-00000000000000000"
"""Stands for a neighbour's instance, whose id is not known in advance."""

STRANGER = "i-0fedcba9876543210"


@st.composite
def ec2_events(draw: st.DrawFn) -> str:
    """An event, mostly of a known kind, of our or another instance, with up to two faults."""
    event: dict[str, Any] = {
        "detail-type": draw(st.sampled_from(KINDS) | TEXTS),
        "source": "aws.ec2",
        "time": draw(st.sampled_from(["2026-11-23T12:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"])),
        "detail": {
            "instance-id": draw(st.sampled_from([OURS, STRANGER])),
            "instance-action": "terminate",
            "state": "running",
        },
    }
    for _ in range(draw(st.integers(0, 2))):
        where = event["detail"] if draw(st.booleans()) and isinstance(event.get("detail"), dict) else event
        name = draw(st.sampled_from([*where, "extra"]))
        if draw(st.booleans()):
            where[name] = draw(JSON)
        else:
            where.pop(name, None)
    return json.dumps(event)


DUE_BODIES = evenly(
    JUNK_BODIES,
    st.fixed_dictionaries({"pool_name": evenly(KEYS, JSON)}, optional={"why": TEXTS, "more": JSON}).map(json.dumps),
)

KEY_VALUES = evenly(KEYS.map(lambda key: {"S": key}), JSON)
STREAM_RECORDS = evenly(
    JSON,
    st.fixed_dictionaries(
        {"dynamodb": evenly(st.fixed_dictionaries({"Keys": st.fixed_dictionaries({"pool_name": KEY_VALUES})}), JSON)},
        optional={"eventName": JSON},
    ),
)

PATHS = st.lists(st.integers(0, 30), min_size=1, max_size=5)


@st.composite
def status_faults(draw: st.DrawFn) -> list[tuple[list[int], dict[str, Any] | None]]:
    """One to three places in a status item, each with its new value. None removes it."""
    return draw(st.lists(st.tuples(PATHS, st.none() | ATTRIBUTES | LIKELY), min_size=1, max_size=3))


def alarm_event(name: str, *, pool: Any = None, state: Any = "ALARM", before: Any = "OK", said: Any = "") -> str:
    """An alarm's change of state, or of the part of it that is about one pool."""
    detail: dict[str, Any] = {
        "alarmName": name,
        "state": {"value": state, "reason": said, "timestamp": "2026-11-23T12:00:00.000+0000"},
        "previousState": {"value": before},
    }
    kind = "CloudWatch Alarm State Change"
    if pool is not None:
        kind, detail["alarmContributor"] = "CloudWatch Alarm Contributor State Change", {"attributes": {"Pool": pool}}
    return json.dumps({"detail-type": kind, "source": "aws.cloudwatch", "detail": detail})


@st.composite
def alarm_events(draw: st.DrawFn) -> str:
    """An event of an alarm of ours, or nearly."""
    names = ("quota-reached", "pool-below-target", "on-tick-errors", "dead-ticks", "heartbeat-missing", "no-such-alarm")

    def mostly(*sound: st.SearchStrategy[Any]) -> Any:
        return draw(evenly(*sound * 4, JSON))

    return alarm_event(
        f"test-{draw(st.sampled_from(names))}",
        pool=mostly(st.none(), KEYS),
        state=mostly(st.sampled_from(["ALARM", "OK", "INSUFFICIENT_DATA"])),
        before=mostly(st.sampled_from(["ALARM", "OK"])),
        said=mostly(TEXTS),
    )


LIKELY = st.sampled_from(
    [
        {"N": "2"}, {"N": "-1"}, {"N": "1E+100"}, {"S": "many"}, {"M": {}}, {"L": []}, {"NULL": True}, {"S": ""},
        {"S": "2026-11-23T12:00:00"}, {"S": "9999-12-31T23:59:59Z"}, {"S": "{}"}, {"S": "[" * 5000}, {"BOOL": True},
        {"N": "99999999999"},
    ]
)  # fmt: skip
"""Values that a manual edit or another version could leave."""

YAML_VALUES = (
    "5", "-1", "1e2", "1e+2", ".inf", ".nan", "NaN", "0x" + "f" * 5000, "9" * 5000, "2026-02-30", "12:30:45", "!!int x",
    "!!bool x", "!!float +-1", "!!binary aGk=", "!!set {a, 1}", "!!python/object/apply:os.system [x]", "!!timestamp x",
    '"\\ud800"', '"\\ud83d\\ude00"', "[]", "{}", "[g5.xlarge]", "{1: 2}", "&a [*a]", "*nowhere", "~", "on",
    "'é🦄\u202e'",
    "0." + "9180" * 20, "'1_0'", "!!null x", "|\n  a\tb", "[[[[[[]]]]]]", '"\\x1b[31m"', "0.918", "true", '"\\0"',
)  # fmt: skip
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 2000))
WHOLE_FILES = (
    "", "\n", "---\n---\n", "pools:", "pools: []", "- - -", BOMB, MERGE_BOMB, CHAIN, "[" * 5000, "{a: " * 2000, "\t- a",
    "? [a]\n: b\n", "a: 1\na: 2\n", "%YAML 9.9\n---\na: 1", "- pool_name: p\n- pool_name: p\n", "x" * 1_000_001,
    "resource_pools: [{pool_name: p, provider: {type: aws, network_interface: x}}]", "resource_pools: {}",
)  # fmt: skip


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file of pools, or something similar, in some encoding."""
    names = st.sampled_from([*FIELDS, "pool_name", "<<", "=", "5", "on", "?", "unknown", "pools"])
    lines = draw(st.lists(st.tuples(names, st.sampled_from(YAML_VALUES)), max_size=4))
    ours = "pool_name: p\ninstance_types: [g5.xlarge]\n" * draw(st.sampled_from([1, 1, 1, 0]))
    own = ours + "".join(f"{name}: {value}\n" for name, value in lines)
    like_json = json.dumps({"pool_name": "p", "instance_type": "g5.xlarge", draw(TEXTS): draw(JSON)}, indent="\t")
    determined = "resource_pools:\n- pool_name: p\n  provider:\n    type: aws\n" + "".join(
        f"    {name}: {value}\n" for name, value in lines
    )
    text = draw(st.sampled_from([own, own, like_json, determined, draw(TEXTS), draw(st.sampled_from(WHOLE_FILES))]))
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    data = text.encode(encoding, "replace")
    return draw(st.sampled_from([data, data, data, data + b"\xff", data[: len(data) // 2]]))
