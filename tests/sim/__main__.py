"""``python -m tests.sim``: run seeds; of a failing one show what is left when all that does not matter is left out."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.sim.runs import Outcome, play_all
from tests.sim.scenario import make
from tests.sim.shrink import shrink
from tests.sim.world import World
from tests.support.seeds import fresh_seed

SHOWN_FAILURES = 3
SHOWN_LINES = 60


def main() -> int:
    """Run the seeds asked for; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many (default 200)")
    parser.add_argument("--first-seed", type=int, help="the same worlds once more (default: worlds nobody has seen)")
    parser.add_argument("--small", action="store_true", help="few pools, one or two hours each")
    parser.add_argument("--large", action="store_true", help="pools of hundreds")
    parser.add_argument("--jobs", type=int, help="processes (default: one a core)")
    parser.add_argument("--trace", action="store_true", help="print the whole trace of each seed")
    asked = parser.parse_args()
    first = fresh_seed("FIRST_SEED") if asked.first_seed is None else asked.first_seed
    seeds = range(first, first + asked.seeds)
    if asked.trace:
        return _trace(seeds, small=asked.small, large=asked.large)
    say(f"seeds {first} to {seeds[-1]}")
    began = time.monotonic()
    totals: Counter[str] = Counter()
    hours, done, failed = 0.0, 0, []
    for outcome in play_all(seeds, small=asked.small, large=asked.large, jobs=asked.jobs):
        totals += outcome.stats
        hours += outcome.hours
        done += 1
        if outcome.violations:
            failed.append(outcome)
            say(f"seed {outcome.seed}: {outcome.violations[0].rule}: {outcome.violations[0].text}")
        elif done % 100 == 0:
            say(f"{done} seeds, {time.monotonic() - began:.0f} s")
    summary(totals, hours, done, failed, time.monotonic() - began)
    for outcome in failed[:SHOWN_FAILURES]:
        explain(outcome, small=asked.small, large=asked.large)
    return 1 if failed else 0


def summary(totals: Counter[str], hours: float, seeds: int, failed: list[Outcome], seconds: float) -> None:
    """Print what was done."""
    invocations = {name.split(" ", 1)[1]: number for name, number in totals.items() if name.startswith("invocations")}
    faults = {name.split(" ", 1)[1]: number for name, number in totals.items() if name.startswith("fault")}
    say(f"seeds            {seeds}  ({seconds:.0f} s)")
    say(f"simulated hours  {hours:,.0f}")
    say(f"invocations      {sum(invocations.values()):,}: " + ", ".join(f"{n:,} {k}" for k, n in invocations.items()))
    say(f"reconciles       {totals['reconciles']:,}")
    say(f"instances        {totals['launched']:,} launched, {totals['terminated']:,} terminated by us")
    say(f"faults           {sum(faults.values()):,}")
    for name, number in sorted(faults.items()):
        say(f"  {number:8,}  {name}")
    say(f"violations       {len(failed)}")


def explain(outcome: Outcome, *, small: bool, large: bool) -> None:
    """Print a failing seed, shrunk, and how to see it again."""
    rule = outcome.violations[0].rule
    scenario = shrink(make(outcome.seed, small=small, large=large), rule)
    world = World(scenario)
    world.run()
    say("")
    say(f"seed {outcome.seed} breaks: {rule}; of its happenings these {len(scenario.happenings)} are enough:")
    for happening in scenario.happenings:
        say(f"  {happening.at:10.3f} s  {happening}")
    say("and this is what came of them:")
    for line in world.trace[-SHOWN_LINES:]:
        say(f"  {line}")
    which = f"--seeds 1 --first-seed {outcome.seed}{' --small' * small}{' --large' * large}"
    say(f"See all of it: python -m tests.sim --trace {which}")


def _trace(seeds: range, *, small: bool, large: bool) -> int:
    broken = False
    for seed in seeds:
        world = World(make(seed, small=small, large=large))
        world.run()
        say("\n".join(world.trace))
        broken |= bool(world.oracle.violations)
    return 1 if broken else 0


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
