"""Options whose meaning is the server's, seen through the SDK against a real one: unique, idempotency, time, order."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

import pytest
from conftest import eventually
from real_server import Server
from scripted import WAIT

import jobwire
from jobwire import App, EnqueueResult, Job, JobState, Queue, Retry, Unique

Scope = Literal["until_finished", "until_started", "for_ttl"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server("memory")
    yield server
    server.kill()


class Site:
    """An app with one task, "hold", whose handlers wait until they are let go; and a queue of this test's own."""

    def __init__(self, url: str) -> None:
        self.app = App(url)
        self.queue = f"q-{uuid.uuid4()}"
        self.held: list[int] = []
        self.go = threading.Event()
        self._worker: Any = None

        @self.app.task("hold", queue=self.queue, retry=Retry(max_attempts=1))
        def hold(n: int = 0, fail: bool = False) -> int:
            self.held.append(n)
            self.go.wait(WAIT)
            if fail:
                raise ValueError("told to")
            return n

        self.hold = hold

    def work(self, concurrency: int = 4) -> None:
        self._worker = self.app.worker(queues=[Queue(self.queue)], concurrency=concurrency)
        self._worker.start()

    def end(self) -> None:
        self.go.set()
        if self._worker is not None:
            self._worker.stop()
        self.app.close()


@pytest.fixture
def site(server: Server) -> Iterator[Site]:
    site = Site(server.url)
    yield site
    site.end()


def how(job: Job[Any]) -> str:
    assert job.enqueued is not None
    return job.enqueued.status


SCOPES: list[Unique] = [
    Unique("k"),
    Unique("k", scope="until_finished"),
    Unique("k", scope="until_started"),
    Unique("k", scope="for_ttl", ttl="1h"),
]


@pytest.mark.parametrize("unique", SCOPES)
def test_keep_returns_the_job_that_waits(site: Site, unique: Unique) -> None:
    hold = site.hold.opts(unique=unique)
    first, second = hold.enqueue(1), hold.enqueue(2)
    assert (how(first), how(second)) == ("created", "kept")
    assert first.id == second.id
    other = site.hold.opts(unique=Unique("other", unique.scope, unique.ttl)).enqueue(3)
    assert how(other) == "created"


@pytest.mark.parametrize("unique", SCOPES)
def test_reject_names_the_job_that_is_in_the_way(site: Site, unique: Unique) -> None:
    hold = site.hold.opts(unique=Unique("k", unique.scope, unique.ttl, on_conflict="reject"))
    first = hold.enqueue(1)
    with pytest.raises(jobwire.AlreadyExists) as caught:
        hold.enqueue(2)
    assert caught.value.reason == "UNIQUE_CONFLICT"
    assert caught.value.job_id == first.id
    created, refused = hold.enqueue_many([site.hold.opts(unique="free").s(1), hold.s(3)])
    assert (created.status, refused.status) == ("created", "refused")
    assert isinstance(refused.error, jobwire.AlreadyExists)
    assert refused.error.job_id == first.id


@pytest.mark.parametrize("unique", SCOPES)
def test_replace_puts_the_newcomer_into_the_job_that_waits(site: Site, unique: Unique) -> None:
    hold = site.hold.opts(unique=Unique("k", unique.scope, unique.ttl, on_conflict="replace"))
    first, second = hold.opts(delay="10m").enqueue(1), hold.enqueue(2)
    assert (how(second), second.id) == ("replaced", first.id)
    site.go.set()
    site.work()
    assert first.result(WAIT) == 2


@pytest.mark.parametrize("unique", SCOPES)
def test_debounce_moves_the_start_and_keeps_the_payload(site: Site, unique: Unique) -> None:
    hold = site.hold.opts(unique=Unique("k", unique.scope, unique.ttl, on_conflict="debounce"))
    first = hold.opts(delay="10m").enqueue(1)
    before = first.status().schedule_time
    second = hold.opts(delay="20m").enqueue(2)
    after = first.status().schedule_time
    assert (how(second), second.id) == ("replaced", first.id)
    assert before is not None
    assert after is not None
    assert timedelta(minutes=9) < after - before < timedelta(minutes=11)
    assert how(hold.opts(delay="0s").enqueue(3)) == "replaced"
    site.go.set()
    site.work()
    assert first.result(WAIT) == 1


@pytest.mark.parametrize(
    ("scope", "while_running", "when_done"),
    [("until_finished", "kept", "created"), ("until_started", "created", "created"), ("for_ttl", "kept", "kept")],
)
def test_a_scope_ends_when_it_says(site: Site, scope: Scope, while_running: str, when_done: str) -> None:
    site.work()
    hold = site.hold.opts(unique=Unique("k", scope, ttl="10m" if scope == "for_ttl" else None))
    first = hold.enqueue(1)
    eventually(lambda: site.held)
    second = hold.enqueue(2)
    assert how(second) == while_running
    site.go.set()
    assert first.result(WAIT) == 1
    second.result(WAIT)
    assert how(hold.enqueue(3)) == when_done


def test_a_key_for_a_time_is_free_after_it(site: Site) -> None:
    hold = site.hold.opts(unique=Unique("k", "for_ttl", ttl="200ms"))
    first = hold.enqueue(1)
    results: list[Job[int]] = []

    def free() -> bool:
        results.append(hold.enqueue(2))
        return how(results[-1]) == "created"

    eventually(free)
    assert results[-1].id != first.id


def test_a_dead_job_holds_nothing(site: Site) -> None:
    site.go.set()
    site.work()
    hold = site.hold.opts(unique="k")
    first = hold.enqueue(1, fail=True)
    with pytest.raises(jobwire.JobFailed):
        first.result(WAIT)
    assert how(hold.enqueue(1)) == "created"


def test_a_key_may_be_a_function_or_a_hash_of_the_input(site: Site) -> None:
    by_input = site.hold.opts(unique=lambda n, fail=False: f"n-{n}")
    assert [how(by_input.enqueue(n)) for n in (1, 2, 1)] == ["created", "created", "kept"]
    hashed = site.hold.opts(unique=Unique())
    assert [how(hashed.enqueue(n)) for n in (5, 6, 5)] == ["created", "created", "kept"]
    full = site.hold.opts(unique=lambda n, fail=False: Unique(f"u-{n}", on_conflict="reject"))
    full.enqueue(1)
    with pytest.raises(jobwire.AlreadyExists):
        full.enqueue(1)


def test_keys_belong_to_their_queue(site: Site) -> None:
    first = site.hold.opts(unique="k", queue=f"{site.queue}-a").enqueue(1)
    second = site.hold.opts(unique="k", queue=f"{site.queue}-b").enqueue(1)
    assert (how(first), how(second)) == ("created", "created")


def test_an_idempotency_key_returns_the_first_job_even_when_it_has_ended(site: Site) -> None:
    site.go.set()
    site.work()
    hold = site.hold.opts(idempotency_key="order-7")
    first = hold.enqueue(1)
    assert first.result(WAIT) == 1
    again = hold.enqueue(1)
    assert (how(again), again.id) == ("duplicate", first.id)
    with pytest.raises(jobwire.AlreadyExists) as caught:
        hold.enqueue(2)
    assert (caught.value.reason, caught.value.job_id) == ("ID_CONFLICT", first.id)
    assert hold.opts(queue=f"{site.queue}-b").enqueue(1).id != first.id
    assert site.held == [1]


def test_an_idempotency_key_is_forgotten_after_its_ttl(site: Site) -> None:
    hold = site.hold.opts(idempotency_key=lambda n: f"order-{n}", idempotency_ttl="200ms")
    first = hold.enqueue(1)
    assert hold.enqueue(2).id != first.id
    eventually(lambda: hold.enqueue(1).id != first.id)


def test_delay_and_at_start_then(site: Site) -> None:
    site.go.set()
    site.work()
    started = time.monotonic()
    at = datetime.now(timezone.utc) + timedelta(milliseconds=400)
    jobs = [site.hold.opts(delay="300ms").enqueue(1), site.hold.opts(at=at).enqueue(2)]
    assert [job.status().state for job in jobs] == [JobState.SCHEDULED] * 2
    assert [job.result(WAIT) for job in jobs] == [1, 2]
    assert time.monotonic() - started >= 0.3
    assert site.held == [1, 2]


def test_priority_orders_and_ttl_expires(site: Site) -> None:
    late = site.hold.opts(ttl="100ms").enqueue(9)
    until = datetime.now(timezone.utc) + timedelta(milliseconds=100)
    later = site.hold.opts(expire_at=until).enqueue(8)
    for priority in (-4, 0, 4):
        site.hold.opts(priority=priority).enqueue(priority)
    for job in (late, later):
        with pytest.raises(jobwire.JobExpired):
            job.result(WAIT)
    site.go.set()
    site.work(concurrency=1)
    eventually(lambda: len(site.held) == 3)
    assert site.held == [4, 0, -4]


def test_an_attempt_times_out(site: Site) -> None:
    @site.app.task("sleeper", queue=site.queue, timeout="100ms", retry=1)
    async def sleeper() -> None:
        await asyncio.sleep(WAIT)

    site.work()
    with pytest.raises(jobwire.JobFailed) as caught:
        sleeper.enqueue().result(WAIT)
    assert caught.value.failure is not None
    assert caught.value.failure.kind == "timeout"


def test_tags_headers_retention_and_priority_are_kept(site: Site) -> None:
    job = site.hold.opts(
        tags=lambda n: [f"n-{n}", "x"], headers={"tenant": "a"}, priority=3, retention="1h", dead_retention="2h"
    ).enqueue(7)
    status = job.status()
    assert (set(status.tags), status.priority, status.queue) == ({"n-7", "x"}, 3, site.queue)


def test_explicit_delays_and_a_number_of_attempts(site: Site) -> None:
    site.go.set()
    site.work()
    job = site.hold.opts(retry=Retry(max_attempts=3, delays=["10ms", "20ms"], jitter=0)).enqueue(1, fail=True)
    with pytest.raises(jobwire.JobFailed):
        job.result(WAIT)
    assert job.status().attempt == 3


def test_a_stream_of_jobs_arrives_once_each(site: Site) -> None:
    site.go.set()
    site.work()
    results: list[EnqueueResult] = list(site.hold.enqueue_stream(range(3000)))
    assert len({result.job_id for result in results}) == 3000
    assert {result.status for result in results} == {"accepted"}
    eventually(lambda: len(site.held) == 3000)
    assert sorted(site.held) == list(range(3000))
    first, second = site.app.enqueue_stream([("no name", {}), ("hold", {})])
    assert isinstance(first.error, jobwire.InvalidArgument)
    assert second.status == "accepted"


# --- fairness keys and throttles --------------------------------------------------------------------------------------


def test_keys_take_turns(site: Site) -> None:
    order: list[str] = []
    done = threading.Event()

    @site.app.task(f"turn-{site.queue}", queue=site.queue)
    def turn(key: str) -> None:
        order.append(key)
        if len(order) == 12:
            done.set()

    site.app.enqueue_many([turn.opts(fairness_key="loud").s("loud") for _ in range(9)])
    site.app.enqueue_many([turn.opts(fairness_key=lambda key: key).s("calm") for _ in range(3)])
    site.work(concurrency=1)
    assert done.wait(WAIT)
    assert order[:6].count("calm") >= 2, order  # not behind all of the loud ones


def test_a_key_is_held_to_its_own_limit(site: Site) -> None:
    site.app.queues.set(site.queue, max_running_per_key=1)
    jobs = [site.hold.opts(fairness_key=key).enqueue(n) for n, key in enumerate(["a", "a", "b"])]
    site.work()
    eventually(lambda: len(site.held) == 2)
    assert sorted(site.held) == [0, 2]
    site.go.set()
    assert [job.result(WAIT) for job in jobs] == [0, 1, 2]


@pytest.mark.parametrize("throttle", ["queue", "key"])
def test_a_snooze_may_hold_back_others(site: Site, throttle: Literal["queue", "key"]) -> None:
    started: dict[str, float] = {}

    @site.app.task(f"call-{throttle}-{site.queue}", queue=site.queue)
    def call(ctx: jobwire.Context, name: str) -> None:
        started[name] = time.monotonic()
        if name == "first" and ctx.delivery == 1:
            raise jobwire.Snooze("700ms", throttle=throttle, reason="the API says wait")

    first = call.opts(fairness_key="a").enqueue("first")
    site.work(concurrency=1)
    eventually(lambda: first.status().state is JobState.SCHEDULED)
    snoozed = started["first"]
    same, other = call.opts(fairness_key="a").enqueue("same"), call.opts(fairness_key="b").enqueue("other")
    for job in (same, other, first):
        job.result(WAIT)
    assert started["same"] - snoozed >= 0.6
    assert (started["other"] - snoozed >= 0.6) == (throttle == "queue")
    assert first.status().attempt == 1


def test_a_batch_of_one_key(site: Site) -> None:
    sizes: list[int] = []

    @site.app.batch_task(f"batch-{site.queue}", queue=site.queue, max_size=10, linger="150ms", by_key=True)
    def batch(ctx: jobwire.BatchContext, inputs: list[dict[str, str]]) -> None:
        assert len({given["key"] for given in inputs}) == 1
        sizes.append(len(inputs))

    items = site.app.enqueue_many([batch.opts(fairness_key=key).s({"key": key}) for key in "abababab"])
    site.work()
    assert [item.job and item.job.result(WAIT) for item in items] == [None] * 8
    assert sum(sizes) == 8
    assert max(sizes) > 1


# --- how long a job may take, and be silent ---------------------------------------------------------------------------


def test_total_timeout_ends_a_job_whatever_it_is_at(site: Site) -> None:
    @site.app.task(f"slow-{site.queue}", queue=site.queue, retry=Retry(initial_delay="10ms"))
    async def slow() -> None:
        await asyncio.sleep(3 * WAIT)

    waiting = slow.opts(queue=f"nobody-{site.queue}", total_timeout="300ms").enqueue()
    running = slow.opts(total_timeout="400ms").enqueue()
    site.work()
    for job in (waiting, running):
        with pytest.raises(jobwire.JobExpired) as expired:
            job.result(3 * WAIT)
        assert expired.value.failure is not None
        assert expired.value.failure.kind in ("expired", "timeout")  # the latter of one that obeyed


def test_silence_beyond_heartbeat_timeout_is_a_stall_and_progress_prevents_it(site: Site) -> None:
    told: list[Any] = []

    @site.app.task(f"beat-{site.queue}", queue=site.queue, retry=1, heartbeat_timeout="1s")
    async def beat(ctx: jobwire.Context, times: int) -> str:
        try:
            for _ in range(times):
                await asyncio.sleep(0.4)
                ctx.progress(message="alive")
            if not times:
                await asyncio.sleep(3 * WAIT)
        except asyncio.CancelledError:
            told.append(ctx.cancel_reason)
            raise
        return "done"

    site.work()
    lively, silent = beat.enqueue(5), beat.enqueue(0)
    assert lively.result(WAIT) == "done"
    with pytest.raises(jobwire.JobFailed) as failed:
        silent.result(3 * WAIT)
    assert failed.value.failure is not None
    failure = failed.value.failure
    assert (failure.kind, "no progress" in failure.message) == ("timeout", True)
    eventually(lambda: told == ["timeout"])
