"""jobwire.testing: inline and fake. What both the fake and the server do is held together by test_vectors.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

import jobwire
from jobwire import (
    App,
    Context,
    Discard,
    JobState,
    LogEvent,
    NonRetryable,
    ProgressEvent,
    Release,
    Retry,
    RetryAfter,
    Snooze,
    StateEvent,
    Unique,
    current_context,
)
from jobwire.testing import FakeJobs, fake, inline


@dataclass
class Mail:
    to: str
    copies: int = 1


app = App("jobwire://127.0.0.1:1")  # nothing listens there: a test that reached out would fail
ran: list[Any] = []
fail_with: list[BaseException] = []


@app.task("mail", queue="post")
async def mail(ctx: Context, mail: Mail) -> Mail:
    await asyncio.sleep(0)
    ran.append((mail.to, ctx.attempt))
    if fail_with:
        raise fail_with.pop(0)
    return mail


@app.task("add")
def add(a: int, b: int = 1) -> int:
    ran.append(a)
    return a + b


@app.task("parent")
def parent(ctx: Context, fails: bool = False) -> str:
    ctx.enqueue(add.s(10))
    ctx.enqueue(add.s(20), always=True)
    nested = add.enqueue(1)
    if fails:
        raise NonRetryable("no")
    return nested.id


@app.task("story")
def story(ctx: Context, stop: bool = False) -> int:
    ctx.log.info("once upon a time")
    ctx.progress(50, message="half")
    seen = ctx.checkpoint or 0
    ctx.save_checkpoint(seen + 1)
    if seen < 2:
        raise ConnectionError("again")
    return seen


@pytest.fixture(autouse=True)
def fresh() -> None:
    ran.clear()
    fail_with.clear()


@pytest.fixture
def jobs() -> Iterator[FakeJobs]:
    with fake(app) as jobs:
        yield jobs


# --- inline -----------------------------------------------------------------------------------------------------------


def test_inline_runs_the_handler_at_enqueue() -> None:
    with inline(app):
        job = mail.opts(delay="1h").enqueue(Mail("ada"))
        assert ran == [("ada", 1)]
        assert job.result() == Mail("ada")
        assert job.status().state is JobState.SUCCEEDED
        assert add.run(1) == 2
        assert [result.status for result in add.enqueue_many([1, 2])] == ["created", "created"]
        assert ran == [("ada", 1), 1, 1, 2]
        assert current_context() is None


def test_inline_on_an_event_loop_runs_coroutines_on_that_loop() -> None:
    loops = []

    async def main() -> None:
        local = App("jobwire://127.0.0.1:1")

        @local.task("where")
        async def where() -> None:
            loops.append(asyncio.get_running_loop())

        with inline(local):
            loops.append(asyncio.get_running_loop())
            await (await where.aenqueue()).aresult()
            await where.arun()
            await where.aenqueue_many([()])
            where.enqueue()  # a blocking call on a running loop: the handler gets a loop of its own
        assert loops[0] is loops[1] is loops[2] is loops[3]
        assert loops[4] is not loops[0]

    asyncio.run(main())


def test_inline_follows_the_policy_without_waiting(caplog: pytest.LogCaptureFixture) -> None:
    fail_with.extend([ConnectionError("away"), RetryAfter("1h"), Snooze("2h")])
    with inline(app) as jobs:
        job = mail.enqueue(Mail("ada"))
        assert job.result() == Mail("ada")
        assert ran == [("ada", 1), ("ada", 2), ("ada", 3), ("ada", 3)]
        fail_with.append(NonRetryable("bad address"))
        with pytest.raises(jobwire.JobFailed, match="bad address") as caught:
            mail.run(Mail("bob"))
        assert caught.value.failure is not None
        assert "raise fail_with.pop(0)" in caught.value.failure.stack_trace
        assert jobs.assert_enqueued(mail, times=2)
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [type(error) for error in errors] == [ConnectionError, RetryAfter, NonRetryable]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_inline_runs_what_a_handler_enqueues() -> None:
    with inline(app) as jobs:
        job = parent.enqueue()
        assert app.job(job.result()).result() == 2
        assert sorted(ran) == [1, 10, 20]
        ran.clear()
        with pytest.raises(jobwire.JobFailed):
            parent.run(True)
        assert sorted(ran) == [1, 20]
        assert len(jobs.enqueued) == 7


def test_what_a_test_itself_raises_comes_through() -> None:
    with inline(app):
        fail_with.append(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            mail.enqueue(Mail("ada"))


# --- fake -------------------------------------------------------------------------------------------------------------


def test_enqueues_are_recorded_and_nothing_runs(jobs: FakeJobs) -> None:
    start = jobs.now
    job = mail.opts(delay="10m", priority=2, tags=["x"], retry=3).enqueue(Mail("ada"))
    other = app.enqueue("elsewhere", {"a": [1, True]})
    first, second = jobs.enqueued
    assert (first.id, first.task, first.queue, first.input) == (job.id, "mail", "post", {"to": "ada", "copies": 1})
    assert first.due == start + timedelta(minutes=10)
    assert first.options == {
        "queue": "post",
        "priority": 2,
        "delay": timedelta(minutes=10),
        "tags": ["x"],
        "retry": Retry(max_attempts=3),
    }
    assert (second.id, second.task, second.queue, second.due) == (other.id, "elsewhere", "elsewhere", start)
    assert not ran
    assert job.status().state is JobState.SCHEDULED
    assert other.status().state is JobState.READY
    jobs.clear()
    assert jobs.enqueued == []
    with pytest.raises(jobwire.NotFound):
        job.status()


def test_assertions_say_what_there_is(jobs: FakeJobs) -> None:
    mail.enqueue(Mail("ada"))
    mail.enqueue(Mail("bob"))
    add.enqueue(1, b=2)
    assert [job.input["to"] for job in jobs.assert_enqueued(mail)] == ["ada", "bob"]
    jobs.assert_enqueued(mail, Mail("ada"), times=1)
    jobs.assert_enqueued("add", {"a": 1, "b": 2})
    jobs.assert_enqueued(story, times=0)
    with pytest.raises(AssertionError, match=r"expected 1 of mail, found 2"):
        jobs.assert_enqueued(mail, times=1)
    with pytest.raises(AssertionError, match=r"(?s)one or more of mail with input \{'to': 'eve'.*'ada'.*'bob'"):
        jobs.assert_enqueued(mail, Mail("eve"))
    with pytest.raises(AssertionError, match="found 0"):
        jobs.assert_enqueued(add, {"a": True, "b": 2})
    with pytest.raises(AssertionError, match="expected one or more of story"):
        jobs.assert_enqueued(story)


def test_the_clock_runs_what_comes_due_in_order_of_time(jobs: FakeJobs) -> None:
    add.opts(delay="20m").enqueue(3)
    add.opts(at=jobs.now + timedelta(minutes=10)).enqueue(2)
    add.enqueue(1)
    add.opts(priority=1).enqueue(0)
    jobs.run()
    assert ran == [0, 1]
    jobs.advance("10m")
    assert ran == [0, 1, 2]
    start = jobs.now
    jobs.advance(timedelta(hours=1))
    assert ran == [0, 1, 2, 3]
    assert jobs.now == start + timedelta(hours=1)


def test_retries_follow_their_curve_without_jitter(jobs: FakeJobs) -> None:
    fail_with.extend([ValueError("one"), ValueError("two"), RetryAfter("1m"), Snooze("5m")])
    job = mail.opts(retry=Retry(initial_delay="10s", multiplier=3)).enqueue(Mail("ada"))
    jobs.run()
    status = job.status()
    assert (status.state, status.attempt, status.delivery) == (JobState.RETRYING, 1, 1)
    assert status.failure is not None
    assert (status.failure.type, status.failure.message) == ("ValueError", "one")
    for wait, runs in (("9s", 1), ("1s", 2), ("29s", 2), ("1s", 3), ("59s", 3), ("1s", 4), ("5m", 5)):
        jobs.advance(wait)
        assert len(ran) == runs, wait
    assert [attempt for _, attempt in ran] == [1, 2, 3, 4, 4]
    assert job.result() == Mail("ada")


def test_the_end_of_retries(jobs: FakeJobs) -> None:
    fail_with.extend([ValueError("one"), ValueError("two"), NonRetryable("three"), Discard("four"), KeyError("five")])
    job = mail.opts(retry=Retry(max_attempts=2, delays=["1s"])).enqueue(Mail("ada"))
    jobs.advance("1s")
    assert job.status().state is JobState.DEAD
    job.retry()
    jobs.run()
    assert job.status().state is JobState.DEAD
    with pytest.raises(jobwire.JobFailed, match="three"):
        job.result()
    discarded = mail.enqueue(Mail("ada"))
    jobs.run()
    assert discarded.status().state is JobState.DISCARDED
    listed = mail.opts(retry=Retry(non_retryable_types=["Key*"], on_exhausted="discard")).enqueue(Mail("ada"))
    jobs.run()
    assert listed.status().state is JobState.DISCARDED


def test_a_job_given_back_runs_again_in_the_next_round(jobs: FakeJobs) -> None:
    fail_with.append(Release("not here"))
    job = mail.enqueue(Mail("ada"))
    jobs.run()
    assert job.status().state is JobState.READY
    jobs.run()
    assert job.result() == Mail("ada")
    assert job.status().delivery == 2


def test_checkpoint_progress_and_logs(jobs: FakeJobs) -> None:
    job = story.enqueue()
    jobs.advance("1h")
    assert job.result() == 2
    status = job.status()
    assert status.progress is not None
    assert (status.progress.percent, status.progress.message) == (50, "half")
    kinds = [type(event) for event in job.events()]
    assert kinds == [LogEvent, LogEvent, LogEvent, ProgressEvent, StateEvent]

    async def follow() -> list[Any]:
        return [event async for event in job.events(logs=False)]

    assert len(asyncio.run(follow())) == 2


def test_cancel(jobs: FakeJobs) -> None:
    job = mail.opts(delay="1h").enqueue(Mail("ada"))
    assert job.cancel("changed my mind") is True
    assert job.cancel() is False
    jobs.advance("2h")
    assert not ran
    with pytest.raises(jobwire.JobCancelled, match="changed my mind"):
        job.result()


def test_expiry(jobs: FakeJobs) -> None:
    late = app.enqueue("nowhere", {}, delay="2h", expire_at=jobs.now + timedelta(hours=2, minutes=5))
    waiting = app.enqueue("elsewhere", {}, ttl="5m")
    jobs.advance("5m")
    assert waiting.status().state is JobState.EXPIRED
    assert late.status().state is JobState.SCHEDULED
    jobs.advance("2h")
    with pytest.raises(jobwire.JobExpired):
        late.result()


def test_idempotency_keys_are_remembered_for_their_time(jobs: FakeJobs) -> None:
    task = add.opts(idempotency_key="order-7", idempotency_ttl="1h")
    first = task.enqueue(1)
    jobs.run()
    repeat = task.enqueue(1)
    assert repeat.id == first.id
    assert repeat.enqueued is not None
    assert repeat.enqueued.status == "duplicate"
    with pytest.raises(jobwire.AlreadyExists) as caught:
        task.enqueue(2)
    assert (caught.value.reason, caught.value.job_id) == ("ID_CONFLICT", first.id)
    jobs.advance("1h")
    assert task.enqueue(2).id != first.id


def test_unique_for_ttl(jobs: FakeJobs) -> None:
    task = add.opts(unique=Unique("k", "for_ttl", "1h"))
    first = task.enqueue(1)
    jobs.run()
    assert task.enqueue(2).id == first.id
    jobs.advance("1h")
    assert task.enqueue(2).id != first.id


def test_what_the_fake_does_not_know_is_refused(jobs: FakeJobs) -> None:
    with pytest.raises(jobwire.Unimplemented, match="total_timeout"):
        add.opts(total_timeout="1m").enqueue(2)
    fail_with.append(Snooze("1m", throttle="queue"))
    mail.enqueue(Mail("ada"))
    with pytest.raises(jobwire.Unimplemented, match="throttle"):
        jobs.run()


def test_a_result_that_nobody_makes_is_an_error_at_once(jobs: FakeJobs) -> None:
    later = add.opts(delay="1h")
    job = later.enqueue(1)
    for ask in (job.result, lambda: list(job.events()), lambda: later.run(1)):
        with pytest.raises(jobwire.DeadlineExceeded, match=r"is SCHEDULED and due .* jobs.advance"):
            ask()


def test_run_runs_its_job(jobs: FakeJobs) -> None:
    assert add.run(1) == 2
    assert asyncio.run(add.arun(2)) == 3
    assert app.run("add", {"a": 3}) == 4


def test_a_job_that_comes_due_for_ever_is_an_error(jobs: FakeJobs) -> None:
    fail_with.extend(Snooze(0) for _ in range(11_000))
    mail.enqueue(Mail("ada"))
    with pytest.raises(RuntimeError, match="10000 attempts at once; the last was of mail"):
        jobs.run()


def test_the_async_face_runs_on_the_loop_of_the_test() -> None:
    async def main() -> None:
        with fake(app) as jobs:
            job = await mail.opts(delay="10m").aenqueue(Mail("ada"))
            await jobs.arun()
            assert not ran
            await jobs.aadvance("10m")
            assert await job.aresult() == Mail("ada")

    asyncio.run(main())


def test_fakes_nest_and_end() -> None:
    with fake(app) as outer:
        with fake(app) as inner:
            add.enqueue(1)
        add.enqueue(2)
        assert [job.input["a"] for job in inner.enqueued] == [1]
        assert [job.input["a"] for job in outer.enqueued] == [2]
    assert app._stand_in is None


def test_what_surrounds_handlers() -> None:
    local = App("jobwire://127.0.0.1:1")
    seen: list[str] = []

    def hook(name: str) -> Any:
        @contextmanager
        def around(ctx: Context) -> Iterator[None]:
            seen.append(f"{name} before {ctx.type}")
            try:
                yield
            except ValueError:
                seen.append(f"{name} saw it")
                raise
            finally:
                seen.append(f"{name} after")

        return around

    assert local.around(hook("outer")) is not None
    local.around(hook("inner"))

    @local.task("sync")
    def sync() -> None:
        seen.append("handler")
        raise ValueError

    @local.task("coroutine")
    async def coroutine() -> int:
        seen.append("handler")
        return 1

    with inline(local):
        assert coroutine.run() == 1
        assert seen == [
            "outer before coroutine", "inner before coroutine", "handler", "inner after", "outer after",
        ]  # fmt: skip
        seen.clear()
        with pytest.raises(jobwire.JobFailed):
            sync.opts(retry=1).run()
        assert seen[2:] == ["handler", "inner saw it", "inner after", "outer saw it", "outer after"]
        seen.clear()

        @local.around
        def broken(ctx: Context) -> Any:
            raise RuntimeError("no session")

        with pytest.raises(jobwire.JobFailed, match="no session"):
            coroutine.opts(retry=1).run()
        assert seen[2:] == ["inner after", "outer after"]
