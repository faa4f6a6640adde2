"""The work queues, and a place for everything asynchronous that failed for good."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.stages import Stage

# Tries of one message before it is dead. A lost message costs a minute at most: the tick finds the pool anyway.
MAX_RECEIVES = 3


class Queues(Construct):
    """Standard queues: the pool's lease, not the queue, makes reconciles one at a time."""

    def __init__(self, scope: Construct, construct_id: str, *, stage: Stage) -> None:
        super().__init__(scope, construct_id)
        self._tls_only = stage.tls_only
        # AWS asks for six times the function's time limit, so that throttled deliveries do not look like failures.
        hidden = Duration.seconds(6 * stage.function_timeout)
        # A message that is being read is done or dead by then.
        self.longest_life_seconds = MAX_RECEIVES * hidden.to_seconds()
        self.tick_dead = self._queue("TickDead")
        self.edits_dead = self._queue("EditsDead")
        self.due_dead = self._queue("DueDead")
        self.notices_dead = self._queue("NoticesDead")
        self.due = self._queue("Due", dead=self.due_dead, visibility_timeout=hidden)
        # What a person waits for does not stand behind what the tick has found.
        self.edited = self._queue("Edited", dead=self.due_dead, visibility_timeout=hidden)
        self.notices = self._queue("Notices", dead=self.notices_dead, visibility_timeout=hidden)

    @property
    def dead(self) -> dict[str, sqs.Queue]:
        """Each dead-letter queue with what its messages were."""
        return {
            "ticks": self.tick_dead,
            "pool edits": self.edits_dead,
            "due pools": self.due_dead,
            "spot notices": self.notices_dead,
        }

    def _queue(
        self, construct_id: str, dead: sqs.Queue | None = None, visibility_timeout: Duration | None = None
    ) -> sqs.Queue:
        return sqs.Queue(
            self,
            construct_id,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=self._tls_only,
            visibility_timeout=visibility_timeout,
            # Work older than an hour has been done by ticks since; the dead wait for somebody to look.
            retention_period=Duration.hours(1) if dead else Duration.days(14),
            dead_letter_queue=sqs.DeadLetterQueue(queue=dead, max_receive_count=MAX_RECEIVES) if dead else None,
        )
