"""Plays the plan: checks the limits before each step, and records outcome and findings after it."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic

from acceptance.claims import CLAIMS, Finding, Verdict, only_aws
from acceptance.guard import LimitError
from acceptance.place import UNEXPECTED
from acceptance.plan import AFTER, Step
from acceptance.run import NothingWorksError, NotSeenError, Run
from acceptance.state import Played
from cli.aws_errors import expected_errors
from cli.exits import ExpectedError
from localcloud.processes import LocalCloudError

ENDED = ("done", "not on this cloud")
"""A resumed run does not play these again."""


class Player:
    """Plays steps one after the other. A failed step fails only its own claims and the steps that need it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._ended = False
        self._say = run.place.progress.say

    def play(self, steps: Iterable[Step]) -> bool:
        """Play all steps that have not ended. Whether nothing ended the run.

        Raises LimitError if a limit is exceeded, not if a step does not fit.
        """
        if self._run.local:
            for claim, one in CLAIMS.items():
                if one.only_aws:
                    self._run.state.find(only_aws(claim))
        for step in steps:
            known = self._run.state.steps.get(step.name)
            if known and known.outcome in ENDED:
                self._say(f"- {step.title}: played before")
                continue
            if (not self._one(step) and step.ends_run) or self._ended:
                return False
        return True

    def _one(self, step: Step) -> bool:
        """Play a step. Whether it is done, or has nothing to do here."""
        run, begun = self._run, monotonic()
        if run.local and step.only_aws:
            self._end(step, "not on this cloud", "only AWS can answer this")
            return True
        if why := self._refusal(step):
            return self._end(step, "refused", why)
        run.state.extra += step.extra
        run.state.steps[step.name] = Played("started")
        run.state.save()
        self._say(f"… {step.title}")
        try:
            with expected_errors():
                outcome, text = "done", step.play(run)
        except LimitError as error:
            self._end(step, "failed", str(error), monotonic() - begun)
            raise
        except (NotSeenError, ExpectedError, LocalCloudError) as error:
            outcome, text = "failed", str(error)
            self._ended = isinstance(error, NothingWorksError)
        except UNEXPECTED as error:
            log = run.place.note_fault(step.name)
            outcome = "failed"
            text = f"an answer has another shape than expected: {error!r} (traceback: {log})"
        return self._end(step, outcome, text, monotonic() - begun)

    def _refusal(self, step: Step) -> str:
        """Why a step cannot be played; empty if it can."""
        if lacking := [name for name in step.needs if not self._done(name)]:
            return f"it needs the step {', '.join(lacking)}"
        try:
            with expected_errors():
                self._run.check(step.demand)
        except (LimitError, ExpectedError) as error:
            return str(error)
        return ""

    def _done(self, name: str) -> bool:
        known = self._run.state.steps.get(name)
        return known is not None and known.outcome == "done"

    def _end(self, step: Step, outcome: str, text: str, seconds: float | None = None) -> bool:
        state = self._run.state
        state.steps[step.name] = Played(outcome, text, seconds)
        if outcome not in ENDED:
            for claim in step.claims:
                if claim not in state.findings:
                    state.find(Finding(claim, Verdict.NOT_SEEN, f"the step {step.name} {outcome}: {text}"))
        state.save()
        mark = {"done": "✓", "failed": "✗", "refused": "!"}.get(outcome, "-")
        took = "" if seconds is None else f"  ({seconds:.1f} s)"
        self._say(f"{mark} {step.title}: {text}{took}")
        return outcome == "done"


def complete(findings: dict[str, Finding]) -> list[Finding]:
    """A finding for each claim, in the order of the claims: those without one were not reached."""
    why = "the run ended before its step"
    removal = "the stack was not removed, or left nothing"
    return [
        findings.get(claim) or Finding(claim, Verdict.NOT_SEEN, removal if claim in AFTER else why) for claim in CLAIMS
    ]
