"""The handle of one job."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._calls import Attempts, aresult_within, result_within
from ._convert import duration, explanation_of, log_event_of, outcome_of, progress_of, status_of
from ._errors import JobwireError, NotFound
from ._types import Duration, EnqueueResult, Explanation, JobEvent, JobStatus, ProgressEvent, StateEvent, to_seconds
from .v1 import common_pb2, job_pb2, job_service_pb2

if TYPE_CHECKING:
    from ._client import Client
    from ._transport import ServerStream

R = TypeVar("R")
pb = job_service_pb2


class Job(Generic[R]):
    """A job by its id. Holds no state of its own: each method asks the server.

    `result` works with scope `enqueue`; `status`, `events` and `explain` need `read`; `cancel` and `retry` need
    `admin`.
    """

    def __init__(
        self,
        client: Client,
        id: str,
        decode: Callable[[Any], R],
        enqueued: EnqueueResult | None = None,
    ) -> None:
        self.id = id
        self.enqueued = enqueued  # what enqueue answered: created, duplicate, kept, replaced; None for client.job(id)
        self._client = client
        self._decode = decode

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def status(self) -> JobStatus:
        """The record now. NotFound when it is gone."""
        return status_of(self._client._call("GetJob", self._get()).job)

    async def astatus(self) -> JobStatus:
        """`status` for asyncio."""
        return status_of((await self._client._acall("GetJob", self._get())).job)

    def result(self, timeout: Duration | None = None) -> R:
        """Waits for the end and returns the result; None waits for ever.

        Raises JobFailed (DEAD, DISCARDED), JobCancelled, JobExpired, NotFound, DeadlineExceeded (a TimeoutError). All
        results that a process awaits share one stream.
        """
        limit = None if timeout is None else to_seconds(timeout, "timeout")
        hub = self._client._process.results
        future = hub.wait(self.id)
        try:
            return self._decode(outcome_of(result_within(future, limit, f"result of job {self.id}")))
        finally:
            hub.forget(self.id, future)

    async def aresult(self, timeout: Duration | None = None) -> R:
        """`result` for asyncio."""
        limit = None if timeout is None else to_seconds(timeout, "timeout")
        hub = self._client._process.results
        future = hub.wait(self.id)
        try:
            return self._decode(outcome_of(await aresult_within(future, limit, f"result of job {self.id}")))
        finally:
            hub.forget(self.id, future)

    def cancel(self, reason: str = "", grace: Duration | None = None) -> bool:
        """Stops the job: at once while it waits, by asking its handler while it runs. False: it had ended already.

        grace: time for a running handler to stop before the server finishes the job itself; None = as long as it takes.
        """
        return self._changed(self._client._call("CancelJobs", self._cancel(reason, grace)).result)

    async def acancel(self, reason: str = "", grace: Duration | None = None) -> bool:
        """`cancel` for asyncio."""
        return self._changed((await self._client._acall("CancelJobs", self._cancel(reason, grace))).result)

    def retry(self, *, reset_attempts: bool = False) -> bool:
        """Runs the job again, now: a terminal one starts over, a waiting one stops waiting. False: it is running.

        reset_attempts: count attempts afresh; otherwise one more is granted.
        """
        return self._changed(self._client._call("RetryJobs", self._retry(reset_attempts), repeat=False).result)

    async def aretry(self, *, reset_attempts: bool = False) -> bool:
        """`retry` for asyncio."""
        return self._changed((await self._client._acall("RetryJobs", self._retry(reset_attempts), repeat=False)).result)

    def explain(self) -> Explanation:
        """Why the job is where it is, and what keeps it from running. Needs scope `read`."""
        return explanation_of(self._client._call("ExplainJob", pb.ExplainJobRequest(id=self.id)))

    async def aexplain(self) -> Explanation:
        """`explain` for asyncio."""
        return explanation_of(await self._client._acall("ExplainJob", pb.ExplainJobRequest(id=self.id)))

    def events(self, *, logs: bool = True) -> Events:
        """Follows the job until it has ended: state changes, progress and, with `logs`, log lines from the first on.

        Iterate with `for` or `async for`. Reconnects by itself and resumes behind the last log line seen.
        """
        return Events(self._client, self.id, logs)

    def _get(self) -> job_service_pb2.GetJobRequest:
        return pb.GetJobRequest(id=self.id, view=job_pb2.JOB_VIEW_FULL, payload_format=common_pb2.PAYLOAD_FORMAT_OMIT)

    def _cancel(self, reason: str, grace: Duration | None) -> job_service_pb2.CancelJobsRequest:
        request = pb.CancelJobsRequest(selector=common_pb2.Selector(ids=[self.id]), reason=reason)
        if grace is not None:
            request.grace.CopyFrom(duration(grace, "grace"))
        return request

    def _retry(self, reset_attempts: bool) -> job_service_pb2.RetryJobsRequest:
        return pb.RetryJobsRequest(selector=common_pb2.Selector(ids=[self.id]), reset_attempts=reset_attempts)

    def _changed(self, result: common_pb2.BulkResult) -> bool:
        from ._convert import item_error

        for refused in result.errors:
            error = item_error(refused.error)
            if error.code == "FAILED_PRECONDITION":
                return False
            raise error
        if result.matched_count == 0:
            raise NotFound(f"there is no job {self.id}", reason="JOB_NOT_FOUND")
        return result.affected_count > 0


@dataclass(frozen=True)
class EnqueueItem(EnqueueResult, Generic[R]):
    """What became of one item of `enqueue_many`: the handle of its job, or the `error` that it was refused with."""

    job: Job[R] | None = None


class Events:
    """Events of one job, for `for` and for `async for`. `close` ends an iteration from outside."""

    def __init__(self, client: Client, id: str, logs: bool) -> None:
        self._client = client
        self._request = pb.WatchJobRequest(id=id, payload_format=common_pb2.PAYLOAD_FORMAT_OMIT)
        if logs:
            self._request.logs_after = 0
        self._status: JobStatus | None = None
        self._stream: ServerStream | None = None
        self._closed = False

    def close(self) -> None:
        """Ends the iteration, from any thread."""
        self._closed = True
        if self._stream is not None:
            self._stream.cancel()

    def __iter__(self) -> Iterator[JobEvent]:
        attempts = Attempts(None)
        while not self._closed:
            transport = self._client._process.transport
            self._stream = stream = transport.server_stream("WatchJob", self._request)
            try:
                for message in stream:
                    attempts = Attempts(None)
                    yield from self._events(message)
                    if self._status is not None and self._status.state.terminal:
                        return
                error = JobwireError("the stream ended early", code="UNAVAILABLE", retryable=True)
            except JobwireError as caught:
                error = caught
            finally:
                stream.cancel()
            if not self._closed:
                pause = attempts.pause(error)
                transport.rotate(stream.endpoint)
                self._client._process.closing.wait(pause)

    async def __aiter__(self) -> AsyncIterator[JobEvent]:
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()
        events: queue.Queue[JobEvent | BaseException | None] = queue.Queue(64)

        def hand_over(event: JobEvent | BaseException | None) -> None:
            events.put(event)
            loop.call_soon_threadsafe(arrived.set)

        def pump() -> None:
            try:
                for event in self:
                    hand_over(event)
                hand_over(None)
            except RuntimeError:
                self.close()  # the loop is gone
            except BaseException as error:
                with contextlib.suppress(RuntimeError):
                    hand_over(error)

        threading.Thread(target=pump, name="jobwire-events", daemon=True).start()
        try:
            while True:
                await arrived.wait()
                arrived.clear()
                while not events.empty():
                    event = events.get()
                    if event is None:
                        return
                    if isinstance(event, BaseException):
                        raise event
                    yield event
        finally:
            self.close()
            while not events.empty():  # lets a pump that waits for room go
                events.get()

    def _events(self, message: job_service_pb2.WatchJobResponse) -> Iterator[JobEvent]:
        for line in message.lines:
            self._request.logs_after = max(self._request.logs_after, line.index)
            yield log_event_of(line)
        if message.HasField("progress"):
            yield ProgressEvent(progress_of(message.progress))
        if message.HasField("job"):
            status = status_of(message.job)
            known, self._status = self._status, status
            if known is None or (known.state, known.attempt, known.delivery) != (
                status.state,
                status.attempt,
                status.delivery,
            ):
                yield StateEvent(status.state, status)
