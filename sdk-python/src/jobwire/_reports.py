"""Progress, checkpoints and log lines of running jobs, waiting for their turn on the stream. Part of the pure machine.

Progress of one job goes at most every 250 ms, the latest wins, and the last one is always sent, ahead of the outcome.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from ._leases import Frame, Lease
from .v1 import common_pb2, job_pb2, worker_service_pb2

REPORT_INTERVAL = 0.25
LOG_BYTES_MAX, LOG_FRAME_BYTES = 1 << 20, 512 << 10
NEVER = float("inf")


class Reports:
    """What handlers said and the server has not been told yet."""

    def __init__(self) -> None:
        self._progress: dict[str, tuple[float, Lease]] = {}  # token → when it may go
        self._logs: deque[tuple[str, job_pb2.LogLine, int]] = deque()
        self._log_bytes = 0
        self._log_at = NEVER

    def progressed(
        self, lease: Lease, progress: job_pb2.Progress | None, checkpoint: common_pb2.Payload | None, now: float
    ) -> None:
        """New progress, or a new checkpoint; the latest of each wins."""
        if progress is not None:
            lease.progress = progress
        if checkpoint is not None:
            lease.checkpoint, lease.checkpoint_dirty = checkpoint, True
        self._progress.setdefault(lease.token, (max(now, lease.reported_at + REPORT_INTERVAL), lease))

    def logged(self, token: str, line: job_pb2.LogLine, now: float) -> None:
        """One line. At most 1 MiB wait; the oldest go first."""
        size = line.ByteSize()
        self._logs.append((token, line, size))
        self._log_bytes += size
        while self._log_bytes > LOG_BYTES_MAX:
            self._log_bytes -= self._logs.popleft()[2]
        self._log_at = min(self._log_at, now + REPORT_INTERVAL)

    def again(self, lease: Lease, now: float) -> None:
        """The stream broke, perhaps with the last checkpoint on it."""
        if lease.checkpoint is not None:
            lease.checkpoint_dirty = True
            self._progress.setdefault(lease.token, (now, lease))

    def forget(self, token: str) -> None:
        """The lease is gone."""
        self._progress.pop(token, None)

    def next_at(self) -> float:
        """When something is due."""
        return min(self._log_at, min((at for at, _ in self._progress.values()), default=NEVER))

    def write(self, frames: list[Frame], ending: Mapping[str, object], now: float, new: Callable[[], Frame]) -> None:
        """Adds what is due, and what belongs to the jobs that are ending, to the last of `frames` and to new ones."""
        for token, (at, lease) in list(self._progress.items()):
            if at <= now or token in ending:
                del self._progress[token]
                if not lease.lost:
                    _add_progress(frames[-1], lease, now)
        if now >= self._log_at or (self._logs and ending):
            self._add_logs(frames, new)

    def _add_logs(self, frames: list[Frame], new: Callable[[], Frame]) -> None:
        while self._logs:
            by_token: dict[str, worker_service_pb2.LogReport] = {}
            room = LOG_FRAME_BYTES
            while self._logs and room > 0:
                token, line, size = self._logs.popleft()
                if token not in by_token:
                    by_token[token] = frames[-1].logs.add(lease_token=token)
                by_token[token].lines.append(line)
                room -= size
            if self._logs:
                frames.append(new())
        self._log_bytes, self._log_at = 0, NEVER


def _add_progress(frame: Frame, lease: Lease, now: float) -> None:
    report = frame.progress.add(lease_token=lease.token)
    if lease.progress is not None:
        report.progress.CopyFrom(lease.progress)
    if lease.checkpoint is not None and lease.checkpoint_dirty:
        report.checkpoint.CopyFrom(lease.checkpoint)
    lease.progress, lease.checkpoint_dirty, lease.reported_at = None, False, now
