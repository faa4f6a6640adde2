"""``python -m docs.make.runbook``: writes docs/runbook.md and two tables from the guide.

The tables are the README's of reasons, and that of the alarms' severities in docs/deploying.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lambdas.domain.alarm.names import ALARMS, Severity, severity
from lambdas.domain.guide import GUIDE, OF_A_REASON, Advice, Trouble
from lambdas.domain.model.errors import CODES, REMEDIES
from lambdas.domain.model.status import Reason

ROOT = Path(__file__).parents[2]
RUNBOOK, README, DEPLOYING = ROOT / "docs" / "runbook.md", ROOT / "README.md", ROOT / "docs" / "deploying.md"

HEAD = """# Runbook

One section for each alarm, which is named `<stack>-<section>` (those of functions and queues have the function's or the
queue's name in it), and for each reason for which a pool waits. Made from `lambdas/domain/guide.py` by
`python -m docs.make.runbook`: alarms and `spotpools explain` say the same words.

In every case: `spotpools list` shows which pool, `spotpools explain POOL` why, since when and what comes next.
"""


def runbook() -> str:
    """The whole runbook as Markdown."""
    reasons = {trouble: reason for reason, trouble in OF_A_REASON.items()}
    return HEAD + "".join(_section(trouble, advice, reasons.get(trouble)) for trouble, advice in GUIDE.items())


def reasons() -> str:
    """The reasons for waiting, as a Markdown table."""
    rows = [(f"`{reason}`", *_three(GUIDE[trouble])) for reason, trouble in OF_A_REASON.items()]
    head = "| `waiting.reason` | what it means | what the system does | what you can do |\n| --- | --- | --- | --- |\n"
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def severities() -> str:
    """How urgent each alarm is, as a Markdown table."""
    found = {level: [trouble for trouble in ALARMS if severity(trouble) is level] for level in Severity}
    rows = "".join(
        f"| `{level}` | {', '.join(f'[{trouble}](runbook.md#{trouble})' for trouble in troubles)} |\n"
        for level, troubles in found.items()
    )
    return f"| severity | alarms |\n| --- | --- |\n{rows}"


def with_table(text: str, name: str, table: str) -> str:
    """A document with a new table between its two marks."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{table}{end}", text, flags=re.DOTALL)


def _section(trouble: Trouble, advice: Advice, reason: Reason | None) -> str:
    lines = [f"\n## {trouble}\n"]
    if reason is not None:
        lines.append(f"The reason `{reason}`.\n")
    for title, text in zip(("What it means", "What the system does", "What to do"), _three(advice), strict=True):
        lines.append(f"- **{title}.** {text}")
    if advice.look:
        lines.append("- **Look:** " + ", ".join(f"`{one.format(pool='POOL')}`" for one in advice.look))
    if reason is not None:
        lines += _codes(reason)
    return "\n".join(lines) + "\n"


def _codes(reason: Reason) -> Iterator[str]:
    codes = CODES.get(reason, ())
    if codes:
        yield "- **EC2's codes:** " + ", ".join(f"`{code}`" for code in codes)
    yield from (f"  - `{code}`: {REMEDIES[code]}" for code in codes if code in REMEDIES)


def _three(advice: Advice) -> tuple[str, str, str]:
    return advice.means, advice.does, advice.do


def main() -> None:
    """Write all three."""
    RUNBOOK.write_text(runbook(), encoding="utf-8")
    for path, name, table in ((README, "reasons", reasons()), (DEPLOYING, "severities", severities())):
        path.write_text(with_table(path.read_text(encoding="utf-8"), name, table), encoding="utf-8")


if __name__ == "__main__":
    main()
