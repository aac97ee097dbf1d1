from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from jobwire.v1 import common_pb2 as _common_pb2
from jobwire.v1 import job_pb2 as _job_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FailureAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILURE_ACTION_UNSPECIFIED: _ClassVar[FailureAction]
    FAILURE_ACTION_RETRY: _ClassVar[FailureAction]
    FAILURE_ACTION_STOP: _ClassVar[FailureAction]
    FAILURE_ACTION_DISCARD: _ClassVar[FailureAction]

class RejectionReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REJECTION_REASON_UNSPECIFIED: _ClassVar[RejectionReason]
    REJECTION_REASON_SUPERSEDED: _ClassVar[RejectionReason]
    REJECTION_REASON_FINISHED: _ClassVar[RejectionReason]
    REJECTION_REASON_UNKNOWN_LEASE: _ClassVar[RejectionReason]
    REJECTION_REASON_INVALID: _ClassVar[RejectionReason]
    REJECTION_REASON_UNSUPPORTED: _ClassVar[RejectionReason]

class CancelReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CANCEL_REASON_UNSPECIFIED: _ClassVar[CancelReason]
    CANCEL_REASON_REQUESTED: _ClassVar[CancelReason]
    CANCEL_REASON_TIMEOUT: _ClassVar[CancelReason]
    CANCEL_REASON_WORKFLOW: _ClassVar[CancelReason]

class WorkerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKER_STATE_UNSPECIFIED: _ClassVar[WorkerState]
    WORKER_STATE_ACTIVE: _ClassVar[WorkerState]
    WORKER_STATE_QUIET: _ClassVar[WorkerState]
    WORKER_STATE_DRAINING: _ClassVar[WorkerState]

class DirectiveKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTIVE_KIND_UNSPECIFIED: _ClassVar[DirectiveKind]
    DIRECTIVE_KIND_RUN: _ClassVar[DirectiveKind]
    DIRECTIVE_KIND_QUIET: _ClassVar[DirectiveKind]
    DIRECTIVE_KIND_TERMINATE: _ClassVar[DirectiveKind]

class GoAwayReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GO_AWAY_REASON_UNSPECIFIED: _ClassVar[GoAwayReason]
    GO_AWAY_REASON_SHUTDOWN: _ClassVar[GoAwayReason]
    GO_AWAY_REASON_REBALANCE: _ClassVar[GoAwayReason]
    GO_AWAY_REASON_CREDENTIALS: _ClassVar[GoAwayReason]
    GO_AWAY_REASON_UNHEALTHY: _ClassVar[GoAwayReason]
FAILURE_ACTION_UNSPECIFIED: FailureAction
FAILURE_ACTION_RETRY: FailureAction
FAILURE_ACTION_STOP: FailureAction
FAILURE_ACTION_DISCARD: FailureAction
REJECTION_REASON_UNSPECIFIED: RejectionReason
REJECTION_REASON_SUPERSEDED: RejectionReason
REJECTION_REASON_FINISHED: RejectionReason
REJECTION_REASON_UNKNOWN_LEASE: RejectionReason
REJECTION_REASON_INVALID: RejectionReason
REJECTION_REASON_UNSUPPORTED: RejectionReason
CANCEL_REASON_UNSPECIFIED: CancelReason
CANCEL_REASON_REQUESTED: CancelReason
CANCEL_REASON_TIMEOUT: CancelReason
CANCEL_REASON_WORKFLOW: CancelReason
WORKER_STATE_UNSPECIFIED: WorkerState
WORKER_STATE_ACTIVE: WorkerState
WORKER_STATE_QUIET: WorkerState
WORKER_STATE_DRAINING: WorkerState
DIRECTIVE_KIND_UNSPECIFIED: DirectiveKind
DIRECTIVE_KIND_RUN: DirectiveKind
DIRECTIVE_KIND_QUIET: DirectiveKind
DIRECTIVE_KIND_TERMINATE: DirectiveKind
GO_AWAY_REASON_UNSPECIFIED: GoAwayReason
GO_AWAY_REASON_SHUTDOWN: GoAwayReason
GO_AWAY_REASON_REBALANCE: GoAwayReason
GO_AWAY_REASON_CREDENTIALS: GoAwayReason
GO_AWAY_REASON_UNHEALTHY: GoAwayReason

class StreamJobsRequest(_message.Message):
    __slots__ = ("seq", "outcomes", "started", "received_seq", "heartbeat", "progress", "logs", "capacity", "state", "hello")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_SEQ_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    seq: int
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    started: _containers.RepeatedScalarFieldContainer[str]
    received_seq: int
    heartbeat: Heartbeat
    progress: _containers.RepeatedCompositeFieldContainer[ProgressReport]
    logs: _containers.RepeatedCompositeFieldContainer[LogReport]
    capacity: Capacity
    state: WorkerState
    hello: Hello
    def __init__(self, seq: _Optional[int] = ..., outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., started: _Optional[_Iterable[str]] = ..., received_seq: _Optional[int] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., progress: _Optional[_Iterable[_Union[ProgressReport, _Mapping]]] = ..., logs: _Optional[_Iterable[_Union[LogReport, _Mapping]]] = ..., capacity: _Optional[_Union[Capacity, _Mapping]] = ..., state: _Optional[_Union[WorkerState, str]] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ...) -> None: ...

class StreamJobsResponse(_message.Message):
    __slots__ = ("seq", "jobs", "acked_seq", "rejections", "cancels", "recalls", "heartbeat_ack", "directive", "go_away", "welcome")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    ACKED_SEQ_FIELD_NUMBER: _ClassVar[int]
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    CANCELS_FIELD_NUMBER: _ClassVar[int]
    RECALLS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_ACK_FIELD_NUMBER: _ClassVar[int]
    DIRECTIVE_FIELD_NUMBER: _ClassVar[int]
    GO_AWAY_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    seq: int
    jobs: _containers.RepeatedCompositeFieldContainer[JobLease]
    acked_seq: int
    rejections: _containers.RepeatedCompositeFieldContainer[OutcomeRejection]
    cancels: _containers.RepeatedCompositeFieldContainer[CancelOrder]
    recalls: _containers.RepeatedScalarFieldContainer[str]
    heartbeat_ack: HeartbeatAck
    directive: Directive
    go_away: GoAway
    welcome: Welcome
    def __init__(self, seq: _Optional[int] = ..., jobs: _Optional[_Iterable[_Union[JobLease, _Mapping]]] = ..., acked_seq: _Optional[int] = ..., rejections: _Optional[_Iterable[_Union[OutcomeRejection, _Mapping]]] = ..., cancels: _Optional[_Iterable[_Union[CancelOrder, _Mapping]]] = ..., recalls: _Optional[_Iterable[str]] = ..., heartbeat_ack: _Optional[_Union[HeartbeatAck, _Mapping]] = ..., directive: _Optional[_Union[Directive, _Mapping]] = ..., go_away: _Optional[_Union[GoAway, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("session_id", "worker_id", "held", "types", "subscriptions", "capacity", "info", "revision", "features", "lease_ttl")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    LEASE_TTL_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    worker_id: str
    held: _containers.RepeatedCompositeFieldContainer[HeldLease]
    types: _containers.RepeatedScalarFieldContainer[str]
    subscriptions: _containers.RepeatedCompositeFieldContainer[Subscription]
    capacity: Capacity
    info: WorkerInfo
    revision: int
    features: _containers.RepeatedScalarFieldContainer[str]
    lease_ttl: _duration_pb2.Duration
    def __init__(self, session_id: _Optional[str] = ..., worker_id: _Optional[str] = ..., held: _Optional[_Iterable[_Union[HeldLease, _Mapping]]] = ..., types: _Optional[_Iterable[str]] = ..., subscriptions: _Optional[_Iterable[_Union[Subscription, _Mapping]]] = ..., capacity: _Optional[_Union[Capacity, _Mapping]] = ..., info: _Optional[_Union[WorkerInfo, _Mapping]] = ..., revision: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., lease_ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class HeldLease(_message.Message):
    __slots__ = ("lease_token", "running_for")
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FOR_FIELD_NUMBER: _ClassVar[int]
    lease_token: str
    running_for: _duration_pb2.Duration
    def __init__(self, lease_token: _Optional[str] = ..., running_for: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Subscription(_message.Message):
    __slots__ = ("queue", "weight", "strict", "max_slots")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    MAX_SLOTS_FIELD_NUMBER: _ClassVar[int]
    queue: str
    weight: int
    strict: bool
    max_slots: int
    def __init__(self, queue: _Optional[str] = ..., weight: _Optional[int] = ..., strict: bool = ..., max_slots: _Optional[int] = ...) -> None: ...

class Capacity(_message.Message):
    __slots__ = ("slots", "max_bytes", "concurrency")
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    slots: int
    max_bytes: int
    concurrency: int
    def __init__(self, slots: _Optional[int] = ..., max_bytes: _Optional[int] = ..., concurrency: _Optional[int] = ...) -> None: ...

class WorkerInfo(_message.Message):
    __slots__ = ("hostname", "pid", "sdk", "sdk_version", "runtime", "app_version", "labels", "start_time")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    SDK_FIELD_NUMBER: _ClassVar[int]
    SDK_VERSION_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    APP_VERSION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    hostname: str
    pid: int
    sdk: str
    sdk_version: str
    runtime: str
    app_version: str
    labels: _containers.ScalarMap[str, str]
    start_time: _timestamp_pb2.Timestamp
    def __init__(self, hostname: _Optional[str] = ..., pid: _Optional[int] = ..., sdk: _Optional[str] = ..., sdk_version: _Optional[str] = ..., runtime: _Optional[str] = ..., app_version: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("lost", "settled", "cancels", "directive", "slots", "lease_ttl", "delivery_ttl", "heartbeat_interval", "limits", "revision", "features", "server_id", "server_version", "server_time")
    LOST_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    CANCELS_FIELD_NUMBER: _ClassVar[int]
    DIRECTIVE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    LEASE_TTL_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_TTL_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_FIELD_NUMBER: _ClassVar[int]
    lost: _containers.RepeatedScalarFieldContainer[str]
    settled: _containers.RepeatedScalarFieldContainer[str]
    cancels: _containers.RepeatedCompositeFieldContainer[CancelOrder]
    directive: Directive
    slots: int
    lease_ttl: _duration_pb2.Duration
    delivery_ttl: _duration_pb2.Duration
    heartbeat_interval: _duration_pb2.Duration
    limits: _common_pb2.Limits
    revision: int
    features: _containers.RepeatedScalarFieldContainer[str]
    server_id: str
    server_version: str
    server_time: _timestamp_pb2.Timestamp
    def __init__(self, lost: _Optional[_Iterable[str]] = ..., settled: _Optional[_Iterable[str]] = ..., cancels: _Optional[_Iterable[_Union[CancelOrder, _Mapping]]] = ..., directive: _Optional[_Union[Directive, _Mapping]] = ..., slots: _Optional[int] = ..., lease_ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., delivery_ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., heartbeat_interval: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., limits: _Optional[_Union[_common_pb2.Limits, _Mapping]] = ..., revision: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., server_id: _Optional[str] = ..., server_version: _Optional[str] = ..., server_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class JobLease(_message.Message):
    __slots__ = ("lease_token", "task", "attempt", "max_attempts", "delivery", "timeout", "heartbeat_timeout", "checkpoint", "dependencies", "dependencies_truncated", "last_failure", "wait_duration", "crashes")
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    DEPENDENCIES_FIELD_NUMBER: _ClassVar[int]
    DEPENDENCIES_TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    LAST_FAILURE_FIELD_NUMBER: _ClassVar[int]
    WAIT_DURATION_FIELD_NUMBER: _ClassVar[int]
    CRASHES_FIELD_NUMBER: _ClassVar[int]
    lease_token: str
    task: Task
    attempt: int
    max_attempts: int
    delivery: int
    timeout: _duration_pb2.Duration
    heartbeat_timeout: _duration_pb2.Duration
    checkpoint: _common_pb2.Payload
    dependencies: _containers.RepeatedCompositeFieldContainer[DependencyResult]
    dependencies_truncated: bool
    last_failure: _common_pb2.Failure
    wait_duration: _duration_pb2.Duration
    crashes: int
    def __init__(self, lease_token: _Optional[str] = ..., task: _Optional[_Union[Task, _Mapping]] = ..., attempt: _Optional[int] = ..., max_attempts: _Optional[int] = ..., delivery: _Optional[int] = ..., timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., heartbeat_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., checkpoint: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., dependencies: _Optional[_Iterable[_Union[DependencyResult, _Mapping]]] = ..., dependencies_truncated: bool = ..., last_failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ..., wait_duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., crashes: _Optional[int] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("id", "type", "payload", "headers", "queue", "priority", "create_time", "tags", "workflow_id", "node", "parent_id", "schedule_id", "fire_time", "fairness_key", "depends_on")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_ID_FIELD_NUMBER: _ClassVar[int]
    FIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    FAIRNESS_KEY_FIELD_NUMBER: _ClassVar[int]
    DEPENDS_ON_FIELD_NUMBER: _ClassVar[int]
    id: str
    type: str
    payload: _common_pb2.Payload
    headers: _containers.ScalarMap[str, str]
    queue: str
    priority: int
    create_time: _timestamp_pb2.Timestamp
    tags: _containers.RepeatedScalarFieldContainer[str]
    workflow_id: str
    node: str
    parent_id: str
    schedule_id: str
    fire_time: _timestamp_pb2.Timestamp
    fairness_key: str
    depends_on: _containers.RepeatedCompositeFieldContainer[_job_pb2.Dependency]
    def __init__(self, id: _Optional[str] = ..., type: _Optional[str] = ..., payload: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., headers: _Optional[_Mapping[str, str]] = ..., queue: _Optional[str] = ..., priority: _Optional[int] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., tags: _Optional[_Iterable[str]] = ..., workflow_id: _Optional[str] = ..., node: _Optional[str] = ..., parent_id: _Optional[str] = ..., schedule_id: _Optional[str] = ..., fire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., fairness_key: _Optional[str] = ..., depends_on: _Optional[_Iterable[_Union[_job_pb2.Dependency, _Mapping]]] = ...) -> None: ...

class DependencyResult(_message.Message):
    __slots__ = ("alias", "job_id", "state", "result", "failure")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    alias: str
    job_id: str
    state: _job_pb2.JobState
    result: _common_pb2.Payload
    failure: _common_pb2.Failure
    def __init__(self, alias: _Optional[str] = ..., job_id: _Optional[str] = ..., state: _Optional[_Union[_job_pb2.JobState, str]] = ..., result: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("lease_token", "succeeded", "failed", "snoozed", "cancelled", "released", "run_duration", "checkpoint", "enqueue")
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    SNOOZED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    RUN_DURATION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    ENQUEUE_FIELD_NUMBER: _ClassVar[int]
    lease_token: str
    succeeded: Succeeded
    failed: Failed
    snoozed: Snoozed
    cancelled: Cancelled
    released: Released
    run_duration: _duration_pb2.Duration
    checkpoint: _common_pb2.Payload
    enqueue: _containers.RepeatedCompositeFieldContainer[_job_pb2.JobSpec]
    def __init__(self, lease_token: _Optional[str] = ..., succeeded: _Optional[_Union[Succeeded, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., snoozed: _Optional[_Union[Snoozed, _Mapping]] = ..., cancelled: _Optional[_Union[Cancelled, _Mapping]] = ..., released: _Optional[_Union[Released, _Mapping]] = ..., run_duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., checkpoint: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., enqueue: _Optional[_Iterable[_Union[_job_pb2.JobSpec, _Mapping]]] = ...) -> None: ...

class Succeeded(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _common_pb2.Payload
    def __init__(self, result: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("failure", "action", "retry_delay")
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RETRY_DELAY_FIELD_NUMBER: _ClassVar[int]
    failure: _common_pb2.Failure
    action: FailureAction
    retry_delay: _duration_pb2.Duration
    def __init__(self, failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ..., action: _Optional[_Union[FailureAction, str]] = ..., retry_delay: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Snoozed(_message.Message):
    __slots__ = ("delay", "reason", "throttle")
    DELAY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    THROTTLE_FIELD_NUMBER: _ClassVar[int]
    delay: _duration_pb2.Duration
    reason: str
    throttle: _job_pb2.ThrottleScope
    def __init__(self, delay: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., reason: _Optional[str] = ..., throttle: _Optional[_Union[_job_pb2.ThrottleScope, str]] = ...) -> None: ...

class Cancelled(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Released(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class OutcomeRejection(_message.Message):
    __slots__ = ("lease_token", "reason", "message")
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    lease_token: str
    reason: RejectionReason
    message: str
    def __init__(self, lease_token: _Optional[str] = ..., reason: _Optional[_Union[RejectionReason, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("held", "running", "rss_bytes", "cpu_percent")
    HELD_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPU_PERCENT_FIELD_NUMBER: _ClassVar[int]
    held: _containers.RepeatedScalarFieldContainer[str]
    running: int
    rss_bytes: int
    cpu_percent: float
    def __init__(self, held: _Optional[_Iterable[str]] = ..., running: _Optional[int] = ..., rss_bytes: _Optional[int] = ..., cpu_percent: _Optional[float] = ...) -> None: ...

class HeartbeatAck(_message.Message):
    __slots__ = ("heartbeat_seq", "lost", "server_time")
    HEARTBEAT_SEQ_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_FIELD_NUMBER: _ClassVar[int]
    heartbeat_seq: int
    lost: _containers.RepeatedScalarFieldContainer[str]
    server_time: _timestamp_pb2.Timestamp
    def __init__(self, heartbeat_seq: _Optional[int] = ..., lost: _Optional[_Iterable[str]] = ..., server_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CancelOrder(_message.Message):
    __slots__ = ("lease_token", "reason", "message", "grace")
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    lease_token: str
    reason: CancelReason
    message: str
    grace: _duration_pb2.Duration
    def __init__(self, lease_token: _Optional[str] = ..., reason: _Optional[_Union[CancelReason, str]] = ..., message: _Optional[str] = ..., grace: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Directive(_message.Message):
    __slots__ = ("kind", "grace", "reason")
    KIND_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    kind: DirectiveKind
    grace: _duration_pb2.Duration
    reason: str
    def __init__(self, kind: _Optional[_Union[DirectiveKind, str]] = ..., grace: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class GoAway(_message.Message):
    __slots__ = ("reason", "reconnect_delay", "grace", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    RECONNECT_DELAY_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: GoAwayReason
    reconnect_delay: _duration_pb2.Duration
    grace: _duration_pb2.Duration
    message: str
    def __init__(self, reason: _Optional[_Union[GoAwayReason, str]] = ..., reconnect_delay: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., grace: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., message: _Optional[str] = ...) -> None: ...

class ProgressReport(_message.Message):
    __slots__ = ("lease_token", "progress", "checkpoint")
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    lease_token: str
    progress: _job_pb2.Progress
    checkpoint: _common_pb2.Payload
    def __init__(self, lease_token: _Optional[str] = ..., progress: _Optional[_Union[_job_pb2.Progress, _Mapping]] = ..., checkpoint: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ...) -> None: ...

class LogReport(_message.Message):
    __slots__ = ("lease_token", "lines")
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    lease_token: str
    lines: _containers.RepeatedCompositeFieldContainer[_job_pb2.LogLine]
    def __init__(self, lease_token: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[_job_pb2.LogLine, _Mapping]]] = ...) -> None: ...

class LeaseJobsRequest(_message.Message):
    __slots__ = ("types", "subscriptions", "max_jobs", "wait", "lease_ttl", "payload_format", "worker_id")
    TYPES_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_JOBS_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    LEASE_TTL_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FORMAT_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    types: _containers.RepeatedScalarFieldContainer[str]
    subscriptions: _containers.RepeatedCompositeFieldContainer[Subscription]
    max_jobs: int
    wait: _duration_pb2.Duration
    lease_ttl: _duration_pb2.Duration
    payload_format: _common_pb2.PayloadFormat
    worker_id: str
    def __init__(self, types: _Optional[_Iterable[str]] = ..., subscriptions: _Optional[_Iterable[_Union[Subscription, _Mapping]]] = ..., max_jobs: _Optional[int] = ..., wait: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., lease_ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., payload_format: _Optional[_Union[_common_pb2.PayloadFormat, str]] = ..., worker_id: _Optional[str] = ...) -> None: ...

class LeaseJobsResponse(_message.Message):
    __slots__ = ("jobs", "lease_ttl")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    LEASE_TTL_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[JobLease]
    lease_ttl: _duration_pb2.Duration
    def __init__(self, jobs: _Optional[_Iterable[_Union[JobLease, _Mapping]]] = ..., lease_ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ReportJobsRequest(_message.Message):
    __slots__ = ("outcomes", "progress", "logs")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    progress: _containers.RepeatedCompositeFieldContainer[ProgressReport]
    logs: _containers.RepeatedCompositeFieldContainer[LogReport]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., progress: _Optional[_Iterable[_Union[ProgressReport, _Mapping]]] = ..., logs: _Optional[_Iterable[_Union[LogReport, _Mapping]]] = ...) -> None: ...

class ReportJobsResponse(_message.Message):
    __slots__ = ("rejections",)
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    rejections: _containers.RepeatedCompositeFieldContainer[OutcomeRejection]
    def __init__(self, rejections: _Optional[_Iterable[_Union[OutcomeRejection, _Mapping]]] = ...) -> None: ...

class ExtendLeasesRequest(_message.Message):
    __slots__ = ("lease_tokens", "lease_ttl")
    LEASE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LEASE_TTL_FIELD_NUMBER: _ClassVar[int]
    lease_tokens: _containers.RepeatedScalarFieldContainer[str]
    lease_ttl: _duration_pb2.Duration
    def __init__(self, lease_tokens: _Optional[_Iterable[str]] = ..., lease_ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ExtendLeasesResponse(_message.Message):
    __slots__ = ("lost", "cancels", "lease_ttl")
    LOST_FIELD_NUMBER: _ClassVar[int]
    CANCELS_FIELD_NUMBER: _ClassVar[int]
    LEASE_TTL_FIELD_NUMBER: _ClassVar[int]
    lost: _containers.RepeatedScalarFieldContainer[str]
    cancels: _containers.RepeatedCompositeFieldContainer[CancelOrder]
    lease_ttl: _duration_pb2.Duration
    def __init__(self, lost: _Optional[_Iterable[str]] = ..., cancels: _Optional[_Iterable[_Union[CancelOrder, _Mapping]]] = ..., lease_ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListDependencyResultsRequest(_message.Message):
    __slots__ = ("job_id", "page_size", "page_token")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    page_size: int
    page_token: str
    def __init__(self, job_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDependencyResultsResponse(_message.Message):
    __slots__ = ("results", "next_page_token")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[DependencyResult]
    next_page_token: str
    def __init__(self, results: _Optional[_Iterable[_Union[DependencyResult, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
