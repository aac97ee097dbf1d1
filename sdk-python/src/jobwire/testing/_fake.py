"""`inline` and `fake`: handlers run in the test's own process, under a clock that only the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from .._batch_execution import BatchExecution
from .._client import Client
from .._context import Sink, log_capture
from .._convert import payload, seconds, value_of
from .._executors import Endings, Execution
from .._leases import Lease, Outcome
from .._tasks import Task
from .._types import Duration, JobState, to_timedelta
from ..v1 import common_pb2
from ._broker import Broker
from ._record import Enqueued, Record, same_input
from ._stand_in import StandIn

log = logging.getLogger("jobwire.testing")
_ATTEMPTS_MAX = 10_000  # of one call; a job that comes due for ever is a mistake in the test
_ANYTHING: Any = object()


@contextlib.contextmanager
def fake(app: Client) -> Iterator[FakeJobs]:
    """Records what `app` enqueues, sends nothing, and runs jobs when the test says so.

    Ids, idempotency keys, uniqueness, priorities, delays, retries (without jitter), RetryAfter, Snooze, `ttl`, cancel,
    batches and workflows work as on the server; what the fake does not know is refused with Unimplemented. Handlers run
    in the calling thread, those of `async def` on an event loop, and are not timed out. `run` runs its job at once. A
    result that is asked for before its job has run is DeadlineExceeded, at once. The clock is the fake's own:
    `datetime.now()` does not move.
    """
    jobs = FakeJobs(app)
    with _standing_in(app, jobs, eager=False):
        yield jobs


@contextlib.contextmanager
def inline(app: Client) -> Iterator[FakeJobs]:
    """Runs the handler at each enqueue, here and now, until the job has ended: delays, retries and snoozes do not wait.

    The handle has the result, or raises JobFailed as it would elsewhere; the exception itself is logged to
    `jobwire.testing`. Input and result make the trip through JSON. Otherwise as `fake`.
    """
    jobs = FakeJobs(app)
    with _standing_in(app, jobs, eager=True):
        yield jobs


@contextlib.contextmanager
def _standing_in(app: Client, jobs: FakeJobs, *, eager: bool) -> Iterator[None]:
    before = app._stand_in
    work, awork = (jobs._to_the_end, jobs._ato_the_end) if eager else (jobs._now, jobs._anow)
    app._stand_in = StandIn(jobs._broker, work, awork, eager=eager)  # type: ignore[assignment]
    try:
        yield
    finally:
        app._stand_in = before
        jobs._loop.close()


class FakeJobs:
    """The jobs of an app while `fake` or `inline` is in force, and the clock they run by."""

    def __init__(self, app: Client) -> None:
        self._broker = Broker()
        self._tasks: dict[str, Task[..., Any]] = getattr(app, "tasks", {})
        self._sink = Sink(self._progressed, self._logged, lambda: 0.0)
        self._running: dict[str, tuple[Record, Lease]] = {}
        self._loop = _Loop()

    @property
    def now(self) -> datetime:
        """What the clock shows; it starts at the real time and stands still until `advance`."""
        return self._broker.now

    @property
    def enqueued(self) -> list[Enqueued]:
        """Every job since the start, or since `clear`, in the order in which they were enqueued."""
        return [record.enqueued() for record in self._broker.records.values()]

    def clear(self) -> None:
        """Forgets every job, and every idempotency and uniqueness key. The clock stays where it is."""
        self._broker.clear()

    def run(self) -> None:
        """Runs what is due now, and what that enqueues: by priority, then in the order of arrival."""
        for records in self._steps(self.now):
            self._run(records)

    async def arun(self) -> None:
        """`run` for asyncio: coroutine handlers run on this event loop."""
        for records in self._steps(self.now):
            await self._arun(records)

    def advance(self, by: Duration) -> None:
        """Moves the clock, and runs what comes due on the way, in order of time: `advance("10m")`."""
        for records in self._steps(self.now + to_timedelta(by, "by")):
            self._run(records)

    async def aadvance(self, by: Duration) -> None:
        """`advance` for asyncio: coroutine handlers run on this event loop."""
        for records in self._steps(self.now + to_timedelta(by, "by")):
            await self._arun(records)

    def assert_enqueued(
        self, task: Task[..., Any] | str, input: Any = _ANYTHING, *, times: int | None = None
    ) -> list[Enqueued]:
        """Asserts that jobs of `task` were enqueued, and returns them.

        task: a task, or a type's name. input: what their payload is: a model, or plain JSON values; default: anything.
        times: how many of them there are; default: one or more.
        """
        name = task if isinstance(task, str) else task.name
        of_type = [job for job in self.enqueued if job.task == name]
        found = of_type
        if input is not _ANYTHING:
            wanted = _plain(input)
            found = [job for job in of_type if same_input(wanted, job.input)]
        if len(found) == times or (times is None and found):
            return found
        expected = "one or more" if times is None else str(times)
        with_input = "" if input is _ANYTHING else f" with input {_plain(input)!r}"
        others = "".join(f"\n  {job.task} {job.input!r}" for job in (of_type or self.enqueued)) or " nothing"
        raise AssertionError(f"expected {expected} of {name}{with_input}, found {len(found)}; enqueued were:{others}")

    # --- running --------------------------------------------------------------------------------------------------

    def _steps(self, until: datetime | None) -> Iterator[list[Record]]:
        """Jobs to run, one call after the other, with the clock moved to each; None = whatever it takes."""
        broker, given_back = self._broker, set[str]()
        for _ in range(_ATTEMPTS_MAX):
            record = broker.next_due(self._tasks, given_back)
            if record is None or (until is not None and record.due > until):
                break
            broker.now = max(broker.now, record.due)
            broker.expire()
            if record.waiting:
                rule = self._tasks[record.type].batch
                records = [record] if rule is None else broker.fellows(record, rule, given_back)
                yield records
                given_back.update(r.id for r in records if r.state is JobState.READY and r.front)  # not again and again
        else:
            raise RuntimeError(f"more than {_ATTEMPTS_MAX} attempts at once; the last was of {record and record.type}")
        if until is not None:
            broker.now = max(broker.now, until)
            broker.expire()

    def _now(self, wanted: Record) -> None:
        for records in self._steps(self.now):
            self._run(records)
            if wanted.state.terminal:
                return

    async def _anow(self, wanted: Record) -> None:
        for records in self._steps(self.now):
            await self._arun(records)
            if wanted.state.terminal:
                return

    def _to_the_end(self, _wanted: Record) -> None:
        for records in self._steps(None):
            self._run(records)

    async def _ato_the_end(self, _wanted: Record) -> None:
        for records in self._steps(None):
            await self._arun(records)

    def _run(self, records: list[Record]) -> None:
        attempt = self._attempt(records)
        with log_capture:
            if attempt.is_async:
                self._loop.run(attempt)
            else:
                contextvars.copy_context().run(attempt.run)
        self._over(attempt)

    async def _arun(self, records: list[Record]) -> None:
        attempt = self._attempt(records)
        with log_capture:
            if attempt.is_async:
                await asyncio.get_running_loop().create_task(attempt.arun())
            else:
                contextvars.copy_context().run(attempt.run)
        self._over(attempt)

    def _attempt(self, records: list[Record]) -> _Attempt:
        leases = []
        for record in records:
            lease = Lease(self._broker.lease(record), 0.0, 0.0)
            if lease.job.HasField("timeout"):
                lease.deadline = time.monotonic() + seconds(lease.job.timeout)
            self._running[lease.token] = (record, lease)
            leases.append(lease)
        task = self._tasks[records[0].type]
        return (_SingleAttempt if task.batch is None else _BatchAttempt)(task, leases, self._sink)

    def _over(self, attempt: _Attempt) -> None:
        for token, outcome in attempt.outcomes.items():
            record, lease = self._running.pop(token)
            if outcome is not None:
                if outcome.HasField("failed"):
                    log.warning("%s: attempt %d failed", record.type, lease.job.attempt, exc_info=attempt.error)
                self._broker.settle(record, outcome)

    def _progressed(self, token: str, progress: Any, checkpoint: Any) -> None:
        record, _ = self._running[token]
        if progress is not None:
            record.progress = progress
            record.progress.update_time.FromDatetime(self.now)
        if checkpoint is not None:
            record.checkpoint = checkpoint

    def _logged(self, token: str, line: Any) -> None:
        record, _ = self._running[token]
        line.index = len(record.lines) + 1
        record.lines.append(line)


class _Attempt(Execution):
    """One run of a handler; `outcomes` is what it came to, by token."""

    outcomes: dict[str, Outcome | None]
    error: BaseException | None = None
    is_async: bool

    def _raised(self, error: BaseException) -> Endings:
        if not isinstance(error, Exception | asyncio.CancelledError):
            raise error  # Ctrl-C, pytest.fail: the test's own
        self.error = error
        return super()._raised(error)


class _SingleAttempt(_Attempt):
    def __init__(self, task: Task[..., Any], leases: list[Lease], sink: Sink) -> None:
        self.outcomes, self.is_async = {}, task.executor == "loop"
        super().__init__(task, leases[0], common_pb2.Limits(), sink, self.outcomes.__setitem__)


class _BatchAttempt(_Attempt, BatchExecution):
    def __init__(self, task: Task[..., Any], leases: list[Lease], sink: Sink) -> None:
        self.outcomes, self.is_async = {}, task.executor == "loop"
        BatchExecution.__init__(self, task, leases, common_pb2.Limits(), sink, self.outcomes.__setitem__)


class _Loop:
    """One event loop for the handlers of a test, as a worker has one for all of its own."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, attempt: _Attempt) -> None:
        """Runs a coroutine handler to its end, blocking; on a loop of its own in a thread when one runs here."""
        if not _loop_runs_here():
            self._loop = self._loop or asyncio.new_event_loop()
            self._loop.run_until_complete(attempt.arun())
            return
        failed: list[BaseException] = []

        def elsewhere() -> None:
            try:
                asyncio.run(attempt.arun())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=contextvars.copy_context().run, args=(elsewhere,), name="jobwire-inline")
        thread.start()
        thread.join()
        if failed:
            raise failed[0]

    def close(self) -> None:
        """Ends the loop."""
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
            self._loop = None


def _loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _plain(input: Any) -> Any:
    return value_of(payload(input, "input"))
