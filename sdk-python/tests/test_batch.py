"""Batch tasks: declared, run with an outcome for each job, cancelled, drained; with the real server and the fake."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import eventually
from real_server import Server
from scripted import WAIT, Scripted

import jobwire
from jobwire import (
    App,
    BatchContext,
    Cancelled,
    Discard,
    Job,
    JobState,
    LogEvent,
    NonRetryable,
    Queue,
    Release,
    Retry,
    RetryAfter,
    current_context,
)
from jobwire.testing import fake, inline

ONCE = Retry(max_attempts=1)


@dataclasses.dataclass
class Doc:
    id: int
    text: str = ""


@pytest.fixture(scope="module")
def real() -> Iterator[Server]:
    server = Server("memory")
    yield server
    server.kill()


@pytest.fixture
def site(real: Server) -> Iterator[App]:
    with App(real.url) as app:
        yield app  # type: ignore[misc]


def fresh(name: str) -> str:
    return f"{name}-{uuid.uuid4()}"


class Calls:
    """What a handler was called with."""

    def __init__(self) -> None:
        self.ids: list[list[int]] = []
        self.lock = threading.Lock()

    def note(self, docs: list[Doc]) -> list[int]:
        ids = [doc.id for doc in docs]
        with self.lock:
            self.ids.append(ids)
        return ids


# --- declared -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "field", "said"),
    [
        ({"max_size": 0}, "max_size", "from 1 to 1,000"),
        ({"max_size": 1001}, "max_size", "got 1001"),
        ({"max_size": 2.0}, "max_size", "whole number"),
        ({"max_size": 2, "linger": "2m"}, "linger", "at most 1 minute"),
        ({"max_size": 2, "linger": -1}, "linger", "negative"),
    ],
)
def test_limits_of_a_batch(options: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(jobwire.InvalidArgument, match=said) as refused:
        App().batch_task("t", **options)
    assert refused.value.field == field


def test_what_is_no_batch_handler() -> None:
    batch_task: Any = App().batch_task
    with pytest.raises(TypeError, match="runs on the loop or in a thread"):
        batch_task("t", max_size=2, executor="process")
    with pytest.raises(TypeError, match="takes one list"):
        batch_task("t", max_size=2)(lambda one, two: None)
    with pytest.raises(TypeError, match="takes one list"):
        batch_task("t", max_size=2)(lambda: None)

    def of_one(doc: Doc) -> None: ...

    with pytest.raises(TypeError, match="doc is a list, one input for each job"):
        batch_task("t", max_size=2)(of_one)

    def to_one(docs: list[Doc]) -> int:
        return 1

    with pytest.raises(TypeError, match="returns a list of results, or None"):
        batch_task("t", max_size=2)(to_one)


def test_a_worker_that_could_never_fill_a_batch_does_not_start() -> None:
    app = App()
    app.batch_task("index", max_size=50, queue="search")(lambda docs: None)
    with pytest.raises(jobwire.InvalidArgument, match=r"index runs up to 50 jobs .* set it to 40 or more") as refused:
        app.worker(concurrency=10, prefetch=5)
    assert refused.value.field == "prefetch"
    with pytest.raises(jobwire.InvalidArgument, match="search may hold 20"):
        app.worker(queues=[Queue("search", max_slots=20)])
    assert app.worker(concurrency=10, prefetch=40)._session.slots == 50
    assert app.worker(concurrency=10)._session.slots == 100


def test_a_task_of_batches_is_enqueued_and_called_like_any_other() -> None:
    app = App()

    @app.batch_task("index", max_size=3, linger=0)
    def index(docs: list[Doc]) -> list[int]:
        return [doc.id for doc in docs]

    assert index([Doc(1), Doc(2)]) == [1, 2]
    with fake(app) as jobs:
        index.enqueue(Doc(1, "one"))
        index.opts(tags=["x"]).enqueue(Doc(2))
        results = index.enqueue_many([Doc(3), Doc(4)])
        assert [job.input for job in jobs.enqueued][:2] == [{"id": 1, "text": "one"}, {"id": 2, "text": ""}]
        jobs.run()
        assert [index.job(result.job_id).result() for result in results] == [3, 4]


# --- what becomes of each job ---------------------------------------------------------------------------------------


def outcomes(handle: Callable[[BatchContext, list[Doc]], Any], count: int = 3, **options: Any) -> list[Job[Any]]:
    """The jobs of one call of `handle`, under the fake."""
    app = App()
    calls: list[int] = []

    def noted(ctx: BatchContext, docs: list[Doc]) -> Any:
        calls.append(len(docs))
        return handle(ctx, docs)

    task: Any = app.batch_task("t", max_size=count, **{"retry": ONCE, **options})(noted)
    with fake(app) as jobs:
        found = [task.enqueue(Doc(n)) for n in range(count)]
        jobs.run()
        assert calls[0] == count
        for job in found:
            job.known = job.status()
            try:
                job.told = job.result() if job.known.state.terminal else None
            except jobwire.JobNotSucceeded as error:
                job.told = error.failure
    return found


def states(jobs: list[Any]) -> list[str]:
    return [job.known.state.value for job in jobs]


def test_nothing_returned_is_success_of_all() -> None:
    jobs: Any = outcomes(lambda ctx, docs: None)
    assert states(jobs) == ["succeeded"] * 3
    assert [job.told for job in jobs] == [None] * 3


def test_a_list_is_the_results_in_order() -> None:
    jobs: Any = outcomes(lambda ctx, docs: [doc.id * 10 for doc in docs])
    assert [job.told for job in jobs] == [0, 10, 20]


def test_what_is_raised_is_the_failure_of_each_that_said_nothing() -> None:
    def handle(ctx: BatchContext, docs: list[Doc]) -> None:
        ctx[1].succeed({"kept": True})
        raise ValueError("the index is gone")

    jobs: Any = outcomes(handle)
    assert states(jobs) == ["dead", "succeeded", "dead"]
    assert jobs[1].told == {"kept": True}
    assert (jobs[0].told.type, jobs[0].told.message) == ("ValueError", "the index is gone")


def test_each_may_end_in_its_own_way() -> None:
    def handle(ctx: BatchContext, docs: list[Doc]) -> list[int]:
        ctx.jobs[1].fail(KeyError("no such shard"))
        ctx.jobs[2].fail("in words")
        ctx.jobs[3].snooze("10s", reason="busy")
        ctx.jobs[4].retry_after("20s")
        ctx.jobs[5].fail(NonRetryable("never"))
        ctx.jobs[6].fail(Discard("nobody looks"))
        ctx.jobs[7].fail("not so")
        ctx.jobs[7].succeed("after all")
        return [doc.id for doc in docs]

    jobs: Any = outcomes(handle, 8, retry=Retry(max_attempts=2, initial_delay="1h"))
    assert states(jobs) == [
        "succeeded",
        "retrying",
        "retrying",
        "scheduled",
        "retrying",
        "dead",
        "discarded",
        "succeeded",
    ]
    assert (jobs[0].told, jobs[7].told) == (0, "after all")
    assert jobs[1].known.failure.type == "KeyError"
    assert jobs[2].known.failure.message == "in words"
    waits = [(job.known.schedule_time - job.known.start_time).total_seconds() for job in jobs[3:5]]
    assert waits == [10.0, 20.0]


def test_given_back_and_hopeless_by_classifier() -> None:
    def handle(ctx: BatchContext, docs: list[Doc]) -> None:
        if ctx.delivery == 1:
            ctx[0].fail(Release("not mine"))
        ctx[len(ctx) - 1].fail(ValueError("hopeless"))

    jobs: Any = outcomes(handle, 2, retry=Retry(max_attempts=5), no_retry_on=ValueError)
    assert states(jobs) == ["ready", "dead"]


@pytest.mark.parametrize("value", [[1], "abc", 7, {"a": 1}])
def test_as_many_results_as_jobs_or_none(value: Any) -> None:
    jobs: Any = outcomes(lambda ctx, docs: value)
    assert states(jobs) == ["dead"] * 3
    assert "a batch of 3 returns as many results or None, not" in jobs[0].told.message


def test_a_result_that_cannot_travel_is_the_trouble_of_one() -> None:
    jobs: Any = outcomes(lambda ctx, docs: [1, float("nan"), 3])
    assert states(jobs) == ["succeeded", "dead", "succeeded"]
    assert jobs[1].told.kind == "unprocessable"


def test_a_payload_that_cannot_be_read_keeps_the_others_from_nothing() -> None:
    app, calls = App(), Calls()

    @app.batch_task("index", max_size=9, retry=ONCE)
    def index(docs: list[Doc]) -> list[int]:
        return calls.note(docs)

    with fake(app) as jobs:
        given = [{"id": 1}, {"id": "two"}, {"id": 3}]
        found = [app.enqueue("index", doc, retry=ONCE) for doc in given]
        jobs.run()
        assert calls.ids == [[1, 3]]
        assert [job.status().state.value for job in found] == ["succeeded", "dead", "succeeded"]
        alone = app.enqueue("index", {"id": "none"}, retry=ONCE)
        jobs.run()
        assert len(calls.ids) == 1
        failure = alone.status().failure
        assert failure is not None
        assert (failure.kind, "id: expected an integer" in failure.message) == ("unprocessable", True)


def test_wrong_delays_are_refused_where_they_are_said() -> None:
    def handle(ctx: BatchContext, docs: list[Doc]) -> None:
        with pytest.raises(jobwire.InvalidArgument):
            ctx[0].snooze("soon")
        with pytest.raises(jobwire.InvalidArgument):
            ctx[0].retry_after(-1)
        with pytest.raises(jobwire.InvalidArgument):
            ctx[0].fail(7)  # type: ignore[arg-type]
        of_one: list[Callable[[], Any]] = [lambda: ctx.enqueue("t"), lambda: ctx.save_checkpoint(1)]
        of_one += [lambda: ctx.checkpoint, lambda: ctx.dependencies]
        for wrong in of_one:
            with pytest.raises(TypeError, match=r"ctx\.jobs\[0\]"):
                wrong()

    assert states(outcomes(handle)) == ["succeeded"] * 3


def test_what_a_batch_knows_of_itself_and_its_jobs() -> None:
    def handle(ctx: BatchContext, docs: list[Doc]) -> list[Any]:
        assert current_context() is ctx
        assert (ctx.type, ctx.queue, len(ctx), ctx.job_id) == ("t", "t", len(docs), "")
        assert (ctx.cancelled, ctx.cancel_reason, ctx.lease_at_risk) == (False, None, False)
        assert [job.input for job in ctx] == docs
        return [[job.id == job.job_id, job.attempt, job.max_attempts, dict(job.headers)] for job in ctx]

    jobs: Any = outcomes(handle, 2, headers={"tenant": "acme"})
    assert [job.told for job in jobs] == [[True, 1, 1, {"tenant": "acme"}]] * 2


def test_each_job_has_its_progress_checkpoint_log_and_children() -> None:
    app = App()
    attempts: list[list[Any]] = []

    @app.batch_task("t", max_size=2, retry=Retry(max_attempts=2, delays=["1s"]))
    def handle(ctx: BatchContext, docs: list[Doc]) -> None:
        attempts.append([job.checkpoint for job in ctx])
        ctx.progress(50, message="half")
        logging.getLogger("elsewhere").warning("of all")
        for job in ctx:
            job.save_checkpoint({"n": job.input.id})
            job.log.info("of %d", job.input.id)
            job.enqueue("child", {"of": job.input.id})
        ctx[-1].progress(75)
        if ctx.attempt == 1:
            ctx[-1].fail("once")

    with fake(app) as jobs:
        first, second = handle.enqueue(Doc(1)), handle.enqueue(Doc(2))
        jobs.run()
        assert [job.input for job in jobs.assert_enqueued("child")] == [{"of": 1}]
        jobs.advance("1s")
        assert [job.input for job in jobs.assert_enqueued("child")] == [{"of": 1}, {"of": 2}]
        assert attempts == [[None, None], [{"n": 2}]]
        progress = [job.status().progress for job in (first, second)]
        assert [p and (p.percent, p.message) for p in progress] == [(50.0, "half"), (75.0, "")]
        lines = [[e.message for e in job.events() if isinstance(e, LogEvent)] for job in (first, second)]
        assert lines == [["of all", "of 1"], ["of all", "of 2", "of all", "of 2"]]


# --- the fake ---------------------------------------------------------------------------------------------------------


def test_the_fake_makes_batches_of_what_is_due() -> None:
    app, calls = App(), Calls()

    @app.batch_task("index", max_size=2)
    def index(docs: list[Doc]) -> list[int]:
        return calls.note(docs)

    with fake(app) as jobs:
        for n, priority in enumerate([0, 0, 4, 0, 0]):
            index.opts(priority=priority).enqueue(Doc(n))
        index.opts(delay="1m").enqueue(Doc(9))
        jobs.run()
        assert calls.ids == [[2, 0], [1, 3], [4]]
        jobs.advance("1m")
        assert calls.ids[3:] == [[9]]


def test_the_fake_knows_keys_and_coroutines() -> None:
    app, calls = App(), Calls()

    @app.batch_task("index", max_size=9, by_key=True)
    async def index(docs: list[Doc]) -> list[int]:
        await asyncio.sleep(0)
        return calls.note(docs)

    with fake(app) as jobs:
        for n, key in enumerate(["a", "b", "a", ""]):
            index.opts(fairness_key=key).enqueue(Doc(n))
        asyncio.run(jobs.arun())
        assert calls.ids == [[0, 2], [1], [3]]


def test_inline_runs_a_batch_of_what_is_enqueued_at_once() -> None:
    app, calls = App(), Calls()

    @app.batch_task("index", max_size=9)
    def index(docs: list[Doc]) -> list[int]:
        return calls.note(docs)

    with inline(app):
        assert index.run(Doc(1)) == 1
        index.enqueue_many([Doc(2), Doc(3)])
    assert calls.ids == [[1], [2, 3]]


# --- with the real server ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["loop", "thread"])
def test_jobs_run_together_and_each_has_its_own_result(site: App, executor: str) -> None:
    calls = Calls()
    options: Any = {"max_size": 10, "linger": "200ms", "retry": Retry(max_attempts=3, delays=["50ms"])}

    def handle(ctx: BatchContext, docs: list[Doc]) -> list[int]:
        for job in ctx:
            if job.input.id == 3 and job.attempt == 1:
                job.fail("once")
            if job.input.id == 4:
                job.fail(NonRetryable("never"))
        return [n * 10 for n in calls.note(docs)]

    async def ahandle(ctx: BatchContext, docs: list[Doc]) -> list[int]:
        return handle(ctx, docs)

    task = site.batch_task(fresh("index"), **options)(handle if executor == "thread" else ahandle)
    found = task.enqueue_many([Doc(n) for n in range(25)])
    worker = site.worker(concurrency=2)
    worker.start()
    try:
        results = {}
        for n, item in enumerate(found):
            try:
                results[n] = task.job(item.job_id).result(WAIT)
            except jobwire.JobFailed as error:
                results[n] = error.failure and error.failure.message  # type: ignore[assignment]
        assert results == {**{n: n * 10 for n in range(25)}, 4: "never"}
        assert task.job(found[3].job_id).status().attempt == 2
    finally:
        worker.stop()
    sizes = [len(ids) for ids in calls.ids]
    assert (max(sizes), sum(sizes)) == (10, 26)
    assert len(sizes) <= 6


def test_one_that_is_cancelled_is_marked_and_the_others_go_on(site: App) -> None:
    held = threading.Event()
    order: list[int] = []

    @site.batch_task(fresh("index"), max_size=3, linger="5s")
    def index(ctx: BatchContext, docs: list[Doc]) -> list[int]:
        order.extend(doc.id for doc in docs)
        held.set()
        assert ctx[1].wait_cancelled(WAIT)
        assert (ctx[1].cancel_reason, ctx[0].cancelled, ctx.cancelled) == ("requested", False, False)
        ctx[1].fail(Cancelled())
        return [doc.id for doc in docs]

    found = [index.enqueue(Doc(n)) for n in range(3)]
    worker = site.worker()
    worker.start()
    try:
        assert held.wait(WAIT)
        first, second, third = order
        assert found[second].cancel("not this one")
        assert [found[n].result(WAIT) for n in (first, third)] == [first, third]
        with pytest.raises(jobwire.JobCancelled):
            found[second].result(WAIT)
    finally:
        worker.stop()


@pytest.mark.parametrize("executor", ["loop", "thread"])
def test_when_all_are_cancelled_the_handler_is(site: App, executor: str) -> None:
    held = threading.Event()
    told: list[Any] = []

    def handle(ctx: BatchContext, docs: list[Doc]) -> None:
        held.set()
        assert ctx.wait_cancelled(WAIT)
        told.append(ctx.cancel_reason)
        ctx.raise_if_cancelled()

    async def ahandle(ctx: BatchContext, docs: list[Doc]) -> None:
        held.set()
        try:
            await asyncio.sleep(WAIT)
        finally:
            told.append(ctx.cancel_reason)

    task = site.batch_task(fresh("index"), max_size=2, linger="5s")(handle if executor == "thread" else ahandle)
    found = [task.enqueue(Doc(n)) for n in range(2)]
    worker = site.worker()
    worker.start()
    try:
        assert held.wait(WAIT)
        for job in found:
            job.cancel()
        for job in found:
            with pytest.raises(jobwire.JobCancelled):
                job.result(WAIT)
        assert told == ["requested"]
    finally:
        worker.stop()


def test_the_shortest_timeout_ends_the_call_for_all(site: App) -> None:
    @site.batch_task(fresh("index"), max_size=2, linger="5s", retry=ONCE)
    async def index(docs: list[Doc]) -> None:
        await asyncio.sleep(WAIT)

    found = [index.opts(timeout=limit).enqueue(Doc(n)) for n, limit in enumerate(["300ms", "1h"])]
    worker = site.worker()
    worker.start()
    try:
        for job in found:
            with pytest.raises(jobwire.JobFailed) as failed:
                job.result(WAIT)
            assert failed.value.failure is not None
            assert failed.value.failure.kind == "timeout"
    finally:
        worker.stop()


def test_a_drain_while_lingering_gives_them_back(site: App) -> None:
    @site.batch_task(fresh("index"), max_size=50, linger="1m")
    def index(docs: list[Doc]) -> None:
        raise AssertionError("nobody starts it")

    job = index.enqueue(Doc(1))
    worker = site.worker()
    worker.start()
    eventually(lambda: job.status().delivery == 1)
    worker.stop()
    status = job.status()
    assert (status.state, status.attempt, status.crashes) == (JobState.READY, 0, 0)


def test_on_shutdown_the_batch_is_cancelled_at_grace_and_given_back(site: App) -> None:
    held = threading.Event()
    told: list[Any] = []

    @site.batch_task(fresh("index"), max_size=2, linger=0)
    def index(ctx: BatchContext, docs: list[Doc]) -> None:
        held.set()
        ctx.wait_cancelled(WAIT)
        told.append(ctx.cancel_reason)
        ctx.raise_if_cancelled()

    job = index.enqueue(Doc(1))
    worker = site.worker(grace=0.1)
    worker.start()
    assert held.wait(WAIT)
    worker.stop()
    assert told == ["shutdown"]
    assert job.status().state is JobState.READY


# --- with a scripted one ----------------------------------------------------------------------------------------------


def test_one_that_crashed_before_runs_alone_and_a_lost_one_reports_nothing(
    app: App, server: Scripted, work: Callable[..., jobwire.Worker]
) -> None:
    calls = Calls()
    go = threading.Event()

    @app.batch_task("index", max_size=2, linger="50ms")
    def index(ctx: BatchContext, docs: list[Doc]) -> list[int]:
        ids = calls.note(docs)
        go.wait(WAIT)
        return ids

    work(concurrency=4)
    stream = server.stream()
    hello = stream.welcome()
    assert (hello.capacity.slots, hello.capacity.concurrency) == (4, 4)
    stream.job("poison", "index", '{"id": 1}', crashes=1)
    stream.job("a", "index", '{"id": 2}')
    stream.job("b", "index", '{"id": 3}')
    eventually(lambda: len(calls.ids) == 2)
    assert sorted(calls.ids) == [[1], [2, 3]]
    stream.send(heartbeat_ack={"lost": ["a"]})
    eventually(lambda: app_worker_marked(app, "a"))
    go.set()
    reported: list[str] = []
    while len(reported) < 2:
        reported += [outcome.lease_token for outcome in stream.frame().outcomes]
    assert sorted(reported) == ["b", "poison"]


def app_worker_marked(app: App, token: str) -> bool:
    from jobwire._worker import _started

    return any(
        token in worker._session.leases and worker._session.leases[token].lost
        for worker in list(_started)
        if app.tasks.keys() == worker._tasks.keys()
    )


def test_a_classifier_sees_what_the_batch_raised(app: App) -> None:
    @app.batch_task("index", max_size=2, classifiers=[lambda error: RetryAfter("7s")])
    def index(docs: list[Doc]) -> None:
        raise OSError("reset")

    with fake(app) as jobs:
        job = index.enqueue(Doc(1))
        jobs.run()
        status = job.status()
        assert status.schedule_time is not None
        assert status.start_time is not None
        assert (status.schedule_time - status.start_time).total_seconds() == 7.0
