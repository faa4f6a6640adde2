"""Runs seeds, several at once, and tells what came of them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

from tests.sim.oracle import Violation
from tests.sim.scenario import make
from tests.sim.world import World


@dataclass(frozen=True)
class Outcome:
    """What came of one seed."""

    seed: int
    violations: tuple[Violation, ...]
    hours: float
    stats: Counter[str]
    digest: str
    """Of the whole trace: equal digests are equal runs, byte for byte."""


def play(seed: int, *, small: bool = False, large: bool = False) -> Outcome:
    """Run one seed."""
    world = World(make(seed, small=small, large=large))
    world.run()
    digest = hashlib.sha256("\n".join(world.trace).encode()).hexdigest()
    return Outcome(seed, tuple(world.oracle.violations), world.t / 3600, world.stats, digest)


def play_all(
    seeds: Iterable[int], *, small: bool = False, large: bool = False, jobs: int | None = None
) -> Iterator[Outcome]:
    """Run many, on all cores, and give each outcome in the order of the seeds."""
    yield from in_parallel(partial(play, small=small, large=large), seeds, jobs=jobs)


def in_parallel(run: Callable[[int], Outcome], seeds: Iterable[int], *, jobs: int | None = None) -> Iterator[Outcome]:
    """Run a function of a seed on all cores; whoever stops listening stops the work soon after."""
    jobs = jobs or os.cpu_count() or 1
    if jobs == 1:
        yield from map(run, seeds)
        return
    waiting = iter(seeds)
    with ProcessPoolExecutor(jobs) as pool:
        under_way = deque(pool.submit(run, seed) for seed in islice(waiting, jobs * 8))
        while under_way:
            yield under_way.popleft().result()
            under_way.extend(pool.submit(run, seed) for seed in islice(waiting, 1))
