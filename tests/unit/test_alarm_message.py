"""What an alarm says to people: pools, numbers, reasons, next tries, advice and links; and when it says nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from lambdas.alarm_events import parse_alarm_event
from lambdas.alarms import AlarmDesk, explain, together
from lambdas.domain.alarm.message import SUBJECT, Change, Links, Message, message
from lambdas.domain.alarm.names import Severity, severity, trouble_of
from lambdas.domain.guide import GUIDE, Trouble
from lambdas.domain.item.faults import SpecError
from lambdas.domain.model.status import Answer, Memory, Reason, Status, Waiting
from lambdas.events import MalformedEventError
from lambdas.ports import NotSentError, UnreadableStatusError

NOW = datetime(2026, 1, 1, 3, 30, tzinfo=UTC)
LINKS = Links(runbook="https://example.com/runbook", dashboard="https://example.com/dashboard")
QUOTA_SAID = "MaxSpotInstanceCountExceeded: Max spot instance count exceeded"


def lacking(count: int = 3, reason: Reason = Reason.QUOTA, **memory: Any) -> Status:
    waiting = Waiting(
        count=count,
        reason=reason,
        since=NOW - timedelta(minutes=25),
        attempts=7,
        next_attempt_at=NOW + timedelta(minutes=4),
        message=QUOTA_SAID,
    )
    return Status(answer=Answer(wanted=8, running=8 - count, waiting=waiting), memory=Memory(**memory))


def well(**memory: Any) -> Status:
    return Status(answer=Answer(wanted=8, running=8), memory=Memory(**memory))


def change(trouble: Trouble = Trouble.QUOTA, *pools: str, over: bool = False, **more: Any) -> Change:
    return Change(trouble, over, NOW, pools, **{"said": "Threshold Crossed", **more})


def text_of(change: Change, **statuses: Status | None) -> Message:
    return message(change, statuses, stack="prod", links=LINKS, now=NOW)


class TestTrouble:
    def test_it_names_pool_count_reason_start_next_try_remedy_and_addresses(self) -> None:
        found = text_of(change(Trouble.QUOTA, "gpu"), gpu=lacking())
        assert found.subject == "[page] prod: gpu lacks 3 of 8: QUOTA"
        for said in (
            "Since: 2026-01-01 03:05:00 UTC (25 min ago)",
            f"Why:   {QUOTA_SAID}",
            "it tries again at 03:34:00 UTC, in 4 min (7 launches so far)",
            GUIDE[Trouble.QUOTA].do,
            "spotpools explain gpu",
            "Runbook: https://example.com/runbook#quota-reached",
            "Dashboard: https://example.com/dashboard",
        ):
            assert said in found.body

    def test_where_the_alarm_names_no_pool_the_statuses_do(self) -> None:
        found = text_of(change(), a=lacking(), b=well(), c=lacking(reason=Reason.NO_CAPACITY))
        assert found.subject == "[page] prod: a lacks 3 of 8: QUOTA"

    def test_pools_with_the_same_trouble_are_in_one_message(self) -> None:
        names = [f"p{number:03}" for number in range(50)]
        found = text_of(change(Trouble.QUOTA, *names), **dict.fromkeys(names, lacking()))
        assert found.subject == "[page] prod: 50 pools: QUOTA"
        assert "p019 lacks 3 of 8" in found.body
        assert "And 30 more: p020, p021" in found.body
        assert len(found.body.encode()) < 50_000

    def test_a_pool_below_target_gets_the_advice_of_its_reason(self) -> None:
        found = text_of(change(Trouble.BELOW_TARGET, "a"), a=lacking(reason=Reason.NO_CAPACITY))
        assert GUIDE[Trouble.NO_CAPACITY].do in found.body
        assert "runbook#pool-below-target" in found.body

    def test_an_invalid_item_is_quoted_with_rule_and_remedy(self) -> None:
        fault = SpecError(field="target_size", value="12", rule="at most 4", remedy="Lower it.")
        found = text_of(change(Trouble.ITEM_INVALID, "a"), a=Status(answer=Answer(spec_errors=(fault,))))
        assert found.subject == "[page] prod: a: its item has 1 fault"
        assert "target_size = 12: at most 4. Lower it." in found.body

    def test_a_pool_that_has_recovered_by_then_is_shown_so(self) -> None:
        assert "a has recovered: it runs 8 of 8" in text_of(change(Trouble.QUOTA, "a"), a=well()).body

    def test_an_alarm_on_a_function_quotes_cloudwatch(self) -> None:
        found = text_of(change(Trouble.FUNCTION_ERRORS, about="on-tick"), a=well())
        assert found.subject == "[notice] prod: function errors (on-tick)"
        assert "Threshold Crossed" in found.body
        assert found.severity is Severity.NOTICE

    def test_a_status_that_cannot_be_read_is_named(self) -> None:
        found = text_of(change(Trouble.STATUS_UNREADABLE), a=well(), b=None)
        assert found.subject == "[page] prod: the status of b cannot be read"

    @pytest.mark.parametrize("name", ["x" * 300, "naïve\npool\t"])
    def test_a_subject_is_one_that_sns_accepts(self, name: str) -> None:
        subject = text_of(change(Trouble.QUOTA, name), **{name: lacking()}).subject
        assert len(subject) <= SUBJECT
        assert subject.isascii()
        assert subject.isprintable()


class TestOver:
    ENDED: ClassVar[dict[str, Any]] = {"over": {"QUOTA": NOW}, "begun": {"QUOTA": NOW - timedelta(minutes=25)}}

    def test_it_says_how_long_it_lasted(self) -> None:
        found = text_of(change(Trouble.QUOTA, "gpu", over=True), gpu=well(**self.ENDED))
        assert found.subject == "[over] prod: gpu: QUOTA is over after 25 min"
        assert "It runs 8 of 8." in found.body
        assert GUIDE[Trouble.QUOTA].do not in found.body

    def test_it_says_what_is_still_missing_for_another_reason(self) -> None:
        found = text_of(change(over=True), gpu=lacking(2, Reason.NO_CAPACITY, **self.ENDED))
        assert "It runs 6 of 8, 2 are missing for another reason: NO_CAPACITY." in found.body

    def test_a_trouble_too_short_for_the_alarm_is_not_over(self) -> None:
        patient = change(over=True, patience=timedelta(hours=1))
        assert "gpu" not in text_of(patient, gpu=well(**self.ENDED)).body
        assert "gpu" in text_of(change(over=True, patience=timedelta(minutes=40)), gpu=well(**self.ENDED)).body

    def test_an_end_of_hours_ago_is_not_this_one(self) -> None:
        ended = {"over": {"QUOTA": NOW - timedelta(hours=2)}, "begun": {"QUOTA": NOW - timedelta(hours=3)}}
        assert "gpu" not in text_of(change(over=True), gpu=well(**ended)).body

    def test_a_deleted_pool_is_distinguished_from_one_that_recovered(self) -> None:
        found = text_of(change(Trouble.QUOTA, "gpu", over=True))
        assert found.subject == "[over] prod: gpu was deleted: QUOTA is over"


class Outbox:
    def __init__(self, refuses: str | None = None) -> None:
        self.sent: list[Message] = []
        self._refuses = refuses

    def send(self, message: Message) -> None:
        if self._refuses and self._refuses in message.subject:
            raise NotSentError("the topic is gone")
        self.sent.append(message)


class Kept:
    def __init__(self, **statuses: Status | UnreadableStatusError) -> None:
        self._statuses = statuses

    def scan(self) -> dict[str, Status | UnreadableStatusError]:
        return self._statuses


def desk(outbox: Outbox, **statuses: Status) -> AlarmDesk:
    return AlarmDesk(stack="prod", statuses=Kept(**statuses), messages=outbox, links=LINKS, clock=lambda: NOW)


class TestExplaining:
    def test_changes_of_one_trouble_are_sent_together(self) -> None:
        found = together(
            {"1": change(Trouble.QUOTA, "a"), "2": change(Trouble.QUOTA, "b"), "3": change(Trouble.CONFIG)}
        )
        assert [(one.trouble, one.pools, ids) for one, ids in found] == [
            (Trouble.QUOTA, ("a", "b"), ["1", "2"]),
            (Trouble.CONFIG, (), ["3"]),
        ]

    def test_nothing_is_said_of_an_end_that_was_no_end(self) -> None:
        """A pool's first state may be OK, before its trouble has lasted long enough for the alarm."""
        outbox = Outbox()
        assert not explain({"1": change(Trouble.BELOW_TARGET, "a", over=True)}, desk(outbox, a=lacking()))
        assert not outbox.sent

    def test_an_end_is_sent_to_people(self) -> None:
        outbox = Outbox()
        explain({"1": change(Trouble.QUOTA, "a", over=True)}, desk(outbox, a=well(**TestOver.ENDED)))
        assert [one.subject for one in outbox.sent] == ["[over] prod: a: QUOTA is over after 25 min"]

    def test_what_cannot_be_sent_comes_back_alone(self) -> None:
        outbox = Outbox(refuses="QUOTA")
        changes = {"1": change(Trouble.QUOTA, "a"), "2": change(Trouble.CONFIG, "b")}
        assert explain(changes, desk(outbox, a=lacking(), b=lacking(reason=Reason.CONFIG))) == {"1"}
        assert [one.subject for one in outbox.sent] == ["[page] prod: b lacks 3 of 8: CONFIG"]


def event(state: str = "ALARM", before: str = "OK", name: str = "prod-quota-reached", **detail: Any) -> str:
    """CloudWatch's event of an alarm, as EventBridge delivers it."""
    return json.dumps(
        {
            "version": "0",
            "detail-type": "CloudWatch Alarm State Change",
            "source": "aws.cloudwatch",
            "time": "2026-01-01T03:30:00Z",
            "detail": {
                "alarmName": name,
                "state": {"value": state, "reason": "Threshold Crossed", "timestamp": "2026-01-01T03:30:00.000+0000"},
                "previousState": {"value": before},
                **detail,
            },
        }
    )


def contributor(state: str = "ALARM") -> str:
    """As captured from a real account."""
    return json.dumps(
        {
            "detail-type": "CloudWatch Alarm Contributor State Change",
            "source": "aws.cloudwatch",
            "time": "2026-09-23T19:54:49Z",
            "resources": ["arn:aws:cloudwatch:us-west-2:000000000000:alarm:prod-quota-reached"],
            "detail": {
                "alarmName": "prod-quota-reached",
                "alarmContributor": {"id": "a29eb44b20c4362e", "attributes": {"Pool": "gpu"}},
                "state": {
                    "value": state,
                    "reason": "Threshold Crossed: 1 out of the last 1 datapoints was greater than the threshold.",
                    "timestamp": "2026-09-23T19:54:49.530+0000",
                },
                "configuration": {
                    "metrics": [{"id": "q", "expression": "SELECT …", "returnData": True, "period": 60}],
                    "description": "…",
                },
            },
        }
    )


class TestEvents:
    def test_a_contributors_event_names_its_pool(self) -> None:
        found = parse_alarm_event(contributor(), "prod")
        assert isinstance(found, Change)
        assert (found.trouble, found.pools, found.over) == (Trouble.QUOTA, ("gpu",), False)
        assert found.at == datetime(2026, 9, 23, 19, 54, 49, 530_000, UTC)

    @pytest.mark.parametrize(
        ("body", "why"),
        [
            (event("OK", before="INSUFFICIENT_DATA"), "no trouble before"),
            (event("INSUFFICIENT_DATA"), "missing data"),
            (event(name="other-quota-reached"), "no alarm of this stack"),
            (event(name="prod-2-quota-reached"), "no alarm of this stack"),
            (event(configuration={"metrics": [{"id": "q", "expression": "SELECT 1"}]}), "contributors"),
            (event(name="prod-heartbeat-missing"), "CloudWatch itself"),
            (event(name="prod-on-alarm-errors"), "CloudWatch itself"),
            (event(name="prod-dead-alarm-events"), "CloudWatch itself"),
        ],
    )
    def test_what_nobody_need_know_is_ignored(self, body: str, why: str) -> None:
        found = parse_alarm_event(body, "prod")
        assert isinstance(found, str)
        assert why in found

    def test_the_end_of_what_informs_directly_is_explained(self) -> None:
        found = parse_alarm_event(event("OK", before="ALARM", name="prod-heartbeat-missing"), "prod")
        assert isinstance(found, Change)
        assert found.over

    @pytest.mark.parametrize("body", ["", "{}", "[]", '{"detail-type": "Other"}', event("SOMETHING"), event(name="")])
    def test_what_is_no_alarm_event_is_refused(self, body: str) -> None:
        with pytest.raises(MalformedEventError):
            parse_alarm_event(body, "prod")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("quota-reached", (Trouble.QUOTA, "")),
        ("ec2-throttles", (Trouble.THROTTLED, "")),
        ("on-tick-errors", (Trouble.FUNCTION_ERRORS, "on-tick")),
        ("on-pool-due-throttles", (Trouble.FUNCTION_THROTTLES, "on-pool-due")),
        ("dead-spot-notices", (Trouble.DEAD_LETTERS, "spot-notices")),
        ("due-pools-waiting", (Trouble.QUEUE_AGE, "due-pools")),
        ("something-else", None),
    ],
)
def test_an_alarms_name_says_its_trouble(name: str, found: Any) -> None:
    assert trouble_of(f"prod-{name}", "prod") == found


def test_every_trouble_with_an_alarm_has_a_severity() -> None:
    assert {severity(trouble) for trouble in Trouble} == set(Severity)
    assert severity(Trouble.HEARTBEAT) is Severity.PAGE
    assert severity(Trouble.PRICE_ABOVE_MAX) is Severity.NOTICE
