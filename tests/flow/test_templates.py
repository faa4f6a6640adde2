"""A pool's own launch template, made from its item: content, number, settling, deletion."""

from __future__ import annotations

import base64
from itertools import product
from typing import Any

import pytest

from lambdas.aws.launch_templates import LaunchTemplates
from lambdas.domain.model.status import Reason, RolloutState
from lambdas.reconcile import reconcile
from localcloud.market.model.surroundings import LaunchTemplate, TemplateVersion
from tests.flow.test_crashes import killed
from tests.support.fakes import TEMPLATE, World

DESCRIBED: dict[str, Any] = {
    "image_id": "ami-1234",
    "security_group_ids": ["sg-1", "sg-2"],
    "iam_instance_profile": "worker",
    "key_name": "ops",
    "user_data": "#!/bin/sh\necho grüß dich\n",
    "root_volume_size_gib": 200,
    "tags": {"team": "vision"},
}


@pytest.fixture
def world() -> World:
    return World()


def own_template(world: World, pool_name: str = "p") -> LaunchTemplate:
    return world.surroundings.launch_template(template_id=None, name=f"test/{pool_name}")


def launched_from(world: World, instance_id: str) -> TemplateVersion:
    found = world.market.instances[instance_id].template
    assert found is not None
    return found


def of_launch(world: World, **attributes: Any) -> dict[str, Any]:
    """The data of the template from which a pool with these attributes launches."""
    world.edit(target_size=1, **attributes)
    (instance_id,) = world.alive()
    return launched_from(world, instance_id).data


class TestWhatItSays:
    def test_image_network_role_key_and_disk(self, world: World) -> None:
        data = of_launch(world, **DESCRIBED)
        assert data["ImageId"] == "ami-1234"
        assert data["SecurityGroupIds"] == ["sg-1", "sg-2"]
        assert data["IamInstanceProfile"] == {"Name": "worker"}
        assert data["KeyName"] == "ops"
        assert data["BlockDeviceMappings"] == [
            {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 200, "VolumeType": "gp3", "DeleteOnTermination": True}}
        ]

    def test_user_data_goes_as_base64(self, world: World) -> None:
        data = of_launch(world, **DESCRIBED)
        assert base64.b64decode(data["UserData"]).decode() == DESCRIBED["user_data"]

    def test_imds_requires_a_token_and_shows_the_tags(self, world: World) -> None:
        options = of_launch(world, **DESCRIBED)["MetadataOptions"]
        assert (options["HttpTokens"], options["InstanceMetadataTags"]) == ("required", "enabled")

    def test_a_profile_may_be_an_arn(self, world: World) -> None:
        arn = "arn:aws:iam::000000000000:instance-profile/worker"
        assert of_launch(world, iam_instance_profile=arn)["IamInstanceProfile"] == {"Arn": arn}

    @pytest.mark.parametrize("public", [True, False])
    def test_a_public_address_moves_the_groups_to_the_network_interface(self, world: World, public: bool) -> None:
        data = of_launch(world, associate_public_ip=public, security_group_ids=["sg-1"])
        assert data["NetworkInterfaces"] == [{"DeviceIndex": 0, "AssociatePublicIpAddress": public, "Groups": ["sg-1"]}]
        assert "SecurityGroupIds" not in data, "EC2 refuses groups beside interfaces"

    def test_an_image_may_be_named_by_a_parameter(self, world: World) -> None:
        world.surroundings.parameters["/ours/image"] = "ami-77"
        world.edit(target_size=1, image_id="ssm:/ours/image")
        (instance,) = world.market.instances.values()
        assert instance.image_id == "ami-77"

    def test_the_default_image_is_amazon_linux_of_the_right_architecture(self, world: World) -> None:
        assert of_launch(world, key_name="ops")["ImageId"].endswith("al2023-ami-kernel-default-x86_64")

    def test_the_pools_tags_reach_the_instance_beside_our_own(self, world: World) -> None:
        world.edit(target_size=1, **DESCRIBED)
        (instance,) = world.market.instances.values()
        assert instance.tags.items() >= {("team", "vision"), ("Name", "p"), ("spotpools:pool", "p")}

    def test_a_name_tag_of_the_user_is_kept(self, world: World) -> None:
        world.edit(target_size=1, tags={"Name": "trainer"})
        (instance,) = world.market.instances.values()
        assert instance.tags["Name"] == "trainer"


class TestHowMany:
    def test_a_pool_without_customisation_needs_no_template(self, world: World) -> None:
        world.edit(target_size=1)
        assert launched_from(world, world.alive()[0]).name == TEMPLATE
        assert [one.name for one in world.surroundings.templates.values()] == [TEMPLATE]

    def test_each_pool_has_its_own_template_tagged_for_stack_and_pool(self, world: World) -> None:
        world.edit("a", target_size=1, key_name="ops")
        world.edit("b", target_size=1, key_name="ops")
        assert own_template(world, "a").tags == {"spotpools:stack": "test", "spotpools:pool": "a"}
        assert launched_from(world, world.alive("b")[0]).name == "test/b"

    def test_an_unchanged_description_makes_no_call(self, world: World) -> None:
        world.edit(target_size=1, **DESCRIBED)
        calls = world.calls.copy()
        world.edit(target_size=3, **DESCRIBED)
        assert len(world.alive()) == 3
        assert not [action for action in world.calls - calls if "LaunchTemplate" in action]

    def test_a_changed_description_adds_a_version(self, world: World) -> None:
        world.edit(target_size=1, image_id="ami-1")
        world.edit(target_size=2, image_id="ami-2")
        old, new = (launched_from(world, id_) for id_ in world.alive())
        assert (old.version, new.version) == (1, 2)
        assert len(own_template(world).versions) == 2

    def test_a_reverted_description_reuses_the_earlier_version(self, world: World) -> None:
        world.edit(target_size=1, image_id="ami-1")
        world.edit(target_size=2, image_id="ami-2")
        world.edit(target_size=3, image_id="ami-1")
        assert launched_from(world, world.alive()[2]).version == 1
        assert len(own_template(world).versions) == 2

    def test_a_description_is_saved_before_anything_is_launched(self, world: World) -> None:
        world.edit(target_size=0, image_id="ami-1")
        calls = world.calls.copy()
        assert len(own_template(world).versions) == 1
        world.minutes(60)
        assert not [action for action in world.calls - calls if "LaunchTemplate" in action]

    def test_a_paused_pool_makes_no_version(self, world: World) -> None:
        world.edit(target_size=3, image_id="ami-1", paused=True)
        assert [one.name for one in world.surroundings.templates.values()] == [TEMPLATE]

    def test_old_versions_are_deleted_except_the_default_one(self, world: World) -> None:
        for number in range(1, 10):
            world.edit(target_size=number, max_instances=20, image_id=f"ami-{number}")
        assert sorted(own_template(world).versions) == [1, 5, 6, 7, 8, 9]
        assert len(world.alive()) == 9

    def test_a_lost_status_finds_the_version_again(self, world: World) -> None:
        world.edit(target_size=1, image_id="ami-1")
        world.forward(5)
        world.statuses.statuses.clear()
        world.statuses.leases.clear()
        world.edit(target_size=2, image_id="ami-1")
        assert [launched_from(world, id_).version for id_ in world.alive()] == [1, 1]

    def test_a_deleted_template_is_created_again(self, world: World) -> None:
        world.edit(target_size=1, image_id="ami-1")
        world.client.delete_launch_template(LaunchTemplateName="test/p")
        world.edit(target_size=2, image_id="ami-1")
        world.minutes(20)
        assert len(world.alive()) == 2


class TestItsName:
    def test_no_two_pools_of_any_two_stacks_share_a_name(self) -> None:
        names = {
            LaunchTemplates(None, stack=stack).name(pool) for stack, pool in (("a", "b-pool-c"), ("a-pool-b", "c"))
        }
        assert len(names) == 2
        for stack, pool in product(("a", "a-b", "a-default", "a--"), ("b", "b-pool-c", "-b", "default")):
            assert LaunchTemplates(None, stack=stack).name(pool).split("/") == [stack, pool]

    def test_the_longest_names_make_a_name_that_ec2_accepts(self, world: World) -> None:
        world.edit("p" * 63, target_size=1, key_name="ops")
        assert len(world.alive("p" * 63)) == 1
        assert len(LaunchTemplates(None, stack="s" * 63).name("p" * 63)) == 127

    def test_a_template_with_an_older_name_is_kept_and_deleted_with_its_pool(self, world: World) -> None:
        tags = [{"Key": "spotpools:stack", "Value": "test"}, {"Key": "spotpools:pool", "Value": "p"}]
        world.client.create_launch_template(
            LaunchTemplateName="test-pool-p",
            LaunchTemplateData={"ImageId": "ami-old"},
            TagSpecifications=[{"ResourceType": "launch-template", "Tags": tags}],
        )
        world.edit(target_size=1, image_id="ami-1")
        assert launched_from(world, world.alive()[0]).name == "test-pool-p"
        world.forward(5)
        world.delete()
        world.minutes(10)
        assert [one.name for one in world.surroundings.templates.values()] == [TEMPLATE]

    def test_another_stacks_template_with_a_similar_name_is_left_alone(self, world: World) -> None:
        tags = [{"Key": "spotpools:stack", "Value": "other"}, {"Key": "spotpools:pool", "Value": "p"}]
        world.client.create_launch_template(
            LaunchTemplateName="test-pool-p",
            LaunchTemplateData={"ImageId": "ami-theirs"},
            TagSpecifications=[{"ResourceType": "launch-template", "Tags": tags}],
        )
        world.edit(target_size=1, image_id="ami-1")
        assert launched_from(world, world.alive()[0]).image_id == "ami-1"
        world.forward(5)
        world.delete()
        world.minutes(10)
        assert [one.name for one in world.surroundings.templates.values()] == [TEMPLATE, "test-pool-p"]


class TestSettling:
    """EC2 shows a new template and its tags only after a while."""

    LAG = (1, 4, 12, 40)

    @pytest.mark.parametrize("lag", LAG)
    def test_a_new_pool_launches_seconds_after_its_template_is_shown(self, lag: int) -> None:
        world = World(template_lag_seconds=lag)
        world.edit(target_size=2, image_id="ami-1")
        waiting = world.status().answer.waiting
        assert waiting is not None
        assert waiting.reason is Reason.UNKNOWN, "nobody is called for it"
        assert "new launch template is not visible" in waiting.message
        world.forward(lag + 5)
        assert len(world.alive()) == 2
        assert world.calls["CreateLaunchTemplate"] == 1

    @pytest.mark.parametrize("lag", LAG)
    def test_a_rolling_update_continues_when_ec2_shows_its_version(self, lag: int) -> None:
        world = World(template_lag_seconds=lag, pending_seconds=1, status_check_seconds=1)
        attributes: dict[str, Any] = {"target_size": 2, "max_instances": 4, "update": "rolling"}
        world.edit(**attributes, image_id="ami-1")
        world.minutes(3)
        world.edit(**attributes, image_id="ami-2")
        rollout = world.status().answer.rollout
        assert rollout is not None
        assert rollout.state is RolloutState.ROLLING
        world.minutes(4)
        assert {launched_from(world, id_).image_id for id_ in world.alive()} == {"ami-2"}
        assert world.calls["CreateLaunchTemplateVersion"] == 1

    def test_ticks_alone_ask_for_the_template_again(self) -> None:
        world = World(template_lag_seconds=30)
        world.edit(target_size=1, image_id="ami-1")
        world.queue.delayed.clear()
        world.minutes(1)
        assert len(world.alive()) == 1

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    def test_a_reconcile_killed_while_creating_the_template_is_recovered(self, after: bool) -> None:
        world = World(template_lag_seconds=10)
        world.put(target_size=1, image_id="ami-1")
        with killed(world.client, "create_launch_template", after=after):
            reconcile("p", world.plane)
        world.forward(80)
        world.tick()
        world.forward(20)
        assert len(world.alive()) == 1
        assert len(own_template(world).versions) == 1

    def test_a_template_that_never_shows_is_reported_after_a_minute(self) -> None:
        world = World(template_lag_seconds=10_000)
        world.edit(target_size=1, image_id="ami-1")
        world.forward(80)
        waiting = world.status().answer.waiting
        assert waiting is not None
        assert (waiting.reason, "does not exist" in waiting.message) == (Reason.CONFIG, True)
        assert world.calls["CreateFleet"] < 20

    def test_a_template_that_iam_sees_without_tags_is_awaited(self, world: World) -> None:
        refusal = "You are not authorized to perform: ec2:CreateFleet on resource: arn:aws:ec2:r:1:launch-template/lt-1"
        world.fault(action="CreateFleet", error="UnauthorizedOperation", message=refusal, times=2)
        world.edit(target_size=1, image_id="ami-1")
        assert world.status().answer.waiting is not None
        world.forward(10)
        assert len(world.alive()) == 1

    @pytest.mark.parametrize("where", ["before", "inside"])
    def test_other_missing_resources_are_reported_at_once(self, world: World, where: str) -> None:
        refusal = "You are not authorized to perform: ec2:RunInstances on resource: arn:aws:ec2:r:1:instance/*"
        fault = {"error": "UnauthorizedOperation", "message": refusal, "where": where}
        world.fault(action="CreateFleet", times=9, **fault)
        world.edit(target_size=1, image_id="ami-1")
        waiting = world.status().answer.waiting
        assert waiting is not None
        assert waiting.reason is Reason.CONFIG

    def test_a_foreign_template_with_our_name_is_reported(self, world: World) -> None:
        world.client.create_launch_template(LaunchTemplateName="test/p", LaunchTemplateData={"ImageId": "ami-theirs"})
        world.edit(target_size=1, image_id="ami-1")
        world.forward(90)
        waiting = world.status().answer.waiting
        assert waiting is not None
        assert waiting.reason is Reason.CONFIG
        assert "Delete or rename it" in waiting.message
        world.client.delete_launch_template(LaunchTemplateName="test/p")
        world.minutes(17)
        assert len(world.alive()) == 1


class TestWarnings:
    def test_warnings_of_ec2_at_creation_reach_the_status(self, world: World) -> None:
        world.surroundings.missing.add("sg-404")
        world.edit(target_size=1, security_group_ids=["sg-404"])
        (warning,) = world.status().answer.warnings
        assert "InvalidSecurityGroupID.NotFound: The security group 'sg-404' does not exist" in warning
        world.surroundings.missing.add("sg-405")
        world.edit(target_size=1, security_group_ids=["sg-405"])
        (warning,) = world.status().answer.warnings
        assert "sg-405" in warning
        world.edit(target_size=1, security_group_ids=["sg-1"])
        assert world.status().answer.warnings == ()

    def test_old_versions_that_cannot_be_deleted_block_no_launch(self, world: World) -> None:
        world.fault(action="DeleteLaunchTemplateVersions", error="UnauthorizedOperation", message="No.", times=99)
        for number in range(1, 9):
            world.edit(target_size=number, max_instances=20, image_id=f"ami-{number}")
        assert len(world.alive()) == 8
        (warning,) = world.status().answer.warnings
        assert "UnauthorizedOperation: No." in warning


SECRET = "#!/bin/sh\nexport TOKEN=hunter2\n"


class TestUserDataIsKeptInTheTemplateAlone:
    """User data may hold secrets, which readers of PoolStatus must not see."""

    def test_user_data_is_not_in_the_status(self, world: World) -> None:
        world.edit(target_size=3, user_data=SECRET)
        world.fault(action="CreateFleet", error="RequestLimitExceeded", times=1)
        world.edit(target_size=4, user_data=SECRET)
        world.minutes(5)
        assert len(world.alive()) == 4
        assert "hunter2" not in world.status().model_dump_json()

    def test_a_later_bad_edit_loses_no_user_data(self, world: World) -> None:
        world.edit(target_size=0, user_data=SECRET)
        world.edit(target_size=2, user_data=SECRET)
        world.interrupt(world.alive()[0])
        world.put(target_size="many", user_data=SECRET)
        world.minutes(5)
        assert world.status().answer.spec_errors
        assert [launched_from(world, id_).user_data for id_ in world.alive()] == [SECRET, SECRET]

    def test_a_new_description_is_kept_even_if_nothing_was_launched_from_it(self, world: World) -> None:
        world.edit(target_size=1, image_id="ami-1")
        world.edit(target_size=1, user_data=SECRET)
        world.interrupt(*world.alive())
        world.put(target_size="many", user_data=SECRET)
        world.minutes(5)
        assert [launched_from(world, id_).user_data for id_ in world.alive()] == [SECRET]

    def test_instances_of_the_remembered_item_are_not_outdated(self, world: World) -> None:
        world.edit(target_size=2, user_data=SECRET, update="rolling", max_instances=6)
        before = world.alive()
        world.put(target_size="many", user_data=SECRET)
        world.minutes(30)
        assert world.alive() == before
        world.edit(target_size=2, user_data=SECRET, update="rolling", max_instances=6)
        world.minutes(30)
        assert world.alive() == before

    def test_a_template_deleted_meanwhile_is_reported(self, world: World) -> None:
        world.edit(target_size=1, user_data=SECRET)
        world.put(target_size="many", user_data=SECRET)
        world.client.delete_launch_template(LaunchTemplateName="test/p")
        world.interrupt(*world.alive())
        world.minutes(20)
        waiting = world.status().answer.waiting
        assert waiting is not None
        assert waiting.reason is Reason.CONFIG
        assert "Fix the item" in waiting.message
        world.edit(target_size=1, user_data=SECRET)
        world.minutes(2)
        assert [launched_from(world, id_).user_data for id_ in world.alive()] == [SECRET]


class TestItsEnd:
    def test_the_template_is_deleted_with_its_pool(self, world: World) -> None:
        world.edit(target_size=1, image_id="ami-1")
        world.forward(5)
        world.delete()
        world.minutes(5)
        assert own_template(world), "instances are still there"
        world.minutes(5)
        assert "p" not in world.statuses.statuses
        assert [one.name for one in world.surroundings.templates.values()] == [TEMPLATE]

    def test_a_template_that_is_already_deleted_blocks_no_pool(self, world: World) -> None:
        world.edit(target_size=1, image_id="ami-1")
        world.forward(5)
        world.client.delete_launch_template(LaunchTemplateName="test/p")
        world.delete()
        world.minutes(10)
        assert "p" not in world.statuses.statuses

    def test_a_refusal_to_delete_it_is_tried_again(self, world: World) -> None:
        world.edit(target_size=0, image_id="ami-1")
        world.edit(target_size=1, image_id="ami-1")
        world.forward(5)
        world.delete()
        world.minutes(5)
        world.fault(action="DeleteLaunchTemplate", error="UnauthorizedOperation", times=2)
        world.minutes(12)
        error = world.status().answer.last_error
        assert error is not None
        assert error.code == "UnauthorizedOperation"
        assert world.calls["DeleteLaunchTemplate"] == 1, "it is no use every minute"
        world.minutes(33)
        assert "p" not in world.statuses.statuses
        assert [one.name for one in world.surroundings.templates.values()] == [TEMPLATE]


class TestRefusals:
    @pytest.mark.parametrize(
        ("attribute", "value", "missing"),
        [
            ("image_id", "ami-404", "ami-404"),
            ("key_name", "lost", "lost"),
            ("security_group_ids", ["sg-404"], "sg-404"),
        ],
    )
    def test_a_missing_resource_is_reported_in_ec2s_words(
        self, world: World, attribute: str, value: Any, missing: str
    ) -> None:
        world.surroundings.missing.add(missing)
        world.edit(target_size=1, **{attribute: value})
        waiting = world.status().answer.waiting
        assert waiting is not None
        assert waiting.reason is Reason.CONFIG
        assert missing in waiting.message
        assert "does not exist" in waiting.message

    def test_more_groups_than_the_quota_names_the_quota(self, world: World) -> None:
        world.edit(target_size=1, security_group_ids=[f"sg-{number}" for number in range(6)])
        waiting = world.status().answer.waiting
        assert waiting is not None
        assert waiting.reason is Reason.CONFIG
        assert "Security groups per network interface" in waiting.message

    @pytest.mark.parametrize("action", ["CreateLaunchTemplate", "DescribeLaunchTemplates"])
    def test_a_refused_template_is_reported_as_a_refused_launch(self, world: World, action: str) -> None:
        world.fault(action=action, error="UnauthorizedOperation", message="You may not do that.")
        world.edit(target_size=1, image_id="ami-1")
        waiting = world.status().answer.waiting
        assert waiting is not None
        assert (waiting.reason, waiting.count) == (Reason.CONFIG, 1)
        assert "You may not do that." in waiting.message
        assert world.calls["CreateFleet"] == 0
        world.minutes(17)
        assert len(world.alive()) == 1

    def test_a_lost_answer_after_creation_creates_no_second_template(self, world: World) -> None:
        world.fault(action="CreateLaunchTemplate", drop_connection=True, where="after")
        world.edit(target_size=1, image_id="ami-1")
        world.minutes(3)
        assert len(world.alive()) == 1
        assert len(own_template(world).versions) == 1


class TestKilled:
    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    def test_killed_while_the_template_is_created(self, world: World, after: bool) -> None:
        world.put(target_size=1, image_id="ami-1")
        with killed(world.client, "create_launch_template", after=after):
            reconcile("p", world.plane)
        world.minutes(3)
        assert len(world.alive()) == 1
        assert len(own_template(world).versions) == 1

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    def test_killed_while_a_version_is_added(self, world: World, after: bool) -> None:
        world.edit(target_size=1, image_id="ami-1")
        world.put(target_size=2, image_id="ami-2")
        with killed(world.client, "create_launch_template_version", after=after):
            reconcile("p", world.plane)
        world.minutes(3)
        assert len(world.alive()) == 2
        assert len(own_template(world).versions) == 2

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    def test_killed_while_the_template_is_deleted(self, world: World, after: bool) -> None:
        world.edit(target_size=1, image_id="ami-1")
        world.forward(5)
        world.delete()
        with killed(world.client, "delete_launch_template", after=after):
            world.minutes(10)
        world.minutes(3)
        assert "p" not in world.statuses.statuses
        assert [one.name for one in world.surroundings.templates.values()] == [TEMPLATE]

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    def test_killed_between_creation_and_launch(self, world: World, after: bool) -> None:
        world.put(target_size=1, image_id="ami-1")
        with killed(world.client, "create_fleet", after=after):
            reconcile("p", world.plane)
        world.delete()
        world.minutes(25)
        assert "p" not in world.statuses.statuses
        assert world.alive() == []
        assert [one.name for one in world.surroundings.templates.values()] == [TEMPLATE], "none is left behind"
