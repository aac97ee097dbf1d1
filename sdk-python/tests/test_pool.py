"""Handlers in child processes: what reaches them, what comes back, how they end."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pool_tasks
import pytest
from conftest import eventually
from scripted import WAIT, Scripted, WorkerStream

from jobwire import App, Worker
from jobwire.v1 import common_pb2
from jobwire.v1 import worker_service_pb2 as pb

Begin = Callable[..., WorkerStream]
ROOT = Path(__file__).parent.parent


@pytest.fixture
def begin(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """A worker of the tasks in pool_tasks, and its stream, welcomed."""
    monkeypatch.setenv("JOBWIRE_URL", server.url)
    workers: list[Worker] = []

    def start(**options: Any) -> WorkerStream:
        worker = pool_tasks.app.worker(**{"concurrency": 2, "prefetch": 2, **options})
        workers.append(worker)
        worker.start()
        stream = server.stream()
        stream.welcome()
        return stream

    yield start
    for worker in workers:
        worker.stop(0, wait=False)
        worker.stop(0, wait=False)


def returned(stream: WorkerStream, token: str) -> Any:
    outcome = stream.outcome(token)
    assert outcome.WhichOneof("result") == "succeeded", outcome
    return json.loads(outcome.succeeded.result.text)


def test_arguments_and_results_cross_as_json_and_the_child_is_kept(begin: Begin) -> None:
    stream = begin(pool_size=1)
    big = 2**80 + 1
    stream.job("a", "pool.double", json.dumps({"number": big, "name": "ä🎉"}))
    first = returned(stream, "a")
    assert (first["number"], first["name"], first["job"]) == (big * 2, "ä🎉", "job-a")
    assert first["pid"] != os.getpid()
    stream.job("b", "pool.double", json.dumps({"number": 1, "name": "x" * 900_000}))
    second = returned(stream, "b")
    assert (second["pid"], len(second["name"])) == (first["pid"], 900_000)


def test_a_bad_payload_and_a_bad_result_are_unprocessable(begin: Begin) -> None:
    stream = begin(pool_size=1)
    stream.job("a", "pool.double", '{"number": "one", "name": "x"}')
    stream.job("b", "pool.result")
    for token, words in (("a", "number: expected an integer"), ("b", "has no JSON form")):
        failed = stream.outcome(token).failed
        assert failed.failure.kind == common_pb2.FAILURE_KIND_UNPROCESSABLE
        assert words in failed.failure.message


def test_the_context_works_from_the_child(begin: Begin, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        stream = begin(pool_size=1)
        stream.job("a", "pool.talk")
        frames: list[Any] = []

        def done(frame: Any) -> bool:
            frames.append(frame)
            return bool(frame.outcomes)

        outcome = stream.until(done).outcomes[0]
    assert outcome.failed.failure.type == "ConnectionError"
    assert "pool_tasks.py" in outcome.failed.failure.stack_trace
    assert outcome.checkpoint.text == '{"step":3}'
    assert not outcome.enqueue
    reports = [report for frame in frames for report in frame.progress]
    assert 40 in [report.progress.percent for report in reports]
    lines = [line for frame in frames for report in frame.logs for line in report.lines]
    assert [(line.message, line.fields["logger"]) for line in lines] == [("hello from pool.talk", "user")]
    assert "hello from pool.talk" in caplog.messages  # the worker's own log shows it too
    stream.send(acked_seq=frames[-1].seq)
    stream.job("b", "pool.talk", attempt=2, checkpoint=common_pb2.Payload(text='{"step":3}'))
    outcome = stream.outcome("b")
    assert json.loads(outcome.succeeded.result.text) == {"before": {"step": 3}, "risk": False, "deadline": False}
    assert [spec.type for spec in outcome.enqueue] == ["pool.next"]


def test_what_it_raises_decides_the_outcome(begin: Begin) -> None:
    stream = begin()
    stream.job("a", "pool.hopeless")
    failed = stream.outcome("a").failed
    assert (failed.action, failed.failure.message) == (pb.FAILURE_ACTION_STOP, "no use")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [(pb.CANCEL_REASON_REQUESTED, "cancelled"), (pb.CANCEL_REASON_TIMEOUT, "failed")],
)
def test_a_cancelled_handler_cleans_up(begin: Begin, tmp_path: Path, reason: Any, expected: str) -> None:
    stream = begin(pool_size=1)
    mark = tmp_path / "mark"
    stream.job("a", "pool.wait", json.dumps({"mark": str(mark)}))
    eventually(lambda: mark.exists() and mark.read_text() == "begun")
    stream.send(cancels=[pb.CancelOrder(lease_token="a", reason=reason)])
    assert stream.outcome("a").WhichOneof("result") == expected
    assert mark.read_text() == "cleaned up"
    stream.job("b", "pool.double", '{"number": 1, "name": ""}')
    returned(stream, "b")


def test_a_timeout_interrupts_and_what_does_not_listen_is_killed(begin: Begin) -> None:
    stream = begin(pool_size=1)
    stream.job("warm", "pool.sleep", '{"seconds": 0}')
    child = returned(stream, "warm")
    job: dict[str, Any] = {"timeout": {"nanos": 50_000_000}}
    stream.job("a", "pool.spin", **job)
    failed = stream.outcome("a").failed
    assert failed.failure.kind == common_pb2.FAILURE_KIND_TIMEOUT
    stream.job("b", "pool.sleep", '{"seconds": 0}')
    assert returned(stream, "b") != child


def test_a_lost_lease_kills_and_reports_nothing(begin: Begin, tmp_path: Path) -> None:
    stream = begin(pool_size=1)
    mark = tmp_path / "mark"
    stream.job("a", "pool.wait", json.dumps({"mark": str(mark)}))
    eventually(lambda: mark.exists() and mark.read_text() == "begun")
    stream.send(heartbeat_ack=pb.HeartbeatAck(lost=["a"]))
    eventually(lambda: mark.read_text() == "cleaned up")
    stream.job("b", "pool.sleep", '{"seconds": 0}')
    frame = stream.until(lambda frame: frame.outcomes)
    assert [outcome.lease_token for outcome in frame.outcomes] == ["b"]


@pytest.mark.parametrize(("how", "words"), [("exit", "exit code 3"), ("kill", "SIGKILL"), ("segfault", "SIGSEGV")])
def test_a_child_that_dies_leaves_its_lease_unnamed_and_is_replaced(
    begin: Begin, caplog: pytest.LogCaptureFixture, how: str, words: str
) -> None:
    stream = begin(pool_size=1)
    stream.job("a", "pool.die", json.dumps({"how": how}))
    frames: list[Any] = []

    def beat(frame: Any) -> bool:
        frames.append(frame)
        return bool(frame.HasField("heartbeat"))

    frame = stream.until(beat)
    assert list(frame.heartbeat.held) == []
    assert not any(frame.outcomes for frame in frames)
    assert any("a" in frame.started for frame in frames[:-1])
    assert [report.checkpoint.text for frame in frames[:-1] for report in frame.progress] == ['"seen"']
    lines = [line.message for frame in frames[:-1] for report in frame.logs for line in report.lines]
    assert len(lines) == 1
    assert words in lines[0]
    assert any("the server counts a crash" in message for message in caplog.messages)
    stream.job("b", "pool.die", json.dumps({"how": how}), delivery=2)
    assert returned(stream, "b") == "alive, checkpoint seen"


def test_sys_exit_is_a_failure_like_any_other(begin: Begin) -> None:
    stream = begin()
    stream.job("a", "pool.die", '{"how": "sys.exit"}')
    assert stream.outcome("a").failed.failure.type == "SystemExit"


def test_a_child_that_died_idle_is_replaced_without_a_crash(begin: Begin) -> None:
    stream = begin(pool_size=1)
    stream.job("a", "pool.sleep", '{"seconds": 0}')
    child = returned(stream, "a")
    os.kill(child, 9)
    stream.job("b", "pool.sleep", '{"seconds": 0}')
    assert returned(stream, "b") != child


def test_children_are_recycled_after_so_many_jobs(begin: Begin) -> None:
    stream = begin(pool_size=1, max_jobs=2)
    pids = []
    for token in "abcd":
        stream.job(token, "pool.sleep", '{"seconds": 0}')
        pids.append(returned(stream, token))
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_children_are_recycled_above_so_much_memory(begin: Begin) -> None:
    stream = begin(pool_size=1, max_rss=200)
    pids = []
    for token, mib in (("a", 1), ("b", 300), ("c", 1)):
        stream.job(token, "pool.eat", json.dumps({"mib": mib}))
        pids.append(returned(stream, token))
    assert pids[0] == pids[1] != pids[2]


def test_the_pool_bounds_what_runs_and_does_not_hold_up_the_rest(begin: Begin) -> None:
    stream = begin(pool_size=1, concurrency=3)
    stream.job("warm", "pool.sleep", '{"seconds": 0}')
    returned(stream, "warm")
    stream.job("a", "pool.wait", json.dumps({"mark": os.devnull}))
    stream.until(lambda frame: "a" in frame.started)
    stream.job("b", "pool.sleep", '{"seconds": 0}')
    stream.job("c", "pool.pid")
    assert returned(stream, "c") == os.getpid()
    stream.send(cancels=[pb.CancelOrder(lease_token="a", reason=pb.CANCEL_REASON_REQUESTED)])
    frame = stream.until(lambda frame: frame.outcomes)
    assert frame.outcomes[0].lease_token == "a"
    stream.send(acked_seq=frame.seq)
    returned(stream, "b")


def test_a_drain_interrupts_children_and_gives_their_jobs_back(
    server: Scripted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JOBWIRE_URL", server.url)
    worker = pool_tasks.app.worker(concurrency=1, grace="50ms")
    worker.start()
    stream = server.stream()
    stream.welcome()
    mark = tmp_path / "mark"
    stream.job("a", "pool.wait", json.dumps({"mark": str(mark)}))
    eventually(lambda: mark.exists() and mark.read_text() == "begun")
    worker.stop(wait=False)
    assert stream.outcome("a").WhichOneof("result") == "released"
    assert mark.read_text() == "cleaned up"
    assert stream.half_closed.wait(WAIT)
    stream.end()
    worker.stop()


def test_tasks_that_no_child_can_import_are_refused_where_they_are_declared(app: App) -> None:
    def inner() -> None: ...

    for function in (inner, lambda: None):
        with pytest.raises(TypeError, match="at the top level of a module"):
            app.task("inner", executor="process")(function)

    async def coroutine() -> None: ...

    with pytest.raises(TypeError, match="does not run async def"):
        app.task("coroutine", executor="process")(coroutine)


def test_a_task_that_its_module_does_not_declare_fails_with_a_word_why(
    server: Scripted, app: App, work: Callable[..., Worker]
) -> None:
    import colorsys

    app.task("borrowed", executor="process")(colorsys.rgb_to_hsv)
    work()
    stream = server.stream()
    stream.welcome()
    stream.job("a", "borrowed", '{"r": 0, "g": 0, "b": 0}')
    assert "importing colorsys declares no task 'borrowed'" in stream.outcome("a").failed.failure.message


SCRIPT = """
    import os, signal, sys, threading
    from jobwire import App
    app = App()

    @app.task("main.pid", executor="process")
    def pid() -> int:
        return os.getpid()
"""


def script(server: Scripted, tmp_path: Path, end: str) -> subprocess.Popen[str]:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT) + end)
    env = {**os.environ, "JOBWIRE_URL": server.url, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen([sys.executable, str(path)], env=env, stderr=subprocess.PIPE, text=True)


def test_a_script_may_declare_tasks_of_the_pool(server: Scripted, tmp_path: Path) -> None:
    process = script(server, tmp_path, 'if __name__ == "__main__":\n    app.worker(concurrency=1).run()\n')
    stream = server.stream()
    stream.welcome()
    stream.job("a", "main.pid")
    assert returned(stream, "a") != process.pid
    process.terminate()
    assert stream.half_closed.wait(WAIT)
    stream.end()
    _, errors = process.communicate(timeout=WAIT)
    assert (process.returncode, errors) == (0, "")


def test_a_script_without_its_guard_is_told_about_it(server: Scripted, tmp_path: Path) -> None:
    process = script(server, tmp_path, "app.worker(concurrency=1).run()\n")
    stream = server.stream()
    stream.welcome()
    stream.job("a", "main.pid")
    assert "no child process for it" in stream.outcome("a").failed.failure.message
    process.terminate()
    assert stream.half_closed.wait(WAIT)
    stream.end()
    _, errors = process.communicate(timeout=WAIT)
    assert '`if __name__ == "__main__":`' in errors


def test_a_task_typed_into_an_interpreter_is_refused(server: Scripted) -> None:
    code = textwrap.dedent(SCRIPT) + "app.worker()"
    env = {**os.environ, "JOBWIRE_URL": server.url, "PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "ValueError: main.pid: executor='process' needs a module" in run.stderr


def test_killing_the_worker_ends_its_children(server: Scripted, tmp_path: Path) -> None:
    process = script(server, tmp_path, 'if __name__ == "__main__":\n    app.worker(concurrency=1).run()\n')
    stream = server.stream()
    stream.welcome()
    stream.job("a", "main.pid")
    child = returned(stream, "a")
    process.kill()
    process.communicate(timeout=WAIT)

    def gone() -> bool:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return True
        return Path(f"/proc/{child}/stat").read_text().split()[2] == "Z"

    eventually(gone)
