"""Tests a number of inputs of a kind and counts the outcomes."""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic

import hypothesis

from tests.hostile.kinds import KINDS, SilentDropError


@dataclass
class Met:
    """The outcomes of the inputs of a kind."""

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter)
    crash: str = ""
    """The first input that failed, shrunk, with its error."""

    drop: str = ""
    seconds: float = 0.0

    @property
    def inputs(self) -> int:
        """The number of tested inputs."""
        return sum(self.outcomes.values())


def meet(kind: str, inputs: int, seed: int | None = None) -> Met:
    """Test a number of inputs, without a seed always the same ones. The first failure is shrunk and ends the run."""
    met = Met(kind)
    began = monotonic()
    chosen = KINDS[kind]

    @hypothesis.settings(
        max_examples=inputs,
        derandomize=seed is None,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=set(hypothesis.Phase) - {hypothesis.Phase.explain},  # explaining traces each line and takes hours
    )
    @hypothesis.given(chosen.inputs)
    def one(given: object) -> None:
        met.outcomes[chosen.meet(given)] += 1

    try:
        (hypothesis.seed(seed)(one) if seed is not None else one)()
    except SilentDropError as error:
        met.drop = in_words(error)
    except Exception as error:  # noqa: BLE001  any error is a finding
        met.crash = in_words(error)
    met.seconds = monotonic() - began
    return met


def in_words(error: Exception) -> str:
    """An error with the shrunk input of hypothesis."""
    notes = "\n".join(getattr(error, "__notes__", []))
    frames = traceback.extract_tb(error.__traceback__)
    where = [
        f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
        for frame in frames
        if "site-packages" not in frame.filename
    ]
    return f"{type(error).__name__}: {str(error)[:1000]}\nat {' < '.join(reversed(where[-6:]))}\n{notes[:3000]}"
