"""The texts of alarms, docs and explain: what each trouble means, what the system does, what a person can do.

Each text is written once. Alarm descriptions, ``spotpools explain``, docs/runbook.md and the README's table use it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from lambdas.domain.model.errors import ROLE_MISSING, SERVICE_ROLE_COMMAND
from lambdas.domain.model.status import Reason


class Trouble(StrEnum):
    """All visible troubles; those with an alarm have its name."""

    BELOW_TARGET = "pool-below-target"
    WAITING_LONG = "pool-waiting-long"
    NO_CAPACITY = "no-capacity"
    NO_ADDRESSES = "no-addresses"
    PRICE_ABOVE_MAX = "price-above-cap"
    QUOTA = "quota-reached"
    THROTTLED = "ec2-throttles"
    CONFIG = "launches-refused"
    MAX_INSTANCES = "max-instances"
    UNKNOWN = "unknown"
    ITEM_INVALID = "pool-item-invalid"
    STATUS_UNREADABLE = "status-unreadable"
    INTERRUPTIONS = "interruption-rate"
    TERMINATIONS_REFUSED = "terminations-refused"
    DRAINS_REFUSED = "drains-refused"
    HEARTBEAT = "heartbeat-missing"
    FUNCTION_ERRORS = "function-errors"
    FUNCTION_THROTTLES = "function-throttles"
    DEAD_LETTERS = "dead-letters"
    QUEUE_AGE = "queue-age"


@dataclass(frozen=True)
class Advice:
    """The texts about one trouble; ``look`` are commands that show more, {pool} stands for the pool."""

    means: str
    does: str
    do: str
    look: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All three texts, as an alarm shows them."""
        return f"{self.means} {self.does} {self.do}"


EXPLAIN = "spotpools explain {pool}"
HISTORY = "spotpools history {pool}"
LIST = "spotpools list"
DOCTOR = "spotpools doctor"

SET_FALLBACK = ", set fallback to buy on demand,"
"""What is no advice for a pool that has it."""

GUIDE: dict[Trouble, Advice] = {
    Trouble.BELOW_TARGET: Advice(
        "A pool has had fewer running instances than wanted for longer than the alarm allows.",
        "The control plane keeps trying. PoolStatus says under `waiting` why, and when it tries next.",
        "Add instance types or subnets to the pool, raise spot_max_price, or lower target_size.",
        (LIST, EXPLAIN),
    ),
    Trouble.WAITING_LONG: Advice(
        "A pool has lacked instances for longer than the alarm allows, whatever the reason.",
        "The control plane keeps trying, the pool that has waited longest first.",
        "Find out why it waits and allow the pool more types or zones, or set fallback to fill it on demand.",
        (EXPLAIN, HISTORY),
    ),
    Trouble.NO_CAPACITY: Advice(
        "EC2 has no capacity in any instance type and zone that the pool allows.",
        "It tries each offering again after a pause that grows from 1 to 15 minutes.",
        f"Allow more instance types or subnets{SET_FALLBACK} or wait.",
        (EXPLAIN,),
    ),
    Trouble.NO_ADDRESSES: Advice(
        "No subnet that the pool may use has a free address.",
        "It tries other subnets of the zone first, and checks full ones again every minute.",
        "Free addresses, or list more subnets in subnet_ids. Spot capacity is not the cause, so fallback does not "
        "help.",
        (EXPLAIN,),
    ),
    Trouble.PRICE_ABOVE_MAX: Advice(
        "Every offering that the pool allows costs more than its spot_max_price.",
        "It launches nothing above the cap. It checks prices every minute, without a launch call.",
        "Raise spot_max_price, allow more instance types or zones, or wait.",
        (EXPLAIN,),
    ),
    Trouble.QUOTA: Advice(
        "A quota of the account is used up (for spot: vCPUs per instance family and Region).",
        "The control plane tries again every 15 minutes.",
        "Ask for more under Service Quotas > Amazon EC2 > All ... Spot Instance Requests, or lower the target sizes.",
        (EXPLAIN, DOCTOR),
    ),
    Trouble.THROTTLED: Advice(
        "EC2 limits how often the account may call it.",
        "The control plane waits, longer each time, and sends few calls by itself.",
        "Usually nothing. If it lasts, find in CloudTrail who else calls EC2 so often.",
        (EXPLAIN,),
    ),
    Trouble.CONFIG: Advice(
        "EC2 refuses the launch because of its configuration or a missing permission, or instances fail to start.",
        "It tries again every 15 minutes, and at once after an edit. A rolling update stops; existing instances keep "
        "running.",
        "Fix what the message names: image, launch template (tagged for this stack?), subnets, groups, instance role, "
        "the volume's KMS key (context volume_key_arns). "
        f"If it says {ROLE_MISSING}, the account has no role for spot instances yet; create it once with: "
        f"{SERVICE_ROLE_COMMAND}",
        (EXPLAIN, HISTORY, DOCTOR),
    ),
    Trouble.MAX_INSTANCES: Advice(
        "New instances do not fit below max_instances: instances under interruption notice still run and count, or "
        "each instance type counts for more than is left. For a replacement: beside the instance that it replaces, it "
        "does not fit, or the types that fit are too light to replace it.",
        "It launches replacements as soon as there is room.",
        "Raise max_instances above target_size; with weights, by at least the heaviest instance.",
        (EXPLAIN,),
    ),
    Trouble.UNKNOWN: Advice(
        "An answer of EC2 was lost, or EC2 sent an unknown error.",
        "It sends the same request again with the same token, which launches nothing twice. After the third time the "
        "reason is CONFIG.",
        "Read the message. Usually it passes by itself.",
        (EXPLAIN, HISTORY),
    ),
    Trouble.ITEM_INVALID: Advice(
        "A pool item breaks a rule.",
        "The pool keeps its last valid item; other pools are not affected.",
        "Correct the item: PoolStatus names each field, value, rule and remedy under `spec_errors`.",
        (EXPLAIN,),
    ),
    Trouble.STATUS_UNREADABLE: Advice(
        "An item of the PoolStatus table is not as the control plane writes it: edited by hand, or written by "
        "another version.",
        "It does nothing for that pool until the item is fixed; other pools are not affected. The tick's log names the "
        "pool and what is wrong.",
        "Restore the attribute; you may remove an attribute outside `controller`. Or wait ten minutes after this "
        "alarm, so that EC2 shows all that was launched, then delete the item: it is created again from EC2 and the "
        "pool item.",
        (LIST,),
    ),
    Trouble.INTERRUPTIONS: Advice(
        "EC2 sent a pool many interruption notices within an hour.",
        "It replaces each instance at its notice, and avoids the offering that was interrupted.",
        "Allow more instance types and zones. Keep allocation at price-capacity-optimized. Set drain_command or "
        "on_rebalance, so that less work is lost.",
        (EXPLAIN,),
    ),
    Trouble.TERMINATIONS_REFUSED: Advice(
        "EC2 refused to terminate surplus instances of a pool, so they still cost money.",
        "It tries again with the next tick. It leaves an instance that EC2 named alone for an hour (two minutes, "
        "if a right is missing) and terminates others instead. PoolStatus quotes EC2 under `last_error`.",
        "Check the functions' permissions (they may terminate only instances with the stack's tag) and the instances' "
        "termination protection.",
        (EXPLAIN, HISTORY),
    ),
    Trouble.DRAINS_REFUSED: Advice(
        "EventBridge or Systems Manager refused to inform an instance under interruption notice, so its workload was "
        "not drained.",
        "It replaces the instance anyway. PoolStatus quotes the refusal under `last_error` and `drains`.",
        "Check that the image runs the Systems Manager agent and that the instance profile allows it "
        "(AmazonSSMManagedInstanceCore).",
        (EXPLAIN,),
    ),
    Trouble.HEARTBEAT: Advice(
        "Reconciling has stopped: the tick, which runs every minute, has not finished for three minutes.",
        "Nothing keeps pools at their size, and the metrics are stale. Instances keep running.",
        "Check the tick function's log and errors, its dead-letter queue, and whether its schedule is enabled.",
        (DOCTOR,),
    ),
    Trouble.FUNCTION_ERRORS: Advice(
        "A function of the control plane failed.",
        "Its trigger retries it, and the tick checks each pool every minute, so a single error heals by itself.",
        "If it lasts, read the function's log: it names the error and the pool.",
        (DOCTOR,),
    ),
    Trouble.FUNCTION_THROTTLES: Advice(
        "Lambda throttled a function of the control plane: the account's concurrency is used up.",
        "Its trigger retries it, so work is late but not lost.",
        "Raise the account's concurrency quota, or find the function that uses it.",
        (DOCTOR,),
    ),
    Trouble.DEAD_LETTERS: Advice(
        "A dead-letter queue holds messages that failed on every try.",
        "The tick still checks these pools every minute.",
        "Find the cause in a message and in the function's log. Then redrive or purge the queue, which ends the alarm.",
        (DOCTOR,),
    ),
    Trouble.QUEUE_AGE: Advice(
        "A message has waited in a queue for longer than all its tries take: no function reads the queue.",
        "Reconciles are late or have stopped, although the tick runs.",
        "Check the errors and throttles of the function that reads it, and that its event source mapping is enabled.",
        (DOCTOR,),
    ),
}

OF_A_REASON = {
    Reason.NO_CAPACITY: Trouble.NO_CAPACITY,
    Reason.NO_ADDRESSES: Trouble.NO_ADDRESSES,
    Reason.PRICE_ABOVE_MAX: Trouble.PRICE_ABOVE_MAX,
    Reason.QUOTA: Trouble.QUOTA,
    Reason.THROTTLED: Trouble.THROTTLED,
    Reason.CONFIG: Trouble.CONFIG,
    Reason.MAX_INSTANCES: Trouble.MAX_INSTANCES,
    Reason.UNKNOWN: Trouble.UNKNOWN,
}


def advice(reason: Reason, *, has_fallback: bool = False) -> Advice:
    """The advice for a pool that waits for this reason."""
    found = GUIDE[OF_A_REASON[reason]]
    return replace(found, do=found.do.replace(SET_FALLBACK, "")) if has_fallback else found
