"""The hostile inputs of every test run: a fixed number, always the same."""

from __future__ import annotations

import pytest

from tests.hostile.kinds import KINDS, OUTCOMES, REFUSED
from tests.hostile.run import meet

INPUTS = 600


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")  # large inputs are what we want
@pytest.mark.parametrize("kind", KINDS)
def test_no_input_crashes_harms_others_or_is_dropped_silently(kind: str) -> None:
    met = meet(kind, round(INPUTS * KINDS[kind].share))
    assert not met.crash, met.crash
    assert not met.drop, met.drop
    assert set(met.outcomes) <= set(OUTCOMES)
    assert met.outcomes[REFUSED] > 0
    assert len(met.outcomes) > 1, "some are acted on"
