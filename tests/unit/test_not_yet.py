"""docs/not-yet-on-aws.md: each row marked seen names its capture, and no other row does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "not-yet-on-aws.md").read_text(encoding="utf-8")
SEEN, UNSEEN = (
    re.split(r"^- ", part.partition("\n\n- ")[2], flags=re.MULTILINE)
    for part in re.split(r"^## .*$", PAGE, flags=re.MULTILINE)[1:]
)
CAPTURE = re.compile(r"`[a-z0-9]+/[a-z0-9_]+\.json`")


@pytest.mark.parametrize("thing", SEEN, ids=lambda thing: thing[:40])
def test_each_row_marked_seen_names_its_capture(thing: str) -> None:
    assert CAPTURE.search(thing)


@pytest.mark.parametrize("thing", UNSEEN, ids=lambda thing: thing[:40])
def test_rows_that_are_not_seen_yet_name_no_capture(thing: str) -> None:
    assert not CAPTURE.search(thing)
