from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from jobwire.v1 import common_pb2 as _common_pb2
from jobwire.v1 import job_pb2 as _job_pb2
from jobwire.v1 import queue_service_pb2 as _queue_service_pb2
from jobwire.v1 import worker_service_pb2 as _worker_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_KIND_UNSPECIFIED: _ClassVar[EventKind]
    EVENT_KIND_JOB_ENQUEUED: _ClassVar[EventKind]
    EVENT_KIND_JOB_STARTED: _ClassVar[EventKind]
    EVENT_KIND_JOB_PROGRESS: _ClassVar[EventKind]
    EVENT_KIND_JOB_SUCCEEDED: _ClassVar[EventKind]
    EVENT_KIND_JOB_FAILED: _ClassVar[EventKind]
    EVENT_KIND_JOB_SNOOZED: _ClassVar[EventKind]
    EVENT_KIND_JOB_LOST: _ClassVar[EventKind]
    EVENT_KIND_JOB_CANCELLED: _ClassVar[EventKind]
    EVENT_KIND_JOB_EXPIRED: _ClassVar[EventKind]
    EVENT_KIND_WORKER_CONNECTED: _ClassVar[EventKind]
    EVENT_KIND_WORKER_DISCONNECTED: _ClassVar[EventKind]
    EVENT_KIND_WORKFLOW_FINISHED: _ClassVar[EventKind]
    EVENT_KIND_SCHEDULE_FIRED: _ClassVar[EventKind]
    EVENT_KIND_SCHEDULE_SKIPPED: _ClassVar[EventKind]
    EVENT_KIND_QUEUE_PAUSED: _ClassVar[EventKind]
    EVENT_KIND_QUEUE_RESUMED: _ClassVar[EventKind]
    EVENT_KIND_ADMIN_ACTION: _ClassVar[EventKind]
EVENT_KIND_UNSPECIFIED: EventKind
EVENT_KIND_JOB_ENQUEUED: EventKind
EVENT_KIND_JOB_STARTED: EventKind
EVENT_KIND_JOB_PROGRESS: EventKind
EVENT_KIND_JOB_SUCCEEDED: EventKind
EVENT_KIND_JOB_FAILED: EventKind
EVENT_KIND_JOB_SNOOZED: EventKind
EVENT_KIND_JOB_LOST: EventKind
EVENT_KIND_JOB_CANCELLED: EventKind
EVENT_KIND_JOB_EXPIRED: EventKind
EVENT_KIND_WORKER_CONNECTED: EventKind
EVENT_KIND_WORKER_DISCONNECTED: EventKind
EVENT_KIND_WORKFLOW_FINISHED: EventKind
EVENT_KIND_SCHEDULE_FIRED: EventKind
EVENT_KIND_SCHEDULE_SKIPPED: EventKind
EVENT_KIND_QUEUE_PAUSED: EventKind
EVENT_KIND_QUEUE_RESUMED: EventKind
EVENT_KIND_ADMIN_ACTION: EventKind

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "server_id", "revision", "features", "limits", "store", "durability", "server_time", "uptime")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_FIELD_NUMBER: _ClassVar[int]
    UPTIME_FIELD_NUMBER: _ClassVar[int]
    version: str
    server_id: str
    revision: int
    features: _containers.RepeatedScalarFieldContainer[str]
    limits: _common_pb2.Limits
    store: str
    durability: str
    server_time: _timestamp_pb2.Timestamp
    uptime: _duration_pb2.Duration
    def __init__(self, version: _Optional[str] = ..., server_id: _Optional[str] = ..., revision: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[_common_pb2.Limits, _Mapping]] = ..., store: _Optional[str] = ..., durability: _Optional[str] = ..., server_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., uptime: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ("queues",)
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    queues: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, queues: _Optional[_Iterable[str]] = ...) -> None: ...

class GetStatsResponse(_message.Message):
    __slots__ = ("total", "queue_count", "queues_paused", "workers", "workers_quiet", "server_time")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    QUEUE_COUNT_FIELD_NUMBER: _ClassVar[int]
    QUEUES_PAUSED_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_QUIET_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_FIELD_NUMBER: _ClassVar[int]
    total: _queue_service_pb2.QueueStats
    queue_count: int
    queues_paused: int
    workers: int
    workers_quiet: int
    server_time: _timestamp_pb2.Timestamp
    def __init__(self, total: _Optional[_Union[_queue_service_pb2.QueueStats, _Mapping]] = ..., queue_count: _Optional[int] = ..., queues_paused: _Optional[int] = ..., workers: _Optional[int] = ..., workers_quiet: _Optional[int] = ..., server_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Worker(_message.Message):
    __slots__ = ("session_id", "worker_id", "state", "directive", "info", "types", "subscriptions", "slots", "concurrency", "in_flight", "running", "connect_time", "last_seen_time", "succeeded_count", "failed_count", "rss_bytes", "cpu_percent", "server_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DIRECTIVE_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    CONNECT_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_TIME_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPU_PERCENT_FIELD_NUMBER: _ClassVar[int]
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    worker_id: str
    state: _worker_service_pb2.WorkerState
    directive: _worker_service_pb2.DirectiveKind
    info: _worker_service_pb2.WorkerInfo
    types: _containers.RepeatedScalarFieldContainer[str]
    subscriptions: _containers.RepeatedCompositeFieldContainer[_worker_service_pb2.Subscription]
    slots: int
    concurrency: int
    in_flight: int
    running: int
    connect_time: _timestamp_pb2.Timestamp
    last_seen_time: _timestamp_pb2.Timestamp
    succeeded_count: int
    failed_count: int
    rss_bytes: int
    cpu_percent: float
    server_id: str
    def __init__(self, session_id: _Optional[str] = ..., worker_id: _Optional[str] = ..., state: _Optional[_Union[_worker_service_pb2.WorkerState, str]] = ..., directive: _Optional[_Union[_worker_service_pb2.DirectiveKind, str]] = ..., info: _Optional[_Union[_worker_service_pb2.WorkerInfo, _Mapping]] = ..., types: _Optional[_Iterable[str]] = ..., subscriptions: _Optional[_Iterable[_Union[_worker_service_pb2.Subscription, _Mapping]]] = ..., slots: _Optional[int] = ..., concurrency: _Optional[int] = ..., in_flight: _Optional[int] = ..., running: _Optional[int] = ..., connect_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_seen_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., succeeded_count: _Optional[int] = ..., failed_count: _Optional[int] = ..., rss_bytes: _Optional[int] = ..., cpu_percent: _Optional[float] = ..., server_id: _Optional[str] = ...) -> None: ...

class ListWorkersRequest(_message.Message):
    __slots__ = ("filter", "page_size", "page_token")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    filter: str
    page_size: int
    page_token: str
    def __init__(self, filter: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListWorkersResponse(_message.Message):
    __slots__ = ("workers", "next_page_token")
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    workers: _containers.RepeatedCompositeFieldContainer[Worker]
    next_page_token: str
    def __init__(self, workers: _Optional[_Iterable[_Union[Worker, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetWorkerRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class GetWorkerResponse(_message.Message):
    __slots__ = ("worker", "jobs")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    worker: Worker
    jobs: _containers.RepeatedCompositeFieldContainer[_job_pb2.Job]
    def __init__(self, worker: _Optional[_Union[Worker, _Mapping]] = ..., jobs: _Optional[_Iterable[_Union[_job_pb2.Job, _Mapping]]] = ...) -> None: ...

class SignalWorkersRequest(_message.Message):
    __slots__ = ("selector", "directive", "grace", "reason")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    DIRECTIVE_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    selector: _common_pb2.Selector
    directive: _worker_service_pb2.DirectiveKind
    grace: _duration_pb2.Duration
    reason: str
    def __init__(self, selector: _Optional[_Union[_common_pb2.Selector, _Mapping]] = ..., directive: _Optional[_Union[_worker_service_pb2.DirectiveKind, str]] = ..., grace: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class SignalWorkersResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _common_pb2.BulkResult
    def __init__(self, result: _Optional[_Union[_common_pb2.BulkResult, _Mapping]] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ("filter", "cursor")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    filter: str
    cursor: str
    def __init__(self, filter: _Optional[str] = ..., cursor: _Optional[str] = ...) -> None: ...

class WatchEventsResponse(_message.Message):
    __slots__ = ("events", "cursor", "dropped_count")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    DROPPED_COUNT_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    cursor: str
    dropped_count: int
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., cursor: _Optional[str] = ..., dropped_count: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("time", "kind", "job_id", "type", "queue", "state", "attempt", "worker_id", "workflow_id", "schedule_id", "failure", "progress", "actor", "message")
    TIME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_ID_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    kind: EventKind
    job_id: str
    type: str
    queue: str
    state: _job_pb2.JobState
    attempt: int
    worker_id: str
    workflow_id: str
    schedule_id: str
    failure: _common_pb2.Failure
    progress: _job_pb2.Progress
    actor: str
    message: str
    def __init__(self, time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., kind: _Optional[_Union[EventKind, str]] = ..., job_id: _Optional[str] = ..., type: _Optional[str] = ..., queue: _Optional[str] = ..., state: _Optional[_Union[_job_pb2.JobState, str]] = ..., attempt: _Optional[int] = ..., worker_id: _Optional[str] = ..., workflow_id: _Optional[str] = ..., schedule_id: _Optional[str] = ..., failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ..., progress: _Optional[_Union[_job_pb2.Progress, _Mapping]] = ..., actor: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
