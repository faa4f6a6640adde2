"""The demo's story in small: a pool fills, loses an instance, waits for a price, shrinks and goes."""

from __future__ import annotations

from datetime import datetime, timedelta

from botocore.exceptions import ClientError

from acceptance.instances import Seen
from acceptance.roles import drill_role
from acceptance.run import NotSeenError, Run
from cli import drill
from cli.aws_errors import client_error_text
from cli.logs import lines
from lambdas.domain.model.instances import ATTEMPT_TAG, POOL_TAG, STACK_TAG

POOL, SIZE, MOST = "accept-story", 2, 3
CHEAP = "accept-cheap"
TOO_LOW = "0.0011"
"""USD an hour: below every spot price, and above the least that EC2 accepts."""

EDIT_SECONDS, REPLACE_SECONDS, PRICE_SECONDS, END_SECONDS, EXPERIMENT_SECONDS = 300, 400, 180, 900, 420
ROLE_SECONDS = 60
TERMINATION = "an ordinary termination"

OUR_TAGS = {STACK_TAG, POOL_TAG, ATTEMPT_TAG}


def fill(run: Run) -> str:
    """Ask for two spot instances and look at them."""
    begun = run.now()
    run.put_pool({"pool_name": POOL, "instance_types": run.state.types, "target_size": SIZE, "max_instances": MOST})
    here = run.until(lambda: _running(run, SIZE), f"{SIZE} running instances", seconds=EDIT_SECONDS)
    seconds = (run.now() - begun).total_seconds()
    text = f"{SIZE} running after {seconds:.0f} s: {', '.join(sorted(map(_words, here)))}"
    run.judge("spot-launches", text, holds=all(one.answer.get("InstanceLifecycle") == "spot" for one in here))
    lacking = {one.id: OUR_TAGS - set(one.tags) for one in here if not set(one.tags) >= OUR_TAGS}
    if lacking:
        raise NotSeenError(f"tags that instances lack: {lacking}")
    if not run.local:
        _image(run, here)
        _requests(run)
    return text


def interrupt(run: Run) -> str:
    """Interrupt an instance as ``spotpools drill`` does, and wait for its replacement."""
    before, begun = {one.id for one in run.of_pool(POOL)}, run.now()
    started = _drill(run)
    what = f"a replacement of {started.instances[0]}"
    new = run.until(lambda: [one for one in run.of_pool(POOL) if one.id not in before], what, seconds=REPLACE_SECONDS)
    seconds = (min(one.launched for one in new) - begun).total_seconds()
    text = f"{started.instances[0]} interrupted by {started.by}, replaced by {new[0].id} {seconds:.1f} s later"
    if started.by == TERMINATION:
        return text
    what = "the notice in the function's log"
    heard = run.until(lambda: _heard(run, started.instances[0], begun), what, seconds=REPLACE_SECONDS)
    latency = (heard - begun).total_seconds()
    run.seen("event-latency", f"the function logged the notice {latency:.1f} s after the request to interrupt")
    if started.experiment:
        run.seen("drill", text)
        _end_of(run, started.experiment)
    return text


def price(run: Run) -> str:
    """Ask for an instance below every price: the pool must wait and launch nothing."""
    run.put_pool(
        {
            "pool_name": CHEAP,
            "instance_types": run.state.types,
            "target_size": 1,
            "max_instances": 1,
            "spot_max_price": TOO_LOW,
        }
    )

    def waiting() -> str | None:
        found = run.status(CHEAP).get("waiting") or {}
        return str(found["message"]) if found.get("reason") == "PRICE_ABOVE_MAX" else None

    text = run.until(waiting, "PoolStatus says PRICE_ABOVE_MAX", seconds=PRICE_SECONDS)
    if launched := run.of_pool(CHEAP):
        raise NotSeenError(f"{len(launched)} instances were launched above the price")
    _delete(run, CHEAP)
    return text


def shrink(run: Run) -> str:
    """Ask for no instance: all end, and make room for the steps that follow."""
    run.client("dynamodb").update_item(
        TableName=run.deployment.output("PoolsTable"),
        Key={"pool_name": {"S": POOL}},
        UpdateExpression="SET target_size = :size",
        ExpressionAttributeValues={":size": {"N": "0"}},
    )
    states = ("pending", "running", "shutting-down")
    run.until(lambda: not run.of_pool(POOL, *states), "no instance left", seconds=END_SECONDS)
    return "no instance left"


def leave(run: Run) -> str:
    """Delete the items: the pools go, and so does what the control plane made for them."""
    _delete(run, POOL)
    run.until(lambda: not run.status(POOL), "no status left", seconds=END_SECONDS)
    return "no status left"


def _drill(run: Run) -> drill.Drill:
    """Start the drill. Where FIS is not allowed, end an instance: the nearest thing, without a notice."""
    if run.local:
        return drill.start(run.deployment, POOL, count=1, role_arn=None)
    try:
        role = drill_role(run)

        # FIS refuses a role that IAM has just made, until IAM has spread it.
        def start() -> drill.Drill | None:
            try:
                return drill.start(run.deployment, POOL, count=1, role_arn=role)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ValidationException":
                    raise
                return None

        return run.until(start, "FIS accepts the role", seconds=ROLE_SECONDS)
    except (ClientError, NotSeenError) as error:
        why = client_error_text(error) if isinstance(error, ClientError) else str(error)
        for claim in ("drill", "drill-without-template", "event-latency"):
            run.not_seen(claim, f"no experiment was possible, so an instance was terminated instead: {why}")
        ended = min(one.id for one in run.of_pool(POOL, "running"))
        run.client("ec2").terminate_instances(InstanceIds=[ended])
        return drill.Drill(POOL, (ended,), TERMINATION)


def _delete(run: Run, pool: str) -> None:
    run.client("dynamodb").delete_item(TableName=run.deployment.output("PoolsTable"), Key={"pool_name": {"S": pool}})


def _running(run: Run, size: int) -> list[Seen] | None:
    found = run.of_pool(POOL, "running")
    return found if len(found) == size and run.status(POOL).get("running") == size else None


def _words(one: Seen) -> str:
    return f"{one.answer['InstanceType']} in {one.answer['Placement']['AvailabilityZone']}"


def _image(run: Run, here: list[Seen]) -> None:
    name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
    wanted = run.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
    found = {one.answer["ImageId"] for one in here}
    run.judge("image-parameter", f"{', '.join(sorted(found))}; the parameter names {wanted}", holds=found == {wanted})


def _requests(run: Run) -> None:
    ids = [one.id for one in run.of_pool(POOL)]
    found = run.client("ec2").describe_spot_instance_requests(Filters=[{"Name": "instance-id", "Values": ids}])
    tags = [sorted(tag["Key"] for tag in one.get("Tags", [])) for one in found["SpotInstanceRequests"]]
    run.seen("spot-request-tags", f"{len(tags)} requests, with the tags {tags}")


def _heard(run: Run, instance_id: str, since: datetime) -> datetime | None:
    """When the function that hears EC2's events logged the notice of an instance."""
    found = lines(
        run.client("logs"),
        run.deployment.log_group("SpotNoticeFunction"),
        since - timedelta(seconds=5),
        f'{{ $.message = "event" && $.instance = "{instance_id}" }}',
    )
    of_it = [at for at, line in found if line.get("instance") == instance_id and line.get("notes") == "interruption"]
    return min(of_it, default=None)


def _end_of(run: Run, experiment: str) -> None:
    def state() -> str | None:
        found = run.client("fis").get_experiment(id=experiment)["experiment"]["state"]
        return str(found["status"]) if found["status"] in ("completed", "stopped", "failed", "cancelled") else None

    status = run.until(state, "the experiment's end", seconds=EXPERIMENT_SECONDS)
    run.judge("drill-without-template", f"{experiment}: {status}", holds=status == "completed")
