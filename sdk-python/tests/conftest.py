"""Fixtures: a scripted server, and workers that are always stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from scripted import WAIT, Scripted
from spawning import Spawner

from jobwire import App, Worker

pytest_plugins = ["pytester"]


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.stop()


@pytest.fixture
def app(server: Scripted) -> Iterator[App]:
    app = App(server.url)
    yield app
    app.close()


@pytest.fixture
def work(app: App) -> Iterator[Callable[..., Worker]]:
    """Starts a worker of `app`, with no prefetch unless said otherwise."""
    workers: list[Worker] = []

    def start(**options: object) -> Worker:
        options.setdefault("concurrency", 2)
        options.setdefault("prefetch", 0)
        worker = app.worker(**options)  # type: ignore[arg-type]
        workers.append(worker)
        worker.start()
        return worker

    yield start
    for worker in workers:
        worker.stop(0, wait=False)
        worker.stop(0, wait=False)


@pytest.fixture
def spawn(server: Scripted) -> Iterator[Spawner]:
    """Starts Python processes that find the scripted server."""
    spawner = Spawner(server)
    yield spawner
    spawner.end()


def eventually(condition: Callable[[], object]) -> None:
    """Waits until `condition` holds; fails after the usual limit."""
    deadline = time.monotonic() + WAIT
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        pause.wait(0.005)
