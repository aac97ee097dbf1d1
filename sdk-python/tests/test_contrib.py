"""The framework examples, run as their users run them: a request comes, a worker does the job, the result is there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import eventually

from jobwire.testing import TestServer

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
WAIT = 10.0
Run = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def server() -> Iterator[TestServer]:
    with TestServer() as server:
        yield server


@pytest.fixture
def run(server: TestServer, tmp_path: Path) -> Iterator[Run]:
    """Starts a Python process in an example's directory; ends it, politely, with the test."""
    started: list[subprocess.Popen[bytes]] = []
    env = {
        **os.environ,
        "JOBWIRE_URL": server.url,
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONWARNINGS": "error::DeprecationWarning:jobwire",
        "DATABASE": str(tmp_path / "db.sqlite3"),
        "DJANGO_SETTINGS_MODULE": "mysite.settings",
    }

    def start(directory: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, *arguments]
        log = (tmp_path / "log").open("ab")
        process = subprocess.Popen(command, cwd=EXAMPLES / directory, env=env, stdout=log, stderr=log)
        log.close()
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
    codes = [process.wait(WAIT) for process in started]
    print((tmp_path / "log").read_text(errors="replace"))
    assert set(codes) <= {0, -15}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def fetch(url: str, form: dict[str, str] | None = None, body: Any = None) -> Any:
    data = urllib.parse.urlencode(form).encode() if form else json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data, {"content-type": "application/json"} if body else {})
    with urllib.request.urlopen(request, timeout=3 * WAIT) as response:
        return json.load(response)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_fastapi(run: Run) -> None:
    port = free_port()
    run("fastapi_app", "-m", "uvicorn", "main:api", "--port", str(port))
    run("fastapi_app", "-m", "jobwire._cli", "tasks:app")
    eventually(lambda: listens(port))
    url = f"http://127.0.0.1:{port}/mails"
    id = fetch(url, body={"to": "ada@example.com", "body": "hello"})["id"]
    assert fetch(f"{url}/{id}") == {"to": "ada@example.com", "characters": 5}


def test_fastapi_with_a_worker_inside(run: Run) -> None:
    port = free_port()
    process = run("fastapi_app", "-m", "uvicorn", "with_worker:api", "--port", str(port))
    eventually(lambda: listens(port))
    url = f"http://127.0.0.1:{port}/mails"
    id = fetch(url, body={"to": "bob@example.com"})["id"]
    assert fetch(f"{url}/{id}") == {"to": "bob@example.com", "characters": 0}
    process.terminate()
    assert process.wait(WAIT) in (0, -15)


def test_fastapi_without_the_lifespan_says_what_is_missing() -> None:
    from fastapi import FastAPI
    from fastapi.requests import HTTPConnection

    from jobwire.contrib.fastapi import jobs

    with pytest.raises(RuntimeError, match="lifespan"):
        jobs(HTTPConnection({"type": "http", "app": FastAPI()}))


def test_flask(run: Run) -> None:
    port = free_port()
    run("flask_app", "-m", "flask", "--app", "main", "run", "--port", str(port))
    run("flask_app", "-m", "jobwire._cli", "main:jobs")
    eventually(lambda: listens(port))
    url = f"http://127.0.0.1:{port}/reports"
    id = fetch(url, {"name": "May"})["id"]
    assert fetch(f"{url}/{id}") == {"report": "Report for May"}


def test_flask_configuration() -> None:
    from flask import Flask

    from jobwire.contrib.flask import Jobwire
    from jobwire.testing import fake

    jobs = Jobwire(url="jobwire://a", timeout="1s")
    task = jobs.task("t", retry=1)(lambda: 1)
    assert (jobs._url, jobs._timeout) == ("jobwire://a", 1)
    with fake(jobs) as enqueued:
        job = task.enqueue()
        enqueued.run()
        failure = job.status().failure
        assert failure is not None
        assert "call init_app(flask)" in failure.message
    flask = Flask("x")
    flask.config.update(JOBWIRE_URL="jobwire://b", JOBWIRE_TIMEOUT="2s", JOBWIRE_TOKEN="secret")
    jobs.init_app(flask)
    assert (jobs._url, jobs._timeout, jobs._settings["token"]) == ("jobwire://b", 2, "secret")
    assert flask.extensions["jobwire"] is jobs
    assert set(jobs.tasks) == {"t"}


def test_django(run: Run, server: TestServer) -> None:
    from jobwire import Client

    assert run("django_site", "manage.py", "migrate", "--verbosity", "0").wait(3 * WAIT) == 0
    port = free_port()
    run("django_site", "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}")
    run("django_site", "manage.py", "jobwire_worker", "--concurrency", "5")
    eventually(lambda: listens(port))
    url = f"http://127.0.0.1:{port}/orders"
    order = fetch(url, {"email": "ada@example.com"})["order"]
    eventually(lambda: fetch(f"{url}/{order}")["confirmed"])
    with Client(server.url) as client:
        assert client.run("orders.count", {}, queue="orders", wait=3 * WAIT) == 1
        assert client.run("orders.audit", {}, queue="orders", wait=3 * WAIT) == 1


def test_django_transactions_and_connections(tmp_path: Path) -> None:
    script = """
import django
django.setup()
from django.core.management import call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from jobwire.contrib.django import app, enqueue_on_commit
from jobwire.testing import fake
from orders.models import Order
from orders.tasks import confirm

call_command("migrate", verbosity=0)
with fake(app) as jobs:
    with transaction.atomic():
        enqueue_on_commit(confirm.s(1))
        assert jobs.enqueued == []
    jobs.assert_enqueued(confirm, {"order": 1}, times=1)
    try:
        with transaction.atomic():
            enqueue_on_commit(confirm.s(2))
            raise KeyError
    except KeyError:
        pass
    jobs.assert_enqueued(confirm, times=1)
    try:
        enqueue_on_commit(confirm.s())
    except TypeError:
        pass
    else:
        raise AssertionError("a wrong call was accepted")
    jobs.clear()
    order = Order.objects.create(email="a@b.c")
    assert connection.connection is not None
    enqueue_on_commit(confirm.s(order.pk))
    jobs.run()
    assert connection.connection is None       # closed after the job, because CONN_MAX_AGE is 0
    order.refresh_from_db()
    assert order.confirmed
assert app._timeout == 10
"""
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "DATABASE": str(tmp_path / "db.sqlite3"),
        "DJANGO_SETTINGS_MODULE": "mysite.settings",
    }
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=EXAMPLES / "django_site", env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_django_refuses_settings_that_it_does_not_know() -> None:
    script = """
from django.conf import settings
settings.configure(INSTALLED_APPS=["jobwire.contrib.django"], JOBWIRE={"URI": "x"})
import django
django.setup()
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert "JOBWIRE: unknown key 'URI'; known are URL, TOKEN" in done.stderr
