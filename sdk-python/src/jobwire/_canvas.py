"""chain, group and chord: the usual shapes of workflows, by their usual names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._errors import InvalidArgument
from ._flow import Flow, FlowOptions, NodeGroup, _call_of
from ._tasks import Task, TaskCall

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._workflow import Workflow

R = TypeVar("R")


class Canvas(Generic[R]):
    """What `chain`, `group` and `chord` make: started as a workflow, or put into another one."""

    def enqueue(self, name: str = "", **options: Unpack[FlowOptions]) -> Workflow[R]:
        """Starts it as a workflow of its own; durable when it returns. name, options: as of Flow."""
        flow = self._flow(name, options)
        return flow._of_client().start(flow)

    async def aenqueue(self, name: str = "", **options: Unpack[FlowOptions]) -> Workflow[R]:
        """`enqueue` for asyncio."""
        flow = self._flow(name, options)
        return await flow._of_client().astart(flow)

    def __or__(self, step: Any) -> Chain[Any]:
        return Chain([self, step])

    def _flow(self, name: str, options: FlowOptions) -> Flow:
        flow = Flow(name, **options)
        flow._ends = self._place(flow, None, [])
        return flow

    def _place(self, flow: Flow, before: Any, after: list[Any]) -> Any:
        raise NotImplementedError


class Chain(Canvas[R]):
    """Steps, one after the other; each gets the result of the one before."""

    def __init__(self, steps: Sequence[Any]) -> None:
        self.steps: tuple[Any, ...] = tuple(
            part for step in steps for part in (step.steps if isinstance(step, Chain) else (step,))
        )
        if not self.steps:
            raise InvalidArgument("steps: a chain has at least one", field="steps")

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self.steps))})"

    def _place(self, flow: Flow, before: Any, after: list[Any]) -> Any:
        for step in self.steps:
            before, after = _place(flow, step, before, after), []
        return before


class Group(Canvas["list[R]"], Generic[R]):
    """Calls that run side by side. Their results, in order, are a list."""

    def __init__(self, members: Iterable[Any]) -> None:
        self.members: tuple[Any, ...] = tuple(members)

    def __repr__(self) -> str:
        return f"group of {len(self.members)}"

    def __len__(self) -> int:
        return len(self.members)

    def _place(self, flow: Flow, before: Any, after: list[Any]) -> NodeGroup[R]:
        name, ends = flow._group_name(), []
        for member in self.members:
            end = _place(flow, member, before, after, "" if isinstance(member, Canvas) else name)
            if isinstance(end, NodeGroup):
                raise TypeError("a group within a group has no one result: end it with a step, as chord([…], step)")
            if isinstance(member, Canvas):
                flow._into(name, end)
            ends.append(end)
        return NodeGroup(name, ends)


def _place(flow: Flow, step: Any, before: Any, after: list[Any], group: str = "") -> Any:
    if isinstance(step, Canvas):
        return step._place(flow, before, after)
    return flow._node(_call_of(step), before, "", group, after)


def chain(*steps: TaskCall[Any] | Task[..., Any] | Canvas[Any]) -> Chain[Any]:
    """Runs steps one after the other, each with the result of the one before.

    A step is `task.s(…)`, a task, a group or a chord. The result takes the first parameter that is not given, or the
    place of `previous` among the arguments; where a task takes one object, it is that object, with the keys that are
    given. The step after a group gets the list of its results; each member of a group the result of the step before.

        chain(fetch.s(url), parse, store.s(previous, table="pages")).enqueue()
    """
    return Chain(steps)


def group(*members: Any) -> Group[Any]:
    """Runs calls side by side: `group(resize.s(path) for path in paths)`, or each as an argument of its own.

    A member is `task.s(…)`, a task, a chain or a chord.
    """
    if len(members) == 1 and not isinstance(members[0], TaskCall | Task | Canvas):
        return Group(members[0])
    return Group(members)


def chord(members: Iterable[Any], callback: TaskCall[R] | Task[..., R] | Canvas[R]) -> Chain[R]:
    """A group, and a step that gets the list of its results, in order, once all have succeeded."""
    return Chain([members if isinstance(members, Group) else Group(members), callback])
