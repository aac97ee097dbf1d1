"""Each example does what it says, with a real server. What the README shows is regions of them."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobwire import App
from jobwire.testing import TestServer

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
WAIT = 20.0

PRINTED = {
    "options": ["May for acme", "True", "True replaced"],
    "retries": ["charged at attempt 3", "no invoice 404"],
    "canvas": [
        "16",
        "18",
        "[0, 1, 4, 9, 16]",
        "90",
        "24",
        "[10, 11, 12]",
        "[2, 12]",
        "[45, 145, 245]",
        "{'canvas.broken': 'no way to work with 3'}",
        "succeeded 909",
        "canvas.note cancelled",
    ],
    "cancel": ["encode: requested", "upload: requested"],
    "cpu": ["168"],
    "batch": ["stored 5", "3 of 4 delivered: ['Ada', 'Bo', 'Dee']"],
    "bulk": ["['created', 'created', 'created']", "100 resized", "250 accepted"],
    "operate": [
        "dead: nobody is no address",
        "would retry 1",
        "deleted 1",
        "SMTP is down 0 20",
        "jobwire-python active True",
    ],
    "progress": ["100.0 row 2", "imported 3 rows", "succeeded"],
    "coming_from_celery": ["True", "8", "succeeded", "ValueError: nowhere is no path", "4 4"],
    "coming_from_sidekiq": ["0 3 dead", "True", "sent bob's mail", "3"],
    "schedules": ["created 0 6 1 * *", "At 02:30, Europe/Berlin", "['monthly-report']", "urgent", "5 ticks"],
    "telemetry": ["pack", "process orders", "enqueue orders", "request"],
}


@pytest.fixture(scope="module")
def server() -> Iterator[TestServer]:
    with TestServer() as server:
        yield server


@pytest.mark.parametrize("name", PRINTED)
def test_what_an_example_prints(server: TestServer, name: str) -> None:
    script = f"import {name} as example\nworker = example.app.worker()\nworker.start()\nexample.main()\nworker.stop()"
    env = {**os.environ, "JOBWIRE_URL": server.url, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(EXAMPLES)])}
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=3 * WAIT, check=False)
    assert done.returncode == 0, done.stderr
    assert set(PRINTED[name]) - set(done.stdout.splitlines()) == set(), done.stdout


def test_the_tests_of_an_application() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "test_orders.py"]
    done = subprocess.run(command, cwd=EXAMPLES, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_the_worker_of_a_deployment(server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    env = {**os.environ, "JOBWIRE_URL": server.url, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}
    monkeypatch.syspath_prepend(str(EXAMPLES))
    shutdown = importlib.import_module("shutdown")
    process = subprocess.Popen(
        [sys.executable, "shutdown.py"], cwd=EXAMPLES, env=env, stdout=subprocess.PIPE, text=True
    )
    monkeypatch.setenv("JOBWIRE_URL", server.url)
    app: App = shutdown.app
    try:
        assert app.run(shutdown.sweep.s(), wait=WAIT) == "swept"
    finally:
        app.close()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert out.splitlines() == ["open for nightly.sweep", "closed"]
