"""Stories in simulated time: functions end at their time limit, and calls take as long as AWS's do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tests.sim.scenario import ZONES, Happening, OfferingAtFirst, Scenario
from tests.sim.world import World

PLENTY = tuple(
    OfferingAtFirst("g5.xlarge", zone, capacity=2000, price=Decimal("0.4"), on_demand=Decimal(1)) for zone in ZONES
)


def item(pool: str, size: int, **attributes: Any) -> dict[str, Any]:
    sizes = {"target_size": Decimal(size), "max_instances": Decimal(attributes.pop("limit", size))}
    return {"pool_name": pool, "instance_types": ["g5.xlarge"], **sizes, **attributes}


def put(at: float, what: Mapping[str, Any]) -> Happening:
    return Happening(at, "put", {"pool": what["pool_name"], "item": what})


def announced(world: World) -> Counter[str]:
    """How often the end of each instance was announced."""
    return Counter(world.announced)


def play(*happenings: Happening, minutes: int, **scenario: Any) -> World:
    """Play a story; whatever promise it breaks fails the test."""
    ticks = tuple(60.0 * number for number in range(1, minutes))
    world = World(Scenario(1, PLENTY, happenings, ticks, end=60.0 * minutes, page_size=1000, **scenario))
    world.run()
    assert not world.oracle.violations, world.trace[-5:]
    return world


def test_three_hundred_notices_at_once_are_all_told_and_replaced_before_the_two_minutes_are_over() -> None:
    """Each end is announced by a command that takes a third of a second: more than one function has time for."""
    pool = item("training", 300, limit=700, drain_command="/opt/drain")
    everybody = Happening(600.0, "interrupt", {"pool": "training", "count": 300, "seconds": 120.0})
    world = play(put(1.0, pool), everybody, minutes=20)
    first = [one for one in world.market.record if one["what"] == "notice"]
    taken = {one["instance_id"] for one in first}
    assert len(taken) == 300
    assert set(announced(world)) == taken
    assert max(announced(world).values()) == 1
    assert max(world.announced_at.values()) <= 600 + 120
    launches = sorted(
        (one.launched_at - world.start).total_seconds()
        for one in world.market.instances.values()
        if one.id not in taken
    )
    replaced = [at for at in launches if at > 600]
    assert len(replaced) == 300
    assert replaced[0] < 606
    assert replaced[-1] < 600 + 60


def test_while_ec2_is_slow_no_pool_is_queued_twice_and_an_edit_does_not_wait() -> None:
    """Ten seconds for each answer, and three hundred pools that all want something."""
    pools = [put(1.0 + number / 10, item(f"pool-{number:03}", 1, limit=3)) for number in range(300)]
    urgent = put(600.0, item("pool-000", 2, limit=3))
    world = play(*pools, urgent, minutes=60, ec2_seconds=10.0)
    ticks = 59
    assert world.arrived["due"] < 300 * 8, f"in {ticks} ticks"
    served = min(
        (one.launched_at - world.start).total_seconds()
        for one in world.market.instances.values()
        if one.tags.get("spotpools:pool") == "pool-000" and (one.launched_at - world.start).total_seconds() > 600
    )
    assert served < 600 + 180
