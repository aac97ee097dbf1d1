"""The plain values of the public API: options going in, records coming out. No protobuf type is among them."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ._errors import InvalidArgument

if TYPE_CHECKING:
    from ._errors import JobwireError

# A span of time: "30s" (one unit of ms s m h d), a timedelta, or a number of seconds.
Duration = str | timedelta | int | float

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def to_timedelta(value: Duration, name: str = "duration") -> timedelta:
    """A Duration as timedelta; InvalidArgument naming `name` when it is none, or negative."""
    try:
        return _to_timedelta(value, name)
    except (OverflowError, ValueError) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(f"{name}: {value!r} is not a duration", field=name, cause=error) from error


def _to_timedelta(value: Duration, name: str) -> timedelta:
    if isinstance(value, timedelta):
        span = value
    elif isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if not match:
            raise InvalidArgument(f'{name}: expected a duration such as "30s" (ms s m h d), got {value!r}', field=name)
        span = timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    elif isinstance(value, int | float) and not isinstance(value, bool):
        span = timedelta(seconds=value)
    else:
        raise InvalidArgument(f'{name}: expected a duration such as "30s", got {type(value).__name__}', field=name)
    if span < timedelta(0):
        raise InvalidArgument(f"{name}: must not be negative, got {value!r}", field=name)
    return span


def to_seconds(value: Duration, name: str = "duration") -> float:
    """A Duration in seconds; errors as `to_timedelta`."""
    return to_timedelta(value, name).total_seconds()


def whole_number(value: Any) -> bool:
    """An int, and no bool: True is no number that anybody means."""
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Retry:
    """What happens after an attempt fails. What is None takes the queue's value, then the server's default."""

    max_attempts: int | None = None  # attempts in all, the first included; 1 = never retry, -1 = no limit; 20
    initial_delay: Duration | None = None  # before the second attempt; 1 s
    multiplier: float | None = None  # growth per attempt, at least 1; 2
    max_delay: Duration | None = None  # ceiling of the computed delay; 1 h
    jitter: float | None = None  # share of each delay that is random, 0 to 1; 0.2
    delays: Sequence[Duration] = ()  # explicit delays instead of the curve; the last one repeats
    non_retryable_types: Sequence[str] = ()  # failure types that end it at once; exact, or a prefix with "*"
    max_crashes: int | None = None  # times a worker may vanish with the job; 0 = first time is final, -1 = no limit; 3
    on_exhausted: Literal["dead", "discard"] | None = None  # keep for repair ("dead", the default) or not


@dataclass(frozen=True)
class Unique:
    """At most one live job per key, within its queue and fairness key."""

    key: str = ""  # at most 256 bytes; empty = a hash of type and payload
    scope: Literal["until_finished", "until_started", "for_ttl"] | None = None  # default until_finished
    # With "for_ttl", where it is required: how long, from enqueue. With "debounce": the start is never moved further
    # than this from the first job's creation.
    ttl: Duration | None = None
    # What becomes of the newcomer: dropped ("keep", the default), refused, put in place of the one that waits, moving
    # its start, or, besides replacing one that waits, run once more after the one that runs ("keep_last").
    on_conflict: Literal["keep", "reject", "replace", "debounce", "keep_last"] | None = None


@dataclass(frozen=True)
class Payload:
    """A body that is not plain JSON: bytes or text with a media type, sent as it is."""

    data: bytes | str
    content_type: str = ""
    content_encoding: str = ""


class JobOptions(TypedDict, total=False):
    """Options of a job, given to `@app.task`, `task.opts` and `client.enqueue`.

    What wins: the call, the task, the queue's configuration, the server's default. `unique`, `fairness_key`,
    `idempotency_key` and `tags` may be functions of the task's arguments. Durations: "30s", a timedelta, seconds.
    """

    queue: str  # default: the type, which gives each type its own statistics, limits and pause switch
    priority: int  # -4 (last) to 4 (first), default 0; orders the jobs of one queue and fairness key
    fairness_key: str | Callable[..., str]  # jobs of different keys take turns; typically a tenant; at most 256 bytes
    delay: Duration  # start this long from now, on the server's clock; at most 10 years; excludes `at`
    at: datetime  # start then; must be aware; in the past = now
    timeout: Duration  # longest one attempt may run, from handler start; default 30 min, at most 30 d
    total_timeout: Duration  # longest from enqueue to the end, retries included; default none
    heartbeat_timeout: Duration  # longest silence without progress() while running; default none
    ttl: Duration  # must start this long after its scheduled start, or ends EXPIRED; excludes `expire_at`
    expire_at: datetime  # must start before then; must be aware
    retry: int | Retry  # a number is Retry(max_attempts=number)
    id: str  # a UUID, version 7 by preference; default: a fresh one, which makes repeats harmless
    idempotency_key: str | Callable[..., str]  # remembered for idempotency_ttl: a repeat returns the first job
    idempotency_ttl: Duration  # default 24 h, at most 30 d
    unique: str | Unique | Callable[..., str | Unique]  # one live job per key; a string is Unique(key=string)
    tags: Sequence[str] | Callable[..., Sequence[str]]  # at most 16 of 64 bytes
    headers: Mapping[str, str]  # carried to the worker; lower-case keys, at most 64 entries and 8 KiB
    retention: Duration  # how long to keep the finished record; default 1 h
    dead_retention: Duration  # the same for a DEAD job; default 30 d
    after: Sequence[Any]  # jobs (handles or ids) that must succeed first; at most 1,000


@dataclass(frozen=True)
class Queue:
    """One queue for a worker to serve. `name` is exact or a prefix ending in "*"."""

    name: str
    weight: int = 1  # share of the worker's attention, relative to its other queues
    strict: bool = False  # serve only when every queue listed before it is empty
    max_slots: int = 0  # limit on leases from this queue, inside the worker's slots; 0 = none


class JobState(str, enum.Enum):
    """Where a job is."""

    SCHEDULED = "scheduled"  # waiting for its start time, or snoozed
    BLOCKED = "blocked"  # waiting for dependencies
    READY = "ready"  # waiting for a slot
    RUNNING = "running"
    RETRYING = "retrying"  # failed, waiting for its next attempt
    SUCCEEDED = "succeeded"
    DEAD = "dead"  # out of retries, kept for repair
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DISCARDED = "discarded"  # failed, not kept for repair
    UNKNOWN = "unknown"  # a state that this version of the SDK does not know; never terminal

    @property
    def terminal(self) -> bool:
        """The job has ended."""
        return self in _TERMINAL


_TERMINAL = frozenset({JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELLED, JobState.EXPIRED, JobState.DISCARDED})


@dataclass(frozen=True)
class Failure:
    """Why an attempt, or a job, did not succeed. The remote side's words, as text."""

    kind: str  # application, timeout, stalled, worker_lost, cancelled, expired, dependency, unprocessable
    type: str  # class name such as "requests.exceptions.ConnectTimeout"
    message: str
    stack_trace: str = ""
    cause: Failure | None = None


@dataclass(frozen=True)
class Progress:
    """Latest progress of a running job."""

    percent: float | None = None  # 0 to 100
    current: int = 0
    total: int = 0
    message: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    update_time: datetime | None = None


@dataclass(frozen=True)
class JobStatus:
    """The record of a job, as of one moment."""

    id: str
    state: JobState
    type: str
    queue: str
    priority: int
    tags: tuple[str, ...]
    attempt: int  # attempts that count against max_attempts
    delivery: int  # times it was ever handed out
    crashes: int  # times a worker vanished with it
    create_time: datetime | None = None
    schedule_time: datetime | None = None  # when it becomes, or became, runnable
    start_time: datetime | None = None
    finish_time: datetime | None = None
    progress: Progress | None = None
    failure: Failure | None = None  # the latest one, also while retrying
    worker_id: str = ""  # who holds it now, or held it last


@dataclass(frozen=True)
class StateEvent:
    """The job's record changed; the last one is terminal."""

    state: JobState
    status: JobStatus


@dataclass(frozen=True)
class ProgressEvent:
    """The handler reported progress."""

    progress: Progress


@dataclass(frozen=True)
class LogEvent:
    """The handler logged a line. A gap in `index` means that lines were dropped."""

    index: int
    time: datetime | None
    level: int  # as in `logging`: 10 debug, 20 info, 30 warning, 40 error, 50 critical
    message: str
    fields: Mapping[str, str] = field(default_factory=dict)
    attempt: int = 0


JobEvent = StateEvent | ProgressEvent | LogEvent


@dataclass(frozen=True)
class EnqueueResult:
    """What became of one item of `enqueue_many` or `enqueue_stream`: `error`, or a job."""

    job_id: str  # empty when refused
    # accepted: by enqueue_stream, which does not tell a new job from one that was there
    status: Literal["created", "duplicate", "kept", "replaced", "accepted", "refused"]
    state: JobState
    error: JobwireError | None = None

    @property
    def id(self) -> str:
        """Of the job; empty when refused."""
        return self.job_id


@dataclass(frozen=True)
class WaitReason:
    """One reason why a job waits.

    kind: not_due, dependency, paused, no_worker, throttled, limit, busy, turn; `unknown` for those of the future.
    """

    kind: str
    message: str  # one sentence for a person


@dataclass(frozen=True)
class Explanation:
    """Why a job is where it is, as of one moment."""

    state: JobState
    summary: str  # one sentence, whatever the state
    reasons: tuple[WaitReason, ...] = ()  # the one that has to go first comes first; empty when running or terminal


@dataclass(frozen=True)
class DependencyResult:
    """Result of a finished job that this one depended on."""

    alias: str
    job_id: str
    state: JobState
    result: Any = None
    failure: Failure | None = None
