"""Concurrent enqueue calls leave together.

With nothing in flight a call leaves at once as Enqueue; calls that come meanwhile gather and leave as one EnqueueMany
when it returns, or beside it once 1,000 jobs or 1 MiB are gathered. No timer, no thread. Each caller gets its own
result or error, and repeats its own job; a caller that gives up ends nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ._convert import enqueue_result
from ._errors import JobwireError, Unavailable
from ._types import EnqueueResult
from .v1 import job_pb2, job_service_pb2

JOBS_MAX, BYTES_MAX = 1000, 1 << 20


class _Item:
    __slots__ = ("deadline", "future", "size", "spec")

    def __init__(self, spec: job_pb2.JobSpec, timeout: float | None) -> None:
        self.spec = spec
        self.size = spec.ByteSize()
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self.future: Future[EnqueueResult] = Future()
        self.future.set_running_or_notify_cancel()


class Coalescer:
    """Gathers the enqueue calls of one process. `unary` is that of the transport."""

    def __init__(self, unary: Callable[..., Future[Any]]) -> None:
        self._unary = unary
        self._lock = threading.Lock()
        self._gathered: list[_Item] = []
        self._bytes = 0
        self._in_flight = 0

    def submit(self, spec: job_pb2.JobSpec, timeout: float | None, *, blocking: bool = False) -> Future[EnqueueResult]:
        """Enqueues a job; the future ends with its EnqueueResult, never a refused one, or a JobwireError.

        blocking: the caller will wait for it anyhow; if the job leaves alone and at once, it does so in here.
        """
        item = _Item(spec, timeout)
        with self._lock:
            if self._in_flight:
                self._gathered.append(item)
                self._bytes += item.size
                if len(self._gathered) < JOBS_MAX and self._bytes < BYTES_MAX:
                    return item.future
                batch = self._take()
                blocking = False
            else:
                batch = [item]
            self._in_flight += 1
        self._send(batch, blocking)
        return item.future

    def _take(self) -> list[_Item]:
        batch, self._gathered, self._bytes = self._gathered, [], 0
        return batch

    def _send(self, batch: list[_Item], blocking: bool = False) -> None:
        deadlines = [item.deadline for item in batch if item.deadline is not None]
        timeout = max(max(deadlines) - time.monotonic(), 0.0) if len(deadlines) == len(batch) else None
        if len(batch) == 1:
            request = job_service_pb2.EnqueueRequest(job=batch[0].spec)
            call = self._unary("Enqueue", request, timeout, blocking=blocking)
        else:
            many = job_service_pb2.EnqueueManyRequest(jobs=[item.spec for item in batch])
            call = self._unary("EnqueueMany", many, timeout)
        call.add_done_callback(lambda done: self._returned(batch, done))

    def _returned(self, batch: list[_Item], call: Future[Any]) -> None:
        with self._lock:
            self._in_flight -= 1
            following = self._take()
            if following:
                self._in_flight += 1
        if following:
            self._send(following)
        error = call.exception()
        if error is not None:
            for item in batch:
                item.future.set_exception(error._twin() if isinstance(error, JobwireError) else error)
        elif len(batch) == 1:
            _settle(batch[0], call.result())
        else:
            results = call.result().results
            for index, item in enumerate(batch):
                if index < len(results):
                    _settle(item, results[index])
                else:
                    item.future.set_exception(Unavailable("the server left this job out of its answer", retryable=True))


def _settle(item: _Item, message: Any) -> None:
    if isinstance(message, job_service_pb2.EnqueueResponse):
        message = job_service_pb2.EnqueueResult(job_id=message.job_id, status=message.status, state=message.state)
    result = enqueue_result(message)
    if result.error is not None:
        item.future.set_exception(result.error)
    else:
        item.future.set_result(result)
