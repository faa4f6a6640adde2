"""``drill``: interrupts instances of a pool as EC2 does: notice first, termination two minutes later.

On AWS a drill is an experiment of the Fault Injection Service (FIS). On the local cloud the market interrupts.
"""

from __future__ import annotations

import json
import random
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cli.deployment import Deployment
from cli.exits import AwsFaultError, RefusedError
from lambdas.domain.item.pool import Market
from lambdas.domain.model.instances import POOL_TAG, STACK_TAG, Instance, State

ACTION = "aws:ec2:send-spot-instance-interruptions"
PER_ACTION = 5
"""Most instances per action of an experiment: the limit of a FIS target."""

AT_ONCE = 10
"""Most parallel actions of an experiment: the default account quota."""

NOTICE = "PT2M"


@dataclass(frozen=True)
class Drill:
    """A drill that was started. ``experiment`` is the FIS id, or None on the local cloud."""

    pool: str
    instances: tuple[str, ...]
    by: str
    experiment: str | None = None


def start(deployment: Deployment, pool_name: str, *, count: int, role_arn: str | None) -> Drill:
    """Interrupt ``count`` running spot instances of a pool, chosen at random."""
    deployment.pools.get(pool_name)  # raises NoSuchPoolError before the first call to EC2
    ids = drawn(deployment.fleet().instances(pool_name), count, pool_name)
    if deployment.market_url:
        _tell_market(deployment.market_url, ids)
        return Drill(pool_name, ids, "the local market")
    if role_arn is None:
        raise RefusedError(
            "On AWS a drill is an experiment of the Fault Injection Service. It needs a role: pass --role-arn. "
            "The role trusts fis.amazonaws.com and allows ec2:DescribeInstances and ec2:SendSpotInstanceInterruptions."
        )
    if count > PER_ACTION * AT_ONCE:
        raise RefusedError(
            f"An experiment interrupts at most {PER_ACTION * AT_ONCE} instances at once ({AT_ONCE} actions of "
            f"{PER_ACTION}), but {count} were requested. Interrupt fewer at a time."
        )
    return _experiment(deployment, pool_name, ids, role_arn)


def drawn(instances: Iterable[Instance], count: int, pool_name: str) -> tuple[str, ...]:
    """Choose ``count`` running spot instances at random. Raises RefusedError if there are fewer."""
    ids = sorted(one.id for one in instances if one.state is State.RUNNING and one.market is Market.SPOT)
    if len(ids) < count:
        raise RefusedError(f"Pool {pool_name} has {len(ids)} running spot instances, so {count} cannot be interrupted.")
    return tuple(sorted(random.sample(ids, count)))


def template(pool_name: str, ids: tuple[str, ...], *, stack: str, arn: str, role_arn: str) -> dict[str, Any]:
    """Build the experiment: parallel actions of up to five instances. ``arn`` is an instance ARN without the id."""
    batches = {
        f"batch{number}": ids[start : start + PER_ACTION]
        for number, start in enumerate(range(0, len(ids), PER_ACTION), 1)
    }
    return {
        "description": f"Interruption drill of pool {pool_name} ({stack})"[:512],
        "stopConditions": [{"source": "none"}],
        "roleArn": role_arn,
        "targets": {
            name: {
                "resourceType": "aws:ec2:spot-instance",
                "resourceArns": [f"{arn}{id_}" for id_ in some],
                "selectionMode": "ALL",
            }
            for name, some in batches.items()
        },
        "actions": {
            name: {
                "actionId": ACTION,
                "parameters": {"durationBeforeInterruption": NOTICE},
                "targets": {"SpotInstances": name},
            }
            for name in batches
        },
        "tags": {STACK_TAG: stack, POOL_TAG: pool_name},
    }


def _experiment(deployment: Deployment, pool_name: str, ids: tuple[str, ...], role_arn: str) -> Drill:
    caller = deployment.client("sts").get_caller_identity()
    partition = caller["Arn"].split(":")[1]
    arn = f"arn:{partition}:ec2:{deployment.region}:{caller['Account']}:instance/"
    fis = deployment.client("fis")
    body = template(pool_name, ids, stack=deployment.stack, arn=arn, role_arn=role_arn)
    made = fis.create_experiment_template(clientToken=str(uuid.uuid4()), **body)["experimentTemplate"]["id"]
    try:
        started = fis.start_experiment(clientToken=str(uuid.uuid4()), experimentTemplateId=made, tags=body["tags"])
    finally:
        fis.delete_experiment_template(id=made)  # a running experiment continues without its template
    return Drill(pool_name, ids, "the AWS Fault Injection Service", str(started["experiment"]["id"]))


def _tell_market(url: str, ids: tuple[str, ...]) -> None:
    body = json.dumps({"instance_ids": list(ids)}).encode()
    request = urllib.request.Request(  # noqa: S310  the local market's own URL
        f"{url}/market/interrupt", data=body, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310  as above
            pass
    except urllib.error.HTTPError as error:
        raise AwsFaultError(f"The local market refused: {error.read().decode(errors='replace')}") from None
    except OSError as error:
        raise AwsFaultError(f"The local market does not answer at {url}: {error}") from None
