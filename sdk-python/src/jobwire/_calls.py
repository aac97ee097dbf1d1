"""Waiting for futures in either face, sync and asyncio, and repeating what is safe to repeat."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from ._errors import DeadlineExceeded, JobwireError

T = TypeVar("T")
BACKOFF_FIRST, BACKOFF_MAX = 0.05, 5.0
log = logging.getLogger("jobwire")


class Attempts:
    """How long a call may still be tried. UNAVAILABLE is repeated with backoff and full jitter, nothing else."""

    def __init__(
        self,
        timeout: float | None,
        *,
        repeat: bool = True,
        new_token: bool = False,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._repeat = repeat
        self._new_token = new_token  # there is a token file: a refused token is worth one more try
        self._on_failure = on_failure
        self._failures = 0

    def remaining(self) -> float | None:
        """Seconds left; None = no limit."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def pause(self, error: JobwireError) -> float:
        """Seconds to wait before the next attempt; raises `error` when there should be none."""
        if error.code == "UNAUTHENTICATED" and self._new_token:
            self._new_token = False
            return 0.0
        if error.code != "UNAVAILABLE" or not error.retryable or not self._repeat:
            raise error
        self._on_failure()
        delay = random.uniform(0.0, min(BACKOFF_MAX, BACKOFF_FIRST * 2 ** min(self._failures, 10)))
        delay = max(delay, error.retry_delay or 0.0)
        remaining = self.remaining()
        if remaining is not None and delay >= remaining:
            raise error
        if self._failures == 0 and _may_warn():
            log.warning("%s; retrying%s", error.message, "" if remaining is None else f" for {remaining:.0f} s")
        self._failures += 1
        return delay

    def another(self, error: JobwireError) -> float | None:
        """`pause`, or None where it would raise."""
        try:
            return self.pause(error)
        except JobwireError:
            return None


_warned_at = float("-inf")


def _may_warn() -> bool:
    """One warning in five seconds, however many callers fail."""
    global _warned_at
    now = time.monotonic()
    if now - _warned_at < 5.0:
        return False
    _warned_at = now
    return True


def call_sync(start: Callable[[float | None], Future[T]], attempts: Attempts) -> T:
    """Starts and awaits, blocking, as often as `attempts` allows."""
    while True:
        remaining = attempts.remaining()
        try:
            return start(remaining).result()
        except JobwireError as error:
            delay = attempts.pause(error)
        time.sleep(delay)


async def call_async(start: Callable[[float | None], Future[T]], attempts: Attempts) -> T:
    """The same on an event loop."""
    while True:
        remaining = attempts.remaining()
        try:
            return await bridge(start(remaining))
        except JobwireError as error:
            delay = attempts.pause(error)
        await asyncio.sleep(delay)


async def bridge(future: Future[T]) -> T:
    """Awaits a concurrent future on whichever loop runs here. Being cancelled abandons a call of its own only."""
    if not future.done():
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        def done(_: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, nobody waits
                loop.call_soon_threadsafe(wake)

        future.add_done_callback(done)
        try:
            await waiter
        except asyncio.CancelledError:
            abandon = getattr(future, "abandon", None)
            if abandon is not None:
                abandon()
            raise
    return future.result()


def result_within(future: Future[T], timeout: float | None, what: str) -> T:
    """The future's result, or DeadlineExceeded naming `what`."""
    try:
        return future.result(timeout)
    except JobwireError:
        raise
    except (TimeoutError, concurrent.futures.TimeoutError) as error:
        raise timed_out(timeout, what) from error


async def aresult_within(future: Future[T], timeout: float | None, what: str) -> T:
    """The same on an event loop."""
    try:
        return await asyncio.wait_for(bridge(future), timeout)
    except JobwireError:
        raise
    except asyncio.TimeoutError as error:
        raise timed_out(timeout, what) from error


def timed_out(timeout: float | None, what: str) -> DeadlineExceeded:
    """The caller's own time was up."""
    return DeadlineExceeded(f"{what}: not there after {timeout:g} s" if timeout is not None else what)
