"""End to end against the real server: a producer here, the conformance worker in a process of its own.

JOBWIRE_BIN names the server's binary; `make test` sets it. Without it these tests fail: skipping would hide them.
"""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pool_tasks
import pytest
from conftest import eventually
from real_server import Process, Server
from scripted import WAIT

import jobwire
from jobwire import App, Client, Context, Job, JobState, LogEvent, ProgressEvent, Retry, StateEvent

ROOT = Path(__file__).parent.parent
FAST = Retry(initial_delay="20ms", jitter=0)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server("memory")
    yield server
    server.kill()


@pytest.fixture(scope="module")
def worker(server: Server) -> Iterator[Process]:
    process = conformance_worker(server)
    yield process
    process.end()


@pytest.fixture
def client(server: Server, worker: Process) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def conformance_worker(server: Server, **env: str) -> Process:
    env.setdefault("PYTHONPATH", str(ROOT / "src"))
    script = str(ROOT / "tests" / "conformance_worker.py")
    return Process(sys.executable, script, JOBWIRE_URL=server.url, **env)


def enqueue(client: Client, type: str, payload: Any = None, **options: Any) -> Job[Any]:
    options.setdefault("retry", FAST)
    return client.enqueue(type, payload, **options)


def test_results_come_back_exact(client: Client) -> None:
    payload = {"big": 2**70 + 1, "text": 'ä\u2028"\\\n🎉', "none": None, "list": [1.5, True, {}]}
    assert client.run("conf.echo", payload, wait=WAIT) == payload
    assert enqueue(client, "conf.echo", payload).result(WAIT) == payload
    assert asyncio.run(client.arun("conf.echo", payload, wait=WAIT)) == payload


def test_large_payloads_and_results(client: Client) -> None:
    assert client.run("conf.big", {"bytes": 1_000_000}, wait=WAIT) == {"data": "x" * 1_000_000}
    with pytest.raises(jobwire.JobFailed) as caught:
        enqueue(client, "conf.big", {"bytes": 1_100_000}).result(WAIT)
    assert caught.value.failure is not None
    assert caught.value.failure.kind == "unprocessable"
    with pytest.raises(jobwire.InvalidArgument):
        client.enqueue("conf.echo", {"x": "y" * 1_100_000})


def test_failures_are_retried_and_end_dead(client: Client) -> None:
    assert enqueue(client, "conf.fail", {"message": "m", "times": 2}).result(WAIT) == {"attempt": 3}
    job = enqueue(client, "conf.fail", {"message": "broken"}, retry=Retry(max_attempts=2, initial_delay="20ms"))
    with pytest.raises(jobwire.JobFailed) as caught:
        job.result(WAIT)
    failure = caught.value.failure
    assert failure is not None
    assert (failure.kind, failure.message) == ("application", "broken")
    assert failure.type.endswith("ConfError")
    status = job.status()
    assert (status.state, status.attempt) == (JobState.DEAD, 2)


def test_hopeless_and_discarded(client: Client) -> None:
    for type, state in (("conf.no_retry", JobState.DEAD), ("conf.discard", JobState.DISCARDED)):
        job = enqueue(client, type)
        with pytest.raises(jobwire.JobFailed):
            job.result(WAIT)
        status = job.status()
        assert (status.state, status.attempt) == (state, 1)


def test_retry_after_snooze_and_release(client: Client) -> None:
    started = time.monotonic()
    jobs = [
        enqueue(client, "conf.retry_after", {"ms": 300}),
        enqueue(client, "conf.snooze", {"ms": 300}),
        enqueue(client, "conf.release"),
    ]
    results = [job.result(WAIT) for job in jobs]
    assert time.monotonic() - started >= 0.3
    assert results[0] == {"attempt": 2}
    assert [result["delivery"] for result in results[1:]] == [2, 2]
    assert [job.status().attempt for job in jobs] == [2, 1, 1]


def test_checkpoint_reaches_the_next_attempt(client: Client) -> None:
    assert enqueue(client, "conf.checkpoint").result(WAIT) == {"checkpoint": {"step": 1}}


def test_events_tell_state_progress_and_logs(client: Client) -> None:
    events = list(enqueue(client, "conf.progress").events())
    assert isinstance(events[-1], StateEvent)
    assert events[-1].state is JobState.SUCCEEDED
    progress = [event.progress for event in events if isinstance(event, ProgressEvent)]
    status = enqueue(client, "conf.progress")
    status.result(WAIT)
    last = status.status().progress
    assert last is not None
    assert (last.current, last.total, last.message, last.data["k"]) == (5, 10, "half", 1)
    assert not progress or progress[-1].message == "half"
    lines = [event for event in enqueue(client, "conf.log").events() if isinstance(event, LogEvent)]
    assert [(line.level, line.message) for line in lines] == [(20, "one"), (30, "two"), (40, "three")]


def test_cancel_a_running_and_a_waiting_job(client: Client) -> None:
    running = enqueue(client, "conf.wait")
    eventually(lambda: running.status().state is JobState.RUNNING)
    waiting = enqueue(client, "conf.echo", delay="1h")
    for job in (running, waiting):
        assert job.cancel("user left")
        with pytest.raises(jobwire.JobCancelled):
            job.result(WAIT)
    assert not running.cancel()


def test_timeout_ends_an_attempt(client: Client) -> None:
    job = enqueue(client, "conf.wait", timeout="200ms", retry=1)
    with pytest.raises(jobwire.JobFailed) as caught:
        job.result(WAIT)
    assert caught.value.failure is not None
    assert caught.value.failure.kind == "timeout"


def test_delay_ttl_and_idempotency(client: Client) -> None:
    started = time.monotonic()
    enqueue(client, "conf.echo", {}, delay="300ms").result(WAIT)
    assert time.monotonic() - started >= 0.3
    first = client.enqueue("conf.echo", {"n": 1}, id="0193a2c4-7d1e-7003-9c55-5b1f0e6a4d21")
    again = client.enqueue("conf.echo", {"n": 1}, id="0193a2c4-7d1e-7003-9c55-5b1f0e6a4d21")
    assert first.id == again.id
    assert again.enqueued is not None
    assert again.enqueued.status == "duplicate"
    with pytest.raises(jobwire.AlreadyExists):
        client.enqueue("conf.echo", {"n": 2}, id="0193a2c4-7d1e-7003-9c55-5b1f0e6a4d21")


def test_retry_of_a_dead_job(client: Client) -> None:
    job = enqueue(client, "conf.no_retry")
    with pytest.raises(jobwire.JobFailed):
        job.result(WAIT)
    assert job.retry()
    eventually(lambda: job.status().delivery == 2 and job.status().state is JobState.DEAD)


def test_the_servers_errors_are_typed(client: Client) -> None:
    with pytest.raises(jobwire.InvalidArgument) as caught:
        client.enqueue("conf.echo", {}, priority=9)
    assert caught.value.reason == "INVALID_FIELD"
    assert "priority" in caught.value.field
    with pytest.raises(jobwire.NotFound):
        client.job("0193a2c4-7d1e-7003-9c55-000000000000").status()
    results = client.enqueue_many([("conf.echo", {}), ("not a name", {})])
    assert [result.status for result in results] == ["created", "refused"]
    assert isinstance(results[1].error, jobwire.InvalidArgument)


def test_many_concurrent_callers_get_their_own_results(client: Client) -> None:
    async def one(n: int) -> Any:
        return await (await client.aenqueue("conf.echo", {"n": n})).aresult(WAIT)

    async def main() -> list[Any]:
        return await asyncio.gather(*(one(n) for n in range(300)))

    assert asyncio.run(main()) == [{"n": n} for n in range(300)]


def test_two_thousand_jobs_in_bulk(client: Client) -> None:
    results = client.enqueue_many(("conf.echo", {"n": n}) for n in range(2000))
    assert {result.status for result in results} == {"created"}
    for n in (0, 999, 1999):
        assert client.job(results[n].job_id).result(WAIT) == {"n": n}


def test_a_worker_in_this_process_with_typed_tasks(server: Server) -> None:
    app = App(server.url)

    squares: queue.Queue[int] = queue.Queue()

    @app.task("py.child")
    async def child(ctx: Context, n: int) -> None:
        squares.put(n * n)

    @app.task("py.parent")
    def parent(ctx: Context, n: int) -> str:
        ctx.enqueue(child.s(n))
        return ctx.job_id

    worker = app.worker(concurrency=4)
    worker.start()
    try:
        job = parent.enqueue(3)
        assert job.result(WAIT) == job.id
        assert squares.get(timeout=WAIT) == 9
    finally:
        worker.stop()
        app.close()


def log_words(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def test_drain_gives_back_what_has_not_started(server: Server, tmp_path: Path) -> None:
    log = tmp_path / "log"
    worker = conformance_worker(server, CONF_QUEUES="drain", CONF_CONCURRENCY="1", CONF_PREFETCH="2", CONF_LOG=str(log))
    with Client(server.url) as client:
        jobs = [enqueue(client, "conf.sleep", {"ms": 500}, queue="drain") for _ in range(3)]
        eventually(lambda: log_words(log))
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert jobs[0].status().state is JobState.SUCCEEDED
        assert [job.status().state for job in jobs[1:]] == [JobState.READY] * 2
        assert [job.status().attempt for job in jobs[1:]] == [0, 0]
        for job in jobs[1:]:
            job.cancel()


def test_a_killed_worker_loses_only_its_own_jobs(server: Server, tmp_path: Path) -> None:
    # With the shortest lease, 10 s, the job runs elsewhere within 11.
    victim = conformance_worker(server, CONF_QUEUES="kill", CONF_LEASE_TTL_MS="10000")
    with Client(server.url) as client:
        job = enqueue(client, "conf.sleep", {"ms": 1500}, queue="kill")
        eventually(lambda: job.status().state is JobState.RUNNING)
        # The outcome of a later job follows the start of this one on the stream.
        enqueue(client, "conf.echo", queue="kill").result(WAIT)
        victim.end()
        heir = conformance_worker(server, CONF_QUEUES="kill", CONF_LEASE_TTL_MS="10000")
        try:
            assert job.result(30) == {"slept": 1500}
            status = job.status()
            assert (status.attempt, status.crashes, status.delivery) == (1, 1, 2)
        finally:
            heir.end()


def test_a_child_of_the_pool_that_dies_is_a_crash_and_no_attempt(server: Server) -> None:
    worker = pool_tasks.app.worker(concurrency=1, pool_size=1)
    worker._connection = Client(server.url)._connection()
    worker.start()
    try:
        with Client(server.url) as client:
            job = client.enqueue("pool.die", {"how": "kill"})
            assert job.result(WAIT) == "alive, checkpoint seen"
            status = job.status()
            assert (status.attempt, status.crashes, status.delivery) == (1, 1, 2)
            lines = [event.message for event in job.events() if isinstance(event, LogEvent)]
            assert lines == ["its process was killed by SIGKILL (out of memory?)"]
    finally:
        worker.stop()


def test_a_loop_blocked_for_longer_than_its_lease_keeps_it(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    app = App(server.url)

    @app.task("py.block")
    async def block() -> str:
        time.sleep(12)  # the shortest lease is 10 s
        return "still mine"

    @app.task("py.spin", executor="thread")
    def spin() -> int:
        until, count = time.monotonic() + 12, 0
        while time.monotonic() < until:
            count += 1
        return count

    worker = app.worker(concurrency=2, lease_ttl="10s")
    worker.start()
    try:
        jobs: list[Job[Any]] = [block.enqueue(), spin.enqueue()]
        assert jobs[0].result(30) == "still mine"
        assert jobs[1].result(30) > 0
        for job in jobs:
            status = job.status()
            assert (status.delivery, status.crashes, status.attempt) == (1, 0, 1)
    finally:
        worker.stop()
        app.close()
    assert any("blocked" in message and "py.block" in message for message in caplog.messages)


def test_a_server_restart_is_survived_with_handlers_running(tmp_path: Path) -> None:
    server = Server(f"embedded:{tmp_path / 'store'}")
    log = tmp_path / "log"
    worker = conformance_worker(server, CONF_CONCURRENCY="20", CONF_LOG=str(log))
    client = Client(server.url)
    try:
        go = tmp_path / "go"
        jobs = [enqueue(client, "conf.hold", {"until": str(go)}) for _ in range(20)]
        eventually(lambda: len(log_words(log)) == 20)  # all have started, and none ends before it is told to
        server.kill()
        server.start()
        go.touch()
        assert [job.result(30) for job in jobs] == [{"held": True}] * 20
        assert len([words for words in log_words(log) if words[0] == "start"]) == 20
        assert all(job.status().delivery == 1 for job in jobs)
    finally:
        client.close()
        worker.end()
        server.kill()


def test_enqueue_rides_over_a_restart(tmp_path: Path) -> None:
    server = Server(f"embedded:{tmp_path / 'store'}")
    client = Client(server.url)
    try:
        client.enqueue("nobody", {})
        server.kill()
        enqueued: list[Job[Any]] = []
        thread = threading.Thread(target=lambda: enqueued.append(client.enqueue("nobody", {})))
        thread.start()
        server.start()
        thread.join(2 * WAIT)
        assert len(enqueued) == 1
        assert enqueued[0].status().state is JobState.READY
    finally:
        client.close()
        server.kill()


def test_the_examples_run(server: Server) -> None:
    env = {"PYTHONPATH": str(ROOT / "src"), "JOBWIRE_URL": server.url}
    worker = subprocess.Popen([sys.executable, "hello_worker.py"], cwd=ROOT / "examples", env={**os.environ, **env})
    try:
        run: Callable[..., Any] = subprocess.run
        done = run(
            [sys.executable, "hello.py"],
            cwd=ROOT / "examples",
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=3 * WAIT,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[1:] == ["hello Ada"]
    finally:
        worker.terminate()
        assert worker.wait(WAIT) == 0


def test_the_mail_examples_run(server: Server) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "JOBWIRE_URL": server.url}
    command = [sys.executable, "-m", "jobwire._cli", "mail_tasks:app", "--concurrency", "50", "--log-level", "warning"]
    worker = subprocess.Popen(command, cwd=ROOT / "examples", env=env)
    try:
        done = subprocess.run(
            [sys.executable, "mail_producer.py"],
            cwd=ROOT / "examples",
            env=env,
            capture_output=True,
            text=True,
            timeout=6 * WAIT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert "succeeded" in lines
        assert "100 sent" in lines
        assert "['created', 'created']" in lines
        assert lines[-1] == "Receipt(sent=1)"
    finally:
        worker.terminate()
        assert worker.wait(WAIT) == 0
