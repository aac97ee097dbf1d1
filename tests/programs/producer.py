"""A producer for the crash tests: enqueues one by one and many at once until SIGTERM, and writes down both sides.

Environment: JOBWIRE_URL, PRODUCER_NAME (starts every key), PRODUCER_LOG (a file: `sent KEY MS` before each enqueue,
`acked KEY JOB STATUS MS` or `failed KEY MS ERROR` after it), PRODUCER_LOOPS (4), PRODUCER_PAUSE_MS (150).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
import uuid
from typing import Any

from jobwire import Client

NAME = os.environ["PRODUCER_NAME"]
LOG = os.open(os.environ["PRODUCER_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
LOOPS = int(os.environ.get("PRODUCER_LOOPS", "4"))
PAUSE = int(os.environ.get("PRODUCER_PAUSE_MS", "150")) / 1000

client = Client()
numbers = itertools.count()


def note(*words: object) -> None:
    os.write(LOG, (" ".join(map(str, words)) + "\n").encode())


def now() -> int:
    return time.time_ns() // 1_000_000


def job(number: int) -> tuple[str, dict[str, Any]]:
    """Half of the jobs are quick, four in ten take 50 to 500 ms, one in ten fails once."""
    key = f"{NAME}-{number}"
    if number % 10 == 9:
        return "conf.fail", {"key": key, "message": "as planned", "times": 1}
    if number % 10 >= 5:
        return "conf.sleep", {"key": key, "ms": 50 + number * 37 % 451}
    return "conf.echo", {"key": key}


async def one(number: int) -> None:
    """One job; every eighth is enqueued again with the same id, which has to make no second job."""
    type, payload = job(number)
    id = str(uuid.uuid4())
    for _ in range(2 if number % 8 == 0 else 1):
        note("sent", payload["key"], now())
        try:
            handle = await client.aenqueue(type, payload, id=id)
        except Exception as error:
            note("failed", payload["key"], now(), repr(error).replace("\n", " "))
        else:
            status = handle.enqueued.status if handle.enqueued else "unknown"
            note("acked", payload["key"], handle.id, status, now())


async def many(number: int) -> None:
    payloads = [{"key": f"{NAME}-{number}.{part}"} for part in range(5)]
    for payload in payloads:
        note("sent", payload["key"], now())
    try:
        results = await client.aenqueue_many([("conf.echo", payload) for payload in payloads])
    except Exception as error:
        for payload in payloads:
            note("failed", payload["key"], now(), repr(error).replace("\n", " "))
        return
    for payload, result in zip(payloads, results, strict=True):
        if result.error is None:
            note("acked", payload["key"], result.job_id, result.status, now())
        else:
            note("failed", payload["key"], now(), repr(result.error))


async def loop(stop: asyncio.Event) -> None:
    while not stop.is_set():
        number = next(numbers)
        if number % 5 == 4:
            await many(number)
        await one(number)
        await asyncio.sleep(PAUSE)


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await asyncio.gather(*(loop(stop) for _ in range(LOOPS)))


asyncio.run(main())
