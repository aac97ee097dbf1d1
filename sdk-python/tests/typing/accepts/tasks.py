"""What the documentation shows about tasks, enqueueing and results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, TypedDict

from pydantic import BaseModel
from typing_extensions import assert_type

from jobwire import (
    App,
    BatchContext,
    BatchJob,
    BulkResult,
    Context,
    EnqueueItem,
    Flow,
    Job,
    JobStatus,
    Node,
    Payload,
    Queue,
    Retry,
    Task,
    Unique,
    Workflow,
    WorkflowStatus,
    chain,
    chord,
    previous,
)

app = App("jobwire://127.0.0.1:7420", timeout="10s")


@dataclass
class Mail:
    to: str
    body: str = ""


class Receipt(BaseModel):
    id: str


class Order(TypedDict):
    number: int


def tenant(mail: Mail) -> str:
    return mail.to


@app.task(
    "email.send",
    queue="mail",
    timeout="30s",
    retry=Retry(max_attempts=8, initial_delay="2s", max_delay=timedelta(minutes=10), jitter=0.1),
    no_retry_on=(ValueError,),
    unique=lambda mail: mail.to,
    fairness_key=tenant,
)
async def send(ctx: Context, mail: Mail) -> Receipt:
    ctx.progress(50, message="at the relay")
    return Receipt(id=mail.to)


@app.task("img.resize", executor="process", unique=Unique("k", "until_started", on_conflict="replace"))
def resize(path: str, width: int = 800, *, sharp: bool = False) -> str:
    return path


@app.task("order", heartbeat_timeout=30)
async def order(order: Order) -> None: ...


@app.task("plain")
def plain(ctx: Context, *, rows: Sequence[int]) -> list[int]:
    return list(rows)


# The Context is no part of a task's own signature; the result is typed.
assert_type(send.enqueue(Mail("a@b.c")), Job[Receipt])
assert_type(send.enqueue(Mail("a@b.c")).result(timeout=20), Receipt)
assert_type(resize.opts(delay="10m", priority=2, tags=["x"]).enqueue("p", width=3, sharp=True).result("20s"), str)
assert_type(resize.run("p"), str)
assert_type(order.run({"number": 7}), None)
assert_type(plain.enqueue(rows=[1, 2]).result(), list[int])
assert_type(send.job("id"), Job[Receipt])
assert_type(app.enqueue(resize.s("p")), Job[str])
assert_type(app.run(resize.s("p"), wait="20s"), str)
assert_type(app.enqueue("other", {"a": 1}, delay=timedelta(minutes=1)), Job[Any])
assert_type(app.job("id"), Job[Any])
assert_type(send.enqueue_many([Mail("a@b.c"), Mail("d@e.f")]), list[EnqueueItem[Receipt]])
assert_type(app.enqueue_many([resize.s("p"), ("other", {})]), list[EnqueueItem[Any]])
assert_type(send.enqueue(Mail("x")).status(), JobStatus)
assert_type(send.enqueue(Mail("x")).cancel("user left", grace="5s"), bool)

send.opts(at=datetime.now(timezone.utc), ttl="1h", retry=3, headers={"a": "b"}, id="x", idempotency_key="order-7")
send.opts(delay=0.5, timeout=timedelta(seconds=3), retention=60, unique="k", after=[send.job("id"), "id"])
app.enqueue("raw", Payload(b"\x00", "application/octet-stream"))
as_task: Task[[Mail], Receipt] = send

worker = app.worker(queues=["mail", Queue("reports", weight=1, max_slots=5)], concurrency=50, grace="25s")


async def main() -> None:
    job = await send.aenqueue(Mail("a@b.c"))
    assert_type(job, Job[Receipt])
    assert_type(await job.aresult(timeout=20), Receipt)
    assert_type(await resize.arun("p"), str)
    async for event in job.events(logs=False):
        print(event)
    await worker.arun()


@app.batch_task("mails", max_size=50, linger="100ms", by_key=True, timeout="1m")
async def mails(ctx: BatchContext, mails: list[Mail]) -> list[Receipt]:
    for job in ctx.jobs:
        assert_type(job, BatchJob)
        job.fail(ValueError(job.id))
        job.snooze("5s", throttle="key")
    return [Receipt(id=mail.to) for mail in mails]


@app.batch_task("rows", max_size=5)
def rows(rows: list[dict[str, int]]) -> None: ...


assert_type(mails.enqueue(Mail("a")), Job[Receipt])
assert_type(rows.run({"a": 1}), None)
app.schedule("nightly", rows.s({"a": 1}), cron="0 2 * * *", time_zone="UTC", overlap="skip")


@app.schedule("hourly", every=timedelta(hours=1), catch_up="all")
@app.task("sweep")
def sweep(depth: int = 1) -> None: ...


assert_type(sweep.enqueue(depth=2), Job[None])


# Workflows.
@app.task("parse")
def parse(url: str) -> list[str]:
    return [url]


@app.task("store")
async def store(words: list[str], table: str = "t") -> int:
    return len(words)


assert_type(chain(parse.s("u"), store.s(previous, table="pages")).enqueue(), Workflow[Any])
assert_type(chord([parse.s("u"), parse.s("v")], store.s(previous)).enqueue("name", tags=["a"]), Workflow[int])
assert_type(parse.map(["u", "v"]).enqueue().result(timeout="20s"), list[list[str]])
flow = Flow("f", on_node_failure="hold", total_timeout="1h")
words = flow.add(parse.s("u"), name="words")
assert_type(words, Node[list[str]])
assert_type(words.result, list[str])
stored = flow.add(store.s(words.result), after=[words.finished])
flow.add("go.report", {"rows": stored}, options={"queue": "go"})
assert_type(app.start(flow), Workflow[Any])
assert_type(app.workflow("id").wait("20s"), WorkflowStatus)
assert_type(app.jobs.retry(filter="state = DEAD"), BulkResult)
assert_type([queue.name for queue in app.queues.list()], list[str])
