"""Enqueues one job with a unique key many times at once, beginning at a given moment, and prints `STATUS ID` of each.

Environment: JOBWIRE_URL, BURST_TYPE, BURST_KEY, BURST_COUNT, BURST_AT_MS (wall clock).
"""

from __future__ import annotations

import asyncio
import os
import time

from jobwire import Client


async def main() -> None:
    client = Client()
    type, key, count = os.environ["BURST_TYPE"], os.environ["BURST_KEY"], int(os.environ["BURST_COUNT"])
    await asyncio.sleep(max(0.0, int(os.environ["BURST_AT_MS"]) / 1000 - time.time()))
    jobs = await asyncio.gather(*(client.aenqueue(type, {"key": f"python-{n}"}, unique=key) for n in range(count)))
    for job in jobs:
        print(job.enqueued.status if job.enqueued else "unknown", job.id)


asyncio.run(main())
