"""SSM's SendCommand and GetCommandInvocation for the market's instances.

A running instance accepts commands. If it ends before a command has finished, the command stays in progress until the
script's time limit, as on AWS when an instance no longer answers.
"""

from datetime import datetime, timedelta
from typing import Any

from localcloud.market.model.commands import Command, CommandResult
from localcloud.market.model.errors import EC2Error
from localcloud.market.model.market import Market, iso
from localcloud.market.model.requests import Actions, Answer, Params, refuse_unknown

DOCUMENT = "AWS-RunShellScript"
_MOST_INSTANCES = 50
_DELIVERY_SECONDS = 3600
_EXECUTION_SECONDS = 3600
_DETAILS = {"TimedOut": "ExecutionTimedOut"}


def send_command(market: Market, params: Params) -> Answer:
    """Send a shell script to running instances. If one of them is not running, no instance gets it."""
    refuse_unknown("SendCommand", params, {"DocumentName", "InstanceIds", "Parameters", "TimeoutSeconds", "Comment"})
    if params["DocumentName"] != DOCUMENT:
        raise EC2Error("InvalidDocument", f"The document {params['DocumentName']} is not known to this market")
    ids = params.get("InstanceIds") or []
    if not 1 <= len(ids) <= _MOST_INSTANCES:
        raise EC2Error("ValidationException", f"InstanceIds must name 1 to {_MOST_INSTANCES} instances")
    if len(set(ids)) < len(ids):
        raise EC2Error("DuplicateInstanceId", "You can't specify an instance ID in more than one association")
    parameters = params.get("Parameters") or {}
    if not parameters.get("commands"):
        raise EC2Error("InvalidParameters", "Parameter commands is required")
    wrong = [one for one in ids if not _takes_commands(market, one)]
    if wrong:
        raise EC2Error(
            "InvalidInstanceId", f"Instances [[{', '.join(wrong)}]] not in a valid state for account {market.account}"
        )
    lines = parameters["commands"]
    rules = [*reversed(market.command_results), CommandResult()]
    command = Command(
        id=market.new_uuid(),
        sent_at=market.clock(),
        document=DOCUMENT,
        parameters=parameters,
        comment=params.get("Comment", ""),
        results={one: next(rule for rule in rules if rule.concerns(one, lines)) for one in ids},
        instances=[market.instances[one] for one in ids],
    )
    market.commands[command.id] = command
    market.note_call("SendCommand", instance_ids=ids, command_id=command.id)
    delivery = params.get("TimeoutSeconds", _DELIVERY_SECONDS)
    described = command.request() | {
        "Parameters": parameters,
        "InstanceIds": ids,
        "Targets": [],
        "RequestedDateTime": command.sent_at.replace(microsecond=0),
        "ExpiresAfter": (command.sent_at + timedelta(seconds=delivery + _execution_seconds(command))).replace(
            microsecond=0
        ),
        "TimeoutSeconds": delivery,
        "Status": "Pending",
        "StatusDetails": "Pending",
        "TargetCount": len(ids),
        "CompletedCount": 0,
        "ErrorCount": 0,
    }
    return {"Command": described}


def get_command_invocation(market: Market, params: Params) -> Answer:
    """Return the current result of a command on an instance."""
    refuse_unknown("GetCommandInvocation", params, {"CommandId", "InstanceId"})
    command = market.commands.get(params["CommandId"])
    instance_id = params["InstanceId"]
    lag = market.lasting(market.settings.describe_lag_seconds)
    if command is None or instance_id not in command.results or market.clock() < command.sent_at + lag:
        raise EC2Error("InvocationDoesNotExist", f"Invocation not found for {params['CommandId']}, {instance_id}")
    ended_at, result = _end(market, command, instance_id)
    through = market.clock() >= ended_at
    status = result.status if through else "InProgress"
    began = {"ExecutionStartDateTime": iso(command.sent_at)} if through else {}
    return (
        command.request()
        | began
        | {
            "InstanceId": instance_id,
            "PluginName": "aws:runShellScript",
            "Status": status,
            "StatusDetails": _DETAILS.get(status, status),
            "ResponseCode": result.code if through else -1,
            "ExecutionEndDateTime": iso(ended_at) if through else "",
            "ExecutionElapsedTime": f"PT{(ended_at - command.sent_at).total_seconds():g}S" if through else "",
            "StandardOutputContent": result.output if through else "",
            "StandardErrorContent": result.error_output if through else "",
            "StandardOutputUrl": "",
            "StandardErrorUrl": "",
        }
    )


def describe_commands(market: Market) -> list[dict[str, Any]]:
    """Return all commands, oldest first, with their results, for the control interface."""
    return [
        {
            "command_id": command.id,
            "sent_at": iso(command.sent_at),
            "commands": command.lines,
            "comment": command.comment,
            "invocations": {
                instance_id: result.status if market.clock() >= ended_at else "InProgress"
                for instance_id in command.results
                for ended_at, result in [_end(market, command, instance_id)]
            },
        }
        for command in market.commands.values()
    ]


def _end(market: Market, command: Command, instance_id: str) -> tuple[datetime, CommandResult]:
    """Return when a command ends on an instance, and its result."""
    result = command.results[instance_id]
    ended_at = command.sent_at + market.lasting(result.after_seconds)
    (instance,) = (one for one in command.instances if one.id == instance_id)
    gone_at = next((step.at for step in instance.transitions if step.state == "terminated"), None)
    if gone_at is None or ended_at <= gone_at:
        return ended_at, result
    # A terminated instance cannot report an exit code.
    given_up_at = command.sent_at + market.lasting(_execution_seconds(command))
    return given_up_at, CommandResult(status="TimedOut", response_code=-1)


def _execution_seconds(command: Command) -> float:
    return float(command.parameters.get("executionTimeout", [str(_EXECUTION_SECONDS)])[0])


def _takes_commands(market: Market, instance_id: str) -> bool:
    """Say whether an instance is running and its agent has started."""
    instance = market.instances.get(instance_id)
    running_at = instance.running_at() if instance and instance.state == "running" else None
    return running_at is not None and market.clock() >= running_at + market.drawn(
        market.settings.agent_seconds, instance_id, "agent"
    )


SSM_ACTIONS: Actions = {
    "SendCommand": send_command,
    "GetCommandInvocation": get_command_invocation,
}
