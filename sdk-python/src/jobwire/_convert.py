"""Between the public values and the messages of the contract."""

from __future__ import annotations

import functools
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration as DurationMessage
from google.protobuf.timestamp_pb2 import Timestamp

from . import _codec
from ._errors import InvalidArgument, JobCancelled, JobExpired, JobFailed, JobwireError, code_name, error_of
from ._types import (
    DependencyResult,
    Duration,
    EnqueueResult,
    Explanation,
    Failure,
    JobState,
    JobStatus,
    LogEvent,
    Payload,
    Progress,
    WaitReason,
    to_timedelta,
)
from .v1 import common_pb2, job_pb2, job_service_pb2, worker_service_pb2

MAX_PAYLOAD_BYTES = 1 << 20
TRACE_HEADERS = ("traceparent", "tracestate", "baggage")
_SECOND_US = 1_000_000


def duration(value: Duration, name: str = "duration") -> DurationMessage:
    """A Duration as message, exact to the microsecond."""
    if type(value) is float and 0.0 <= value < 1e9:  # how long a handler ran: once per job
        micros = round(value * _SECOND_US)
    else:
        micros = to_timedelta(value, name) // timedelta(microseconds=1)
    return DurationMessage(seconds=micros // _SECOND_US, nanos=micros % _SECOND_US * 1000)


def seconds(message: DurationMessage) -> float:
    """A Duration message in seconds."""
    return message.seconds + message.nanos / 1e9


def timestamp(value: datetime, name: str) -> Timestamp:
    """An aware datetime as message."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidArgument(f"{name}: expected a datetime with a time zone, got {value!r}", field=name)
    micros = (value - _EPOCH) // timedelta(microseconds=1)
    return Timestamp(seconds=micros // _SECOND_US, nanos=micros % _SECOND_US * 1000)


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def time_of(message: Any, name: str) -> datetime | None:
    """A Timestamp field as datetime in UTC; None when it is unset."""
    return datetime_of(getattr(message, name)) if message.HasField(name) else None


def datetime_of(value: Timestamp) -> datetime:
    """A Timestamp as datetime in UTC."""
    return _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def payload(value: Any, name: str = "payload", limit: int = MAX_PAYLOAD_BYTES) -> common_pb2.Payload:
    """A value as JSON text, a Payload as it is; InvalidArgument above `limit` bytes."""
    if isinstance(value, Payload):
        message = common_pb2.Payload(content_type=value.content_type, content_encoding=value.content_encoding)
        if isinstance(value.data, str):
            message.text = value.data
            size = len(value.data.encode())
        else:
            message.data = value.data
            size = len(value.data)
    else:
        text = _codec.dumps(value, name)
        try:
            encoded = text.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"{name}: a string holds half a surrogate pair", field=name, cause=error) from error
        message, size = common_pb2.Payload(text=text), len(encoded)
    if size > limit:
        raise InvalidArgument(f"{name}: {size} bytes, the limit is {limit}", field=name, reason="INVALID_FIELD")
    return message


def value_of(message: common_pb2.Payload) -> Any:
    """What a payload holds: JSON as plain values, anything else as Payload. DecodeError when the JSON is broken."""
    body = message.WhichOneof("body")
    if body == "json":
        return json_format.MessageToDict(message.json)
    if message.content_encoding or (message.content_type and "json" not in message.content_type):
        raw = message.text if body == "text" else message.data
        return Payload(raw, message.content_type, message.content_encoding)
    if body == "data" and not message.content_type:
        return Payload(message.data)
    if body is None:
        return None
    try:
        return _codec.loads(message.text if body == "text" else message.data)
    except ValueError as error:
        raise _codec.DecodeError(f"not JSON: {error}") from error


def enum_value(enum: Any, short: str, field: str) -> Any:
    """Number of an enum value from its lower-case short name; InvalidArgument lists the known ones."""
    prefix = _prefix(enum)
    try:
        return enum.Value(prefix + short.upper())
    except (ValueError, AttributeError):
        known = ", ".join(name.removeprefix(prefix).lower() for name, number in enum.items() if number)
        raise InvalidArgument(f"{field}: {short!r} is none of {known}", field=field) from None


@functools.lru_cache(maxsize=256)
def short_name(enum: Any, number: int) -> str:
    """Lower-case name of an enum value without its prefix; `unknown` when this SDK does not know it."""
    try:
        name: str = enum.Name(number)
    except ValueError:
        return "unknown"
    return name.removeprefix(_prefix(enum)).lower()


def _prefix(enum: Any) -> str:
    name: str = enum.DESCRIPTOR.values_by_number[0].name
    return name.removesuffix("UNSPECIFIED")


@functools.lru_cache(maxsize=32)
def state_of(number: int) -> JobState:
    """A JobState from its number; UNKNOWN for those of the future."""
    try:
        return JobState(short_name(job_pb2.JobState, number))
    except ValueError:
        return JobState.UNKNOWN


def failure_of(message: common_pb2.Failure) -> Failure:
    """A Failure with its causes."""
    return Failure(
        kind=short_name(common_pb2.FailureKind, message.kind or common_pb2.FAILURE_KIND_APPLICATION),
        type=message.type,
        message=message.message,
        stack_trace=message.stack_trace,
        cause=failure_of(message.cause) if message.HasField("cause") else None,
    )


def progress_of(message: job_pb2.Progress) -> Progress:
    """Progress as reported."""
    return Progress(
        percent=message.percent if message.HasField("percent") else None,
        current=message.current,
        total=message.total,
        message=message.message,
        data=json_format.MessageToDict(message.data) if message.HasField("data") else {},
        update_time=time_of(message, "update_time"),
    )


def status_of(job: job_pb2.Job) -> JobStatus:
    """The public record of a job."""
    return JobStatus(
        id=job.id,
        state=state_of(job.state),
        type=job.spec.type,
        queue=job.spec.queue or job.spec.type,
        priority=job.spec.priority,
        tags=tuple(job.spec.tags),
        attempt=job.attempt,
        delivery=job.delivery,
        crashes=job.crashes,
        create_time=time_of(job, "create_time"),
        schedule_time=time_of(job, "schedule_time"),
        start_time=time_of(job, "start_time"),
        finish_time=time_of(job, "finish_time"),
        progress=progress_of(job.progress) if job.HasField("progress") else None,
        failure=failure_of(job.failure) if job.HasField("failure") else None,
        worker_id=job.worker_id,
    )


_LEVELS = {1: 5, 5: 10, 9: 20, 13: 30, 17: 40, 21: 50}


def log_event_of(line: job_pb2.LogLine) -> LogEvent:
    """A log line with its level as in `logging`."""
    return LogEvent(
        index=line.index,
        time=time_of(line, "time"),
        level=python_level(line.level),
        message=line.message,
        fields=dict(line.fields),
        attempt=line.attempt,
    )


def python_level(level: Any) -> int:
    """The level of `logging` for the contract's LogLevel; 0 for those of the future."""
    return _LEVELS.get(int(level), 0)


def log_level(level: int) -> Any:
    """The contract's LogLevel for a level of `logging`."""
    return next((number for number, python in reversed(_LEVELS.items()) if level >= python), job_pb2.LOG_LEVEL_TRACE)


def dependency_of(message: worker_service_pb2.DependencyResult) -> DependencyResult:
    """The result of a finished parent."""
    return DependencyResult(
        alias=message.alias,
        job_id=message.job_id,
        state=state_of(message.state),
        result=value_of(message.result) if message.HasField("result") else None,
        failure=failure_of(message.failure) if message.HasField("failure") else None,
    )


def explanation_of(message: job_service_pb2.ExplainJobResponse) -> Explanation:
    """Why a job is where it is."""
    reasons = tuple(WaitReason(reason.WhichOneof("reason") or "unknown", reason.message) for reason in message.reasons)
    return Explanation(state_of(message.state), message.summary, reasons)


def item_error(error: common_pb2.ItemError) -> JobwireError:
    """The exception for one refused item."""
    return error_of(
        code_name(error.code),
        error.message,
        reason=error.reason,
        field=error.field,
        retry_delay=seconds(error.retry_delay) if error.HasField("retry_delay") else None,
        metadata=error.metadata,
    )


def enqueue_result(message: job_service_pb2.EnqueueResult) -> EnqueueResult:
    """What became of one item."""
    if message.HasField("error"):
        return EnqueueResult("", "refused", JobState.UNKNOWN, item_error(message.error))
    status = short_name(job_service_pb2.EnqueueStatus, message.status)
    return EnqueueResult(message.job_id, cast(Any, status), state_of(message.state))


def outcome_of(result: job_service_pb2.JobResult) -> Any:
    """The result of a terminal job as plain values, or the exception that says how else it ended."""
    state = state_of(result.state)
    failure = failure_of(result.failure) if result.HasField("failure") else None
    if state is JobState.SUCCEEDED:
        return value_of(result.result) if result.HasField("result") else None
    about = (
        f": {failure.type}: {failure.message}"
        if failure and failure.type
        else f": {failure.message}"
        if failure
        else ""
    )
    kinds = {JobState.CANCELLED: JobCancelled, JobState.EXPIRED: JobExpired}
    raise kinds.get(state, JobFailed)(
        f"job {result.job_id} ended {state.name}{about}", job_id=result.job_id, failure=failure
    )
