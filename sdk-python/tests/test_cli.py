"""`jobwire-worker`: one process, several, ones that are replaced, and what it says when something is wrong."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from conftest import eventually
from scripted import WAIT, Scripted, StreamEnd, WorkerStream
from spawning import Spawn

from jobwire.v1 import worker_service_pb2 as pb


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing"], "expected module:attribute"),
        (["nowhere.at.all:app"], "no module 'nowhere.at.all'"),
        (["json:app"], "module 'json' has no 'app'"),
        (["json:dumps"], "not a jobwire.App"),
    ],
)
def test_the_command_says_what_is_wrong(spawn: Spawn, arguments: list[str], complaint: str) -> None:
    process = spawn("-m", "jobwire._cli", *arguments)
    _, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 1
    assert complaint in errors


def test_the_command_exits_with_one_when_the_server_refuses(server: Scripted, spawn: Spawn, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("from jobwire import App\napp = App()\napp.task('t')(lambda: None)\n")
    process = spawn("-m", "jobwire._cli", "tasks:app", cwd=tmp_path)
    server.stream().end(StreamEnd(grpc.StatusCode.PERMISSION_DENIED, "scope work is missing"))
    _, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 1
    assert "scope work is missing" in errors


def test_a_thread_that_hangs_does_not_keep_the_process(server: Scripted, spawn: Spawn, tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(
        textwrap.dedent("""
        import threading
        from jobwire import App
        app = App()
        @app.task("hang")
        def hang() -> None:
            threading.Event().wait()
        """)
    )
    process = spawn("-m", "jobwire._cli", "hanging:app", "--grace", "100ms", cwd=tmp_path)
    stream = server.stream()
    stream.welcome()
    stream.job("a", "hang")
    stream.until(lambda frame: "a" in frame.started)
    process.send_signal(signal.SIGTERM)
    assert stream.outcome("a").WhichOneof("result") == "released"
    assert stream.half_closed.wait(WAIT)
    stream.end()
    assert process.wait(WAIT) == 0


TASKS = """
    import os, threading, time
    from jobwire import App
    app = App()

    @app.task("pid")
    async def pid() -> int:
        return os.getpid()

    @app.task("crash")
    def crash() -> None:
        os._exit(9)

    @app.task("eat")
    def eat(mib: int) -> int:
        kept.append(b"x" * (mib << 20))
        return os.getpid()

    kept = []

    @app.task("hold")
    def hold() -> None:
        time.sleep(60)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(spawn: Spawn, tmp_path: Path) -> Start:
    (tmp_path / "tasks.py").write_text(textwrap.dedent(TASKS))
    return lambda *arguments: spawn("-m", "jobwire._cli", "tasks:app", *arguments, cwd=tmp_path)


def welcomed(server: Scripted, count: int = 1) -> list[WorkerStream]:
    streams = [server.stream() for _ in range(count)]
    for stream in streams:
        stream.pid = stream.welcome().info.pid
    return streams


def drained(*streams: WorkerStream) -> None:
    # Told to end before it has read the welcome, a worker ends without a farewell.
    for stream in streams:
        assert stream.ended.wait(WAIT)
        stream.end()


def test_several_processes_drain_together(server: Scripted, start: Start) -> None:
    process = start("--processes", "2", "--concurrency", "1")
    streams = welcomed(server, 2)
    assert len({stream.pid for stream in streams} | {process.pid}) == 3
    for stream in streams:
        stream.job("a", "pid")
        assert int(stream.outcome("a").succeeded.result.text) == stream.pid
    process.terminate()
    drained(*streams)
    _, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert "SIGTERM: draining" in errors


def test_a_second_signal_is_passed_on_as_well(server: Scripted, start: Start) -> None:
    process = start("--processes", "2")
    one, two = welcomed(server, 2)
    one.job("a", "hold")
    one.until(lambda frame: "a" in frame.started)
    process.send_signal(signal.SIGINT)
    drained(two)
    one.until(lambda frame: frame.state == pb.WORKER_STATE_DRAINING)  # two signals at once may be one
    process.send_signal(signal.SIGINT)
    assert one.outcome("a").WhichOneof("result") == "released"
    drained(one)
    assert process.wait(WAIT) == 0


def test_a_process_that_dies_is_replaced_and_its_siblings_are_not(server: Scripted, start: Start) -> None:
    process = start("--processes", "2")
    one, two = welcomed(server, 2)
    one.job("a", "crash")
    (three,) = welcomed(server)
    assert three.pid not in (one.pid, two.pid)
    two.job("b", "pid")
    assert int(two.outcome("b").succeeded.result.text) == two.pid
    process.terminate()
    drained(two, three)
    _, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert "ended with exit code 9; the next one starts in 0.5 s" in errors


def test_processes_end_when_their_parent_is_killed(server: Scripted, start: Start) -> None:
    process = start("--processes", "2")
    streams = welcomed(server, 2)
    process.kill()
    drained(*streams)


def test_a_process_is_replaced_after_so_many_jobs(server: Scripted, start: Start) -> None:
    process = start("--max-jobs", "2")
    (one,) = welcomed(server)
    for token in ("a", "b"):
        one.job(token, "pid")
        assert int(one.outcome(token).succeeded.result.text) == one.pid
    drained(one)
    (two,) = welcomed(server)
    assert two.pid != one.pid
    process.terminate()
    drained(two)
    assert process.wait(WAIT) == 0


def test_a_process_is_replaced_above_so_much_memory(server: Scripted, start: Start) -> None:
    process = start("--max-rss", "200")
    (one,) = welcomed(server)
    one.job("a", "pid")
    one.outcome("a")
    one.job("b", "eat", '{"mib": 300}')
    one.outcome("b")
    drained(one)
    (two,) = welcomed(server)
    process.terminate()
    drained(two)
    assert process.wait(WAIT) == 0


def test_a_process_that_the_server_ends_is_not_replaced(server: Scripted, start: Start) -> None:
    process = start("--processes", "2")
    streams = welcomed(server, 2)
    for stream in streams:
        stream.send(directive=pb.Directive(kind=pb.DIRECTIVE_KIND_TERMINATE))
    drained(*streams)
    assert process.wait(WAIT) == 0


def test_a_refusal_ends_all_of_them(server: Scripted, start: Start) -> None:
    process = start("--processes", "2")
    one, two = server.stream(), server.stream()
    one.end(StreamEnd(grpc.StatusCode.PERMISSION_DENIED, "scope work is missing"))
    two.welcome()
    drained(two)
    _, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 1
    assert "scope work is missing" in errors


def test_reload_starts_anew_and_waits_out_a_broken_file(server: Scripted, start: Start, tmp_path: Path) -> None:
    process = start("--reload")
    (one,) = welcomed(server)
    one.job("a", "hold")
    one.until(lambda frame: "a" in frame.started)
    (tmp_path / "tasks.py").write_text("raise RuntimeError('half written')")
    assert one.outcome("a").WhichOneof("result") == "released"
    drained(one)
    with pytest.raises(queue.Empty):
        server.streams.get(timeout=1.5)
    (tmp_path / "tasks.py").write_text(textwrap.dedent(TASKS).replace('"pid"', '"newer"'))
    stream = server.stream()
    assert "newer" in stream.welcome().types
    process.terminate()
    drained(stream)
    assert process.wait(WAIT) == 0


def is_ready(host: str, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/readyz") as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


def loopback_of_ones_own() -> str:
    """An address of this machine on which nobody else has ports, so that two in a row are free."""
    if sys.platform == "darwin":  # has no more than one
        return "127.0.0.1"
    return f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 256}.{os.getpid() // 25600 % 254 + 1}"


def test_the_health_of_each_process_has_its_port(server: Scripted, start: Start) -> None:
    host = loopback_of_ones_own()
    process = start("--processes", "2", "--health", f"{host}:9400")
    streams = welcomed(server, 2)
    for port in (9400, 9401):
        eventually(lambda port=port: is_ready(host, port))  # type: ignore[misc]
    process.terminate()
    drained(*streams)
    assert process.wait(WAIT) == 0


def test_a_health_port_in_use_is_said_at_once(server: Scripted, start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = start("--health", str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 1
    assert "health: cannot listen on 127.0.0.1:" in errors


@pytest.mark.parametrize("arguments", [["--processes", "0"], ["--max-jobs", "-1"], ["--concurrency", "many"]])
def test_wrong_numbers_are_wrong_usage(spawn: Spawn, arguments: list[str]) -> None:
    process = spawn("-m", "jobwire._cli", "json:dumps", *arguments)
    _, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 2
    assert arguments[0] in errors
