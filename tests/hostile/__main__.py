"""``python -m tests.hostile``: tests many hostile inputs of every kind and prints the results."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from hypothesis.errors import HypothesisWarning

from tests.hostile.kinds import KINDS, OUTCOMES
from tests.hostile.run import Met, meet
from tests.support.seeds import fresh_seed

ROUND = 500
"""Inputs per seed. Many seeds find more than one long run, and two cores share them."""


def main() -> int:
    """Test the requested inputs. Returns 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--inputs", type=int, default=5000, help="how many (default 5000)")
    parser.add_argument("--seed", type=int, help="the same inputs once more (default: inputs nobody has seen)")
    parser.add_argument("--kind", choices=[*KINDS], help="of this kind alone")
    parser.add_argument("--jobs", type=int, help="processes (default: one a core)")
    asked = parser.parse_args()
    first = fresh_seed() if asked.seed is None else asked.seed
    say(f"seed {first}")
    warnings.simplefilter("ignore", HypothesisWarning)  # large inputs are what we want
    began = time.monotonic()
    met: list[tuple[int, Met]] = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        rounds = list(_rounds(asked.inputs, first, asked.kind))
        for (_, number, seed), one in zip(rounds, pool.map(meet, *zip(*rounds, strict=True)), strict=True):
            met.append((seed, one))
            if one.crash or one.drop:
                say(f"{one.kind}: {one.crash or one.drop}")
                say(f"Again: python -m tests.hostile --kind '{one.kind}' --inputs {number} --seed {seed}\n")
    table([one for _, one in met], time.monotonic() - began)
    return 1 if any(one.crash or one.drop for _, one in met) else 0


def _rounds(inputs: int, seed: int, kind: str | None) -> Iterator[tuple[str, int, int]]:
    """The kind, number of inputs and seed of each round. The first round has the given seed."""
    for name in [kind] if kind else KINDS:
        left = inputs if kind else round(inputs * KINDS[name].share)
        for number, start in enumerate(range(0, left, ROUND)):
            yield name, min(ROUND, left - start), seed + 1000 * number


def table(met: list[Met], seconds: float) -> None:
    """Print a row for each kind, and the sum."""
    say(
        f"{'kind':<16}{'inputs':>9}"
        + "".join(f"{name:>24}" for name in OUTCOMES)
        + f"{'crashes':>10}{'silent drops':>14}"
    )
    for name in [*KINDS, "all"]:
        rows = [one for one in met if name in (one.kind, "all")]
        if not rows:
            continue
        outcomes = sum((one.outcomes for one in rows), Counter[str]())
        crashes, drops = sum(bool(one.crash) for one in rows), sum(bool(one.drop) for one in rows)
        numbers = "".join(f"{outcomes[outcome]:>24,}" for outcome in OUTCOMES)
        say(f"{name:<16}{outcomes.total():>9,}{numbers}{crashes:>10}{drops:>14}")
    say(f"{seconds:.0f} s")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
