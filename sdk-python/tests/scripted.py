"""An in-process gRPC server that does what a test tells it to: the other end for the client and the worker."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc

from jobwire.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc, worker_service_pb2_grpc
from jobwire.v1 import worker_service_pb2 as pb

WAIT = 10.0  # longest wait for a condition; a test that reaches it fails


class StreamEnd(Exception):
    """Ends a scripted stream with a status."""

    def __init__(self, code: grpc.StatusCode, message: str = "", trailers: tuple[tuple[str, Any], ...] = ()) -> None:
        super().__init__(message)
        self.code, self.message, self.trailers = code, message, trailers


class WorkerStream:
    """One StreamJobs call, seen from the server."""

    def __init__(self, requests: Iterator[Any]) -> None:
        self.received: queue.Queue[Any] = queue.Queue()
        self._outgoing: queue.Queue[Any] = queue.Queue()
        self.seq = 0
        self.pid = 0  # for tests to note
        self.half_closed = threading.Event()
        self.ended = threading.Event()  # in whichever way
        threading.Thread(target=self._read, args=(requests,), daemon=True).start()

    def _read(self, requests: Iterator[Any]) -> None:
        try:
            for frame in requests:
                self.received.put(frame)
            self.half_closed.set()  # or cancelled: this library's server cannot always tell
        except Exception:
            pass  # cancelled
        self.ended.set()
        self.received.put(None)

    def frame(self) -> Any:
        """The next frame of the worker."""
        frame = self.received.get(timeout=WAIT)
        assert frame is not None, "the worker ended the stream"
        return frame

    def until(self, wanted: Callable[[Any], bool]) -> Any:
        """The next frame for which `wanted` holds."""
        while True:
            frame = self.frame()
            if wanted(frame):
                return frame

    def outcome(self, token: str, *, ack: bool = True) -> Any:
        """The outcome of a lease, acknowledged."""
        frame = self.until(lambda frame: any(o.lease_token == token for o in frame.outcomes))
        if ack:
            self.send(acked_seq=frame.seq)
        return next(o for o in frame.outcomes if o.lease_token == token)

    def send(self, **fields: Any) -> None:
        self.seq += 1
        self._outgoing.put(pb.StreamJobsResponse(seq=self.seq, **fields))

    def welcome(self, **fields: Any) -> Any:
        """Takes Hello, answers it, and returns it."""
        hello = self.frame().hello
        welcome = pb.Welcome(slots=hello.capacity.slots, **fields)
        welcome.lease_ttl.seconds, welcome.delivery_ttl.seconds, welcome.heartbeat_interval.seconds = 30, 10, 10
        self.send(welcome=welcome)
        return hello

    def job(self, token: str, type: str, payload: str = "{}", **fields: Any) -> None:
        task = pb.Task(id=f"job-{token}", type=type, queue=type)
        task.payload.text = payload
        fields.setdefault("attempt", 1)
        fields.setdefault("delivery", 1)
        fields.setdefault("max_attempts", 20)
        self.send(jobs=[pb.JobLease(lease_token=token, task=task, **fields)])

    def end(self, error: StreamEnd | None = None) -> None:
        self._outgoing.put(error)

    def responses(self) -> Iterator[Any]:
        while True:
            item = self._outgoing.get()
            if item is None:
                return
            if isinstance(item, StreamEnd):
                raise item
            yield item


class Scripted(worker_service_pb2_grpc.WorkerServiceServicer, job_service_pb2_grpc.JobServiceServicer):
    """Streams of workers arrive in `streams`; unary calls are answered by `answers[name](request)`, which may raise
    StreamEnd; every request is kept in `requests`."""

    def __init__(self, port: int = 0) -> None:
        self.streams: queue.Queue[WorkerStream] = queue.Queue()
        self.answers: dict[str, Callable[[Any], Any]] = {"Enqueue": created, "EnqueueMany": created_many}
        self.requests: list[tuple[str, Any]] = []
        self.opened: list[WorkerStream] = []
        self.metadata: list[dict[str, Any]] = []
        self.server = grpc.server(futures.ThreadPoolExecutor(64))
        add: Any = worker_service_pb2_grpc
        add.add_WorkerServiceServicer_to_server(self, self.server)
        add = job_service_pb2_grpc
        add.add_JobServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()

    @property
    def url(self) -> str:
        return f"jobwire://127.0.0.1:{self.port}"

    def stop(self) -> None:
        for stream in self.opened:
            stream.end()
        self.server.stop(None).wait(WAIT)

    def stream(self) -> WorkerStream:
        """The next stream that a worker opens."""
        return self.streams.get(timeout=WAIT)

    def named(self, name: str) -> list[Any]:
        """Requests of one call so far."""
        return [request for called, request in self.requests if called == name]

    def StreamJobs(self, request_iterator: Any, context: Any) -> Iterator[Any]:
        self.metadata.append(dict(context.invocation_metadata()))
        context.send_initial_metadata(())
        stream = WorkerStream(request_iterator)
        self.opened.append(stream)
        self.streams.put(stream)
        try:
            yield from stream.responses()
        except StreamEnd as end:
            abort(context, end)

    def AwaitResults(self, request_iterator: Any, context: Any) -> Iterator[Any]:
        for request in request_iterator:
            self.requests.append(("AwaitResults", request))
            yield from self._answer("AwaitResults", request, context)

    def EnqueueStream(self, request_iterator: Any, context: Any) -> Iterator[Any]:
        """`answers["EnqueueStream"]` is a generator function of the requests."""

        def kept() -> Iterator[Any]:
            for request in request_iterator:
                self.requests.append(("EnqueueStream", request))
                yield request

        try:
            yield from self._answer("EnqueueStream", kept(), context)
        except StreamEnd as end:
            abort(context, end)

    def WatchJob(self, request: Any, context: Any) -> Iterator[Any]:
        copy = job_service_pb2.WatchJobRequest()
        copy.CopyFrom(request)
        self.requests.append(("WatchJob", copy))
        try:
            yield from self._answer("WatchJob", request, context)
        except StreamEnd as end:
            abort(context, end)

    def _answer(self, name: str, request: Any, context: Any) -> Any:
        self.metadata.append(dict(context.invocation_metadata()))
        try:
            return self.answers[name](request)
        except StreamEnd as end:
            abort(context, end)


def _unary(name: str) -> Callable[[Scripted, Any, Any], Any]:
    def call(self: Scripted, request: Any, context: Any) -> Any:
        self.requests.append((name, request))
        return self._answer(name, request, context)

    return call


for _name in ("Enqueue", "EnqueueMany", "GetJob", "CancelJobs", "RetryJobs", "ExplainJob"):
    setattr(Scripted, _name, _unary(_name))


def abort(context: Any, end: StreamEnd) -> None:
    if end.trailers:
        context.set_trailing_metadata(end.trailers)
    context.abort(end.code, end.message)


def created(request: Any) -> Any:
    return job_service_pb2.EnqueueResponse(
        job_id=request.job.id, status=job_service_pb2.ENQUEUE_STATUS_CREATED, state=job_pb2.JOB_STATE_READY
    )


def created_many(request: Any) -> Any:
    return job_service_pb2.EnqueueManyResponse(
        results=[
            job_service_pb2.EnqueueResult(
                job_id=job.id, status=job_service_pb2.ENQUEUE_STATUS_CREATED, state=job_pb2.JOB_STATE_READY
            )
            for job in request.jobs
        ]
    )


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def chunk(number: int, body: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def status_details(
    reason: str, *, metadata: dict[str, str] | None = None, retry_ms: int | None = None, field: str = ""
) -> tuple[tuple[str, bytes], ...]:
    """The trailer of a refused call, as a Jobwire server sends it."""

    def detail(kind: str, body: bytes) -> bytes:
        return chunk(3, chunk(1, f"type.googleapis.com/google.rpc.{kind}".encode()) + chunk(2, body))

    info = chunk(1, reason.encode()) + chunk(2, b"jobwire.dev")
    for key, value in (metadata or {}).items():
        info += chunk(3, chunk(1, key.encode()) + chunk(2, value.encode()))
    raw = b"\x08\x03" + chunk(2, b"refused") + detail("ErrorInfo", info)
    if retry_ms is not None:
        span = b"\x08" + varint(retry_ms // 1000) + b"\x10" + varint(retry_ms % 1000 * 1_000_000)
        raw += detail("RetryInfo", chunk(1, span))
    if field:
        raw += detail("BadRequest", chunk(1, chunk(1, field.encode()) + chunk(2, b"because")))
    return (("grpc-status-details-bin", raw),)
