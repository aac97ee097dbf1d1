"""Jobwire: background jobs over one gRPC contract. Producers and workers, sync and asyncio.

from jobwire import App

app = App()                                 # JOBWIRE_URL, or jobwire://127.0.0.1:7420

@app.task("greet")
async def greet(name: str) -> str:
    return f"hello {name}"

greet.run("Ada")                            # in the producer: "hello Ada"
app.worker().run()                          # in the worker
"""

from ._app import App
from ._batch_context import BatchContext, BatchJob
from ._client import Client
from ._codec import DecodeError
from ._context import Context, current_context
from ._errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    Discard,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    JobCancelled,
    JobControl,
    JobExpired,
    JobFailed,
    JobNotSucceeded,
    JobwireError,
    NonRetryable,
    NotFound,
    PermissionDenied,
    Release,
    ResourceExhausted,
    RetryAfter,
    Snooze,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from ._job import EnqueueItem, Events, Job
from ._records import (
    Backfill,
    BulkResult,
    JobAttempt,
    JobRecord,
    Percentiles,
    QueueOptions,
    QueueStats,
    QueueStatus,
    RateLimit,
    ScheduleOptions,
    SchedulePreview,
    SchedulePut,
    ScheduleStatus,
    WorkerStatus,
)
from ._tasks import Task, TaskCall
from ._types import (
    DependencyResult,
    EnqueueResult,
    Explanation,
    Failure,
    JobEvent,
    JobOptions,
    JobState,
    JobStatus,
    LogEvent,
    Payload,
    Progress,
    ProgressEvent,
    Queue,
    Retry,
    StateEvent,
    Unique,
    WaitReason,
)
from ._version import __version__
from ._worker import Worker

__all__ = [
    "Aborted",
    "AlreadyExists",
    "App",
    "Backfill",
    "BatchContext",
    "BatchJob",
    "BulkResult",
    "Cancelled",
    "Client",
    "Context",
    "DeadlineExceeded",
    "DecodeError",
    "DependencyResult",
    "Discard",
    "EnqueueItem",
    "EnqueueResult",
    "Events",
    "Explanation",
    "FailedPrecondition",
    "Failure",
    "Internal",
    "InvalidArgument",
    "Job",
    "JobAttempt",
    "JobCancelled",
    "JobControl",
    "JobEvent",
    "JobExpired",
    "JobFailed",
    "JobNotSucceeded",
    "JobOptions",
    "JobRecord",
    "JobState",
    "JobStatus",
    "JobwireError",
    "LogEvent",
    "NonRetryable",
    "NotFound",
    "Payload",
    "Percentiles",
    "PermissionDenied",
    "Progress",
    "ProgressEvent",
    "Queue",
    "QueueOptions",
    "QueueStats",
    "QueueStatus",
    "RateLimit",
    "Release",
    "ResourceExhausted",
    "Retry",
    "RetryAfter",
    "ScheduleOptions",
    "SchedulePreview",
    "SchedulePut",
    "ScheduleStatus",
    "Snooze",
    "StateEvent",
    "Task",
    "TaskCall",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unique",
    "WaitReason",
    "Worker",
    "WorkerStatus",
    "__version__",
    "current_context",
]
