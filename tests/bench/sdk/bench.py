"""The Python SDK under load: `bench.py produce` obeys the driver, `bench.py work` is a worker until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import sys

from jobwire import App
from lines import arrived, job, paced, serve, until

BULK = 500
app = App(os.environ["BENCH_URL"])


@app.task("bench.noop")
async def noop(t: int, pad: str) -> str:
    arrived(t)
    return "ok"


def one(seconds: float) -> int:
    more, done = until(seconds), 0
    while more():
        noop.enqueue(**job())
        done += 1
    return done


async def callers(seconds: float, callers: int) -> int:
    more = until(seconds)

    async def caller() -> int:
        done = 0
        while more():
            await noop.aenqueue(**job())
            done += 1
        return done

    return sum(await asyncio.gather(*(caller() for _ in range(callers))))


def many(seconds: float | None = None, jobs: float = float("inf")) -> int:
    more, done = until(seconds, jobs, BULK), 0
    while count := more():
        for result in noop.enqueue_many([job() for _ in range(count)]):
            if result.error is not None:
                raise result.error
            done += 1
    return done


if __name__ == "__main__":
    if sys.argv[1] == "produce":
        serve(
            one=one,
            callers=callers,
            many=many,
            paced=lambda rate, jobs: paced(rate, jobs, lambda given: noop.enqueue(**given) and None),
        )
    else:
        concurrency = int(os.environ["BENCH_CONCURRENCY"])
        app.worker(concurrency=concurrency, prefetch=concurrency).run()
