"""App: a Client with a registry of tasks."""

from __future__ import annotations

import inspect
import re
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload

from ._batch_context import BatchContext
from ._client import Client, ClientOptions
from ._context import Context
from ._errors import InvalidArgument
from ._hooks import Hook
from ._leases import BatchRule
from ._options import merge_options
from ._records import ScheduleOptions
from ._schedules import put_request
from ._tasks import Task, TaskCall
from ._types import Duration, JobOptions, Queue, to_seconds, whole_number
from .classifiers import Classifier, http
from .v1 import schedule_service_pb2

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._worker import Worker

P = ParamSpec("P")
R = TypeVar("R")
In = TypeVar("In")
apps: weakref.WeakSet[App] = weakref.WeakSet()  # every App of this process; a child of the pool finds its tasks here
_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")


def _called(function: Any) -> str:
    return getattr(function, "__name__", "name")


class TaskDecorator(Protocol):
    """Makes a Task of a handler; a Context as first parameter is not part of the task's own signature."""

    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], Awaitable[R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class BatchTaskDecorator(Protocol):
    """Makes a Task of a handler that takes a list of inputs; the task itself takes one."""

    @overload
    def __call__(self, function: Callable[[BatchContext, list[In]], Awaitable[None]], /) -> Task[[In], None]: ...
    @overload
    def __call__(self, function: Callable[[BatchContext, list[In]], Awaitable[Sequence[R]]], /) -> Task[[In], R]: ...
    @overload
    def __call__(self, function: Callable[[BatchContext, list[In]], None], /) -> Task[[In], None]: ...
    @overload
    def __call__(self, function: Callable[[BatchContext, list[In]], Sequence[R]], /) -> Task[[In], R]: ...
    @overload
    def __call__(self, function: Callable[[list[In]], Awaitable[None]], /) -> Task[[In], None]: ...
    @overload
    def __call__(self, function: Callable[[list[In]], Awaitable[Sequence[R]]], /) -> Task[[In], R]: ...
    @overload
    def __call__(self, function: Callable[[list[In]], None], /) -> Task[[In], None]: ...
    @overload
    def __call__(self, function: Callable[[list[In]], Sequence[R]], /) -> Task[[In], R]: ...


class App(Client):
    """A Client that knows tasks; options as for Client. Connects when something is enqueued or a worker runs.

    classifiers: functions that say what becomes of a job whose handler let an exception through; see
        jobwire.classifiers. Default `http`; what is given replaces it.
    """

    def __init__(
        self, url: str | None = None, *, classifiers: Iterable[Classifier] = (http,), **options: Unpack[ClientOptions]
    ) -> None:
        super().__init__(url, **options)
        self.classifiers = tuple(classifiers)
        self.tasks: dict[str, Task[..., Any]] = {}
        self._hooks: list[Hook] = []
        self._schedules: dict[str, schedule_service_pb2.PutScheduleRequest] = {}
        apps.add(self)

    def task(
        self,
        name: str,
        *,
        executor: Literal["loop", "thread", "process"] | None = None,
        no_retry_on: type[BaseException] | tuple[type[BaseException], ...] = (),
        classifiers: Iterable[Classifier] = (),
        **options: Unpack[JobOptions],
    ) -> TaskDecorator:
        """Declares a job type and its handler.

        The handler's parameters are the keys of the payload, a JSON object; a sole parameter that is a model (pydantic,
        msgspec, protobuf), a dataclass, TypedDict or mapping is the object. A first parameter annotated `Context` (or
        called `ctx`) gets the Context.

        name: the job type, `[A-Za-z0-9_.:/-]`, at most 128 characters. The same in every language.
        executor: "loop" runs it on the worker's event loop (the default for `async def`), "thread" in a thread (the
            default for `def`), "process" in a child process: for `def` handlers that compute, or may take the process
            down. Declare those at the top level of a module that can be imported (a script needs its
            `if __name__ == "__main__"` around what it runs). On cancel and timeout such a handler gets Cancelled
            (SIGTERM), and 2 s later its process SIGKILL; if the process dies by itself, the server counts a crash and
            no attempt.
        no_retry_on: exceptions, subclasses included, after which another attempt is useless.
        classifiers: asked before those of the App, after `no_retry_on`; see jobwire.classifiers.
        options: defaults for its jobs, see JobOptions.
        """
        return self._declaring(name, executor, no_retry_on, classifiers, options)  # type: ignore[return-value]

    def batch_task(
        self,
        name: str,
        *,
        max_size: int,
        linger: Duration = "100ms",
        by_key: bool = False,
        executor: Literal["loop", "thread"] | None = None,
        no_retry_on: type[BaseException] | tuple[type[BaseException], ...] = (),
        classifiers: Iterable[Classifier] = (),
        **options: Unpack[JobOptions],
    ) -> BatchTaskDecorator:
        """Declares a job type whose jobs run several in one call: a bulk insert, an index, an API that takes many.

        The handler takes a list of inputs, each the whole payload of one job; a first parameter annotated
        `BatchContext` (or called `ctx`) gets the batch with its jobs. Each job keeps its own lease, attempts, retries
        and outcome: a returned list has their results in order; without one they all succeed; what the handler raises
        is the failure of each. `ctx.jobs[i].fail(error)`, `.succeed(…)`, `.snooze(…)` speak for single ones, and win.
        Enqueued like any task, one input at a time: `index.enqueue(doc)`.

        max_size: jobs of a call at most, 1 to 1,000. The worker takes as many slots at least.
        linger: how long the first job waits for others, up to 1 minute; default 100 ms; 0 = for nobody. While all
            handlers are busy a batch goes on growing.
        by_key: only jobs of one `fairness_key` in a call; default False.
        executor, no_retry_on, classifiers, options: as for `task`; a batch does not run in a child process.

        The call runs under the shortest timeout of its jobs. A job that is cancelled is marked
        (`ctx.jobs[i].cancelled`) and the call goes on, unless all of them are. A job whose worker vanished with it runs
        alone from then on.
        """
        if not whole_number(max_size) or not 1 <= max_size <= 1000:
            raise InvalidArgument(
                f"max_size: expected a whole number from 1 to 1,000, got {max_size!r}", field="max_size"
            )
        if (seconds := to_seconds(linger, "linger")) > 60.0:
            raise InvalidArgument(f"linger: at most 1 minute, got {linger!r}", field="linger")
        if executor not in (None, "loop", "thread"):
            raise TypeError(f"{name}: the handler of a batch task runs on the loop or in a thread")
        rule = BatchRule(max_size, seconds, by_key)
        return self._declaring(name, executor, no_retry_on, classifiers, options, rule)

    def _declaring(
        self,
        name: str,
        executor: str | None,
        no_retry_on: type[BaseException] | tuple[type[BaseException], ...],
        classifiers: Iterable[Classifier],
        options: JobOptions,
        batch: BatchRule | None = None,
    ) -> Callable[[Callable[..., Any]], Task[..., Any]]:
        if callable(name):
            raise TypeError(f'a task needs the name of its job type: write @app.task("{_called(name)}")')
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidArgument(f"name: {name!r} must match [A-Za-z0-9_.:/-]{{1,128}}", field="name")
        defaults = merge_options({}, options)
        asked = (*classifiers, *self.classifiers)
        exceptions = no_retry_on if isinstance(no_retry_on, tuple) else (no_retry_on,)

        def declare(function: Callable[..., Any], /) -> Task[..., Any]:
            is_async = inspect.iscoroutinefunction(function)
            kind = executor or ("loop" if is_async else "thread")
            if kind not in ("loop", "thread", "process") or is_async != (kind == "loop"):
                raise TypeError(f"{name}: executor {kind!r} does not run {'async def' if is_async else 'def'} handlers")
            if kind == "process" and not function.__qualname__.isidentifier():
                raise TypeError(
                    f"{name}: a child process cannot import {function.__module__}.{function.__qualname__}; declare "
                    "handlers with executor='process' at the top level of a module"
                )
            if name in self.tasks:
                raise ValueError(f"{name}: there is a task of this name already")
            task: Task[..., Any] = Task(
                self,
                function,
                name,
                defaults,
                executor=kind,
                no_retry_on=exceptions,
                classifiers=asked,
                batch=batch,
            )
            self.tasks[name] = task
            return task

        return declare

    @overload
    def schedule(
        self,
        id: str,
        job: TaskCall[Any] | str,
        payload: Any = ...,
        /,
        *,
        options: JobOptions | None = ...,
        **spec: Unpack[ScheduleOptions],
    ) -> None: ...
    @overload
    def schedule(self, id: str, /, **spec: Unpack[ScheduleOptions]) -> Callable[[Task[P, R]], Task[P, R]]: ...
    def schedule(
        self,
        id: str,
        job: TaskCall[Any] | str | None = None,
        payload: Any = None,
        /,
        *,
        options: JobOptions | None = None,
        **spec: Any,
    ) -> Any:
        """Declares a schedule, for workers of this app to put when they start, before they take a job.

        `app.schedule("nightly", report.s("sales"), cron="0 2 * * *")`, or as a decorator above `@app.task`, for a task
        that is called without arguments. Parameters are those of `client.schedules.put`. What is wrong with it for this
        side is raised here; what the server refuses stops the worker. To leave one out again deletes nothing: that is
        `client.schedules.delete`.
        """

        def declare(call: TaskCall[Any] | str) -> None:
            if id in self._schedules:
                raise ValueError(f"{id}: there is a schedule of this id already")
            self._schedules[id] = put_request(id, call, payload, options, spec)

        if job is not None:
            declare(job)
            return None

        def decorate(task: Task[..., Any]) -> Task[..., Any]:
            if not isinstance(task, Task):
                raise TypeError(f'{id}: @app.schedule("{id}", …) goes above @app.task, on a task')
            declare(task.s())
            return task

        return decorate

    def around(self, hook: Hook) -> Hook:
        """Surrounds every handler of this app with a context manager: a database session, a scope, a lock.

        hook: called with the Context before each attempt, where its handler runs; what it returns is entered before and
            left after the handler, and sees its exceptions. The first one added is the outermost. A decorator:
            `@app.around` above `@contextmanager`. In `async def` handlers it must not block.
        """
        self._hooks.append(hook)
        return hook

    def worker(
        self,
        *,
        queues: Iterable[str | Queue] | None = None,
        concurrency: int = 10,
        prefetch: int | None = None,
        pool_size: int | None = None,
        max_jobs: int | None = None,
        max_rss: int | None = None,
        grace: Duration = "25s",
        lease_ttl: Duration | None = None,
        name: str = "",
        app_version: str = "",
        labels: Mapping[str, str] | None = None,
        health: int | str | None = None,
        put_schedules: bool = True,
        on_ready: Callable[[], None] | None = None,
    ) -> Worker:
        """A worker for the app's tasks; `worker.run()` works until told to stop.

        queues: which to serve; default: the queues of all tasks.
        concurrency: handlers that run at once; default 10.
        prefetch: jobs to hold beyond those, so that none of the handlers waits for the network; default: adapts, from
            min(concurrency, 16) for handlers under a second on average to 0 above ten. The worker's slots, at most
            10,000, are concurrency + prefetch.
        pool_size: child processes for handlers with executor="process", and so how many of those run at once; default:
            the CPU cores, at most `concurrency`. Children are made when they are needed.
        max_jobs: a child is replaced after this many jobs; default never.
        max_rss: a child is replaced after a job that leaves it with more resident memory than this, in MiB; default
            never.
        grace: how long running handlers may finish after SIGTERM; default 25 s, below Kubernetes' 30.
        lease_ttl: how soon the jobs of a vanished worker run elsewhere; 10 s to 5 min, default 30 s; a wish.
        name: of the worker, for people; default host:pid. app_version, labels: for people as well.
        health: a port of 127.0.0.1, or "host:port", that answers `/livez` (the process), `/readyz` (connected and not
            draining) and `/metrics` (Prometheus); default none. When it is in use, `run` and `start` raise
            InvalidArgument.
        put_schedules: put the app's schedules (`app.schedule`) before the first job is taken; one that the server
            refuses stops the worker. Needs scope `admin`; default True.
        on_ready: called once, when the server has welcomed the worker; must not block.
        """
        from ._worker import Worker

        return Worker(
            self,
            queues=queues,
            concurrency=concurrency,
            prefetch=prefetch,
            pool_size=pool_size,
            max_jobs=max_jobs,
            max_rss=max_rss,
            grace=grace,
            lease_ttl=lease_ttl,
            name=name,
            app_version=app_version,
            labels=labels,
            health=health,
            put_schedules=put_schedules,
            on_ready=on_ready,
        )
