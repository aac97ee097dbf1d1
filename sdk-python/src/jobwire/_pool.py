"""The pool of child processes for handlers that compute, seen from the worker.

Each child is owned by one thread, which hands it a job, reads what it says until the outcome, and makes a new child
when one has died or has done enough. Children come from multiprocessing's forkserver (from spawn where there is none):
never from this process, which runs gRPC and threads.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from . import _child as words
from . import _outcomes
from ._convert import python_level
from ._errors import Cancelled, JobwireError
from ._executors import Execution, ThreadExecutor
from ._instrument import instrument
from ._leases import Lease, Outcome
from ._tasks import Task
from .v1 import common_pb2, job_pb2, worker_service_pb2

KILL_AFTER = 2.0  # between SIGTERM and SIGKILL
BOOTS = 3  # children that may die before a job has begun; then it fails
log = logging.getLogger("jobwire.worker")
Vanished = Callable[[Execution, str], None]


def cpu_count() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def targets(tasks: Iterable[Task[Any, Any]]) -> list[tuple[str, str]]:
    """Module and name of each task, for a child to import. ValueError where there is nothing that it could import."""
    main = sys.modules.get("__main__")
    found = []
    for task in tasks:
        module = task.function.__module__
        # From `python -m package.module` it is known by its own name as well; a script, by its file.
        if module == "__main__" and getattr(main, "__file__", None) is None:
            raise ValueError(
                f"{task.name}: executor='process' needs a module that a child process can import; a task typed into an "
                "interpreter or given by `python -c` cannot be found there: move it to a file"
            )
        found.append((module, task.name))
    return found


class ProcessExecutor(ThreadExecutor):
    """Runs functions, each in a child process. `vanished(execution, why)` is called when a child died with a job."""

    _thread_name = "jobwire-pool"

    def __init__(
        self,
        size: int,
        targets: list[tuple[str, str]],
        vanished: Vanished,
        *,
        max_jobs: int | None = None,
        max_rss: int | None = None,
    ) -> None:
        super().__init__(size)
        self._targets = targets
        self._vanished = vanished
        self._max_jobs = max_jobs or sys.maxsize
        self._max_bytes = sys.maxsize if max_rss is None else max_rss << 20
        self._children: dict[str, _Child] = {}  # token → where it runs

    def cancel(self, execution: Execution) -> None:
        """Interrupts the handler; kills its process 2 s later."""
        with self._lock:
            child = self._children.get(execution.lease.token)
        if child is not None:
            # The child's pipe may be full: not on the session's thread.
            threading.Thread(target=child.cancel, args=(execution,), name="jobwire-cancel", daemon=True).start()

    def stop(self) -> None:
        """Ends idle children in order, and at once those whose job was given up."""
        super().stop()
        with self._lock:
            running = list(self._children.values())
        for child in running:
            child.kill()

    def _serve(self) -> None:
        child: _Child | None = None
        while (execution := self._work.get()) is not None:
            with instrument().processing(execution):
                try:
                    execution.fetch()
                except JobwireError as error:
                    execution.end(_outcomes.raised(execution.lease, None, error, execution.task))
                else:
                    child = self._run(child, execution)
            with self._lock:
                self._outstanding -= 1
        if child is not None:
            child.leave()

    def _run(self, child: _Child | None, execution: Execution) -> _Child | None:
        """Runs a job in `child`, or in a new one; returns the one to use next."""
        why = ""
        for _ in range(BOOTS):
            if child is None:
                child = _Child(self._targets)
            with self._lock:
                self._children[execution.lease.token] = child
            if execution.lease.cancel is not None:
                self.cancel(execution)
            try:
                begun = child.run(execution)
            except (EOFError, OSError):
                begun = child.begun
                why = child.buried()
                child = None
            finally:
                with self._lock:
                    del self._children[execution.lease.token]
            if begun:
                if child is None:
                    self._died(execution, why)
                elif child.jobs >= self._max_jobs or child.resident > self._max_bytes:
                    child.leave()
                    child = None
                return child
            if execution.lease.cancel is not None:
                self._died(execution, why)
                return child
        execution.end(
            _outcomes.raised(execution.lease, None, RuntimeError(f"no child process for it: {why}"), execution.task)
        )
        return None

    def _died(self, execution: Execution, why: str) -> None:
        if execution.lease.cancel is not None:  # it was to stop, and has
            execution.end(_outcomes.raised(execution.lease, None, Cancelled(), execution.task))
        else:
            self._vanished(execution, why)


class _Child:
    """One child process. `run` and `leave` are for the thread that owns it."""

    def __init__(self, targets: list[tuple[str, str]]) -> None:
        context = _context()
        self._connection, theirs = context.Pipe()
        arguments = (theirs, targets, logging.getLogger().getEffectiveLevel())
        # Not a daemon in multiprocessing's sense, which may have no children of its own.
        self._process = context.Process(target=words.main, args=arguments, name="jobwire-child", daemon=False)
        self._sending = threading.Lock()
        self._execution: Execution | None = None
        self._changed = threading.Condition()
        self.begun = False
        self.jobs = 0
        self.resident = 0
        try:
            with contextlib.suppress(EOFError, OSError):  # reading from it tells
                self._process.start()
        finally:
            theirs.close()
        _alive.add(self)

    def run(self, execution: Execution) -> bool:
        """Runs one job to its outcome. EOFError or OSError when the child dies; `begun` says whether the job had."""
        lease = execution.lease
        with self._changed:
            self._execution, self.begun = execution, False
        self._send(words.JOB + _job(lease, execution.limits))
        try:
            while True:
                message = self._connection.recv_bytes()
                kind, body = message[:1], message[1:]
                if kind == words.BEGUN:
                    with self._changed:
                        self.begun = True
                        self._changed.notify_all()
                elif kind == words.OUTCOME:
                    self.jobs += 1
                    execution.end(self._outcome(body))
                    return True
                elif kind == words.UNKNOWN:
                    error = LookupError(f"the child process does not find {execution.task.name}: {body.decode()}")
                    execution.end(_outcomes.raised(lease, None, error, execution.task))
                    self.begun = True
                    return True
                else:
                    self._said(execution, kind, body)
        finally:
            with self._changed:
                self._execution = None
                self._changed.notify_all()

    def cancel(self, execution: Execution) -> None:
        """Asks, waits for 2 s, kills. Blocks."""
        lease = execution.lease
        with self._changed:
            self._changed.wait_for(lambda: self.begun or self._execution is not execution, KILL_AFTER)
            if self._execution is not execution:
                return
        reason, text = lease.cancel or "", lease.cancel_message
        try:
            self._send(words.CANCEL + f"{reason}\0{text}".encode(errors="replace"))
        except OSError:
            return
        with self._changed:
            if not self._changed.wait_for(lambda: self._execution is not execution, KILL_AFTER):
                log.warning("job %s (%s) does not stop: killing its process", lease.job.task.id, lease.job.task.type)
                self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def leave(self) -> None:
        """Lets it end by itself; SIGKILL if it is not gone after 2 s."""
        with contextlib.suppress(OSError):
            self._send(words.LEAVE)
        self._process.join(KILL_AFTER)
        self.buried()

    def buried(self) -> str:
        """Sees to it that it is gone; says how it ended."""
        self._connection.close()
        self._process.join(0.5)  # its end of the pipe closes a moment before it is over
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        _alive.discard(self)
        code = self._process.exitcode
        if code is not None and code < 0:
            hint = " (out of memory?)" if -code == signal.SIGKILL else ""
            return f"its process was killed by {signal.Signals(-code).name}{hint}"
        return f"its process ended with exit code {code}"

    def _send(self, message: bytes) -> None:
        with self._sending:
            self._connection.send_bytes(message)

    def _outcome(self, body: bytes) -> Outcome | None:
        if not body:
            return None
        head = words.RESIDENT
        self.resident = head.unpack_from(body)[0]
        return Outcome.FromString(body[head.size :])

    def _said(self, execution: Execution, kind: bytes, body: bytes) -> None:
        sink, token = execution.sink, execution.lease.token
        if kind == words.PROGRESS:
            sink.progressed(token, job_pb2.Progress.FromString(body), None)
        elif kind == words.CHECKPOINT:
            sink.progressed(token, None, common_pb2.Payload.FromString(body))
        elif kind == words.LOG:
            line = job_pb2.LogLine.FromString(body)
            sink.logged(token, line)
            _log_here(line)
        elif kind == words.ASK_TRUST:
            self._send(words.TRUST + words.SECONDS.pack(execution.lease.trusted_until - time.monotonic()))


_alive: weakref.WeakSet[_Child] = weakref.WeakSet()


@atexit.register
def _kill_all() -> None:
    # Runs before multiprocessing's own, which would wait for them.
    for child in list(_alive):
        child.kill()


def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    from multiprocessing import forkserver

    # The default is to import the main script once more; what children share is this package.
    if getattr(forkserver._forkserver, "_preload_modules", None) == ["__main__"]:
        context.set_forkserver_preload(["jobwire._child"])
    return context


def _job(lease: Lease, limits: common_pb2.Limits) -> bytes:
    now = time.monotonic()
    timeout = float("inf") if lease.deadline is None else lease.deadline - now
    bounds = limits.SerializeToString()
    job = worker_service_pb2.JobLease()
    job.CopyFrom(lease.job)
    job.lease_token = ""  # tokens stay with the session
    instrument().carry(job.task.headers)
    return words.HEADER.pack(timeout, lease.trusted_until - now, len(bounds)) + bounds + job.SerializeToString()


def _log_here(line: job_pb2.LogLine) -> None:
    """The worker's own log shows the line as if it had been written here."""
    logger = logging.getLogger(line.fields.get("logger", "jobwire.task"))
    level = python_level(line.level)
    if logger.isEnabledFor(level):
        record = logger.makeRecord(logger.name, level, "", 0, line.message, (), None)
        record.created = line.time.ToNanoseconds() / 1e9
        logger.handle(record)
