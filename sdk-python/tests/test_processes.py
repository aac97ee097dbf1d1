"""Several event loops in a process, forked children, and worker processes that get signals."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import textwrap
import threading
from pathlib import Path

import pytest
from conftest import eventually
from scripted import WAIT, Scripted
from spawning import ROOT, Spawn

from jobwire import App
from jobwire.v1 import worker_service_pb2 as pb


def test_four_loops_in_a_process_share_a_client(server: Scripted, app: App) -> None:
    ids: list[str] = []

    async def produce() -> None:
        jobs = await asyncio.gather(*(app.aenqueue("t") for _ in range(50)))
        ids.extend(job.id for job in jobs)

    threads = [threading.Thread(target=asyncio.run, args=(produce(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert len(set(ids)) == 200


@pytest.mark.parametrize("use_before", ["", "first", "result"])
def test_a_forked_child_makes_its_own_connection(server: Scripted, spawn: Spawn, use_before: str) -> None:
    server.answers["AwaitResults"] = lambda request: []
    code = """
        import os, sys, time
        from jobwire import App
        app = App()
        used = sys.argv[1]
        if used:
            app.enqueue("parent")
        if used == "result":
            try: app.job("x").result("10ms")
            except TimeoutError: pass
        pid = os.fork()
        if pid == 0:
            app.enqueue("child")
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        app.enqueue("parent after")
        pid = os.fork()
        if pid == 0:
            app.enqueue("child")
            sys.exit(8)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 8
    """
    process = spawn("-c", textwrap.dedent(code), use_before)
    _, errors = process.communicate(timeout=3 * WAIT)
    assert process.returncode == 0, errors
    types = [request.job.type for request in server.named("Enqueue")]
    assert types == ["parent"] * bool(use_before) + ["child", "parent after", "child"]


def test_multiprocessing_children_enqueue(server: Scripted, spawn: Spawn, tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(
        textwrap.dedent("""
        import multiprocessing
        from jobwire import App
        app = App()
        def enqueue(n):
            return app.enqueue("t", {"n": n}).id
        if __name__ == "__main__":
            app.enqueue("parent")
            for method in ("fork", "spawn"):
                with multiprocessing.get_context(method).Pool(2) as pool:
                    assert len(set(pool.map(enqueue, range(10)))) == 10
        """)
    )
    process = spawn(str(tmp_path / "pool.py"))
    _, errors = process.communicate(timeout=3 * WAIT)
    assert process.returncode == 0, errors
    assert len(server.named("Enqueue")) >= 1


def test_a_running_worker_does_not_fork_in_silence(server: Scripted, spawn: Spawn, tmp_path: Path) -> None:
    (tmp_path / "forking.py").write_text(
        textwrap.dedent("""
        import os
        from jobwire import App
        app = App()

        @app.task("fork")
        def fork() -> list:
            answers, child = os.pipe()
            pid = os.fork()
            if pid == 0:
                try:
                    worker.stop()
                except RuntimeError as error:
                    os.write(child, str(error).encode())
                os.write(child, app.enqueue("from the child").id.encode())
                os._exit(7)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            return [code, os.read(answers, 1000).decode()]

        worker = app.worker(concurrency=1)
        worker.run()
        """)
    )
    process = spawn("forking.py", cwd=tmp_path)
    stream = server.stream()
    stream.welcome()
    stream.job("a", "fork")
    code, words = json.loads(stream.outcome("a").succeeded.result.text)
    assert code == 7
    assert f"this worker runs in process {process.pid}" in words
    assert [request.job.type for request in server.named("Enqueue")] == ["from the child"]
    stream.job("b", "fork")  # the worker goes on
    stream.outcome("b")
    process.terminate()
    assert stream.ended.wait(WAIT)
    stream.end()
    _, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert "this process forks while a worker runs in it" in errors


GUNICORN = """
    import os
    from jobwire import App
    app = App()
    app.enqueue("in the master")  # used before the fork, as a preloaded module may

    def application(environ, start_response):
        job = app.enqueue("in a worker", {"pid": os.getpid()})
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [job.id.encode()]
"""


def test_gunicorn_with_preload(server: Scripted, spawn: Spawn, tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(textwrap.dedent(GUNICORN))
    path = tmp_path / "socket"
    arguments = ["--preload", "--workers", "2", "--bind", f"unix:{path}", "--log-level", "warning"]
    process = spawn("-m", "gunicorn", "site_app:application", *arguments, cwd=tmp_path)

    def answered() -> bool:
        try:
            with client() as ours:
                ours.settimeout(WAIT)
                ours.connect(str(path))
                ours.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return b"200 OK" in ours.recv(1000)
        except OSError:
            return False

    for _ in range(8):
        eventually(answered)
    process.terminate()
    assert process.wait(WAIT) == 0
    jobs = [request.job for request in server.named("Enqueue")]
    assert [job.type for job in jobs][:1] == ["in the master"]
    assert len([job for job in jobs if job.type == "in a worker"]) >= 8
    pids = {json.loads(job.payload.text)["pid"] for job in jobs[1:]}
    assert process.pid not in pids


def client() -> socket.socket:
    return socket.socket(socket.AF_UNIX)


def test_an_idle_producer_exits_by_itself(server: Scripted, spawn: Spawn) -> None:
    server.answers["AwaitResults"] = lambda request: []
    code = """
        from jobwire import Client
        client = Client()
        client.enqueue("t")
        try: client.job("x").result("10ms")
        except TimeoutError: print("bye")
    """
    process = spawn("-c", textwrap.dedent(code))
    output, errors = process.communicate(timeout=WAIT)
    assert (process.returncode, output, errors) == (0, "bye\n", "")


def conformance_worker(spawn: Spawn, **env: str) -> subprocess.Popen[str]:
    return spawn(str(ROOT / "tests" / "conformance_worker.py"), **env)


def test_sigterm_drains_and_exits_zero(server: Scripted, spawn: Spawn, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = conformance_worker(spawn, CONF_CONCURRENCY="1", CONF_PREFETCH="1", CONF_LOG=str(log))
    stream = server.stream()
    hello = stream.welcome()
    assert "conf.sleep" in hello.types
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    stream.job("a", "conf.sleep", '{"ms":2000}')
    stream.job("b", "conf.echo", "{}")
    stream.until(lambda frame: frame.received_seq == 3)
    process.send_signal(signal.SIGTERM)
    frame = stream.until(lambda frame: frame.outcomes)
    assert frame.state == pb.WORKER_STATE_DRAINING
    assert [(o.lease_token, o.WhichOneof("result")) for o in frame.outcomes] == [("b", "released")]
    stream.send(acked_seq=frame.seq)
    assert stream.outcome("a").succeeded.result.text == '{"slept":2000}'
    assert stream.half_closed.wait(WAIT)
    stream.end()
    assert process.wait(WAIT) == 0
    words = [line.split() for line in log.read_text().splitlines()]
    assert [(w[0], w[1], w[2], w[3], int(w[4])) for w in words] == [
        ("start", "job-a", "1", "1", process.pid),
        ("end", "job-a", "1", "1", process.pid),
    ]
    assert words[1][6] == "ok"


def test_a_second_signal_releases_now(server: Scripted, spawn: Spawn) -> None:
    process = conformance_worker(spawn)
    stream = server.stream()
    stream.welcome()
    stream.job("a", "conf.hang", '{"ms":60000}')
    stream.until(lambda frame: "a" in frame.started)
    process.send_signal(signal.SIGINT)
    stream.until(lambda frame: frame.state == pb.WORKER_STATE_DRAINING)
    process.send_signal(signal.SIGINT)
    assert stream.outcome("a").WhichOneof("result") == "released"
    assert stream.half_closed.wait(WAIT)
    stream.end()
    assert process.wait(WAIT) == 0
