"""The market's model: events, time that jumps, pace, interruptions, limits, and invariants."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from botocore.loaders import Loader
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.domain.item.machine import architectures
from localcloud.market.faces.client import MarketClient
from localcloud.market.model.allocation import Candidate, Refusal, Room, allocate
from localcloud.market.model.clock import ManualClock
from localcloud.market.model.errors import ControlError
from localcloud.market.model.limits import TokenBucket, quota_group
from localcloud.market.model.market import Market
from localcloud.market.model.offerings import Offering, default_offerings, hardware_of
from localcloud.market.model.settings import Settings
from localcloud.market.model.surroundings import PlainSurroundings

KEY = ("m5.large", "us-east-1a")


class World:
    """A small market on a manual clock, and a client that requests m5.large."""

    def __init__(self, *, capacity: int = 5, zones: tuple[str, ...] = ("us-east-1a",), **turned: Any) -> None:
        self.clock = ManualClock()
        surroundings = PlainSurroundings()
        surroundings.add_template("default", instance_type="m5.large", tags={"from": "template"})
        offerings = [Offering("m5.large", zone, capacity, Decimal("0.05"), Decimal("0.1"), vcpus=2) for zone in zones]
        self.market = Market(
            clock=self.clock, offerings=offerings, surroundings=surroundings, settings=Settings(**turned)
        )
        self.ec2 = MarketClient(self.market)

    def launch(self, wanted: int, *, zone: str = "us-east-1a", pool: str = "p") -> list[str]:
        answer = self.ec2.create_fleet(
            Type="instant",
            LaunchTemplateConfigs=[
                {
                    "LaunchTemplateSpecification": {"LaunchTemplateName": "default", "Version": "$Latest"},
                    "Overrides": [{"AvailabilityZone": zone}],
                }
            ],
            SpotOptions={"AllocationStrategy": "price-capacity-optimized"},
            TargetCapacitySpecification={"TotalTargetCapacity": wanted, "DefaultTargetCapacityType": "spot"},
            TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "spotpools:pool", "Value": pool}]}],
        )
        return [one for entry in answer["Instances"] for one in entry["InstanceIds"]]

    def notice(self, instance_id: str) -> None:
        self.market.notice(self.market.instances[instance_id])


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["detail"].get("state", event["detail-type"]) for event in events]


def test_each_state_change_of_an_instance_sends_an_event() -> None:
    world = World()
    (one,) = world.launch(1)
    world.clock.forward(10)
    world.notice(one)
    world.clock.forward(200)
    events = world.market.advance()
    assert kinds(events) == [
        "pending",
        "running",
        "EC2 Spot Instance Interruption Warning",
        "shutting-down",
        "terminated",
    ]
    assert [event["time"][14:19] for event in events] == ["00:00", "00:01", "00:10", "02:10", "02:12"]


def test_the_interruption_warning_has_the_form_of_aws() -> None:
    world = World()
    (one,) = world.launch(1)
    world.notice(one)
    warning = world.market.advance()[-1]
    assert warning == {
        "version": "0",
        "id": warning["id"],
        "detail-type": "EC2 Spot Instance Interruption Warning",
        "source": "aws.ec2",
        "account": "000000000000",
        "time": "2026-01-01T00:00:00Z",
        "region": "us-east-1",
        "resources": [f"arn:aws:ec2:us-east-1a:instance/{one}"],
        "detail": {"instance-id": one, "instance-action": "terminate"},
    }


def test_a_second_notice_is_the_same_event_and_does_not_change_the_deadline() -> None:
    world = World()
    (one,) = world.launch(1)
    world.notice(one)
    world.clock.forward(100)
    world.notice(one)
    first, second = [event for event in world.market.advance() if "instance-action" in event["detail"]]
    assert first == second
    world.clock.forward(20)
    assert kinds(world.market.advance()) == ["shutting-down"]


def test_an_instance_that_its_owner_ended_is_not_interrupted_later() -> None:
    world = World()
    (one,) = world.launch(1)
    world.notice(one)
    world.ec2.terminate_instances(InstanceIds=[one])
    world.clock.forward(500)
    assert kinds(world.market.advance()).count("shutting-down") == 1


def test_the_market_knows_when_something_is_due_next() -> None:
    world = World()
    assert world.market.next_due() is None
    world.launch(1)
    world.market.advance()
    assert world.market.next_due() == world.clock() + timedelta(seconds=1.5)


def test_pace_shortens_every_duration() -> None:
    world = World(pace=60)
    (one,) = world.launch(1)
    world.notice(one)
    world.clock.forward(2.1)
    assert kinds(world.market.advance())[-2:] == ["shutting-down", "terminated"]


def test_instances_get_the_tags_of_the_template() -> None:
    world = World()
    (one,) = world.launch(1)
    assert world.market.instances[one].tags["from"] == "template"


def test_one_seed_always_gives_the_same_market() -> None:
    assert World().launch(3) == World().launch(3)


def test_interruptions_of_a_pool_begin_in_the_offering_with_most_of_its_instances() -> None:
    world = World(zones=("us-east-1a", "us-east-1b"))
    world.launch(2, zone="us-east-1a")
    most = world.launch(3, zone="us-east-1b")
    world.launch(1, zone="us-east-1a", pool="other")
    world.clock.forward(2)
    world.market.advance()
    assert [one.id for one in world.market.running_spot_of("p", 2)] == most[:2]
    assert [one.zone for one in world.market.running_spot_of("p", 4)] == ["us-east-1b"] * 3 + ["us-east-1a"]
    with pytest.raises(ControlError, match="5 running"):
        world.market.running_spot_of("p", 6)


def test_the_record_has_price_and_cap_of_each_launch() -> None:
    world = World()
    (one,) = world.launch(1)
    entry = next(entry for entry in world.market.record if entry["what"] == "pending")
    assert (entry["instance_id"], entry["pool"], entry["spot_price"]) == (one, "p", "0.05")
    call = world.market.record[-1]
    assert (call["what"], call["wanted"], call["launched"]) == ("call", 1, [one])


def test_default_offerings_name_a_price_below_on_demand_and_several_zones_of_g4dn_metal() -> None:
    offerings = default_offerings()
    assert all(Decimal(0) < one.spot_price < one.on_demand_price and one.vcpus >= 2 for one in offerings)
    assert {one.zone[-1] for one in offerings if one.instance_type == "p3.2xlarge"} == set("acdf")
    assert sum(one.capacity for one in offerings if one.instance_type == "g4dn.metal") == 24


def candidate(number: int, offering: str, price: str) -> Candidate:
    return Candidate(number, ("m5.large", offering), Decimal(price), vcpus=2, quota_group="standard")


def test_allocation_begins_with_the_cheapest_if_no_offering_has_room_for_all() -> None:
    candidates = [candidate(0, "a", "0.3"), candidate(1, "b", "0.1"), candidate(2, "c", "0.2")]
    room = Room({("m5.large", "a"): 4, ("m5.large", "b"): 1, ("m5.large", "c"): 3})
    allocation = allocate(5, candidates, "price-capacity-optimized", room)
    assert [(one.offering[1], count) for one, count in allocation.taken] == [("b", 1), ("a", 4)]
    assert allocation.refused == [(candidates[1], Refusal.CAPACITY)]


def test_two_overrides_of_one_offering_share_its_room() -> None:
    candidates = [candidate(0, "a", "0.1"), candidate(1, "a", "0.1")]
    allocation = allocate(5, candidates, "price-capacity-optimized", Room({("m5.large", "a"): 3}))
    assert sum(count for _, count in allocation.taken) == 3


def test_quota_groups_follow_the_families() -> None:
    groups = [
        quota_group(name)
        for name in ("m7i.large", "c5.xlarge", "is4gen.large", "g4dn.metal", "vt1.3xlarge", "p4d.24xlarge")
    ]
    assert groups == ["standard", "standard", "standard", "g", "g", "p"]


def test_a_bucket_refills_up_to_its_size() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    bucket = TokenBucket.full((5, 2), start)
    assert bucket.take(7, start) == 5
    assert bucket.take(7, start + timedelta(seconds=1.5)) == 3
    assert bucket.available(start + timedelta(hours=1)) == 5


steps = st.lists(
    st.one_of(
        st.tuples(st.just("launch"), st.integers(1, 6)),
        st.tuples(st.just("capacity"), st.integers(0, 5)),
        st.tuples(st.just("price"), st.integers(1, 15)),
        st.tuples(st.just("interrupt"), st.integers(0, 3)),
        st.tuples(st.just("terminate"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.integers(0, 200)),
    ),
    max_size=25,
)


def carry_out(world: World, action: str, number: int) -> None:
    live = world.market.live(KEY, "spot")
    match action:
        case "launch":
            offering = world.market.offerings[KEY]
            room = max(0, offering.capacity - len(live)) if offering.spot_price <= offering.on_demand_price else 0
            assert len(world.launch(number)) == min(number, room)
        case "capacity":
            world.market.set_offering(*KEY, capacity=number)
        case "price":
            world.market.set_offering(*KEY, spot_price=Decimal(number) / 100)
        case "wait":
            world.clock.forward(number)
        case "interrupt" if live:
            world.notice(live[number % len(live)].id)
        case "terminate" if live:
            world.ec2.terminate_instances(InstanceIds=[live[number % len(live)].id])


@given(steps)
@settings(max_examples=60, deadline=None)
def test_no_launch_ever_exceeds_capacity_or_price_and_no_state_goes_back(
    actions: list[tuple[str, int]],
) -> None:
    world = World(capacity=3)
    lives: dict[str, list[str]] = {}
    for action, number in actions:
        carry_out(world, action, number)
        for event in world.market.advance():
            if "state" in event["detail"]:
                lives.setdefault(event["detail"]["instance-id"], []).append(event["detail"]["state"])
    order = ["pending", "running", "shutting-down", "terminated"]
    for life in lives.values():
        assert life[0] == "pending"
        assert life == sorted(set(life), key=order.index)


def test_a_types_name_shows_its_hardware_unless_it_is_given() -> None:
    names = {"m7g.4xlarge": "arm64", "a1.large": "arm64", "g5g.xlarge": "arm64", "im4gn.large": "arm64",
             "p6e-gb200.36xlarge": "arm64", "m7i.large": "x86_64", "gr6.4xlarge": "x86_64", "g4ad.xlarge": "x86_64",
             "p6-b200.48xlarge": "x86_64", "u-6tb1.metal": "x86_64"}  # fmt: skip
    assert {name: hardware_of(name).architecture for name in names} == names
    assert (hardware_of("c5ad.large").cpu_manufacturer, hardware_of("m7g.large").cpu_manufacturer) == (
        "amd",
        "amazon-web-services",
    )
    said = replace(hardware_of("m7i.large"), architecture="arm64")
    assert Offering("m7i.large", "us-east-1a", 1, Decimal(1), Decimal(2), machine=said).machine is said


def test_market_and_product_agree_on_the_architecture_of_every_type_of_botocore() -> None:
    types = Loader().load_service_model("ec2", "service-2")["shapes"]["InstanceType"]["enum"]
    assert len(types) > 500
    assert not [name for name in types if architectures([name]) != {hardware_of(name).architecture}]


def test_the_default_offerings_have_the_hardware_that_their_names_show() -> None:
    stated = {one.instance_type: one.machine for one in default_offerings()}
    assert not [name for name, one in stated.items() if one.architecture != hardware_of(name).architecture]
