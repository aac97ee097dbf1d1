"""Taskiq's producer. It has no call for many jobs: a hundred sends in flight."""

from __future__ import annotations

import asyncio

from app import broker, noop
from lines import job, paced, serve, until

IN_FLIGHT = 100
started = False


async def start():
    global started
    if not started:
        await broker.startup()
        started = True


async def callers(seconds, callers=1):
    await start()
    more = until(seconds)

    async def caller():
        done = 0
        while more():
            await noop.kiq(**job())
            done += 1
        return done

    return sum(await asyncio.gather(*(caller() for _ in range(callers))))


async def many(seconds=None, jobs=float("inf")):
    await start()
    more, done = until(seconds, jobs, IN_FLIGHT), 0
    while count := more():
        await asyncio.gather(*(noop.kiq(**job()) for _ in range(count)))
        done += count
    return done


async def pace(rate, jobs):
    await start()
    return await paced(rate, jobs, lambda given: noop.kiq(**given))


serve(one=callers, callers=callers, many=many, paced=pace)
