"""Job options: checked, merged, and written into a JobSpec."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from ._convert import duration, enum_value, timestamp
from ._errors import InvalidArgument
from ._types import JobOptions, Retry, Unique, whole_number
from .v1 import common_pb2, job_pb2

Arguments = tuple[Sequence[Any], Mapping[str, Any]]
_ATTEMPTS = "1 = never again; -1 = without limit; None = the queue's value"
_INT32 = range(-(1 << 31), 1 << 31)


def job_spec(
    id: str,
    type: str,
    body: common_pb2.Payload,
    options: JobOptions,
    arguments: Arguments,
) -> job_pb2.JobSpec:
    """A JobSpec from merged options; `arguments` feed those options that are functions."""
    spec = job_pb2.JobSpec(id=id, type=type, payload=body)
    args, kwargs = arguments
    for name, given in options.items():
        if given is None:
            continue
        value = given
        if callable(given) and name in ("unique", "fairness_key", "idempotency_key", "tags"):
            value = given(*args, **kwargs)
            if value is None:
                continue
        _SETTERS[name](spec, value)
    return spec


def _wrong(field: str, expected: str, value: Any) -> InvalidArgument:
    return InvalidArgument(f"{field}: expected {expected}, got {value!r}", field=field)


def _strings(value: Any, field: str) -> list[str]:
    found = _listed(value, field, "strings")
    if not all(isinstance(item, str) for item in found):
        raise _wrong(field, "a list of strings", value)
    return found


def _listed(value: Any, field: str, what: str) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise _wrong(field, f"a list of {what}", value)
    return list(value)


def _text(field: str) -> Callable[[job_pb2.JobSpec, Any], None]:
    def put(spec: job_pb2.JobSpec, value: Any) -> None:
        if not isinstance(value, str):
            raise _wrong(field, "a string", value)
        try:
            setattr(spec, field, value)
        except ValueError as error:
            raise InvalidArgument(f"{field}: {error}", field=field, cause=error) from error

    return put


def _put_priority(spec: job_pb2.JobSpec, value: Any) -> None:
    if not whole_number(value) or value not in _INT32:
        raise _wrong("priority", "a whole number from -4 to 4", value)
    spec.priority = value


def _span(field: str) -> Callable[[job_pb2.JobSpec, Any], None]:
    return lambda spec, value: getattr(spec, field).CopyFrom(duration(value, field))


def _moment(field: str, option: str) -> Callable[[job_pb2.JobSpec, Any], None]:
    return lambda spec, value: getattr(spec, field).CopyFrom(timestamp(value, option))


def put_retry(spec: Any, value: int | Retry) -> None:
    """Writes a policy into the `retry` of a message."""
    if not isinstance(value, Retry):
        if not _attempts(value):
            raise _wrong("retry", f"attempts in all ({_ATTEMPTS}), or Retry(...)", value)
        value = Retry(max_attempts=value)
    retry = value
    message = spec.retry
    message.SetInParent()
    for name, fits, expected in _RETRY_NUMBERS:
        if (number := getattr(retry, name)) is not None:
            if not fits(number):
                raise _wrong(f"retry.{name}", expected, number)
            setattr(message, name, number)
    for name in ("initial_delay", "max_delay"):
        if (span := getattr(retry, name)) is not None:
            getattr(message, name).CopyFrom(duration(span, f"retry.{name}"))
    delays = _listed(retry.delays, "retry.delays", "durations")
    message.delays.extend(duration(span, "retry.delays") for span in delays)
    message.non_retryable_types.extend(_strings(retry.non_retryable_types, "retry.non_retryable_types"))
    if retry.on_exhausted is not None:
        message.on_exhausted = enum_value(common_pb2.ExhaustedAction, retry.on_exhausted, "retry.on_exhausted")


def _attempts(value: Any) -> bool:
    return whole_number(value) and value != 0 and value in _INT32


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_RETRY_NUMBERS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("max_attempts", _attempts, f"attempts in all ({_ATTEMPTS})"),
    ("multiplier", _real, "a number, at least 1"),
    ("jitter", _real, "a number from 0 to 1"),
    ("max_crashes", lambda value: whole_number(value) and value in _INT32, "a whole number (-1 = without limit)"),
)


def _put_unique(spec: job_pb2.JobSpec, value: str | Unique) -> None:
    unique = Unique(key=value) if isinstance(value, str) else value
    if not isinstance(unique, Unique):
        raise _wrong("unique", "a key, or Unique(...) (without a key: by type and payload)", value)
    if not isinstance(unique.key, str):
        raise _wrong("unique.key", "a string", unique.key)
    message = spec.unique
    message.SetInParent()
    message.key = unique.key
    if unique.scope is not None:
        message.scope = enum_value(job_pb2.UniqueScope, unique.scope, "unique.scope")
    if unique.ttl is not None:
        message.ttl.CopyFrom(duration(unique.ttl, "unique.ttl"))
    if unique.on_conflict is not None:
        message.on_conflict = enum_value(job_pb2.UniqueConflict, unique.on_conflict, "unique.on_conflict")


def _put_tags(spec: job_pb2.JobSpec, value: Sequence[str]) -> None:
    spec.tags.extend(_strings(value, "tags"))


def _put_headers(spec: job_pb2.JobSpec, value: Mapping[str, str]) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(t, str) for pair in value.items() for t in pair):
        raise _wrong("headers", "a dict of strings", value)
    spec.headers.update(value)


def _put_after(spec: job_pb2.JobSpec, value: Sequence[Any]) -> None:
    for job in _listed(value, "after", "jobs or ids"):
        id = job if isinstance(job, str) else getattr(job, "id", None)
        if not isinstance(id, str):
            raise _wrong("after", "a list of jobs or ids", value)
        spec.depends_on.add(job_id=id)


_SETTERS: dict[str, Callable[[job_pb2.JobSpec, Any], None]] = {
    **{name: _text(name) for name in ("id", "queue", "fairness_key", "idempotency_key")},
    "priority": _put_priority,
    **{
        name: _span(name)
        for name in (
            "delay",
            "timeout",
            "total_timeout",
            "heartbeat_timeout",
            "ttl",
            "idempotency_ttl",
            "retention",
            "dead_retention",
        )
    },
    "at": _moment("schedule_time", "at"),
    "expire_at": _moment("expire_time", "expire_at"),
    "retry": put_retry,
    "unique": _put_unique,
    "tags": _put_tags,
    "headers": _put_headers,
    "after": _put_after,
}


def merge_options(base: JobOptions, more: Mapping[str, Any]) -> JobOptions:
    """`more` over `base`. TypeError for an unknown option; `delay` displaces `at`, `ttl` displaces `expire_at`."""
    for name in more:
        if name not in _SETTERS:
            raise TypeError(f"unknown option {name!r}; known are {', '.join(sorted(_SETTERS))}")
    for one, other in (("delay", "at"), ("ttl", "expire_at")):
        if more.get(one) is not None and more.get(other) is not None:
            raise TypeError(f"{one} and {other} exclude each other")
    merged: dict[str, Any] = dict(base)
    for name, other in (("delay", "at"), ("at", "delay"), ("ttl", "expire_at"), ("expire_at", "ttl")):
        if more.get(name) is not None:
            merged.pop(other, None)
    merged.update(more)
    return cast(JobOptions, merged)
