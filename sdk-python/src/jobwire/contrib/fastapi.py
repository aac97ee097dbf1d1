"""Jobwire in FastAPI: the app's connections, and a worker if wanted, live as long as the server.

    api = FastAPI(lifespan=lifespan(app))

    @api.post("/mails")
    async def post(mail: Mail, jobs: Jobs) -> str:
        return (await jobs.aenqueue(send.s(mail))).id

Tests put another App in its place with `api.dependency_overrides[jobs]`, or `jobwire.testing.fake(app)`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.requests import HTTPConnection

from .._app import App
from .._worker import Worker

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]


def lifespan(app: App, *, worker: Callable[[], Worker] | None = None, inner: Lifespan | None = None) -> Lifespan:
    """A lifespan for `FastAPI(lifespan=...)`: gives `app` to `Jobs`, and closes it at shutdown.

    worker: makes a worker to run beside the server, in this process: `lambda: app.worker(concurrency=5)`. It drains
        within its `grace` before the server is gone. Handlers run in threads of their own, not on the server's loop.
    inner: the application's own lifespan; begins after this one, and ends before it.
    """

    @asynccontextmanager
    async def living(api: FastAPI) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            api.state.jobwire = app
            stack.push_async_callback(asyncio.to_thread, app.close)
            if worker is not None:
                running = worker()
                running.start()
                stack.push_async_callback(asyncio.to_thread, running.stop)
            state = await stack.enter_async_context(inner(api)) if inner is not None else None
            yield state

    return living


def jobs(connection: HTTPConnection) -> App:
    """The App that `lifespan` was made with. RuntimeError without one."""
    app = getattr(connection.app.state, "jobwire", None)
    if app is None:
        raise RuntimeError("FastAPI(lifespan=jobwire.contrib.fastapi.lifespan(app)) is missing")
    found: App = app
    return found


Jobs = Annotated[App, Depends(jobs)]
"""A parameter of this type gets the App: `async def post(jobs: Jobs)`."""
