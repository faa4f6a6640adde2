"""Durations: short for tests, or as on a real account, drawn for each instance."""

from collections import Counter

import pytest

from localcloud.market.model.settings import Settings
from tests.flow.test_notices import SAVE
from tests.market.faces import Face, instances, launched
from tests.market.test_commands import refused
from tests.support.fakes import World

MANY = 20


@pytest.fixture
def slow(face: Face) -> Face:
    """A market with the times of a real account."""
    answer = face.tell("PUT", "/market/settings", {"profile": "aws"})
    assert Settings.model_validate(answer) == Settings.aws()
    return face


def seen(face: Face) -> Counter[str]:
    return Counter(face.states().values())


def test_a_profile_is_set_in_one_go_and_changed_from_there(face: Face) -> None:
    answer = face.tell("PUT", "/market/settings", {"profile": "aws", "notice_seconds": 30, "pending_seconds": [2, 4]})
    assert (answer["notice_seconds"], list(answer["pending_seconds"]), answer["lag_varies"]) == (30, [2, 4], True)
    assert face.tell("PUT", "/market/settings", {"profile": "quick"})["pending_seconds"] == 1.5
    for wrong in ({"profile": "gcp"}, {"pending_seconds": [4, 2]}):
        assert face.control("PUT", "/market/settings", wrong)[0] == 400


def test_each_action_sees_new_ids_after_up_to_six_seconds(slow: Face) -> None:
    face = slow
    ids = launched(face.launch(MANY))
    first: dict[str, dict[str, int]] = {"describe_instances": {}, "describe_instance_status": {}}
    for second in range(8):
        for action, found in first.items():
            more = {"IncludeAllInstances": True} if action == "describe_instance_status" else {}
            answer = getattr(face.ec2, action)(**more)
            shown = answer["InstanceStatuses"] if more else instances(answer)
            for one in shown:
                found.setdefault(one["InstanceId"], second)
        face.clock.forward(1)
    by_listing, by_status = first.values()
    assert set(by_listing) == set(by_status) == set(ids)
    assert max(by_listing.values()) <= 6
    assert len(set(by_listing.values())) > 2
    assert by_listing != by_status


def test_instances_run_within_seconds_pass_checks_within_minutes_and_end_within_half_a_minute(slow: Face) -> None:
    face = slow
    ids = launched(face.launch(MANY))
    face.clock.forward(16)
    assert seen(face) == {"running": MANY}
    assert refused(face.ec2.describe_instance_status, InstanceIds=[*ids, "i-0123456789abcdef0"])
    ok = [{"Name": "instance-status.status", "Values": ["ok"]}]
    face.clock.forward(100)
    assert face.ec2.describe_instance_status(Filters=ok)["InstanceStatuses"] == []
    face.clock.forward(50)
    assert len(face.ec2.describe_instance_status(Filters=ok)["InstanceStatuses"]) == MANY
    face.ec2.terminate_instances(InstanceIds=ids)
    face.clock.forward(26)
    assert seen(face)["terminated"] == 0
    face.clock.forward(13)
    assert seen(face) == {"terminated": MANY}


def test_a_state_may_go_back_for_a_moment(slow: Face) -> None:
    face = slow
    ids = launched(face.launch(MANY))
    face.clock.forward(60)
    face.ec2.terminate_instances(InstanceIds=ids)
    face.clock.forward(26)
    history: dict[str, list[str]] = {id_: [] for id_ in ids}
    for _ in range(14):
        for id_, state in face.states().items():
            history[id_].append(state)
        face.clock.forward(1)
    back = [states for states in history.values() if "shutting-down" in states[states.index("terminated") :]]
    assert 0 < len(back) <= MANY
    assert {states[-1] for states in history.values()} == {"terminated"}


def test_an_ending_instance_shows_no_network(face: Face) -> None:
    (one,) = launched(face.launch(1))
    face.settle()
    assert instances(face.ec2.describe_instances())[0]["SubnetId"] == face.subnet("us-east-1a")
    face.ec2.terminate_instances(InstanceIds=[one])
    (shown,) = instances(face.ec2.describe_instances())
    assert shown["State"]["Name"] == "shutting-down"
    assert not {"SubnetId", "VpcId"} & shown.keys()
    assert shown["NetworkInterfaces"] == []


def test_an_instance_accepts_commands_once_its_agent_runs(slow: Face) -> None:
    face = slow
    ids = launched(face.launch(1))
    face.clock.forward(9)
    request = {"DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["true"]}, "InstanceIds": ids}
    face.tell("PUT", "/market/settings", {"agent_seconds": 15})
    assert refused(face.ssm.send_command, **request) == "InvalidInstanceId"
    face.clock.forward(15)
    face.ssm.send_command(**request)


def test_a_pool_keeps_its_size_with_these_times() -> None:
    world = World()
    world.market.settings = Settings.aws()
    world.edit(target_size=6, max_instances=12, drain_command=SAVE)
    most = 0
    for minute in range(40):
        if minute in (5, 12, 20):
            world.interrupt(*world.ready()[:2])
        for _ in range(6):
            world.forward(10)
            most = max(most, len(world.alive()))
        world.tick()
    assert len(world.ready()) == 6
    assert len(world.alive()) == 6
    assert most <= 12
    assert len(world.market.instances) == 12, "each that was taken has one successor"
