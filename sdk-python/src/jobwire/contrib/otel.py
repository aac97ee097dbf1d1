"""Traces and metrics by OpenTelemetry, on as soon as `opentelemetry-api` is installed: nothing has to be called.

Spans: `enqueue {queue}` (PRODUCER) around each enqueue, one for a call that enqueues many, and `process {queue}`
(CONSUMER) around each attempt, whose outcome is an event of it. The producer's context travels in the job's headers, as
W3C `traceparent`, `tracestate` and `baggage`, and is never rewritten. An attempt is a child of the producer's span,
with a link to it, when it is the first of a single job that was due within a minute; else it begins a trace of its own,
with a link. What a handler enqueues is a child of its attempt.

Metrics: `messaging.client.sent.messages`, `messaging.client.consumed.messages`, `messaging.client.operation.duration`,
`messaging.process.duration`, `jobwire.worker.slots`, `jobwire.worker.loop_lag`, `jobwire.client.reconnects`.

No payload, result, header or token is in any of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, cast

from opentelemetry import context, metrics, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .._convert import seconds
from .._errors import JobwireError
from .._instrument import CARRIED, Instrument, instrument
from .._leases import Outcome
from .._outcomes import type_name
from .._version import __version__
from ..v1 import job_pb2
from ..v1 import worker_service_pb2 as pb

if TYPE_CHECKING:
    from .._batch_execution import BatchExecution
    from .._executors import Execution
    from .._worker import Worker

TraceMode = Literal["parent", "link", "none"]

# The conventions are still in development: these are all the names.
SYSTEM = {"messaging.system": "jobwire"}
DESTINATION = "messaging.destination.name"
OPERATION_NAME, OPERATION_TYPE = "messaging.operation.name", "messaging.operation.type"
MESSAGE_ID, CONVERSATION_ID = "messaging.message.id", "messaging.message.conversation_id"
BATCH_COUNT, CLIENT_ID, ERROR_TYPE = "messaging.batch.message_count", "messaging.client.id", "error.type"
TYPE, ATTEMPT, DELIVERY = "jobwire.type", "jobwire.attempt", "jobwire.delivery"
SCHEDULE_ID, STATE = "jobwire.schedule_id", "jobwire.state"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

SOON = 60.0  # seconds from enqueue to start within which a job still belongs to its producer's trace
VENDOR = "jobwire"  # our member of tracestate; "link": one of many, or not soon, so it begins a trace of its own
_traces = TraceContextTextMapPropagator()
_baggage = W3CBaggagePropagator()
Attributes = dict[str, Any]


def configure(
    *,
    trace_mode: TraceMode | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Changes how this process traces; call it before the first enqueue and before a worker runs.

    trace_mode: how an attempt relates to the span that enqueued its job: "parent" = always its child, "link" = always
        a trace of its own with a link, "none" = neither. Default: by the rule in the module's text.
    tracer_provider, meter_provider: default: OpenTelemetry's global ones.
    """
    if trace_mode not in (None, "parent", "link", "none"):
        raise ValueError(f'trace_mode: expected "parent", "link" or "none", got {trace_mode!r}')
    cast(Telemetry, instrument()).set_up(trace_mode, tracer_provider, meter_provider)


class Telemetry(Instrument):
    """Spans and metrics of this process."""

    def __init__(self) -> None:
        self._workers: set[Worker] = set()
        self.set_up(None, None, None)

    def set_up(
        self, trace_mode: TraceMode | None, tracers: TracerProvider | None, meters: MeterProvider | None
    ) -> None:
        """Makes the instruments."""
        self._mode = trace_mode
        self._tracer = trace.get_tracer("jobwire", __version__, tracers)
        meter = metrics.get_meter("jobwire", __version__, meters)
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}", "Jobs enqueued")
        self._consumed = meter.create_counter("messaging.client.consumed.messages", "{message}", "Attempts begun")
        self._sending = meter.create_histogram(
            "messaging.client.operation.duration", "s", "Time to enqueue", explicit_bucket_boundaries_advisory=BUCKETS
        )
        self._processing = meter.create_histogram(
            "messaging.process.duration", "s", "Time in handlers", explicit_bucket_boundaries_advisory=BUCKETS
        )
        self._reconnects = meter.create_counter("jobwire.client.reconnects", "{reconnect}", "Streams opened again")
        meter.create_observable_gauge("jobwire.worker.slots", [self._slots], "{slot}", "Handlers that may run at once")
        meter.create_observable_gauge("jobwire.worker.loop_lag", [self._lag], "s", "How late the event loop is")

    # --- producers ----------------------------------------------------------------------------------------------

    @contextmanager
    def sending(self, spec: job_pb2.JobSpec) -> Iterator[Callable[[str], None]]:
        """A span for one job."""
        queue = spec.queue or spec.type
        measured = {OPERATION_NAME: "enqueue", OPERATION_TYPE: "send", DESTINATION: queue, **SYSTEM}
        with self._producer(f"enqueue {queue}", {**measured, TYPE: spec.type}) as span:
            with _marked(span) if _delayed(spec) else nullcontext():
                self.spawning(spec)
            with self._measured(measured, {queue: 1}):
                yield lambda job_id: span.set_attribute(MESSAGE_ID, job_id)

    @contextmanager
    def sending_many(self) -> Iterator[Callable[[job_pb2.JobSpec], None]]:
        """One span for all jobs of a call."""
        measured: Attributes = {OPERATION_NAME: "enqueue", OPERATION_TYPE: "send", **SYSTEM}
        queues: Counter[str] = Counter()
        with self._producer("enqueue", measured) as span:
            try:

                def sends(spec: job_pb2.JobSpec) -> None:
                    queues[spec.queue or spec.type] += 1
                    with _marked(span):
                        self.spawning(spec)

                with self._measured(measured, queues):
                    yield sends
            finally:
                span.set_attribute(BATCH_COUNT, queues.total())
                if len(queues) == 1:
                    (queue,) = queues
                    span.update_name(f"enqueue {queue}")
                    span.set_attribute(DESTINATION, queue)

    def spawning(self, spec: job_pb2.JobSpec) -> None:
        """The span of this thread or task goes into the headers, unless the application put one there."""
        if "traceparent" in spec.headers:
            return
        if trace.get_current_span().get_span_context().is_valid:
            _traces.inject(spec.headers)
            if "baggage" not in spec.headers:
                _baggage.inject(spec.headers)
        else:
            super().spawning(spec)

    def _producer(self, name: str, attributes: Attributes) -> AbstractContextManager[Span]:
        return self._tracer.start_as_current_span(
            name, kind=SpanKind.PRODUCER, attributes=attributes, record_exception=False, set_status_on_exception=False
        )

    @contextmanager
    def _measured(self, attributes: Attributes, queues: Mapping[str, int]) -> Iterator[None]:
        began = time.monotonic()
        failed: Attributes = {}
        try:
            yield
        except BaseException as error:
            failed[ERROR_TYPE] = error.code if isinstance(error, JobwireError) else type_name(type(error))
            trace_failure(failed[ERROR_TYPE])
            raise
        finally:
            if len(queues) == 1:
                attributes[DESTINATION] = next(iter(queues))
            self._sending.record(time.monotonic() - began, {**attributes, **failed})
            for queue, count in queues.items():
                self._sent.add(count, {OPERATION_NAME: "enqueue", DESTINATION: queue, **SYSTEM, **failed})

    # --- workers ------------------------------------------------------------------------------------------------

    @contextmanager
    def processing(self, execution: Execution) -> Iterator[None]:
        """A span for one attempt."""
        job, task = execution.lease.job, execution.lease.job.task
        queue = task.queue or task.type
        measured = {OPERATION_NAME: "process", OPERATION_TYPE: "process", DESTINATION: queue, **SYSTEM}
        attributes: Attributes = {
            **measured,
            MESSAGE_ID: task.id,
            CONVERSATION_ID: task.workflow_id,
            CLIENT_ID: execution.sink.worker_id,
            TYPE: task.type,
            ATTEMPT: job.attempt,
            DELIVERY: job.delivery,
            SCHEDULE_ID: task.schedule_id,
        }
        parent, links = self._origin(job)
        span = self._tracer.start_span(
            f"process {queue}",
            parent,
            SpanKind.CONSUMER,
            {name: value for name, value in attributes.items() if value != ""},
            links,
        )
        failed: Attributes = {}

        def watch(outcome: Outcome | None) -> None:
            state = "lost" if outcome is None else outcome.WhichOneof("result") or "unknown"
            span.add_event("outcome", {STATE: state})
            span.set_attribute(STATE, state)
            if outcome is not None and state == "failed":
                failed[ERROR_TYPE] = outcome.failed.failure.type or "unknown"
                span.set_attribute(ERROR_TYPE, failed[ERROR_TYPE])
                span.set_status(Status(StatusCode.ERROR, failed[ERROR_TYPE]))

        execution.watch = watch
        token = context.attach(trace.set_span_in_context(span, parent))
        began = time.monotonic()
        try:
            yield
        finally:
            context.detach(token)
            self._processing.record(time.monotonic() - began, {**measured, **failed})
            self._consumed.add(1, {OPERATION_NAME: "process", DESTINATION: queue, **SYSTEM, **failed})
            span.end()

    @contextmanager
    def processing_batch(self, execution: BatchExecution) -> Iterator[None]:
        """A span for one call, with a link to the producer of each job."""
        tasks = [lease.job.task for lease in execution.leases]
        queues = {task.queue or task.type for task in tasks}
        queue = queues.pop() if len(queues) == 1 else tasks[0].type
        measured = {OPERATION_NAME: "process", OPERATION_TYPE: "process", DESTINATION: queue, **SYSTEM}
        attributes: Attributes = {
            **measured,
            BATCH_COUNT: len(tasks),
            CLIENT_ID: execution.sink.worker_id,
            TYPE: tasks[0].type,
        }
        producers = (trace.get_current_span(_traces.extract(task.headers, Context())) for task in tasks)
        contexts = [span.get_span_context() for span in producers] if self._mode != "none" else []
        links = [Link(producer) for producer in contexts if producer.is_valid]
        span = self._tracer.start_span(f"process {queue}", Context(), SpanKind.CONSUMER, attributes, links)
        failures: Counter[str] = Counter()

        def watch(outcome: Outcome | None) -> None:
            if outcome is not None and outcome.WhichOneof("result") == "failed":
                failures[outcome.failed.failure.type or "unknown"] += 1

        execution.watch = watch
        token = context.attach(trace.set_span_in_context(span, Context()))
        began = time.monotonic()
        try:
            yield
        finally:
            context.detach(token)
            common = next(iter(failures), None) if failures.total() == len(tasks) else None  # a failed call
            failed: Attributes = {} if common is None else {ERROR_TYPE: common}
            self._processing.record(time.monotonic() - began, {**measured, **failed})
            consumed = {OPERATION_NAME: "process", DESTINATION: queue, **SYSTEM}
            for type, count in failures.items():
                self._consumed.add(count, {**consumed, ERROR_TYPE: type})
            if failures.total() < len(tasks):
                self._consumed.add(len(tasks) - failures.total(), consumed)
            if common is not None:
                span.set_attribute(ERROR_TYPE, common)
                span.set_status(Status(StatusCode.ERROR, common))
            span.end()

    def _origin(self, job: pb.JobLease) -> tuple[Context, list[Link]]:
        """The context that the attempt's span starts in, and its links."""
        headers = job.task.headers
        empty = _baggage.extract(headers, Context())
        there = _traces.extract(headers, empty)
        producer = trace.get_current_span(there).get_span_context()
        mode = self._mode or _mode(job, producer)
        if not producer.is_valid or mode == "none":
            return empty, []
        if mode == "link":
            return empty, [Link(producer)]
        return trace.set_span_in_context(NonRecordingSpan(_unmarked(producer)), there), [Link(producer)]

    def carry(self, headers: MutableMapping[str, str]) -> None:
        """The attempt's span, as a header that only the child sees."""
        carrier: dict[str, str] = {}
        _traces.inject(carrier)
        if "traceparent" in carrier:
            headers[CARRIED] = carrier["traceparent"]

    @contextmanager
    def carried(self, headers: MutableMapping[str, str]) -> Iterator[None]:
        """The parent process made the span; what the handler does here belongs to it."""
        carrier = {"traceparent": headers.pop(CARRIED, "")}
        token = context.attach(_traces.extract(carrier, _baggage.extract(headers, Context())))
        try:
            yield
        finally:
            context.detach(token)

    @contextmanager
    def working(self, worker: Worker) -> Iterator[None]:
        """Its gauges are read while it works."""
        self._workers.add(worker)
        try:
            yield
        finally:
            self._workers.discard(worker)

    def reconnected(self, worker: Worker) -> None:
        """Counts it."""
        self._reconnects.add(1, {CLIENT_ID: worker.config.worker_id})

    def _slots(self, _: CallbackOptions) -> Iterable[Observation]:
        for worker in list(self._workers):
            busy = worker.running
            free = max(worker.config.concurrency - busy, 0)
            for state, count in (("busy", busy), ("free", free)):
                yield Observation(count, {CLIENT_ID: worker.config.worker_id, "state": state})

    def _lag(self, _: CallbackOptions) -> Iterable[Observation]:
        for worker in list(self._workers):
            yield Observation(worker.loop_lag, {CLIENT_ID: worker.config.worker_id})


def trace_failure(type: str) -> None:
    """The current span failed."""
    span = trace.get_current_span()
    span.set_attribute(ERROR_TYPE, type)
    span.set_status(Status(StatusCode.ERROR, type))


def _mode(job: pb.JobLease, producer: SpanContext) -> TraceMode:
    task = job.task
    if job.attempt > 1 or job.delivery > 1 or task.schedule_id or job.dependencies:
        return "link"
    if producer.trace_state.get(VENDOR) == "link":
        return "link"
    if task.HasField("create_time"):
        due = time.time() - seconds(job.wait_duration)
        if due - task.create_time.ToNanoseconds() / 1e9 > SOON:
            return "link"
    return "parent"


def _delayed(spec: job_pb2.JobSpec) -> bool:
    if spec.HasField("delay"):
        return seconds(spec.delay) > SOON
    return spec.HasField("schedule_time") and spec.schedule_time.ToNanoseconds() / 1e9 - time.time() > SOON


@contextmanager
def _marked(span: Span) -> Iterator[None]:
    """Jobs that get the span's context here tell workers to link."""
    own = span.get_span_context()
    state = own.trace_state.add(VENDOR, "link")
    marked = NonRecordingSpan(SpanContext(own.trace_id, own.span_id, own.is_remote, own.trace_flags, state))
    token = context.attach(trace.set_span_in_context(marked))
    try:
        yield
    finally:
        context.detach(token)


def _unmarked(producer: SpanContext) -> SpanContext:
    state = producer.trace_state.delete(VENDOR) if VENDOR in producer.trace_state else producer.trace_state
    return SpanContext(producer.trace_id, producer.span_id, True, producer.trace_flags, state)
