"""The work queues, and dead-letter queues for everything asynchronous that failed on every try."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.stages import Stage

# Tries of one message before it is a dead letter. A lost one costs a minute at most: the tick finds the pool anyway.
MAX_RECEIVES = 3

# A notice is useful for two minutes, and is tried again within seconds for about as long. After that the queue's own
# time-out applies: what AWS Health announces appears nowhere else.
MAX_NOTICE_RECEIVES = 15


class Queues(Construct):
    """Standard queues: the pool's lease, not the queue, prevents two reconciles of a pool at a time."""

    def __init__(self, scope: Construct, construct_id: str, *, stage: Stage) -> None:
        super().__init__(scope, construct_id)
        self._tls_only = stage.tls_only
        # AWS recommends six times the function's time limit, so that throttled deliveries do not look like failures.
        hidden = 6 * stage.function_timeout
        self.tick_dead = self._queue("TickDead")
        self.edits_dead = self._queue("EditsDead")
        self.due_dead = self._queue("DueDead")
        self.notices_dead = self._queue("NoticesDead")
        self.alarms_dead = self._queue("AlarmsDead")
        self.due = self._queue("Due", dead=self.due_dead, hidden=hidden)
        # A person waits for an edit, so edits do not queue behind the pools that the tick found.
        self.edited = self._queue("Edited", dead=self.due_dead, hidden=hidden)
        # As short as Lambda allows, for the notices of an aborted invocation. Reading one twice is harmless.
        self.notices = self._queue(
            "Notices", dead=self.notices_dead, hidden=stage.function_timeout, receives=MAX_NOTICE_RECEIVES
        )
        self.alarms = self._queue("Alarms", dead=self.alarms_dead, hidden=hidden)
        self.longest_life_seconds = {
            "due-pools": MAX_RECEIVES * hidden,
            "edited-pools": MAX_RECEIVES * hidden,
            "notices": MAX_NOTICE_RECEIVES * stage.function_timeout,
            "alarm-events": MAX_RECEIVES * hidden,
        }
        """After this time a message that functions read is handled, or is a dead letter."""

    @property
    def dead(self) -> dict[str, sqs.Queue]:
        """Each dead-letter queue, by the kind of its messages."""
        return {
            "ticks": self.tick_dead,
            "pool edits": self.edits_dead,
            "due pools": self.due_dead,
            "spot notices": self.notices_dead,
            "alarm events": self.alarms_dead,
        }

    def _queue(
        self,
        construct_id: str,
        dead: sqs.Queue | None = None,
        *,
        hidden: int | None = None,
        receives: int = MAX_RECEIVES,
    ) -> sqs.Queue:
        return sqs.Queue(
            self,
            construct_id,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=self._tls_only,
            visibility_timeout=Duration.seconds(hidden) if hidden else None,
            # Ticks have done any work older than an hour. Dead letters wait for a person to check them.
            retention_period=Duration.hours(1) if dead else Duration.days(14),
            dead_letter_queue=sqs.DeadLetterQueue(queue=dead, max_receive_count=receives) if dead else None,
        )
