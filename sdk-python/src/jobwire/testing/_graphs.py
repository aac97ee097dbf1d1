"""Workflows of the fake, and jobs that wait for others: what becomes of them when what they wait for has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from .._convert import timestamp
from .._errors import InvalidArgument, JobwireError, NotFound, error_of
from .._types import JobState
from ..v1 import common_pb2, job_pb2, worker_service_pb2
from ..v1 import workflow_service_pb2 as pb
from ._record import Record, number_of

if TYPE_CHECKING:
    from ._broker import Broker


@dataclass
class Graph:
    """One workflow."""

    spec: pb.WorkflowSpec
    created: datetime
    open: bool
    nodes: dict[str, str] = field(default_factory=dict)  # name → job
    groups: dict[str, list[str]] = field(default_factory=dict)  # name → names of nodes
    state: int = pb.WORKFLOW_STATE_RUNNING
    cancelled: bool = False
    finished: datetime | None = None
    callbacks: list[str] = field(default_factory=list)


class Graphs:
    """All of them. `look` is called whenever something may have ended."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.graphs: dict[str, Graph] = {}
        self._looking = False

    def create(self, request: pb.CreateWorkflowRequest) -> pb.CreateWorkflowResponse:
        """A workflow with its first nodes."""
        spec = request.workflow
        if spec.on_node_failure not in (0, pb.WORKFLOW_FAILURE_POLICY_CANCEL_DEPENDANTS):
            raise _unknown("on_node_failure other than cancel_dependants")
        if spec.HasField("total_timeout") or spec.parent_workflow_id:
            raise _unknown("total_timeout and parents of workflows")
        if spec.id not in self.graphs:
            self.graphs[spec.id] = Graph(spec, self._broker.now, spec.open)
            self._add(self.graphs[spec.id], spec.nodes)
        return pb.CreateWorkflowResponse(workflow_id=spec.id, job_ids=self.graphs[spec.id].nodes)

    def add(self, request: pb.AddWorkflowNodesRequest) -> pb.AddWorkflowNodesResponse:
        """More nodes."""
        graph = self.get(request.workflow_id)
        if not graph.open and not all(node.name in graph.nodes for node in request.nodes):
            raise error_of("FAILED_PRECONDITION", "the workflow is closed", reason="WORKFLOW_CLOSED")
        return pb.AddWorkflowNodesResponse(job_ids=self._add(graph, request.nodes))

    def get(self, id: str) -> Graph:
        """A workflow; NotFound when there is none."""
        if id not in self.graphs:
            raise NotFound(f"there is no workflow {id}", reason="WORKFLOW_NOT_FOUND")
        return self.graphs[id]

    def close(self, id: str) -> pb.CloseWorkflowResponse:
        """No more nodes will come."""
        self.get(id).open = False
        self.look()
        return pb.CloseWorkflowResponse(workflow=self.message(id))

    def cancel(self, id: str, reason: str) -> None:
        """Ends what has not ended."""
        graph = self.get(id)
        if graph.finished is not None:
            raise error_of("FAILED_PRECONDITION", "the workflow has ended", reason="WORKFLOW_CLOSED")
        graph.open, graph.cancelled = False, True
        for job in graph.nodes.values():
            if not self._broker.records[job].state.terminal:
                self._broker.cancel(job, reason)
        self.look()

    def message(self, id: str) -> pb.Workflow:
        """The record as the contract has it."""
        graph = self.get(id)
        records = [self._broker.records[job] for job in graph.nodes.values()]
        states = [record.state for record in records]
        message = pb.Workflow(
            id=id,
            name=graph.spec.name,
            state=graph.state,  # type: ignore[arg-type]
            open=graph.open,
            node_count=len(records),
            tags=graph.spec.tags,
            percent=100.0 * sum(state.terminal for state in states) / max(len(states), 1),
            counts=[pb.WorkflowNodeCount(state=number_of(state), count=states.count(state)) for state in set(states)],
            create_time=timestamp(graph.created, "create_time"),
            callback_job_ids=graph.callbacks,
        )
        if graph.finished is not None:
            message.finish_time.CopyFrom(timestamp(graph.finished, "finish_time"))
        return message

    def statuses(self, request: pb.ListWorkflowNodesRequest) -> pb.ListWorkflowNodesResponse:
        """The nodes. Of filters `name = "…"` is known."""
        graph, wanted = self.get(request.workflow_id), request.filter.removeprefix('name = "').removesuffix('"')
        if request.filter and request.filter != f'name = "{wanted}"':
            raise _unknown(f"the filter {request.filter}")
        response = pb.ListWorkflowNodesResponse()
        for name, job in graph.nodes.items():
            if not wanted or name == wanted:
                record = self._broker.records[job]
                response.nodes.add(name=name, job_id=job, state=number_of(record.state), failure=record.failure)
        return response

    def blocked(self, record: Record) -> bool:
        """It waits for others."""
        return any(self._holds(record, dependency) is not True for dependency in record.spec.depends_on)

    def results(self, record: Record) -> Iterator[worker_service_pb2.DependencyResult]:
        """What a job asked for of those that it waited for."""
        for dependency in record.spec.depends_on:
            for name, parent in self._parents(record, dependency):
                if dependency.pass_result:
                    yield worker_service_pb2.DependencyResult(
                        alias=dependency.alias or name,
                        job_id=parent.id,
                        state=number_of(parent.state),
                        result=parent.result,
                        failure=parent.failure,
                    )

    def look(self) -> None:
        """Lets go who need not wait any more, cancels who would wait for ever, and ends workflows."""
        if self._looking:
            return
        self._looking = True
        try:
            while self._moves():
                pass
        finally:
            self._looking = False

    # --- inside ---------------------------------------------------------------------------------------------------

    def _add(self, graph: Graph, nodes: Iterable[pb.WorkflowNode]) -> dict[str, str]:
        added = {}
        for node in nodes:
            known = graph.nodes.get(node.name)
            if known is None:
                spec = job_pb2.JobSpec()
                spec.CopyFrom(node.job)
                record = self._broker.admit_node(spec, graph.spec.id, node.name)
                graph.nodes[node.name] = known = record.id
                if node.group:
                    graph.groups.setdefault(node.group, []).append(node.name)
            added[node.name] = known
        for node in nodes:
            for dependency in node.job.depends_on:
                target = dependency.WhichOneof("target")
                if target == "node" and dependency.node not in graph.nodes:
                    raise InvalidArgument(f"node: there is no node {dependency.node!r}", field="depends_on.node")
        self.look()
        return added

    def _moves(self) -> bool:
        moved = False
        for record in list(self._broker.records.values()):
            if record.state is JobState.BLOCKED:
                held = [self._holds(record, dependency) for dependency in record.spec.depends_on]
                if None in held:
                    failure = common_pb2.Failure(kind=common_pb2.FAILURE_KIND_DEPENDENCY, message="it waited in vain")
                    self._broker.finish(record, JobState.CANCELLED, failure=failure)
                elif all(held):
                    record.state = JobState.SCHEDULED if record.due > self._broker.now else JobState.READY
                moved = moved or record.state is not JobState.BLOCKED
        ended = [self._ends(graph) for graph in self.graphs.values() if graph.finished is None]
        return moved or any(ended)

    def _ends(self, graph: Graph) -> bool:
        records = {name: self._broker.records[job] for name, job in graph.nodes.items()}
        if graph.open or not all(record.state.terminal for record in records.values()):
            return False
        awaited = {
            name
            for record in records.values()
            for dependency in record.spec.depends_on
            if dependency.condition > job_pb2.DEPENDENCY_CONDITION_SUCCEEDED
            for name in ([dependency.node] if dependency.node else graph.groups.get(dependency.group, []))
        }
        failed = any(
            record.state is not JobState.SUCCEEDED
            and name not in awaited
            and not (record.failure and record.failure.kind == common_pb2.FAILURE_KIND_DEPENDENCY)
            for name, record in records.items()
        )
        ended = pb.WORKFLOW_STATE_FAILED if failed else pb.WORKFLOW_STATE_SUCCEEDED
        graph.state = pb.WORKFLOW_STATE_CANCELLED if graph.cancelled else ended
        graph.finished = self._broker.now
        success = graph.state == pb.WORKFLOW_STATE_SUCCEEDED
        for name in ("on_success" if success else "on_failure", "on_finish"):
            if graph.spec.HasField(name):
                callback = job_pb2.JobSpec()
                callback.CopyFrom(getattr(graph.spec, name))
                graph.callbacks.append(self._broker.enqueue(callback)[0].id)
        return True

    def _holds(self, record: Record, dependency: job_pb2.Dependency) -> bool | None:
        """True: satisfied. False: not yet. None: never."""
        parents = [parent for _, parent in self._parents(record, dependency)]
        if dependency.WhichOneof("target") != "group" and not parents:
            return None
        if not all(parent.state.terminal for parent in parents):
            fits = _CONDITIONS[dependency.condition]
            hopeless = any(parent.state.terminal and not fits(parent.state) for parent in parents)
            return None if hopeless else False
        return True if all(_CONDITIONS[dependency.condition](parent.state) for parent in parents) else None

    def _parents(self, record: Record, dependency: job_pb2.Dependency) -> list[tuple[str, Record]]:
        target = dependency.WhichOneof("target")
        graph = self.graphs.get(record.workflow_id)
        if target == "job_id":
            names = {dependency.job_id: dependency.job_id}
        elif graph is None:
            return []
        elif target == "node":
            names = {dependency.node: graph.nodes.get(dependency.node, "")}
        else:
            names = {name: graph.nodes[name] for name in graph.groups.get(dependency.group, [])}
        return [(name, self._broker.records[job]) for name, job in names.items() if job in self._broker.records]


_CONDITIONS: dict[int, Callable[[JobState], bool]] = {
    0: lambda state: state is JobState.SUCCEEDED,
    1: lambda state: state is JobState.SUCCEEDED,
    2: lambda state: state is not JobState.SUCCEEDED,
    3: lambda state: True,
}


def _unknown(what: str) -> JobwireError:
    message = f"the fake does not know {what}: use jobwire.testing.test_server() for this test"
    return error_of("UNIMPLEMENTED", message, reason="FEATURE_DISABLED", field="workflow")
