"""Makes a failing scenario small enough to read: leaves out whatever it fails without."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.sim.scenario import Happening, Scenario
from tests.sim.world import World

MOST_RUNS = 400


def broken_rule(scenario: Scenario) -> str | None:
    """Which promise a scenario breaks first, if any."""
    world = World(scenario)
    world.run()
    return world.oracle.violations[0].rule if world.oracle.violations else None


def shrink(scenario: Scenario, rule: str) -> Scenario:
    """Drop pools, then ever smaller runs of happenings, as long as the same promise breaks."""
    runs = 0

    def fails(candidate: Scenario) -> bool:
        nonlocal runs
        runs += 1
        return runs <= MOST_RUNS and broken_rule(candidate) == rule

    for pool in sorted({str(one.args["pool"]) for one in scenario.happenings if "pool" in one.args}):
        candidate = scenario.having(one for one in scenario.happenings if one.args.get("pool") != pool)
        if fails(candidate):
            scenario = candidate
    return _fewer(scenario, fails)


def _fewer(scenario: Scenario, fails: Callable[[Scenario], bool]) -> Scenario:
    size = max(1, len(scenario.happenings) // 2)
    while True:
        start, smaller = 0, False
        while start < len(scenario.happenings):
            candidate = scenario.having(_without(scenario.happenings, start, size))
            if fails(candidate):
                scenario, smaller = candidate, True
            else:
                start += size
        if size == 1 and not smaller:
            return scenario
        size = max(1, size // 2)


def _without(happenings: Sequence[Happening], start: int, size: int) -> list[Happening]:
    return [*happenings[:start], *happenings[start + size :]]
