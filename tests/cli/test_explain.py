"""``explain``: it uses the same snapshot and the same decision as a reconcile."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from cli import explanation, explanation_page
from cli.deployment import Deployment
from cli.explanation import Explanation
from lambdas.domain.decision.intent import intent_of
from lambdas.domain.guide import GUIDE, Trouble, advice
from lambdas.domain.model.status import LastError, Reason, RolloutState
from lambdas.metrics import namespace
from lambdas.wiring import utc_now
from localcloud.market.model.settings import Fault
from tests.cli.site import Site
from tests.support.fakes import World


def explained(world: World, pool: str = "p") -> Explanation:
    """Explain a pool of the world at this moment."""
    status = world.statuses.get(pool)
    now = world.clock()
    intent = intent_of(world.pools.get(pool), status, now, timedelta(minutes=5))
    plane = world.plane
    return explanation.explain(explanation.observe_now(pool, intent, status, plane.fleet, plane.drainer, now=now))


def page(of: Explanation) -> str:
    """The printed page, joined into one line."""
    written = io.StringIO()
    Console(file=written, width=200).print(explanation_page.render(of))
    return " ".join(written.getvalue().split())


def world(**item: Any) -> World:
    """A world with a pool p of three, half an hour after its creation."""
    made = World()
    made.edit(**{"target_size": 3, **item})
    made.minutes(30)
    return made


def test_a_healthy_pool_says_so() -> None:
    text = page(explained(world()))
    assert "Wanted 3, by target_size 3" in text
    assert "3 running (3 ready)" in text
    assert "Nothing: the pool is as it should be." in text
    assert "Waiting" not in text


def test_ids_of_instances_are_whole_on_a_screen_of_80_columns() -> None:
    made, written = world(), io.StringIO()
    made.client.create_tags(Resources=made.alive(), Tags=[{"Key": "spotpools:protect", "Value": "true"}])
    made.edit(target_size=3, image_id="ami-2", update="rolling", ready_tag="ready=true")
    Console(file=written, width=80).print(explanation_page.render(explained(made)))
    assert {id_ for id_ in made.alive() if id_ in written.getvalue()} == set(made.alive())


@pytest.mark.parametrize(
    ("reason", "faults", "item"),
    [
        (Reason.NO_CAPACITY, {"capacity": 0}, {}),
        (Reason.PRICE_ABOVE_MAX, {"spot_price": Decimal(1)}, {"spot_max_price": "0.9"}),
        (Reason.QUOTA, {"error": "MaxSpotInstanceCountExceeded"}, {}),
        (Reason.THROTTLED, {"error": "RequestLimitExceeded"}, {}),
        (Reason.CONFIG, {"error": "UnauthorizedOperation"}, {}),
        (Reason.CONFIG, {"error": "AuthFailure.ServiceLinkedRoleCreationNotPermitted"}, {}),
    ],
)
def test_the_reason_for_waiting_comes_with_the_guides_advice(
    reason: Reason, faults: dict[str, Any], item: dict[str, Any]
) -> None:
    made = World()
    if "error" in faults:
        made.fault(action="CreateFleet", times=99, **faults)
    else:
        made.set_all(**faults)
    made.edit(target_size=3, **item)
    made.minutes(5)
    found = explained(made)
    assert found.waiting is not None
    assert found.waiting.reason == reason
    (first, *_) = found.advice
    guide = advice(reason)
    assert (first.means, first.does, first.do) == (guide.means, guide.does, guide.do)
    text = page(found)
    assert f"Waiting 3 for 5 min: {reason}" in text
    assert guide.do in text
    assert text.count(found.waiting.message) == 1, "it is shown once"
    if "error" in faults:
        assert found.last_error is not None
        assert found.last_error.code == faults["error"]


def test_the_next_reconcile_is_shown_and_not_carried_out() -> None:
    made = world()
    made.put(target_size=5, max_instances=9)
    calls = sum(made.calls.values())
    found = explained(made)
    assert found.next is not None
    assert found.next.due == "its item changed"
    assert "launch 2 (spot) from g5.xlarge in us-east-1a" in found.next.steps[0]
    assert len(made.alive()) == 3
    assert made.calls["CreateFleet"] == 1
    assert sum(made.calls.values()) - calls <= 4


def test_explain_creates_no_launch_template() -> None:
    made = world()
    made.put(target_size=5, image_id="ami-0abc", update="rolling")
    found = explained(made)
    assert found.next is not None
    assert found.next.steps
    assert "CreateLaunchTemplate" not in made.calls


def test_the_schedule_entry_in_force_is_named() -> None:
    entry = {"cron": "0 0 * * *", "timezone": "UTC", "target_size": 2}
    found = explained(world(schedule=[entry]))
    assert found.wanted.count == 2
    assert found.wanted.by.startswith("target_size 2 from the schedule entry 0 0 * * * (UTC), in force for ")


def test_noticed_and_outdated_instances_are_marked() -> None:
    made = world(max_instances=9)
    noticed, protected, _ = made.alive()
    made.market.instances[protected].tags["spotpools:protect"] = "true"
    made.interrupt(noticed)
    made.put(target_size=3, max_instances=9, instance_types=["g4dn.xlarge"])
    notes = {one.id: one.notes for one in explained(made).instances}
    assert "interruption notice: EC2 reclaims it" in notes[noticed]
    assert "protected from scale-in" in notes[protected]
    assert "made from an older description" in notes[protected]


def test_an_invalid_item_is_explained_field_by_field() -> None:
    made = world()
    made.edit(target_size=3, spot_max_price="cheap")
    text = page(explained(made))
    assert "by target_size 3, from the last valid item" in text
    assert "Item invalid spot_max_price = cheap: must be a decimal number" in text
    assert GUIDE[Trouble.ITEM_INVALID].do in text


@pytest.mark.parametrize(("message", "quoted"), [("", "SomethingNew"), ("EC2's own words", "EC2's own words")])
def test_ec2s_answer_is_shown_if_the_reason_does_not_quote_it(message: str, quoted: str) -> None:
    made = World()
    made.set_all(capacity=0)
    made.edit(target_size=3)
    explanation_of = explained(made)
    assert explanation_of.waiting is not None
    answered = LastError(code="SomethingNew", message=message, at=explanation_of.at)
    assert quoted in page(replace(explanation_of, last_error=answered))
    reason = explanation_of.waiting.model_copy(update={"message": f"SomethingNew: {quoted}"})
    assert "Last error" not in page(replace(explanation_of, last_error=answered, waiting=reason)), "it is shown once"


def test_paused_deleted_and_new_pools_say_what_comes_next() -> None:
    made = world()
    made.edit(target_size=9, max_instances=9, paused=True)
    assert "Nothing: the pool is paused." in page(explained(made))
    made.delete()
    assert "Its instances are terminated in 5 min; restore the item to keep them." in page(explained(made))
    made.put("new", target_size=1)
    assert "It is new: the control plane checks it" in page(explained(made, "new"))


def test_if_ec2_does_not_answer_the_last_status_is_shown() -> None:
    made = world()
    made.fault(action="DescribeInstances", error="UnauthorizedOperation", times=1)
    found = explained(made)
    assert found.running == 3
    assert found.next is None
    assert "EC2 could not be checked" in found.notes[0]


def test_an_unknown_pool_names_the_nearest(site: Site) -> None:
    site.put("training", target_size=0)
    result = site.run("explain", "trainin")
    assert result.exit_code == 4
    assert result.stderr.strip() == "There is no pool trainin. Did you mean training?"


def test_explain_makes_few_calls_and_all_are_read_only(site: Site) -> None:
    site.put("a", target_size=2)
    site.market.faults.append(Fault(action="CreateFleet", error="InsufficientInstanceCapacity", times=1))
    site.put("a", target_size=3)
    before = site.item("a"), site.plane.statuses.get("a")
    calls = site.calls("explain", "a")
    assert (site.item("a"), site.plane.statuses.get("a")) == before
    assert {name: times for name, times in calls.items() if times > 1} == {}
    assert not [name for name in calls if not name.startswith("Describe")]
    assert site.json("explain", "a")["waiting"]["reason"] == "NO_CAPACITY"


def test_a_stopped_tick_is_reported_with_the_guides_advice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("a", target_size=1)
    assert site.json("explain", "a")["tick_silent_since"] is None, "the stack is new"
    at = utc_now() + timedelta(minutes=4)
    monkeypatch.setattr(Deployment, "now", lambda _: at)
    assert site.json("explain", "a")["tick_silent_since"] is not None
    page = site.run("explain", "a").stdout
    assert "stopped for 4 min" in page
    assert "It runs when the tick runs again: its instances changed." in page
    assert GUIDE[Trouble.HEARTBEAT].do in page
    datum = {"MetricName": "Heartbeat", "Value": 1, "Timestamp": at - timedelta(minutes=2)}
    site.client("cloudwatch").put_metric_data(Namespace=namespace(site.settings.stack), MetricData=[datum])
    assert "It runs with the next tick, within a minute" in site.run("explain", "a").stdout


def test_if_the_heartbeat_cannot_be_read_the_rest_is_shown(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("a", target_size=1)
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", "http://127.0.0.1:9")
    found = site.json("explain", "a")
    assert found["wanted"]["count"] == 1
    assert "Could not check whether the tick runs" in found["notes"][0]


def test_in_a_pipe_no_line_is_cut_or_wrapped(site: Site) -> None:
    site.market.faults.append(Fault(action="CreateFleet", error="MaxSpotInstanceCountExceeded", times=99))
    site.put("a", target_size=1)
    lines = [line.strip() for line in site.run("explain", "a").stdout.splitlines()]
    assert f"You can: {advice(Reason.QUOTA).do}" in lines
    assert max(map(len, lines)) < 1000


def test_an_unreadable_status_is_reported_and_the_rest_is_shown(site: Site) -> None:
    site.put("a", target_size=1)
    site.client("dynamodb").update_item(
        TableName=site.settings.status_table,
        Key={"pool_name": {"S": "a"}},
        UpdateExpression="SET wanted = :x",
        ExpressionAttributeValues={":x": {"S": "many"}},
    )
    found = site.json("explain", "a")
    assert "cannot be read: wanted" in found["notes"][0]
    assert found["advice"][0]["what"] == "STATUS_UNREADABLE"
    assert found["next"] is None, "nothing is done until it is fixed"
    assert "cannot be read" in site.json("list")["pools"][0]["fault"]


def test_a_blocked_replacement_is_shown_with_its_reason_and_advice() -> None:
    made = world(max_instances=3, on_rebalance="replace_first")
    made.recommend_rebalance(made.alive()[0])
    made.minutes(2)
    found = explained(made)
    assert found.replacing is not None
    assert "MAX_INSTANCES" in [one.what for one in found.advice]
    text = page(found)
    assert "Replacing 1: MAX_INSTANCES" in text
    assert "Raise max_instances." in text


def test_when_ec2_has_no_replacement_the_next_try_is_shown() -> None:
    made = world(max_instances=6, on_rebalance="replace_first")
    made.set_all(capacity=0)
    made.recommend_rebalance(made.alive()[0])
    made.minutes(2)
    text = page(explained(made))
    assert "Replacing 1: NO_CAPACITY" in text
    assert "Next try in" in text


def test_warnings_about_the_item_are_shown() -> None:
    text = page(explained(world(instance_types=["g5.xlarge", "g5.xlrge"], root_device_name="/dev/sda1")))
    assert "EC2 sells no g5.xlrge in this Region" in text
    assert "root_device_name has no effect without root_volume_size_gib." in text


def test_a_stopped_rollout_is_not_as_it_should_be() -> None:
    made = world(update="rolling", image_id="ami-1", max_instances=9)
    made.fault(action="CreateFleet", error="InvalidAMIID.NotFound", times=99)
    made.edit(target_size=3, update="rolling", image_id="ami-2", max_instances=9)
    made.minutes(3)
    found = explained(made)
    assert found.rollout is not None
    assert found.rollout.state is RolloutState.STOPPED
    assert "as it should be" not in page(found)


def test_an_item_that_was_never_valid_is_not_paused_and_has_no_last_valid_item() -> None:
    made = World()
    made.edit(target_size="x")
    found = explained(made)
    assert not found.paused
    text = page(found)
    assert "Paused" not in text
    assert "last valid" not in text
    assert "Nothing until its item is valid." in text


def test_a_fallback_that_is_set_is_not_advised() -> None:
    made = World()
    made.set_all(capacity=0, on_demand_capacity=0)
    made.edit(target_size=3, fallback={"after_minutes": 60})
    made.minutes(3)
    text = page(explained(made))
    assert "Allow more instance types or subnets" in text
    assert "set fallback" not in text


def test_an_error_from_before_the_present_reason_gives_no_advice() -> None:
    made = World()
    made.set_all(capacity=0)
    made.edit(target_size=3, spot_max_price="0.9")
    made.minutes(2)
    made.set_all(capacity=9, spot_price=Decimal(1))
    made.minutes(25)
    found = explained(made)
    assert found.waiting is not None
    assert found.waiting.reason is Reason.PRICE_ABOVE_MAX
    assert [one.what for one in found.advice] == ["PRICE_ABOVE_MAX"]


def test_protected_instances_beyond_the_size_are_named_as_such() -> None:
    made = world()
    for id_ in made.alive():
        made.market.instances[id_].tags["spotpools:protect"] = "true"
    made.edit(target_size=1)
    made.minutes(3)
    assert "Nothing: 2 more than wanted are protected from scale-in." in page(explained(made))
