"""`client.jobs`: looking at jobs, and repairing many at once. For single ones there are handles: `client.job(id)`."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ._convert import (
    duration,
    explanation_of,
    failure_of,
    log_event_of,
    log_level,
    payload,
    short_name,
    status_of,
    time_of,
    timestamp,
    value_of,
)
from ._options import put_retry
from ._records import BulkResult, JobAttempt, JobRecord
from ._service import Service, id_of, selected
from ._spec import options_of, span_of
from ._types import Duration, Explanation, JobStatus, LogEvent, Retry
from .v1 import common_pb2, job_pb2
from .v1 import job_service_pb2 as pb

if TYPE_CHECKING:
    from ._job import Job

PAGE = 200


class Jobs(Service):
    """Jobs of the deployment. Reading needs scope `read`, the rest `admin`.

    Bulk calls take ids or handles, or a `filter`: `'state = DEAD AND type = "mail.send"'`; everything is `"*"`. They go
    on by themselves until all is looked at, or `limit` jobs are; `dry_run` only counts. Every method has a twin for
    asyncio: `aget`, `alist`, `acancel` …
    """

    def get(self, job: str | Job[Any]) -> JobRecord:
        """All that is known of a job. NotFound when its record is gone."""
        return record_of(self._call("GetJob", _get(job)).job)

    async def aget(self, job: str | Job[Any]) -> JobRecord:
        """`get` for asyncio."""
        return record_of((await self._acall("GetJob", _get(job))).job)

    def list(self, filter: str = "") -> Iterator[JobStatus]:
        """Jobs page by page as they are iterated, grouped by queue and state.

        filter: over id, queue, state (these three are quick), type, tag, priority, fairness_key, workflow_id,
            schedule_id, parent_id, worker_id, failure.type, attempt, and the times.
        """
        return self._pages("ListJobs", pb.ListJobsRequest(filter=filter, page_size=PAGE), _listed)

    def alist(self, filter: str = "") -> AsyncIterator[JobStatus]:
        """`list` for asyncio: `async for job in client.jobs.alist("state = DEAD")`."""
        return self._apages("ListJobs", pb.ListJobsRequest(filter=filter, page_size=PAGE), _listed)

    def logs(self, job: str | Job[Any], *, level: int = 0) -> Iterator[LogEvent]:
        """What the handler logged, page by page, the oldest first. level: as in `logging`, at least."""
        return self._pages("ListJobLogs", _logs(job, level), _lines)

    def alogs(self, job: str | Job[Any], *, level: int = 0) -> AsyncIterator[LogEvent]:
        """`logs` for asyncio."""
        return self._apages("ListJobLogs", _logs(job, level), _lines)

    def explain(self, job: str | Job[Any]) -> Explanation:
        """Why the job is where it is."""
        return explanation_of(self._call("ExplainJob", pb.ExplainJobRequest(id=id_of(job))))

    async def aexplain(self, job: str | Job[Any]) -> Explanation:
        """`explain` for asyncio."""
        return explanation_of(await self._acall("ExplainJob", pb.ExplainJobRequest(id=id_of(job))))

    def cancel(
        self,
        *jobs: str | Job[Any],
        filter: str = "",
        reason: str = "",
        grace: Duration | None = None,
        limit: int | None = None,
        dry_run: bool = False,
    ) -> BulkResult:
        """Stops jobs: waiting ones at once, running ones by asking their handlers.

        grace: time for a running handler to stop before the server finishes its job; None = as long as it takes.
        """
        request = _cancel(reason, grace, dry_run)
        return self._bulk("CancelJobs", selected(request, jobs, filter), limit=limit)

    async def acancel(
        self,
        *jobs: str | Job[Any],
        filter: str = "",
        reason: str = "",
        grace: Duration | None = None,
        limit: int | None = None,
        dry_run: bool = False,
    ) -> BulkResult:
        """`cancel` for asyncio."""
        request = _cancel(reason, grace, dry_run)
        return await self._abulk("CancelJobs", selected(request, jobs, filter), limit=limit)

    def retry(
        self,
        *jobs: str | Job[Any],
        filter: str = "",
        reset_attempts: bool = False,
        spread: Duration | None = None,
        queue: str = "",
        limit: int | None = None,
        dry_run: bool = False,
    ) -> BulkResult:
        """Runs jobs again, now: ended ones start over, waiting ones stop waiting. Succeeded ones only by id.

        reset_attempts: count attempts afresh; otherwise one more is granted. spread: start them evenly over this long.
        queue: move them there on the way.
        """
        request = _retry(reset_attempts, spread, queue, dry_run)
        return self._bulk("RetryJobs", selected(request, jobs, filter), limit=limit, repeat=False)

    async def aretry(
        self,
        *jobs: str | Job[Any],
        filter: str = "",
        reset_attempts: bool = False,
        spread: Duration | None = None,
        queue: str = "",
        limit: int | None = None,
        dry_run: bool = False,
    ) -> BulkResult:
        """`retry` for asyncio."""
        request = _retry(reset_attempts, spread, queue, dry_run)
        return await self._abulk("RetryJobs", selected(request, jobs, filter), limit=limit, repeat=False)

    def update(
        self,
        *jobs: str | Job[Any],
        filter: str = "",
        priority: int | None = None,
        queue: str | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        retry: int | Retry | None = None,
        timeout: Duration | None = None,
        input: Any = None,
        etag: str = "",
        limit: int | None = None,
        dry_run: bool = False,
    ) -> BulkResult:
        """Moves, reprioritises, reschedules or edits jobs that neither run nor have ended; None leaves as it is.

        input, etag: of a single job, by its id; etag: refuse (Aborted) if the record has changed since.
        """
        request = _update(priority, queue, delay, at, retry, timeout, input, etag, dry_run)
        return self._bulk("UpdateJobs", selected(request, jobs, filter), limit=limit)

    async def aupdate(
        self,
        *jobs: str | Job[Any],
        filter: str = "",
        priority: int | None = None,
        queue: str | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        retry: int | Retry | None = None,
        timeout: Duration | None = None,
        input: Any = None,
        etag: str = "",
        limit: int | None = None,
        dry_run: bool = False,
    ) -> BulkResult:
        """`update` for asyncio."""
        request = _update(priority, queue, delay, at, retry, timeout, input, etag, dry_run)
        return await self._abulk("UpdateJobs", selected(request, jobs, filter), limit=limit)

    def delete(
        self, *jobs: str | Job[Any], filter: str = "", force: bool = False, limit: int | None = None
    ) -> BulkResult:
        """Deletes records. force: needed by filter, and for jobs that have not ended; without it those are counted."""
        return self._bulk("DeleteJobs", selected(pb.DeleteJobsRequest(force=force), jobs, filter), limit=limit)

    async def adelete(
        self, *jobs: str | Job[Any], filter: str = "", force: bool = False, limit: int | None = None
    ) -> BulkResult:
        """`delete` for asyncio."""
        return await self._abulk("DeleteJobs", selected(pb.DeleteJobsRequest(force=force), jobs, filter), limit=limit)


# --- requests -----------------------------------------------------------------------------------------------------


def _get(job: Any) -> pb.GetJobRequest:
    return pb.GetJobRequest(id=id_of(job), view=job_pb2.JOB_VIEW_FULL, payload_format=common_pb2.PAYLOAD_FORMAT_RAW)


def _logs(job: Any, level: int) -> pb.ListJobLogsRequest:
    least = log_level(level) if level else job_pb2.LOG_LEVEL_UNSPECIFIED
    return pb.ListJobLogsRequest(id=id_of(job), page_size=PAGE, min_level=least)


def _cancel(reason: str, grace: Duration | None, dry_run: bool) -> pb.CancelJobsRequest:
    request = pb.CancelJobsRequest(reason=reason, dry_run=dry_run)
    if grace is not None:
        request.grace.CopyFrom(duration(grace, "grace"))
    return request


def _retry(reset_attempts: bool, spread: Duration | None, queue: str, dry_run: bool) -> pb.RetryJobsRequest:
    request = pb.RetryJobsRequest(reset_attempts=reset_attempts, queue=queue, dry_run=dry_run)
    if spread is not None:
        request.spread.CopyFrom(duration(spread, "spread"))
    return request


def _update(
    priority: int | None,
    queue: str | None,
    delay: Duration | None,
    at: datetime | None,
    retry: int | Retry | None,
    timeout: Duration | None,
    input: Any,
    etag: str,
    dry_run: bool,
) -> pb.UpdateJobsRequest:
    if delay is not None and at is not None:
        raise TypeError("delay and at exclude each other")
    request = pb.UpdateJobsRequest(etag=etag, dry_run=dry_run)
    patch = request.patch
    patch.SetInParent()
    if priority is not None:
        patch.priority = priority
    if queue is not None:
        patch.queue = queue
    for name, span in (("delay", delay), ("timeout", timeout)):
        if span is not None:
            getattr(patch, name).CopyFrom(duration(span, name))
    if at is not None:
        patch.schedule_time.CopyFrom(timestamp(at, "at"))
    if retry is not None:
        put_retry(patch, retry)
    if input is not None:
        patch.payload.CopyFrom(payload(input, "input"))
    return request


# --- answers ------------------------------------------------------------------------------------------------------


def _listed(response: pb.ListJobsResponse) -> Iterator[JobStatus]:
    return map(status_of, response.jobs)


def _lines(response: pb.ListJobLogsResponse) -> Iterator[LogEvent]:
    return map(log_event_of, response.lines)


def record_of(job: job_pb2.Job) -> JobRecord:
    """All of a job's record."""
    status: Mapping[str, Any] = {
        field.name: getattr(known, field.name) for known in (status_of(job),) for field in dataclasses.fields(known)
    }
    return JobRecord(
        **status,
        input=value_of(job.spec.payload),
        result=value_of(job.result) if job.HasField("result") else None,
        options=options_of(job.spec),
        attempts=tuple(map(_attempt, job.attempts)),
        parent_id=job.spec.parent_id,
        workflow_id=job.workflow_id,
        node=job.node,
        schedule_id=job.schedule_id,
        fire_time=time_of(job, "fire_time"),
        cancel_request_time=time_of(job, "cancel_request_time"),
        purge_time=time_of(job, "purge_time"),
        etag=job.etag,
    )


def _attempt(message: job_pb2.Attempt) -> JobAttempt:
    return JobAttempt(
        attempt=message.attempt,
        delivery=message.delivery,
        result=short_name(job_pb2.AttemptResult, message.result) if message.result else "running",
        worker_id=message.worker_id,
        start_time=time_of(message, "start_time"),
        finish_time=time_of(message, "finish_time"),
        failure=failure_of(message.failure) if message.HasField("failure") else None,
        run_duration=span_of(message.run_duration) if message.HasField("run_duration") else None,
        wait_duration=span_of(message.wait_duration) if message.HasField("wait_duration") else None,
    )
