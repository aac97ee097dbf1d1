"""A producer for the matrix: one JSON line for each scene it is asked to play, one for what it saw; see
`tests/tests/matrix/scene.rs`. Written with the public API only. Environment: JOBWIRE_URL.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

from jobwire import (
    AlreadyExists,
    Client,
    Job,
    JobState,
    JobwireError,
    LogEvent,
    ProgressEvent,
    Retry,
    StateEvent,
    Unique,
)

Json = dict[str, Any]
PATIENCE = "20s"
LEVELS = {logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error"}

client = Client()


def revive(value: Json) -> Any:
    return int(value["$big"]) if "$big" in value else value


def options(given: Json) -> Json:
    makers = {"retry": Retry, "unique": Unique}
    return {name: makers[name](**value) if name in makers else value for name, value in given.items()}


def error_of(error: JobwireError) -> Json:
    failure = getattr(error, "failure", None)
    return {
        "class": type(error).__name__,
        "message": failure.message if failure else str(error),
        "kind": failure.kind if failure else "",
        "type": failure.type if failure else "",
        "job_id": error.job_id if isinstance(error, AlreadyExists) else "",
    }


async def follow(job: Job[Any], begun: asyncio.Event, running: asyncio.Event, saw: Json) -> None:
    try:
        async for event in job.events():
            if isinstance(event, StateEvent):
                saw["states"].append(event.state.value)
                if event.state is JobState.RUNNING:
                    running.set()
            elif isinstance(event, ProgressEvent):
                now = event.progress
                saw["progress"].append(
                    {"percent": now.percent, "current": now.current, "total": now.total, "message": now.message}
                    | {"data": dict(now.data)}
                )
            elif isinstance(event, LogEvent):
                saw["logs"].append([LEVELS[event.level], event.message])
            begun.set()
    finally:
        begun.set()
        running.set()


async def enqueue(scene: Json, saw: Json) -> Job[Any]:
    jobs = []
    for payload in scene["payloads"]:
        try:
            job = await client.aenqueue(scene["type"], payload, **options(scene["options"]))
        except JobwireError as error:
            saw["enqueued"].append({"error": error_of(error)})
        else:
            jobs.append(job)
            saw["enqueued"].append({"id": job.id, "status": job.enqueued.status if job.enqueued else ""})
    return jobs[-1]


async def play(scene: Json) -> Json:
    saw: Json = {"enqueued": [], "states": [], "progress": [], "logs": []}
    job = await enqueue(scene, saw)
    begun, running = asyncio.Event(), asyncio.Event()
    following = asyncio.create_task(follow(job, begun, running, saw))
    await begun.wait()
    if scene["hurry"]:
        await job.aretry()
    if scene["cancel"] is not None:
        await running.wait()
        await job.acancel(scene["cancel"])
    try:
        saw["result"] = await job.aresult(PATIENCE)
    except JobwireError as error:
        saw["error"] = error_of(error)
    await following
    status = await job.astatus()
    saw["status"] = {
        "state": status.state.value,
        "attempt": status.attempt,
        "delivery": status.delivery,
        "crashes": status.crashes,
    }
    return saw


async def answer(line: bytes) -> None:
    scene = json.loads(line, object_hook=revive)
    try:
        saw = await play(scene)
    except Exception as error:
        saw = {"fault": repr(error)}
    sys.stdout.write(json.dumps(saw | {"number": scene["number"]}) + "\n")
    sys.stdout.flush()


async def main() -> None:
    lines = asyncio.StreamReader(limit=8 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with asyncio.TaskGroup() as scenes:
        async for line in lines:
            scenes.create_task(answer(line))
    client.close()


asyncio.run(main())
