"""The report of a run: JSON for machines, and one HTML page that loads nothing else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from html import escape
from typing import Any

from acceptance.claims import CLAIMS, Finding, Verdict
from acceptance.state import Played
from lambdas import __version__
from localcloud.demo.report import document

ANY_ACCOUNT = "123456789012"
MARKS = {Verdict.SEEN: "passed", Verdict.DIFFERS: "failed", Verdict.NOT_SEEN: ""}


@dataclass(frozen=True)
class Report:
    """All that the report says. Amounts are in US dollars; ``left`` says what could not be removed."""

    place: str
    account: str
    stack: str
    region: str
    started: datetime
    ended: datetime
    budget: Decimal
    spent: Decimal
    most_instances: int
    instances: int
    types: Sequence[str]
    steps: Mapping[str, Played]
    titles: Mapping[str, str]
    findings: Sequence[Finding]
    left: Sequence[str]
    faults: Sequence[str]
    ended_by: str = ""
    """Why the run ended early; empty if it did not."""


def summary(report: Report) -> str:
    """The verdicts, counted, in one line."""
    counts = Counter(one.verdict for one in report.findings)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict)


def standing(report: Report) -> str:
    """What the report proves, depending on where the run took place."""
    if report.place == "AWS":
        return "The run took place on a real AWS account."
    return "The run took place on the local cloud. It shows that the acceptance works, and nothing about AWS."


def as_json(report: Report) -> str:
    """The report for machines, without the account's number."""
    body: dict[str, Any] = {
        "version": __version__,
        "place": report.place,
        "region": report.region,
        "stack": report.stack,
        "started": report.started.isoformat(timespec="seconds"),
        "ended": report.ended.isoformat(timespec="seconds"),
        "ended_by": report.ended_by,
        "budget_usd": str(report.budget),
        "spent_at_most_usd": str(report.spent.quantize(Decimal("0.0001"))),
        "most_instances": report.most_instances,
        "instances": report.instances,
        "types": list(report.types),
        "steps": {
            name: {"outcome": one.outcome, "seconds": one.seconds, "seen": one.text}
            for name, one in report.steps.items()
        },
        "claims": {
            one.claim: {"verdict": one.verdict, "seen": one.text, "sentence": CLAIMS[one.claim].sentence}
            for one in report.findings
        },
        "left": list(report.left),
        "faults": list(report.faults),
    }
    return _masked(json.dumps(body, indent=2, ensure_ascii=False) + "\n", report)


def as_html(report: Report) -> str:
    """The report for people, without the account's number."""
    ended = f'<p class="failed">The run ended early: {escape(report.ended_by)}</p>' if report.ended_by else ""
    if report.left:
        rest = "".join(f"<li>{escape(one)}</li>" for one in report.left)
        removed = f'<p class="failed">Not everything was removed:</p><ul>{rest}</ul>'
    else:
        removed = '<p class="passed">Everything was removed.</p>'
    faults = "".join(f"<li>{escape(one)}</li>" for one in report.faults)
    body = f"""<header>
<h1>Spot Pools: acceptance</h1>
<p>{escape(standing(report))}</p>
<p>Version {escape(__version__)}, stack {escape(report.stack)}, {escape(report.region)}, \
{report.started:%Y-%m-%d %H:%M} to {report.ended:%H:%M} UTC. {report.instances} instances, \
at most {report.spent:.3f} USD of {report.budget:.2f}.</p>
<p>Claims: {escape(summary(report))}.</p>
{ended}{removed}
</header>
<section><h2>Claims</h2>{_claims(report.findings)}</section>
<section><h2>Steps</h2>{_steps(report)}</section>
{f"<section><h2>Faults while removing</h2><ul>{faults}</ul></section>" if faults else ""}"""
    return _masked(document("Spot Pools: acceptance", body), report)


def _masked(text: str, report: Report) -> str:
    return text.replace(report.account, ANY_ACCOUNT)


def _claims(findings: Sequence[Finding]) -> str:
    rows = "".join(
        f'<tr class="{MARKS[one.verdict]}"><td>{escape(one.verdict)}</td><td>{escape(one.claim)}</td>'
        f"<td>{escape(CLAIMS[one.claim].sentence)}<br><small>{escape(CLAIMS[one.claim].how)}</small></td>"
        f"<td>{escape(one.text)}</td></tr>"
        for one in findings
    )
    head = "<tr><th>Verdict</th><th>Claim</th><th>Sentence, and how it is checked</th><th>Seen</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _steps(report: Report) -> str:
    rows = "".join(
        f'<tr class="{"failed" if one.outcome == "failed" else ""}"><td>{escape(one.outcome)}</td>'
        f"<td>{escape(report.titles.get(name, name))}</td><td>{escape(one.text)}</td>"
        f'<td class="number">{"" if one.seconds is None else f"{one.seconds:.1f} s"}</td></tr>'
        for name, one in report.steps.items()
    )
    head = "<tr><th>Outcome</th><th>Step</th><th>Seen</th><th>Time</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
