"""What the handler of a batch task can see and do: the batch, and each of its jobs."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NoReturn

from . import _outcomes
from ._context import CancelReason, Context, Sink, _current
from ._errors import InvalidArgument, RetryAfter, Snooze
from ._leases import Lease, Outcome
from ._tasks import Task, TaskCall
from ._types import Duration, to_seconds
from .v1 import common_pb2

_GRAVEST: tuple[CancelReason, ...] = ("lease_lost", "timeout", "shutdown", "workflow", "requested")


class BatchJob(Context):
    """One job of a batch: a Context of its own, with its id and input, and ways to say how it ended.

    A job of which nothing is said succeeds when the handler returns, with its place in the returned list as result, and
    has what the handler raised otherwise. What was said last counts.

    id: as job_id. input: as the handler gets it.
    """

    def __init__(self, lease: Lease, limits: common_pb2.Limits, sink: Sink, input: Any) -> None:
        super().__init__(lease, limits, sink)
        self.id = self.job_id
        self.input = input
        self._own: Callable[[Task[Any, Any]], Outcome | None] | None = None

    def succeed(self, result: Any = None) -> None:
        """It is done. result: a JSON value."""
        self._own = lambda _: _outcomes.returned(self, result, self._limits.max_result_bytes)

    def fail(self, error: BaseException | str) -> None:
        """It failed with this exception, as if it had been raised for it alone, classifiers included.

        NonRetryable, Discard, Release mean what they always do; `Cancelled()` says that it obeyed a cancellation.
        """
        raised = Exception(error) if isinstance(error, str) else error
        if not isinstance(raised, BaseException):
            raise InvalidArgument(f"error: expected an exception or a message, got {error!r}", field="error")
        self._own = lambda task: _outcomes.raised(self._lease, self, raised, task)

    def retry_after(self, delay: Duration, message: str = "") -> None:
        """It failed; run again `delay` from now, never earlier."""
        to_seconds(delay, "delay")
        self.fail(RetryAfter(delay, message))

    def snooze(self, delay: Duration, *, throttle: Literal["key", "queue"] | None = None, reason: str = "") -> None:
        """Not now: run again `delay` from now. Uses up no attempt. throttle: as of Snooze."""
        to_seconds(delay, "delay")
        self.fail(Snooze(delay, throttle=throttle, reason=reason))

    def enqueue(
        self, job: TaskCall[Any] | str, payload: Any = None, /, *, always: bool = False, **options: Any
    ) -> None:
        """Enqueues a job together with this one's outcome; as `Context.enqueue`."""
        before = _current.set(self)  # it belongs to the trace of this job
        try:
            super().enqueue(job, payload, always=always, **options)
        finally:
            _current.reset(before)

    @functools.cached_property
    def log(self) -> logging.Logger:
        """A logger whose lines go to the log of this job only; others' go to those of the whole batch."""
        logger = _JobLogger(f"jobwire.task.{self.type}")
        logger.parent, logger.job = logging.getLogger(logger.name), self
        return logger

    def _outcome(self, task: Task[Any, Any], otherwise: Callable[[], Outcome | None]) -> Outcome | None:
        return otherwise() if self._own is None else self._own(task)


class BatchContext(Context):
    """The running batch: a sequence of its jobs, in the order of the handler's inputs.

    What is said of all: `progress` and `log` reach each job; `cancelled` is true once every job was asked to stop, as
    on timeout and shutdown, or when each was cancelled by itself. `deadline` is that of the shortest timeout.
    `attempt`, `max_attempts` and `delivery` are those of the job with most attempts, `queue`, `fairness_key` and `tags`
    what all share; there is no `job_id`. Checkpoints, dependencies and `enqueue` are of single jobs:
    `ctx.jobs[0].enqueue(…)`.

    jobs: one BatchJob for each input.
    """

    def __init__(self, jobs: Sequence[BatchJob], leases: Sequence[Lease], sink: Sink) -> None:
        self.jobs: tuple[BatchJob, ...] = tuple(jobs)
        self._leases = leases
        self._sink = sink
        oldest = max(self.jobs, key=lambda job: job.attempt)
        self.job_id, self._client = "", None
        self.type, self.attempt, self.max_attempts = oldest.type, oldest.attempt, oldest.max_attempts
        self.delivery, self.deadline = oldest.delivery, oldest.deadline
        self.fairness_key = oldest.fairness_key if len({job.fairness_key for job in self.jobs}) == 1 else ""
        self.queue = oldest.queue if len({job.queue for job in self.jobs}) == 1 else ""
        self.tags = oldest.tags if len({job.tags for job in self.jobs}) == 1 else ()
        self.headers: Mapping[str, str] = {}
        self.workflow_id = self.node = self.parent_id = self.schedule_id = ""
        self.fire_time = self.last_failure = None

    def __repr__(self) -> str:
        return f"<BatchContext {self.type} of {len(self.jobs)}>"

    def __len__(self) -> int:
        return len(self.jobs)

    def __iter__(self) -> Iterator[BatchJob]:
        return iter(self.jobs)

    def __getitem__(self, index: int) -> BatchJob:
        return self.jobs[index]

    @property
    def cancelled(self) -> bool:
        """Every job of the batch was asked to stop. Of one: `ctx.jobs[i].cancelled`."""
        return all(lease.cancel is not None for lease in self._leases)

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why, once all were; the gravest of their reasons."""
        reasons = {lease.cancel for lease in self._leases}
        if None in reasons:
            return None
        return next(reason for reason in _GRAVEST if reason in reasons)

    @property
    def lease_at_risk(self) -> bool:
        """Of any job."""
        return any(job.lease_at_risk for job in self.jobs)

    def progress(
        self,
        percent: float | None = None,
        *,
        current: int = 0,
        total: int = 0,
        message: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Reports progress of each job; as `Context.progress`."""
        for job in self.jobs:
            job.progress(percent, current=current, total=total, message=message, data=data)

    @property
    def dependencies(self) -> NoReturn:
        """Are of single jobs."""
        raise self._of_one("dependencies")

    @property
    def checkpoint(self) -> NoReturn:
        """Is of a single job."""
        raise self._of_one("checkpoint")

    def save_checkpoint(self, value: Any) -> NoReturn:
        """Is of a single job."""
        raise self._of_one("save_checkpoint(…)")

    def enqueue(self, job: Any, payload: Any = None, /, *, always: bool = False, **options: Any) -> NoReturn:
        """Joins the outcome of a single job."""
        raise self._of_one("enqueue(…)")

    def _of_one(self, what: str) -> TypeError:
        return TypeError(f"{self.type}: a batch has many jobs; say of which: ctx.jobs[0].{what}")

    def _listeners(self) -> Sequence[Context]:
        return self.jobs


class _JobLogger(logging.Logger):
    """Names the job that a record is about. Known to nobody but that job, it hands on to the task's logger."""

    job: BatchJob

    def makeRecord(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        """A record, with the job."""
        record = super().makeRecord(*args, **kwargs)
        record.jobwire_job = self.job
        return record
