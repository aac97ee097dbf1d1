"""One job of the fake: its record, and the forms in which it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .._convert import seconds, timestamp, value_of
from .._spec import options_of
from .._types import JobOptions, JobState
from ..v1 import common_pb2, job_pb2, job_service_pb2


@dataclass(frozen=True)
class Enqueued:
    """A job that was enqueued while `fake` was in force.

    id: of the job. task: its type. queue: where it went. input: its payload as plain JSON values. options: those it was
    enqueued with, durations as timedelta. due: when it runs, or ran first.
    """

    id: str
    task: str
    queue: str
    input: Any
    options: JobOptions
    due: datetime


@dataclass
class Record:
    """A job in the fake's memory. Changed by the broker only."""

    spec: job_pb2.JobSpec
    number: int  # order of arrival
    created: datetime
    due: datetime
    expires: datetime | None  # the first attempt has to start before
    first_due: datetime
    state: JobState = JobState.READY
    failures: int = 0  # attempts that count
    delivery: int = 0
    front: bool = False  # given back: ahead of the others
    cancel: str | None = None  # asked to stop while it runs; the reason
    started: datetime | None = None
    finished: datetime | None = None
    result: common_pb2.Payload | None = None
    failure: common_pb2.Failure | None = None
    checkpoint: common_pb2.Payload | None = None
    progress: job_pb2.Progress | None = None
    lines: list[job_pb2.LogLine] = field(default_factory=list)
    workflow_id: str = ""
    node: str = ""

    @property
    def id(self) -> str:
        """The job's id."""
        return self.spec.id

    @property
    def type(self) -> str:
        """The job's type."""
        return self.spec.type

    @property
    def queue(self) -> str:
        """The queue it is in."""
        return self.spec.queue or self.spec.type

    @property
    def waiting(self) -> bool:
        """It will run, now or later."""
        return self.state in (JobState.SCHEDULED, JobState.READY, JobState.RETRYING)

    def enqueued(self) -> Enqueued:
        """As a test sees it."""
        return Enqueued(
            self.id, self.type, self.queue, value_of(self.spec.payload), options_of(self.spec), self.first_due
        )

    def job(self) -> job_pb2.Job:
        """The record as the contract has it."""
        job = job_pb2.Job(
            id=self.id,
            state=number_of(self.state),
            spec=self.spec,
            attempt=self.failures + (self.state in (JobState.RUNNING, JobState.SUCCEEDED)),
            delivery=self.delivery,
            worker_id="jobwire.testing" if self.delivery else "",
            result=self.result,
            failure=self.failure,
            progress=self.progress,
            workflow_id=self.workflow_id,
            node=self.node,
        )
        for name, moment in (
            ("create_time", self.created),
            ("schedule_time", self.due),
            ("start_time", self.started),
            ("finish_time", self.finished),
        ):
            if moment is not None:
                getattr(job, name).CopyFrom(timestamp(moment, name))
        return job

    def job_result(self) -> job_service_pb2.JobResult:
        """How it ended."""
        return job_service_pb2.JobResult(
            job_id=self.id, state=number_of(self.state), result=self.result, failure=self.failure
        )

    def content(self) -> tuple[str, str, bytes]:
        """What makes a repeat of it the same job."""
        body = self.spec.payload
        return self.type, body.content_encoding, b"" if body.content_encoding else body.text.encode() + body.data


def number_of(state: JobState) -> Any:
    """A state as the contract has it."""
    return job_pb2.JobState.Value(f"JOB_STATE_{state.name}")


def policy_delay(policy: common_pb2.RetryPolicy, failures: int) -> float:
    """Seconds before attempt `failures` + 1, as the server computes them without jitter."""
    if policy.delays:
        return seconds(policy.delays[min(failures, len(policy.delays)) - 1])
    initial = seconds(policy.initial_delay) if policy.HasField("initial_delay") else 1.0
    most = seconds(policy.max_delay) if policy.HasField("max_delay") else 3600.0
    multiplier = policy.multiplier or 2.0
    try:
        return min(float(initial * multiplier ** (failures - 1)), most)
    except OverflowError:
        return most


def same_input(wanted: Any, found: Any) -> bool:
    """Whether plain JSON values are equal; True is not 1."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return wanted.keys() == found.keys() and all(same_input(value, found[key]) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(same_input, wanted, found))
    return isinstance(wanted, bool) == isinstance(found, bool) and bool(wanted == found)
