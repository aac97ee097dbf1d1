"""Jobs in hand that wait for their start, and how many run. Part of the pure machine.

Those whose handlers run in child processes stand in a line of their own, so that a full pool holds up nobody else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ._leases import Lease, SessionConfig


class Lines:
    """Leases in order of arrival; may hold leases dropped since."""

    def __init__(self, config: SessionConfig) -> None:
        self._config = config
        self._ready: deque[Lease] = deque()
        self._pool_ready: deque[Lease] = deque()
        self._arrivals = 0
        self.running = 0
        self._pool_running = 0

    def add(self, lease: Lease) -> None:
        """One more, at the end."""
        lease.pooled = lease.job.task.type in self._config.pool_types
        self._arrivals += 1
        lease.number = self._arrivals
        (self._pool_ready if lease.pooled else self._ready).append(lease)

    def first(self) -> Lease | None:
        """The next that may start, when one may; it stays where it is."""
        line = self._line()
        return None if line is None else line[0]

    def take(self) -> None:
        """Takes out the one that `first` named."""
        line = self._line()
        if line is not None:
            line.popleft()

    def clear(self) -> Iterator[Lease]:
        """Takes all of them out."""
        for line in (self._ready, self._pool_ready):
            while line:
                yield line.popleft()

    def started(self, lease: Lease) -> None:
        """It runs."""
        self.running += 1
        self._pool_running += lease.pooled

    def stopped(self, lease: Lease) -> None:
        """It runs no more."""
        self.running -= 1
        self._pool_running -= lease.pooled

    def _line(self) -> deque[Lease] | None:
        if self.running >= self._config.concurrency:
            return None
        lines = [self._ready]
        if self._pool_running < self._config.pool_size:
            lines.append(self._pool_ready)
        return min((line for line in lines if line), key=lambda line: line[0].number, default=None)
