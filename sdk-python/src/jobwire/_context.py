"""What a handler can see and do: its job's Context, as an argument or through `current_context()`."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from google.protobuf import json_format

from . import _convert
from ._convert import dependency_of, failure_of, value_of
from ._errors import Cancelled, InvalidArgument
from ._ids import uuid7
from ._instrument import instrument
from ._leases import Lease
from ._options import job_spec, merge_options
from ._tasks import TaskCall
from ._types import DependencyResult, Failure
from .v1 import common_pb2, job_pb2

if TYPE_CHECKING:
    from ._client import Client
    from ._workflow import Workflow

CancelReason = Literal["requested", "timeout", "workflow", "lease_lost", "shutdown"]
_current: ContextVar[Context | None] = ContextVar("jobwire_context", default=None)


def current_context() -> Context | None:
    """The Context of the job that runs here; None outside of a handler. Threads made by a handler have none."""
    return _current.get()


class Context:
    """The running job. Methods may be called from any thread.

    job_id, type, queue, fairness_key, tags, headers: as enqueued.
    attempt, max_attempts: 1 is the first; equal means that this is the last one; max_attempts is -1 without limit.
    delivery: times the job was ever handed out; rises with every lease, and so fences other systems.
    workflow_id, node, parent_id, schedule_id: where it came from; empty when it came from nowhere.
    fire_time: the tick it stands for, when it came from a schedule.
    deadline: when the attempt times out, on `time.monotonic()`; None without a timeout.
    last_failure: why the previous attempt failed, without a stack trace.
    dependencies: results of the jobs it waited for, by alias.
    log: a logger; everything that is logged while the handler runs, through whichever logger, goes to the job's log.
    """

    def __init__(self, lease: Lease, limits: common_pb2.Limits, sink: Sink) -> None:
        job, task = lease.job, lease.job.task
        self._lease = lease
        self._limits = limits
        self._sink = sink
        self._client: Client | None = None
        self._enqueued: list[tuple[job_pb2.JobSpec, bool]] = []
        self._checkpoint = value_of(job.checkpoint) if job.HasField("checkpoint") else None
        self.job_id: str = task.id
        self.type: str = task.type
        self.queue: str = task.queue or task.type
        self.fairness_key: str = task.fairness_key
        self.tags: tuple[str, ...] = tuple(task.tags)
        self.headers: Mapping[str, str] = dict(task.headers)
        self.attempt: int = job.attempt
        self.max_attempts: int = job.max_attempts
        self.delivery: int = job.delivery
        self.workflow_id: str = task.workflow_id
        self.node: str = task.node
        self.parent_id: str = task.parent_id
        self.schedule_id: str = task.schedule_id
        self.fire_time: datetime | None = _convert.time_of(task, "fire_time")
        self.deadline: float | None = lease.deadline
        self.last_failure: Failure | None = failure_of(job.last_failure) if job.HasField("last_failure") else None

    @functools.cached_property
    def log(self) -> logging.Logger:
        """A logger of its task; everything that the handler logs, through whichever logger, goes to the job's log."""
        return logging.getLogger(f"jobwire.task.{self.type}")

    def __repr__(self) -> str:
        return f"<Context {self.type} {self.job_id} attempt {self.attempt}>"

    @property
    def dependencies(self) -> dict[str, DependencyResult]:
        """Results of the jobs it waited for and asked for, by alias; of several under one alias, the last."""
        return {message.alias: dependency_of(message) for message in self._lease.job.dependencies}

    @property
    def workflow(self) -> Workflow[Any]:
        """The handle of the workflow that this job is a node of: `ctx.workflow.add(…)`. LookupError when it is of none.

        It has to be open (`open=True` of Flow). Nodes that are added belong to it whether this attempt succeeds or not;
        as an attempt may run twice, name them, so that they are added once.
        """
        from ._workflow import Workflow

        if not self.workflow_id or self._client is None:
            raise LookupError(f"job {self.job_id} is no node of a workflow")
        return Workflow(self._client, self.workflow_id)

    # --- cancellation -------------------------------------------------------------------------------------------

    @property
    def cancelled(self) -> bool:
        """The handler has been asked to stop."""
        return self._lease.cancel is not None

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why: requested (somebody), timeout, workflow, lease_lost (another worker may have the job), shutdown."""
        return self._lease.cancel  # type: ignore[return-value]

    def raise_if_cancelled(self) -> None:
        """Raises Cancelled (a CancelledError) once the handler has been asked to stop. For handlers in threads."""
        if self.cancelled:
            raise Cancelled(self.cancel_reason)

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Blocks until the handler is asked to stop, or for `timeout` seconds; whether it was. A cancellable sleep."""
        woken: threading.Event = self.__dict__.setdefault("_woken", threading.Event())  # few handlers need one
        if self.cancelled:  # before there was one
            woken.set()
        return woken.wait(timeout)

    @property
    def lease_at_risk(self) -> bool:
        """The server has not confirmed the lease for so long that another worker may have the job.

        Going on is the default, and safe for Jobwire: a late outcome is fenced off. Stop where other systems are not.
        """
        return self._sink.now() > self._lease.trusted_until

    # --- telling the server -------------------------------------------------------------------------------------

    def progress(
        self,
        percent: float | None = None,
        *,
        current: int = 0,
        total: int = 0,
        message: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Reports progress; each report replaces the one before, and resets `heartbeat_timeout`.

        percent: 0 to 100. current, total: units done and in all. data: a JSON object. 4 KiB in all, else
        InvalidArgument. Sent at most every 250 ms; the last one always.
        """
        if percent is not None and not 0 <= percent <= 100:
            raise InvalidArgument(f"percent: must be within 0 and 100, got {percent!r}", field="percent")
        report = job_pb2.Progress(percent=percent, current=current, total=total, message=message)
        if data is not None:
            try:
                json_format.ParseDict(dict(data), report.data)
            except (json_format.ParseError, TypeError, ValueError) as error:
                raise InvalidArgument(f"data: {error}", field="data", cause=error) from error
        limit = self._limits.max_progress_bytes or 4096
        if report.ByteSize() > limit:
            raise InvalidArgument(f"progress: {report.ByteSize()} bytes, the limit is {limit}", field="progress")
        self._sink.progressed(self._lease.token, report, None)

    @property
    def checkpoint(self) -> Any:
        """What an earlier attempt saved, or this one; None when nothing was."""
        return self._checkpoint

    def save_checkpoint(self, value: Any) -> None:
        """Keeps a JSON value for the next attempt, in case this one fails, is snoozed, released, or dies.

        At most 64 KiB, else InvalidArgument. Sent with progress and with the outcome.
        """
        limit = self._limits.max_checkpoint_bytes or 64 << 10
        body = _convert.payload(value, "checkpoint", limit)
        self._checkpoint = value
        self._sink.progressed(self._lease.token, None, body)

    def enqueue(
        self, job: TaskCall[Any] | str, payload: Any = None, /, *, always: bool = False, **options: Any
    ) -> None:
        """Enqueues a job together with this one's outcome: in the same atomic step, exactly once.

        On success only, unless `always`. There is no id yet; for a handle enqueue the ordinary way. At most 1,000 jobs
        and 1 MiB for one outcome, else InvalidArgument. The worker's key needs scope `enqueue`.
        """
        if isinstance(job, TaskCall):
            if payload is not None or options:
                raise TypeError("options of a task call go before the call: task.opts(...).s(...)")
            spec = job._spec()
        else:
            body = _convert.payload({} if payload is None else payload)
            spec = job_spec(uuid7(), job, body, merge_options({}, options), ((payload,), {}))
        instrument().spawning(spec)
        size = sum(known.ByteSize() for known, _ in self._enqueued) + spec.ByteSize()
        if len(self._enqueued) >= (self._limits.max_jobs_per_call or 1000) or size > 1 << 20:
            raise InvalidArgument("enqueue: at most 1,000 jobs and 1 MiB go with one outcome", field="enqueue")
        self._enqueued.append((spec, always))

    # --- for the executors --------------------------------------------------------------------------------------

    def _wake(self) -> None:
        woken = self.__dict__.get("_woken")
        if woken is not None:
            woken.set()

    def _listeners(self) -> Sequence[Context]:
        """Whose logs a line goes to."""
        return (self,)

    def _to_enqueue(self, succeeded: bool) -> list[job_pb2.JobSpec]:
        return [spec for spec, always in self._enqueued if succeeded or always]


class Sink:
    """Where what a handler says goes: to the session's thread.

    fetch: gets the results of other jobs that did not fit into the lease; blocks.
    """

    def __init__(
        self,
        progressed: Callable[[str, job_pb2.Progress | None, common_pb2.Payload | None], None],
        logged: Callable[[str, job_pb2.LogLine], None],
        now: Callable[[], float],
        worker_id: str = "",
        fetch: Callable[[Lease], None] = lambda lease: None,
    ) -> None:
        self.progressed = progressed
        self.logged = logged
        self.now = now
        self.worker_id = worker_id
        self.fetch = fetch


class LogCapture(logging.Handler):
    """Copies what a running handler logs to its job's log. One sits on the root logger while any worker runs."""

    def __init__(self) -> None:
        super().__init__()
        self._workers = 0
        self.forwarded = False  # in a child of the pool: the worker's process shows what handlers log

    def __enter__(self) -> None:
        self.acquire()
        self._workers += 1
        self.release()
        logging.getLogger().addHandler(self)  # does nothing when it is there
        tasks = logging.getLogger("jobwire.task")
        if tasks.level == logging.NOTSET:
            tasks.setLevel(logging.INFO)  # so that ctx.log.info reaches the job's log whatever the root's level

    def __exit__(self, *_: object) -> None:
        self.acquire()
        self._workers -= 1
        last = self._workers == 0
        self.release()
        if last:
            logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        context = _current.get()
        if not (self.forwarded and context is not None):
            self._show(record)
        if context is None:
            return
        try:
            message = record.getMessage()
            if record.exc_info and record.exc_info[0] is not None:
                message += "\n" + (record.exc_text or logging.Formatter().formatException(record.exc_info))
            raw = message.encode(errors="replace")
            job: Context | None = getattr(record, "jobwire_job", None)
            for listener in context._listeners() if job is None else (job,):
                limit = (listener._limits.max_log_line_bytes or 8192) - 256
                line = job_pb2.LogLine(
                    level=_convert.log_level(record.levelno),
                    message=raw[:limit].decode(errors="ignore"),
                    fields={"logger": record.name},
                    attempt=listener.attempt,
                )
                line.time.FromNanoseconds(int(record.created * 1e6) * 1000)
                listener._sink.logged(listener._lease.token, line)
        except Exception:
            self.handleError(record)

    def _show(self, record: logging.LogRecord) -> None:
        """Where no logging is set up, Python itself shows warnings, unless a handler such as this one is there."""
        last = logging.lastResort
        if last is None or record.levelno < last.level or logging.root.handlers != [self]:
            return
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None and logger is not logging.root:
            if logger.handlers:
                return
            logger = logger.parent if logger.propagate else None
        last.handle(record)


log_capture = LogCapture()
