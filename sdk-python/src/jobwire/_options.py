"""Job options: checked, merged, and written into a JobSpec."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from ._convert import duration, enum_value, timestamp
from ._errors import InvalidArgument
from ._types import JobOptions, Retry, Unique
from .v1 import common_pb2, job_pb2

Arguments = tuple[Sequence[Any], Mapping[str, Any]]


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


def _copy(field: str) -> Callable[[job_pb2.JobSpec, Any], None]:
    def put(spec: job_pb2.JobSpec, value: Any) -> None:
        try:
            setattr(spec, field, value)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"{field}: {error}", field=field, cause=error) from error

    return put


def _span(field: str) -> Callable[[job_pb2.JobSpec, Any], None]:
    return lambda spec, value: getattr(spec, field).CopyFrom(duration(value, field))


def _moment(field: str, option: str) -> Callable[[job_pb2.JobSpec, Any], None]:
    return lambda spec, value: getattr(spec, field).CopyFrom(timestamp(value, option))


def _put_retry(spec: job_pb2.JobSpec, value: int | Retry) -> None:
    retry = Retry(max_attempts=value) if isinstance(value, int) else value
    message = spec.retry
    message.SetInParent()
    for name in ("max_attempts", "multiplier", "jitter", "max_crashes"):
        if (number := getattr(retry, name)) is not None:
            setattr(message, name, number)
    for name in ("initial_delay", "max_delay"):
        if (span := getattr(retry, name)) is not None:
            getattr(message, name).CopyFrom(duration(span, f"retry.{name}"))
    message.delays.extend(duration(span, "retry.delays") for span in retry.delays)
    message.non_retryable_types.extend(retry.non_retryable_types)
    if retry.on_exhausted is not None:
        message.on_exhausted = enum_value(common_pb2.ExhaustedAction, retry.on_exhausted, "retry.on_exhausted")


def _put_unique(spec: job_pb2.JobSpec, value: str | Unique) -> None:
    unique = Unique(key=value) if isinstance(value, str) else value
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
    if isinstance(value, str):
        raise InvalidArgument("tags: expected a list of strings, got a string", field="tags")
    spec.tags.extend(value)


def _put_after(spec: job_pb2.JobSpec, value: Sequence[Any]) -> None:
    for job in value:
        spec.depends_on.add(job_id=job if isinstance(job, str) else job.id)


_SETTERS: dict[str, Callable[[job_pb2.JobSpec, Any], None]] = {
    **{name: _copy(name) for name in ("id", "queue", "priority", "fairness_key", "idempotency_key")},
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
    "retry": _put_retry,
    "unique": _put_unique,
    "tags": _put_tags,
    "headers": lambda spec, value: spec.headers.update(value),
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
