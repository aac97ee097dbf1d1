"""Outcomes on their way to durability: waiting to be sent, or sent and not acknowledged. Part of the pure machine.

W3: an acknowledgement covers every outcome sent in frames up to it. W4: what is not acknowledged when a stream ends is
sent again on the next one, in the same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ._leases import Frame, Lease, Outcome, Report, unprocessable
from .v1 import common_pb2

FLUSH_OUTCOMES, FLUSH_BYTES = 128, 64 << 10  # a frame
UNACKED_MAX, UNACKED_BYTES_MAX = 10_000, 16 << 20


class Outbox:
    """Reports in order. A token is in here at most once."""

    def __init__(self) -> None:
        self._waiting: deque[Report] = deque()
        self._sent: dict[str, Report] = {}  # in the order sent
        self._waiting_bytes = self._sent_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent)

    @property
    def waiting(self) -> dict[str, Lease]:
        """Leases whose outcome has not been sent on this stream."""
        return {report.token: report.lease for report in self._waiting}

    @property
    def unsent(self) -> bool:
        """Something waits to be sent."""
        return bool(self._waiting)

    @property
    def in_flight(self) -> bool:
        """Something sent is not acknowledged."""
        return bool(self._sent)

    @property
    def full_frame(self) -> bool:
        """Enough waits to fill a frame."""
        return len(self._waiting) >= FLUSH_OUTCOMES or self._waiting_bytes >= FLUSH_BYTES

    @property
    def overfull(self) -> bool:
        """So much is not durable that handlers must wait."""
        return len(self) >= UNACKED_MAX or self._waiting_bytes + self._sent_bytes >= UNACKED_BYTES_MAX

    def add(self, lease: Lease, outcome: Outcome, *, rearmed: bool = False) -> None:
        """One more to send."""
        report = Report(lease, outcome, rearmed)
        self._waiting.append(report)
        self._waiting_bytes += report.size

    def rewind(self) -> None:
        """A new stream begins: everything is to be sent again."""
        self._waiting.extendleft(reversed(self._sent.values()))
        self._sent.clear()
        self._waiting_bytes, self._sent_bytes = self._waiting_bytes + self._sent_bytes, 0

    def fill(self, frame: Frame) -> Iterator[str]:
        """Moves outcomes into a frame until it is full; yields their tokens."""
        size = 0
        while self._waiting and len(frame.outcomes) < FLUSH_OUTCOMES:
            report = self._waiting[0]
            if frame.outcomes and size + report.size > FLUSH_BYTES:
                break
            self._waiting.popleft()
            self._waiting_bytes -= report.size
            self._sent_bytes += report.size
            frame.outcomes.append(report.outcome)
            size += report.size
            report.seq = frame.seq
            self._sent[report.token] = report
            yield report.token

    def acked(self, seq: int) -> list[Report]:
        """Takes out what was sent in frames up to `seq`."""
        acked = []
        for report in self._sent.values():
            if report.seq > seq:
                break
            acked.append(report)
        for report in acked:
            del self._sent[report.token]
            self._sent_bytes -= report.size
        return acked

    def rejected(self, token: str) -> Report | None:
        """Takes out one that was sent and refused."""
        report = self._sent.pop(token, None)
        if report is not None:
            self._sent_bytes -= report.size
        return report

    def settled(self, token: str) -> Report | None:
        """Takes out one that is durable, or not wanted any more, sent or not."""
        report = self.rejected(token)
        if report is None:
            report = next((waiting for waiting in self._waiting if waiting.token == token), None)
            if report is not None:
                self._waiting.remove(report)
                self._waiting_bytes -= report.size
        return report


def fitting(outcome: Outcome, limits: common_pb2.Limits) -> Outcome:
    """The outcome, or one that says that it is too large."""
    result, limit = outcome.succeeded.result, limits.max_result_bytes
    if result.ByteSize() > limit and (size := len(result.data) or len(result.text.encode())) > limit:
        return unprocessable(f"the result has {size} bytes, the limit is {limit}")
    size, limit = outcome.ByteSize(), limits.max_message_bytes - (256 << 10)
    if size > limit:
        return unprocessable(f"the outcome has {size} bytes, the limit is {limit}")
    return outcome
