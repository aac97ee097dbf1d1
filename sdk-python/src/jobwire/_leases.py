"""The nouns of the session machine: configuration, a job on loan, a report to make, a command for its driver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ._errors import JobwireError
from .v1 import common_pb2, job_pb2, worker_service_pb2

Outcome = worker_service_pb2.Outcome
Frame = worker_service_pb2.StreamJobsRequest

# Why a running handler should stop.
REQUESTED, TIMEOUT, WORKFLOW, LEASE_LOST, SHUTDOWN = "requested", "timeout", "workflow", "lease_lost", "shutdown"


@dataclass(frozen=True)
class BatchRule:
    """Which jobs of a type run in one call. `linger` in seconds, from the arrival of the first of them."""

    max_size: int
    linger: float
    by_key: bool = False  # only jobs of one fairness key


@dataclass
class SessionConfig:
    """What a worker announces, and its own limits. Durations in seconds."""

    session_id: str
    worker_id: str = ""
    types: list[str] = field(default_factory=list)
    subscriptions: list[worker_service_pb2.Subscription] = field(default_factory=list)
    concurrency: int = 10
    pool_types: frozenset[str] = frozenset()  # types whose handlers run in child processes
    pool_size: int = 0  # how many of those run at once, within `concurrency`
    batches: Mapping[str, BatchRule] = field(default_factory=dict)  # by type, of those that run in batches
    prefetch: int | None = None  # leases wanted beyond `concurrency`; None = adapts to the handlers' mean duration
    lease_ttl: float | None = None  # wish; None = the server's default
    info: worker_service_pb2.WorkerInfo = field(default_factory=worker_service_pb2.WorkerInfo)
    grace: float = 25.0  # of a drain, when the directive names none
    vitals: Callable[[], tuple[int, float]] = lambda: (0, 0.0)  # resident bytes, CPU percent

    def wanted_prefetch(self, mean_run: float | None) -> int:
        """Leases beyond the running ones: all for handlers under a second, none above ten; a batch has to find room."""
        if self.prefetch is not None:
            return self.prefetch
        largest = max((rule.max_size for rule in self.batches.values()), default=0)
        most, least = max(min(self.concurrency, 16), 2 * largest - self.concurrency), max(largest - self.concurrency, 0)
        mean = mean_run or 0.0
        return most if mean <= 1.0 else max(least, int(most * (10.0 - mean) / 9.0))


class Lease:
    """A job on loan. Written by the session's thread; `cancel` and `trusted_until` may be read from anywhere."""

    __slots__ = (
        "arrived",
        "cancel",
        "cancel_message",
        "checkpoint",
        "checkpoint_dirty",
        "deadline",
        "job",
        "lost",
        "number",
        "pooled",
        "progress",
        "reported_at",
        "started",
        "together",
        "token",
        "trusted_until",
    )

    def __init__(self, job: worker_service_pb2.JobLease, now: float, delivery_ttl: float) -> None:
        self.token: str = job.lease_token
        self.job = job
        self.arrived = now
        self.trusted_until = now + delivery_ttl  # until then nobody else has the job
        self.started: float | None = None
        self.deadline: float | None = None  # started + timeout
        self.cancel: str | None = None  # why its handler was asked to stop
        self.cancel_message = ""
        self.number = 0  # in order of arrival
        self.pooled = False  # runs in a child process
        self.together: set[Lease] | None = None  # those of its batch that run, itself among them; None = it is alone
        self.lost = False  # still named while its handler runs, but its outcome will be dropped
        self.progress: job_pb2.Progress | None = None  # waiting to be sent
        self.reported_at = float("-inf")  # when progress or a checkpoint was last sent
        self.checkpoint: common_pb2.Payload | None = None
        self.checkpoint_dirty = False


class Report:
    """An outcome on its way: waiting to be sent, or sent as part of frame `seq` and not acknowledged."""

    __slots__ = ("lease", "outcome", "rearmed", "seq", "size", "token")

    def __init__(self, lease: Lease, outcome: Outcome, rearmed: bool) -> None:
        self.token = lease.token
        self.lease = lease
        self.outcome = outcome
        self.size = outcome.ByteSize()
        self.seq = 0
        self.rearmed = rearmed  # replaces one that the server refused as INVALID or UNSUPPORTED


class Command:
    """Base of what the machine asks its driver to do."""


@dataclass(frozen=True)
class Connect(Command):
    """Open a new stream, on a new channel, with this first frame."""

    hello: Frame


@dataclass(frozen=True)
class Disconnect(Command):
    """Abandon the stream; not a half-close, which would give the leases back."""

    why: str


@dataclass(frozen=True)
class HalfClose(Command):
    """Everything is acknowledged: end the stream cleanly."""


@dataclass(frozen=True)
class Welcomed(Command):
    """The server answered Hello; jobs flow."""

    welcome: worker_service_pb2.Welcome


@dataclass(frozen=True)
class Start(Command):
    """Run the handler of this lease."""

    lease: Lease


@dataclass(frozen=True)
class StartBatch(Command):
    """Run the handler of these leases, in one call."""

    leases: list[Lease]


@dataclass(frozen=True)
class Cancel(Command):
    """Ask the running handler to stop; in a batch, mark the job, and stop the handler once all are marked."""

    lease: Lease
    reason: str


@dataclass(frozen=True)
class Warn(Command):
    """Tell the log."""

    message: str


@dataclass(frozen=True)
class Exit(Command):
    """The machine has ended; with an error when the server refused this worker for good."""

    error: JobwireError | None = None


def failed(
    kind: common_pb2.FailureKind,
    type: str,
    message: str,
    *,
    action: int = worker_service_pb2.FAILURE_ACTION_UNSPECIFIED,
) -> Outcome:
    """A Failed outcome without a stack trace."""
    failure = common_pb2.Failure(kind=kind, type=type, message=message)
    return Outcome(failed=worker_service_pb2.Failed(failure=failure, action=action))  # type: ignore[arg-type]


def unprocessable(message: str) -> Outcome:
    """The payload could not be read, or the result not be delivered: no retry helps."""
    return failed(
        common_pb2.FAILURE_KIND_UNPROCESSABLE,
        "jobwire.Unprocessable",
        message,
        action=worker_service_pb2.FAILURE_ACTION_STOP,
    )


def released(reason: str) -> Outcome:
    """The job goes back to the front of its queue; no attempt is used up."""
    return Outcome(released=worker_service_pb2.Released(reason=reason))


def cancelled(reason: str) -> Outcome:
    """The handler stopped because it was told to."""
    return Outcome(cancelled=worker_service_pb2.Cancelled(reason=reason))
