"""The handle of one workflow, and how a flow becomes one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._convert import duration, failure_of, progress_of, short_name, state_of, time_of
from ._errors import DeadlineExceeded, JobwireError, NotFound, WorkflowFailed
from ._flow import Flow, Node, NodeGroup
from ._ids import uuid7
from ._instrument import instrument
from ._job import Job
from ._records import BulkResult, WorkflowNodeStatus, WorkflowState, WorkflowStatus
from ._service import Service, selected
from ._types import Duration, JobState, to_seconds
from .v1 import worker_service_pb2
from .v1 import workflow_service_pb2 as pb

if TYPE_CHECKING:
    from ._client import Client
    from ._leases import Lease

R = TypeVar("R")
PAGE = 500
NODES_MAX, BYTES_MAX = 1000, 1 << 20  # of one call
ONE_WAIT = 60.0  # seconds, of one WaitWorkflow


class Workflow(Generic[R]):
    """A workflow by its id. Holds no state of its own: each method asks the server.

    `status`, `nodes` and `wait` need scope `read`; `cancel` and `retry` need `admin`. Every method has a twin for
    asyncio with an `a` before its name.
    """

    def __init__(
        self,
        client: Client,
        id: str,
        job_ids: Mapping[str, str] | None = None,
        flow: Flow | None = None,
    ) -> None:
        self.id = id
        self._client = client
        self._service = Workflows(client)
        self._job_ids = dict(job_ids or {})
        self._ends: Any = flow._ends if flow is not None else None
        self._decoders: Mapping[str, Callable[[Any], Any]] = flow._decoders if flow is not None else {}

    def __repr__(self) -> str:
        return f"<Workflow {self.id}>"

    def status(self) -> WorkflowStatus:
        """The record now. NotFound when it is gone."""
        return self._service.get(self.id)

    async def astatus(self) -> WorkflowStatus:
        """`status` for asyncio."""
        return await self._service.aget(self.id)

    def nodes(self, filter: str = "") -> Iterator[WorkflowNodeStatus]:
        """Its nodes, page by page. filter: over name, group and state."""
        return self._service.nodes(self.id, filter)

    def anodes(self, filter: str = "") -> AsyncIterator[WorkflowNodeStatus]:
        """`nodes` for asyncio."""
        return self._service.anodes(self.id, filter)

    def job(self, node: str | Node[Any]) -> Job[Any]:
        """The handle of a node's job. NotFound when there is no such node."""
        name = _name(node)
        if name not in self._job_ids:
            self._know(self.nodes(f'name = "{name}"'))
        return self._job(name)

    async def ajob(self, node: str | Node[Any]) -> Job[Any]:
        """`job` for asyncio."""
        name = _name(node)
        if name not in self._job_ids:
            self._know([found async for found in self.anodes(f'name = "{name}"')])
        return self._job(name)

    def wait(self, timeout: Duration | None = None) -> WorkflowStatus:
        """Waits for the end, whichever it is. DeadlineExceeded after `timeout`; None waits for ever."""
        limit = _Limit(timeout, self.id)
        while True:
            response = self._client._call("WaitWorkflow", limit.request())
            if response.finished:
                return status_of(response.workflow)

    async def await_end(self, timeout: Duration | None = None) -> WorkflowStatus:
        """`wait` for asyncio."""
        limit = _Limit(timeout, self.id)
        while True:
            response = await self._client._acall("WaitWorkflow", limit.request())
            if response.finished:
                return status_of(response.workflow)

    def result(self, timeout: Duration | None = None) -> R:
        """Waits for success and returns what the last step returned; of a group, the list of results.

        Raises WorkflowFailed with the failure of each node when it ends otherwise, DeadlineExceeded after `timeout`. A
        Flow has no last step: ask its nodes, `workflow.job("name").result()`.
        """
        ends = self._last()
        status = self.wait(timeout)
        if status.state is not WorkflowState.SUCCEEDED:
            raise _failed(status, self.nodes())
        results = [self._job(node.name).result() for node in ends]
        shaped: R = self._shaped(results)
        return shaped

    async def aresult(self, timeout: Duration | None = None) -> R:
        """`result` for asyncio."""
        ends = self._last()
        status = await self.await_end(timeout)
        if status.state is not WorkflowState.SUCCEEDED:
            raise _failed(status, [node async for node in self.anodes()])
        results = await asyncio.gather(*(self._job(node.name).aresult() for node in ends))
        shaped: R = self._shaped(list(results))
        return shaped

    def cancel(self, reason: str = "", grace: Duration | None = None) -> bool:
        """Cancels every node that has not ended. False: it had ended already. grace: for running handlers."""
        return self._service.cancel(self.id, reason=reason, grace=grace).affected > 0

    async def acancel(self, reason: str = "", grace: Duration | None = None) -> bool:
        """`cancel` for asyncio."""
        return (await self._service.acancel(self.id, reason=reason, grace=grace)).affected > 0

    def retry(self) -> bool:
        """Runs failed nodes again, and revives what was cancelled because of them. False: nothing has failed."""
        return self._service.retry(self.id).affected > 0

    async def aretry(self) -> bool:
        """`retry` for asyncio."""
        return (await self._service.aretry(self.id)).affected > 0

    def node(self, name: str) -> Node[Any]:
        """What stands for a node that is there, in arguments and `after` of nodes that are added."""
        return Node(name)

    def add(self, job: Any, payload: Any = None, /, **options: Any) -> Any:
        """Adds a node to a workflow that is open (`open=True` of Flow), until somebody closes it; as `Flow.add`.

        Several together, all or nothing: `workflow.extend(flow)`. A handler that may run twice names its nodes.
        """
        flow = self._more()
        added = flow.add(job, payload, **options)
        self.extend(flow)
        return added

    async def aadd(self, job: Any, payload: Any = None, /, **options: Any) -> Any:
        """`add` for asyncio."""
        flow = self._more()
        added = flow.add(job, payload, **options)
        await self.aextend(flow)
        return added

    def extend(self, flow: Flow) -> None:
        """Adds the nodes of a flow."""
        for request in additions(self.id, flow._messages):
            self._added(flow, self._client._call("AddWorkflowNodes", request))

    async def aextend(self, flow: Flow) -> None:
        """`extend` for asyncio."""
        for request in additions(self.id, flow._messages):
            self._added(flow, await self._client._acall("AddWorkflowNodes", request))

    def close(self) -> WorkflowStatus:
        """No more nodes will come: it ends when the last one does."""
        return status_of(self._client._call("CloseWorkflow", pb.CloseWorkflowRequest(workflow_id=self.id)).workflow)

    async def aclose(self) -> WorkflowStatus:
        """`close` for asyncio."""
        request = pb.CloseWorkflowRequest(workflow_id=self.id)
        return status_of((await self._client._acall("CloseWorkflow", request)).workflow)

    def _more(self) -> Flow:
        flow = Flow()
        flow._fresh = uuid7()[-12:]
        return flow

    def _added(self, flow: Flow, response: pb.AddWorkflowNodesResponse) -> None:
        self._job_ids.update(response.job_ids)
        self._decoders = {**self._decoders, **flow._decoders}

    def _know(self, nodes: Iterable[WorkflowNodeStatus]) -> None:
        self._job_ids.update((node.name, node.job_id) for node in nodes if node.job_id)

    def _job(self, name: str) -> Job[Any]:
        id = self._job_ids.get(name)
        if id is None:
            raise NotFound(f"workflow {self.id} has no node {name!r}", reason="JOB_NOT_FOUND")
        return Job(self._client, id, self._decoders.get(name, _plain))

    def _last(self) -> list[Node[Any]]:
        if self._ends is None:
            raise TypeError("which result? of a node: workflow.job(name).result(); chain, group and chord have one")
        return list(self._ends.nodes) if isinstance(self._ends, NodeGroup) else [self._ends]

    def _shaped(self, results: list[Any]) -> Any:
        return results if isinstance(self._ends, NodeGroup) else results[0]


class _Limit:
    """The time that a wait has left, request by request."""

    def __init__(self, timeout: Duration | None, id: str) -> None:
        self._until = None if timeout is None else time.monotonic() + to_seconds(timeout, "timeout")
        self._timeout, self._id, self._first = timeout, id, True

    def request(self) -> pb.WaitWorkflowRequest:
        rest = ONE_WAIT if self._until is None else self._until - time.monotonic()
        if rest <= 0 and not self._first:
            raise DeadlineExceeded(f"end of workflow {self._id}: not there after {self._timeout}")
        self._first = False
        return pb.WaitWorkflowRequest(id=self._id, timeout=duration(max(min(rest, ONE_WAIT, 25.0), 0.0)))


def _name(node: str | Node[Any]) -> str:
    return node.name if isinstance(node, Node) else node


def _failed(status: WorkflowStatus, nodes: Iterable[WorkflowNodeStatus]) -> WorkflowFailed:
    failures = {
        node.name: node.failure
        for node in nodes
        if node.failure is not None and node.state in (JobState.DEAD, JobState.DISCARDED, JobState.EXPIRED)
    }
    first = next(iter(failures.items()), None)
    about = f": {first[0]}: {first[1].type}: {first[1].message}" if first else ""
    return WorkflowFailed(
        f"workflow {status.name or status.id} ended {status.state.name}{about}", status=status, failures=failures
    )


# --- creating -----------------------------------------------------------------------------------------------------


def start(client: Client, flow: Flow) -> Workflow[Any]:
    """Creates the workflow, in one call when it fits."""
    creation, more = _requests(flow)
    response = client._call("CreateWorkflow", creation)
    workflow: Workflow[Any] = Workflow(client, response.workflow_id, response.job_ids, flow)
    if more:
        try:
            for request in additions(workflow.id, more):
                workflow._job_ids.update(client._call("AddWorkflowNodes", request).job_ids)
            if not flow._spec.open:
                workflow.close()
        except JobwireError:
            workflow.cancel("it could not be created as a whole", grace=0)
            raise
    return workflow


async def astart(client: Client, flow: Flow) -> Workflow[Any]:
    """`start` for asyncio."""
    creation, more = _requests(flow)
    response = await client._acall("CreateWorkflow", creation)
    workflow: Workflow[Any] = Workflow(client, response.workflow_id, response.job_ids, flow)
    if more:
        try:
            for request in additions(workflow.id, more):
                workflow._job_ids.update((await client._acall("AddWorkflowNodes", request)).job_ids)
            if not flow._spec.open:
                await workflow.aclose()
        except JobwireError:
            await workflow.acancel("it could not be created as a whole", grace=0)
            raise
    return workflow


def _requests(flow: Flow) -> tuple[pb.CreateWorkflowRequest, list[pb.WorkflowNode]]:
    """The call that creates it, and the nodes that come later."""
    for message in flow._messages:
        instrument().spawning(message.job)
    size = flow._spec.ByteSize()
    first = _fitting(flow._messages, size)
    spec = pb.WorkflowSpec()
    spec.CopyFrom(flow._spec)
    spec.nodes.extend(flow._messages[:first])
    spec.open = spec.open or first < len(flow._messages)
    return pb.CreateWorkflowRequest(workflow=spec), flow._messages[first:]


def additions(id: str, nodes: list[pb.WorkflowNode]) -> Iterator[pb.AddWorkflowNodesRequest]:
    """Calls that add nodes, as many in each as fit. Parents come before what waits for them."""
    while nodes:
        count = _fitting(nodes, 0)
        yield pb.AddWorkflowNodesRequest(workflow_id=id, nodes=nodes[:count])
        nodes = nodes[count:]


def _fitting(nodes: list[pb.WorkflowNode], size: int) -> int:
    """How many of the first ones go into one call; at least one."""
    for count, node in enumerate(nodes[:NODES_MAX]):
        size += node.ByteSize() + 8
        if size > BYTES_MAX - 4096 and count:
            return count
    return min(len(nodes), NODES_MAX)


def fetch_results(client: Client, lease: Lease) -> None:
    """Completes the results of other jobs that did not fit into a lease."""
    request = worker_service_pb2.ListDependencyResultsRequest(job_id=lease.job.task.id, page_size=PAGE)
    results: list[worker_service_pb2.DependencyResult] = []
    while True:
        response = client._call("ListDependencyResults", request)
        results += response.results
        if not response.next_page_token:
            break
        request.page_token = response.next_page_token
    del lease.job.dependencies[:]
    lease.job.dependencies.extend(results)
    lease.job.dependencies_truncated = False


# --- client.workflows ---------------------------------------------------------------------------------------------


class Workflows(Service):
    """Workflows of the deployment. Reading needs scope `read`, the rest `admin`.

    Bulk calls take ids or handles, or a `filter`. Every method has a twin for asyncio: `aget`, `alist` …
    """

    def get(self, id: str) -> WorkflowStatus:
        """A workflow by its id. NotFound when there is none."""
        return status_of(self._call("GetWorkflow", pb.GetWorkflowRequest(id=id)).workflow)

    async def aget(self, id: str) -> WorkflowStatus:
        """`get` for asyncio."""
        return status_of((await self._acall("GetWorkflow", pb.GetWorkflowRequest(id=id))).workflow)

    def list(self, filter: str = "") -> Iterator[WorkflowStatus]:
        """Workflows page by page. filter: over id, name, state, tag, create_time, finish_time, parent_workflow_id."""
        return self._pages("ListWorkflows", pb.ListWorkflowsRequest(filter=filter, page_size=PAGE), _listed)

    def alist(self, filter: str = "") -> AsyncIterator[WorkflowStatus]:
        """`list` for asyncio."""
        return self._apages("ListWorkflows", pb.ListWorkflowsRequest(filter=filter, page_size=PAGE), _listed)

    def nodes(self, id: str, filter: str = "") -> Iterator[WorkflowNodeStatus]:
        """The nodes of a workflow, page by page. filter: over name, group and state."""
        request = pb.ListWorkflowNodesRequest(workflow_id=id, filter=filter, page_size=PAGE)
        return self._pages("ListWorkflowNodes", request, _nodes)

    def anodes(self, id: str, filter: str = "") -> AsyncIterator[WorkflowNodeStatus]:
        """`nodes` for asyncio."""
        request = pb.ListWorkflowNodesRequest(workflow_id=id, filter=filter, page_size=PAGE)
        return self._apages("ListWorkflowNodes", request, _nodes)

    def cancel(
        self,
        *ids: str | Workflow[Any],
        filter: str = "",
        reason: str = "",
        grace: Duration | None = None,
        limit: int | None = None,
        dry_run: bool = False,
    ) -> BulkResult:
        """Cancels every node that has not ended. grace: for running handlers; None = as long as it takes."""
        request = _cancel(reason, grace, dry_run)
        return self._bulk("CancelWorkflows", selected(request, ids, filter), limit=limit)

    async def acancel(
        self,
        *ids: str | Workflow[Any],
        filter: str = "",
        reason: str = "",
        grace: Duration | None = None,
        limit: int | None = None,
        dry_run: bool = False,
    ) -> BulkResult:
        """`cancel` for asyncio."""
        request = _cancel(reason, grace, dry_run)
        return await self._abulk("CancelWorkflows", selected(request, ids, filter), limit=limit)

    def retry(
        self, *ids: str | Workflow[Any], filter: str = "", limit: int | None = None, dry_run: bool = False
    ) -> BulkResult:
        """Runs failed nodes again, and revives what was cancelled because of them."""
        request = pb.RetryWorkflowsRequest(dry_run=dry_run)
        return self._bulk("RetryWorkflows", selected(request, ids, filter), limit=limit, repeat=False)

    async def aretry(
        self, *ids: str | Workflow[Any], filter: str = "", limit: int | None = None, dry_run: bool = False
    ) -> BulkResult:
        """`retry` for asyncio."""
        request = pb.RetryWorkflowsRequest(dry_run=dry_run)
        return await self._abulk("RetryWorkflows", selected(request, ids, filter), limit=limit, repeat=False)

    def delete(
        self, *ids: str | Workflow[Any], filter: str = "", force: bool = False, limit: int | None = None
    ) -> BulkResult:
        """Deletes workflows with their nodes. force: by filter, and where not ended; without it those are counted."""
        request = pb.DeleteWorkflowsRequest(force=force)
        return self._bulk("DeleteWorkflows", selected(request, ids, filter), limit=limit)

    async def adelete(
        self, *ids: str | Workflow[Any], filter: str = "", force: bool = False, limit: int | None = None
    ) -> BulkResult:
        """`delete` for asyncio."""
        request = pb.DeleteWorkflowsRequest(force=force)
        return await self._abulk("DeleteWorkflows", selected(request, ids, filter), limit=limit)


def _cancel(reason: str, grace: Duration | None, dry_run: bool) -> pb.CancelWorkflowsRequest:
    request = pb.CancelWorkflowsRequest(reason=reason, dry_run=dry_run)
    if grace is not None:
        request.grace.CopyFrom(duration(grace, "grace"))
    return request


def _listed(response: pb.ListWorkflowsResponse) -> Iterator[WorkflowStatus]:
    return map(status_of, response.workflows)


def _nodes(response: pb.ListWorkflowNodesResponse) -> Iterator[WorkflowNodeStatus]:
    return map(_node_of, response.nodes)


def status_of(message: pb.Workflow) -> WorkflowStatus:
    """The public record of a workflow."""
    return WorkflowStatus(
        id=message.id,
        name=message.name,
        state=_state(short_name(pb.WorkflowState, message.state)),
        open=message.open,
        node_count=message.node_count,
        counts={state_of(entry.state): entry.count for entry in message.counts},
        percent=message.percent,
        create_time=time_of(message, "create_time"),
        finish_time=time_of(message, "finish_time"),
        purge_time=time_of(message, "purge_time"),
        parent_workflow_id=message.parent_workflow_id,
        tags=tuple(message.tags),
        callback_job_ids=tuple(message.callback_job_ids),
    )


def _state(name: str) -> WorkflowState:
    try:
        return WorkflowState(name)
    except ValueError:
        return WorkflowState.UNKNOWN


def _node_of(message: pb.WorkflowNodeStatus) -> WorkflowNodeStatus:
    return WorkflowNodeStatus(
        name=message.name,
        group=message.group,
        job_id=message.job_id,
        state=state_of(message.state),
        progress=progress_of(message.progress) if message.HasField("progress") else None,
        failure=failure_of(message.failure) if message.HasField("failure") else None,
        start_time=time_of(message, "start_time"),
        finish_time=time_of(message, "finish_time"),
    )


def _plain(value: Any) -> Any:
    return value
