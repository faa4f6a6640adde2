"""The report: a verdict for each claim, where it took place, what is left, and nothing that runs in a browser."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from acceptance.claims import CLAIMS, Finding, Verdict
from acceptance.player import complete
from acceptance.report import Report, as_html, as_json, summary
from acceptance.state import Played

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def report(**changes: Any) -> Report:
    findings = complete({"drill": Finding("drill", Verdict.DIFFERS, "<b>failed</b> & gone")})
    given: dict[str, Any] = {
        "place": "AWS",
        "account": "987654321098",
        "stack": "spotpools-accept",
        "region": "eu-west-1",
        "started": NOW,
        "ended": NOW,
        "budget": Decimal(2),
        "spent": Decimal("0.12345678"),
        "most_instances": 4,
        "instances": 3,
        "types": ["t3.nano"],
        "steps": {"fill": Played("done", "2 running", 12.34)},
        "titles": {"fill": "A pool fills"},
        "findings": findings,
        "left": [],
        "faults": [],
    }
    return Report(**(given | changes))


def test_the_json_has_a_verdict_and_a_sentence_for_each_claim() -> None:
    read = json.loads(as_json(report()))
    assert list(read["claims"]) == list(CLAIMS)
    assert read["claims"]["drill"] == {
        "verdict": "differs",
        "seen": "<b>failed</b> & gone",
        "sentence": CLAIMS["drill"].sentence,
    }
    assert read["spent_at_most_usd"] == "0.1235"
    assert "account" not in read


def test_the_page_shows_each_claim_and_step_and_loads_nothing() -> None:
    page = as_html(report())
    assert all(f"<td>{claim}</td>" in page for claim in CLAIMS)
    assert "&lt;b&gt;failed&lt;/b&gt; &amp; gone" in page
    assert "A pool fills" in page
    assert "12.3 s" in page
    assert not [word for word in ("<script", "src=", "href=", "@import") if word in page]


@pytest.mark.parametrize(
    ("place", "says"),
    [("AWS", "took place on a real AWS account"), ("the local cloud", "and nothing about AWS")],
)
def test_the_page_says_what_the_run_proves(place: str, says: str) -> None:
    assert says in as_html(report(place=place))


def test_the_page_says_what_is_left_and_why_the_run_ended() -> None:
    assert "Everything was removed." in as_html(report())
    page = as_html(report(left=["table x"], faults=["delete x: AWS answered no"], ended_by="it was stopped"))
    for text in ("Not everything was removed", "table x", "AWS answered no", "ended early: it was stopped"):
        assert text in page
    assert "Everything was removed." not in page


def test_the_account_is_not_named() -> None:
    one = report(steps={"fill": Played("failed", "arn:aws:iam::987654321098:role/x is not authorized")})
    for text in (as_json(one), as_html(one)):
        assert "987654321098" not in text
        assert "arn:aws:iam::123456789012:role/x" in text


def test_the_summary_counts_each_verdict() -> None:
    assert summary(report()) == f"0 seen, {len(CLAIMS) - 1} not seen, 1 differs"
