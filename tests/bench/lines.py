"""What every Python program of the benchmark shares: jobs, and commands of the driver.

The driver writes a command a line, `{"do": "one", "seconds": 2}`, and reads an answer a line, `{"jobs": 4000}`. The
clock is the system's monotonic one, which all processes of a machine share, in microseconds.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

PAYLOAD_BYTES = 100
PAD = os.environ["BENCH_PAD"]
DELAYS = os.environ["BENCH_DELAYS"]


def clock() -> int:
    """Microseconds; the same in every process."""
    return time.monotonic_ns() // 1000


def job(t: int = 0) -> dict[str, Any]:
    """A job whose compact JSON has 100 bytes. `t`: when it was enqueued, if somebody wants to know."""
    return {"t": t, "pad": PAD[: PAYLOAD_BYTES - len('{"t":,"pad":""}') - len(str(t))]}


def arrived(t: int) -> None:
    """The first line of every handler."""
    if t:
        delay = clock() - t
        with open(DELAYS, "a") as file:
            file.write(f"{delay}\n")


def until(seconds: float | None = None, jobs: float = float("inf"), step: int = 1) -> Callable[[], int]:
    """Counts up by `step` while there is time and there are jobs to make; answers 0 at the end."""
    end, left = time.monotonic() + (seconds or float("inf")), jobs

    def more() -> int:
        nonlocal left
        count = 0 if time.monotonic() >= end else int(min(step, left))
        left -= count
        return count

    return more


async def paced(rate: int, jobs: int, send: Callable[[dict[str, Any]], Any]) -> int:
    """An open loop: each job at its time, whatever became of those before it."""
    begun, calls = time.monotonic(), set()
    for n in range(jobs):
        await asyncio.sleep(max(0.0, begun + n / rate - time.monotonic()))
        sent = send(job(clock()))
        if inspect.isawaitable(sent):
            calls.add(asyncio.ensure_future(sent))
    await asyncio.gather(*calls)
    return jobs


def serve(**commands: Callable[..., Any]) -> None:
    """Obeys the driver until it closes the pipe. A command answers how many jobs it has put in."""
    loop = asyncio.new_event_loop()
    print(json.dumps({"runtime": f"Python {sys.version.split()[0]}"}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        jobs = commands[command.pop("do")](**command)
        if inspect.isawaitable(jobs):
            jobs = loop.run_until_complete(jobs)
        print(json.dumps({"jobs": jobs}), flush=True)
