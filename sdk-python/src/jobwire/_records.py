"""What administration reads and gets back: records of schedules, and what became of calls that concern many things."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ._types import Duration, Failure, JobOptions, JobState, JobStatus, Progress, Retry

if TYPE_CHECKING:
    from ._errors import JobwireError

Overlap = Literal["allow", "skip", "buffer_one", "cancel_previous"]
CatchUp = Literal["last", "all", "none"]
Gap = Literal["after", "skip"]
Fold = Literal["first", "both"]


@dataclass(frozen=True)
class BulkResult:
    """What became of the things that a call was about, all its rounds added up."""

    matched: int = 0  # that were chosen and are there
    affected: int = 0  # that were changed; 0 when it was only counting
    sample_ids: tuple[str, ...] = ()  # up to 100 of those matched
    errors: Mapping[str, JobwireError] = field(default_factory=dict)  # by id: matched, but could not be changed


class ScheduleOptions(TypedDict, total=False):
    """When a schedule fires, and what becomes of ticks that it cannot keep. Needs `cron` or `every`, not both.

    Durations: "30s", a timedelta, seconds. Moments are aware datetimes.
    """

    cron: str  # 5 fields, or 6 with seconds first; names, L, # and W; @daily …; one that never fires is refused
    every: Duration  # elapsed time between ticks, counted from `start`, else from the first put; 1 s to 10 years
    time_zone: str  # IANA name that `cron` is in, such as "Europe/Berlin"; default UTC
    start: datetime  # no tick before
    end: datetime  # no tick after
    jitter: Duration  # each job starts later by a part of this, fixed for its tick; at most 1 d; default none
    overlap: Overlap  # when the run before is not finished; default "allow"
    catch_up: CatchUp  # which missed ticks (over a minute late) are made up for; default "last"
    catch_up_window: Duration  # ticks missed longer ago are forgotten; default 1 h
    gap: Gap  # a fixed local time that a clock change skips: "after" it (default) or not that day
    fold: Fold  # a fixed local time that comes twice: the "first" (default) or "both"
    note: str  # for people; at most 1 KiB


@dataclass(frozen=True)
class ScheduleStatus:
    """A schedule as it was put, and what has become of it so far."""

    id: str
    type: str  # of the jobs that it enqueues
    queue: str
    input: Any  # their payload
    options: JobOptions  # of theirs
    cron: str  # empty for one with `every`
    every: timedelta | None
    time_zone: str
    overlap: Overlap
    catch_up: CatchUp
    gap: Gap
    fold: Fold
    start: datetime | None = None
    end: datetime | None = None
    jitter: timedelta = timedelta()
    catch_up_window: timedelta | None = None  # None = the server's default, 1 h
    note: str = ""
    paused: bool = False
    pause_reason: str = ""
    next_fire_times: tuple[datetime, ...] = ()  # up to five, without the jitter; none while it is paused
    waiting_fire_time: datetime | None = None  # a tick that waits for the end of the run before it
    last_fire_time: datetime | None = None
    last_job_id: str = ""
    last_job_state: JobState | None = None  # None when the record is gone, and in lists
    fired_count: int = 0  # jobs enqueued, triggers and backfills included
    skipped_count: int = 0  # ticks without a job
    create_time: datetime | None = None
    update_time: datetime | None = None
    etag: str = ""  # changes with what was put, not with ticks and pauses


@dataclass(frozen=True)
class SchedulePut:
    """What a put came to: the schedule as it is now, and whether it is new."""

    schedule: ScheduleStatus
    created: bool


@dataclass(frozen=True)
class SchedulePreview:
    """The next ticks, without the jitter, and the cadence in words: "At 02:30, Monday to Friday, Europe/Berlin"."""

    fire_times: tuple[datetime, ...]
    description: str


@dataclass(frozen=True)
class Backfill:
    """What became of the ticks of a past interval."""

    ticks: int = 0  # looked at
    fired: int = 0  # jobs enqueued; with dry_run, those that would be
    existing: int = 0  # whose job was there already
    skipped: int = 0  # by the overlap policy
    sample_ids: tuple[str, ...] = ()  # up to 100 of the jobs


@dataclass(frozen=True)
class JobAttempt:
    """One lease of a job, and how it ended."""

    attempt: int
    delivery: int
    # succeeded, failed, timed_out, lost, snoozed, released, cancelled; running while it is; unknown for later ones
    result: str
    worker_id: str = ""
    start_time: datetime | None = None
    finish_time: datetime | None = None
    failure: Failure | None = None
    run_duration: timedelta | None = None  # as measured by the worker
    wait_duration: timedelta | None = None  # from runnable to leased


@dataclass(frozen=True)
class JobRecord(JobStatus):
    """All that is known of a job: its status, what it was enqueued with, what came of it, and its attempts."""

    input: Any = None
    result: Any = None
    options: JobOptions = field(default_factory=JobOptions)  # as accepted, defaults filled in
    attempts: tuple[JobAttempt, ...] = ()  # newest first, at most 25
    parent_id: str = ""
    workflow_id: str = ""
    node: str = ""
    schedule_id: str = ""
    fire_time: datetime | None = None
    cancel_request_time: datetime | None = None
    purge_time: datetime | None = None  # when the finished record goes away
    etag: str = ""


@dataclass(frozen=True)
class RateLimit:
    """At most `max` starts per `per`, over all workers: a token bucket. burst: at once; 0 = `max`; 1 = evenly."""

    max: int
    per: Duration = "1s"
    burst: int = 0


class QueueOptions(TypedDict, total=False):
    """The configuration of a queue. What is left out, or None, is the server's default."""

    max_running: int | None  # jobs running at once, over all workers; default no limit
    rate_limit: RateLimit | None
    max_running_per_key: int | None  # the same for each fairness key
    rate_limit_per_key: RateLimit | None
    key_weights: Mapping[str, int] | None  # turns of single keys relative to the others, 1 to 1,000; others have 1
    max_depth: int | None  # jobs waiting; beyond it enqueue raises ResourceExhausted; default no limit
    retry: int | Retry | None  # defaults for jobs that do not say: these five
    timeout: Duration | None
    ttl: Duration | None
    retention: Duration | None
    dead_retention: Duration | None
    max_finished: int | None  # finished records kept; default 100,000; -1 = no limit
    max_dead: int | None  # DEAD records kept; default 1,000,000; -1 = no limit
    durability: Literal["fast", "fsync", "replicated"] | None  # what an acknowledged change survives
    shards: int | None  # Redis only: parts of the store that a hot queue is spread over; default 1
    note: str | None  # for people


@dataclass(frozen=True)
class Percentiles:
    """Durations of the last minute."""

    p50: timedelta = timedelta()
    p95: timedelta = timedelta()
    p99: timedelta = timedelta()
    max: timedelta = timedelta()


@dataclass(frozen=True)
class QueueStats:
    """Numbers of a queue, or of several added up. Rates are of the last minute."""

    ready: int = 0
    running: int = 0
    scheduled: int = 0
    retrying: int = 0
    blocked: int = 0
    dead: int = 0
    finished: int = 0
    latency: timedelta = timedelta()  # how long the oldest runnable job has waited
    enqueued_per_second: float = 0.0
    started_per_second: float = 0.0
    succeeded_per_second: float = 0.0
    failed_per_second: float = 0.0
    wait: Percentiles = field(default_factory=Percentiles)
    run: Percentiles = field(default_factory=Percentiles)
    workers: int = 0
    slots: int = 0
    slots_busy: int = 0
    unhandled_types: Mapping[str, int] = field(default_factory=dict)  # jobs set aside: no worker handles their type


@dataclass(frozen=True)
class QueueStatus:
    """A queue: what was set of it, and how it is."""

    name: str
    config: QueueOptions  # only what was set
    stats: QueueStats
    paused: bool = False
    pause_reason: str = ""
    pause_actor: str = ""
    pause_time: datetime | None = None
    resume_time: datetime | None = None  # when a pause or a throttle ends by itself
    etag: str = ""


@dataclass(frozen=True)
class WorkerStatus:
    """A connected worker, on whichever server; a few seconds old at most."""

    id: str  # of its session
    name: str
    state: str  # active, quiet, draining
    directive: str  # what it was told: run, quiet, terminate; empty for nothing
    hostname: str = ""
    pid: int = 0
    sdk: str = ""
    sdk_version: str = ""
    runtime: str = ""
    app_version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    types: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    slots: int = 0
    concurrency: int = 0
    in_flight: int = 0  # leases held
    running: int = 0  # of them started
    connect_time: datetime | None = None
    last_seen_time: datetime | None = None
    succeeded_count: int = 0  # since connect_time
    failed_count: int = 0
    rss_bytes: int = 0
    cpu_percent: float = 0.0
    server_id: str = ""
    jobs: tuple[JobStatus, ...] = ()  # what it holds, at most 100; of `get` only


class WorkflowState(str, enum.Enum):
    """Where a workflow is."""

    RUNNING = "running"
    HELD = "held"  # a node failed, what depends on it waits for an operator, and nothing else is left to run
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # a state that this version of the SDK does not know; never terminal

    @property
    def terminal(self) -> bool:
        """The workflow has ended."""
        return self in (WorkflowState.SUCCEEDED, WorkflowState.FAILED, WorkflowState.CANCELLED)


@dataclass(frozen=True)
class WorkflowStatus:
    """The record of a workflow, as of one moment."""

    id: str
    name: str
    state: WorkflowState
    open: bool  # more nodes may come
    node_count: int
    counts: Mapping[JobState, int]  # nodes by their state
    percent: float  # nodes that have ended, of all
    create_time: datetime | None = None
    finish_time: datetime | None = None
    purge_time: datetime | None = None
    parent_workflow_id: str = ""
    tags: tuple[str, ...] = ()
    callback_job_ids: tuple[str, ...] = ()  # of on_success, on_failure and on_finish, once enqueued


@dataclass(frozen=True)
class WorkflowNodeStatus:
    """A node, and where its job is."""

    name: str
    group: str
    job_id: str  # empty where the node is a workflow of its own
    state: JobState
    progress: Progress | None = None
    failure: Failure | None = None
    start_time: datetime | None = None
    finish_time: datetime | None = None
