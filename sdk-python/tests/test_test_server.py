"""jobwire.testing: the real server, and the pytest plugin."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from conftest import eventually

from jobwire import App, JobState
from jobwire.testing import TestServer, test_server

SRC = Path(__file__).parent.parent / "src"


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("store", ["memory", "embedded"])
def test_a_real_server(store: str) -> None:
    with test_server(store=store) as server, App(server.url) as app:  # type: ignore[arg-type]
        assert app.enqueue("nobody", {}).status().state is JobState.READY
        assert answers(server.http_url)
        assert '"jobwire serves"' in server.log
        url = server.http_url
    assert not answers(url)
    server.stop()


def test_it_ends_with_its_owner() -> None:
    code = """
import os, sys
from jobwire.testing import TestServer
server = TestServer()
print(server.http_url, flush=True)
if sys.argv[1] == "kill":
    os.kill(os.getpid(), 9)
"""
    for how in ("exit", "kill"):
        env = {**os.environ, "PYTHONPATH": str(SRC)}
        owner = subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, env=env, check=False)
        url = owner.stdout.strip()
        assert url.startswith("http://127.0.0.1:"), owner.stderr
        eventually(lambda url=url: not answers(url))  # type: ignore[misc]


def test_no_binary_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("JOBWIRE_BIN", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match="gone is no program: set JOBWIRE_BIN"):
        TestServer()
    monkeypatch.delenv("JOBWIRE_BIN")
    with pytest.raises(FileNotFoundError, match="no jobwire on the PATH"):
        TestServer()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    program = tmp_path / "jobwire"
    program.write_text("#!/bin/sh\necho 'the store is on fire' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"(?s)did not start.*on fire"):
        TestServer(binary=str(program))


def test_the_plugin_gives_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from jobwire import App
        from jobwire.testing import TestServer, test_server   # neither is taken for a test

        app = App("jobwire://127.0.0.1:1")

        @app.task("add")
        def add(a: int) -> int:
            return a + 1

        def test_fake(jobwire_fake):
            jobs = jobwire_fake(app)
            job = add.opts(delay="1h").enqueue(1)
            jobs.advance("1h")
            assert job.result() == 2
            jobs.assert_enqueued(add, {"a": 1}, times=1)

        def test_the_fake_is_gone():
            assert app._stand_in is None

        def test_server_answers(jobwire_server):
            with App(jobwire_server) as real:
                assert real.enqueue("nobody", {}).status().state.value == "ready"
        """
    )
    done = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=3)


def test_importing_the_helpers_does_not_import_pytest() -> None:
    code = "import sys, jobwire.testing; print('pytest' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(SRC)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert run.stdout == "False\n"
