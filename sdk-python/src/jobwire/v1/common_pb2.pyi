from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PayloadFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAYLOAD_FORMAT_UNSPECIFIED: _ClassVar[PayloadFormat]
    PAYLOAD_FORMAT_JSON: _ClassVar[PayloadFormat]
    PAYLOAD_FORMAT_RAW: _ClassVar[PayloadFormat]
    PAYLOAD_FORMAT_OMIT: _ClassVar[PayloadFormat]

class ExhaustedAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXHAUSTED_ACTION_UNSPECIFIED: _ClassVar[ExhaustedAction]
    EXHAUSTED_ACTION_DEAD: _ClassVar[ExhaustedAction]
    EXHAUSTED_ACTION_DISCARD: _ClassVar[ExhaustedAction]

class FailureKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILURE_KIND_UNSPECIFIED: _ClassVar[FailureKind]
    FAILURE_KIND_APPLICATION: _ClassVar[FailureKind]
    FAILURE_KIND_TIMEOUT: _ClassVar[FailureKind]
    FAILURE_KIND_STALLED: _ClassVar[FailureKind]
    FAILURE_KIND_WORKER_LOST: _ClassVar[FailureKind]
    FAILURE_KIND_CANCELLED: _ClassVar[FailureKind]
    FAILURE_KIND_EXPIRED: _ClassVar[FailureKind]
    FAILURE_KIND_DEPENDENCY: _ClassVar[FailureKind]
    FAILURE_KIND_UNPROCESSABLE: _ClassVar[FailureKind]
PAYLOAD_FORMAT_UNSPECIFIED: PayloadFormat
PAYLOAD_FORMAT_JSON: PayloadFormat
PAYLOAD_FORMAT_RAW: PayloadFormat
PAYLOAD_FORMAT_OMIT: PayloadFormat
EXHAUSTED_ACTION_UNSPECIFIED: ExhaustedAction
EXHAUSTED_ACTION_DEAD: ExhaustedAction
EXHAUSTED_ACTION_DISCARD: ExhaustedAction
FAILURE_KIND_UNSPECIFIED: FailureKind
FAILURE_KIND_APPLICATION: FailureKind
FAILURE_KIND_TIMEOUT: FailureKind
FAILURE_KIND_STALLED: FailureKind
FAILURE_KIND_WORKER_LOST: FailureKind
FAILURE_KIND_CANCELLED: FailureKind
FAILURE_KIND_EXPIRED: FailureKind
FAILURE_KIND_DEPENDENCY: FailureKind
FAILURE_KIND_UNPROCESSABLE: FailureKind

class Payload(_message.Message):
    __slots__ = ("text", "data", "json", "content_type", "content_encoding")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_ENCODING_FIELD_NUMBER: _ClassVar[int]
    text: str
    data: bytes
    json: _struct_pb2.Value
    content_type: str
    content_encoding: str
    def __init__(self, text: _Optional[str] = ..., data: _Optional[bytes] = ..., json: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., content_type: _Optional[str] = ..., content_encoding: _Optional[str] = ...) -> None: ...

class RetryPolicy(_message.Message):
    __slots__ = ("max_attempts", "initial_delay", "multiplier", "max_delay", "jitter", "delays", "non_retryable_types", "max_crashes", "on_exhausted")
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    INITIAL_DELAY_FIELD_NUMBER: _ClassVar[int]
    MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    MAX_DELAY_FIELD_NUMBER: _ClassVar[int]
    JITTER_FIELD_NUMBER: _ClassVar[int]
    DELAYS_FIELD_NUMBER: _ClassVar[int]
    NON_RETRYABLE_TYPES_FIELD_NUMBER: _ClassVar[int]
    MAX_CRASHES_FIELD_NUMBER: _ClassVar[int]
    ON_EXHAUSTED_FIELD_NUMBER: _ClassVar[int]
    max_attempts: int
    initial_delay: _duration_pb2.Duration
    multiplier: float
    max_delay: _duration_pb2.Duration
    jitter: float
    delays: _containers.RepeatedCompositeFieldContainer[_duration_pb2.Duration]
    non_retryable_types: _containers.RepeatedScalarFieldContainer[str]
    max_crashes: int
    on_exhausted: ExhaustedAction
    def __init__(self, max_attempts: _Optional[int] = ..., initial_delay: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., multiplier: _Optional[float] = ..., max_delay: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., jitter: _Optional[float] = ..., delays: _Optional[_Iterable[_Union[_duration_pb2.Duration, _Mapping]]] = ..., non_retryable_types: _Optional[_Iterable[str]] = ..., max_crashes: _Optional[int] = ..., on_exhausted: _Optional[_Union[ExhaustedAction, str]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("kind", "type", "message", "stack_trace", "details", "cause")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STACK_TRACE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    kind: FailureKind
    type: str
    message: str
    stack_trace: str
    details: Payload
    cause: Failure
    def __init__(self, kind: _Optional[_Union[FailureKind, str]] = ..., type: _Optional[str] = ..., message: _Optional[str] = ..., stack_trace: _Optional[str] = ..., details: _Optional[_Union[Payload, _Mapping]] = ..., cause: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class ItemError(_message.Message):
    __slots__ = ("code", "reason", "message", "field", "retry_delay", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    RETRY_DELAY_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    field: str
    retry_delay: _duration_pb2.Duration
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., retry_delay: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Selector(_message.Message):
    __slots__ = ("ids", "filter")
    IDS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    filter: str
    def __init__(self, ids: _Optional[_Iterable[str]] = ..., filter: _Optional[str] = ...) -> None: ...

class BulkResult(_message.Message):
    __slots__ = ("matched_count", "affected_count", "sample_ids", "errors", "continue_token")
    MATCHED_COUNT_FIELD_NUMBER: _ClassVar[int]
    AFFECTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_IDS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    matched_count: int
    affected_count: int
    sample_ids: _containers.RepeatedScalarFieldContainer[str]
    errors: _containers.RepeatedCompositeFieldContainer[BulkError]
    continue_token: str
    def __init__(self, matched_count: _Optional[int] = ..., affected_count: _Optional[int] = ..., sample_ids: _Optional[_Iterable[str]] = ..., errors: _Optional[_Iterable[_Union[BulkError, _Mapping]]] = ..., continue_token: _Optional[str] = ...) -> None: ...

class BulkError(_message.Message):
    __slots__ = ("id", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    error: ItemError
    def __init__(self, id: _Optional[str] = ..., error: _Optional[_Union[ItemError, _Mapping]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_payload_bytes", "max_result_bytes", "max_checkpoint_bytes", "max_headers", "max_headers_bytes", "max_tags", "max_dependencies", "max_progress_bytes", "max_log_line_bytes", "max_log_lines", "max_message_bytes", "max_outcomes", "max_slots", "max_jobs_per_call", "max_workflow_call_bytes", "max_workflow_nodes", "max_ids", "max_filter_bytes", "max_page_size", "max_delay", "max_timeout")
    MAX_PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_CHECKPOINT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_HEADERS_FIELD_NUMBER: _ClassVar[int]
    MAX_HEADERS_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TAGS_FIELD_NUMBER: _ClassVar[int]
    MAX_DEPENDENCIES_FIELD_NUMBER: _ClassVar[int]
    MAX_PROGRESS_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_LOG_LINE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_LOG_LINES_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    MAX_SLOTS_FIELD_NUMBER: _ClassVar[int]
    MAX_JOBS_PER_CALL_FIELD_NUMBER: _ClassVar[int]
    MAX_WORKFLOW_CALL_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_WORKFLOW_NODES_FIELD_NUMBER: _ClassVar[int]
    MAX_IDS_FIELD_NUMBER: _ClassVar[int]
    MAX_FILTER_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_DELAY_FIELD_NUMBER: _ClassVar[int]
    MAX_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    max_payload_bytes: int
    max_result_bytes: int
    max_checkpoint_bytes: int
    max_headers: int
    max_headers_bytes: int
    max_tags: int
    max_dependencies: int
    max_progress_bytes: int
    max_log_line_bytes: int
    max_log_lines: int
    max_message_bytes: int
    max_outcomes: int
    max_slots: int
    max_jobs_per_call: int
    max_workflow_call_bytes: int
    max_workflow_nodes: int
    max_ids: int
    max_filter_bytes: int
    max_page_size: int
    max_delay: _duration_pb2.Duration
    max_timeout: _duration_pb2.Duration
    def __init__(self, max_payload_bytes: _Optional[int] = ..., max_result_bytes: _Optional[int] = ..., max_checkpoint_bytes: _Optional[int] = ..., max_headers: _Optional[int] = ..., max_headers_bytes: _Optional[int] = ..., max_tags: _Optional[int] = ..., max_dependencies: _Optional[int] = ..., max_progress_bytes: _Optional[int] = ..., max_log_line_bytes: _Optional[int] = ..., max_log_lines: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_outcomes: _Optional[int] = ..., max_slots: _Optional[int] = ..., max_jobs_per_call: _Optional[int] = ..., max_workflow_call_bytes: _Optional[int] = ..., max_workflow_nodes: _Optional[int] = ..., max_ids: _Optional[int] = ..., max_filter_bytes: _Optional[int] = ..., max_page_size: _Optional[int] = ..., max_delay: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., max_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...
