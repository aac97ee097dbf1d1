"""Jobs in hand that wait for others of their kind, to be run in one call. Part of the pure machine.

A batch may start when it is full, or when its first job has waited for `linger`; until it does start, it grows. A job
whose worker has vanished before (`crashes`) runs alone, and one such at a time, so that it takes no others with it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice

from ._leases import BatchRule, Lease
from ._reports import NEVER

_Key = tuple[str, str, bool]  # type, fairness key, whether each runs alone
_ALONE = BatchRule(1, 0.0)


class Gathering:
    """Leases in order of arrival, in a line for each batch that may be made of them. None that is dropped stays."""

    def __init__(self, rules: Mapping[str, BatchRule]) -> None:
        self._rules = rules
        self._lines: dict[_Key, deque[Lease]] = {}
        self._alone: set[_Key] = set()  # lines of which one runs alone
        # Heads of lines: with the time from which they may start, and those that may. Entries of others are left over.
        self._due: list[tuple[float, int, _Key]] = []
        self._ripe: list[tuple[int, _Key]] = []

    def add(self, lease: Lease) -> None:
        """One more. Its `number` and `arrived` are set."""
        key = self._key(lease)
        line = self._lines.setdefault(key, deque())
        line.append(lease)
        if len(line) in (1, self._rule(key).max_size):
            self._arm(key, line)

    def drop(self, lease: Lease) -> None:
        """It goes without having started: cancelled, recalled or lost."""
        key = self._key(lease)
        line = self._lines.get(key)
        if line is not None and lease in line:
            line.remove(lease)
            self._moved(key, line)

    def first(self, now: float) -> list[Lease]:
        """The batch that may start at `now` and whose first job came first; its jobs stay where they are."""
        while self._due and self._due[0][0] <= now:
            _, number, key = heapq.heappop(self._due)
            heapq.heappush(self._ripe, (number, key))
        while self._ripe:
            number, key = self._ripe[0]
            line = self._lines.get(key)
            if line is not None and line[0].number == number:
                return list(islice(line, self._rule(key).max_size))
            heapq.heappop(self._ripe)
        return []

    def take(self, batch: list[Lease]) -> None:
        """Takes out what `first` named."""
        key = self._key(batch[0])
        line = self._lines[key]
        for _ in batch:
            line.popleft()
        if key[2]:
            self._alone.add(key)
        self._moved(key, line)

    def stopped(self, lease: Lease) -> None:
        """A job runs no more: the next one that runs alone may."""
        key = self._key(lease)
        if key[2]:
            self._alone.discard(key)
            if key in self._lines:
                self._arm(key, self._lines[key])

    def clear(self) -> Iterator[Lease]:
        """Takes all of them out."""
        lines = list(self._lines.values())
        for kept in (self._lines, self._due, self._ripe):
            kept.clear()
        for line in lines:
            yield from line

    def next_at(self) -> float:
        """When the next batch has lingered; those that may start already do not count."""
        return self._due[0][0] if self._due else NEVER

    def _key(self, lease: Lease) -> _Key:
        task = lease.job.task
        if lease.job.crashes:
            return task.type, "", True
        return task.type, task.fairness_key if self._rules[task.type].by_key else "", False

    def _rule(self, key: _Key) -> BatchRule:
        return _ALONE if key[2] else self._rules[key[0]]

    def _moved(self, key: _Key, line: deque[Lease]) -> None:
        if line:
            self._arm(key, line)
        else:
            del self._lines[key]

    def _arm(self, key: _Key, line: deque[Lease]) -> None:
        rule = self._rule(key)
        if key in self._alone:
            return
        if len(line) >= rule.max_size:
            heapq.heappush(self._ripe, (line[0].number, key))
            return
        heapq.heappush(self._due, (line[0].arrived + rule.linger, line[0].number, key))
        if len(self._due) > 2 * len(self._lines) + 64:  # most are of batches that were full long before
            self._due = [
                (line[0].arrived + self._rule(key).linger, line[0].number, key) for key, line in self._lines.items()
            ]
            heapq.heapify(self._due)
