from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from jobwire.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DependencyCondition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEPENDENCY_CONDITION_UNSPECIFIED: _ClassVar[DependencyCondition]
    DEPENDENCY_CONDITION_SUCCEEDED: _ClassVar[DependencyCondition]
    DEPENDENCY_CONDITION_FAILED: _ClassVar[DependencyCondition]
    DEPENDENCY_CONDITION_FINISHED: _ClassVar[DependencyCondition]

class UniqueScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNIQUE_SCOPE_UNSPECIFIED: _ClassVar[UniqueScope]
    UNIQUE_SCOPE_UNTIL_FINISHED: _ClassVar[UniqueScope]
    UNIQUE_SCOPE_UNTIL_STARTED: _ClassVar[UniqueScope]
    UNIQUE_SCOPE_FOR_TTL: _ClassVar[UniqueScope]

class UniqueConflict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNIQUE_CONFLICT_UNSPECIFIED: _ClassVar[UniqueConflict]
    UNIQUE_CONFLICT_KEEP: _ClassVar[UniqueConflict]
    UNIQUE_CONFLICT_REJECT: _ClassVar[UniqueConflict]
    UNIQUE_CONFLICT_REPLACE: _ClassVar[UniqueConflict]
    UNIQUE_CONFLICT_DEBOUNCE: _ClassVar[UniqueConflict]
    UNIQUE_CONFLICT_KEEP_LAST: _ClassVar[UniqueConflict]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_SCHEDULED: _ClassVar[JobState]
    JOB_STATE_BLOCKED: _ClassVar[JobState]
    JOB_STATE_READY: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_RETRYING: _ClassVar[JobState]
    JOB_STATE_SUCCEEDED: _ClassVar[JobState]
    JOB_STATE_DEAD: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]
    JOB_STATE_EXPIRED: _ClassVar[JobState]
    JOB_STATE_DISCARDED: _ClassVar[JobState]

class AttemptResult(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTEMPT_RESULT_UNSPECIFIED: _ClassVar[AttemptResult]
    ATTEMPT_RESULT_SUCCEEDED: _ClassVar[AttemptResult]
    ATTEMPT_RESULT_FAILED: _ClassVar[AttemptResult]
    ATTEMPT_RESULT_TIMED_OUT: _ClassVar[AttemptResult]
    ATTEMPT_RESULT_LOST: _ClassVar[AttemptResult]
    ATTEMPT_RESULT_SNOOZED: _ClassVar[AttemptResult]
    ATTEMPT_RESULT_RELEASED: _ClassVar[AttemptResult]
    ATTEMPT_RESULT_CANCELLED: _ClassVar[AttemptResult]

class JobView(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_VIEW_UNSPECIFIED: _ClassVar[JobView]
    JOB_VIEW_BASIC: _ClassVar[JobView]
    JOB_VIEW_FULL: _ClassVar[JobView]

class ThrottleScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    THROTTLE_SCOPE_UNSPECIFIED: _ClassVar[ThrottleScope]
    THROTTLE_SCOPE_KEY: _ClassVar[ThrottleScope]
    THROTTLE_SCOPE_QUEUE: _ClassVar[ThrottleScope]

class LogLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOG_LEVEL_UNSPECIFIED: _ClassVar[LogLevel]
    LOG_LEVEL_TRACE: _ClassVar[LogLevel]
    LOG_LEVEL_DEBUG: _ClassVar[LogLevel]
    LOG_LEVEL_INFO: _ClassVar[LogLevel]
    LOG_LEVEL_WARN: _ClassVar[LogLevel]
    LOG_LEVEL_ERROR: _ClassVar[LogLevel]
    LOG_LEVEL_FATAL: _ClassVar[LogLevel]
DEPENDENCY_CONDITION_UNSPECIFIED: DependencyCondition
DEPENDENCY_CONDITION_SUCCEEDED: DependencyCondition
DEPENDENCY_CONDITION_FAILED: DependencyCondition
DEPENDENCY_CONDITION_FINISHED: DependencyCondition
UNIQUE_SCOPE_UNSPECIFIED: UniqueScope
UNIQUE_SCOPE_UNTIL_FINISHED: UniqueScope
UNIQUE_SCOPE_UNTIL_STARTED: UniqueScope
UNIQUE_SCOPE_FOR_TTL: UniqueScope
UNIQUE_CONFLICT_UNSPECIFIED: UniqueConflict
UNIQUE_CONFLICT_KEEP: UniqueConflict
UNIQUE_CONFLICT_REJECT: UniqueConflict
UNIQUE_CONFLICT_REPLACE: UniqueConflict
UNIQUE_CONFLICT_DEBOUNCE: UniqueConflict
UNIQUE_CONFLICT_KEEP_LAST: UniqueConflict
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_SCHEDULED: JobState
JOB_STATE_BLOCKED: JobState
JOB_STATE_READY: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_RETRYING: JobState
JOB_STATE_SUCCEEDED: JobState
JOB_STATE_DEAD: JobState
JOB_STATE_CANCELLED: JobState
JOB_STATE_EXPIRED: JobState
JOB_STATE_DISCARDED: JobState
ATTEMPT_RESULT_UNSPECIFIED: AttemptResult
ATTEMPT_RESULT_SUCCEEDED: AttemptResult
ATTEMPT_RESULT_FAILED: AttemptResult
ATTEMPT_RESULT_TIMED_OUT: AttemptResult
ATTEMPT_RESULT_LOST: AttemptResult
ATTEMPT_RESULT_SNOOZED: AttemptResult
ATTEMPT_RESULT_RELEASED: AttemptResult
ATTEMPT_RESULT_CANCELLED: AttemptResult
JOB_VIEW_UNSPECIFIED: JobView
JOB_VIEW_BASIC: JobView
JOB_VIEW_FULL: JobView
THROTTLE_SCOPE_UNSPECIFIED: ThrottleScope
THROTTLE_SCOPE_KEY: ThrottleScope
THROTTLE_SCOPE_QUEUE: ThrottleScope
LOG_LEVEL_UNSPECIFIED: LogLevel
LOG_LEVEL_TRACE: LogLevel
LOG_LEVEL_DEBUG: LogLevel
LOG_LEVEL_INFO: LogLevel
LOG_LEVEL_WARN: LogLevel
LOG_LEVEL_ERROR: LogLevel
LOG_LEVEL_FATAL: LogLevel

class JobSpec(_message.Message):
    __slots__ = ("id", "type", "queue", "payload", "headers", "priority", "schedule_time", "delay", "timeout", "retry", "tags", "fairness_key", "unique", "idempotency_key", "ttl", "expire_time", "idempotency_ttl", "heartbeat_timeout", "total_timeout", "retention", "dead_retention", "depends_on", "parent_id")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_TIME_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    FAIRNESS_KEY_FIELD_NUMBER: _ClassVar[int]
    UNIQUE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_TTL_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    RETENTION_FIELD_NUMBER: _ClassVar[int]
    DEAD_RETENTION_FIELD_NUMBER: _ClassVar[int]
    DEPENDS_ON_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    type: str
    queue: str
    payload: _common_pb2.Payload
    headers: _containers.ScalarMap[str, str]
    priority: int
    schedule_time: _timestamp_pb2.Timestamp
    delay: _duration_pb2.Duration
    timeout: _duration_pb2.Duration
    retry: _common_pb2.RetryPolicy
    tags: _containers.RepeatedScalarFieldContainer[str]
    fairness_key: str
    unique: Unique
    idempotency_key: str
    ttl: _duration_pb2.Duration
    expire_time: _timestamp_pb2.Timestamp
    idempotency_ttl: _duration_pb2.Duration
    heartbeat_timeout: _duration_pb2.Duration
    total_timeout: _duration_pb2.Duration
    retention: _duration_pb2.Duration
    dead_retention: _duration_pb2.Duration
    depends_on: _containers.RepeatedCompositeFieldContainer[Dependency]
    parent_id: str
    def __init__(self, id: _Optional[str] = ..., type: _Optional[str] = ..., queue: _Optional[str] = ..., payload: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., headers: _Optional[_Mapping[str, str]] = ..., priority: _Optional[int] = ..., schedule_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., delay: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., retry: _Optional[_Union[_common_pb2.RetryPolicy, _Mapping]] = ..., tags: _Optional[_Iterable[str]] = ..., fairness_key: _Optional[str] = ..., unique: _Optional[_Union[Unique, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., idempotency_ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., heartbeat_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., total_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., retention: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., dead_retention: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., depends_on: _Optional[_Iterable[_Union[Dependency, _Mapping]]] = ..., parent_id: _Optional[str] = ...) -> None: ...

class Dependency(_message.Message):
    __slots__ = ("job_id", "node", "group", "condition", "pass_result", "alias")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    PASS_RESULT_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    node: str
    group: str
    condition: DependencyCondition
    pass_result: bool
    alias: str
    def __init__(self, job_id: _Optional[str] = ..., node: _Optional[str] = ..., group: _Optional[str] = ..., condition: _Optional[_Union[DependencyCondition, str]] = ..., pass_result: bool = ..., alias: _Optional[str] = ...) -> None: ...

class Unique(_message.Message):
    __slots__ = ("key", "scope", "ttl", "on_conflict")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    ON_CONFLICT_FIELD_NUMBER: _ClassVar[int]
    key: str
    scope: UniqueScope
    ttl: _duration_pb2.Duration
    on_conflict: UniqueConflict
    def __init__(self, key: _Optional[str] = ..., scope: _Optional[_Union[UniqueScope, str]] = ..., ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., on_conflict: _Optional[_Union[UniqueConflict, str]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "state", "spec", "attempt", "delivery", "crashes", "create_time", "schedule_time", "start_time", "finish_time", "progress", "result", "failure", "worker_id", "session_id", "cancel_request_time", "purge_time", "attempts", "workflow_id", "node", "schedule_id", "unmet_dependencies", "etag", "fire_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    CRASHES_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    FINISH_TIME_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CANCEL_REQUEST_TIME_FIELD_NUMBER: _ClassVar[int]
    PURGE_TIME_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_ID_FIELD_NUMBER: _ClassVar[int]
    UNMET_DEPENDENCIES_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    FIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: JobState
    spec: JobSpec
    attempt: int
    delivery: int
    crashes: int
    create_time: _timestamp_pb2.Timestamp
    schedule_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    finish_time: _timestamp_pb2.Timestamp
    progress: Progress
    result: _common_pb2.Payload
    failure: _common_pb2.Failure
    worker_id: str
    session_id: str
    cancel_request_time: _timestamp_pb2.Timestamp
    purge_time: _timestamp_pb2.Timestamp
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    workflow_id: str
    node: str
    schedule_id: str
    unmet_dependencies: _containers.RepeatedCompositeFieldContainer[Dependency]
    etag: str
    fire_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., attempt: _Optional[int] = ..., delivery: _Optional[int] = ..., crashes: _Optional[int] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., schedule_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., finish_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., result: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ..., worker_id: _Optional[str] = ..., session_id: _Optional[str] = ..., cancel_request_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., purge_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., workflow_id: _Optional[str] = ..., node: _Optional[str] = ..., schedule_id: _Optional[str] = ..., unmet_dependencies: _Optional[_Iterable[_Union[Dependency, _Mapping]]] = ..., etag: _Optional[str] = ..., fire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("attempt", "delivery", "worker_id", "start_time", "finish_time", "result", "failure", "run_duration", "wait_duration")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    FINISH_TIME_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    RUN_DURATION_FIELD_NUMBER: _ClassVar[int]
    WAIT_DURATION_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    delivery: int
    worker_id: str
    start_time: _timestamp_pb2.Timestamp
    finish_time: _timestamp_pb2.Timestamp
    result: AttemptResult
    failure: _common_pb2.Failure
    run_duration: _duration_pb2.Duration
    wait_duration: _duration_pb2.Duration
    def __init__(self, attempt: _Optional[int] = ..., delivery: _Optional[int] = ..., worker_id: _Optional[str] = ..., start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., finish_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., result: _Optional[_Union[AttemptResult, str]] = ..., failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ..., run_duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., wait_duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("percent", "current", "total", "message", "data", "update_time")
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    percent: float
    current: int
    total: int
    message: str
    data: _struct_pb2.Struct
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, percent: _Optional[float] = ..., current: _Optional[int] = ..., total: _Optional[int] = ..., message: _Optional[str] = ..., data: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., update_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("index", "time", "level", "message", "fields", "attempt")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    index: int
    time: _timestamp_pb2.Timestamp
    level: LogLevel
    message: str
    fields: _containers.ScalarMap[str, str]
    attempt: int
    def __init__(self, index: _Optional[int] = ..., time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., level: _Optional[_Union[LogLevel, str]] = ..., message: _Optional[str] = ..., fields: _Optional[_Mapping[str, str]] = ..., attempt: _Optional[int] = ...) -> None: ...
