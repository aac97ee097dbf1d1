"""Tasks: job types declared in code. A task knows its handler's signature, and so how arguments become the payload."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from . import _codec
from ._bind import HEADER, bound
from ._convert import payload, value_of
from ._errors import InvalidArgument
from ._ids import uuid7
from ._leases import BatchRule
from ._options import job_spec, merge_options
from ._types import Duration, EnqueueResult, JobOptions, whole_number
from .v1 import job_pb2, worker_service_pb2

if TYPE_CHECKING:
    from typing_extensions import Unpack  # known to type checkers without being installed

    from ._canvas import Chain, Group
    from ._client import Client
    from ._job import EnqueueItem, Job
    from .classifiers import Classifier

P = ParamSpec("P")
R = TypeVar("R")
_KEYED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


_NAMED = _KEYED[1:]
_OPTIONS = frozenset(JobOptions.__annotations__)


class Signature:
    """How the parameters of a handler map to one JSON object.

    Parameters are its keys; a sole parameter that is a model, dataclass, TypedDict or mapping is the object itself.
    Keys that the handler does not know are ignored, so that producers may be newer than workers.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        hints, parameters = self._read(function)
        sole = parameters[0] if len(parameters) == 1 and parameters[0].kind in _KEYED else None
        self.whole = sole is not None and _codec.is_object_type(hints.get(sole.name, Any))
        self._understand(function, parameters, hints)

    def _read(self, function: Callable[..., Any]) -> tuple[dict[str, Any], list[inspect.Parameter]]:
        """Annotations and parameters; the Context, if it is one of them, is left out and noted."""
        from ._context import Context

        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except NameError as error:
            raise TypeError(f"{function.__qualname__}: the annotation {error.name!r} is not defined") from error
        parameters = list(inspect.signature(function).parameters.values())
        first = parameters[0] if parameters else None
        self.takes_context = first is not None and (
            _is_context(hints.get(first.name), Context) or (first.name == "ctx" and first.name not in hints)
        )
        return hints, parameters[1:] if self.takes_context else parameters

    def _understand(
        self, function: Callable[..., Any], parameters: list[inspect.Parameter], hints: dict[str, Any]
    ) -> None:
        for parameter in parameters:
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                raise TypeError(f"{function.__qualname__}: *{parameter.name} has no key in a JSON object; take a list")
        self.parameters = [parameter for parameter in parameters if parameter.kind in _KEYED]
        rest = next((p for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD), None)
        self._calling = inspect.Signature(parameters)
        by_name = all(parameter.kind in _NAMED for parameter in parameters)
        self._by_name = {parameter.name for parameter in parameters} if by_name else None  # where keys are the call
        try:
            self._decoders = {p.name: _codec.decoder(hints.get(p.name, Any)) for p in self.parameters}
            self._rest = _codec.decoder(hints.get(rest.name, Any)) if rest is not None else None
            self.decode_result = _codec.decoder(hints.get("return", Any))
        except TypeError as error:
            raise TypeError(f"{function.__qualname__}: {error}") from None

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The JSON object for a call; TypeError as Python itself would raise it."""
        if not args and not self.whole and self._by_name is not None and kwargs.keys() == self._by_name:
            return kwargs
        try:
            bound = self._calling.bind(*args, **kwargs)
        except TypeError as error:
            options = [f"{key}=..." for key in kwargs if key not in self._decoders and key in _OPTIONS]
            if not options:
                raise
            raise TypeError(f"options go before the call: .opts({', '.join(options)}).enqueue(...)") from error
        values: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if name in self._decoders:
                values[name] = value
            else:
                values.update(value)
        return values.get(self.parameters[0].name, {}) if self.whole else values

    def partial(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """What is given of the arguments, by parameter; TypeError as Python itself would raise it."""
        values: dict[str, Any] = {}
        for name, value in self._calling.bind_partial(*args, **kwargs).arguments.items():
            if name in self._decoders:
                values[name] = value
            else:
                values.update(value)
        return values

    def check_given(self, task: str, given: Collection[str]) -> None:
        """TypeError when a parameter without a default is not among those given."""
        for parameter in self.parameters:
            if parameter.default is inspect.Parameter.empty and parameter.name not in given:
                raise TypeError(f"{task}: {parameter.name} is missing")

    def decode(self, value: Any) -> tuple[list[Any], dict[str, Any]]:
        """Arguments out of a payload. DecodeError names what is missing or does not fit."""
        if self.whole:
            parameter = self.parameters[0]
            return self._place({parameter.name: self._decoders[parameter.name](value, "")})
        if value is None:
            value = {}
        if type(value) is not dict:
            raise _codec.DecodeError("payload: expected an object with the task's parameters as keys")
        values = {}
        for parameter in self.parameters:
            if parameter.name in value:
                values[parameter.name] = self._decoders[parameter.name](value[parameter.name], parameter.name)
            elif parameter.default is inspect.Parameter.empty:
                raise _codec.DecodeError(f"{parameter.name}: missing")
        if self._rest is not None:
            values.update({k: self._rest(v, k) for k, v in value.items() if k not in self._decoders})
        return self._place(values)

    def _place(self, values: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        args = []
        for parameter in self.parameters:
            if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY or parameter.name not in values:
                break
            args.append(values.pop(parameter.name))
        return args, values


def _is_context(hint: Any, base: type) -> bool:
    return isinstance(hint, type) and issubclass(hint, base)


class BatchSignature(Signature):
    """How one element of the list that a batch handler takes maps to the payload of its job: it is the payload."""

    def __init__(self, function: Callable[..., Any]) -> None:
        hints, parameters = self._read(function)
        if len(parameters) != 1 or parameters[0].kind not in _KEYED[:2]:
            raise TypeError(
                f"{function.__qualname__}: the handler of a batch task takes one list, after ctx if it does"
            )
        element, result = _element(hints.get(parameters[0].name, Any)), _element(hints.get("return", Any))
        if element is None:
            raise TypeError(f"{function.__qualname__}: {parameters[0].name} is a list, one input for each job")
        if result is None:
            raise TypeError(f"{function.__qualname__}: the handler of a batch task returns a list of results, or None")
        input = inspect.Parameter("input", inspect.Parameter.POSITIONAL_ONLY, annotation=element)
        self.whole = True
        self._understand(function, [input], {"input": element, "return": result})


def _element(annotation: Any) -> Any:
    """What a list is of; None for what is no list."""
    if annotation in (Any, None, type(None)):
        return Any if annotation is Any else type(None)
    arms = [arm for arm in typing.get_args(annotation) if arm is not type(None)]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType) and len(arms) == 1:
        annotation = arms[0]  # a list, or None
    if (typing.get_origin(annotation) or annotation) not in (list, Sequence, Iterable, tuple):
        return None
    return (typing.get_args(annotation) or (Any,))[0]


@dataclass(frozen=True)
class TaskCall(Generic[R]):
    """A task with its arguments and options, ready to enqueue: what `task.s(...)` returns."""

    task: Task[..., R]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __or__(self, step: Any) -> Chain[Any]:
        from ._canvas import Chain

        return Chain([self, step])

    def enqueue(self) -> Job[R]:
        """Enqueues it; as `Task.enqueue`."""
        return self.task._app.enqueue(self)

    async def aenqueue(self) -> Job[R]:
        """`enqueue` for asyncio."""
        return await self.task._app.aenqueue(self)

    def run(self, *, wait: Duration | None = None) -> R:
        """Enqueues it, waits for the end, and returns the result, or raises as `Job.result` does.

        wait: give up after this long with DeadlineExceeded, the job going on; None = never.
        """
        return self.task._app.run(self, wait=wait)

    async def arun(self, *, wait: Duration | None = None) -> R:
        """`run` for asyncio."""
        return await self.task._app.arun(self, wait=wait)

    def _spec(self) -> job_pb2.JobSpec:
        """The job to send, with a fresh id. InvalidArgument or TypeError when something does not fit."""
        task = self.task
        body = payload(task.signature.encode(self.args, self.kwargs))
        return job_spec(uuid7(), task.name, body, task.options, (self.args, self.kwargs))


class Task(Generic[P, R]):
    """A job type with its handler and default options. Made by `@app.task`.

    Calling it runs the function here and now, without a job, which is what unit tests want.
    """

    def __init__(
        self,
        app: Client,
        function: Callable[..., Any],
        name: str,
        options: JobOptions,
        *,
        executor: str,
        no_retry_on: tuple[type[BaseException], ...] = (),
        classifiers: tuple[Classifier, ...] = (),
        batch: BatchRule | None = None,
        signature: Signature | None = None,
    ) -> None:
        self.name = name
        self.options = options
        self.function = function
        self.executor = executor
        self.no_retry_on = no_retry_on
        self.classifiers = classifiers
        self.batch = batch
        self.signature = signature or (Signature(function) if batch is None else BatchSignature(function))
        self._app = app
        functools.update_wrapper(self, function)

    @property
    def queue(self) -> str:
        """The queue its jobs go to by default."""
        return self.options.get("queue") or self.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def opts(self, **options: Unpack[JobOptions]) -> Task[P, R]:
        """The same task with other options; those given here win."""
        merged = merge_options(self.options, options)
        return Task(
            self._app,
            self.function,
            self.name,
            merged,
            executor=self.executor,
            no_retry_on=self.no_retry_on,
            classifiers=self.classifiers,
            batch=self.batch,
            signature=self.signature,
        )

    def s(self, *args: P.args, **kwargs: P.kwargs) -> TaskCall[R]:
        """A call of this task to hand on, to `ctx.enqueue` or `client.enqueue_many`, or to `run(wait=...)`."""
        return TaskCall(self, args, kwargs)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Enqueues a job; durable when it returns. Blocks; concurrent calls leave together.

        Repeats on UNAVAILABLE with the same id for the client's `timeout` (30 s). Raises JobwireError.
        """
        return self._app.enqueue(self.s(*args, **kwargs))

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """`enqueue` for asyncio, on any event loop."""
        return await self._app.aenqueue(self.s(*args, **kwargs))

    def enqueue_many(self, inputs: Iterable[Any]) -> list[EnqueueItem[R]]:
        """Enqueues one job per input, each standing alone; answers per item, in order: its `job` or its `error`.

        An input is the task's sole argument, or a tuple of positional or a dict of keyword arguments.
        """
        return self._app.enqueue_many(map(self._call_of, inputs))

    async def aenqueue_many(self, inputs: Iterable[Any]) -> list[EnqueueItem[R]]:
        """`enqueue_many` for asyncio."""
        return await self._app.aenqueue_many(map(self._call_of, inputs))

    def enqueue_stream(self, inputs: Iterable[Any]) -> Iterator[EnqueueResult]:
        """Enqueues one job per input as they come, for producers that never stop: see `Client.enqueue_stream`.

        Inputs are as for `enqueue_many`.
        """
        return self._app.enqueue_stream(map(self._call_of, inputs))

    def aenqueue_stream(self, inputs: AsyncIterable[Any] | Iterable[Any]) -> AsyncIterator[EnqueueResult]:
        """`enqueue_stream` for asyncio: `async for result in task.aenqueue_stream(inputs)`."""
        if not isinstance(inputs, AsyncIterable):
            return self._app.aenqueue_stream(map(self._call_of, inputs))
        return self._app.aenqueue_stream(self._call_of(given) async for given in inputs)

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Enqueues, waits for the end without limit, and returns the result, or raises as `Job.result` does.

        With a limit: `task.s(...).run(wait="20s")`.
        """
        return self._app.run(self.s(*args, **kwargs))

    async def arun(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """`run` for asyncio."""
        return await self._app.arun(self.s(*args, **kwargs))

    def job(self, id: str) -> Job[R]:
        """The handle of a job of this type by its id, with a typed result; asks nobody."""
        from ._job import Job

        return Job(self._app, id, self.decode_result)

    def decode_result(self, value: Any) -> R:
        """A plain JSON value as what the handler is annotated to return."""
        result: R = self.signature.decode_result(value, "result")
        return result

    def map(self, inputs: Iterable[Any]) -> Group[R]:
        """A group of calls, one for each input, which is the sole argument: `resize.map(paths).enqueue()`."""
        from ._canvas import Group

        return Group(TaskCall(self, (given,), {}) for given in inputs)

    def starmap(self, inputs: Iterable[Iterable[Any]]) -> Group[R]:
        """A group of calls, one for each tuple of arguments."""
        from ._canvas import Group

        return Group(TaskCall(self, tuple(given), {}) for given in inputs)

    def chunks(self, items: Iterable[Any], size: int) -> Group[R]:
        """A group of calls of a task that takes a list, each with up to `size` of the items."""
        from ._canvas import Group

        if not whole_number(size) or size < 1:
            raise InvalidArgument(f"size: expected a whole number, at least 1, got {size!r}", field="size")
        listed = list(items)
        return Group(TaskCall(self, (listed[at : at + size],), {}) for at in range(0, len(listed), size))

    def _arguments(self, job: worker_service_pb2.JobLease) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments for the handler, out of payload and results of other jobs."""
        value, header = value_of(job.task.payload), job.task.headers.get(HEADER)
        if header is not None:
            results = [
                (found.alias, value_of(found.result) if found.HasField("result") else None)
                for found in job.dependencies
            ]
            signature = self.signature
            value = bound(value, header, results, None if signature.whole else [p.name for p in signature.parameters])
        return self.signature.decode(value)

    def _call_of(self, given: Any) -> TaskCall[R]:
        if isinstance(given, TaskCall):
            if given.task.name != self.name:
                raise InvalidArgument(f"a call of {given.task.name} among inputs of {self.name}", field="inputs")
            return given
        if isinstance(given, tuple) and not hasattr(given, "_fields"):
            return TaskCall(self, given, {})
        if isinstance(given, dict) and not self.signature.whole:
            return TaskCall(self, (), given)
        return TaskCall(self, (given,), {})
