"""All results that a process awaits, over one AwaitResults stream, read by one thread while anything is awaited."""

from __future__ import annotations

import random
import threading
from concurrent.futures import Future
from typing import Any

from ._errors import JobwireError, NotFound
from ._transport import BidiStream, Transport
from .v1 import job_service_pb2

IDS_MAX = 1000
BACKOFF_FIRST, BACKOFF_MAX = 0.05, 15.0


class ResultHub:
    """Futures by job id. Reconnects for ever while somebody waits; any other refusal fails all who wait."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Future[Any]]] = {}
        self._stream: BidiStream | None = None
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def wait(self, job_id: str) -> Future[Any]:
        """The JobResult of a job, once it is terminal; NotFound when the server knows no such job."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            waiting = self._waiting.setdefault(job_id, [])
            waiting.append(future)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jobwire-results", daemon=True)
                self._thread.start()
            elif self._stream is not None and len(waiting) == 1:
                self._stream.send(job_service_pb2.AwaitResultsRequest(job_ids=[job_id]))
        return future

    def forget(self, job_id: str, future: Future[Any]) -> None:
        """The caller gave up."""
        with self._lock:
            waiting = self._waiting.get(job_id)
            if waiting is None or future not in waiting:
                return
            waiting.remove(future)
            if not waiting:
                del self._waiting[job_id]
                if self._stream is not None:
                    self._stream.send(job_service_pb2.AwaitResultsRequest(forget_ids=[job_id]))

    def close(self) -> None:
        """Ends the stream; whoever still waits gets an error."""
        self._closed.set()
        with self._lock:
            stream, thread = self._stream, self._thread
        if stream is not None:
            stream.cancel()
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)

    def _run(self) -> None:
        failures = 0
        while not self._closed.is_set():
            stream: BidiStream | None = None
            error: Exception | None = None
            try:
                stream = self._open()
                if stream is None:
                    return
                for response in stream:
                    failures = 0
                    self._received(response)
            except Exception as caught:
                error = caught
            finally:
                if stream is not None:
                    stream.cancel()
            with self._lock:
                self._stream = None
                if not self._waiting:
                    self._thread = None
                    return
            if error is not None and not self._passing(error, failures):
                self._fail(error)
                continue
            self._transport.rotate(stream.endpoint if stream else None)
            self._closed.wait(random.uniform(0.0, min(BACKOFF_MAX, BACKOFF_FIRST * 2 ** min(failures, 10))))
            failures += 1
        self._fail(JobwireError("the client was closed", code="CANCELLED"))
        with self._lock:
            self._thread = None

    def _passing(self, error: Exception, failures: int) -> bool:
        """Worth another try: no server, or a token that a file may have in a newer version."""
        code = error.code if isinstance(error, JobwireError) else ""
        new_token = code == "UNAUTHENTICATED" and failures == 0 and self._transport.connection.token_file
        return code == "UNAVAILABLE" or bool(new_token)

    def _open(self) -> BidiStream | None:
        with self._lock:
            ids = list(self._waiting)
            if not ids:
                self._thread = None
                return None
            chunks = [ids[at : at + IDS_MAX] for at in range(0, len(ids), IDS_MAX)]
            stream = self._transport.bidi("AwaitResults", job_service_pb2.AwaitResultsRequest(job_ids=chunks[0]))
            for chunk in chunks[1:]:
                stream.send(job_service_pb2.AwaitResultsRequest(job_ids=chunk))
            self._stream = stream
            return stream

    def _received(self, response: Any) -> None:
        ended: list[tuple[str, Any, JobwireError | None]] = [
            (result.job_id, result, None) for result in response.results
        ]
        ended += [
            (job_id, None, NotFound(f"there is no job {job_id}", reason="JOB_NOT_FOUND"))
            for job_id in response.unknown_ids
        ]
        for job_id, result, error in ended:
            with self._lock:
                futures = self._waiting.pop(job_id, [])
            for future in futures:
                if error is not None:
                    future.set_exception(error._twin())
                else:
                    future.set_result(result)

    def _fail(self, error: Exception) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for futures in waiting.values():
            for future in futures:
                future.set_exception(error._twin() if isinstance(error, JobwireError) else error)
