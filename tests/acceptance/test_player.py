"""Playing: limits before each step, a failure that stays local, a refusal by AWS in words, and resuming."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from acceptance.claims import CLAIMS, Verdict
from acceptance.guard import LimitError
from acceptance.instances import OWN_TAG
from acceptance.plan import AFTER, Step
from acceptance.player import Player, complete
from acceptance.run import NotSeenError, Run
from acceptance.state import Played, load
from lambdas.domain.model.instances import STACK_TAG
from tests.acceptance.aws import STACK, PlayedAws, RefusedByAws
from tests.acceptance.test_on_aws import instance, listing


def step(name: str = "one", play: Callable[[Run], str] = lambda _: "well", **more: object) -> Step:
    return Step(name, name.title(), play, 1, **more)  # type: ignore[arg-type]  # a test's shorthand


def fail(_: Run) -> str:
    raise NotSeenError("nothing came")


def test_a_step_is_saved_as_started_before_its_effect_and_as_done_after_it(run: Run) -> None:
    seen: list[str] = []

    def play(one: Run) -> str:
        saved = load(one.state.path)
        assert saved is not None
        seen.append(saved.steps["one"].outcome)
        return "well"

    assert Player(run).play([step(play=play)])
    saved = load(run.state.path)
    assert saved is not None
    assert [*seen, saved.steps["one"].outcome] == ["started", "done"]


def test_a_failed_step_fails_its_own_claims_and_those_of_steps_that_need_it(run: Run) -> None:
    steps = [
        step("fill", fail, claims=("drill",)),
        step("next", claims=("traces",), needs=("fill",)),
        step("other"),
    ]
    assert Player(run).play(steps)
    assert {name: one.outcome for name, one in run.state.steps.items()} == {
        "fill": "failed",
        "next": "refused",
        "other": "done",
    }
    assert run.state.findings["drill"].text == "the step fill failed: nothing came"
    assert "needs the step fill" in run.state.findings["traces"].text


def test_a_step_without_which_nothing_makes_sense_ends_the_run(run: Run) -> None:
    assert not Player(run).play([step("deploy", fail, ends_run=True), step("next")])
    assert list(run.state.steps) == ["deploy"]


def test_a_refusal_by_aws_quotes_its_code_and_the_missing_right(run: Run) -> None:
    def refused(_: Run) -> str:
        said = {"Error": {"Code": "AccessDenied", "Message": "not authorized to perform: kms:DescribeKey"}}
        raise ClientError(said, "DescribeKey")

    Player(run).play([step(play=refused, claims=("topic-key",))])
    text = run.state.findings["topic-key"].text
    assert "lack the permission kms:DescribeKey" in text
    assert "AccessDenied" in text


def test_an_answer_of_another_shape_fails_only_its_step_and_its_traceback_is_kept(run: Run, tmp_path: Path) -> None:
    def surprised(_: Run) -> str:
        answer: dict[str, str] = {}
        return answer["state"]

    Player(run).play([step(play=surprised, claims=("drill",)), step("next")])
    assert run.state.steps["next"].outcome == "done"
    assert "another shape than expected: KeyError('state')" in run.state.findings["drill"].text
    assert "in surprised" in (tmp_path / "faults.log").read_text()


def test_limits_that_cannot_be_checked_refuse_the_step(run: Run, aws: PlayedAws) -> None:
    def throttled(_: object) -> dict[str, object]:
        raise RefusedByAws("RequestLimitExceeded")

    aws.answers["ec2.DescribeInstances"] = throttled
    assert Player(run).play([step()])
    assert run.state.steps["one"].outcome == "refused"
    assert "RequestLimitExceeded" in run.state.steps["one"].text


@pytest.mark.parametrize("tag", [STACK_TAG, OWN_TAG])
def test_all_instances_of_the_run_count_before_a_step(run: Run, aws: PlayedAws, tag: str) -> None:
    some = [instance(f"i-{number}", Tags=[{"Key": tag, "Value": STACK}]) for number in range(3)]
    some[0]["State"] = {"Name": "shutting-down"}

    def asked(params: dict[str, object]) -> dict[str, object]:
        return listing(*some) if f"tag:{tag}" in str(params) else listing()

    aws.answers["ec2.DescribeInstances"] = asked
    Player(run).play([step("two", adds=2), step("one", adds=1)])
    assert run.state.steps["two"].outcome == "refused"
    assert "may start 2 and 3 are alive, but at most 4 are allowed" in run.state.steps["two"].text
    assert run.state.steps["one"].outcome == "done"


def test_what_a_step_may_cost_counts_from_its_start_so_that_it_is_not_repeated_for_ever(run: Run) -> None:
    run.state.budget = Decimal("0.90")
    run = Run(run.place, run.state)
    costly = step(play=fail, extra=Decimal("0.40"))
    Player(run).play([costly])
    Player(run).play([costly])
    assert run.state.steps["one"].outcome == "failed"
    Player(run).play([costly])
    assert run.state.steps["one"].outcome == "refused"
    assert "above the budget of 0.900 USD" in run.state.steps["one"].text


def test_a_limit_that_is_exceeded_while_a_step_waits_ends_the_run(run: Run, aws: PlayedAws) -> None:
    def wait(one: Run) -> str:
        aws.answers["ec2.DescribeInstances"] = listing(*[instance(f"i-{number}") for number in range(5)])
        return one.until(lambda: "", "nothing", seconds=60)

    with pytest.raises(LimitError, match="5 instances are alive, but at most 4"):
        Player(run).play([step(play=wait), step("next")])
    assert run.state.steps["one"].outcome == "failed"


def test_a_resumed_run_repeats_what_was_interrupted_and_nothing_that_ended(run: Run) -> None:
    run.state.steps = {"one": Played("done"), "two": Played("started"), "three": Played("failed")}
    played: list[str] = []

    def note(name: str) -> Callable[[Run], str]:
        return lambda _: played.append(name) or "well"  # type: ignore[func-returns-value]  # append has none

    Player(run).play([step(name, note(name)) for name in ("one", "two", "three", "four")])
    assert played == ["two", "three", "four"]


def test_every_claim_has_a_verdict_also_if_the_run_ended_early() -> None:
    findings = complete({})
    assert [one.claim for one in findings] == list(CLAIMS)
    assert {one.verdict for one in findings} == {Verdict.NOT_SEEN}
    assert all(one.text for one in findings)
    assert {one.claim for one in findings if "stack was not removed" in one.text} == set(AFTER)
