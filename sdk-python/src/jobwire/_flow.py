"""Flow: the builder of workflows. Nodes are task calls; what goes from one into another is named by arguments."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar, cast, overload

from ._bind import HEADER, LIST
from ._convert import duration, enum_value, payload
from ._errors import InvalidArgument
from ._ids import uuid7
from ._options import job_spec, merge_options
from ._tasks import Task, TaskCall
from ._types import Duration, JobOptions
from .v1 import job_pb2
from .v1 import workflow_service_pb2 as pb

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Unpack

    from ._canvas import Canvas
    from ._client import Client
    from ._workflow import Workflow

R = TypeVar("R")
Condition = Literal["succeeded", "failed", "finished"]
_PASSED_MAX = 50  # single nodes in one argument: their aliases travel in a header


class FlowOptions(TypedDict, total=False):
    """Options of a workflow."""

    id: str  # a UUID, version 7 by preference; default: a fresh one, which makes repeats harmless
    on_node_failure: Literal["cancel_dependants", "cancel_all", "hold"]  # of nodes that wait for it, of all, of none
    on_success: TaskCall[Any]  # enqueued when it has succeeded
    on_failure: TaskCall[Any]  # at the first failure that makes it fail
    on_finish: TaskCall[Any]  # when it has ended, whichever way
    open: bool  # more nodes may come, from handlers of its nodes too; it does not end before `workflow.close()`
    tags: Sequence[str]  # at most 16 of 64 bytes
    total_timeout: Duration  # longest time to its end; then what is left is cancelled; default none
    retention: Duration  # how long to keep it and its nodes; default 1 h, 30 d when it failed


class Node(Generic[R]):
    """A node of a workflow: a task call that runs once what it waits for has ended.

    As an argument of another call it stands for its result: `f.add(report.s(rows=node.result))`.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<Node {self.name}>"

    @property
    def result(self) -> R:
        """Stands for the result where a call takes it; to type checkers it is the result."""
        return cast(R, self)

    @property
    def failed(self) -> After:
        """For `after=[…]`: once it has ended in another way than success. A failure that is awaited is no failure."""
        return After(self, "failed")

    @property
    def finished(self) -> After:
        """For `after=[…]`: once it has ended, whichever way."""
        return After(self, "finished")

    def _target(self) -> dict[str, str]:
        return {"node": self.name}


class NodeGroup(Generic[R]):
    """Nodes that are waited for together, however many there are. As an argument: the list of their results."""

    def __init__(self, name: str, nodes: Sequence[Node[R]]) -> None:
        self.name = name
        self.nodes = tuple(nodes)

    def __repr__(self) -> str:
        return f"<NodeGroup {self.name} of {len(self.nodes)}>"

    @property
    def result(self) -> list[R]:
        """Stands for the list of results where a call takes it."""
        return cast("list[R]", self)

    @property
    def failed(self) -> After:
        """For `after=[…]`: once each of them has ended in another way than success."""
        return After(self, "failed")

    @property
    def finished(self) -> After:
        """For `after=[…]`: once all have ended, whichever way."""
        return After(self, "finished")

    def _target(self) -> dict[str, str]:
        return {"group": self.name}


@dataclass(frozen=True)
class After:
    """A node or group, and how it has to end. Made by `node.failed` and `node.finished`."""

    of: Node[Any] | NodeGroup[Any]
    condition: Condition


class _Previous:
    """Stands for the result of the step before, in the arguments of a step of a chain."""

    def __repr__(self) -> str:
        return "previous"


previous: Any = _Previous()


class Flow:
    """Builds a workflow. `client.start(flow)` creates it, all or nothing; so does the end of a `with` block.

    name: for people, `[A-Za-z0-9_.:/-]`, at most 128 characters. options: see FlowOptions.

        with Flow("nightly") as flow:
            rows = flow.add(extract.s(day))
            flow.add(report.s(rows=rows.result))
        flow.workflow.wait()
    """

    def __init__(self, name: str = "", **options: Unpack[FlowOptions]) -> None:
        self._spec = _spec(name, options)
        self.nodes: dict[str, Node[Any]] = {}  # by name
        self._messages: list[pb.WorkflowNode] = []
        self._decoders: dict[str, Callable[[Any], Any]] = {}
        self._client: Client | None = None
        self._groups = 0
        self._workflow: Workflow[Any] | None = None
        self._ends: Node[Any] | NodeGroup[Any] | None = None  # whose results are the workflow's own
        self._fresh = ""  # in names of one's own making, where others may be known to the server

    @property
    def workflow(self) -> Workflow[Any]:
        """The handle, once the `with` block has ended."""
        if self._workflow is None:
            raise RuntimeError("the workflow is created when the block ends, or by client.start(flow)")
        return self._workflow

    @overload
    def add(
        self, job: TaskCall[R] | Task[..., R], /, *, name: str = ..., group: str = ..., after: Iterable[Any] = ...
    ) -> Node[R]: ...
    @overload
    def add(self, job: Canvas[Any], /, *, after: Iterable[Any] = ...) -> Any: ...
    @overload
    def add(
        self,
        job: str,
        payload: Any = ...,
        /,
        *,
        name: str = ...,
        group: str = ...,
        after: Iterable[Any] = ...,
        options: JobOptions | None = ...,
    ) -> Node[Any]: ...
    def add(
        self,
        job: Any,
        payload: Any = None,
        /,
        *,
        name: str = "",
        group: str = "",
        after: Iterable[Any] = (),
        options: JobOptions | None = None,
    ) -> Any:
        """Adds a node, or those of a chain, group or chord, and gives what stands for its result.

        job: `task.s(…)`, whose arguments may be results of nodes and groups, or lists of them; or a type's name and a
            payload, whose values may be. name: unique in the workflow; default: the type, numbered. group: of nodes
            that are waited for together. after: what has to come first besides: nodes and groups (which have to
            succeed), `node.failed`, `node.finished`, and jobs that are there, or their ids.
        """
        from ._canvas import Canvas

        if isinstance(job, Canvas):
            if name or group or payload is not None or options:
                raise TypeError("name, group and options are of single calls")
            return job._place(self, None, list(after))
        call: TaskCall[Any] | _Named
        if isinstance(job, str):
            call = _Named(job, payload, options or {})
        else:
            call = _call_of(job)
            if payload is not None or options:
                raise TypeError("options of a task call go before the call: task.opts(...).s(...)")
        return self._node(call, None, name, group, list(after))

    def __enter__(self) -> Flow:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self._workflow = self._of_client().start(self)

    # --- inside -------------------------------------------------------------------------------------------------

    def _of_client(self) -> Client:
        if self._client is None:
            raise InvalidArgument("nodes: a flow of type names alone is started by client.start(flow)", field="nodes")
        return self._client

    def _node(
        self,
        call: TaskCall[Any] | _Named,
        before: Node[Any] | NodeGroup[Any] | None,
        name: str = "",
        group: str = "",
        after: Sequence[Any] = (),
    ) -> Node[Any]:
        binding = _Binding()
        if isinstance(call, TaskCall):
            values = _arguments(call, before, binding)
            spec = _task_spec(call, values, bool(binding.header))
            self._client = self._client or call.task._app
            decode: Callable[[Any], Any] = call.task.decode_result
        else:
            values = call.values(before, binding)
            spec = job_spec("", call.type, payload(values), merge_options({}, call.options), ((values,), {}))
            decode = _plain
        binding.write(spec)
        for dependency in after:
            _depend(spec, dependency)
        return self._append(spec, decode, name, group)

    def _append(self, spec: job_pb2.JobSpec, decode: Callable[[Any], Any], name: str, group: str) -> Node[Any]:
        spec.ClearField("id")
        chosen = name or self._name(spec.type)
        if chosen in self.nodes:
            raise InvalidArgument(f"name: there is a node {chosen!r} already", field="nodes.name")
        node: Node[Any] = Node(chosen)
        self.nodes[chosen] = node
        self._decoders[chosen] = decode
        self._messages.append(pb.WorkflowNode(name=chosen, group=group, job=spec))
        return node

    def _name(self, type: str) -> str:
        base = f"{type[:90]}-{self._fresh}" if self._fresh else type[:110]
        number, name = 1, base
        while name in self.nodes:
            number += 1
            name = f"{base}-{number}"
        return name

    def _group_name(self) -> str:
        self._groups += 1
        return f"group-{self._fresh}{self._groups}"

    def _into(self, group: str, node: Node[Any]) -> None:
        message = self._messages[list(self.nodes).index(node.name)]
        message.group = group


class _Named:
    """A call of a type by its name."""

    def __init__(self, type: str, body: Any, options: Mapping[str, Any]) -> None:
        self.type, self.body, self.options = type, body, options

    def values(self, before: Node[Any] | NodeGroup[Any] | None, binding: _Binding) -> Any:
        if before is not None:
            binding.bind("", before)
        if not isinstance(self.body, dict):
            return {} if self.body is None else self.body
        return {key: value for key, value in self.body.items() if not binding.takes(key, value)}


class _Binding:
    """What of the arguments is a result of another node."""

    def __init__(self) -> None:
        self.header: dict[str, str] = {}
        self._dependencies: list[job_pb2.Dependency] = []

    def takes(self, key: str, value: Any) -> bool:
        """Takes an argument out of the payload when it stands for a result, or for several."""
        if isinstance(value, Node | NodeGroup):
            self.bind(key, value)
            return True
        if isinstance(value, list | tuple) and value and all(isinstance(item, Node) for item in value):
            self._bind_list(key, value)
            return True
        return False

    def bind(self, key: str, of: Node[Any] | NodeGroup[Any]) -> None:
        """The result of `of` goes to `key`."""
        many = isinstance(of, NodeGroup)
        alias = key or "previous"
        self.header[alias] = key + LIST if many else key
        if not many or of.nodes:  # type: ignore[union-attr]
            self._dependencies.append(job_pb2.Dependency(**of._target(), pass_result=True, alias=alias))

    def _bind_list(self, key: str, nodes: Sequence[Node[Any]]) -> None:
        if len(nodes) > _PASSED_MAX:
            raise InvalidArgument(
                f"{key}: at most {_PASSED_MAX} nodes in a list; add a group([…]) and hand over its result", field=key
            )
        for node in nodes:
            self.header[node.name] = key + LIST
            self._dependencies.append(job_pb2.Dependency(node=node.name, pass_result=True, alias=node.name))

    def write(self, spec: job_pb2.JobSpec) -> None:
        """Into the job."""
        if self.header:
            spec.headers[HEADER] = json.dumps(self.header, separators=(",", ":"))
        spec.depends_on.extend(self._dependencies)


def _call_of(job: Any) -> TaskCall[Any]:
    """A call; a task alone is one without arguments."""
    if isinstance(job, Task):
        return TaskCall(job, (), {})
    if isinstance(job, TaskCall):
        return job
    raise TypeError(f"expected task.s(...), a task or a type's name, got {type(job).__name__}")


def _arguments(call: TaskCall[Any], before: Node[Any] | NodeGroup[Any] | None, binding: _Binding) -> dict[str, Any]:
    """Arguments by parameter, without those that are results; TypeError as Python itself would raise it."""
    signature = call.task.signature
    values = signature.partial(call.args, call.kwargs)
    place = next((name for name, value in values.items() if value is previous), None)
    if place is not None and before is None:
        raise TypeError(f"{call.task.name}: there is no step before whose result could be {place}")
    if before is not None:
        if place is None and not signature.whole:
            place = next((p.name for p in signature.parameters if p.name not in values), None)
            if place is None:
                raise TypeError(
                    f"{call.task.name}: every parameter is given; which one is the result of the step before?"
                )
        elif place is None:
            place = signature.parameters[0].name
        binding.bind("" if signature.whole else place, before)
        if values.get(place) is previous:
            del values[place]
    taken = {n for n, v in values.items() if binding.takes("" if signature.whole else n, v)}
    signature.check_given(call.task.name, {*values, place} if place else set(values))
    return {name: value for name, value in values.items() if name not in taken}


def _task_spec(call: TaskCall[Any], values: dict[str, Any], waits: bool) -> job_pb2.JobSpec:
    task = call.task
    if waits and (functions := [name for name, option in task.options.items() if callable(option)]):
        raise InvalidArgument(
            f"{functions[0]}: is a function of the input, which is not known before other nodes have ended",
            field=functions[0],
        )
    body = values.get(task.signature.parameters[0].name, {}) if task.signature.whole else values
    return job_spec("", task.name, payload(body), task.options, (call.args, call.kwargs))


def _depend(spec: job_pb2.JobSpec, on: Any) -> None:
    condition = job_pb2.DEPENDENCY_CONDITION_UNSPECIFIED
    if isinstance(on, After):
        condition, on = enum_value(job_pb2.DependencyCondition, on.condition, "after"), on.of
    if isinstance(on, NodeGroup) and not on.nodes:
        return
    if isinstance(on, Node | NodeGroup):
        spec.depends_on.add(**on._target(), condition=condition)
        return
    id = on if isinstance(on, str) else getattr(on, "id", None)
    if not isinstance(id, str):
        raise InvalidArgument(f"after: expected nodes, groups, jobs or ids, got {on!r}", field="after")
    spec.depends_on.add(job_id=id, condition=condition)


def _spec(name: str, options: Mapping[str, Any]) -> pb.WorkflowSpec:
    unknown = options.keys() - FlowOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"unknown option {unknown.pop()!r}; known are {', '.join(sorted(FlowOptions.__annotations__))}")
    spec = pb.WorkflowSpec(
        id=options.get("id") or uuid7(), name=name, tags=options.get("tags") or (), open=bool(options.get("open"))
    )
    if (policy := options.get("on_node_failure")) is not None:
        spec.on_node_failure = enum_value(pb.WorkflowFailurePolicy, policy, "on_node_failure")
    for event in ("on_success", "on_failure", "on_finish"):
        if (call := options.get(event)) is not None:
            getattr(spec, event).CopyFrom(_call_of(call)._spec())
            getattr(spec, event).ClearField("id")
    for span in ("total_timeout", "retention"):
        if (value := options.get(span)) is not None:
            getattr(spec, span).CopyFrom(duration(value, span))
    return spec


def _plain(value: Any) -> Any:
    return value
