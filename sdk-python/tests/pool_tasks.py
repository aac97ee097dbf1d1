"""Tasks for tests of executor="process": a module that a child of the pool can import."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass

from jobwire import App, Context, NonRetryable, Retry

app = App()
log = logging.getLogger("user")


@dataclass
class Order:
    number: int
    name: str


@app.task("pool.double", executor="process")
def double(ctx: Context, order: Order) -> dict[str, object]:
    return {"number": order.number * 2, "name": order.name, "job": ctx.job_id, "pid": os.getpid()}


@app.task("pool.talk", executor="process")
def talk(ctx: Context) -> object:
    before = ctx.checkpoint
    log.info("hello from %s", ctx.type)
    ctx.progress(40, message="half way", data={"n": 1})
    ctx.save_checkpoint({"step": 3})
    ctx.enqueue("pool.next", {"n": 1})
    if before is None and ctx.attempt == 1:
        raise ConnectionError("the first attempt fails")
    return {"before": before, "risk": ctx.lease_at_risk, "deadline": ctx.deadline is not None}


@app.task("pool.hopeless", executor="process")
def hopeless() -> None:
    raise NonRetryable("no use")


@app.task("pool.result", executor="process")
def result() -> object:
    return object()


@app.task("pool.wait", executor="process")
def wait(ctx: Context, mark: str) -> None:
    with open(mark, "w") as file:
        file.write("begun")
    try:
        threading.Event().wait()
    finally:
        log.info("cleaned up: %s", ctx.cancel_reason)
        with open(mark, "w") as file:
            file.write("cleaned up")


@app.task("pool.spin", executor="process")
def spin() -> None:
    """Holds the GIL in C code: no signal handler of Python runs."""
    ctypes.PyDLL(None).sleep(60)


@app.task("pool.die", executor="process", retry=Retry(max_crashes=1, initial_delay="20ms"))
def die(ctx: Context, how: str) -> str:
    ctx.save_checkpoint("seen")
    if ctx.delivery > 1:
        return f"alive, checkpoint {ctx.checkpoint}"
    if how == "exit":
        os._exit(3)
    if how == "sys.exit":
        sys.exit("an exception like any other")
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "segfault": signal.SIGSEGV}[how])
    raise AssertionError("unreachable")


@app.task("pool.eat", executor="process")
def eat(mib: int) -> int:
    _kept.append(b"x" * (mib << 20))
    return os.getpid()


_kept: list[bytes] = []


@app.task("pool.sleep", executor="process")
def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@app.task("pool.pid")
def pid() -> int:
    return os.getpid()
