"""The health endpoint: what it says while a worker lives, and that it says so early when it cannot."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
from conftest import eventually
from scripted import Scripted

from jobwire import App, InvalidArgument, NonRetryable, Worker
from jobwire.v1 import worker_service_pb2 as pb

Work = Callable[..., Worker]


def get(worker: Worker, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.health_port}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metrics(worker: Worker) -> dict[str, float]:
    lines = [line for line in get(worker, "/metrics")[1].splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_ready_is_the_stream_and_not_draining(server: Scripted, app: App, work: Work) -> None:
    app.task("t")(lambda: None)
    worker = work(health=0)
    stream = server.stream()
    assert get(worker, "/livez") == (200, "ok\n")
    assert get(worker, "/readyz") == (503, "not connected, or draining\n")
    stream.welcome()
    eventually(lambda: get(worker, "/readyz")[0] == 200)
    stream.end()
    again = server.stream()
    assert get(worker, "/readyz")[0] == 503
    again.welcome()
    eventually(lambda: get(worker, "/readyz")[0] == 200)
    assert metrics(worker)["jobwire_client_reconnects_total"] == 1
    again.send(directive=pb.Directive(kind=pb.DIRECTIVE_KIND_TERMINATE))
    again.until(lambda frame: frame.state == pb.WORKER_STATE_DRAINING)
    assert get(worker, "/nothing")[0] == 404


def test_metrics_count_by_type_and_outcome(server: Scripted, app: App, work: Work) -> None:
    @app.task("good")
    async def good() -> None: ...

    @app.task("bad")
    def bad() -> None:
        raise NonRetryable("no")

    @app.task("slow")
    def slow() -> None:
        hold.wait()

    hold = threading.Event()
    worker = work(health="127.0.0.1:0", concurrency=3, prefetch=2)
    stream = server.stream()
    stream.welcome()
    for token, kind in (("a", "good"), ("b", "good"), ("c", "bad")):
        stream.job(token, kind)
        stream.outcome(token)
    stream.job("d", "slow")
    stream.until(lambda frame: "d" in frame.started)
    values = metrics(worker)
    assert values['jobwire_worker_jobs_total{type="good",outcome="succeeded"}'] == 2
    assert values['jobwire_worker_jobs_total{type="bad",outcome="failed"}'] == 1
    assert values["jobwire_worker_slots"] == 5
    assert values["jobwire_worker_running"] == 1
    stream.send(directive=pb.Directive(kind=pb.DIRECTIVE_KIND_QUIET))
    eventually(lambda: metrics(worker)["jobwire_worker_slots"] == 0)
    hold.set()


def test_the_lag_of_a_blocked_loop_is_seen_while_it_is_blocked(server: Scripted, app: App, work: Work) -> None:
    @app.task("block")
    async def block() -> None:
        time.sleep(2.2)

    worker = work(health=0)
    stream = server.stream()
    stream.welcome()
    stream.job("a", "block")
    eventually(lambda: metrics(worker)["jobwire_worker_loop_lag_seconds"] > 0.5)
    stream.outcome("a")


def test_a_port_in_use_is_an_error_at_start(app: App) -> None:
    app.task("t")(lambda: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        worker = app.worker(health=taken.getsockname()[1])
        with pytest.raises(InvalidArgument, match="health: cannot listen on 127") as caught:
            worker.start()
    assert caught.value.field == "health"


@pytest.mark.parametrize("health", ["nowhere", "127.0.0.1:", "127.0.0.1:70000", True])
def test_wrong_addresses_are_refused_at_once(app: App, health: object) -> None:
    app.task("t")(lambda: None)
    with pytest.raises(InvalidArgument, match="health"):
        app.worker(health=health)  # type: ignore[arg-type]
