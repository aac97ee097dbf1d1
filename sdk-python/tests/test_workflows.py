"""Workflows as they run: with the fake, and the same with the real server."""

from __future__ import annotations

import asyncio
import importlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import eventually
from real_server import Server
from scripted import WAIT

import jobwire
from jobwire import App, Context, Flow, JobState, Retry, WorkflowState, chain, chord, group, previous
from jobwire.testing import fake, inline

ONCE = Retry(max_attempts=1)


class Site:
    """An app with some arithmetic, and a way to let its jobs run."""

    def __init__(self, app: App, run: Callable[[], None]) -> None:
        self.app, self.run = app, run
        suffix = uuid.uuid4().hex[:8]

        @app.task(f"add-{suffix}")
        def add(x: int, y: int = 10) -> int:
            return x + y

        @app.task(f"total-{suffix}", retry=ONCE)
        async def total(numbers: list[int]) -> int:
            return sum(numbers)

        @app.task(f"broken-{suffix}", retry=ONCE)
        def broken(x: int) -> int:
            raise ValueError(f"not {x}")

        @app.task(f"note-{suffix}")
        def note(ctx: Context, text: str = "-") -> list[str]:
            return [text, ctx.node, *ctx.dependencies]

        @app.task(f"merge-{suffix}")
        def merge(row: dict[str, Any]) -> dict[str, Any]:
            return {**row, "merged": True}

        @app.task(f"large-{suffix}")
        def large(n: int) -> str:
            return str(n) * 120_000

        @app.task(f"lengths-{suffix}")
        def lengths(texts: list[str]) -> list[int]:
            return [len(text) for text in texts]

        @app.task(f"spread-{suffix}")
        def spread(ctx: Context, count: int) -> int:
            flow = Flow()
            parts = [flow.add(add.s(n, 0), name=f"part-{n}") for n in range(count)]
            flow.add(total.s([part.result for part in parts]), name="sum", after=[ctx.workflow.node(ctx.node)])
            ctx.workflow.extend(flow)
            return count

        self.add, self.total, self.broken, self.note = add, total, broken, note
        self.merge, self.large, self.lengths, self.spread = merge, large, lengths, spread


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server("memory")
    yield server
    server.kill()


@pytest.fixture(params=["fake", "server"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "fake":
        app = App("jobwire://127.0.0.1:1")
        with fake(app) as jobs:
            yield Site(app, jobs.run)
        return
    server: Server = request.getfixturevalue("server")
    app = App(server.url)
    site = Site(app, lambda: None)
    worker = app.worker(concurrency=8)
    worker.start()
    yield site
    worker.stop()
    app.close()


def result(site: Site, workflow: Any) -> Any:
    site.run()
    return workflow.result(WAIT)


def test_a_chain(site: Site) -> None:
    add: Any = site.add
    assert result(site, chain(add.s(2, 2), add, add.s(y=100), add.s(1, previous)).enqueue("sums")) == 115
    assert result(site, (site.merge.s({"a": 1}) | site.merge.s({"b": 2})).enqueue()) == {
        "a": 1,
        "b": 2,
        "merged": True,
    }


def test_groups_and_chords_keep_their_order(site: Site) -> None:
    assert result(site, group(site.add.s(n, 0) for n in range(20)).enqueue()) == list(range(20))
    assert result(site, chord([site.add.s(n, n) for n in range(10)], site.total).enqueue()) == 90
    assert result(site, chain(site.add.s(1, 1), group(site.add, site.add.s(previous, 1)), site.total).enqueue()) == 15
    assert result(site, chord([], site.total).enqueue()) == 0
    assert result(site, site.add.map([1, 2]).enqueue()) == [11, 12]
    assert result(site, site.add.starmap([(1, 2), (3, 4)]).enqueue()) == [3, 7]
    assert result(site, site.total.chunks(range(10), 4).enqueue()) == [6, 22, 17]


def test_a_flow_runs_as_it_is_wired(site: Site) -> None:
    with Flow("wired", tags=["t"]) as flow:
        low = flow.add(site.add.s(1, 2), name="low")
        high = flow.add(site.add.s(100, 200), name="high")
        both = flow.add(site.total.s([low.result, high.result]), name="both")
        flow.add(site.add.s(both.result, low.result), name="end")
        flow.add(site.note.s("never"), name="alarm", after=[both.failed])
        flow.add(site.note.s("at last"), name="last", after=[both.finished])
    site.run()
    workflow = flow.workflow
    status = workflow.wait(WAIT)
    assert (status.state, status.name, status.tags, status.node_count) == (WorkflowState.SUCCEEDED, "wired", ("t",), 6)
    assert status.counts == {JobState.SUCCEEDED: 5, JobState.CANCELLED: 1}
    assert workflow.job("end").result(WAIT) == 306
    assert workflow.job(both).result(WAIT) == 303
    assert workflow.job("last").result(WAIT) == ["at last", "last"]
    assert {node.name: node.state.value for node in workflow.nodes()} == {
        "low": "succeeded",
        "high": "succeeded",
        "both": "succeeded",
        "end": "succeeded",
        "alarm": "cancelled",
        "last": "succeeded",
    }
    again = site.app.workflow(workflow.id)
    assert again.job("end").result(WAIT) == 306
    with pytest.raises(jobwire.NotFound, match="no node 'nowhere'"):
        again.job("nowhere")
    with pytest.raises(TypeError, match="which result"):
        again.result()
    assert again.cancel() is False


def test_what_fails_is_named_and_what_waits_for_it_is_cancelled(site: Site) -> None:
    told = f"told-{uuid.uuid4()}"
    flow = Flow("fails", on_failure=site.note.s(told), on_finish=site.note.s("end"))
    bad = flow.add(site.broken.s(3), name="bad")
    flow.add(site.add.s(bad.result), name="after")
    flow.add(site.add.s(1, 1), name="apart")
    workflow = site.app.start(flow)
    site.run()
    status = workflow.wait(WAIT)
    assert status.state is WorkflowState.FAILED
    assert status.counts == {JobState.SUCCEEDED: 1, JobState.DEAD: 1, JobState.CANCELLED: 1}

    def callbacks() -> list[str]:
        site.run()
        return list(workflow.status().callback_job_ids)

    eventually(lambda: len(callbacks()) == 2)
    texts = [site.note.job(id).result(WAIT)[0] for id in workflow.status().callback_job_ids]
    assert sorted(texts) == sorted([told, "end"])
    ended = chord([site.add.s(1, 1), site.broken.s(7)], site.total).enqueue("bad")
    site.run()
    with pytest.raises(jobwire.WorkflowFailed, match=r"bad ended FAILED: .*: ValueError: not 7") as failed:
        ended.result(WAIT)
    assert [failure.message for failure in failed.value.failures.values()] == ["not 7"]


def test_a_failure_that_is_awaited_is_no_failure(site: Site) -> None:
    with Flow() as flow:
        bad = flow.add(site.broken.s(1), name="bad")
        flow.add(site.note.s("mended"), name="mend", after=[bad.failed])
    site.run()
    assert flow.workflow.wait(WAIT).state is WorkflowState.SUCCEEDED
    assert flow.workflow.job("mend").result(WAIT) == ["mended", "mend"]


def test_a_handler_adds_to_its_own_workflow(site: Site) -> None:
    flow = Flow(open=True)
    flow.add(site.spread.s(4), name="spread")
    workflow = site.app.start(flow)
    site.run()
    assert workflow.job("spread").result(WAIT) == 4
    end = workflow.add(site.add.s(workflow.node("sum").result, 1))
    site.run()
    assert workflow.job(end).result(WAIT) == 7
    assert workflow.status().open
    workflow.close()
    status = workflow.wait(WAIT)
    assert (status.state, status.node_count) == (WorkflowState.SUCCEEDED, 7)
    with pytest.raises(jobwire.FailedPrecondition) as closed:
        workflow.add(site.add.s(1))
    assert closed.value.reason == "WORKFLOW_CLOSED"


def test_jobs_wait_for_jobs_outside_of_workflows(site: Site) -> None:
    first = site.add.opts(delay="1h").enqueue(1)
    second = site.note.opts(after=[first]).enqueue("after")
    site.run()
    assert second.status().state is JobState.BLOCKED
    assert first.retry()  # now
    site.run()
    assert second.result(WAIT) == ["after", ""]
    third = site.note.opts(after=[site.broken.enqueue(1)]).enqueue("never")
    site.run()
    with pytest.raises(jobwire.JobCancelled):
        third.result(WAIT)


def test_for_asyncio(site: Site) -> None:
    async def calls() -> None:
        workflow = await chain(site.add.s(1, 1), site.add).aenqueue()
        await asyncio.to_thread(site.run)
        assert await workflow.aresult(WAIT) == 12
        assert (await workflow.astatus()).state is WorkflowState.SUCCEEDED
        assert [node.state.value async for node in workflow.anodes()] == ["succeeded"] * 2
        assert (await workflow.await_end(WAIT)).node_count == 2
        started = await site.app.astart(group([site.add.s(1)]))
        await asyncio.to_thread(site.run)
        assert await started.aresult(WAIT) == [11]
        assert await (await started.ajob(next(iter(started._job_ids)))).aresult(WAIT) == 11
        assert await started.acancel() is False

    asyncio.run(calls())


def test_inline_runs_a_workflow_to_its_end() -> None:
    app = App("jobwire://127.0.0.1:1")
    with inline(app):
        site = Site(app, lambda: None)
        assert chord([site.add.s(1, 1), site.add.s(2, 2)], site.total).enqueue().result() == 6
        assert asyncio.run(chain(site.add.s(1, 1), site.add).aenqueue()).result() == 12


def test_the_fake_says_what_it_does_not_know() -> None:
    app = App("jobwire://127.0.0.1:1")
    with fake(app) as jobs:
        site = Site(app, jobs.run)
        with pytest.raises(jobwire.Unimplemented, match="the fake does not know on_node_failure"):
            chain(site.add.s(1)).enqueue(on_node_failure="hold")
        workflow = chain(site.add.s(1)).enqueue()
        with pytest.raises(jobwire.DeadlineExceeded, match=r"run its jobs with jobs\.run\(\)"):
            workflow.wait()
        assert workflow.cancel("enough")
        assert workflow.wait().state is WorkflowState.CANCELLED


def test_the_example_runs_inline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "examples"))
    canvas = importlib.import_module("canvas")
    with inline(canvas.app):
        canvas.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[:8] == ["16", "18", "[0, 1, 4, 9, 16]", "90", "24", "[10, 11, 12]", "[2, 12]", "[45, 145, 245]"]
    assert printed[8:10] == ["{'canvas.broken': 'no way to work with 3'}", "succeeded 909"]
    assert printed[-1] == "canvas.note cancelled"
