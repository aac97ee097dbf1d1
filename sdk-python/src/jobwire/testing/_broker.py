"""The fake server's mind: jobs in memory under a clock that only tests move. Runs nothing itself.

Follows the server's rules (ids, idempotency, uniqueness, retries without jitter, expiry, cancel) and refuses what it
does not know, so that a test never passes on something it has not tried.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone

from .._convert import time_of
from .._errors import InvalidArgument, JobwireError, NotFound, error_of
from .._ids import uuid7
from .._leases import BatchRule, Outcome
from .._spec import span_of
from .._types import JobState
from ..v1 import common_pb2, job_pb2, job_service_pb2
from ..v1 import worker_service_pb2 as pb
from ._graphs import Graphs
from ._record import Record, policy_delay

Key = tuple[str, str, str, str]
_UNKNOWN = ("total_timeout", "heartbeat_timeout")


class Broker:
    """Records jobs and decides what outcomes mean for them."""

    def __init__(self) -> None:
        self.now = datetime.now(timezone.utc)
        self.records: dict[str, Record] = {}
        self._keys: dict[Key, tuple[str, datetime | None]] = {}
        self._arrived = 0
        self.graphs = Graphs(self)

    def clear(self) -> None:
        """Forgets every job and key; the clock stays."""
        self.records.clear()
        self._keys.clear()
        self.graphs.graphs.clear()

    # --- producers ----------------------------------------------------------------------------------------------

    def enqueue(self, spec: job_pb2.JobSpec) -> tuple[Record, str]:
        """The job, and what became of the request: CREATED, DUPLICATE, KEPT or REPLACED."""
        self._check(spec)
        record = self._admit(spec)
        known = self.records.get(record.id)
        if known is not None:
            if known.content() != record.content():
                raise _taken("ID_CONFLICT", known, "its id")
            return known, "DUPLICATE"
        idempotency, unique = self._keys_of(record)
        if idempotency is not None and (known := self._holder(idempotency)) is not None:
            if known.content() != record.content():
                raise _taken("ID_CONFLICT", known, "its idempotency_key")
            return known, "DUPLICATE"
        if unique is not None and (known := self._holder(unique)) is not None:
            return known, self._conflict(known, record)
        self.records[record.id] = record
        if spec.depends_on:
            self._block(record)
        if idempotency is not None:
            self._keys[idempotency] = (record.id, self.now + (_span(spec, "idempotency_ttl") or timedelta(days=1)))
        if unique is not None:
            bounded = spec.unique.scope == job_pb2.UNIQUE_SCOPE_FOR_TTL
            self._keys[unique] = (record.id, self.now + span_of(spec.unique.ttl) if bounded else None)
        return record, "CREATED"

    def admit_node(self, spec: job_pb2.JobSpec, workflow_id: str, node: str) -> Record:
        """A node of a workflow: recorded, waiting for what it depends on."""
        self._check(spec)
        record = self._admit(spec)
        record.workflow_id, record.node = workflow_id, node
        self.records[record.id] = record
        if spec.depends_on:
            record.state = JobState.BLOCKED
        return record

    def _block(self, record: Record) -> None:
        for dependency in record.spec.depends_on:
            if dependency.job_id not in self.records:
                del self.records[record.id]
                missing = f"after: there is no job {dependency.job_id}"
                raise error_of("FAILED_PRECONDITION", missing, reason="DEPENDENCY_NOT_FOUND", field="job.depends_on[0]")
        record.state = JobState.BLOCKED
        self.graphs.look()

    def _check(self, spec: job_pb2.JobSpec) -> None:
        for name in _UNKNOWN:
            if spec.HasField(name):
                raise _unknown(f"the option {name}", f"job.{name}")
        if spec.id:
            try:
                spec.id = str(uuid.UUID(spec.id))
            except ValueError as error:
                raise InvalidArgument("id: must be a UUID", field="job.id", reason="INVALID_FIELD") from error
        if not -4 <= spec.priority <= 4:
            raise InvalidArgument("priority: must be -4 to 4", field="job.priority", reason="INVALID_FIELD")
        unique = spec.unique
        for_ttl, debounced = (
            unique.scope == job_pb2.UNIQUE_SCOPE_FOR_TTL,
            unique.on_conflict == job_pb2.UNIQUE_CONFLICT_DEBOUNCE,
        )
        if unique.on_conflict == job_pb2.UNIQUE_CONFLICT_KEEP_LAST:
            raise _unknown('on_conflict="keep_last"', "job.unique.on_conflict")
        if spec.HasField("unique") and for_ttl != unique.HasField("ttl") and (for_ttl or not debounced):
            raise InvalidArgument(
                'unique.ttl: goes with the scope "for_ttl", which needs it, or with "debounce"',
                field="job.unique.ttl",
                reason="INVALID_FIELD",
            )

    def _admit(self, spec: job_pb2.JobSpec) -> Record:
        own = job_pb2.JobSpec()
        own.CopyFrom(spec)
        own.id = own.id or uuid7()
        due = self.now + (_span(own, "delay") or timedelta())
        if (moment := time_of(own, "schedule_time")) is not None:
            due = max(moment, self.now)
        ttl = _span(own, "ttl")
        expires = time_of(own, "expire_time") if ttl is None else due + ttl
        if expires is not None and expires <= due:
            field = f"job.{'expire_time' if ttl is None else 'ttl'}"
            raise InvalidArgument(f"{field}: must be after the start", field=field, reason="INVALID_FIELD")
        self._arrived += 1
        state = JobState.SCHEDULED if due > self.now else JobState.READY
        return Record(own, self._arrived, self.now, due, expires, due, state)

    def _keys_of(self, record: Record) -> tuple[Key | None, Key | None]:
        spec = record.spec
        scope = (record.queue, spec.fairness_key)
        idempotency = (*scope, "idempotency", spec.idempotency_key) if spec.idempotency_key else None
        if not spec.HasField("unique"):
            return idempotency, None
        return idempotency, (*scope, "unique", spec.unique.key or repr(record.content()))

    def _holder(self, key: Key) -> Record | None:
        id, until = self._keys.get(key, ("", None))
        known = self.records.get(id)
        if known is None or (until is not None and until <= self.now):
            return None
        if until is None and (
            known.state.terminal or (known.spec.unique.scope == job_pb2.UNIQUE_SCOPE_UNTIL_STARTED and known.delivery)
        ):
            return None
        return known

    def _conflict(self, known: Record, newcomer: Record) -> str:
        wish = newcomer.spec.unique.on_conflict
        if wish == job_pb2.UNIQUE_CONFLICT_REJECT:
            raise _taken("UNIQUE_CONFLICT", known, "its unique key")
        replace = wish == job_pb2.UNIQUE_CONFLICT_REPLACE
        if not (replace or wish == job_pb2.UNIQUE_CONFLICT_DEBOUNCE) or known.delivery or not known.waiting:
            return "KEPT"
        if replace:
            known.spec.payload.CopyFrom(newcomer.spec.payload)
        limit = newcomer.spec.unique.ttl
        most = known.created + span_of(limit) if not replace and newcomer.spec.unique.HasField("ttl") else newcomer.due
        known.due = known.first_due = min(newcomer.due, most)
        known.state = JobState.SCHEDULED if known.due > self.now else JobState.READY
        return "REPLACED"

    def get(self, id: str) -> Record:
        """The record of a job; NotFound when there is none."""
        self.expire()
        record = self.records.get(id)
        if record is None:
            raise NotFound(f"there is no job {id}", reason="JOB_NOT_FOUND")
        return record

    def cancel(self, id: str, reason: str) -> None:
        """Ends a waiting job, asks a running one to stop; FailedPrecondition when it has ended."""
        record = self.get(id)
        if record.state.terminal:
            raise error_of("FAILED_PRECONDITION", f"the job is {record.state.name}", reason="JOB_TERMINAL")
        if record.state is JobState.RUNNING:
            record.cancel = reason
        else:
            self.finish(record, JobState.CANCELLED, failure=_cancelled(reason))

    def retry(self, id: str, reset_attempts: bool) -> None:
        """Makes a job run again now; FailedPrecondition while it runs."""
        record = self.get(id)
        if record.state is JobState.RUNNING:
            raise error_of("FAILED_PRECONDITION", "the job is RUNNING", reason="JOB_RUNNING")
        most = _max_attempts(record)
        record.failures = 0 if reset_attempts else min(record.failures, most - 1) if most > 0 else record.failures
        record.state, record.due, record.finished, record.expires = JobState.READY, self.now, None, None
        record.result = record.failure = None

    # --- the clock ----------------------------------------------------------------------------------------------

    def expire(self) -> None:
        """Ends what did not start in time."""
        for record in self.records.values():
            if record.waiting and not record.delivery and record.expires is not None and record.expires <= self.now:
                failure = common_pb2.Failure(kind=common_pb2.FAILURE_KIND_EXPIRED, message="not started in time")
                self.finish(record, JobState.EXPIRED, failure=failure)

    def next_due(self, types: object, passed: set[str]) -> Record | None:
        """What a worker of these types runs next: what is due by priority and arrival, else what comes due first."""
        self.expire()
        waiting = [r for r in self.records.values() if r.waiting and r.type in types and r.id not in passed]  # type: ignore[operator]
        due = [record for record in waiting if record.due <= self.now]
        if due:
            return min(due, key=lambda r: (not r.front, -r.spec.priority, r.due, r.number))
        return min(waiting, key=lambda r: (r.due, -r.spec.priority, r.number), default=None)

    def fellows(self, first: Record, rule: BatchRule, passed: set[str]) -> list[Record]:
        """Those that are due and run in one call with `first`, itself among them."""
        key = first.spec.fairness_key
        due = [
            record
            for record in self.records.values()
            if record.waiting
            and record.type == first.type
            and record.due <= self.now
            and record.id not in passed
            and record is not first
            and (not rule.by_key or record.spec.fairness_key == key)
        ]
        due.sort(key=lambda r: (not r.front, -r.spec.priority, r.due, r.number))
        return [first, *due][: rule.max_size]

    # --- workers ------------------------------------------------------------------------------------------------

    def lease(self, record: Record) -> pb.JobLease:
        """Hands a job out."""
        spec = record.spec
        record.state, record.started, record.cancel, record.front = JobState.RUNNING, self.now, None, False
        record.delivery += 1
        task = pb.Task(
            id=record.id,
            type=record.type,
            queue=record.queue,
            payload=spec.payload,
            headers=spec.headers,
            priority=spec.priority,
            tags=spec.tags,
            parent_id=spec.parent_id,
            fairness_key=spec.fairness_key,
            workflow_id=record.workflow_id,
            node=record.node,
        )
        lease = pb.JobLease(
            lease_token=f"{record.id}/{record.delivery}",
            task=task,
            attempt=record.failures + 1,
            max_attempts=_max_attempts(record),
            delivery=record.delivery,
            checkpoint=record.checkpoint,
            last_failure=record.failure,
        )
        lease.dependencies.extend(self.graphs.results(record))
        if spec.HasField("timeout"):
            lease.timeout.CopyFrom(spec.timeout)
        return lease

    def settle(self, record: Record, outcome: Outcome) -> None:
        """What an outcome means: the end, or another attempt later."""
        if outcome.HasField("checkpoint"):
            record.checkpoint = outcome.checkpoint
        how = outcome.WhichOneof("result")
        if how == "succeeded":
            self.finish(record, JobState.SUCCEEDED, result=outcome.succeeded.result)
        elif how == "cancelled" or record.cancel is not None:
            self.finish(record, JobState.CANCELLED, failure=_cancelled(record.cancel or ""))
        elif how == "failed":
            self._failed(record, outcome.failed)
        elif how == "snoozed":
            if outcome.snoozed.throttle:
                raise _unknown("Snooze(throttle=...)", "throttle")
            record.state, record.due = JobState.SCHEDULED, self.now + span_of(outcome.snoozed.delay)
        else:
            record.state, record.due, record.front = JobState.READY, self.now, True
            return
        for spec in outcome.enqueue:
            self.enqueue(_child(spec, record.id))

    def _failed(self, record: Record, failed: pb.Failed) -> None:
        record.failures += 1
        record.failure = failed.failure
        policy, action = record.spec.retry, failed.action
        exhausted = JobState.DISCARDED if policy.on_exhausted == common_pb2.EXHAUSTED_ACTION_DISCARD else JobState.DEAD
        listed = any(_matches(pattern, failed.failure.type) for pattern in policy.non_retryable_types)
        most = _max_attempts(record)
        if action == pb.FAILURE_ACTION_DISCARD:
            self.finish(record, JobState.DISCARDED, failure=failed.failure)
        elif (
            action == pb.FAILURE_ACTION_STOP
            or (listed and action != pb.FAILURE_ACTION_RETRY)
            or 0 <= most <= record.failures
        ):
            self.finish(record, exhausted, failure=failed.failure)
        else:
            told = action == pb.FAILURE_ACTION_RETRY and failed.HasField("retry_delay")
            delay = span_of(failed.retry_delay) if told else timedelta(seconds=policy_delay(policy, record.failures))
            record.state, record.due = JobState.RETRYING, self.now + delay

    def finish(
        self,
        record: Record,
        state: JobState,
        *,
        result: common_pb2.Payload | None = None,
        failure: common_pb2.Failure | None = None,
    ) -> None:
        """Ends a job, and lets those see it that wait for it."""
        record.state, record.finished, record.result, record.failure = state, self.now, result, failure
        self.graphs.look()


def unknown_call(name: str) -> JobwireError:
    """For calls that the fake does not answer."""
    return _unknown(f"the call {name}", "")


def _unknown(what: str, field: str) -> JobwireError:
    message = f"the fake does not know {what}: use jobwire.testing.test_server() for this test"
    return error_of("UNIMPLEMENTED", message, reason="FEATURE_DISABLED", field=field)


def _taken(reason: str, known: Record, what: str) -> JobwireError:
    return error_of(
        "ALREADY_EXISTS", f"job {known.id} has {what} already", reason=reason, metadata={"job_id": known.id}
    )


def _cancelled(reason: str) -> common_pb2.Failure:
    message = f"cancelled: {reason}" if reason else "cancelled"
    return common_pb2.Failure(kind=common_pb2.FAILURE_KIND_CANCELLED, message=message)


def _span(spec: job_pb2.JobSpec, name: str) -> timedelta | None:
    return span_of(getattr(spec, name)) if spec.HasField(name) else None


def _max_attempts(record: Record) -> int:
    return record.spec.retry.max_attempts or 20


def _matches(pattern: str, type: str) -> bool:
    return type.startswith(pattern[:-1]) if pattern.endswith("*") else type == pattern


def _child(spec: job_pb2.JobSpec, parent_id: str) -> job_pb2.JobSpec:
    child = job_pb2.JobSpec()
    child.CopyFrom(spec)
    child.parent_id = parent_id
    return child


def answer(record: Record, status: str) -> job_service_pb2.EnqueueResult:
    """What an enqueue call says of a job."""
    result = job_service_pb2.EnqueueResult(job_id=record.id, state=record.job().state)
    result.status = job_service_pb2.EnqueueStatus.Value(f"ENQUEUE_STATUS_{status}")  # type: ignore[assignment]
    return result
