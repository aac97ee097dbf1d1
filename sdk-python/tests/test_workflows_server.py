"""Workflows with the real server: what does not fit into one call or one lease, and looking after many."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import pytest
from real_server import Server
from scripted import WAIT
from test_workflows import ONCE, Site

import jobwire
from jobwire import App, WorkflowState, chain, chord, group


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server("memory")
    yield server
    server.kill()


@pytest.fixture
def real(server: Server) -> Iterator[Site]:
    app = App(server.url)
    site = Site(app, lambda: None)
    worker = app.worker(concurrency=8)
    worker.start()
    yield site
    worker.stop()
    app.close()


def test_results_that_do_not_fit_are_fetched(real: Site) -> None:
    assert chord([real.large.s(n) for n in range(5)], real.lengths).enqueue().result(WAIT) == [120_000] * 5


def test_a_workflow_beyond_one_call(real: Site) -> None:
    flow = group(real.add.s(n, 0) for n in range(1200))
    assert chain(flow, real.total).enqueue().result(3 * WAIT) == sum(range(1200))


def test_workflows_are_listed_retried_and_deleted(real: Site) -> None:
    works = threading.Event()

    @real.app.task(f"flaky-{uuid.uuid4()}", retry=ONCE)
    def flaky(x: int = 0) -> int:
        if not works.is_set():
            raise ValueError("not yet")
        return x

    worker = real.app.worker()
    worker.start()
    tag = f"tag-{uuid.uuid4()}"
    try:
        workflow = chain(flaky.s(5), real.add).enqueue(tags=[tag])
        assert workflow.wait(WAIT).state is WorkflowState.FAILED
        assert [found.id for found in real.app.workflows.list(f'tag = "{tag}"')] == [workflow.id]
        works.set()
        assert workflow.retry()
        assert workflow.result(WAIT) == 15
        assert real.app.workflows.delete(workflow.id).affected == 1
        with pytest.raises(jobwire.NotFound):
            workflow.status()
    finally:
        worker.stop()
