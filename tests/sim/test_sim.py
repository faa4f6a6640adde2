"""The bounded part of the simulation that every test run has: small worlds, and that a seed is a whole run's name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lambdas.aws.clients import LAUNCH
from tests.sim.mutants import hunt
from tests.sim.runs import play, play_all
from tests.sim.scenario import make
from tests.sim.shrink import broken_rule, shrink
from tests.support.seeds import fresh_seed

SEEDS = 160
ROOT = Path(__file__).parents[2]


def test_no_promise_is_broken_in_small_worlds(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has seen these worlds; the line printed, or ``FIRST_SEED``, repeats them."""
    first = fresh_seed("FIRST_SEED")
    with capsys.disabled():
        print(f"\nsmall worlds from seed {first}", end=" ")  # noqa: T201  also of a run that is green
    broken = [
        (one.seed, one.violations[0]) for one in play_all(range(first, first + SEEDS), small=True) if one.violations
    ]
    assert not broken, f"python -m tests.sim --small --seeds 1 --first-seed {broken[0][0]} shows it"


def test_a_seed_gives_the_same_trace_byte_for_byte_in_another_process() -> None:
    """Whatever order sets have there."""
    seeds = [fresh_seed("FIRST_SEED") for _ in range(6)]
    program = f"from tests.sim.runs import play; print(*[play(one, small=True).digest for one in {seeds}])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "12345"}
    done = subprocess.run(  # noqa: S603  our own code
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [play(one, small=True).digest for one in seeds], seeds


def test_other_seeds_are_other_worlds() -> None:
    assert len({play(seed, small=True).digest for seed in range(5)}) == 5


@pytest.mark.parametrize("mutant", ["a launch is not saved before its call", "protected instances are terminated"])
def test_a_defect_is_caught(mutant: str) -> None:
    assert hunt(mutant, most=40).rule


def test_shrinking_keeps_what_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """For an oracle that takes any status for too large, one item is enough."""
    monkeypatch.setattr("tests.sim.oracle.LARGEST_STATUS", 10)
    scenario = make(3, small=True)
    assert broken_rule(scenario) == "a status stays small"
    assert len(shrink(scenario, "a status stays small").happenings) == 1


def test_botocore_does_not_repeat_a_launch_by_itself() -> None:
    """The simulation takes an error for EC2's only answer; a repeat behind our back would make it say nothing."""
    assert LAUNCH.retries == {"mode": "standard", "total_max_attempts": 1}
