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

class EnqueueStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENQUEUE_STATUS_UNSPECIFIED: _ClassVar[EnqueueStatus]
    ENQUEUE_STATUS_CREATED: _ClassVar[EnqueueStatus]
    ENQUEUE_STATUS_DUPLICATE: _ClassVar[EnqueueStatus]
    ENQUEUE_STATUS_KEPT: _ClassVar[EnqueueStatus]
    ENQUEUE_STATUS_REPLACED: _ClassVar[EnqueueStatus]
ENQUEUE_STATUS_UNSPECIFIED: EnqueueStatus
ENQUEUE_STATUS_CREATED: EnqueueStatus
ENQUEUE_STATUS_DUPLICATE: EnqueueStatus
ENQUEUE_STATUS_KEPT: EnqueueStatus
ENQUEUE_STATUS_REPLACED: EnqueueStatus

class EnqueueRequest(_message.Message):
    __slots__ = ("job", "validate_only", "wait", "payload_format")
    JOB_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FORMAT_FIELD_NUMBER: _ClassVar[int]
    job: _job_pb2.JobSpec
    validate_only: bool
    wait: _duration_pb2.Duration
    payload_format: _common_pb2.PayloadFormat
    def __init__(self, job: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ..., validate_only: bool = ..., wait: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., payload_format: _Optional[_Union[_common_pb2.PayloadFormat, str]] = ...) -> None: ...

class EnqueueResponse(_message.Message):
    __slots__ = ("job_id", "status", "state", "schedule_time", "result")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_TIME_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    status: EnqueueStatus
    state: _job_pb2.JobState
    schedule_time: _timestamp_pb2.Timestamp
    result: JobResult
    def __init__(self, job_id: _Optional[str] = ..., status: _Optional[_Union[EnqueueStatus, str]] = ..., state: _Optional[_Union[_job_pb2.JobState, str]] = ..., schedule_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., result: _Optional[_Union[JobResult, _Mapping]] = ...) -> None: ...

class EnqueueResult(_message.Message):
    __slots__ = ("job_id", "status", "state", "schedule_time", "error")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_TIME_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    status: EnqueueStatus
    state: _job_pb2.JobState
    schedule_time: _timestamp_pb2.Timestamp
    error: _common_pb2.ItemError
    def __init__(self, job_id: _Optional[str] = ..., status: _Optional[_Union[EnqueueStatus, str]] = ..., state: _Optional[_Union[_job_pb2.JobState, str]] = ..., schedule_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., error: _Optional[_Union[_common_pb2.ItemError, _Mapping]] = ...) -> None: ...

class EnqueueManyRequest(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[_job_pb2.JobSpec]
    def __init__(self, jobs: _Optional[_Iterable[_Union[_job_pb2.JobSpec, _Mapping]]] = ...) -> None: ...

class EnqueueManyResponse(_message.Message):
    __slots__ = ("results", "created_count")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    CREATED_COUNT_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[EnqueueResult]
    created_count: int
    def __init__(self, results: _Optional[_Iterable[_Union[EnqueueResult, _Mapping]]] = ..., created_count: _Optional[int] = ...) -> None: ...

class EnqueueStreamRequest(_message.Message):
    __slots__ = ("seq", "jobs")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    seq: int
    jobs: _containers.RepeatedCompositeFieldContainer[_job_pb2.JobSpec]
    def __init__(self, seq: _Optional[int] = ..., jobs: _Optional[_Iterable[_Union[_job_pb2.JobSpec, _Mapping]]] = ...) -> None: ...

class EnqueueStreamResponse(_message.Message):
    __slots__ = ("acked_seq", "job_ids", "errors", "max_unacked", "reconnect_delay")
    ACKED_SEQ_FIELD_NUMBER: _ClassVar[int]
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    MAX_UNACKED_FIELD_NUMBER: _ClassVar[int]
    RECONNECT_DELAY_FIELD_NUMBER: _ClassVar[int]
    acked_seq: int
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    errors: _containers.RepeatedCompositeFieldContainer[EnqueueStreamError]
    max_unacked: int
    reconnect_delay: _duration_pb2.Duration
    def __init__(self, acked_seq: _Optional[int] = ..., job_ids: _Optional[_Iterable[str]] = ..., errors: _Optional[_Iterable[_Union[EnqueueStreamError, _Mapping]]] = ..., max_unacked: _Optional[int] = ..., reconnect_delay: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class EnqueueStreamError(_message.Message):
    __slots__ = ("seq", "index", "error")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    seq: int
    index: int
    error: _common_pb2.ItemError
    def __init__(self, seq: _Optional[int] = ..., index: _Optional[int] = ..., error: _Optional[_Union[_common_pb2.ItemError, _Mapping]] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("id", "view", "payload_format")
    ID_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FORMAT_FIELD_NUMBER: _ClassVar[int]
    id: str
    view: _job_pb2.JobView
    payload_format: _common_pb2.PayloadFormat
    def __init__(self, id: _Optional[str] = ..., view: _Optional[_Union[_job_pb2.JobView, str]] = ..., payload_format: _Optional[_Union[_common_pb2.PayloadFormat, str]] = ...) -> None: ...

class GetJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: _job_pb2.Job
    def __init__(self, job: _Optional[_Union[_job_pb2.Job, _Mapping]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("filter", "page_size", "page_token", "view", "payload_format")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FORMAT_FIELD_NUMBER: _ClassVar[int]
    filter: str
    page_size: int
    page_token: str
    view: _job_pb2.JobView
    payload_format: _common_pb2.PayloadFormat
    def __init__(self, filter: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., view: _Optional[_Union[_job_pb2.JobView, str]] = ..., payload_format: _Optional[_Union[_common_pb2.PayloadFormat, str]] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[_job_pb2.Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[_job_pb2.Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListJobLogsRequest(_message.Message):
    __slots__ = ("id", "page_size", "page_token", "min_level")
    ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MIN_LEVEL_FIELD_NUMBER: _ClassVar[int]
    id: str
    page_size: int
    page_token: str
    min_level: _job_pb2.LogLevel
    def __init__(self, id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., min_level: _Optional[_Union[_job_pb2.LogLevel, str]] = ...) -> None: ...

class ListJobLogsResponse(_message.Message):
    __slots__ = ("lines", "next_page_token")
    LINES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[_job_pb2.LogLine]
    next_page_token: str
    def __init__(self, lines: _Optional[_Iterable[_Union[_job_pb2.LogLine, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ExplainJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ExplainJobResponse(_message.Message):
    __slots__ = ("state", "summary", "reasons")
    STATE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    state: _job_pb2.JobState
    summary: str
    reasons: _containers.RepeatedCompositeFieldContainer[WaitReason]
    def __init__(self, state: _Optional[_Union[_job_pb2.JobState, str]] = ..., summary: _Optional[str] = ..., reasons: _Optional[_Iterable[_Union[WaitReason, _Mapping]]] = ...) -> None: ...

class WaitReason(_message.Message):
    __slots__ = ("message", "not_due", "dependency", "paused", "no_worker", "throttled", "limit", "busy", "turn")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    NOT_DUE_FIELD_NUMBER: _ClassVar[int]
    DEPENDENCY_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    NO_WORKER_FIELD_NUMBER: _ClassVar[int]
    THROTTLED_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    message: str
    not_due: WaitNotDue
    dependency: WaitDependency
    paused: WaitPaused
    no_worker: WaitNoWorker
    throttled: WaitThrottled
    limit: WaitLimit
    busy: WaitBusy
    turn: WaitTurn
    def __init__(self, message: _Optional[str] = ..., not_due: _Optional[_Union[WaitNotDue, _Mapping]] = ..., dependency: _Optional[_Union[WaitDependency, _Mapping]] = ..., paused: _Optional[_Union[WaitPaused, _Mapping]] = ..., no_worker: _Optional[_Union[WaitNoWorker, _Mapping]] = ..., throttled: _Optional[_Union[WaitThrottled, _Mapping]] = ..., limit: _Optional[_Union[WaitLimit, _Mapping]] = ..., busy: _Optional[_Union[WaitBusy, _Mapping]] = ..., turn: _Optional[_Union[WaitTurn, _Mapping]] = ...) -> None: ...

class WaitNotDue(_message.Message):
    __slots__ = ("schedule_time",)
    SCHEDULE_TIME_FIELD_NUMBER: _ClassVar[int]
    schedule_time: _timestamp_pb2.Timestamp
    def __init__(self, schedule_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class WaitDependency(_message.Message):
    __slots__ = ("dependency", "job_id", "state", "pending_count")
    DEPENDENCY_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PENDING_COUNT_FIELD_NUMBER: _ClassVar[int]
    dependency: _job_pb2.Dependency
    job_id: str
    state: _job_pb2.JobState
    pending_count: int
    def __init__(self, dependency: _Optional[_Union[_job_pb2.Dependency, _Mapping]] = ..., job_id: _Optional[str] = ..., state: _Optional[_Union[_job_pb2.JobState, str]] = ..., pending_count: _Optional[int] = ...) -> None: ...

class WaitPaused(_message.Message):
    __slots__ = ("queue", "actor", "reason", "pause_time", "resume_time")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PAUSE_TIME_FIELD_NUMBER: _ClassVar[int]
    RESUME_TIME_FIELD_NUMBER: _ClassVar[int]
    queue: str
    actor: str
    reason: str
    pause_time: _timestamp_pb2.Timestamp
    resume_time: _timestamp_pb2.Timestamp
    def __init__(self, queue: _Optional[str] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ..., pause_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., resume_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class WaitNoWorker(_message.Message):
    __slots__ = ("queue", "type", "queue_workers", "schedule_time")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_WORKERS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_TIME_FIELD_NUMBER: _ClassVar[int]
    queue: str
    type: str
    queue_workers: int
    schedule_time: _timestamp_pb2.Timestamp
    def __init__(self, queue: _Optional[str] = ..., type: _Optional[str] = ..., queue_workers: _Optional[int] = ..., schedule_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class WaitThrottled(_message.Message):
    __slots__ = ("scope", "open_time")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    OPEN_TIME_FIELD_NUMBER: _ClassVar[int]
    scope: _job_pb2.ThrottleScope
    open_time: _timestamp_pb2.Timestamp
    def __init__(self, scope: _Optional[_Union[_job_pb2.ThrottleScope, str]] = ..., open_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class WaitLimit(_message.Message):
    __slots__ = ("scope", "max_running", "job_ids")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNNING_FIELD_NUMBER: _ClassVar[int]
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    scope: _job_pb2.ThrottleScope
    max_running: int
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, scope: _Optional[_Union[_job_pb2.ThrottleScope, str]] = ..., max_running: _Optional[int] = ..., job_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class WaitBusy(_message.Message):
    __slots__ = ("slots",)
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    slots: int
    def __init__(self, slots: _Optional[int] = ...) -> None: ...

class WaitTurn(_message.Message):
    __slots__ = ("jobs_ahead",)
    JOBS_AHEAD_FIELD_NUMBER: _ClassVar[int]
    jobs_ahead: int
    def __init__(self, jobs_ahead: _Optional[int] = ...) -> None: ...

class WaitJobRequest(_message.Message):
    __slots__ = ("id", "timeout", "view", "payload_format")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FORMAT_FIELD_NUMBER: _ClassVar[int]
    id: str
    timeout: _duration_pb2.Duration
    view: _job_pb2.JobView
    payload_format: _common_pb2.PayloadFormat
    def __init__(self, id: _Optional[str] = ..., timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., view: _Optional[_Union[_job_pb2.JobView, str]] = ..., payload_format: _Optional[_Union[_common_pb2.PayloadFormat, str]] = ...) -> None: ...

class WaitJobResponse(_message.Message):
    __slots__ = ("job", "finished")
    JOB_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    job: _job_pb2.Job
    finished: bool
    def __init__(self, job: _Optional[_Union[_job_pb2.Job, _Mapping]] = ..., finished: bool = ...) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("id", "logs_after", "payload_format")
    ID_FIELD_NUMBER: _ClassVar[int]
    LOGS_AFTER_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FORMAT_FIELD_NUMBER: _ClassVar[int]
    id: str
    logs_after: int
    payload_format: _common_pb2.PayloadFormat
    def __init__(self, id: _Optional[str] = ..., logs_after: _Optional[int] = ..., payload_format: _Optional[_Union[_common_pb2.PayloadFormat, str]] = ...) -> None: ...

class WatchJobResponse(_message.Message):
    __slots__ = ("job", "progress", "lines")
    JOB_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    job: _job_pb2.Job
    progress: _job_pb2.Progress
    lines: _containers.RepeatedCompositeFieldContainer[_job_pb2.LogLine]
    def __init__(self, job: _Optional[_Union[_job_pb2.Job, _Mapping]] = ..., progress: _Optional[_Union[_job_pb2.Progress, _Mapping]] = ..., lines: _Optional[_Iterable[_Union[_job_pb2.LogLine, _Mapping]]] = ...) -> None: ...

class AwaitResultsRequest(_message.Message):
    __slots__ = ("job_ids", "forget_ids")
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    FORGET_IDS_FIELD_NUMBER: _ClassVar[int]
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    forget_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job_ids: _Optional[_Iterable[str]] = ..., forget_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class AwaitResultsResponse(_message.Message):
    __slots__ = ("results", "unknown_ids")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_IDS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[JobResult]
    unknown_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, results: _Optional[_Iterable[_Union[JobResult, _Mapping]]] = ..., unknown_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class JobResult(_message.Message):
    __slots__ = ("job_id", "state", "result", "failure", "finish_time")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    FINISH_TIME_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    state: _job_pb2.JobState
    result: _common_pb2.Payload
    failure: _common_pb2.Failure
    finish_time: _timestamp_pb2.Timestamp
    def __init__(self, job_id: _Optional[str] = ..., state: _Optional[_Union[_job_pb2.JobState, str]] = ..., result: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ..., finish_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CancelJobsRequest(_message.Message):
    __slots__ = ("selector", "reason", "grace", "dry_run", "limit", "continue_token")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    selector: _common_pb2.Selector
    reason: str
    grace: _duration_pb2.Duration
    dry_run: bool
    limit: int
    continue_token: str
    def __init__(self, selector: _Optional[_Union[_common_pb2.Selector, _Mapping]] = ..., reason: _Optional[str] = ..., grace: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., dry_run: bool = ..., limit: _Optional[int] = ..., continue_token: _Optional[str] = ...) -> None: ...

class CancelJobsResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _common_pb2.BulkResult
    def __init__(self, result: _Optional[_Union[_common_pb2.BulkResult, _Mapping]] = ...) -> None: ...

class RetryJobsRequest(_message.Message):
    __slots__ = ("selector", "reset_attempts", "spread", "queue", "dry_run", "limit", "continue_token")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    RESET_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    selector: _common_pb2.Selector
    reset_attempts: bool
    spread: _duration_pb2.Duration
    queue: str
    dry_run: bool
    limit: int
    continue_token: str
    def __init__(self, selector: _Optional[_Union[_common_pb2.Selector, _Mapping]] = ..., reset_attempts: bool = ..., spread: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., queue: _Optional[str] = ..., dry_run: bool = ..., limit: _Optional[int] = ..., continue_token: _Optional[str] = ...) -> None: ...

class RetryJobsResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _common_pb2.BulkResult
    def __init__(self, result: _Optional[_Union[_common_pb2.BulkResult, _Mapping]] = ...) -> None: ...

class UpdateJobsRequest(_message.Message):
    __slots__ = ("selector", "patch", "etag", "dry_run", "limit", "continue_token")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    PATCH_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    selector: _common_pb2.Selector
    patch: JobPatch
    etag: str
    dry_run: bool
    limit: int
    continue_token: str
    def __init__(self, selector: _Optional[_Union[_common_pb2.Selector, _Mapping]] = ..., patch: _Optional[_Union[JobPatch, _Mapping]] = ..., etag: _Optional[str] = ..., dry_run: bool = ..., limit: _Optional[int] = ..., continue_token: _Optional[str] = ...) -> None: ...

class UpdateJobsResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _common_pb2.BulkResult
    def __init__(self, result: _Optional[_Union[_common_pb2.BulkResult, _Mapping]] = ...) -> None: ...

class JobPatch(_message.Message):
    __slots__ = ("priority", "queue", "schedule_time", "delay", "retry", "timeout", "payload")
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_TIME_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    priority: int
    queue: str
    schedule_time: _timestamp_pb2.Timestamp
    delay: _duration_pb2.Duration
    retry: _common_pb2.RetryPolicy
    timeout: _duration_pb2.Duration
    payload: _common_pb2.Payload
    def __init__(self, priority: _Optional[int] = ..., queue: _Optional[str] = ..., schedule_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., delay: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., retry: _Optional[_Union[_common_pb2.RetryPolicy, _Mapping]] = ..., timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., payload: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ...) -> None: ...

class DeleteJobsRequest(_message.Message):
    __slots__ = ("selector", "force", "limit", "continue_token")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    selector: _common_pb2.Selector
    force: bool
    limit: int
    continue_token: str
    def __init__(self, selector: _Optional[_Union[_common_pb2.Selector, _Mapping]] = ..., force: bool = ..., limit: _Optional[int] = ..., continue_token: _Optional[str] = ...) -> None: ...

class DeleteJobsResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _common_pb2.BulkResult
    def __init__(self, result: _Optional[_Union[_common_pb2.BulkResult, _Mapping]] = ...) -> None: ...
