"""Runs the handler of a batch task: one call for several jobs, and an outcome for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from . import _outcomes
from ._batch_context import BatchContext, BatchJob
from ._codec import DecodeError
from ._context import Sink, _current
from ._executors import Endings, Execution
from ._instrument import instrument
from ._leases import Lease, Outcome, unprocessable
from ._tasks import Task
from .v1 import common_pb2


class BatchExecution(Execution):
    """One call: its leases and their Contexts. `finished(token, outcome)` is called once for each."""

    def __init__(
        self,
        task: Task[Any, Any],
        leases: Sequence[Lease],
        limits: common_pb2.Limits,
        sink: Sink,
        finished: Callable[[str, Outcome | None], None],
    ) -> None:
        super().__init__(task, leases[0], limits, sink, finished)
        self.leases = leases
        self._jobs: list[BatchJob] = []
        self._unreadable: Endings = []
        self._stopping = False

    def stops(self, lease: Lease) -> bool:
        """A job was marked as cancelled: whether the handler is to stop, because the last one was. True once."""
        for job in self._jobs:
            if job._lease is lease:
                job._wake()
        if self._stopping or any(lease.cancel is None for lease in self.leases):
            return False
        self._stopping = True
        return True

    def _truncated(self) -> list[Lease]:
        return [lease for lease in self.leases if lease.job.dependencies_truncated]

    def _instrumented(self) -> AbstractContextManager[None]:
        return instrument().processing_batch(self)

    def _enter(self) -> tuple[list[Any], dict[str, Any]]:
        for lease in self.leases:
            try:
                (input,), _ = self.task._arguments(lease.job)
            except DecodeError as error:
                outcome = unprocessable(f"the payload does not fit {self.task.name}: {error}")
                self._unreadable.append((lease.token, outcome))
            else:
                job = BatchJob(lease, self.limits, self.sink, input)
                job._client = self.task._app
                self._jobs.append(job)
        if not self._jobs:
            raise _Nothing
        self.context = context = BatchContext(self._jobs, [job._lease for job in self._jobs], self.sink)
        _current.set(context)
        inputs = [job.input for job in self._jobs]
        return ([context, inputs] if self.task.signature.takes_context else [inputs]), {}

    def _returned(self, value: Any) -> Endings:
        if value is None:
            results: Sequence[Any] = [None] * len(self._jobs)
        elif isinstance(value, list | tuple) and len(value) == len(self._jobs):
            results = value
        else:
            got = f"{len(value)} results" if isinstance(value, list | tuple) else type(value).__name__
            return self._raised(
                TypeError(f"{self.task.name}: a batch of {len(self._jobs)} returns as many results or None, not {got}")
            )
        limit = self.limits.max_result_bytes
        return self._each(
            lambda job, place: job._outcome(self.task, lambda: _outcomes.returned(job, results[place], limit))
        )

    def _raised(self, error: BaseException) -> Endings:
        if self.context is None and not self._jobs and len(self._unreadable) < len(self.leases):  # it never began
            return [(lease.token, _outcomes.raised(lease, None, error, self.task)) for lease in self.leases]
        return self._each(
            lambda job, _: job._outcome(self.task, lambda: _outcomes.raised(job._lease, job, error, self.task))
        )

    def _each(self, outcome: Callable[[BatchJob, int], Outcome | None]) -> Endings:
        return [*self._unreadable, *((job._lease.token, outcome(job, n)) for n, job in enumerate(self._jobs))]


class _Nothing(Exception):
    """No job of the batch could be read."""
