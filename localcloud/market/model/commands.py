"""SSM commands and their results. No command really runs: the control interface sets the results."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from localcloud.market.model.instances import Instance
from localcloud.market.model.settings import Seconds

KILLED = 137
"""Exit code of a script that reached its time limit."""

Outcome = Literal["Success", "Failed", "Cancelled", "TimedOut"]


class CommandResult(BaseModel):
    """The result of commands that contain a text, on one or all instances, some seconds after they were sent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    contains: str = ""
    instance_id: str | None = None
    status: Outcome = "Success"
    response_code: int | None = None
    output: Annotated[str, Field(max_length=24_000)] = ""
    error_output: Annotated[str, Field(max_length=8_000)] = ""
    after_seconds: Seconds = 1

    def concerns(self, instance_id: str, lines: list[str]) -> bool:
        """Say whether it applies to these lines on this instance."""
        return self.instance_id in (None, instance_id) and self.contains in "\n".join(lines)

    @property
    def code(self) -> int:
        """Return the exit code of the script. -1: no code was reported."""
        if self.response_code is not None:
            return self.response_code
        return {"Success": 0, "Failed": 1, "TimedOut": KILLED}.get(self.status, -1)


@dataclass(frozen=True)
class Command:
    """A command as it was sent. ``results`` holds its result by instance."""

    id: str
    sent_at: datetime
    document: str
    parameters: dict[str, list[str]]
    comment: str
    results: dict[str, CommandResult]
    instances: list[Instance]

    @property
    def lines(self) -> list[str]:
        """Return the script's lines."""
        return self.parameters["commands"]

    def request(self) -> dict[str, Any]:
        """Return the parts of the request that both of SSM's answers repeat."""
        return {
            "CommandId": self.id,
            "DocumentName": self.document,
            "DocumentVersion": "$DEFAULT",
            "Comment": self.comment,
        }
