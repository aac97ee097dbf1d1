"""Jobs in hand that wait for their start, and how many handlers run. Part of the pure machine.

Those whose handlers run in child processes stand in a line of their own, so that a full pool holds up nobody else;
those of batch tasks gather. A batch is one call, and so one of the handlers that run at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ._gathering import Gathering
from ._leases import Lease, SessionConfig
from ._reports import NEVER


class Lines:
    """Leases in order of arrival; may hold leases dropped since, but for those of batch tasks."""

    def __init__(self, config: SessionConfig) -> None:
        self._config = config
        self._ready: deque[Lease] = deque()
        self._pool_ready: deque[Lease] = deque()
        self._gathering = Gathering(config.batches)
        self._arrivals = 0
        self.running = 0
        self._pool_running = 0

    def add(self, lease: Lease) -> None:
        """One more, at the end."""
        lease.pooled = lease.job.task.type in self._config.pool_types
        self._arrivals += 1
        lease.number = self._arrivals
        if lease.job.task.type in self._config.batches:
            self._gathering.add(lease)
        else:
            (self._pool_ready if lease.pooled else self._ready).append(lease)

    def drop(self, lease: Lease) -> None:
        """It goes without having started."""
        if lease.job.task.type in self._config.batches:
            self._gathering.drop(lease)

    def first(self, now: float) -> list[Lease]:
        """The next that may start, one or a batch, when any may; they stay where they are."""
        if self.running >= self._config.concurrency:
            return []
        line = self._line()
        if self._config.batches:
            batch = self._gathering.first(now)
            if batch and (line is None or batch[0].number < line[0].number):
                return batch
        return [] if line is None else [line[0]]

    def take(self, leases: list[Lease]) -> None:
        """Takes out those that `first` named."""
        lease = leases[0]
        if lease.job.task.type in self._config.batches:
            self._gathering.take(leases)
        else:
            (self._pool_ready if lease.pooled else self._ready).popleft()

    def clear(self) -> Iterator[Lease]:
        """Takes all of them out."""
        for line in (self._ready, self._pool_ready):
            while line:
                yield line.popleft()
        yield from self._gathering.clear()

    def next_at(self) -> float:
        """When a batch may start that has not lingered long enough yet."""
        return NEVER if self.running >= self._config.concurrency else self._gathering.next_at()

    def started(self, leases: list[Lease]) -> None:
        """They run, in one call."""
        self.running += 1
        self._pool_running += leases[0].pooled
        if len(leases) > 1:
            together = set(leases)
            for lease in leases:
                lease.together = together

    def stopped(self, lease: Lease) -> None:
        """It runs no more; a batch does until the last of it has stopped."""
        if lease.together is not None:
            lease.together.discard(lease)
            if lease.together:
                return
        self.running -= 1
        self._pool_running -= lease.pooled
        if lease.job.task.type in self._config.batches:
            self._gathering.stopped(lease)

    def _line(self) -> deque[Lease] | None:
        lines = [self._ready]
        if self._pool_running < self._config.pool_size:
            lines.append(self._pool_ready)
        return min((line for line in lines if line), key=lambda line: line[0].number, default=None)
