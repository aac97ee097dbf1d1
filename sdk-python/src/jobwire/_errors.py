"""Errors the SDK raises, and what a handler raises to say how its attempt ends.

    JobwireError                      code, reason, field, retryable, retry_delay, metadata, cause
    ├── InvalidArgument               the request breaks a rule; `field` names it. Also raised before anything is sent
    ├── NotFound                      no such job
    ├── AlreadyExists                 `job_id` of the job that is in the way
    ├── FailedPrecondition            the job is in a state that forbids it
    ├── Aborted                       somebody else changed it first
    ├── ResourceExhausted             a queue, the store or a rate limit is full
    ├── Unavailable                   no server could be reached, or it is shutting down
    ├── DeadlineExceeded              (also a TimeoutError) the caller's own time was up
    ├── Unauthenticated               the token is missing, wrong or expired
    ├── PermissionDenied              the token's scopes or queues do not allow it
    ├── Unimplemented                 the server is older than this call
    ├── Internal                      a fault of the server; metadata may hold a request id
    ├── JobNotSucceeded               from `Job.result()`: the job ended, but not well
    │   ├── JobFailed                 DEAD or DISCARDED; `failure` says why
    │   ├── JobCancelled
    │   └── JobExpired
    └── WorkflowFailed                from `Workflow.result()`: its `failures` by node

    JobControl                        raised by handlers, never by the SDK
    ├── RetryAfter(delay)             failed; run again not before `delay`
    ├── NonRetryable(message)         failed; hopeless, do not retry
    ├── Discard(message)              failed; hopeless, and nobody will look: not kept for repair
    ├── Snooze(delay, throttle=)      not now; uses up no attempt
    └── Release(reason)               give the job back untouched; uses up no attempt

Any other exception out of a handler is a failure that follows the job's retry policy.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ._records import WorkflowStatus
    from ._types import Duration, Failure


class JobwireError(Exception):
    """Base of every error the SDK raises.

    code: gRPC status name such as `"NOT_FOUND"`.
    reason: stable word from the server's catalogue, such as `"JOB_NOT_FOUND"`; empty when the server gave none.
    field: path of the offending request field, such as `"retry.max_attempts"`; empty when there is none.
    retryable: the same call may succeed later. The SDK has already repeated what is safe to repeat.
    retry_delay: seconds to wait at least before trying again; None when the server named none.
    metadata: the dynamic parts of the message.
    cause: the exception underneath, when there is one (the same as `__cause__`).
    """

    code: str = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        reason: str = "",
        field: str = "",
        retryable: bool = False,
        retry_delay: float | None = None,
        metadata: Mapping[str, str] | None = None,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.reason = reason
        self.field = field
        self.retryable = retryable
        self.retry_delay = retry_delay
        self.metadata = dict(metadata or {})
        self.cause = self.__cause__ = cause

    def __str__(self) -> str:
        where = f" (field {self.field})" if self.field and self.field not in self.message else ""
        return f"{self.message}{where} [{self.reason or self.code}]"

    def _twin(self) -> JobwireError:
        """The same error to raise elsewhere: raised in two threads at once, one object would mix its tracebacks."""
        twin = copy.copy(self)
        twin.__cause__ = self.__cause__
        return twin


class InvalidArgument(JobwireError, ValueError):
    """The request breaks a rule or a limit; `field` names the culprit."""

    code = "INVALID_ARGUMENT"


class NotFound(JobwireError, LookupError):
    """There is no such job, or its record is gone already."""

    code = "NOT_FOUND"


class AlreadyExists(JobwireError):
    """The id, idempotency key or uniqueness key is taken by another job: `job_id`."""

    code = "ALREADY_EXISTS"

    @property
    def job_id(self) -> str:
        """Id of the job that is in the way; empty when the server did not say."""
        return self.metadata.get("job_id", "")


class FailedPrecondition(JobwireError):
    """The job or the server is in a state that forbids the call."""

    code = "FAILED_PRECONDITION"


class Aborted(JobwireError):
    """Somebody else changed the record first, or took the session over."""

    code = "ABORTED"


class ResourceExhausted(JobwireError):
    """A queue, the store, a rate limit or the message size is exhausted."""

    code = "RESOURCE_EXHAUSTED"


class Unavailable(JobwireError):
    """No server could be reached in time, or it could not reach its store."""

    code = "UNAVAILABLE"


class DeadlineExceeded(JobwireError, TimeoutError):
    """The caller's time was up first. The job, if any, goes on."""

    code = "DEADLINE_EXCEEDED"


class Unauthenticated(JobwireError):
    """The token is missing, wrong or expired."""

    code = "UNAUTHENTICATED"


class PermissionDenied(JobwireError):
    """The token lacks the scope, or may not touch this queue."""

    code = "PERMISSION_DENIED"


class Unimplemented(JobwireError):
    """The server does not know this call, or has the feature switched off."""

    code = "UNIMPLEMENTED"


class Internal(JobwireError):
    """A fault inside the server."""

    code = "INTERNAL"


class JobNotSucceeded(JobwireError):
    """The awaited job ended, but not with success. `job_id`; `failure` is None when the server kept none."""

    def __init__(self, message: str, *, job_id: str = "", failure: Failure | None = None) -> None:
        super().__init__(message, reason=failure.type if failure else "")
        self.job_id = job_id
        self.failure = failure

    def __str__(self) -> str:
        return self.message


class JobFailed(JobNotSucceeded):
    """The awaited job is DEAD or DISCARDED; `failure` holds the remote type, message and stack trace as text."""


class JobCancelled(JobNotSucceeded):
    """The awaited job was cancelled."""


class JobExpired(JobNotSucceeded):
    """The awaited job did not start before its `ttl`, or not finish within its `total_timeout`."""


class WorkflowFailed(JobwireError):
    """The awaited workflow ended, but not with success. `status`; `failures` of its nodes, by their names."""

    code = "FAILED_PRECONDITION"

    def __init__(self, message: str, *, status: WorkflowStatus, failures: Mapping[str, Failure]) -> None:
        super().__init__(message)
        self.status = status
        self.failures = dict(failures)

    def __str__(self) -> str:
        return self.message


class JobControl(Exception):
    """Base of what a handler raises to say how its attempt ends."""


class RetryAfter(JobControl):
    """The attempt failed; run again `delay` from now, never earlier, whatever the retry policy computes.

    delay: `"30s"`, a timedelta, or seconds. Still bounded by the job's max_attempts.
    """

    def __init__(self, delay: Duration, message: str = "") -> None:
        super().__init__(message or f"retry after {delay}")
        self.delay = delay


class NonRetryable(JobControl):
    """The attempt failed and another one cannot help: the job goes where its `on_exhausted` says."""


class Discard(JobControl):
    """The attempt failed, another one cannot help, and nobody will look: the job ends as DISCARDED."""


class Snooze(JobControl):
    """Not now: run again `delay` from now. Uses up no attempt.

    delay: `"60s"`, a timedelta, or seconds.
    throttle: hold back siblings for the same time: `"key"` those of the same fairness_key, `"queue"` the whole queue.
    reason: for people.
    """

    def __init__(self, delay: Duration, *, throttle: Literal["key", "queue"] | None = None, reason: str = "") -> None:
        super().__init__(reason or f"snoozed for {delay}")
        if throttle not in (None, "key", "queue"):
            raise InvalidArgument(f'throttle must be "key", "queue" or None, not {throttle!r}', field="throttle")
        self.delay = delay
        self.throttle = throttle
        self.reason = reason


class Release(JobControl):
    """Give the job back untouched, to the front of its queue. Uses up no attempt."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "released")
        self.reason = reason


class Cancelled(asyncio.CancelledError):
    """Raised by `Context.raise_if_cancelled()`. Like every CancelledError no `except Exception` swallows it."""


_BY_CODE: dict[str, type[JobwireError]] = {
    cls.code: cls
    for cls in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Aborted,
        ResourceExhausted,
        Unavailable,
        DeadlineExceeded,
        Unauthenticated,
        PermissionDenied,
        Unimplemented,
        Internal,
    )
}

# google.rpc.Code by number.
CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)


def code_name(number: int) -> str:
    """Name of a google.rpc.Code; unknown numbers are UNKNOWN."""
    return CODES[number] if 0 <= number < len(CODES) else "UNKNOWN"


def error_of(
    code: str,
    message: str,
    *,
    reason: str = "",
    field: str = "",
    retry_delay: float | None = None,
    metadata: Mapping[str, str] | None = None,
    cause: BaseException | None = None,
) -> JobwireError:
    """The error class for a status or an ItemError. UNAVAILABLE is retryable, RESOURCE_EXHAUSTED if told when."""
    retryable = code == "UNAVAILABLE" or (code == "RESOURCE_EXHAUSTED" and retry_delay is not None)
    return _BY_CODE.get(code, JobwireError)(
        message or reason or code,
        code=code,
        reason=reason,
        field=field,
        retryable=retryable,
        retry_delay=retry_delay,
        metadata=metadata,
        cause=cause,
    )
