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

class WorkflowFailurePolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKFLOW_FAILURE_POLICY_UNSPECIFIED: _ClassVar[WorkflowFailurePolicy]
    WORKFLOW_FAILURE_POLICY_CANCEL_DEPENDANTS: _ClassVar[WorkflowFailurePolicy]
    WORKFLOW_FAILURE_POLICY_CANCEL_ALL: _ClassVar[WorkflowFailurePolicy]
    WORKFLOW_FAILURE_POLICY_HOLD: _ClassVar[WorkflowFailurePolicy]

class WorkflowState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKFLOW_STATE_UNSPECIFIED: _ClassVar[WorkflowState]
    WORKFLOW_STATE_RUNNING: _ClassVar[WorkflowState]
    WORKFLOW_STATE_HELD: _ClassVar[WorkflowState]
    WORKFLOW_STATE_SUCCEEDED: _ClassVar[WorkflowState]
    WORKFLOW_STATE_FAILED: _ClassVar[WorkflowState]
    WORKFLOW_STATE_CANCELLED: _ClassVar[WorkflowState]
WORKFLOW_FAILURE_POLICY_UNSPECIFIED: WorkflowFailurePolicy
WORKFLOW_FAILURE_POLICY_CANCEL_DEPENDANTS: WorkflowFailurePolicy
WORKFLOW_FAILURE_POLICY_CANCEL_ALL: WorkflowFailurePolicy
WORKFLOW_FAILURE_POLICY_HOLD: WorkflowFailurePolicy
WORKFLOW_STATE_UNSPECIFIED: WorkflowState
WORKFLOW_STATE_RUNNING: WorkflowState
WORKFLOW_STATE_HELD: WorkflowState
WORKFLOW_STATE_SUCCEEDED: WorkflowState
WORKFLOW_STATE_FAILED: WorkflowState
WORKFLOW_STATE_CANCELLED: WorkflowState

class WorkflowSpec(_message.Message):
    __slots__ = ("id", "name", "nodes", "on_node_failure", "on_success", "on_failure", "on_finish", "open", "parent_workflow_id", "tags", "total_timeout", "retention")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    ON_NODE_FAILURE_FIELD_NUMBER: _ClassVar[int]
    ON_SUCCESS_FIELD_NUMBER: _ClassVar[int]
    ON_FAILURE_FIELD_NUMBER: _ClassVar[int]
    ON_FINISH_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    PARENT_WORKFLOW_ID_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    RETENTION_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    nodes: _containers.RepeatedCompositeFieldContainer[WorkflowNode]
    on_node_failure: WorkflowFailurePolicy
    on_success: _job_pb2.JobSpec
    on_failure: _job_pb2.JobSpec
    on_finish: _job_pb2.JobSpec
    open: bool
    parent_workflow_id: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    total_timeout: _duration_pb2.Duration
    retention: _duration_pb2.Duration
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[WorkflowNode, _Mapping]]] = ..., on_node_failure: _Optional[_Union[WorkflowFailurePolicy, str]] = ..., on_success: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ..., on_failure: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ..., on_finish: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ..., open: bool = ..., parent_workflow_id: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., total_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., retention: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WorkflowNode(_message.Message):
    __slots__ = ("name", "group", "job")
    NAME_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    name: str
    group: str
    job: _job_pb2.JobSpec
    def __init__(self, name: _Optional[str] = ..., group: _Optional[str] = ..., job: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ...) -> None: ...

class Workflow(_message.Message):
    __slots__ = ("id", "name", "state", "open", "on_node_failure", "node_count", "counts", "percent", "create_time", "finish_time", "purge_time", "parent_workflow_id", "tags", "callback_job_ids")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ON_NODE_FAILURE_FIELD_NUMBER: _ClassVar[int]
    NODE_COUNT_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    FINISH_TIME_FIELD_NUMBER: _ClassVar[int]
    PURGE_TIME_FIELD_NUMBER: _ClassVar[int]
    PARENT_WORKFLOW_ID_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    CALLBACK_JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    state: WorkflowState
    open: bool
    on_node_failure: WorkflowFailurePolicy
    node_count: int
    counts: _containers.RepeatedCompositeFieldContainer[WorkflowNodeCount]
    percent: float
    create_time: _timestamp_pb2.Timestamp
    finish_time: _timestamp_pb2.Timestamp
    purge_time: _timestamp_pb2.Timestamp
    parent_workflow_id: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    callback_job_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[_Union[WorkflowState, str]] = ..., open: bool = ..., on_node_failure: _Optional[_Union[WorkflowFailurePolicy, str]] = ..., node_count: _Optional[int] = ..., counts: _Optional[_Iterable[_Union[WorkflowNodeCount, _Mapping]]] = ..., percent: _Optional[float] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., finish_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., purge_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., parent_workflow_id: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., callback_job_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class WorkflowNodeCount(_message.Message):
    __slots__ = ("state", "count")
    STATE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    state: _job_pb2.JobState
    count: int
    def __init__(self, state: _Optional[_Union[_job_pb2.JobState, str]] = ..., count: _Optional[int] = ...) -> None: ...

class WorkflowNodeStatus(_message.Message):
    __slots__ = ("name", "group", "job_id", "state", "depends_on", "progress", "failure", "start_time", "finish_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DEPENDS_ON_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    FINISH_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    group: str
    job_id: str
    state: _job_pb2.JobState
    depends_on: _containers.RepeatedCompositeFieldContainer[_job_pb2.Dependency]
    progress: _job_pb2.Progress
    failure: _common_pb2.Failure
    start_time: _timestamp_pb2.Timestamp
    finish_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., group: _Optional[str] = ..., job_id: _Optional[str] = ..., state: _Optional[_Union[_job_pb2.JobState, str]] = ..., depends_on: _Optional[_Iterable[_Union[_job_pb2.Dependency, _Mapping]]] = ..., progress: _Optional[_Union[_job_pb2.Progress, _Mapping]] = ..., failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ..., start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., finish_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateWorkflowRequest(_message.Message):
    __slots__ = ("workflow", "validate_only")
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    workflow: WorkflowSpec
    validate_only: bool
    def __init__(self, workflow: _Optional[_Union[WorkflowSpec, _Mapping]] = ..., validate_only: bool = ...) -> None: ...

class CreateWorkflowResponse(_message.Message):
    __slots__ = ("workflow_id", "job_ids", "duplicate")
    class JobIdsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    WORKFLOW_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    workflow_id: str
    job_ids: _containers.ScalarMap[str, str]
    duplicate: bool
    def __init__(self, workflow_id: _Optional[str] = ..., job_ids: _Optional[_Mapping[str, str]] = ..., duplicate: bool = ...) -> None: ...

class AddWorkflowNodesRequest(_message.Message):
    __slots__ = ("workflow_id", "nodes")
    WORKFLOW_ID_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    workflow_id: str
    nodes: _containers.RepeatedCompositeFieldContainer[WorkflowNode]
    def __init__(self, workflow_id: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[WorkflowNode, _Mapping]]] = ...) -> None: ...

class AddWorkflowNodesResponse(_message.Message):
    __slots__ = ("job_ids",)
    class JobIdsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    job_ids: _containers.ScalarMap[str, str]
    def __init__(self, job_ids: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CloseWorkflowRequest(_message.Message):
    __slots__ = ("workflow_id",)
    WORKFLOW_ID_FIELD_NUMBER: _ClassVar[int]
    workflow_id: str
    def __init__(self, workflow_id: _Optional[str] = ...) -> None: ...

class CloseWorkflowResponse(_message.Message):
    __slots__ = ("workflow",)
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    workflow: Workflow
    def __init__(self, workflow: _Optional[_Union[Workflow, _Mapping]] = ...) -> None: ...

class GetWorkflowRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetWorkflowResponse(_message.Message):
    __slots__ = ("workflow",)
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    workflow: Workflow
    def __init__(self, workflow: _Optional[_Union[Workflow, _Mapping]] = ...) -> None: ...

class ListWorkflowsRequest(_message.Message):
    __slots__ = ("filter", "page_size", "page_token")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    filter: str
    page_size: int
    page_token: str
    def __init__(self, filter: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListWorkflowsResponse(_message.Message):
    __slots__ = ("workflows", "next_page_token")
    WORKFLOWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    workflows: _containers.RepeatedCompositeFieldContainer[Workflow]
    next_page_token: str
    def __init__(self, workflows: _Optional[_Iterable[_Union[Workflow, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListWorkflowNodesRequest(_message.Message):
    __slots__ = ("workflow_id", "filter", "page_size", "page_token")
    WORKFLOW_ID_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    workflow_id: str
    filter: str
    page_size: int
    page_token: str
    def __init__(self, workflow_id: _Optional[str] = ..., filter: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListWorkflowNodesResponse(_message.Message):
    __slots__ = ("nodes", "next_page_token")
    NODES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[WorkflowNodeStatus]
    next_page_token: str
    def __init__(self, nodes: _Optional[_Iterable[_Union[WorkflowNodeStatus, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WaitWorkflowRequest(_message.Message):
    __slots__ = ("id", "timeout")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    id: str
    timeout: _duration_pb2.Duration
    def __init__(self, id: _Optional[str] = ..., timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WaitWorkflowResponse(_message.Message):
    __slots__ = ("workflow", "finished")
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    workflow: Workflow
    finished: bool
    def __init__(self, workflow: _Optional[_Union[Workflow, _Mapping]] = ..., finished: bool = ...) -> None: ...

class CancelWorkflowsRequest(_message.Message):
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

class CancelWorkflowsResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _common_pb2.BulkResult
    def __init__(self, result: _Optional[_Union[_common_pb2.BulkResult, _Mapping]] = ...) -> None: ...

class RetryWorkflowsRequest(_message.Message):
    __slots__ = ("selector", "dry_run", "limit", "continue_token")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    selector: _common_pb2.Selector
    dry_run: bool
    limit: int
    continue_token: str
    def __init__(self, selector: _Optional[_Union[_common_pb2.Selector, _Mapping]] = ..., dry_run: bool = ..., limit: _Optional[int] = ..., continue_token: _Optional[str] = ...) -> None: ...

class RetryWorkflowsResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _common_pb2.BulkResult
    def __init__(self, result: _Optional[_Union[_common_pb2.BulkResult, _Mapping]] = ...) -> None: ...

class DeleteWorkflowsRequest(_message.Message):
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

class DeleteWorkflowsResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _common_pb2.BulkResult
    def __init__(self, result: _Optional[_Union[_common_pb2.BulkResult, _Mapping]] = ...) -> None: ...
