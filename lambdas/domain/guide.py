"""What each trouble means, what the system does about it, what a person can do: the words of alarms, docs and explain.

Each text stands here once. Alarm descriptions, ``spotpools explain``, docs/runbook.md and the README's table are made
from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lambdas.domain.model.errors import ROLE_MISSING, SERVICE_ROLE_COMMAND
from lambdas.domain.model.status import Reason


class Trouble(StrEnum):
    """All that can go wrong visibly; those with an alarm have its name."""

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
    """One trouble in three sentences or so each; ``look`` are commands that show more, {pool} stands for the pool."""

    means: str
    does: str
    do: str
    look: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it, as an alarm says it."""
        return f"{self.means} {self.does} {self.do}"


EXPLAIN = "spotpools explain {pool}"
HISTORY = "spotpools history {pool}"
LIST = "spotpools list"
DOCTOR = "spotpools doctor"

GUIDE: dict[Trouble, Advice] = {
    Trouble.BELOW_TARGET: Advice(
        "A pool has had fewer instances running than wanted for longer than the alarm allows.",
        "The control plane keeps trying, and says under `waiting` in PoolStatus why and when next.",
        "Add instance types or subnets to the pool, raise spot_max_price, or lower target_size.",
        (LIST, EXPLAIN),
    ),
    Trouble.WAITING_LONG: Advice(
        "A pool's shortfall is older than the alarm allows, whatever its reasons have been since.",
        "The control plane keeps trying; the oldest shortfall is tried first.",
        "See why it waits, and widen what the pool allows; or set fallback, so that it is filled on demand.",
        (EXPLAIN, HISTORY),
    ),
    Trouble.NO_CAPACITY: Advice(
        "EC2 has no capacity in any instance type and zone that the pool allows.",
        "Each offering is tried again after a pause that grows from 1 to 15 minutes.",
        "Allow more instance types or subnets, set fallback to buy on demand, or wait.",
        (EXPLAIN,),
    ),
    Trouble.NO_ADDRESSES: Advice(
        "Every subnet that the pool may use has no free address left.",
        "Other subnets of a zone are tried first; full ones are looked at again every minute.",
        "Free addresses, or list more subnets in subnet_ids. Spot capacity is not the cause, so fallback does not act.",
        (EXPLAIN,),
    ),
    Trouble.PRICE_ABOVE_MAX: Advice(
        "Every offering that the pool allows costs more than its spot_max_price.",
        "Nothing is launched above the cap; prices are looked at each minute, without a launch call.",
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
        "Nothing, unless it stays: then look in CloudTrail for who else calls EC2 so often.",
        (EXPLAIN,),
    ),
    Trouble.CONFIG: Advice(
        "EC2 refuses the launch for its configuration or a missing permission, or instances end before they are ready.",
        "It is tried again every 15 minutes, and at once after an edit; a rolling update stops, and the old fleet "
        "serves on.",
        "Mend what the message names: image, launch template (tagged for this stack?), subnets, groups, instance role, "
        "the volume's KMS key (context volume_key_arns). "
        f"If it says {ROLE_MISSING}, the account has no role for spot instances yet; create it once with: "
        f"{SERVICE_ROLE_COMMAND}",
        (EXPLAIN, HISTORY, DOCTOR),
    ),
    Trouble.MAX_INSTANCES: Advice(
        "What is missing, or is to replace others, does not fit below max_instances: instances under interruption "
        "notice still run and count, or each instance type counts for more than is left.",
        "Replacements follow when there is room.",
        "Leave more headroom: raise max_instances above target_size, with weights by the heaviest instance at least.",
        (EXPLAIN,),
    ),
    Trouble.UNKNOWN: Advice(
        "An answer of EC2 was lost, or an error came that nobody knows.",
        "The same request is sent again with the same token, which launches nothing twice; the third time it is "
        "CONFIG.",
        "Read the message; usually it passes.",
        (EXPLAIN, HISTORY),
    ),
    Trouble.ITEM_INVALID: Advice(
        "A pool item breaks a rule.",
        "The pool goes on under its last valid item; other pools are not affected.",
        "Correct the item: PoolStatus names each field, value, rule and remedy under `spec_errors`.",
        (EXPLAIN,),
    ),
    Trouble.STATUS_UNREADABLE: Advice(
        "An item of the PoolStatus table is not as the control plane writes it: edited by hand, or written by "
        "another version.",
        "Its pool is left alone until it is mended; other pools are not affected. The tick's log names the pool and "
        "what is wrong.",
        "Restore the attribute; one beside `controller` may be removed. Or wait ten minutes from this alarm on, so "
        "that EC2 shows all that was launched, and delete the item: it is made anew from EC2 and the pool item.",
        (LIST,),
    ),
    Trouble.INTERRUPTIONS: Advice(
        "EC2 has given a pool many interruption notices within an hour.",
        "Each instance is replaced at its notice, away from the offering that was taken.",
        "Allow more instance types and zones; leave allocation at price-capacity-optimized; set drain_command or "
        "on_rebalance, so that the work loses less.",
        (EXPLAIN,),
    ),
    Trouble.TERMINATIONS_REFUSED: Advice(
        "EC2 refused to terminate instances that a pool has too many of, so they go on costing money.",
        "It is tried again with the next tick; one that EC2 names is left alone for an hour, and others go in its "
        "place. PoolStatus quotes EC2 under `last_error`.",
        "Check the functions' rights (only instances that carry the stack's tag may be terminated) and the instances' "
        "termination protection.",
        (EXPLAIN, HISTORY),
    ),
    Trouble.DRAINS_REFUSED: Advice(
        "EventBridge or Systems Manager refused to tell an instance under interruption notice, so its workload was not "
        "drained.",
        "The instance is replaced all the same; PoolStatus quotes the refusal under `last_error` and `drains`.",
        "Check that the image runs the Systems Manager agent and that the instance profile allows it "
        "(AmazonSSMManagedInstanceCore).",
        (EXPLAIN,),
    ),
    Trouble.HEARTBEAT: Advice(
        "Reconciling has stopped: the tick that runs every minute has not finished for three minutes.",
        "Pools are not being kept at size and the gauges are stale. Instances keep running.",
        "Look at the log and the errors of the tick function, at its dead-letter queue, and whether the schedule is "
        "enabled.",
        (DOCTOR,),
    ),
    Trouble.FUNCTION_ERRORS: Advice(
        "A function of the control plane failed.",
        "Its trigger retries it, and each pool is looked at again every minute, so a single error heals by itself.",
        "If it stays, read the function's log: the error and the pool are in it.",
        (DOCTOR,),
    ),
    Trouble.FUNCTION_THROTTLES: Advice(
        "Lambda throttled a function of the control plane: the account's concurrency is used up.",
        "Its trigger retries it, so work is late and not lost.",
        "Raise the account's concurrency quota, or find the function that uses it up.",
        (DOCTOR,),
    ),
    Trouble.DEAD_LETTERS: Advice(
        "A dead-letter queue holds messages that failed on every try.",
        "The pools concerned are still looked at every minute.",
        "Read a message and the function's log for the cause; then redrive the queue or purge it, which ends the "
        "alarm.",
        (DOCTOR,),
    ),
    Trouble.QUEUE_AGE: Advice(
        "A message has waited in a queue longer than all its tries can take: nobody reads the queue.",
        "Reconciles are late or have stopped although the tick runs.",
        "Look at the errors and throttles of the function that reads it, and whether its event source mapping is "
        "enabled.",
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


def advice(reason: Reason) -> Advice:
    """What to say of a pool that waits for this reason."""
    return GUIDE[OF_A_REASON[reason]]
