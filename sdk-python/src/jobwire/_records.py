"""What administration reads and gets back: records of schedules, and what became of calls that concern many things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ._types import Duration, JobOptions, JobState

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
