"""`jobwire-worker` with several processes, or with ones that are replaced: a parent that starts and watches them.

The parent imports nothing of the application. It passes SIGTERM and SIGINT on, replaces a process that has done enough
at once and one that died after a back-off, and ends with them. Processes notice when the parent is gone, and drain.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

REFUSED, USAGE, RECYCLED = 1, 2, 3  # exit codes of a worker process, besides 0: drained
BACKOFF_FIRST, BACKOFF_MAX = 0.5, 30.0
STEADY = 60.0  # a process that lived this long starts the back-off afresh
IMPATIENT = 1.0  # a reload gives running handlers so long
LINE, INDEX = "JOBWIRE_SUPERVISOR_FD", "JOBWIRE_SUPERVISOR_INDEX"
_SKIPPED = {"node_modules", "site-packages", "__pycache__", "venv"}
log = logging.getLogger("jobwire.supervisor")


class _Child:
    def __init__(self, command: list[str], index: int, line: int) -> None:
        self._command, self._index, self._line = command, index, line
        self.process: subprocess.Popen[bytes] | None = None
        self.start_at: float | None = 0.0  # when it is to be started; None = it runs, or is over
        self.failures = 0
        self.started_at = 0.0
        self.reloading_since: float | None = None
        self.code: int | None = None

    def start(self) -> None:
        env = {**os.environ, INDEX: str(self._index), LINE: str(self._line)}
        # A group of its own: what the terminal sends to the parent's group comes once, from the parent.
        self.process = subprocess.Popen(self._command, env=env, pass_fds=(self._line,), start_new_session=True)
        self.start_at, self.started_at, self.reloading_since = None, time.monotonic(), None
        log.info("process %d of the worker: pid %d", self._index, self.process.pid)

    def signal(self, number: int) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Supervisor:
    """Runs `count` processes of `command` until they have ended."""

    def __init__(self, command: Sequence[str], count: int, watch: Path | None = None) -> None:
        self._line, self._our_end = os.pipe()  # closes with this process: that is how the others know
        self._children = [_Child(list(command), index, self._line) for index in range(count)]
        self._watch = watch
        self._seen = _files(watch) if watch is not None else {}
        self._stops = 0
        self._code = 0

    def run(self) -> int:
        """Returns the exit code: 0 when all drained, else that of a process that could not."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            for wanted in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(wanted, lambda *_: None)
            signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            while self._step():
                select.select([ours], [], [], self._pause())
                with contextlib.suppress(BlockingIOError):
                    for number in ours.recv(1024):
                        if number != signal.SIGCHLD:
                            self._stop(number)
            signal.set_wakeup_fd(-1)
        return self._code

    def _pause(self) -> float | None:
        now = time.monotonic()
        times = [child.start_at for child in self._children if child.start_at is not None]
        times += [child.reloading_since + IMPATIENT for child in self._children if child.reloading_since is not None]
        if self._watch is not None and not self._stops:
            times.append(now + 0.5)
        return max(min(times) - now, 0.0) if times else None

    def _step(self) -> bool:
        """Whether anything is left to do."""
        now = time.monotonic()
        for child in self._children:
            if child.process is not None and (code := child.process.poll()) is not None:
                child.process = None
                self._ended(child, code, now)
            if child.reloading_since is not None and now >= child.reloading_since + IMPATIENT:
                child.reloading_since = float("inf")
                child.signal(signal.SIGTERM)
            if child.start_at is not None and now >= child.start_at and not self._stops:
                child.start()
        if self._watch is not None and not self._stops:
            self._reload(now)
            return True
        return any(child.process is not None or child.start_at is not None for child in self._children)

    def _ended(self, child: _Child, code: int, now: float) -> None:
        if self._stops:
            child.start_at = None
            self._code = self._code or (code if code not in (0, RECYCLED) else 0)
        elif child.reloading_since is not None or code == RECYCLED:
            child.start_at = now
        elif code in (REFUSED, USAGE):
            if self._watch is None:
                self._code = code
                self._stop(signal.SIGTERM)  # another try would end the same way
            else:
                log.error("a process of the worker could not work; waiting for a change")
        elif code == 0:
            log.info("the server told a process of the worker to end")
        else:
            child.failures = 0 if now - child.started_at >= STEADY else child.failures
            delay = min(BACKOFF_FIRST * 2**child.failures, BACKOFF_MAX)
            child.failures += 1
            child.start_at = now + delay
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            log.error("a process of the worker %s; the next one starts in %.1f s", how, delay)

    def _stop(self, number: int) -> None:
        """The first signal drains, the second gives up handlers, the third kills."""
        self._stops += 1
        if self._stops == 1:
            log.info("%s: draining; once more to give up at once", signal.Signals(number).name)
        for child in self._children:
            child.start_at = None
            child.signal(signal.SIGKILL if self._stops > 2 else number)

    def _reload(self, now: float) -> None:
        assert self._watch is not None
        files = _files(self._watch)
        changed = [path for path, stamp in files.items() if self._seen.get(path) != stamp]
        changed += [path for path in self._seen if path not in files]
        self._seen = files
        if not changed:
            return
        log.info("%s changed: starting anew", os.path.relpath(changed[0], self._watch))
        for child in self._children:
            if child.process is None:
                child.start_at = now
            elif child.reloading_since is None:
                child.reloading_since = now
                child.signal(signal.SIGTERM)


def drain_without_supervisor() -> None:
    """In a process that a supervisor started: SIGTERM to ourselves when it is gone."""
    line = os.environ.pop(LINE, "")
    if not line:
        return

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(int(line), 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="jobwire-supervised", daemon=True).start()


def worker_command(arguments: Sequence[str]) -> list[str]:
    """The command of one worker process."""
    return [sys.executable, "-m", "jobwire._cli", *arguments]


def _files(root: Path) -> dict[str, float]:
    """Python files under a directory, with the times of their last change."""
    found: dict[str, float] = {}
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if not name.startswith(".") and name not in _SKIPPED]
        for file in files:
            if file.endswith(".py"):
                with contextlib.suppress(OSError):
                    found[os.path.join(directory, file)] = os.stat(os.path.join(directory, file)).st_mtime
    return found
