"""Where traces and metrics attach. Unless `opentelemetry-api` is installed, nothing is imported and nothing happens."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ._convert import TRACE_HEADERS
from .v1 import job_pb2

if TYPE_CHECKING:
    from ._batch_execution import BatchExecution
    from ._executors import Execution
    from ._worker import Worker

_NOTHING = nullcontext()


def _unheard(_job_id: str) -> None:
    """Nobody asked."""


_UNHEARD = nullcontext(_unheard)


class Instrument:
    """What the SDK tells. This one only hands the trace of a running job on to the jobs that its handler enqueues."""

    def sending(self, spec: job_pb2.JobSpec) -> AbstractContextManager[Callable[[str], None]]:
        """Around the call that enqueues a job; writes the trace into its headers. Gives what to call with its id."""
        self.spawning(spec)
        return _UNHEARD

    def sending_many(self) -> AbstractContextManager[Callable[[job_pb2.JobSpec], None]]:
        """Around a call that enqueues several; gives what to call with each of them."""
        return nullcontext(self.spawning)

    def spawning(self, spec: job_pb2.JobSpec) -> None:
        """A handler enqueues a job with its outcome: it belongs to the trace of the handler's own job."""
        from ._context import current_context

        context = current_context()
        if context is not None and "traceparent" not in spec.headers:
            for name in TRACE_HEADERS:
                if name in context.headers:
                    spec.headers[name] = context.headers[name]

    def processing(self, execution: Execution) -> AbstractContextManager[None]:
        """Around an attempt; `execution.watch`, if set, hears of its outcome."""
        return _NOTHING

    def processing_batch(self, execution: BatchExecution) -> AbstractContextManager[None]:
        """Around a call for several jobs; `execution.watch`, if set, hears of the outcome of each."""
        return _NOTHING

    def carry(self, headers: MutableMapping[str, str]) -> None:
        """Writes where the attempt of this thread stands in its trace into the headers that go to a child process."""

    def carried(self, headers: MutableMapping[str, str]) -> AbstractContextManager[None]:
        """Takes that out again, in the child, and goes on from there."""
        headers.pop(CARRIED, None)
        return _NOTHING

    def working(self, worker: Worker) -> AbstractContextManager[None]:
        """While a worker works."""
        return _NOTHING

    def reconnected(self, worker: Worker) -> None:
        """It has a stream again."""


CARRIED = "jobwire-carried"  # never leaves this machine


@functools.cache
def instrument() -> Instrument:
    """The process's one."""
    if importlib.util.find_spec("opentelemetry") and importlib.util.find_spec("opentelemetry.trace"):
        from .contrib.otel import Telemetry

        return Telemetry()
    return Instrument()
