"""Each EC2 right of a function is needed, and a missing one is reported: the deployed policies, right by right."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.cloud import LocalCloud
from localcloud.demo.pools import delete_pool, resize_pool
from tests.e2e.conftest import Site
from tests.support.callers import ec2_as

pytestmark = pytest.mark.long

ABOUT_EC2 = ("ec2:", "iam:", "ssm:")
LOOK, END, PRICES = "ec2:DescribeInstances", "ec2:TerminateInstances", "ec2:DescribeSpotPriceHistory"
SPOT_ROLES = "/aws-service-role/spot.amazonaws.com/"
INLINE = {"user_data": "#!/bin/sh\ntrue\n"}
BY_PROPERTIES = {
    "instance_types": None,
    "requirements": {"vcpus": {"min": 2, "max": 2}, "memory_gib": {"min": 8, "max": 8}},
}
NEEDED_BY: dict[str, dict[str, Any]] = {
    "CreatePoolTemplates": INLINE,
    "TagPoolTemplates": INLINE,
    "ec2:DescribeLaunchTemplates": INLINE,
    "ec2:GetInstanceTypesFromInstanceRequirements": BY_PROPERTIES,
}
"""Statements and actions that only some pools need, with the attributes of such a pool."""

NO_LAUNCH = (
    LOOK,
    END,
    "ec2:DescribeInstanceStatus",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeLaunchTemplateVersions",
    "ec2:CreateLaunchTemplateVersion",
    "ec2:DeleteLaunchTemplate",
    "ec2:DeleteLaunchTemplateVersions",
    "ssm:SendCommand",
    "ssm:GetCommandInvocation",
)
"""Rights that a first launch does not need. Tests below remove them one by one."""

SOON = 60
"""Seconds in which a refusal must be reported."""


class Role:
    """A function's deployed role."""

    def __init__(self, cloud: LocalCloud, output: str) -> None:
        self.function = cloud.client("lambda").get_function_configuration(FunctionName=cloud.outputs[output])
        self.name = self.function["Role"].rsplit("/", maxsplit=1)[-1]
        self._iam = cloud.client("iam")
        (self._policy,) = self._iam.list_role_policies(RoleName=self.name)["PolicyNames"]
        asked = {"RoleName": self.name, "PolicyName": self._policy}
        self._document: dict[str, Any] = self._iam.get_role_policy(**asked)["PolicyDocument"]

    def rights(self) -> list[tuple[str, str]]:
        """Each action of EC2 and its helpers, with the statement that allows it."""
        return [
            (statement["Sid"], action)
            for statement in self._document["Statement"]
            for action in _actions(statement)
            if action.startswith(ABOUT_EC2)
        ]

    @contextmanager
    def without(self, sid: str, action: str) -> Iterator[None]:
        """Remove an action from a statement, and the statement with its last action."""
        less = copy.deepcopy(self._document)
        for statement in less["Statement"]:
            if statement.get("Sid") == sid:
                statement["Action"] = [one for one in _actions(statement) if one != action]
        less["Statement"] = [one for one in less["Statement"] if one["Action"]]
        self._put(less)
        try:
            yield
        finally:
            self._put(self._document)

    def _put(self, document: dict[str, Any]) -> None:
        self._iam.put_role_policy(RoleName=self.name, PolicyName=self._policy, PolicyDocument=json.dumps(document))


def _actions(statement: dict[str, Any]) -> list[str]:
    given = statement["Action"]
    return [given] if isinstance(given, str) else list(given)


@contextmanager
def both_without(roles: tuple[Role, ...], sid: str, action: str) -> Iterator[None]:
    with ExitStack() as stack:
        for role in roles:
            stack.enter_context(role.without(sid, action))
        yield


@pytest.fixture(scope="module")
def reconcilers(cloud: LocalCloud) -> tuple[Role, Role]:
    """The roles that reconcile pools: after an edit or a tick, and after a notice."""
    return Role(cloud, "PoolDueFunction"), Role(cloud, "SpotNoticeFunction")


def statement_of(role: Role, action: str) -> str:
    (sid,) = (sid for sid, each in role.rights() if each == action)
    return sid


def until_quiet(site: Site, *alarms: str) -> datetime:
    """Wait until no alarm of earlier tests is active, and return the time."""
    names = [f"{site.cloud.stack}-{alarm}" for alarm in alarms]
    cloudwatch = site.cloud.client("cloudwatch")

    def quiet() -> bool:
        states = cloudwatch.describe_alarms(AlarmNames=names)["MetricAlarms"]
        return len(states) == len(names) and all(one["StateValue"] != "ALARM" for one in states)

    site.watcher.until(quiet, f"{alarms} do not ring", seconds=120)
    return datetime.now(UTC)


def until_told(site: Site, pool: str, action: str, role: Role) -> None:
    """Wait until a pool's status says that EC2 refused this action to this role."""

    def shown() -> bool:
        message = site.status(pool).get("last_error", {}).get("message", "")
        return f"perform: {action} on" in message and f"/{role.name}/" in message

    site.watcher.until(shown, f"{pool} tells that {role.name} may not {action}", seconds=SOON)


def until_rung(site: Site, alarm: str, *, since: datetime) -> None:
    site.watcher.until(lambda: site.watcher.alarm(alarm, since=since), f"the message of {alarm}", seconds=60)


def test_without_any_one_right_to_launch_a_pool_waits_and_names_the_right(
    site: Site, reconcilers: tuple[Role, Role]
) -> None:
    after_edits, after_notices = reconcilers
    lacks = [(sid, action) for sid, action in after_edits.rights() if action not in NO_LAUNCH]
    assert set(after_notices.rights()) == set(after_edits.rights())
    assert {"ec2:CreateFleet", "ec2:RunInstances", "ec2:CreateTags"} < {action for _, action in lacks}
    pools = [f"lacking-{number}" for number in range(len(lacks))]
    since = until_quiet(site, "launches-refused")
    for pool, (sid, action) in zip(pools, lacks, strict=True):
        with lacking(site.cloud, after_edits, sid, action):
            site.put(pool, target_size=1, **kind_of(sid, action))
            until_told(site, pool, action, after_edits)
            assert site.status(pool)["waiting"]["reason"] == "CONFIG", (sid, action)
    until_rung(site, "launches-refused", since=since)
    kinds = {pool: kind_of(*lack) for pool, lack in zip(pools, lacks, strict=True)}
    until_fixed(site, kinds, max_instances=4)
    with standing_still(site.cloud, after_edits):
        for pool, (sid, action) in zip(pools, lacks, strict=True):
            if kinds[pool] is INLINE:
                continue  # its template exists and is visible
            with lacking(site.cloud, after_notices, sid, action):
                (instance,) = site.instances(pool, "running")
                site.market.interrupt(instance["instance_id"], notice_seconds=5)
                until_told(site, pool, action, after_notices)
                assert site.status(pool)["waiting"]["reason"] == "CONFIG", (sid, action)
    until_fixed(site, kinds, max_instances=5)


def kind_of(sid: str, action: str) -> dict[str, Any]:
    """The attributes with which a pool needs this right."""
    return NEEDED_BY.get(sid, NEEDED_BY.get(action, {}))


def until_fixed(site: Site, kinds: dict[str, dict[str, Any]], max_instances: int) -> None:
    """Edit the pools, so that they are tried at once, and wait until they have their size."""
    for pool, kind in kinds.items():
        site.put(pool, target_size=1, max_instances=max_instances, **kind)
    for pool in kinds:
        site.until_running(pool, 1, seconds=90)


@contextmanager
def lacking(cloud: LocalCloud, role: Role, sid: str, action: str) -> Iterator[None]:
    with role.without(sid, action):
        if action == "iam:CreateServiceLinkedRole":
            forget_spot_role(cloud)
        yield


@contextmanager
def standing_still(cloud: LocalCloud, role: Role) -> Iterator[None]:
    """Stop a function from reading its queues, so that another one reconciles."""
    functions, name = cloud.client("lambda"), role.function["FunctionName"]
    mappings = functions.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
    for mapping in mappings:
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        yield
    finally:
        for mapping in mappings:
            functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


def forget_spot_role(cloud: LocalCloud) -> None:
    """Make the account one that never launched a spot instance."""
    iam = cloud.client("iam")
    for role in iam.list_roles(PathPrefix=SPOT_ROLES)["Roles"]:
        iam.delete_service_linked_role(RoleName=role["RoleName"])


def test_without_the_right_to_list_each_function_sets_off_an_alarm(site: Site, reconcilers: tuple[Role, Role]) -> None:
    tick = Role(site.cloud, "TickFunction")
    after_edits, after_notices = reconcilers
    site.put("watched", target_size=1)
    site.until_running("watched", 1)
    (instance,) = site.instances("watched", "running")
    alarms = [f"{function}-errors" for function in ("on-tick", "on-pool-due", "on-spot-notice")]
    since = until_quiet(site, *alarms)
    with both_without((tick, after_edits, after_notices), statement_of(tick, LOOK), LOOK):
        answer = site.cloud.client("lambda").invoke(FunctionName=tick.function["FunctionName"], Payload=b"{}")
        assert f"{LOOK} on resource" in answer["Payload"].read().decode()
        site.put("unseen", target_size=1)
        until_told(site, "unseen", LOOK, after_edits)
        site.market.interrupt(instance["instance_id"], notice_seconds=5)
        site.watcher.until(
            lambda: f"{LOOK} on resource" in log_of(site.cloud, after_notices, since), "the error's log", seconds=SOON
        )
        # On this cloud an error of one function sets off the alarms of all. Above, each one failed.
        for alarm in alarms:
            until_rung(site, alarm, since=since)
        assert site.ever_launched("unseen") == []
    with tick.without(statement_of(tick, PRICES), PRICES):
        site.watcher.until(
            lambda: f"{PRICES} on resource" in log_of(site.cloud, tick, since), "the tick's error", seconds=SOON
        )
    site.until_running("unseen", 1, seconds=60)
    site.until_running("watched", 1, seconds=60)


def log_of(cloud: LocalCloud, role: Role, since: datetime) -> str:
    """The log lines of a function since then."""
    group = role.function["LoggingConfig"]["LogGroup"]
    pages = (
        cloud.client("logs")
        .get_paginator("filter_log_events")
        .paginate(logGroupName=group, startTime=int(since.timestamp() * 1000))
    )
    return "\n".join(event["message"] for page in pages for event in page["events"])


def test_without_the_right_to_terminate_excess_instances_stay_and_an_alarm_says_so(
    site: Site, reconcilers: tuple[Role, Role]
) -> None:
    after_edits, after_notices = reconcilers
    site.put("shrinking", target_size=3)
    site.until_running("shrinking", 3, seconds=60)
    since = until_quiet(site, "terminations-refused")
    with both_without(reconcilers, statement_of(after_edits, END), END):
        resize_pool(site.cloud, "shrinking", 1)
        until_told(site, "shrinking", END, after_edits)
        until_rung(site, "terminations-refused", since=since)
        with standing_still(site.cloud, after_edits):
            site.watcher.until(lambda: may_end(site, "shrinking"), "the next try may start", seconds=120)
            site.market.interrupt(site.instances("shrinking")[0]["instance_id"], notice_seconds=5)
            until_told(site, "shrinking", END, after_notices)
        assert len(site.instances("shrinking", "running")) >= 2
    site.until_running("shrinking", 1, seconds=120)


def may_end(site: Site, pool: str) -> bool:
    """Whether no instance of the pool is left alone any more because EC2 refused to terminate it."""
    left_alone: dict[str, str] = site.status(pool)["controller"]["memory"]["shielded"]
    return all(datetime.fromisoformat(until) < datetime.now(UTC) for until in left_alone.values())


def test_each_missing_right_of_a_running_pool_is_reported(site: Site, reconcilers: tuple[Role, Role]) -> None:
    """Status checks, a changed description, a drain command and its result, the end of a pool's own template."""
    after_edits, _ = reconcilers
    item = {"max_instances": 4, "drain_command": "true", "update": "rolling"}

    def without(action: str) -> AbstractContextManager[None]:
        return both_without(reconcilers, statement_of(after_edits, action), action)

    def is_stopped() -> bool:
        return bool(site.status("lives").get("rollout", {}).get("state") == "STOPPED")

    def until_one_tells(action: str) -> None:
        def shown() -> bool:
            return action in str(site.status("lives").get("last_error", {}).get("message", ""))

        site.watcher.until(shown, f"a refused {action} is shown", seconds=SOON)

    with without("ec2:DescribeInstanceStatus"):
        site.put("lives", target_size=1, user_data="#!/bin/sh\n: one\n", **item)
        until_one_tells("ec2:DescribeInstanceStatus")
    site.watcher.until(lambda: site.status("lives").get("ready") == 1, "it is ready", seconds=SOON)
    with without("ec2:DescribeLaunchTemplateVersions"):
        site.put("lives", target_size=1, user_data="#!/bin/sh\n: looked for\n", **item)
        until_one_tells("ec2:DescribeLaunchTemplateVersions")
    with without("ec2:CreateLaunchTemplateVersion"):
        site.put("lives", target_size=1, user_data="#!/bin/sh\n: two\n", **item)
        until_one_tells("ec2:CreateLaunchTemplateVersion")
        # Not at once: for a minute the refusal may mean that the template is not visible everywhere yet.
        site.watcher.until(is_stopped, "its rollout stops", seconds=90)
    site.put("lives", target_size=1, user_data="#!/bin/sh\n: three\n", **item)
    site.watcher.until(lambda: "rollout" not in site.status("lives"), "it has rolled", seconds=90)
    since = until_quiet(site, "drains-refused")
    with both_without(reconcilers, "DrainOwnInstances", "ssm:SendCommand"):
        site.market.interrupt(site.instances("lives", "running")[0]["instance_id"], notice_seconds=30)
        until_one_tells("ssm:SendCommand")
        until_rung(site, "drains-refused", since=since)
    with without("ssm:GetCommandInvocation"):
        site.until_running("lives", 1)
        site.market.interrupt(site.instances("lives", "running")[-1]["instance_id"], notice_seconds=30)
        until_one_tells("ssm:GetCommandInvocation")
    with without("ec2:DeleteLaunchTemplate"):
        delete_pool(site.cloud, "lives")
        until_one_tells("ec2:DeleteLaunchTemplate")
    site.watcher.until(lambda: not site.status("lives"), "the pool and its template are gone", seconds=90)


def test_iam_itself_protects_instances_of_others(site: Site, reconcilers: tuple[Role, Role]) -> None:
    site.put("ours", target_size=1)
    site.until_running("ours", 1)
    (ours,) = (one["instance_id"] for one in site.instances("ours"))
    site.put("theirs", target_size=1)
    site.until_running("theirs", 1)
    (theirs,) = (one["instance_id"] for one in site.instances("theirs"))
    administrator = site.cloud.client("ec2")
    administrator.create_tags(Resources=[theirs], Tags=[{"Key": "spotpools:stack", "Value": "another"}])
    for role in reconcilers:
        ec2 = ec2_as(role.function, site.cloud.market.url)
        for call, asked in (
            (ec2.terminate_instances, {"InstanceIds": [theirs]}),
            (ec2.terminate_instances, {"InstanceIds": [ours, theirs]}),
            (ec2.stop_instances, {"InstanceIds": [theirs]}),
            # It cannot be tagged as ours first, either.
            (ec2.create_tags, {"Resources": [theirs], "Tags": [{"Key": "spotpools:stack", "Value": site.cloud.stack}]}),
            (ec2.delete_tags, {"Resources": [theirs], "Tags": [{"Key": "spotpools:stack"}]}),
        ):
            with pytest.raises(ClientError, match="UnauthorizedOperation"):
                call(**asked)
    assert [one["state"] for one in site.instances("theirs") + site.instances("ours")] == ["running", "running"]
    administrator.terminate_instances(InstanceIds=[theirs])


def test_a_role_for_instances_must_be_named_at_deploy_time(site: Site, reconcilers: tuple[Role, Role]) -> None:
    after_edits, _ = reconcilers
    iam, name = site.cloud.client("iam"), "machines"
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    tags = [{"Key": "spotpools:stack", "Value": site.cloud.stack}]
    site.cloud.client("ec2").create_launch_template(
        LaunchTemplateName=name,
        LaunchTemplateData={"ImageId": "ami-1", "IamInstanceProfile": {"Name": name}},
        TagSpecifications=[{"ResourceType": "launch-template", "Tags": tags}],
    )
    site.put("with-role", target_size=1, launch_template={"name": name})
    until_told(site, "with-role", "iam:PassRole", after_edits)
    assert site.status("with-role")["waiting"]["reason"] == "CONFIG"
    allowed = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": role}
    named = {"RoleName": after_edits.name, "PolicyName": "as-if-named"}
    iam.put_role_policy(**named, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}))
    try:
        site.put("with-role", target_size=1, launch_template={"name": name}, max_instances=2)
        site.until_running("with-role", 1)
    finally:
        iam.delete_role_policy(**named)
