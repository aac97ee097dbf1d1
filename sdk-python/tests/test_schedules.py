"""Schedules against the real server: `client.schedules`, and what `app.schedule` declares for workers to put."""

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
from jobwire import App, Client, Context, JobState

UTC = timezone.utc


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server("memory")
    yield server
    server.kill()


@pytest.fixture
def app(server: Server) -> Iterator[App]:
    with App(server.url) as app:
        yield app  # type: ignore[misc]


def fresh(name: str) -> str:
    return f"{name}-{uuid.uuid4()}"


def test_what_is_put_is_what_is_got(app: App) -> None:
    id = fresh("nightly")
    options: jobwire.JobOptions = {"queue": "reports", "tags": ["sales"], "retry": 3}
    start, end = datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)

    def put(**changes: Any) -> jobwire.SchedulePut:
        return app.schedules.put(
            id,
            "report.build",
            {"kind": "sales"},
            options=options,
            **{
                "cron": "30 2 * * 1-5",
                "time_zone": "Europe/Berlin",
                "start": start,
                "end": end,
                "jitter": "5m",
                "overlap": "buffer_one",
                "catch_up": "all",
                "catch_up_window": timedelta(hours=6),
                "gap": "skip",
                "fold": "both",
                "note": "for the board",
                **changes,
            },
        )

    first = put()
    assert first.created
    got = app.schedules.get(id)
    assert (got.id, got.type, got.queue, got.input) == (id, "report.build", "reports", {"kind": "sales"})
    assert got.options == {"queue": "reports", "tags": ["sales"], "retry": jobwire.Retry(max_attempts=3)}
    assert (got.cron, got.every, got.time_zone) == ("30 2 * * 1-5", None, "Europe/Berlin")
    assert (got.start, got.end, got.jitter) == (start, end, timedelta(minutes=5))
    assert (got.overlap, got.catch_up, got.gap, got.fold) == ("buffer_one", "all", "skip", "both")
    assert (got.catch_up_window, got.note, got.paused) == (timedelta(hours=6), "for the board", False)
    assert got.next_fire_times[0] == datetime(2030, 1, 1, 1, 30, tzinfo=UTC)
    assert len(got.next_fire_times) == 5
    assert (got.fired_count, got.skipped_count, got.last_job_id, got.last_job_state) == (0, 0, "", None)

    again = put()
    assert not again.created
    assert again.schedule.etag == first.schedule.etag
    changed = put(etag=first.schedule.etag, note="for nobody")
    assert changed.schedule.etag != first.schedule.etag
    with pytest.raises(jobwire.Aborted):
        put(etag=first.schedule.etag)
    assert put(note="only asked", validate_only=True).schedule.note == "only asked"
    assert app.schedules.get(id).note == "for nobody"


def test_a_task_call_brings_its_input_and_options(app: App) -> None:
    @app.task("digest", queue="mail", tags=lambda user, days=1: [user])
    def digest(user: str, days: int = 1) -> None: ...

    id = fresh("digest")
    put = app.schedules.put(id, digest.opts(timeout="1m").s("ada", days=7), every="90s")
    assert (put.schedule.type, put.schedule.queue, put.schedule.input) == ("digest", "mail", {"user": "ada", "days": 7})
    assert put.schedule.options == {"queue": "mail", "tags": ["ada"], "timeout": timedelta(minutes=1)}
    assert put.schedule.every == timedelta(seconds=90)
    assert (put.schedule.time_zone, put.schedule.overlap, put.schedule.catch_up) == ("UTC", "allow", "last")


def test_paused_resumed_triggered_deleted(app: App) -> None:
    schedules, id, other = app.schedules, fresh("s"), fresh("s")
    for name in (id, other):
        schedules.put(name, "nobody.runs.this", {"kind": "sales"}, cron="@yearly", options={"tags": ["gone"]})
    paused = schedules.pause(id, reason="the warehouse moves")
    assert (paused.matched, paused.affected, paused.sample_ids, paused.errors) == (1, 1, (id,), {})
    status = schedules.get(id)
    assert (status.paused, status.pause_reason, status.next_fire_times) == (True, "the warehouse moves", ())
    assert schedules.resume(filter=f'id = "{id}"').affected == 1
    assert not schedules.get(id).paused

    job = schedules.trigger(id, {"kind": "all"})
    status = schedules.get(id)
    assert (status.last_job_id, status.last_job_state, status.fired_count) == (job.id, JobState.READY, 1)
    assert job.status().type == "nobody.runs.this"

    counted = schedules.delete(filter="tag = gone")
    assert (counted.matched, counted.affected) == (2, 0)
    assert schedules.delete(id).affected == 1
    assert schedules.delete(filter="tag = gone", force=True).affected == 1
    with pytest.raises(jobwire.NotFound):
        schedules.get(id)
    with pytest.raises(jobwire.NotFound):
        schedules.trigger(id)


def test_lists_page_by_themselves(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobwire._schedules.PAGE", 2)
    queue = fresh("q")
    ids = sorted(fresh("page") for _ in range(5))
    for id in ids:
        app.schedules.put(id, "t", options={"queue": queue}, every="1h")
    assert [schedule.id for schedule in app.schedules.list(f'queue = "{queue}"')] == ids
    first = next(iter(app.schedules.list(f'queue = "{queue}"')))
    assert (first.queue, first.last_job_state) == (queue, None)


def test_previews_of_what_is_there_and_of_what_is_not(app: App) -> None:
    asked = app.schedules.preview(
        cron="30 2 * * *", time_zone="Europe/Berlin", start=datetime(2030, 3, 30, tzinfo=UTC), count=2
    )
    assert asked.fire_times == (datetime(2030, 3, 30, 1, 30, tzinfo=UTC), datetime(2030, 3, 31, 1, 0, tzinfo=UTC))
    assert asked.description == "At 02:30, Europe/Berlin, from 2030-03-30T00:00:00Z"
    id = fresh("s")
    app.schedules.put(id, "t", every="15m", start=datetime(2030, 1, 1, tzinfo=UTC))
    assert app.schedules.preview(id, count=1).fire_times == (datetime(2030, 1, 1, tzinfo=UTC),)


def test_a_backfill_goes_on_by_itself_and_doubles_nothing(app: App) -> None:
    id = fresh("s")
    app.schedules.put(id, "nobody.runs.this", cron="* * * * *")
    end = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(days=1)
    start = end - timedelta(minutes=1200)
    would = app.schedules.backfill(id, start, end, dry_run=True)
    assert (would.ticks, would.fired, would.existing, would.skipped) == (1201, 1201, 0, 0)
    assert app.schedules.backfill(id, start, start + timedelta(minutes=4)).fired == 5
    rest = app.schedules.backfill(id, start, start + timedelta(minutes=9))
    assert (rest.ticks, rest.fired, rest.existing, len(rest.sample_ids)) == (10, 5, 5, 5)


def test_each_call_for_asyncio(server: Server) -> None:
    async def calls() -> None:
        with Client(server.url) as client:
            schedules, id = client.schedules, fresh("async")
            put = await schedules.aput(id, "nobody.runs.this", {"n": 1}, every="1h")
            assert put.created
            assert (await schedules.aget(id)).input == {"n": 1}
            assert [schedule.id async for schedule in schedules.alist(f'id = "{id}"')] == [id]
            assert (await schedules.apause(id, reason="why")).affected == 1
            assert (await schedules.aresume(id)).affected == 1
            job = await schedules.atrigger(id)
            assert (await job.astatus()).type == "nobody.runs.this"
            assert len((await schedules.apreview(id, count=3)).fire_times) == 3
            now = datetime.now(UTC)
            assert (await schedules.abackfill(id, now - timedelta(hours=5), now, dry_run=True)).fired == 0
            assert (await schedules.adelete(id)).affected == 1

    asyncio.run(calls())


NOBODY = App("jobwire://127.0.0.1:1")


@NOBODY.task("t")
def some_task(n: int = 0) -> None: ...


@pytest.mark.parametrize(
    ("spec", "field", "said"),
    [
        ({}, "spec.cron", 'cron="0 2 * * *" or every="15m"'),
        ({"cron": "@daily", "every": "1h"}, "spec.cron", "one of the two"),
        ({"cron": 5}, "cron", "expected a string, got 5"),
        ({"every": "soon"}, "every", 'such as "30s"'),
        ({"every": "1h", "start": datetime(2030, 1, 1)}, "start", "with a time zone"),
        ({"every": "1h", "overlap": "never"}, "overlap", "none of allow, skip, buffer_one, cancel_previous"),
        ({"cron": "@daily", "gap": 1}, "gap", "none of after, skip"),
    ],
)
def test_what_this_side_refuses(spec: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(jobwire.InvalidArgument, match=None) as refused:
        NOBODY.schedules.put("s", "t", **spec)
    assert (refused.value.field, said in refused.value.message) == (field, True), refused.value
    with pytest.raises(jobwire.InvalidArgument):
        NOBODY.schedule("s", "t", **spec)


def test_a_tick_has_its_own_id_and_start() -> None:
    for options, field in (
        ({"id": str(uuid.uuid4())}, "id"),
        ({"delay": "1s"}, "delay"),
        ({"at": datetime.now(UTC)}, "schedule_time"),
        ({"expire_at": datetime.now(UTC)}, "expire_time"),
    ):
        with pytest.raises(jobwire.InvalidArgument, match="a schedule has none") as refused:
            NOBODY.schedule("s", some_task.opts(**options).s(), every="1h")
        assert refused.value.field == f"spec.job.{field}"


def test_what_cannot_be_meant() -> None:
    with pytest.raises(TypeError, match="unknown option 'crontab'"):
        NOBODY.schedule("s", some_task.s(), crontab="@daily")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"goes above @app\.task"):
        NOBODY.schedule("s", cron="@daily")(lambda: None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="go before the call"):
        NOBODY.schedule("s", some_task.s(), options={"queue": "q"}, cron="@daily")
    with pytest.raises(TypeError, match=r"expected a type name or task\.s"):
        NOBODY.schedules.put("s", some_task, cron="@daily")  # type: ignore[arg-type]
    with pytest.raises(jobwire.InvalidArgument, match="choose by ids, or by filter"):
        NOBODY.schedules.pause()
    with pytest.raises(jobwire.InvalidArgument, match="by its id, or a specification"):
        NOBODY.schedules.preview()
    NOBODY.schedule("twice", some_task.s(), every="1h")
    with pytest.raises(ValueError, match="twice: there is a schedule of this id already"):
        NOBODY.schedule("twice", some_task.s(), every="1h")


def test_workers_put_what_the_app_declares_and_run_it(app: App) -> None:
    ticks: list[tuple[str, datetime | None]] = []
    two = threading.Event()
    every_second, yearly = fresh("every-second"), fresh("yearly")

    @app.schedule(yearly, cron="@yearly")
    @app.task(fresh("sweep"))
    def sweep(ctx: Context, depth: int = 1) -> None:
        ticks.append((ctx.schedule_id, ctx.fire_time))
        if len(ticks) > 1:
            two.set()

    app.schedule(every_second, sweep.s(depth=2), every="1s")
    assert isinstance(sweep, jobwire.Task)
    worker = app.worker()
    worker.start()
    try:
        assert two.wait(WAIT)
    finally:
        worker.stop()
    assert {schedule for schedule, _ in ticks} == {every_second}
    times = [moment for _, moment in ticks]
    assert times[0] is not None
    assert times[1] is not None
    assert times[1] - times[0] == timedelta(seconds=1)
    assert app.schedules.get(every_second).input == {"depth": 2}
    assert app.schedules.get(yearly).cron == "@yearly"
    app.schedules.delete(every_second, yearly)


def test_a_worker_may_leave_schedules_to_others(app: App) -> None:
    id = fresh("s")
    task = app.task(fresh("t"))(lambda: None)
    app.schedule(id, task.s(), every="1h")
    worker = app.worker(put_schedules=False)
    worker.start()
    assert worker.wait_ready(WAIT)
    worker.stop()
    with pytest.raises(jobwire.NotFound):
        app.schedules.get(id)


def test_a_schedule_that_is_refused_stops_the_worker(app: App) -> None:
    ran = threading.Event()
    task = app.task(fresh("t"))(ran.set)
    app.schedule("never", task.s(), cron="0 0 30 2 *")
    task.enqueue()
    with pytest.raises(jobwire.InvalidArgument, match=r"schedule never: .*never fires") as refused:
        app.worker().run()
    assert refused.value.field == "spec.cron"
    assert not ran.is_set()


def test_a_worker_waits_for_a_server_to_put_its_schedules() -> None:
    server = Server("memory")
    server.kill()
    with App(server.url) as client:
        app: App = client  # type: ignore[assignment]
        task = app.task("t")(lambda: None)
        app.schedule("patient", task.s(), every="1h")
        worker = app.worker()
        worker.start()
        assert not worker.wait_ready(0.3)
        server.start()
        try:
            assert worker.wait_ready(WAIT)
            eventually(lambda: app.schedules.get("patient").every == timedelta(hours=1))
            worker.stop()
        finally:
            server.kill()


def test_a_worker_that_waits_for_a_server_can_be_stopped() -> None:
    app = App("jobwire://127.0.0.1:1")
    app.schedule("s", app.task("t")(lambda: None).s(), every="1h")
    worker = app.worker()
    worker.start()
    worker.stop()
