"""The claims and docs/not-yet-on-aws.md name the same sentences, and each claim belongs to one step."""

from __future__ import annotations

import re
from collections import Counter

from acceptance.claims import CLAIMS
from acceptance.plan import AFTER, STEPS
from localcloud.cloud import ROOT

PAGE = " ".join((ROOT / "docs" / "not-yet-on-aws.md").read_text(encoding="utf-8").split())
MARK = re.compile(r"\(claims?: ([^)]*)\)")


def bullets() -> list[str]:
    return [f"- {one}" for one in re.split(r" - (?=\*\*|The market)", PAGE)]


def test_each_claim_is_a_sentence_of_the_page_in_a_bullet_that_names_it() -> None:
    for name, claim in CLAIMS.items():
        found = [one for one in bullets() if claim.sentence in one]
        assert len(found) == 1, (name, claim.sentence)
        marked = {id_ for mark in MARK.findall(found[0]) for id_ in re.findall(r"`([a-z-]+)`", mark)}
        assert name in marked, f"{name}: mark it in: {found[0][:80]}"


def test_the_page_names_no_claim_that_does_not_exist() -> None:
    assert {id_ for mark in MARK.findall(PAGE) for id_ in re.findall(r"`([a-z-]+)`", mark)} == set(CLAIMS)


def test_each_claim_is_checked_by_one_step_or_by_the_removal() -> None:
    checked = Counter([claim for step in STEPS for claim in step.claims] + list(AFTER))
    assert checked == Counter(list(CLAIMS))


def test_a_step_that_only_aws_can_play_has_no_claim_for_the_local_cloud() -> None:
    for step in STEPS:
        if step.only_aws:
            assert all(CLAIMS[claim].only_aws for claim in step.claims), step.name


def test_a_step_needs_only_steps_before_it() -> None:
    names = [step.name for step in STEPS]
    assert len(set(names)) == len(names)
    for place, step in enumerate(STEPS):
        assert set(step.needs) <= set(names[:place]), step.name
