"""The producer's side: a Client enqueues jobs and hands out handles."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast, overload

from . import _workflow
from ._batch import Batch
from ._calls import Attempts, call_async, call_sync
from ._coalesce import Coalescer
from ._convert import duration, enqueue_result, outcome_of, payload
from ._errors import DeadlineExceeded, JobwireError
from ._flow import Flow
from ._ids import uuid7
from ._instrument import instrument
from ._job import EnqueueItem, Job
from ._jobs import Jobs
from ._options import job_spec, merge_options
from ._pipeline import Pipeline
from ._queues import Queues
from ._results import ResultHub
from ._schedules import Schedules
from ._tasks import TaskCall
from ._transport import Connection, Transport, parse_url
from ._types import Duration, EnqueueResult, JobOptions, to_seconds
from ._workers import Workers
from ._workflow import Workflow, Workflows
from .v1 import common_pb2, job_pb2, job_service_pb2

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._canvas import Canvas

R = TypeVar("R")
T = TypeVar("T")
pb = job_service_pb2

DEFAULT_URL = "jobwire://127.0.0.1:7420"
BATCH_JOBS, BATCH_BYTES = 1000, 2 << 20
WAIT_MAX = 300.0  # the longest that Enqueue itself waits for a result


class _Process:
    """What a client owns in one process. A forked child makes its own: connections do not survive a fork."""

    def __init__(self, connection: Connection) -> None:
        self.pid = os.getpid()
        self.transport = Transport(connection)
        self.coalescer = Coalescer(self.transport.unary)
        self.results = ResultHub(self.transport)
        self.closing = threading.Event()

    def close(self) -> None:
        if self.pid != os.getpid():
            return  # a forked child must leave its parent's connections alone
        self.closing.set()
        self.results.close()
        self.transport.close()


class ClientOptions(TypedDict, total=False):
    """Options of a Client, which documents them, for `App(...)` to take as well."""

    token: str | None
    token_file: str | None
    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    timeout: Duration
    plaintext_token: bool


class Client:
    """A connection to a Jobwire deployment, opened on first use. Thread-safe, fork-safe, usable from any event loop.

    url: `jobwire://host[:7420]` (TLS: `jobwires://`), several separated by commas; default `JOBWIRE_URL`, then
        `jobwire://127.0.0.1:7420`. A random one is used first, the next one when it is unavailable.
    token: API key; default `JOBWIRE_TOKEN`, or the content of `JOBWIRE_TOKEN_FILE`, read again when refused.
    ca_file, cert_file, key_file: PEM files for TLS; default `JOBWIRE_CA_FILE`, `JOBWIRE_CERT_FILE`, `JOBWIRE_KEY_FILE`.
    timeout: how long one call may take, repeats included; default 30 s.
    plaintext_token: allow the token to travel unencrypted beyond loopback; default False.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        token_file: str | None = None,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        timeout: Duration = "30s",
        plaintext_token: bool = False,
    ) -> None:
        self._settings: dict[str, Any] = {
            "token": token,
            "token_file": token_file if token is None else "",
            "ca_file": ca_file,
            "cert_file": cert_file,
            "key_file": key_file,
        }
        if url:
            parse_url(url)  # what the environment says is read on first use
        self._url = url
        self._plaintext_token = plaintext_token
        self._timeout = to_seconds(timeout, "timeout")
        self._lock = threading.Lock()
        self._current: _Process | None = None
        self._stand_in: _Process | None = None  # answers instead of a server, in tests: see jobwire.testing

    # --- enqueue ------------------------------------------------------------------------------------------------

    @overload
    def enqueue(self, job: TaskCall[R], /) -> Job[R]: ...
    @overload
    def enqueue(self, job: str, payload: Any = ..., /, **options: Unpack[JobOptions]) -> Job[Any]: ...
    def enqueue(self, job: TaskCall[Any] | str, payload: Any = None, /, **options: Any) -> Job[Any]:
        """Enqueues a job by type name and payload (a JSON object, or a Payload), or a `task.s(...)`.

        Durable when it returns. Repeats on UNAVAILABLE with the same id. One call awaited at a time costs a round trip
        and a durable write each; concurrent calls, from threads or tasks, leave together and cost far less.
        """
        spec = self._spec(job, payload, options)
        with instrument().sending(spec) as sent:
            result = call_sync(self._submission(spec, blocking=True), self._attempts(self._timeout))
            sent(result.job_id)
            return self._job(job, result)

    @overload
    async def aenqueue(self, job: TaskCall[R], /) -> Job[R]: ...
    @overload
    async def aenqueue(self, job: str, payload: Any = ..., /, **options: Unpack[JobOptions]) -> Job[Any]: ...
    async def aenqueue(self, job: TaskCall[Any] | str, payload: Any = None, /, **options: Any) -> Job[Any]:
        """`enqueue` for asyncio, on any event loop."""
        spec = self._spec(job, payload, options)
        with instrument().sending(spec) as sent:
            result = await call_async(self._submission(spec), self._attempts(self._timeout))
            sent(result.job_id)
            return self._job(job, result)

    def enqueue_many(self, jobs: Iterable[TaskCall[Any] | tuple[str, Any]]) -> list[EnqueueItem[Any]]:
        """Enqueues independent jobs, `task.s(...)` or (type, payload), up to 1,000 in a call; answers per item.

        Each item has the handle of its `job`, or the `error` that it was refused with, which holds back no other. Items
        are repeated like single calls, each with its id, while the server or its store is unavailable. Raises only when
        a call fails as a whole; jobs of earlier calls stand.
        """
        results: list[EnqueueResult] = []
        decoders: list[Callable[[Any], Any]] = []
        with instrument().sending_many() as sends:
            for request in self._batches(jobs, sends, decoders):
                batch, attempts = Batch(request), self._attempts(self._timeout)
                while (error := batch.answered(call_sync(self._many(batch), attempts))) is not None:
                    if (delay := attempts.another(error)) is None:
                        break
                    time.sleep(delay)
                results += batch.results
        return self._items(results, decoders)

    async def aenqueue_many(self, jobs: Iterable[TaskCall[Any] | tuple[str, Any]]) -> list[EnqueueItem[Any]]:
        """`enqueue_many` for asyncio."""
        results: list[EnqueueResult] = []
        decoders: list[Callable[[Any], Any]] = []
        with instrument().sending_many() as sends:
            for request in self._batches(jobs, sends, decoders):
                batch, attempts = Batch(request), self._attempts(self._timeout)
                while (error := batch.answered(await call_async(self._many(batch), attempts))) is not None:
                    if (delay := attempts.another(error)) is None:
                        break
                    await asyncio.sleep(delay)
                results += batch.results
        return self._items(results, decoders)

    def enqueue_stream(self, jobs: Iterable[TaskCall[Any] | tuple[str, Any]]) -> Iterator[EnqueueResult]:
        """Enqueues jobs as an iterable yields them, for producers that never stop; answers per item, in order.

        A generator: nothing happens until it is iterated. Jobs leave as they come, or gathered while others are on
        their way; when too many are unacknowledged, the iterable is not asked for more. Each result's status is
        `accepted` (durable; the server does not say whether it was there before) or `refused` with its `error`. A
        stream that breaks is opened again and what was not acknowledged sent again with the same ids, for the client's
        `timeout`; then those items are refused, and later ones tried afresh. When the iterable raises, what it yielded
        before is finished first.
        """
        if self._stand_in is not None:
            yield from (self.enqueue_many([job])[0] for job in jobs)
            return
        news = threading.Event()
        pipeline = Pipeline(self._process.transport, lambda: self._attempts(self._timeout), news.set)
        ended: Exception | None = None
        source = iter(jobs)
        try:
            while True:
                try:
                    pipeline.put(self._draft(next(source)))
                except StopIteration:
                    break
                except Exception as error:
                    ended = error
                    break
                yield from pipeline.take()
                while pipeline.full:
                    news.wait()
                    news.clear()
                    yield from pipeline.take()
            while not pipeline.empty:
                news.wait()
                news.clear()
                yield from pipeline.take()
            yield from pipeline.take()
        finally:
            pipeline.close()
        if ended is not None:
            raise ended

    async def aenqueue_stream(
        self, jobs: AsyncIterable[TaskCall[Any] | tuple[str, Any]] | Iterable[TaskCall[Any] | tuple[str, Any]]
    ) -> AsyncIterator[EnqueueResult]:
        """`enqueue_stream` for asyncio. The iterable, async or not, is asked in a task of its own."""
        if self._stand_in is not None:
            async for job in _as_async(jobs):
                yield (await self.aenqueue_many([job]))[0]
            return
        loop, news, room = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        def tell() -> None:
            news.set()
            room.set()

        def woken() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, nobody waits
                loop.call_soon_threadsafe(tell)

        pipeline = Pipeline(self._process.transport, lambda: self._attempts(self._timeout), woken)

        async def feed() -> None:
            try:
                async for job in _as_async(jobs):
                    pipeline.put(self._draft(job))
                    while pipeline.full:
                        room.clear()
                        if pipeline.full:
                            await room.wait()
            finally:
                news.set()

        feeder = loop.create_task(feed())
        try:
            while not (feeder.done() and pipeline.empty):
                await news.wait()
                news.clear()
                for result in pipeline.take():
                    yield result
            for result in pipeline.take():
                yield result
            await feeder  # raises what the iterable raised
        finally:
            feeder.cancel()
            pipeline.close()

    # --- run: a call across the queue ---------------------------------------------------------------------------

    @overload
    def run(self, job: TaskCall[R], /, *, wait: Duration | None = ...) -> R: ...
    @overload
    def run(
        self, job: str, payload: Any = ..., /, *, wait: Duration | None = ..., **options: Unpack[JobOptions]
    ) -> Any: ...
    def run(self, job: Any, payload: Any = None, /, *, wait: Duration | None = None, **options: Any) -> Any:
        """Enqueues, waits for the end, and returns the result, or raises as `Job.result` does.

        wait: give up after this long with DeadlineExceeded, the job going on; None = never.
        """
        spec, limit = self._spec(job, payload, options), _limit(wait)
        attempts = self._attempts(limit)
        with instrument().sending(spec) as sent:
            response = call_sync(self._run_call(spec), attempts)
            sent(response.job_id)
        if response.HasField("result"):
            return self._decoder(job)(outcome_of(response.result))
        return self._job(job, self._enqueued(response)).result(_rest(attempts, limit, response.job_id))

    @overload
    async def arun(self, job: TaskCall[R], /, *, wait: Duration | None = ...) -> R: ...
    @overload
    async def arun(
        self, job: str, payload: Any = ..., /, *, wait: Duration | None = ..., **options: Unpack[JobOptions]
    ) -> Any: ...
    async def arun(self, job: Any, payload: Any = None, /, *, wait: Duration | None = None, **options: Any) -> Any:
        """`run` for asyncio."""
        spec, limit = self._spec(job, payload, options), _limit(wait)
        attempts = self._attempts(limit)
        with instrument().sending(spec) as sent:
            response = await call_async(self._run_call(spec), attempts)
            sent(response.job_id)
        if response.HasField("result"):
            return self._decoder(job)(outcome_of(response.result))
        return await self._job(job, self._enqueued(response)).aresult(_rest(attempts, limit, response.job_id))

    def job(self, id: str) -> Job[Any]:
        """The handle of a job by its id; asks nobody."""
        return Job(self, id, _plain)

    @property
    def jobs(self) -> Jobs:
        """Jobs, many at once: get, list, logs, explain, cancel, retry, update, delete."""
        return Jobs(self)

    @property
    def queues(self) -> Queues:
        """Queues: get, list, put, set, pause, resume, purge."""
        return Queues(self)

    @property
    def workers(self) -> Workers:
        """Connected workers: get, list, quiet, resume, terminate."""
        return Workers(self)

    @overload
    def start(self, flow: Canvas[R], /) -> Workflow[R]: ...
    @overload
    def start(self, flow: Flow, /) -> Workflow[Any]: ...
    def start(self, flow: Flow | Canvas[Any], /) -> Workflow[Any]:
        """Creates a workflow, all or nothing; durable when it returns. Repeats on UNAVAILABLE with the same id.

        Beyond 1,000 nodes or 1 MiB it is created open, nodes are added in several calls, and then it is closed.
        """
        return _workflow.start(self, flow if isinstance(flow, Flow) else flow._flow("", {}))

    @overload
    async def astart(self, flow: Canvas[R], /) -> Workflow[R]: ...
    @overload
    async def astart(self, flow: Flow, /) -> Workflow[Any]: ...
    async def astart(self, flow: Flow | Canvas[Any], /) -> Workflow[Any]:
        """`start` for asyncio."""
        return await _workflow.astart(self, flow if isinstance(flow, Flow) else flow._flow("", {}))

    def workflow(self, id: str) -> Workflow[Any]:
        """The handle of a workflow by its id; asks nobody."""
        return Workflow(self, id)

    @property
    def workflows(self) -> Workflows:
        """Workflows, many at once: get, list, nodes, cancel, retry, delete."""
        return Workflows(self)

    @property
    def schedules(self) -> Schedules:
        """Recurring jobs: put, get, list, pause, resume, trigger, delete, preview, backfill."""
        return Schedules(self)

    def close(self) -> None:
        """Ends the connections; calls under way fail. The client opens new ones when it is used again."""
        with self._lock:
            process, self._current = self._current, None
        if process is not None and process.pid == os.getpid():
            process.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- inside -------------------------------------------------------------------------------------------------

    @property
    def _process(self) -> _Process:
        if self._stand_in is not None:
            return self._stand_in
        current = self._current
        if current is not None and current.pid == os.getpid():
            return current
        if current is not None:
            self._lock = threading.Lock()  # the parent may have held it while forking
        with self._lock:
            current = self._current
            if current is None or current.pid != os.getpid():
                current = self._current = _Process(self._connection())
                weakref.finalize(self, current.close)
            return current

    def _connection(self) -> Connection:
        settings = {
            name: os.environ.get(f"JOBWIRE_{name.upper()}", "") if value is None else value
            for name, value in self._settings.items()
        }
        endpoints = parse_url(self._url or os.environ.get("JOBWIRE_URL") or DEFAULT_URL)
        return Connection(tuple(endpoints), plaintext_token=self._plaintext_token, **settings)

    def _attempts(self, timeout: float | None, *, repeat: bool = True) -> Attempts:
        transport = self._process.transport
        return Attempts(
            timeout,
            repeat=repeat,
            new_token=bool(transport.connection.token_file),
            on_failure=transport.rotate,
        )

    def _call(self, name: str, request: Any, *, repeat: bool = True) -> Any:
        return call_sync(
            lambda timeout: self._process.transport.unary(name, request, timeout),
            self._attempts(self._timeout, repeat=repeat),
        )

    async def _acall(self, name: str, request: Any, *, repeat: bool = True) -> Any:
        return await call_async(
            lambda timeout: self._process.transport.unary(name, request, timeout),
            self._attempts(self._timeout, repeat=repeat),
        )

    def _many(self, batch: Batch) -> Callable[[float | None], Future[Any]]:
        return lambda timeout: self._process.transport.unary("EnqueueMany", batch.request, timeout)

    def _submission(
        self, spec: job_pb2.JobSpec, *, blocking: bool = False
    ) -> Callable[[float | None], Future[EnqueueResult]]:
        return lambda timeout: self._process.coalescer.submit(spec, timeout, blocking=blocking)

    def _run_call(self, spec: job_pb2.JobSpec) -> Callable[[float | None], Future[Any]]:
        def start(remaining: float | None) -> Future[Any]:
            wait = WAIT_MAX if remaining is None else min(remaining, WAIT_MAX)
            request = pb.EnqueueRequest(job=spec, wait=duration(wait), payload_format=common_pb2.PAYLOAD_FORMAT_RAW)
            return self._process.transport.unary("Enqueue", request, wait + 5.0)

        return start

    def _spec(self, job: TaskCall[Any] | str, body: Any, options: Mapping[str, Any]) -> job_pb2.JobSpec:
        if isinstance(job, TaskCall):
            if body is not None or options:
                raise TypeError("options of a task call go before the call: task.opts(...).s(...)")
            return job._spec()
        if isinstance(job, str):
            merged = merge_options(cast(JobOptions, {}), options)
            return job_spec(uuid7(), job, payload({} if body is None else body), merged, ((body,), {}))
        raise TypeError(f"expected a type name or task.s(...), got {type(job).__name__}")

    def _draft(self, job: TaskCall[Any] | tuple[str, Any]) -> job_pb2.JobSpec | JobwireError:
        """One item of a stream, or what is wrong with it."""
        try:
            spec = self._spec(job, None, {}) if isinstance(job, TaskCall) else self._spec(*job, {})
        except JobwireError as error:
            return error
        with instrument().sending(spec):  # it is on its way as soon as it is handed over
            return spec

    def _batches(
        self,
        jobs: Iterable[TaskCall[Any] | tuple[str, Any]],
        sends: Callable[[job_pb2.JobSpec], None],
        decoders: list[Callable[[Any], Any]],
    ) -> Iterable[job_service_pb2.EnqueueManyRequest]:
        request, size = pb.EnqueueManyRequest(), 0
        for job in jobs:
            spec = self._spec(job, None, {}) if isinstance(job, TaskCall) else self._spec(*job, {})
            sends(spec)
            decoders.append(self._decoder(job if isinstance(job, TaskCall) else job[0]))
            size += spec.ByteSize()
            if request.jobs and (len(request.jobs) == BATCH_JOBS or size > BATCH_BYTES):
                yield request
                request, size = pb.EnqueueManyRequest(), spec.ByteSize()
            request.jobs.append(spec)
        if request.jobs:
            yield request

    def _decoder(self, job: TaskCall[Any] | str) -> Callable[[Any], Any]:
        return job.task.decode_result if isinstance(job, TaskCall) else _plain

    def _job(self, job: TaskCall[Any] | str, result: EnqueueResult) -> Job[Any]:
        return Job(self, result.job_id, self._decoder(job), result)

    def _items(
        self, results: Iterable[EnqueueResult], decoders: Iterable[Callable[[Any], Any]]
    ) -> list[EnqueueItem[Any]]:
        return [
            EnqueueItem(
                result.job_id,
                result.status,
                result.state,
                result.error,
                None if result.error is not None else Job(self, result.job_id, decode, result),
            )
            for result, decode in zip(results, decoders, strict=True)
        ]

    def _enqueued(self, response: job_service_pb2.EnqueueResponse) -> EnqueueResult:
        message = pb.EnqueueResult(job_id=response.job_id, status=response.status, state=response.state)
        return enqueue_result(message)


async def _as_async(source: AsyncIterable[T] | Iterable[T]) -> AsyncIterator[T]:
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield item
    else:
        for item in source:
            yield item
            await asyncio.sleep(0)


def _plain(value: Any) -> Any:
    return value


def _limit(wait: Duration | None) -> float | None:
    return None if wait is None else to_seconds(wait, "wait")


def _rest(attempts: Attempts, limit: float | None, job_id: str) -> float | None:
    remaining = attempts.remaining()
    if remaining == 0.0:
        raise DeadlineExceeded(f"result of job {job_id}: not there after {limit:g} s")
    return remaining
