"""The whole worker against a scripted server: threads, stream and executors around the session machine."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from conftest import eventually
from scripted import WAIT, Scripted, StreamEnd, WorkerStream

import jobwire
from jobwire import App, Context, Discard, NonRetryable, Queue, Release, RetryAfter, Snooze, Worker
from jobwire.v1 import common_pb2, job_pb2
from jobwire.v1 import worker_service_pb2 as pb

Work = Callable[..., Worker]


@dataclass
class Mail:
    to: str
    copies: int = 1


def begin(server: Scripted, work: Work, **options: Any) -> WorkerStream:
    work(**options)
    stream = server.stream()
    stream.welcome()
    return stream


def test_hello_says_who_is_talking_and_what_it_takes(server: Scripted, app: App, work: Work) -> None:
    app.task("b.two", queue="shared")(lambda: None)
    app.task("a.one")(lambda: None)
    work(concurrency=3, prefetch=4, lease_ttl="15s", name="pod-1", app_version="v7", labels={"zone": "b"})
    hello = server.stream().welcome()
    assert list(hello.types) == ["a.one", "b.two"]
    assert [s.queue for s in hello.subscriptions] == ["a.one", "shared"]
    assert (hello.capacity.slots, hello.capacity.concurrency) == (7, 3)
    assert hello.lease_ttl.seconds == 15
    assert (hello.worker_id, hello.info.app_version, hello.info.labels["zone"]) == ("pod-1", "v7", "b")
    assert hello.info.sdk == "jobwire-python"
    assert hello.revision == 1


def test_queues_option_becomes_subscriptions(server: Scripted, app: App, work: Work) -> None:
    app.task("t")(lambda: None)
    work(queues=["mail", Queue("reports-*", weight=2, strict=True, max_slots=5)])
    first, second = server.stream().welcome().subscriptions
    assert first.queue == "mail"
    assert (second.queue, second.weight, second.strict, second.max_slots) == ("reports-*", 2, True, 5)


def test_token_travels_on_the_stream(server: Scripted, work: Work, monkeypatch: pytest.MonkeyPatch, app: App) -> None:
    monkeypatch.setenv("JOBWIRE_TOKEN", "s3cret")
    app.task("t")(lambda: None)
    begin(server, work)
    assert server.metadata[0]["authorization"] == "Bearer s3cret"


def test_coroutines_and_functions_get_typed_arguments_and_a_context(server: Scripted, app: App, work: Work) -> None:
    @app.task("sole")
    async def sole(ctx: Context, mail: Mail) -> dict[str, Any]:
        return {"mail": mail.to, "copies": mail.copies, "attempt": ctx.attempt, "queue": ctx.queue}

    @app.task("keys")
    def keys(path: str, width: int = 800) -> list[Any]:
        return [path, width, threading.current_thread().name]

    stream = begin(server, work)
    stream.job("a", "sole", '{"to":"ä","extra":1}', attempt=3)
    assert stream.outcome("a").succeeded.result.text == '{"mail":"ä","copies":1,"attempt":3,"queue":"sole"}'
    stream.job("b", "keys", '{"path":"x"}')
    assert stream.outcome("b").succeeded.result.text == '["x",800,"jobwire-handler"]'


def test_big_integers_stay_exact(server: Scripted, app: App, work: Work) -> None:
    @app.task("echo")
    async def echo(payload: dict[str, Any]) -> dict[str, Any]:
        return payload

    stream = begin(server, work)
    stream.job("a", "echo", '{"n":12345678901234567890123}')
    assert stream.outcome("a").succeeded.result.text == '{"n":12345678901234567890123}'


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [("{}", "to: missing"), ('{"to":1}', "to: expected a string"), ("[1]", "expected an object"), ("{", "not JSON")],
)
def test_a_payload_that_does_not_fit_is_unprocessable(
    server: Scripted, app: App, work: Work, payload: str, complaint: str
) -> None:
    @app.task("mail")
    async def mail(mail: Mail) -> None: ...

    stream = begin(server, work)
    stream.job("a", "mail", payload)
    failed = stream.outcome("a").failed
    assert failed.failure.kind == common_pb2.FAILURE_KIND_UNPROCESSABLE
    assert failed.action == pb.FAILURE_ACTION_STOP
    assert complaint in failed.failure.message


def test_a_result_without_json_form_is_unprocessable(server: Scripted, app: App, work: Work) -> None:
    app.task("odd")(lambda: object())
    app.task("nan")(lambda: float("nan"))
    stream = begin(server, work)
    for token, type in (("a", "odd"), ("b", "nan")):
        stream.job(token, type)
        assert stream.outcome(token).failed.failure.kind == common_pb2.FAILURE_KIND_UNPROCESSABLE


async def for_ever() -> None:
    """What a handler awaits that only a cancel ends; tells the test that it has come so far."""
    waiting.release()
    await asyncio.Event().wait()


waiting = threading.Semaphore(0)


def begun() -> None:
    """Waits until a handler is in `for_ever`."""
    assert waiting.acquire(timeout=WAIT)


class Flaky(Exception):
    pass


def test_an_exception_is_a_failure_with_type_message_stack_and_cause(server: Scripted, app: App, work: Work) -> None:
    @app.task("fail")
    async def fail() -> None:
        try:
            raise KeyError("deep")
        except KeyError as error:
            raise Flaky("bad weather") from error

    @app.task("plain", no_retry_on=(LookupError,))
    def plain() -> None:
        raise IndexError("over")

    stream = begin(server, work)
    stream.job("a", "fail")
    failed = stream.outcome("a").failed
    assert (failed.failure.type, failed.failure.message) == ("test_worker.Flaky", "bad weather")
    assert "in fail" in failed.failure.stack_trace
    assert failed.failure.cause.type == "KeyError"
    assert failed.action == pb.FAILURE_ACTION_UNSPECIFIED
    stream.job("b", "plain")
    failed = stream.outcome("b").failed
    assert (failed.failure.type, failed.action) == ("IndexError", pb.FAILURE_ACTION_STOP)


@pytest.mark.parametrize(
    ("error", "check"),
    [
        (RetryAfter("1.5s"), lambda o: (o.failed.action, o.failed.retry_delay.nanos) == (1 + 0, 500_000_000)),
        (NonRetryable("no"), lambda o: (o.failed.action, o.failed.failure.message) == (2, "no")),
        (Discard("eh"), lambda o: (o.failed.action, o.failed.failure.message) == (3, "eh")),
        (Snooze("60s", throttle="queue"), lambda o: (o.snoozed.delay.seconds, o.snoozed.throttle) == (60, 2)),
        (Snooze(5, throttle="key", reason="429"), lambda o: (o.snoozed.reason, o.snoozed.throttle) == ("429", 1)),
        (Release("later"), lambda o: o.released.reason == "later"),
        (RetryAfter("soon"), lambda o: o.failed.failure.type == "jobwire._errors.InvalidArgument"),
        (SystemExit(3), lambda o: o.failed.failure.type == "SystemExit"),
    ],
)
def test_what_a_handler_raises_decides_the_outcome(
    server: Scripted, app: App, work: Work, error: BaseException, check: Callable[[Any], bool]
) -> None:
    @app.task("raise")
    async def raising() -> None:
        raise error

    stream = begin(server, work)
    stream.job("a", "raise")
    outcome = stream.outcome("a")
    assert check(outcome), outcome


def cancel_order(token: str, reason: Any = pb.CANCEL_REASON_REQUESTED) -> dict[str, Any]:
    return {"cancels": [pb.CancelOrder(lease_token=token, reason=reason, message="user left")]}


def test_cancel_reaches_a_coroutine_and_a_thread(server: Scripted, app: App, work: Work) -> None:
    seen: list[Any] = []

    @app.task("loop")
    async def loop(ctx: Context) -> None:
        try:
            await for_ever()
        finally:
            seen.append(ctx.cancel_reason)

    @app.task("thread")
    def thread(ctx: Context) -> None:
        assert ctx.wait_cancelled(WAIT)
        seen.append(ctx.cancel_reason)
        ctx.raise_if_cancelled()

    stream = begin(server, work)
    stream.job("a", "loop")
    stream.job("b", "thread")
    begun()
    stream.send(**cancel_order("a"))
    assert stream.outcome("a").cancelled.reason == "user left"
    stream.send(**cancel_order("b", pb.CANCEL_REASON_WORKFLOW))
    assert stream.outcome("b").WhichOneof("result") == "cancelled"
    assert seen == ["requested", "workflow"]


def test_a_handler_that_finishes_in_spite_of_a_cancel_has_succeeded(server: Scripted, app: App, work: Work) -> None:
    @app.task("stubborn")
    async def stubborn() -> str:
        try:
            await for_ever()
        except asyncio.CancelledError:
            return "done"
        raise AssertionError

    stream = begin(server, work)
    stream.job("a", "stubborn")
    begun()
    stream.send(**cancel_order("a"))
    assert stream.outcome("a").succeeded.result.text == '"done"'


def test_timeout_is_reported_once_the_handler_has_stopped(server: Scripted, app: App, work: Work) -> None:
    @app.task("slow")
    async def slow() -> None:
        await for_ever()

    stream = begin(server, work)
    job = pb.JobLease(lease_token="a", task=pb.Task(type="slow"))
    job.timeout.FromMilliseconds(50)
    stream.send(jobs=[job])
    begun()
    failure = stream.outcome("a").failed.failure
    assert failure.kind == common_pb2.FAILURE_KIND_TIMEOUT
    assert failure.message == "the attempt timed out after 0.05 s"


def test_a_lost_lease_cancels_the_handler_and_reports_nothing(server: Scripted, app: App, work: Work) -> None:
    reasons: list[Any] = []

    @app.task("wait")
    async def wait(ctx: Context) -> None:
        try:
            await for_ever()
        finally:
            reasons.append(ctx.cancel_reason)

    app.task("next")(lambda: None)
    stream = begin(server, work)
    stream.job("a", "wait")
    begun()
    stream.send(heartbeat_ack=pb.HeartbeatAck(lost=["a"]))
    eventually(lambda: reasons == ["lease_lost"])
    stream.job("b", "next")
    frame = stream.until(lambda frame: frame.outcomes)
    assert [outcome.lease_token for outcome in frame.outcomes] == ["b"]


def test_progress_logs_and_checkpoint_travel(server: Scripted, app: App, work: Work) -> None:
    @app.task("talk")
    async def talk(ctx: Context) -> None:
        ctx.progress(10)
        ctx.progress(current=5, total=10, message="half", data={"k": 1})
        logging.getLogger("somewhere").warning("two %s", "words")
        ctx.log.info("mine")
        ctx.save_checkpoint({"step": 1})
        raise Flaky

    stream = begin(server, work)
    stream.job("a", "talk")
    frames = []
    stream.until(lambda frame: frames.append(frame) or any(o.lease_token == "a" for o in frame.outcomes))  # type: ignore[func-returns-value]
    progress = [report.progress for frame in frames for report in frame.progress if report.HasField("progress")]
    assert (progress[-1].current, progress[-1].total, progress[-1].message) == (5, 10, "half")
    assert progress[-1].data["k"] == 1
    lines = [line for frame in frames for report in frame.logs for line in report.lines]
    assert [(line.level, line.message) for line in lines] == [
        (job_pb2.LOG_LEVEL_WARN, "two words"),
        (job_pb2.LOG_LEVEL_INFO, "mine"),
    ]
    assert lines[0].fields["logger"] == "somewhere"
    assert frames[-1].outcomes[0].checkpoint.text == '{"step":1}'


def test_logs_outside_of_handlers_are_not_captured(server: Scripted, app: App, work: Work) -> None:
    app.task("quiet")(lambda: None)
    stream = begin(server, work)
    logging.getLogger("elsewhere").error("not a job's line")
    stream.job("a", "quiet")
    frame = stream.until(lambda frame: frame.outcomes)
    assert not frame.logs


def test_context_tells_the_job_and_is_ambient(server: Scripted, app: App, work: Work) -> None:
    @app.task("ambient")
    async def ambient() -> list[Any]:
        ctx = jobwire.current_context()
        assert ctx is not None
        failure = ctx.last_failure
        return [
            ctx.job_id,
            ctx.delivery,
            ctx.checkpoint,
            dict(ctx.headers),
            failure and failure.type,
            ctx.lease_at_risk,
        ]

    stream = begin(server, work)
    task = pb.Task(id="j-1", type="ambient", headers={"tenant": "x"})
    checkpoint = common_pb2.Payload(text='{"at":3}')
    last = common_pb2.Failure(type="E")
    stream.send(jobs=[pb.JobLease(lease_token="a", task=task, delivery=4, checkpoint=checkpoint, last_failure=last)])
    assert stream.outcome("a").succeeded.result.text == '["j-1",4,{"at":3},{"tenant":"x"},"E",false]'
    assert jobwire.current_context() is None


def test_ctx_enqueue_joins_the_outcome(server: Scripted, app: App, work: Work) -> None:
    @app.task("child")
    async def child(n: int) -> None: ...

    @app.task("parent")
    async def parent(ctx: Context, ok: bool) -> None:
        ctx.enqueue(child.opts(priority=2).s(1))
        ctx.enqueue("other", {"n": 2}, always=True, delay="5s")
        if not ok:
            raise Flaky

    stream = begin(server, work)
    stream.send(
        jobs=[
            pb.JobLease(
                lease_token="a",
                task=pb.Task(
                    type="parent",
                    payload=common_pb2.Payload(text='{"ok":true}'),
                    headers={"traceparent": "00-1-2-01"},
                ),
            )
        ]
    )
    first, second = stream.outcome("a").enqueue
    assert (first.type, first.priority, first.payload.text, len(first.id)) == ("child", 2, '{"n":1}', 36)
    assert first.headers["traceparent"] == "00-1-2-01"
    assert (second.type, second.delay.seconds) == ("other", 5)
    stream.job("b", "parent", '{"ok":false}')
    assert [spec.type for spec in stream.outcome("b").enqueue] == ["other"]


def test_a_broken_stream_is_resumed_with_the_handler_running(server: Scripted, app: App, work: Work) -> None:
    go = threading.Event()

    @app.task("long")
    def long() -> str:
        assert go.wait(WAIT)
        return "survived"

    stream = begin(server, work)
    stream.job("a", "long")
    stream.until(lambda frame: "a" in frame.started)
    stream.end(StreamEnd(grpc.StatusCode.UNAVAILABLE, "restarting"))
    again = server.stream()
    hello = again.welcome()
    assert [held.lease_token for held in hello.held] == ["a"]
    assert hello.held[0].HasField("running_for")
    go.set()
    assert again.outcome("a").succeeded.result.text == '"survived"'


def test_an_outcome_whose_ack_was_lost_is_sent_again(server: Scripted, app: App, work: Work) -> None:
    app.task("quick")(lambda: None)
    stream = begin(server, work)
    stream.job("a", "quick")
    stream.outcome("a", ack=False)
    stream.end(StreamEnd(grpc.StatusCode.UNAVAILABLE))
    again = server.stream()
    assert [held.lease_token for held in again.welcome().held] == ["a"]
    assert again.outcome("a").WhichOneof("result") == "succeeded"


def test_go_away_moves_to_a_new_stream(server: Scripted, app: App, work: Work) -> None:
    @app.task("wait")
    async def wait() -> None:
        await for_ever()

    stream = begin(server, work)
    stream.job("a", "wait")
    begun()
    stream.send(go_away=pb.GoAway(reason=pb.GO_AWAY_REASON_SHUTDOWN))
    again = server.stream()
    assert [held.lease_token for held in again.welcome().held] == ["a"]


def test_a_server_that_restarts_on_its_port_is_found_again(app: App, server: Scripted, work: Work) -> None:
    app.task("t")(lambda: None)
    stream = begin(server, work)
    port = server.port
    stream.end(StreamEnd(grpc.StatusCode.UNAVAILABLE))
    server.stop()
    reborn = Scripted(port)
    hello = reborn.stream().welcome()
    assert hello.types[0] == "t"
    reborn.stop()


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED],
)
def test_refused_for_good_stops_loudly(server: Scripted, app: App, work: Work, code: grpc.StatusCode) -> None:
    stopped = threading.Event()

    @app.task("wait")
    async def wait() -> None:
        try:
            await for_ever()
        finally:
            stopped.set()

    worker = work()
    stream = server.stream()
    stream.welcome()
    stream.job("a", "wait")
    begun()
    stream.end(StreamEnd(code, "not you"))
    with pytest.raises(jobwire.JobwireError, match="not you"):
        worker._ended.result(WAIT)
    assert stopped.wait(WAIT)


def test_drain_lets_the_running_finish_and_half_closes(server: Scripted, app: App, work: Work) -> None:
    go = threading.Event()

    @app.task("long")
    def long() -> None:
        assert go.wait(WAIT)

    worker = work(concurrency=1, prefetch=1)
    stream = server.stream()
    stream.welcome()
    stream.job("a", "long")
    stream.job("b", "long")
    stream.until(lambda frame: frame.received_seq == 3)
    worker.stop(wait=False)
    frame = stream.until(lambda frame: frame.outcomes)
    assert frame.state == pb.WORKER_STATE_DRAINING
    assert [(o.lease_token, o.WhichOneof("result")) for o in frame.outcomes] == [("b", "released")]
    stream.send(acked_seq=frame.seq)
    go.set()
    assert stream.outcome("a").WhichOneof("result") == "succeeded"
    assert stream.half_closed.wait(WAIT)
    stream.end()
    worker._ended.result(WAIT)


def test_drain_releases_what_outlives_the_grace_with_its_checkpoint(server: Scripted, app: App, work: Work) -> None:
    @app.task("wait")
    async def wait(ctx: Context) -> None:
        try:
            await for_ever()
        finally:
            ctx.save_checkpoint([ctx.cancel_reason])

    worker = work(grace="50ms")
    stream = server.stream()
    stream.welcome()
    stream.job("a", "wait")
    begun()
    worker.stop(wait=False)
    outcome = stream.outcome("a")
    assert outcome.WhichOneof("result") == "released"
    assert outcome.checkpoint.text == '["shutdown"]'
    stream.end()
    worker._ended.result(WAIT)


def test_terminate_from_the_server_ends_the_worker(server: Scripted, app: App, work: Work) -> None:
    app.task("t")(lambda: None)
    worker = work()
    stream = server.stream()
    stream.welcome()
    stream.send(directive=pb.Directive(kind=pb.DIRECTIVE_KIND_TERMINATE))
    assert stream.half_closed.wait(WAIT)
    stream.end()
    worker._ended.result(WAIT)


def test_stop_without_a_server_ends_at_once(app: App, server: Scripted, work: Work) -> None:
    app.task("t")(lambda: None)
    server.stop()
    worker = work()
    started = time.monotonic()
    worker.stop()
    assert time.monotonic() - started < WAIT / 2


def test_a_blocked_loop_keeps_its_lease_and_is_reported(
    server: Scripted, app: App, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task("block")
    async def block() -> None:
        time.sleep(3.0)

    work()
    stream = server.stream()
    hello = stream.frame().hello
    assert hello
    welcome = pb.Welcome()
    welcome.lease_ttl.seconds = 30
    welcome.delivery_ttl.seconds = 10
    welcome.heartbeat_interval.FromMilliseconds(300)
    stream.send(welcome=welcome)
    stream.job("a", "block")
    beats = 0
    while True:
        frame = stream.frame()
        stream.send()
        beats += "a" in frame.heartbeat.held
        if frame.outcomes:
            break
    assert beats >= 5
    warnings = [record.getMessage() for record in caplog.records if "blocked" in record.getMessage()]
    assert warnings
    assert "block" in warnings[0]


def test_run_drains_when_awaited_in_asyncio_and_cancelled(server: Scripted, app: App) -> None:
    app.task("t")(lambda: None)

    async def main() -> None:
        worker = app.worker()
        running = asyncio.create_task(worker.arun())
        stream = await asyncio.to_thread(server.stream)
        stream.welcome()
        assert await asyncio.to_thread(worker.wait_ready, WAIT)
        running.cancel()
        assert await asyncio.to_thread(stream.half_closed.wait, WAIT)
        stream.end()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(asyncio.wait_for(main(), WAIT))


def test_many_jobs_flow_in_batches(server: Scripted, app: App, work: Work) -> None:
    @app.task("echo")
    async def echo(payload: dict[str, int]) -> int:
        return payload["n"]

    stream = begin(server, work, concurrency=100)
    leases = []
    for n in range(100):
        task = pb.Task(type="echo", payload=common_pb2.Payload(text=f'{{"n":{n}}}'))
        leases.append(pb.JobLease(lease_token=f"t{n}", task=task))
    stream.send(jobs=leases)
    results: dict[str, str] = {}
    frames = 0
    while len(results) < 100:
        frame = stream.frame()
        frames += bool(frame.outcomes)
        results.update({o.lease_token: o.succeeded.result.text for o in frame.outcomes})
        stream.send(acked_seq=frame.seq)
    assert results == {f"t{n}": str(n) for n in range(100)}
    assert frames < 60


def test_wrong_use_is_refused_at_once(app: App) -> None:
    with pytest.raises(ValueError, match="no tasks"):
        app.worker()
    app.task("t")(lambda: None)
    with pytest.raises(ValueError, match="already"):
        app.task("t")(lambda: None)
    with pytest.raises(jobwire.InvalidArgument, match="name"):
        app.task("no spaces")
    with pytest.raises(TypeError, match="does not run"):
        app.task("u", executor="loop")(lambda: None)


def test_a_task_without_parentheses_is_told_to_have_a_name(app: App) -> None:
    with pytest.raises(TypeError, match=r'write @app\.task\("send"\)'):

        @app.task  # type: ignore[arg-type]
        def send() -> None: ...

    with pytest.raises(jobwire.InvalidArgument, match="name"):
        app.task(7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "field", "instead"),
    [
        ({"concurrency": 0}, "concurrency", "at least 1"),
        ({"concurrency": "10"}, "concurrency", "at least 1"),
        ({"concurrency": True}, "concurrency", "at least 1"),
        ({"concurrency": 2.5}, "concurrency", "at least 1"),
        ({"prefetch": -1}, "prefetch", "at least 0"),
        ({"prefetch": "4"}, "prefetch", "at least 0"),
        ({"pool_size": 0}, "pool_size", "at least 1"),
        ({"max_jobs": 0}, "max_jobs", "at least 1"),
        ({"max_rss": "1g"}, "max_rss", "at least 1"),
        ({"grace": "soon"}, "grace", '"30s"'),
        ({"grace": -1}, "grace", "negative"),
        ({"grace": None}, "grace", '"30s"'),
        ({"lease_ttl": "x"}, "lease_ttl", '"30s"'),
        ({"queues": "mail"}, "queues", r'\["mail"\]'),
        ({"queues": jobwire.Queue("mail")}, "queues", "list"),
        ({"queues": 5}, "queues", "list"),
        ({"queues": [5]}, "queues", "list"),
        ({"queues": [jobwire.Queue("a", weight=-1)]}, "queues.weight", "at least 0"),
        ({"queues": [jobwire.Queue("a", max_slots=-1)]}, "queues.max_slots", "at least 0"),
        ({"queues": [jobwire.Queue("a", weight="1")]}, "queues.weight", "at least 0"),  # type: ignore[arg-type]
        ({"queues": [jobwire.Queue(5)]}, "queues.name", "string"),  # type: ignore[arg-type]
    ],
)
def test_wrong_options_of_a_worker_are_refused_by_name(
    app: App, options: dict[str, Any], field: str, instead: str
) -> None:
    app.task("t")(lambda: None)
    with pytest.raises(jobwire.InvalidArgument, match=f"^{field}: .*{instead}") as caught:
        app.worker(**options)
    assert caught.value.field == field
