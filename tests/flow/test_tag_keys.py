"""Tag keys that instance metadata cannot show: such pools still run, and their workloads can set the ready tag."""

from __future__ import annotations

from typing import Any

import pytest

from lambdas.domain.item.faults import SpecError, parse_pool
from lambdas.domain.item.pool import Pool, warnings_of
from localcloud.market.model.instances import Instance
from tests.support.fakes import TEMPLATE, World

UNSHOWABLE = ["kubernetes.io/cluster/x", "Cost Center", "_index", ".", "..", "größe"]
SOUND: dict[str, Any] = {"pool_name": "p", "instance_types": ["g5.xlarge"]}


@pytest.fixture
def world() -> World:
    return World()


def only(world: World) -> Instance:
    (instance_id,) = world.alive()
    return world.market.instances[instance_id]


def parsed(**attributes: Any) -> Pool | tuple[SpecError, ...]:
    return parse_pool({**SOUND, **attributes})


@pytest.mark.parametrize("key", UNSHOWABLE)
def test_a_pool_with_such_a_tag_launches_with_it(world: World, key: str) -> None:
    world.edit(target_size=1, tags={key: "1"})
    assert only(world).tags[key] == "1"
    assert not only(world).shows_tags


@pytest.mark.parametrize("account", ["enabled", "disabled"])
def test_it_launches_whatever_the_accounts_default_is(world: World, account: str) -> None:
    world.surroundings.account = world.surroundings.account.changed({"instance_metadata_tags": account})
    world.edit(target_size=1, tags={"Cost Center": "7"})
    assert only(world).tags["Cost Center"] == "7"


@pytest.mark.parametrize("ready_tag", ["team/ready=true", "Is Ready", "_index=1"])
def test_a_ready_tag_that_metadata_cannot_show_can_be_set(world: World, ready_tag: str) -> None:
    world.edit(target_size=1, ready_tag=ready_tag)
    world.minutes(1)
    key, _, value = ready_tag.partition("=")
    world.client.create_tags(Resources=world.alive(), Tags=[{"Key": key, "Value": value}])
    world.minutes(1)
    assert world.status().answer.ready == 1
    world.minutes(30)
    assert world.status().answer.ready == 1, "it is not ended at its timeout"


def test_other_pools_show_their_tags_in_metadata(world: World) -> None:
    world.edit(target_size=1, tags={"team:a-b_c+d=e.f@g": "1"}, ready_tag="state=ready")
    assert only(world).shows_tags
    world.edit("q", target_size=1, ready_tag="state=ready")
    (other,) = world.alive("q")
    template = world.market.instances[other].template
    assert template is not None
    assert template.name == TEMPLATE, "a ready tag that can be shown needs no template of the pool's own"


def test_a_key_added_later_makes_machines_without_the_option(world: World) -> None:
    world.edit(target_size=1, update="rolling", tags={"team": "a"}, max_instances=3)
    world.minutes(2)
    world.edit(target_size=1, update="rolling", tags={"team": "a"}, max_instances=3, ready_tag="team/ready")
    world.minutes(1)
    first, second = (world.market.instances[id_] for id_ in world.alive())
    assert (first.shows_tags, second.shows_tags) == (True, False)


@pytest.mark.parametrize("ready_tag", ["team/ready", "Is Ready=1", "_index"])
def test_such_a_ready_tag_is_refused_beside_the_users_own_template(ready_tag: str) -> None:
    found = parsed(launch_template={"name": "mine"}, ready_tag=ready_tag)
    assert not isinstance(found, Pool)
    (fault,) = found
    assert fault.field == "ready_tag"
    assert "launch_template" in fault.rule
    assert isinstance(parsed(launch_template={"name": "mine"}, ready_tag="ready=true"), Pool)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"ready_tag": "spotpools:pool"}, "none beginning"),
        ({"ready_tag": "AWS:ready"}, "none beginning"),
        ({"ready_tag": "k" * 128}, "127"),
        ({"ready_tag": f"k={'v' * 257}"}, "256"),
        ({"ready_tag": "state=new", "tags": {"state": "new"}}, "from the start"),
        ({"ready_tag": "state", "tags": {"state": "new"}}, "from the start"),
    ],
)
def test_a_ready_tag_that_cannot_show_readiness_is_refused(attributes: dict[str, Any], words: str) -> None:
    found = parsed(**attributes)
    assert not isinstance(found, Pool)
    (fault,) = found
    assert fault.field == "ready_tag"
    assert words in fault.rule


def test_a_ready_tag_may_change_the_value_of_an_initial_tag() -> None:
    assert isinstance(parsed(ready_tag="state=ready", tags={"state": "new"}), Pool)


def test_keys_that_metadata_does_not_show_cause_a_warning() -> None:
    pool = parsed(tags={"kubernetes.io/cluster/x": "owned", "team": "a"}, ready_tag="team/ready")
    assert isinstance(pool, Pool)
    (warning,) = warnings_of(pool)
    assert warning.startswith("tags and ready_tag have keys that EC2 cannot show in instance metadata")
    assert "kubernetes.io/cluster/x, team/ready" in warning
