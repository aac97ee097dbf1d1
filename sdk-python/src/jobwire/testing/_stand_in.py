"""What a client talks to while a test has put the fake in the place of its connections."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, TypeVar

from .._convert import enqueue_result
from .._errors import CODES, DeadlineExceeded, JobwireError, NotFound
from ..v1 import common_pb2, job_pb2
from ..v1 import job_service_pb2 as pb
from ..v1 import workflow_service_pb2 as flows
from ._broker import Broker, answer, unknown_call
from ._record import Record

T = TypeVar("T")
Work = Callable[[Record], None]
AsyncWork = Callable[[Record], Awaitable[None]]


class Deferred(Future[T]):
    """A future whose work starts when it is waited for: here when by a thread, as a task when by an event loop."""

    def __init__(self, work: Callable[[], T], awork: Callable[[], Awaitable[T]]) -> None:
        super().__init__()
        self._work = work
        self._awork = awork
        self._task: asyncio.Task[None] | None = None

    def result(self, timeout: float | None = None) -> T:
        """Does the work, when nobody has, and returns what comes of it."""
        if not self.done():
            _settle(self, self._work)
        return super().result(timeout)

    def add_done_callback(self, callback: Callable[[Future[T]], object]) -> None:
        """An event loop begins to wait: the work becomes one of its tasks."""
        if not self.done() and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        super().add_done_callback(callback)

    async def _run(self) -> None:
        try:
            self.set_result(await self._awork())
        except BaseException as error:
            self.set_exception(error)


class StandIn:
    """Transport, coalescer and results of a client in one, answered from the broker's memory.

    work, awork: run jobs until a record has ended, or is not due; called for `run`, and for every enqueue when `eager`.
    """

    def __init__(self, broker: Broker, work: Work, awork: AsyncWork, *, eager: bool) -> None:
        self.pid = os.getpid()
        self.closing = threading.Event()
        self.transport = self.coalescer = self.results = self
        self.connection = SimpleNamespace(token_file="")
        self._broker, self._work, self._awork, self._eager = broker, work, awork, eager
        self._lock = threading.RLock()
        self._answers: dict[str, Callable[[Any], Any]] = {
            "GetJob": lambda request: pb.GetJobResponse(job=broker.get(request.id).job()),
            "CancelJobs": lambda request: pb.CancelJobsResponse(
                result=self._bulk(request.selector, lambda id: broker.cancel(id, request.reason))
            ),
            "RetryJobs": lambda request: pb.RetryJobsResponse(
                result=self._bulk(request.selector, lambda id: broker.retry(id, request.reset_attempts))
            ),
            "GetWorkflow": lambda request: flows.GetWorkflowResponse(workflow=broker.graphs.message(request.id)),
            "ListWorkflowNodes": broker.graphs.statuses,
            "CancelWorkflows": lambda request: flows.CancelWorkflowsResponse(
                result=self._bulk(request.selector, lambda id: broker.graphs.cancel(id, request.reason))
            ),
        }

    # --- as coalescer ---------------------------------------------------------------------------------------------

    def submit(self, spec: job_pb2.JobSpec, timeout: float | None, *, blocking: bool = False) -> Future[Any]:
        """Records a job."""

        def enqueued(record: Record, status: str) -> Any:
            return enqueue_result(answer(record, status))

        return self._enqueue(spec, enqueued, eager=self._eager)

    def _enqueue(self, spec: job_pb2.JobSpec, respond: Callable[[Record, str], T], *, eager: bool) -> Future[T]:
        def record() -> tuple[Record, str]:
            with self._lock:
                return self._broker.enqueue(spec)

        if not eager:
            return _settle(Future(), lambda: respond(*record()))

        def work() -> T:
            job, status = record()
            self._work(job)
            return respond(job, status)

        async def awork() -> T:
            job, status = record()
            await self._awork(job)
            return respond(job, status)

        return Deferred(work, awork)

    # --- as transport ---------------------------------------------------------------------------------------------

    def unary(self, name: str, request: Any, timeout: float | None) -> Future[Any]:
        """Answers a call."""
        if name == "Enqueue":
            return self._enqueue(request.job, self._ran, eager=self._eager or request.HasField("wait"))
        if name == "EnqueueMany":
            return self._enqueue_many(request)
        if name in ("CreateWorkflow", "AddWorkflowNodes", "CloseWorkflow", "WaitWorkflow"):
            return self._workflow(name, request)
        if name not in self._answers:
            return _settle(Future(), lambda: _refuse(name))
        with self._lock:
            return _settle(Future(), lambda: self._answers[name](request))

    def _ran(self, record: Record, status: str) -> Any:
        result = answer(record, status)
        response = pb.EnqueueResponse(job_id=result.job_id, status=result.status, state=result.state)
        if not record.state.terminal:
            raise unfinished(record)
        response.result.CopyFrom(record.job_result())
        return response

    def _enqueue_many(self, request: pb.EnqueueManyRequest) -> Future[Any]:
        def record() -> tuple[list[Record], pb.EnqueueManyResponse]:
            response, records = pb.EnqueueManyResponse(), []
            for spec in request.jobs:
                try:
                    with self._lock:
                        job, status = self._broker.enqueue(spec)
                except JobwireError as error:
                    response.results.add(error=_item_error(error))
                else:
                    records.append(job)
                    response.results.append(answer(job, status))
            return records, response

        if not self._eager:
            return _settle(Future(), lambda: record()[1])

        def work() -> pb.EnqueueManyResponse:
            records, response = record()
            for job in records:
                self._work(job)
            return response

        async def awork() -> pb.EnqueueManyResponse:
            records, response = record()
            for job in records:
                await self._awork(job)
            return response

        return Deferred(work, awork)

    def _workflow(self, name: str, request: Any) -> Future[Any]:
        graphs = self._broker.graphs
        if name == "WaitWorkflow":
            return _settle(Future(), lambda: _ended(graphs.message(request.id)))

        def change() -> Any:
            with self._lock:
                if name == "CloseWorkflow":
                    return graphs.close(request.workflow_id)
                return graphs.create(request) if name == "CreateWorkflow" else graphs.add(request)

        if not self._eager:
            return _settle(Future(), change)

        def work() -> Any:
            response = change()
            for record in list(self._broker.records.values()):
                self._work(record)
            return response

        async def awork() -> Any:
            response = change()
            for record in list(self._broker.records.values()):
                await self._awork(record)
            return response

        return Deferred(work, awork)

    def server_stream(self, name: str, request: Any) -> _Watch:
        """Follows a job: what is known of it, and then its end or an error, because nothing runs by itself."""
        if name != "WatchJob":
            raise unknown_call(name)
        return _Watch(self._broker.get(request.id), request)

    def bidi(self, name: str, first: Any, *, own_channel: bool = False) -> Any:
        """No stream is known."""
        raise unknown_call(name)

    def rotate(self, away_from: Any = None) -> None:
        """There is one endpoint."""

    def close(self) -> None:
        """There is nothing to close."""

    def _bulk(self, selector: common_pb2.Selector, change: Callable[[str], None]) -> common_pb2.BulkResult:
        if selector.filter:
            raise unknown_call("for a filter")
        result = common_pb2.BulkResult()
        for id in selector.ids:
            try:
                change(id)
            except NotFound:
                continue
            except JobwireError as error:
                result.matched_count += 1
                result.errors.add(id=id, error=_item_error(error))
            else:
                result.matched_count += 1
                result.affected_count += 1
        return result

    # --- as results -----------------------------------------------------------------------------------------------

    def wait(self, job_id: str) -> Future[pb.JobResult]:
        """The result of a job that has ended, or an error: waiting would be for ever."""

        def result() -> pb.JobResult:
            record = self._broker.get(job_id)
            if not record.state.terminal:
                raise unfinished(record)
            return record.job_result()

        return _settle(Future(), result)

    def forget(self, job_id: str, future: Future[Any]) -> None:
        """Nothing is waited for."""


class _Watch:
    endpoint = None

    def __init__(self, record: Record, request: pb.WatchJobRequest) -> None:
        self._record = record
        self._request = request

    def __iter__(self) -> Iterator[pb.WatchJobResponse]:
        record = self._record
        response = pb.WatchJobResponse(job=record.job(), progress=record.progress)
        if self._request.HasField("logs_after"):
            response.lines.extend(record.lines[self._request.logs_after :])
        yield response
        if not record.state.terminal:
            raise unfinished(record)

    def cancel(self) -> None:
        """Nothing is under way."""


def unfinished(record: Record) -> DeadlineExceeded:
    """Nobody runs the job while the test waits for it."""
    return DeadlineExceeded(
        f"job {record.id} ({record.type}) is {record.state.name} and due {record.due:%H:%M:%S} on the fake's clock:"
        ' run it with jobs.run() or jobs.advance("10m"), and see that the app has a task of this type'
    )


def _ended(workflow: flows.Workflow) -> flows.WaitWorkflowResponse:
    if not workflow.HasField("finish_time"):
        raise DeadlineExceeded(
            f'workflow {workflow.id} is RUNNING: run its jobs with jobs.run() or jobs.advance("10m"), and see that the'
            " app has tasks of all their types"
        )
    return flows.WaitWorkflowResponse(workflow=workflow, finished=True)


def _settle(future: Future[T], work: Callable[[], T]) -> Future[T]:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
    return future


def _refuse(name: str) -> Any:
    raise unknown_call(name)


def _item_error(error: JobwireError) -> common_pb2.ItemError:
    return common_pb2.ItemError(
        code=CODES.index(error.code),
        reason=error.reason,
        message=error.message,
        field=error.field,
        metadata=error.metadata,
    )
