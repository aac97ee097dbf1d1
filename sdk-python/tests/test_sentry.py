"""contrib.sentry: what handlers raise is reported, with the job's whereabouts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from jobwire import App, JobFailed, NonRetryable, Retry, RetryAfter
from jobwire.contrib.sentry import JobwireIntegration
from jobwire.testing import inline

app = App("jobwire://127.0.0.1:1")
failing: list[Exception] = []


@app.task("charge", queue="money", tags=["vip"], retry=Retry(max_attempts=2))
async def charge(amount: int) -> int:
    sentry_sdk.set_tag("inside", "yes")
    if failing:
        raise failing.pop(0)
    return amount


class Kept(Transport):
    events: list[Any]

    def capture_envelope(self, envelope: Envelope) -> None:
        event = envelope.get_event()
        if event is not None:
            self.events.append(event)


@pytest.fixture
def events() -> Iterator[list[Any]]:
    Kept.events = []
    yield Kept.events
    sentry_sdk.init()
    failing.clear()


def begin(**options: Any) -> None:
    sentry_sdk.init(
        dsn="http://key@127.0.0.1/1", transport=Kept, integrations=[JobwireIntegration(**options)],
        default_integrations=False, include_local_variables=False,
    )  # fmt: skip


def test_failures_are_reported_with_their_job(events: list[Any]) -> None:
    begin()
    failing.append(ZeroDivisionError("the till is empty"))
    with inline(app):
        job = charge.enqueue(31337)
        assert job.result() == 31337
    (event,) = events
    (exception,) = event["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("ZeroDivisionError", "the till is empty")
    assert exception["mechanism"] == {"type": "jobwire", "handled": False}
    assert event["transaction"] == "charge"
    assert event["tags"] == {"jobwire.type": "charge", "jobwire.queue": "money", "inside": "yes"}
    about = {"job_id": job.id, "attempt": 1, "max_attempts": 2, "delivery": 1, "tags": ["vip"]}
    assert event["contexts"]["jobwire"] == about
    assert "31337" not in repr(event)


def test_what_is_no_error_is_not_reported(events: list[Any]) -> None:
    begin()
    failing.extend([RetryAfter("1s"), NonRetryable("known")])
    with inline(app), pytest.raises(JobFailed):
        charge.run(1)
    assert events == []


def test_only_the_last_attempt(events: list[Any]) -> None:
    begin(only_last=True)
    failing.extend([ZeroDivisionError("one"), ZeroDivisionError("two")])
    with inline(app), pytest.raises(JobFailed):
        charge.run(1)
    assert [event["exception"]["values"][0]["value"] for event in events] == ["two"]


def test_without_the_integration_nothing_is_reported(events: list[Any]) -> None:
    sentry_sdk.init(dsn="http://key@127.0.0.1/1", transport=Kept, default_integrations=False)
    failing.append(ZeroDivisionError("one"))
    with inline(app):
        charge.run(1)
    assert events == []
