"""What was asked for, read back from the contract: options of a job out of its JobSpec."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration as DurationMessage

from ._convert import short_name, time_of
from ._types import JobOptions, Retry, Unique
from .v1 import common_pb2, job_pb2

_SPANS = (
    "delay",
    "timeout",
    "total_timeout",
    "heartbeat_timeout",
    "ttl",
    "idempotency_ttl",
    "retention",
    "dead_retention",
)
_MOMENTS = {"schedule_time": "at", "expire_time": "expire_at"}


def span_of(message: DurationMessage) -> timedelta:
    """A Duration message as timedelta."""
    return timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def options_of(spec: job_pb2.JobSpec) -> JobOptions:
    """The options that a JobSpec was made of. Functions have become what they returned."""
    options: dict[str, Any] = {}
    for name in ("queue", "priority", "fairness_key", "idempotency_key"):
        if value := getattr(spec, name):
            options[name] = value
    for name in _SPANS:
        if spec.HasField(name):
            options[name] = span_of(getattr(spec, name))
    for name, option in _MOMENTS.items():
        if (moment := time_of(spec, name)) is not None:
            options[option] = moment
    if spec.HasField("retry"):
        options["retry"] = retry_of(spec.retry)
    if spec.HasField("unique"):
        options["unique"] = _unique_of(spec.unique)
    if spec.tags:
        options["tags"] = list(spec.tags)
    if spec.headers:
        options["headers"] = dict(spec.headers)
    return options  # type: ignore[return-value]


def retry_of(message: common_pb2.RetryPolicy) -> Retry:
    """A retry policy as it was asked for."""
    given: dict[str, Any] = {
        "delays": tuple(map(span_of, message.delays)),
        "non_retryable_types": tuple(message.non_retryable_types),
    }
    for name in ("max_attempts", "multiplier"):
        if value := getattr(message, name):
            given[name] = value
    for name in ("jitter", "max_crashes"):
        if message.HasField(name):
            given[name] = getattr(message, name)
    for name in ("initial_delay", "max_delay"):
        if message.HasField(name):
            given[name] = span_of(getattr(message, name))
    if message.on_exhausted:
        given["on_exhausted"] = short_name(common_pb2.ExhaustedAction, message.on_exhausted)
    return Retry(**given)


def _unique_of(message: job_pb2.Unique) -> Unique:
    given: dict[str, Any] = {"key": message.key}
    if message.scope:
        given["scope"] = short_name(job_pb2.UniqueScope, message.scope)
    if message.HasField("ttl"):
        given["ttl"] = span_of(message.ttl)
    if message.on_conflict:
        given["on_conflict"] = short_name(job_pb2.UniqueConflict, message.on_conflict)
    return Unique(**given)
