"""The fake is held to the server: each case runs on both, and has to come out the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pytest

import jobwire
from jobwire import App, Discard, Job, JobState, NonRetryable, Release, Retry, RetryAfter, Snooze, Unique
from jobwire.testing import TestServer, fake

FAST = Retry(initial_delay="20ms", jitter=0)
NOT_SOON = "1h"


@dataclass
class World:
    """An app whose jobs run when `run` is called, up to their end."""

    app: App
    run: Callable[[Job[Any]], None]


def tasks(app: App) -> None:
    seen: dict[str, int] = {}

    @app.task("act", retry=FAST)
    def act(how: str, times: int = 99) -> int:
        seen[how] = seen.get(how, 0) + 1
        if seen[how] <= times:
            outcomes: dict[str, Exception] = {
                "fail": ValueError("no"),
                "after": RetryAfter("30ms"),
                "stop": NonRetryable("hopeless"),
                "discard": Discard("useless"),
                "snooze": Snooze("20ms"),
                "release": Release(),
            }
            if how in outcomes:
                raise outcomes[how]
        return seen[how]


@pytest.fixture(scope="module")
def server() -> Iterator[TestServer]:
    with TestServer() as server:
        yield server


@pytest.fixture(params=["fake", "server"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        app = App("jobwire://127.0.0.1:1")
        tasks(app)
        with fake(app) as jobs:

            def run(job: Job[Any]) -> None:
                while not job.status().state.terminal:
                    jobs.advance("10ms")

            yield World(app, run)
        return
    app = App(request.getfixturevalue("server").url)
    tasks(app)

    def work(job: Job[Any]) -> None:
        worker = app.worker(prefetch=0)
        worker.start()
        try:
            for _ in job.events():
                pass
        finally:
            worker.stop(0)

    yield World(app, work)
    app.close()


Outcome = tuple[JobState, int, int, str]
ENDS: dict[str, tuple[dict[str, Any], dict[str, Any], Outcome]] = {
    "succeeds": ({"how": "ok"}, {}, (JobState.SUCCEEDED, 1, 1, "")),
    "fails twice": ({"how": "fail", "times": 2}, {}, (JobState.SUCCEEDED, 3, 3, "")),
    "fails for good": ({"how": "fail"}, {"retry": Retry(max_attempts=2, delays=["10ms"], jitter=0)},
                       (JobState.DEAD, 2, 2, "ValueError")),
    "is listed": ({"how": "fail"}, {"retry": Retry(non_retryable_types=["Value*"])},
                  (JobState.DEAD, 1, 1, "ValueError")),
    "is not kept": ({"how": "fail"}, {"retry": Retry(max_attempts=1, on_exhausted="discard")},
                    (JobState.DISCARDED, 1, 1, "ValueError")),
    "retries after": ({"how": "after", "times": 1}, {"retry": Retry(initial_delay="1h", jitter=0)},
                      (JobState.SUCCEEDED, 2, 2, "")),
    "stops": ({"how": "stop"}, {}, (JobState.DEAD, 1, 1, "jobwire._errors.NonRetryable")),
    "discards": ({"how": "discard"}, {}, (JobState.DISCARDED, 1, 1, "jobwire._errors.Discard")),
    "snoozes": ({"how": "snooze", "times": 2}, {}, (JobState.SUCCEEDED, 1, 3, "")),
    "is given back": ({"how": "release", "times": 1}, {}, (JobState.SUCCEEDED, 1, 2, "")),
    "does not fit": ({"how": 7}, {}, (JobState.DEAD, 1, 1, "jobwire.Unprocessable")),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_how_a_job_ends(world: World, case: str) -> None:
    payload, options, expected = ENDS[case]
    if "retry" not in options:
        options = {**options, "retry": FAST}
    job = world.app.enqueue("act", payload, **options)
    world.run(job)
    status = job.status()
    failure = status.failure
    assert (status.state, status.attempt, status.delivery, failure.type if failure else "") == expected


def test_a_job_that_nobody_starts_in_time_expires(world: World) -> None:
    job = world.app.enqueue("nobody", {}, ttl="50ms")
    world.run(job)
    with pytest.raises(jobwire.JobExpired) as caught:
        job.result()
    assert caught.value.failure is not None
    assert (caught.value.failure.kind, caught.value.failure.message) == ("expired", "not started in time")


def test_ids(world: World) -> None:
    id = "01939e3c-7a5b-7c1d-8e2f-3a4b5c6d7e8f"
    first = world.app.enqueue("ids", {"a": 1}, id=id)
    repeat = world.app.enqueue("ids", {"a": 1}, id=id)
    assert repeat.id == first.id
    assert (enqueued(first), enqueued(repeat)) == ("created", "duplicate")
    with pytest.raises(jobwire.AlreadyExists) as caught:
        world.app.enqueue("ids", {"a": 2}, id=id)
    assert caught.value.reason == "ID_CONFLICT"


def test_idempotency_keys(world: World) -> None:
    options: Any = {"idempotency_key": "order-7", "delay": NOT_SOON}
    first = world.app.enqueue("keys", {"a": 1}, **options)
    assert enqueued(world.app.enqueue("keys", {"a": 1}, **options)) == "duplicate"
    assert enqueued(world.app.enqueue("other", {"a": 1}, **options)) == "created"
    with pytest.raises(jobwire.AlreadyExists) as caught:
        world.app.enqueue("keys", {"a": 2}, **options)
    assert (caught.value.reason, caught.value.job_id) == ("ID_CONFLICT", first.id)


@pytest.mark.parametrize(
    ("on_conflict", "status"), [(None, "kept"), ("keep", "kept"), ("replace", "replaced"), ("debounce", "replaced")]
)
def test_unique_jobs_that_wait(world: World, on_conflict: Any, status: str) -> None:
    queue = f"wait-{on_conflict}"
    options: Any = {"queue": queue, "unique": Unique("k", on_conflict=on_conflict)}
    first = world.app.enqueue("unique", {"a": 1}, delay=NOT_SOON, **options)
    second = world.app.enqueue("unique", {"a": 2}, **options)
    assert (second.id, enqueued(second)) == (first.id, status)
    assert first.status().state is (JobState.READY if status == "replaced" else JobState.SCHEDULED)
    assert enqueued(world.app.enqueue("unique", {"a": 2}, queue=f"{queue}-2", unique="k")) == "created"
    assert first.cancel() is True
    assert enqueued(world.app.enqueue("unique", {"a": 3}, **options)) == "created"


def test_unique_jobs_refused(world: World) -> None:
    options: Any = {"queue": "refused", "unique": Unique(on_conflict="reject")}
    first = world.app.enqueue("unique", {"a": 1}, **options)
    assert enqueued(world.app.enqueue("unique", {"a": 2}, **options)) == "created"  # no key: type and payload are it
    with pytest.raises(jobwire.AlreadyExists) as caught:
        world.app.enqueue("unique", {"a": 1}, **options)
    assert (caught.value.reason, caught.value.job_id) == ("UNIQUE_CONFLICT", first.id)
    many = world.app.enqueue_many([("unique", {"a": 3}), ("unique", {"a": 4})])
    assert [result.status for result in many] == ["created", "created"]


def test_unique_until_started(world: World) -> None:
    options: Any = {"unique": Unique("until-started", "until_started")}
    first = world.app.enqueue("act", {"how": "until", "times": 0}, **options)
    assert enqueued(world.app.enqueue("act", {"how": "until", "times": 0}, **options)) == "kept"
    world.run(first)
    again = world.app.enqueue("act", {"how": "until", "times": 0}, **options)
    assert enqueued(again) == "created"


def test_cancel_and_retry(world: World) -> None:
    job = world.app.enqueue("act", {"how": "cancel"}, delay=NOT_SOON)
    assert job.cancel("no need") is True
    assert job.cancel() is False
    failure = job.status().failure
    assert failure is not None
    assert (failure.kind, failure.message) == ("cancelled", "cancelled: no need")
    assert job.retry() is True
    world.run(job)
    assert job.result() == 1
    missing = world.app.job("01939e3c-7a5b-7c1d-8e2f-ffffffffffff")
    for ask in (missing.status, missing.cancel, missing.retry, missing.result):
        with pytest.raises(jobwire.NotFound):
            ask()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"priority": 5}, "priority"),
        ({"id": "seven"}, "id"),
        ({"unique": Unique("k", "for_ttl")}, "unique.ttl"),
        ({"unique": Unique("k", ttl="1h")}, "unique.ttl"),
        ({"delay": "1h", "expire_at": datetime.now(timezone.utc)}, "expire_time"),
        ({"after": ["01939e3c-7a5b-7c1d-8e2f-ffffffffffff"]}, "depends_on"),
    ],
)
def test_what_is_refused(world: World, options: Any, field: str) -> None:
    with pytest.raises(jobwire.JobwireError) as caught:
        world.app.enqueue("refused", {}, **options)
    assert caught.value.field.removesuffix("[0]") == f"job.{field}"


def enqueued(job: Job[Any]) -> str:
    assert job.enqueued is not None
    return job.enqueued.status


def test_the_real_server_takes_real_time(world: World) -> None:
    before = time.monotonic()
    job = world.app.enqueue("act", {"how": "later", "times": 0}, delay="200ms")
    world.run(job)
    assert job.status().state is JobState.SUCCEEDED
    if world.app._stand_in is None:
        assert time.monotonic() - before >= 0.2
