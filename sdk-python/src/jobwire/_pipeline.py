"""EnqueueStream, for producers that never stop: frames in flight, answers per item in order.

With nothing in flight an item leaves at once; items that come meanwhile gather until an answer comes or a frame is
full. No more frames are unacknowledged than the server lets. When the stream breaks, they are sent again on the next
one with the same ids, which is harmless. One thread reads the answers, while there is anything to send.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from ._calls import Attempts
from ._convert import item_error, seconds
from ._errors import JobwireError, Unavailable
from ._transport import BidiStream, Transport
from ._types import EnqueueResult, JobState
from .v1 import job_pb2, job_service_pb2

FRAME_JOBS, FRAME_BYTES = 128, 64 << 10  # enough to leave beside others
FRAME_JOBS_MAX, FRAME_BYTES_MAX = 1000, 1 << 20
WAITING_BYTES_MAX = 8 << 20


class _Frame:
    def __init__(self) -> None:
        self.seq = 0  # on the current stream
        self.jobs: list[job_pb2.JobSpec] = []
        self.size = 0
        self.items: list[JobwireError | None] = []  # in order; an error never travelled, None is the next of `jobs`


class Pipeline:
    """One run of `enqueue_stream`. `woken` is called, on any thread, when there is news; it must not block."""

    def __init__(self, transport: Transport, attempts: Callable[[], Attempts], woken: Callable[[], None]) -> None:
        self._transport = transport
        self._new_attempts = attempts
        self._attempts = attempts()
        self._woken = woken
        self._lock = threading.RLock()
        self._frames: deque[_Frame] = deque()  # first those in flight, then those that wait for room
        self._in_flight = 0
        self._room = 1
        self._waiting_bytes = 0
        self._results: deque[EnqueueResult] = deque()
        self._stream: BidiStream | None = None
        self._seq = 0
        self._leave_after: float | None = None  # the server ends the stream: send nothing more on it
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    @property
    def full(self) -> bool:
        """The producer should wait: so much is not acknowledged."""
        return len(self._frames) > self._room or self._waiting_bytes > WAITING_BYTES_MAX

    @property
    def empty(self) -> bool:
        """Every item has its answer."""
        return not self._frames

    def put(self, item: job_pb2.JobSpec | JobwireError) -> None:
        """One more: a job, or the reason why it is none."""
        with self._lock:
            frame = self._frames[-1] if len(self._frames) > self._in_flight else None
            size = item.ByteSize() if isinstance(item, job_pb2.JobSpec) else 0
            if frame is None or len(frame.items) >= FRAME_JOBS_MAX or frame.size + size > FRAME_BYTES_MAX:
                frame = _Frame()
                self._frames.append(frame)
            if isinstance(item, JobwireError):
                frame.items.append(item)
            else:
                frame.items.append(None)
                frame.jobs.append(item)
                frame.size += size
                self._waiting_bytes += size
            self._send()
            if self._thread is None:
                self._attempts = self._new_attempts()
                self._thread = threading.Thread(target=self._run, name="jobwire-enqueue", daemon=True)
                self._thread.start()

    def take(self) -> list[EnqueueResult]:
        """Answers that came, in order."""
        with self._lock:
            results = list(self._results)
            self._results.clear()
            return results

    def close(self) -> None:
        """Ends the stream. What is not acknowledged may or may not have arrived."""
        self._closed.set()
        with self._lock:
            stream = self._stream
        if stream is not None:
            stream.half_close()
            stream.cancel()

    def _send(self) -> None:
        """Under the lock: frames that may leave now."""
        while self._stream is not None and self._leave_after is None:
            if self._in_flight >= min(len(self._frames), self._room):
                return
            frame = self._frames[self._in_flight]
            last = self._in_flight == len(self._frames) - 1
            if last and self._in_flight and len(frame.items) < FRAME_JOBS and frame.size < FRAME_BYTES:
                return  # gathers
            self._seq += 1
            frame.seq = self._seq
            self._in_flight += 1
            self._stream.send(job_service_pb2.EnqueueStreamRequest(seq=frame.seq, jobs=frame.jobs))

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                stream = self._open()
                if stream is None:
                    return
                for response in stream:
                    self._received(response)
                error: JobwireError = Unavailable("the server ended the stream", retryable=True)
                error.retry_delay = self._leave_after
            except JobwireError as caught:
                error = caught
            except Exception as caught:
                error = Unavailable(f"the stream broke: {caught}", retryable=True, cause=caught)
            with self._lock:
                self._stream, self._in_flight = None, 0
            if self._closed.is_set():
                return
            pause = 0.0 if self.empty else self._attempts.another(error)
            if pause is None:
                self._give_up(error)
            elif not self.empty:
                self._closed.wait(pause)

    def _open(self) -> BidiStream | None:
        with self._lock:
            if not self._frames:
                self._thread = None  # the next item starts another one
                return None
            frame = self._frames[0]
            frame.seq = self._seq = self._in_flight = 1
            self._leave_after = None
            first = job_service_pb2.EnqueueStreamRequest(seq=1, jobs=frame.jobs)
            try:
                self._stream = self._transport.bidi("EnqueueStream", first)
            except BaseException:
                self._in_flight = 0
                raise
            self._send()
            return self._stream

    def _received(self, response: job_service_pb2.EnqueueStreamResponse) -> None:
        refused = {(error.seq, error.index): item_error(error.error) for error in response.errors}
        ids = iter(response.job_ids)
        with self._lock:
            self._room = response.max_unacked or self._room
            if response.HasField("reconnect_delay"):
                self._leave_after = seconds(response.reconnect_delay)
            while self._in_flight and self._frames[0].seq <= response.acked_seq:
                frame = self._frames.popleft()
                self._in_flight -= 1
                self._waiting_bytes -= frame.size
                index = 0
                for error in frame.items:
                    if error is None:
                        job_id, error = next(ids, ""), refused.get((frame.seq, index))
                        index += 1
                    else:
                        job_id = ""
                    self._results.append(_result(job_id, error))
                self._attempts = self._new_attempts()
            self._send()
        self._woken()

    def _give_up(self, error: JobwireError) -> None:
        """What was not acknowledged is answered with the error; later items are tried afresh."""
        with self._lock:
            for frame in self._frames:
                self._results.extend(_result("", item or error._twin()) for item in frame.items)
            self._frames.clear()
            self._waiting_bytes = 0
        self._woken()


def _result(job_id: str, error: JobwireError | None) -> EnqueueResult:
    if error is not None:
        return EnqueueResult("", "refused", JobState.UNKNOWN, error)
    return EnqueueResult(job_id, "accepted", JobState.UNKNOWN)
