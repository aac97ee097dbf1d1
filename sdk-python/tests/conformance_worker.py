"""The conformance worker: the tasks that the language-neutral suites drive, written with the public API only.

Environment: JOBWIRE_URL, CONF_QUEUES, CONF_CONCURRENCY (4), CONF_PREFETCH (0), CONF_GRACE_MS (25000),
CONF_LEASE_TTL_MS (the server's), CONF_LOG (a file that gets one line per handler start and end).
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from jobwire import App, Context, Discard, NonRetryable, Release, RetryAfter, Snooze

Payload = dict[str, Any]
Handler = Callable[[Context, Payload], Awaitable[Any]]

app = App()
log = logging.getLogger("conf")


class ConfError(Exception):
    """An ordinary failure."""


def millis(value: Any) -> timedelta:
    return timedelta(milliseconds=value)


def note(*words: object) -> None:
    path = os.environ.get("CONF_LOG")
    if path:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
        finally:
            os.close(descriptor)


def conf_task(name: str) -> Callable[[Handler], Handler]:
    """Declares a task whose starts and ends are noted."""

    def declare(handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def noted(ctx: Context, payload: Payload) -> Any:
            who = (ctx.job_id, ctx.attempt, ctx.delivery, os.getpid())
            note("start", *who, time.time_ns() // 1_000_000)
            how = "ok"
            try:
                return await handler(ctx, payload)
            except BaseException as error:
                how = type(error).__name__
                raise
            finally:
                note("end", *who, time.time_ns() // 1_000_000, how)

        app.task(name)(noted)
        return handler

    return declare


@conf_task("conf.echo")
async def echo(ctx: Context, payload: Payload) -> Any:
    return payload


@conf_task("conf.copy")
async def copy(ctx: Context, payload: Payload) -> Any:
    return payload


@conf_task("conf.add")
async def add(ctx: Context, payload: Payload) -> Any:
    return {"numbers": [number + payload["plus"] for number in payload["numbers"]]}


@conf_task("conf.typed")
async def typed(ctx: Context, payload: Payload) -> Any:
    return {"n": payload["n"]}


@conf_task("conf.context")
async def context(ctx: Context, payload: Payload) -> Any:
    return {"headers": dict(ctx.headers), "tags": list(ctx.tags)}


@conf_task("conf.sleep")
async def sleep(ctx: Context, payload: Payload) -> Any:
    await asyncio.sleep(payload["ms"] / 1000)
    return {"slept": payload["ms"]}


@conf_task("conf.block")
async def block(ctx: Context, payload: Payload) -> Any:
    time.sleep(payload["ms"] / 1000)
    return {"blocked": payload["ms"]}


@conf_task("conf.wait")
async def wait(ctx: Context, payload: Payload) -> Any:
    await asyncio.Event().wait()


@conf_task("conf.hold")  # of this language's own tests
async def hold(ctx: Context, payload: Payload) -> Any:
    await asyncio.to_thread(until_there, payload["until"])
    return {"held": True}


def until_there(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.02)


@conf_task("conf.hang")
async def hang(ctx: Context, payload: Payload) -> Any:
    until = time.monotonic() + payload["ms"] / 1000
    while (left := until - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue
    return {"hung": payload["ms"]}


@conf_task("conf.fail")
async def fail(ctx: Context, payload: Payload) -> Any:
    if ctx.attempt <= payload.get("times", ctx.attempt):
        raise ConfError(payload.get("message", ""))
    return {"attempt": ctx.attempt}


@conf_task("conf.no_retry")
async def no_retry(ctx: Context, payload: Payload) -> Any:
    raise NonRetryable("hopeless")


@conf_task("conf.discard")
async def discard(ctx: Context, payload: Payload) -> Any:
    raise Discard("nobody cares")


@conf_task("conf.retry_after")
async def retry_after(ctx: Context, payload: Payload) -> Any:
    if ctx.attempt == 1:
        raise RetryAfter(millis(payload["ms"]))
    return {"attempt": ctx.attempt}


@conf_task("conf.snooze")
async def snooze(ctx: Context, payload: Payload) -> Any:
    if ctx.delivery == 1:
        raise Snooze(millis(payload["ms"]))
    return {"delivery": ctx.delivery}


@conf_task("conf.release")
async def release(ctx: Context, payload: Payload) -> Any:
    if ctx.delivery == 1:
        raise Release("first time")
    return {"delivery": ctx.delivery}


@conf_task("conf.progress")
async def progress(ctx: Context, payload: Payload) -> Any:
    ctx.progress(10)
    ctx.progress(current=5, total=10, message="half", data={"k": 1})
    return {}


@conf_task("conf.log")
async def logs(ctx: Context, payload: Payload) -> Any:
    log.info("one")
    log.warning("two")
    log.error("three")
    return {}


@conf_task("conf.checkpoint")
async def checkpoint(ctx: Context, payload: Payload) -> Any:
    if ctx.attempt == 1:
        ctx.save_checkpoint({"step": 1})
        raise ConfError("saved, and failed")
    return {"checkpoint": ctx.checkpoint}


@conf_task("conf.crash")
async def crash(ctx: Context, payload: Payload) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


@conf_task("conf.big")
async def big(ctx: Context, payload: Payload) -> Any:
    return {"data": "x" * payload["bytes"]}


@conf_task("conf.enqueue")
async def enqueue(ctx: Context, payload: Payload) -> Any:
    options: Any = {"queue": payload["queue"]} if "queue" in payload else {}
    ctx.enqueue("conf.context", {"parent": ctx.job_id}, always=payload.get("always", False), **options)
    if payload.get("fail"):
        raise ConfError("after all")
    return {}


@conf_task("conf.end")
async def end(ctx: Context, payload: Payload) -> Any:
    ctx.save_checkpoint({"step": 1})
    ends: dict[str, Exception] = {
        "fail": ConfError("as told"),
        "no_retry": NonRetryable("as told"),
        "discard": Discard("as told"),
        "retry_after": RetryAfter("30s"),
        "snooze": Snooze("30s"),
        "release": Release("as told"),
    }
    if payload["how"] in ends:
        raise ends[payload["how"]]
    return {}


@conf_task("conf.leave")
async def leave(ctx: Context, payload: Payload) -> Any:
    ctx.progress(1)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        sys.stderr.write(f"told to stop: {ctx.cancel_reason}\n")
        sys.stderr.flush()
        ctx.save_checkpoint({"reason": ctx.cancel_reason})
        raise


@conf_task("conf.at_risk")
async def at_risk(ctx: Context, payload: Payload) -> Any:
    while not ctx.lease_at_risk:  # noqa: ASYNC110 - it is a question, not an event
        await asyncio.sleep(0.02)
    return {"at_risk": True}


def ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    env = os.environ
    app.worker(
        queues=env["CONF_QUEUES"].split(",") if env.get("CONF_QUEUES") else None,
        concurrency=int(env.get("CONF_CONCURRENCY", "4")),
        prefetch=int(env.get("CONF_PREFETCH", "0")),
        grace=millis(int(env.get("CONF_GRACE_MS", "25000"))),
        lease_ttl=millis(int(env["CONF_LEASE_TTL_MS"])) if env.get("CONF_LEASE_TTL_MS") else None,
        on_ready=ready,
    ).run()


if __name__ == "__main__":
    main()
