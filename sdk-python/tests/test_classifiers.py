"""Classifiers against the exceptions that the libraries themselves make."""

from __future__ import annotations

import email.message
import urllib.error
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import aiohttp
import asyncpg.exceptions
import httpx
import multidict
import psycopg.errors
import pymysql.err
import pytest
import requests
import sqlalchemy.exc
import yarl
from scripted import Scripted

from jobwire import App, JobControl, NonRetryable, RetryAfter, Snooze, Worker
from jobwire.classifiers import database, http, http_strict
from jobwire.v1 import worker_service_pb2 as pb

URL = "http://example.com"
Answer = Callable[[int, dict[str, str]], BaseException]


def by_requests(status: int, headers: dict[str, str]) -> BaseException:
    response = requests.Response()
    response.status_code, response.url = status, URL
    response.headers.update(headers)
    return raised(response.raise_for_status)


def by_httpx(status: int, headers: dict[str, str]) -> BaseException:
    response = httpx.Response(status, headers=headers, request=httpx.Request("GET", URL))
    return raised(response.raise_for_status)


def by_aiohttp(status: int, headers: dict[str, str]) -> BaseException:
    found = multidict.CIMultiDictProxy(multidict.CIMultiDict(headers))
    info = aiohttp.RequestInfo(yarl.URL(URL), "GET", found, yarl.URL(URL))
    return aiohttp.ClientResponseError(info, (), status=status, headers=found)


def by_urllib(status: int, headers: dict[str, str]) -> BaseException:
    message = email.message.Message()
    for name, value in headers.items():
        message[name] = value
    return urllib.error.HTTPError(URL, status, "no", message, None)


class ByBotocore(Exception):
    """As botocore.exceptions.ClientError carries it."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers}}


def raised(function: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        function()
    return caught.value


@pytest.mark.parametrize("answer", [by_requests, by_httpx, by_aiohttp, by_urllib, ByBotocore])
def test_http_knows_every_client(answer: Answer) -> None:
    for status in (429, 503):
        control = http(answer(status, {"Retry-After": "7"}))
        assert isinstance(control, RetryAfter)
        assert control.delay == 7.0
    assert http(answer(500, {"Retry-After": "7"})) is None
    assert http(answer(429, {})) is None
    assert http(answer(429, {"retry-after": "soon"})) is None
    assert isinstance(http_strict(answer(404, {})), NonRetryable)
    assert isinstance(http_strict(answer(503, {"retry-after": "1"})), RetryAfter)
    for status in (408, 425, 429, 500):
        assert http_strict(answer(status, {})) is None


def test_a_retry_after_may_be_a_date_against_the_servers_own_clock() -> None:
    skewed = datetime.now(timezone.utc) - timedelta(hours=3)
    dates = {"Date": format_datetime(skewed, True), "Retry-After": format_datetime(skewed + timedelta(minutes=2), True)}
    control = http(by_httpx(503, dates))
    assert isinstance(control, RetryAfter)
    assert control.delay == 120.0
    past = http(by_httpx(503, {"Retry-After": format_datetime(skewed, True)}))
    assert isinstance(past, RetryAfter)
    assert past.delay == 0.0


@pytest.mark.parametrize(
    "error", [ValueError("x"), requests.ConnectionError(), httpx.ConnectError("x"), OSError(5, "x")]
)
def test_http_has_no_opinion_on_anything_else(error: BaseException) -> None:
    assert http(error) is http_strict(error) is database(error) is None


def wrapped(inner: Exception) -> Exception:
    return sqlalchemy.exc.OperationalError("select 1", {}, inner)


def caused(inner: Exception) -> Exception:
    """As Django wraps what its driver raised."""
    outer = RuntimeError("django.db.utils.OperationalError")
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize("wrap", [lambda error: error, wrapped, caused])
@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.DeadlockDetected("x"),
        psycopg.errors.SerializationFailure("x"),
        asyncpg.exceptions.DeadlockDetectedError("x"),
        asyncpg.exceptions.SerializationError("x"),
        pymysql.err.OperationalError(1213, "Deadlock found when trying to get lock"),
    ],
)
def test_database_knows_conflicts(error: Exception, wrap: Callable[[Exception], Exception]) -> None:
    control = database(wrap(error))
    assert isinstance(control, RetryAfter)
    assert 0.1 <= float(control.delay) <= 1.0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.UniqueViolation("x"),
        asyncpg.exceptions.UniqueViolationError("x"),
        pymysql.err.OperationalError(1045, "Access denied"),
        ValueError(1213),
    ],
)
def test_database_has_no_opinion_on_anything_else(error: Exception) -> None:
    assert database(error) is database(wrapped(error)) is None


def test_classifiers_decide_in_order_and_the_exceptions_own_words_are_kept(
    server: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(server.url, classifiers=[http_strict])

    def broken(error: BaseException) -> JobControl | None:
        raise RuntimeError("the classifier is wrong")

    def mine(error: BaseException) -> JobControl | None:
        return Snooze("3s") if isinstance(error, LookupError) else None

    errors: dict[str, BaseException] = {
        "mine": KeyError("x"),
        "gone": by_httpx(404, {}),
        "excluded": IndexError("x"),
        "plain": ValueError("x"),
    }

    @app.task("t", classifiers=[broken, mine], no_retry_on=IndexError)
    async def handler(which: str) -> None:
        raise errors[which]

    worker: Worker = app.worker(concurrency=1)
    worker.start()
    stream = server.stream()
    stream.welcome()
    outcomes: dict[str, Any] = {}
    for which in errors:
        stream.job(which, "t", f'{{"which": "{which}"}}')
        outcomes[which] = stream.outcome(which)
    worker.stop(0, wait=False)
    worker.stop(0, wait=False)
    app.close()
    assert outcomes["mine"].snoozed.delay.seconds == 3
    gone = outcomes["gone"].failed
    assert (gone.action, gone.failure.type) == (pb.FAILURE_ACTION_STOP, "httpx.HTTPStatusError")
    assert outcomes["excluded"].failed.action == pb.FAILURE_ACTION_STOP
    assert outcomes["plain"].failed.action == pb.FAILURE_ACTION_UNSPECIFIED
    assert any("classifier" in message and "failed on" in message for message in caplog.messages)


def test_http_is_on_by_default(server: Scripted, app: App, work: Callable[..., Worker]) -> None:
    @app.task("t")
    def handler() -> None:
        raise by_requests(429, {"Retry-After": "120"})

    work()
    stream = server.stream()
    stream.welcome()
    stream.job("a", "t")
    failed = stream.outcome("a").failed
    assert (failed.action, failed.retry_delay.seconds) == (pb.FAILURE_ACTION_RETRY, 120)
    assert failed.failure.type == "requests.exceptions.HTTPError"
