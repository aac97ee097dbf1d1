"""contrib.otel: spans and metrics of producers and workers, through a real server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import eventually
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from otel_tasks import app as other
from otel_tasks import burn
from scripted import Scripted, StreamEnd

from jobwire import App, BatchContext, Context, NonRetryable, Retry, Worker
from jobwire.contrib.otel import configure
from jobwire.testing import TestServer, fake

ROOT = Path(__file__).parent.parent
WAIT = 10.0
CONSUMED = "messaging.client.consumed.messages"


class Telemetry:
    """What was recorded."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.tracer = self.tracers.get_tracer("test")

    def spans(self, name: str, count: int = 1) -> list[ReadableSpan]:
        """Finished spans of a name, by start, once there are so many."""
        found: list[ReadableSpan] = []

        def there() -> bool:
            found[:] = [span for span in self.exporter.get_finished_spans() if span.name == name]
            return len(found) >= count

        eventually(there)
        assert len(found) == count
        return sorted(found, key=lambda span: span.start_time or 0)

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Attributes and value (a histogram's count) of a metric's points."""
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == name]
        assert len(metrics) == 1, name
        return [
            (dict(point.attributes or {}), getattr(point, "value", getattr(point, "count", None)))
            for point in metrics[0].data.data_points
        ]


@pytest.fixture(scope="module")
def server() -> Iterator[TestServer]:
    with TestServer() as server:
        yield server


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    configure(tracer_provider=telemetry.tracers, meter_provider=telemetry.meters)
    yield telemetry
    configure()


@pytest.fixture
def app(server: TestServer) -> Iterator[App]:
    app = App(server.url)

    @app.task("double", queue="numbers")
    async def double(n: int) -> int:
        trace.get_current_span().set_attribute("test.inside", n)
        return 2 * n

    @app.task("seen")
    def seen(ctx: Context) -> dict[str, Any]:
        return {"baggage": dict(baggage.get_all()), "headers": dict(ctx.headers)}

    @app.task("flaky", retry=Retry(initial_delay="10ms", jitter=0))
    def flaky(ctx: Context) -> str:
        if ctx.attempt == 1:
            raise ConnectionError("secret")
        raise NonRetryable("over")

    @app.task("family")
    def family(ctx: Context) -> str:
        ctx.enqueue(double.s(7))
        return double.enqueue(8).id

    yield app
    app.close()


@pytest.fixture
def work(app: App) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def start(app: App = app) -> Worker:
        worker = app.worker(name="w-1", concurrency=3, prefetch=0)
        started.append(worker)
        worker.start()
        assert worker.wait_ready(WAIT)
        return worker

    yield start
    for worker in started:
        worker.stop(0)


def test_a_job_is_a_child_of_its_producer(telemetry: Telemetry, app: App, work: Callable[..., Worker]) -> None:
    with telemetry.tracer.start_as_current_span("request") as request:
        job = app.tasks["double"].enqueue(3)
    work()
    assert job.result(WAIT) == 6
    (enqueue,) = telemetry.spans("enqueue numbers")
    (process,) = telemetry.spans("process numbers")
    assert enqueue.parent is not None
    assert enqueue.parent.span_id == request.get_span_context().span_id
    assert (enqueue.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert dict(enqueue.attributes or {}) == {
        "messaging.system": "jobwire",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.destination.name": "numbers",
        "messaging.message.id": job.id,
        "jobwire.type": "double",
    }
    assert process.parent is not None
    assert process.context.trace_id == request.get_span_context().trace_id
    assert process.parent.span_id == enqueue.context.span_id
    assert [link.context.span_id for link in process.links] == [enqueue.context.span_id]
    assert dict(process.attributes or {}) == {
        "messaging.system": "jobwire",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "numbers",
        "messaging.message.id": job.id,
        "messaging.client.id": "w-1",
        "jobwire.type": "double",
        "jobwire.attempt": 1,
        "jobwire.delivery": 1,
        "jobwire.state": "succeeded",
        "test.inside": 3,
    }
    assert [(event.name, dict(event.attributes or {})) for event in process.events] == [
        ("outcome", {"jobwire.state": "succeeded"})
    ]


def test_retries_link_and_failures_say_what_failed(telemetry: Telemetry, app: App, work: Callable[..., Worker]) -> None:
    work()
    job = app.tasks["flaky"].enqueue()
    for _ in job.events():
        pass
    (enqueue,) = telemetry.spans("enqueue flaky")
    first, second = telemetry.spans("process flaky", 2)
    assert first.context.trace_id == enqueue.context.trace_id
    assert second.context.trace_id != enqueue.context.trace_id
    assert second.parent is None
    assert [link.context.span_id for link in second.links] == [enqueue.context.span_id]
    assert first.attributes is not None
    assert (first.attributes["error.type"], first.attributes["jobwire.state"]) == ("ConnectionError", "failed")
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, "ConnectionError")
    assert "secret" not in first.to_json()


def test_delayed_jobs_link(telemetry: Telemetry, app: App, work: Callable[..., Worker]) -> None:
    with fake(app) as jobs:
        app.tasks["double"].opts(delay="30s").enqueue(1)
        app.tasks["double"].opts(delay="2m").enqueue(2)
        jobs.advance("5m")
    soon, late = telemetry.spans("process numbers", 2)
    assert soon.parent is not None
    assert late.parent is None
    assert len(late.links) == 1


def test_a_bulk_call_is_one_span_that_its_jobs_link_to(
    telemetry: Telemetry, app: App, work: Callable[..., Worker]
) -> None:
    work()
    results = app.tasks["double"].enqueue_many([1, 2, 3])
    asyncio.run(app.aenqueue_many([("double", {"n": 4}), ("seen", {})]))
    assert [app.job(result.job_id).result(WAIT) for result in results] == [2, 4, 6]
    (enqueue,) = telemetry.spans("enqueue numbers")
    assert enqueue.attributes is not None
    assert enqueue.attributes["messaging.batch.message_count"] == 3
    processed = telemetry.spans("process numbers", 3)
    assert all(span.parent is None for span in processed)
    assert all([link.context.span_id for link in span.links] == [enqueue.context.span_id] for span in processed)
    (mixed,) = telemetry.spans("enqueue")
    assert mixed.attributes is not None
    assert mixed.attributes["messaging.batch.message_count"] == 2
    assert "messaging.destination.name" not in mixed.attributes


def test_what_a_handler_enqueues_is_its_child(telemetry: Telemetry, app: App, work: Callable[..., Worker]) -> None:
    work()
    app.job(app.tasks["family"].run()).result(WAIT)
    (parent,) = telemetry.spans("process family")
    (enqueue,) = telemetry.spans("enqueue numbers")
    assert enqueue.parent is not None
    assert enqueue.parent.span_id == parent.context.span_id
    children = telemetry.spans("process numbers", 2)
    assert all(child.context.trace_id == parent.context.trace_id for child in children)
    assert {child.parent.span_id for child in children if child.parent} == {
        parent.context.span_id,
        enqueue.context.span_id,
    }


def test_a_batch_is_one_span_that_links_to_its_producers(
    telemetry: Telemetry, app: App, work: Callable[..., Worker]
) -> None:
    @app.batch_task("index", max_size=3, linger="5s", retry=1)
    def index(ctx: BatchContext, numbers: list[dict[str, int]]) -> None:
        ctx[0].fail(ValueError("one of them"))
        ctx[1].enqueue("child", {})

    jobs = [index.enqueue({"n": n}) for n in range(3)]
    work()
    eventually(lambda: all(job.status().state.terminal for job in jobs))
    producers = telemetry.spans("enqueue index", 3)
    (span,) = telemetry.spans("process index")
    assert span.kind is SpanKind.CONSUMER
    assert span.parent is None
    assert span.attributes is not None
    assert span.attributes["messaging.batch.message_count"] == 3
    assert span.status.status_code is StatusCode.UNSET
    linked = {link.context.span_id for link in span.links}
    assert linked == {producer.context.span_id for producer in producers if producer.context is not None}
    consumed = {attributes.get("error.type"): count for attributes, count in telemetry.points(CONSUMED)}
    assert consumed == {"ValueError": 1, None: 2}


def test_coalesced_calls_keep_a_span_each(telemetry: Telemetry, app: App) -> None:
    async def main() -> None:
        await asyncio.gather(*(app.aenqueue("nobody", {}) for _ in range(20)))

    asyncio.run(main())
    spans = telemetry.spans("enqueue nobody", 20)
    assert len({span.attributes["messaging.message.id"] for span in spans if span.attributes}) == 20


@pytest.mark.parametrize(("mode", "child", "links"), [("parent", True, 1), ("link", False, 1), ("none", False, 0)])
def test_trace_mode(
    telemetry: Telemetry, app: App, work: Callable[..., Worker], mode: Any, child: bool, links: int
) -> None:
    configure(trace_mode=mode, tracer_provider=telemetry.tracers, meter_provider=telemetry.meters)
    work()
    (result,) = app.tasks["double"].enqueue_many([1])
    app.job(result.job_id).result(WAIT)
    (process,) = telemetry.spans("process numbers")
    assert (process.parent is not None, len(process.links)) == (child, links)
    assert "jobwire" not in process.context.trace_state
    with pytest.raises(ValueError, match="trace_mode"):
        configure(trace_mode="sideways")  # type: ignore[arg-type]


def test_baggage_travels_and_headers_of_ones_own_stay(
    telemetry: Telemetry, app: App, work: Callable[..., Worker]
) -> None:
    work()
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        result = app.tasks["seen"].run()
    finally:
        context.detach(token)
    assert result["baggage"] == {"tenant": "acme"}
    assert set(result["headers"]) == {"traceparent", "baggage"}
    own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert app.tasks["seen"].opts(headers={"traceparent": own}).run()["headers"] == {"traceparent": own}
    (process,) = [
        span for span in telemetry.spans("process seen", 2) if span.context.trace_id == int(own.split("-")[1], 16)
    ]
    assert process.parent is not None


def test_a_call_that_fails_is_a_failed_span(telemetry: Telemetry, app: App) -> None:
    with pytest.raises(ValueError, match="priority"):
        app.enqueue("nobody", {}, priority=9)
    (span,) = telemetry.spans("enqueue nobody")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "INVALID_ARGUMENT"
    assert span.status.status_code is StatusCode.ERROR
    ((attributes, count),) = telemetry.points("messaging.client.sent.messages")
    assert (attributes["error.type"], count) == ("INVALID_ARGUMENT", 1)


def test_metrics(telemetry: Telemetry, app: App, work: Callable[..., Worker]) -> None:
    work()
    for n in range(3):
        app.tasks["double"].run(n)
    app.tasks["double"].enqueue_many([1, 2])
    flaky = app.tasks["flaky"].enqueue()
    for _ in flaky.events():
        pass
    telemetry.spans("process numbers", 5)
    base = {"messaging.system": "jobwire", "messaging.destination.name": "numbers"}
    sent = {**base, "messaging.operation.name": "enqueue"}
    assert (sent, 5) in telemetry.points("messaging.client.sent.messages")
    assert ({**sent, "messaging.operation.type": "send"}, 4) in telemetry.points("messaging.client.operation.duration")
    consumed = {**base, "messaging.operation.name": "process"}
    assert (consumed, 5) in telemetry.points("messaging.client.consumed.messages")
    processed = telemetry.points("messaging.process.duration")
    assert ({**consumed, "messaging.operation.type": "process"}, 5) in processed
    assert [attributes["error.type"] for attributes, _ in processed if "error.type" in attributes] == [
        "ConnectionError",
        "jobwire._errors.NonRetryable",
    ]
    slots = telemetry.points("jobwire.worker.slots")
    assert ({"messaging.client.id": "w-1", "state": "free"}, 3) in slots
    lags = {at["messaging.client.id"]: lag for at, lag in telemetry.points("jobwire.worker.loop_lag")}
    assert lags["w-1"] >= 0


def test_reconnects_are_counted(telemetry: Telemetry, tmp_path: Path) -> None:
    scripted = Scripted()
    app = App(scripted.url)
    app.task("t")(lambda: None)
    worker = app.worker(name="w-2", prefetch=0)
    worker.start()
    stream = scripted.stream()
    stream.welcome()
    assert worker.wait_ready(WAIT)
    stream.end(StreamEnd(grpc.StatusCode.UNAVAILABLE, "bye"))
    scripted.stream().welcome()
    eventually(lambda: _has(telemetry, "jobwire.client.reconnects"))
    assert telemetry.points("jobwire.client.reconnects") == [({"messaging.client.id": "w-2"}, 1)]
    worker.stop(0, wait=False)
    scripted.stop()


def test_a_child_process_goes_on_in_the_trace(
    telemetry: Telemetry, server: TestServer, work: Callable[..., Worker]
) -> None:
    other._url = server.url
    work(other)
    seen: Any = burn.run(3)
    (process,) = telemetry.spans("process burn")
    assert seen["current"] == f"{process.context.trace_id:032x}-{process.context.span_id:016x}"
    assert "jobwire-carried" not in seen["headers"]
    (enqueue,) = telemetry.spans("enqueue burn")
    assert process.parent is not None
    assert process.parent.span_id == enqueue.context.span_id
    other.close()


def test_without_opentelemetry_nothing_is_imported() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None      # as if it were not installed
from jobwire import App
from jobwire.testing import inline
app = App()
task = app.task("t")(lambda: 7)
with inline(app):
    assert task.run() == 7
    task.enqueue_many([()])
assert not [name for name in sys.modules if name.startswith("jobwire.contrib")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "src")


def _has(telemetry: Telemetry, name: str) -> bool:
    data = telemetry.reader.get_metrics_data()
    return data is not None and any(
        m.name == name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics
    )
