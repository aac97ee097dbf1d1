"""Enqueues the task of mail_tasks.py in the ways there are: sync, asyncio, in bulk, and follows one job."""

from __future__ import annotations

import asyncio

from mail_tasks import Mail, send

from jobwire import LogEvent, ProgressEvent, StateEvent


def follow() -> None:
    """Prints what happens to one job until it has ended."""
    job = send.opts(priority=2, ttl="1h").enqueue(Mail(["a@b.c", "d@e.f"], "hi"))
    for event in job.events():
        match event:
            case StateEvent(state):
                print(state.value)
            case ProgressEvent(progress):
                print(f"{progress.percent or 0:.0f} %")
            case LogEvent(message=message):
                print(message)


async def many() -> None:
    """Concurrent calls leave together: a hundred of these cost a few round trips."""
    jobs = await asyncio.gather(*(send.aenqueue(Mail([f"user{n}@b.c"], "hi")) for n in range(100)))
    receipts = await asyncio.gather(*(job.aresult(timeout=60) for job in jobs))
    print(sum(receipt.sent for receipt in receipts), "sent")


if __name__ == "__main__":
    follow()
    asyncio.run(many())
    results = send.enqueue_many([Mail(["x@y.z"], "hi"), Mail(["no address"], "hi")])
    print([result.status for result in results])
    print(results[0].job and results[0].job.result(timeout=60))
