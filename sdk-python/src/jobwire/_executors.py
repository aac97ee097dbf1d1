"""Where handlers run: coroutines on an event loop in a thread of its own, functions in a pool of threads.

Neither is the session's thread, so that a handler that blocks keeps its lease. All threads are daemons: a handler that
hangs does not keep the process from exiting.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from . import _outcomes
from ._codec import DecodeError
from ._context import Context, Sink, _current
from ._hooks import around
from ._instrument import instrument
from ._leases import Lease, Outcome
from ._outcomes import Unprocessable
from ._tasks import Task
from .v1 import common_pb2

Endings = list[tuple[str, Outcome | None]]  # by token; None = there is nothing to report
LAG_LIMIT = 1.0  # seconds that a loop may be blocked before the log says so


class Execution:
    """One attempt: its lease, handler and Context. `finished(token, outcome)` is called exactly once."""

    def __init__(
        self,
        task: Task[Any, Any],
        lease: Lease,
        limits: common_pb2.Limits,
        sink: Sink,
        finished: Callable[[str, Outcome | None], None],
    ) -> None:
        self.task = task
        self.lease = lease
        self.context: Context | None = None
        self.watch: Callable[[Outcome | None], None] | None = None
        self.limits = limits
        self.sink = sink
        self._finished = finished
        self._ended = False

    def run(self) -> None:
        """Runs a function, in the current thread."""
        with self._instrumented():
            self.run_unseen()

    def run_unseen(self) -> None:
        """`run` without traces and metrics: in a child process, whose parent sees to them."""
        try:
            self.fetch()
            args, kwargs = self._enter()
            with self._around():
                value = self._call(args, kwargs)
            endings = self._returned(value)
        except BaseException as error:
            endings = self._raised(error)
        finally:
            _current.set(None)
        self._end(endings)

    async def arun(self) -> None:
        """Runs a coroutine function, as a task with a context of its own."""
        with self._instrumented():
            try:
                if self._truncated():
                    await asyncio.to_thread(self.fetch)
                args, kwargs = self._enter()
                with self._around():
                    value = await self.task.function(*args, **kwargs)
                endings = self._returned(value)
            except BaseException as error:
                endings = self._raised(error)
            self._end(endings)

    def fetch(self) -> None:
        """Gets the results of other jobs that did not fit into the lease. Blocks; JobwireError when it fails."""
        for lease in self._truncated():
            self.sink.fetch(lease)

    def _truncated(self) -> list[Lease]:
        return [self.lease] if self.lease.job.dependencies_truncated else []

    def stops(self, lease: Lease) -> bool:
        """A job of it was marked as cancelled: whether the handler is to stop."""
        return True

    def cancel(self) -> None:
        """Wakes a handler that waits in `ctx.wait_cancelled`. The reason stands in the lease."""
        context = self.context
        if context is not None:
            context._wake()

    def never_ran(self) -> None:
        """The loop dropped the task before its first step, if it did."""
        if not self._ended:
            self._end(self._raised(asyncio.CancelledError()))

    def end(self, outcome: Outcome | None) -> None:
        """It is over; None = there is nothing to report. Only the first call counts."""
        self._end([(self.lease.token, outcome)])

    def _end(self, endings: Endings) -> None:
        if self._ended:
            return
        self._ended = True
        for token, outcome in endings:
            if self.watch is not None:
                self.watch(outcome)
            self._finished(token, outcome)

    def _instrumented(self) -> AbstractContextManager[None]:
        return instrument().processing(self)

    def _around(self) -> AbstractContextManager[Any]:
        assert self.context is not None
        return around(getattr(self.task._app, "_hooks", ()), self.context)

    def _call(self, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return self.task.function(*args, **kwargs)

    def _enter(self) -> tuple[list[Any], dict[str, Any]]:
        self.context = context = Context(self.lease, self.limits, self.sink)
        context._client = self.task._app
        _current.set(context)
        try:
            args, kwargs = self.task._arguments(self.lease.job)
        except DecodeError as error:
            raise Unprocessable(f"the payload does not fit {self.task.name}: {error}") from error
        return ([context, *args] if self.task.signature.takes_context else args), kwargs

    def _returned(self, value: Any) -> Endings:
        assert self.context is not None
        return [(self.lease.token, _outcomes.returned(self.context, value, self.limits.max_result_bytes))]

    def _raised(self, error: BaseException) -> Endings:
        return [(self.lease.token, _outcomes.raised(self.lease, self.context, error, self.task))]


class ThreadExecutor:
    """Runs functions, each in a thread. Threads are made when needed, at most `size`, and kept."""

    _thread_name = "jobwire-handler"

    def __init__(self, size: int) -> None:
        self._size = size
        self._work: queue.SimpleQueue[Execution | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._outstanding = 0
        self._threads = 0

    def start(self, executions: list[Execution]) -> None:
        """Begins; more executions than threads make more threads."""
        with self._lock:
            self._outstanding += len(executions)
            missing = max(min(self._outstanding, self._size) - self._threads, 0)
            self._threads += missing
        for _ in range(missing):
            threading.Thread(target=self._serve, name=self._thread_name, daemon=True).start()
        for execution in executions:
            self._work.put(execution)

    def cancel(self, execution: Execution) -> None:
        """Asks a handler to stop; it has to look (`ctx.raise_if_cancelled`)."""
        execution.cancel()

    def stop(self) -> None:
        """Lets idle threads go."""
        for _ in range(self._threads):
            self._work.put(None)

    def _serve(self) -> None:
        while (execution := self._work.get()) is not None:
            execution.run()
            with self._lock:
                self._outstanding -= 1


class LoopExecutor:
    """Runs coroutines on one event loop in a thread of its own. Calls come from one thread, the session's."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running: dict[str, Execution] = {}
        self._probed_at: float | None = None  # a probe is under way since then
        self._probe_back = True
        self._measured = 0.0
        self._warned_at = 0.0

    @property
    def busy(self) -> bool:
        """Handlers are running."""
        return bool(self._running)

    def start(self, executions: list[Execution]) -> None:
        """Begins; the first call makes the loop."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._serve, args=(self._loop,), name="jobwire-loop", daemon=True).start()
        self._running.update({execution.lease.token: execution for execution in executions})
        self._loop.call_soon_threadsafe(self._spawn, executions)

    def cancel(self, execution: Execution) -> None:
        """Cancels the coroutine's task: CancelledError at its next await."""
        execution.cancel()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, execution.lease.token)

    def ended(self, token: str) -> None:
        """The execution is over."""
        self._running.pop(token, None)

    def stop(self) -> None:
        """Ends the loop as soon as it is not blocked."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    @property
    def latest_lag(self) -> float:
        """How late the loop was, in seconds: when last measured, or up to now while it is blocked."""
        began = self._probed_at
        return self._measured if began is None or self._probe_back else max(self._measured, time.monotonic() - began)

    def lag(self, now: float) -> str | None:
        """Measures the loop's lag, about once a second; a sentence when it has been blocked for more than a second."""
        if self._loop is None or not self._running:
            self._probed_at, self._measured = None, 0.0
            return None
        if self._probed_at is None or self._probe_back:
            if self._probed_at is None or now - self._probed_at >= 1.0:
                self._probed_at, self._probe_back, self._warned_at = now, False, now
                self._loop.call_soon_threadsafe(self._answer)
            return None
        blocked, since_warning = now - self._probed_at, now - self._warned_at
        if blocked < LAG_LIMIT or since_warning < max(LAG_LIMIT, (self._warned_at - self._probed_at)):
            return None
        self._warned_at = now
        names = Counter(execution.task.name for execution in self._running.values())
        handlers = ", ".join(f"{name} x{count}" if count > 1 else name for name, count in names.most_common())
        return f"the event loop has been blocked for {blocked:.1f} s while running {handlers}; leases are kept"

    def _answer(self) -> None:
        began = self._probed_at
        self._measured = 0.0 if began is None else time.monotonic() - began
        self._probe_back = True

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            if not self._tasks:  # closing it under a handler that hangs would only make noise
                loop.close()

    def _spawn(self, executions: list[Execution]) -> None:
        assert self._loop is not None
        for execution in executions:
            task = self._loop.create_task(execution.arun(), name=f"jobwire:{execution.task.name}")
            self._tasks[execution.lease.token] = task
            task.add_done_callback(lambda task, execution=execution: self._done(execution))  # type: ignore[misc]

    def _done(self, execution: Execution) -> None:
        self._tasks.pop(execution.lease.token, None)
        execution.never_ran()

    def _cancel(self, token: str) -> None:
        task = self._tasks.get(token)
        if task is not None:
            task.cancel()
