"""Classifiers: from an exception that a handler let through to what should happen to its job.

A classifier is a function that gets the exception and returns a RetryAfter, NonRetryable, Discard, Snooze or Release,
or None when it has no opinion. The failure that people see stays that of the exception itself. `App(classifiers=...)`
holds those of all its tasks, `http` by default; those of `@app.task(classifiers=...)` are asked before them.

No HTTP client and no database driver is imported here: their exceptions are known by their attributes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from ._errors import JobControl, NonRetryable, RetryAfter

__all__ = ["Classifier", "database", "http", "http_strict"]

Classifier = Callable[[BaseException], JobControl | None]

_MYSQL = ("pymysql", "MySQLdb", "mysql", "aiomysql", "asyncmy")
_MYSQL_DEADLOCK = 1213
_SERIALIZATION_FAILURE, _DEADLOCK_DETECTED = "40001", "40P01"


def http(error: BaseException) -> JobControl | None:
    """429 and 503 with a Retry-After: run again then, not before.

    Knows the exceptions of requests, httpx, aiohttp, urllib, botocore, and any that carries a `response` with a status
    and headers. A Retry-After that is a date is taken against the answer's own Date, where it has one.
    """
    status, headers = _answer(error)
    if status not in (429, 503):
        return None
    delay = _retry_after(headers)
    return None if delay is None else RetryAfter(delay, f"HTTP {status}")


def http_strict(error: BaseException) -> JobControl | None:
    """As `http`; other 4xx answers but 408 and 425 are hopeless: the request will not get better."""
    status, _ = _answer(error)
    if status is not None and 400 <= status < 500 and status not in (408, 425, 429):
        return NonRetryable(f"HTTP {status}")
    return http(error)


def database(error: BaseException) -> JobControl | None:
    """A deadlock or a serialisation failure: run again after 100 ms to 1 s, at random.

    Knows the exceptions of psycopg, psycopg2, asyncpg, the MySQL drivers, and what SQLAlchemy and Django wrap around
    them. The attempt counts.
    """
    if any(_is_conflict(inner) for inner in _layers(error)):
        return RetryAfter(random.uniform(0.1, 1.0), "the database was in each other's way")
    return None


def _answer(error: BaseException) -> tuple[int | None, Mapping[str, Any]]:
    """Status and headers of the HTTP answer that an exception tells of."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore
        metadata = response.get("ResponseMetadata", {})
        return _status(metadata.get("HTTPStatusCode")), metadata.get("HTTPHeaders") or {}
    carrier: Any = error if response is None else response
    headers = getattr(carrier, "headers", None)
    if not hasattr(headers, "items"):
        return None, {}
    for name in ("status_code", "status", "code"):
        status = _status(getattr(carrier, name, None))
        if status is not None:
            return status, headers  # type: ignore[return-value]
    return None, {}


def _status(value: Any) -> int | None:
    return int(value) if isinstance(value, int) and 100 <= value < 600 else None


def _retry_after(headers: Mapping[str, Any]) -> float | None:
    """Seconds; None without a header that can be read."""
    values = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    text = values.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return float(text)
    then, now = _date(text), _date(values.get("date", "")) or datetime.now(timezone.utc)
    return None if then is None else max((then - now).total_seconds(), 0.0)


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=timezone.utc)


def _layers(error: BaseException) -> Iterator[BaseException]:
    at: Any = error
    for _ in range(5):
        if not isinstance(at, BaseException):
            return
        yield at
        at = getattr(at, "orig", None) or at.__cause__  # SQLAlchemy's way, then everybody's


def _is_conflict(error: BaseException) -> bool:
    for name in ("sqlstate", "pgcode"):
        if getattr(error, name, None) in (_SERIALIZATION_FAILURE, _DEADLOCK_DETECTED):
            return True
    if type(error).__module__.partition(".")[0] in _MYSQL:
        number = getattr(error, "errno", None) or (error.args[0] if error.args else None)
        return number == _MYSQL_DEADLOCK
    return False
