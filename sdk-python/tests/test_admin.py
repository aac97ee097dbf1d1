"""`client.jobs`, `client.queues` and `client.workers` against the real server."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import eventually
from real_server import Server
from scripted import WAIT

import jobwire
from jobwire import App, Client, Context, JobState, RateLimit, Retry


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server("memory")
    yield server
    server.kill()


@pytest.fixture
def app(server: Server) -> Iterator[App]:
    with App(server.url) as app:
        yield app  # type: ignore[misc]


def fresh(name: str = "q") -> str:
    return f"{name}-{uuid.uuid4()}"


# --- jobs -----------------------------------------------------------------------------------------------------------


def test_a_record_has_all_that_is_known(app: App) -> None:
    @app.task(fresh("t"), retry=Retry(max_attempts=2, delays=["20ms"]), tags=["vip"])
    def work(ctx: Context, n: int) -> dict[str, int]:
        ctx.log.warning("attempt %d", ctx.attempt)
        ctx.log.info("again")
        if ctx.attempt == 1:
            raise ValueError("once")
        return {"twice": 2 * n}

    job = work.enqueue(21)
    worker = app.worker()
    worker.start()
    try:
        job.result(WAIT)
        eventually(lambda: len(list(app.jobs.logs(job))) == 4)
    finally:
        worker.stop()
    record = app.jobs.get(job)
    assert (record.id, record.state, record.input, record.result) == (
        job.id,
        JobState.SUCCEEDED,
        {"n": 21},
        {"twice": 42},
    )
    assert (record.options["tags"], record.etag != "", record.purge_time is not None) == (["vip"], True, True)
    latest, first = record.attempts
    assert (latest.attempt, latest.result, first.attempt, first.result) == (2, "succeeded", 1, "failed")
    assert first.failure is not None
    assert (first.failure.type, first.worker_id) == ("ValueError", worker.config.worker_id)
    assert [line.message for line in app.jobs.logs(job, level=30)] == ["attempt 1", "attempt 2"]
    with pytest.raises(jobwire.NotFound):
        app.jobs.get(str(uuid.uuid4()))


def test_many_are_listed_changed_retried_cancelled_and_deleted(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobwire._jobs.PAGE", 3)
    queue, other = fresh(), fresh()
    items = app.enqueue_many([("nobody.runs.this", {"n": n}) for n in range(2)])
    task = app.task("nobody.runs.this", queue=queue)(lambda n: None)
    jobs = [item.job for item in task.enqueue_many([{"n": n} for n in range(7)])]
    assert [item.error for item in items] == [None, None]
    assert all(job is not None and job.id for job in jobs)
    here = f'queue = "{queue}"'
    assert {status.id for status in app.jobs.list(here)} == {job.id for job in jobs if job}
    assert {status.state for status in app.jobs.list(here)} == {JobState.READY}

    assert app.jobs.update(filter=here, priority=3, delay="1h", retry=2, dry_run=True).affected == 0
    assert app.jobs.update(filter=here, priority=3, delay="1h", retry=2, timeout="5s", limit=5).affected == 5
    assert app.jobs.update(filter=here, priority=3, delay="1h", retry=2, timeout="5s").matched == 7
    first = jobs[0]
    assert first is not None
    etag = app.jobs.get(first).etag
    assert app.jobs.update(first, input={"n": 70}, at=datetime.now(timezone.utc) + timedelta(hours=2), etag=etag)
    record = app.jobs.get(first)
    assert (record.input, record.priority, record.state) == ({"n": 70}, 3, JobState.SCHEDULED)
    assert record.options["timeout"] == timedelta(seconds=5)

    assert app.jobs.retry(filter=here, spread="1s", queue=other).affected == 7
    there = f'queue = "{other}"'
    assert {status.id for status in app.jobs.list(there)} == {job.id for job in jobs if job}
    assert app.jobs.cancel(first, reason="not this one").affected == 1
    assert app.jobs.cancel(filter=there, dry_run=True).matched == 6
    assert app.jobs.cancel(filter=there, reason="none of them").affected == 6
    failure = app.jobs.get(first).failure
    assert failure is not None
    assert "not this one" in failure.message
    assert app.jobs.delete(filter=there).affected == 0
    assert app.jobs.delete(first).affected == 1
    assert app.jobs.delete(filter=there, force=True).affected == 6
    assert list(app.jobs.list(there)) == []


def test_ids_beyond_a_thousand_take_several_calls(app: App) -> None:
    queue = fresh()
    task = app.task(fresh("t"), queue=queue)(lambda: None)
    ids = [item.id for item in task.enqueue_many([{}] * 1203)]
    result = app.jobs.cancel(*ids, reason="too many")
    assert (result.matched, result.affected, len(result.sample_ids), result.errors) == (1203, 1203, 100, {})
    again = app.jobs.cancel(*ids[:2], str(uuid.uuid4()))
    assert (again.affected, {error.reason for error in again.errors.values()}) == (0, {"JOB_NOT_FOUND"})


def test_a_refused_item_has_an_error_and_no_job(app: App) -> None:
    task = app.task(fresh("t"))(lambda n: None)
    bad, good = app.enqueue_many([task.opts(priority=9).s(1), task.s(2)])
    assert (bad.job, bad.id, bad.status) == (None, "", "refused")
    assert isinstance(bad.error, jobwire.InvalidArgument)
    assert good.job is not None
    assert (good.job.id, good.id, good.job_id, good.status) == (good.id, good.job_id, good.id, "created")
    assert good.job.enqueued is not None


def test_what_cannot_be_meant_of_jobs(app: App) -> None:
    calls: list[Any] = [app.jobs.cancel, app.jobs.retry, app.jobs.update, app.jobs.delete]
    for call in calls:
        with pytest.raises(jobwire.InvalidArgument, match="choose by ids, or by filter"):
            call()
        with pytest.raises(jobwire.InvalidArgument, match="choose by ids, or by filter"):
            call("id", filter="*")
        with pytest.raises(jobwire.InvalidArgument, match="expected ids or handles"):
            call(7)
    with pytest.raises(TypeError, match="exclude each other"):
        app.jobs.update("id", delay="1s", at=datetime.now(timezone.utc))
    with pytest.raises(jobwire.InvalidArgument):
        list(app.jobs.list("colour = red"))


# --- queues -----------------------------------------------------------------------------------------------------------


def test_a_queue_is_configured_as_a_whole_or_in_part(app: App) -> None:
    name = fresh()
    config: jobwire.QueueOptions = {
        "max_running": 5,
        "rate_limit": RateLimit(10, per="1m", burst=1),
        "max_depth": 1000,
        "retry": Retry(max_attempts=3, initial_delay="2s"),
        "timeout": "30s",
        "retention": "1d",
        "max_dead": -1,
        "note": "mails",
    }
    put = app.queues.put(name, **config)
    assert put.config == {
        **config,
        "rate_limit": RateLimit(10, timedelta(minutes=1), 1),
        "retry": Retry(max_attempts=3, initial_delay=timedelta(seconds=2)),
        "timeout": timedelta(seconds=30),
        "retention": timedelta(days=1),
    }
    changed = app.queues.set(name, max_running=7, rate_limit=None, etag=put.etag)
    assert (changed.config["max_running"], "rate_limit" in changed.config) == (7, False)
    assert changed.config["note"] == "mails"
    with pytest.raises(jobwire.Aborted):
        app.queues.set(name, max_running=8, etag=put.etag)
    assert app.queues.put(name, max_running=1).config == {"max_running": 1}
    with pytest.raises(jobwire.NotFound):
        app.queues.get(fresh())


def test_queues_are_listed_paused_resumed_and_purged(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobwire._queues.PAGE", 2)
    prefix = fresh()
    names = [f"{prefix}-{n}" for n in range(3)]
    for name in names:
        app.enqueue("nobody.runs.this", queue=name)
    assert [queue.name for queue in app.queues.list(f'name = "{prefix}*"')] == names
    assert sorted(app.queues.pause(*names[:2], reason="SMTP is down", duration="1h")) == names[:2]
    queue = app.queues.get(names[0])
    assert (queue.paused, queue.pause_reason, queue.stats.ready) == (True, "SMTP is down", 1)
    assert queue.resume_time is not None
    assert app.queues.resume(names[0]) == (names[0],)
    assert not app.queues.get(names[0]).paused
    assert app.queues.purge(names[0]).affected == 0
    assert app.queues.purge(names[0], force=True).affected == 1
    assert app.queues.get(names[0]).stats.ready == 0


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"max_running": 1.5}, "max_running"),
        ({"max_running": 1 << 40}, "max_running"),
        ({"rate_limit": 5}, "rate_limit"),
        ({"rate_limit": RateLimit(5, per="soon")}, "rate_limit.per"),
        ({"key_weights": {"a": "b"}}, "key_weights"),
        ({"durability": "somewhat"}, "durability"),
        ({"retry": "often"}, "retry"),
        ({"note": 7}, "note"),
        ({}, "config"),
    ],
)
def test_what_this_side_refuses_of_a_queue(app: App, config: dict[str, Any], field: str) -> None:
    with pytest.raises(jobwire.InvalidArgument) as refused:
        app.queues.set("q", **config)
    assert refused.value.field == field
    with pytest.raises(TypeError, match="unknown option 'max_runing'"):
        app.queues.put("q", max_runing=1)  # type: ignore[call-arg]
    with pytest.raises(jobwire.InvalidArgument, match="name the queues"):
        app.queues.pause()


# --- workers ----------------------------------------------------------------------------------------------------------


def test_workers_are_found_quieted_and_ended(app: App) -> None:
    held, go = threading.Event(), threading.Event()
    type = fresh("t")

    @app.task(type)
    def hold() -> None:
        held.set()
        go.wait(WAIT)

    job = hold.enqueue()
    worker = app.worker(name=fresh("w"), concurrency=3, prefetch=0, app_version="7", labels={"site": "a"})
    worker.start()
    try:
        assert held.wait(WAIT)
        mine = f'worker_id = "{worker.config.worker_id}"'
        (found,) = app.workers.list(mine)
        assert (found.id, found.name) == (worker.config.session_id, worker.config.worker_id)
        assert (found.state, found.types, found.queues, found.slots) == ("active", (type,), (type,), 3)
        assert (found.app_version, found.labels, found.sdk) == ("7", {"site": "a"}, "jobwire-python")
        eventually(lambda: [held.id for held in app.workers.get(found.id).jobs] == [job.id])
        assert app.workers.quiet(filter=mine, reason="a deploy").affected == 1
        eventually(lambda: app.workers.get(found.id).state == "quiet")
        assert app.workers.get(found.id).directive == "quiet"
        assert app.workers.resume(found.id).affected == 1
        eventually(lambda: app.workers.get(found.id).state == "active")
        assert app.workers.terminate(found.id, grace="10s").affected == 1
        eventually(lambda: worker._session.draining)
        go.set()
        assert job.result(WAIT) is None
        worker._ended.result(WAIT)
    finally:
        worker.stop()
    with pytest.raises(jobwire.NotFound):
        app.workers.get(fresh())


def test_each_call_for_asyncio(server: Server) -> None:
    async def calls() -> None:
        with Client(server.url) as client:
            queue = fresh()
            items = await client.aenqueue_many([("nobody.runs.this", {})])
            assert items[0].job is not None
            job = await client.aenqueue("nobody.runs.this", {"n": 1}, queue=queue)
            assert (await client.jobs.aget(job)).input == {"n": 1}
            assert [status.id async for status in client.jobs.alist(f'queue = "{queue}"')] == [job.id]
            assert [line async for line in client.jobs.alogs(job)] == []
            assert (await client.jobs.aupdate(job, priority=1)).affected == 1
            assert (await client.jobs.acancel(job)).affected == 1
            assert (await client.jobs.aretry(job)).affected == 1
            assert (await client.jobs.adelete(job, force=True)).affected == 1

            assert (await client.queues.aput(queue, max_running=1)).config == {"max_running": 1}
            assert (await client.queues.aset(queue, note="n")).config == {"max_running": 1, "note": "n"}
            assert (await client.queues.aget(queue)).name == queue
            assert [q.name async for q in client.queues.alist(f'name = "{queue}"')] == [queue]
            assert await client.queues.apause(queue) == (queue,)
            assert await client.queues.aresume(queue) == (queue,)
            assert (await client.queues.apurge(queue)).matched == 0

            assert [worker async for worker in client.workers.alist('worker_id = "nobody"')] == []
            with pytest.raises(jobwire.NotFound):
                await client.workers.aget(fresh())
            for call in (client.workers.aquiet, client.workers.aresume, client.workers.aterminate):
                assert (await call(filter='worker_id = "nobody"')).matched == 0

    asyncio.run(calls())
