"""The producer's side against a scripted server: options, errors, repeats, results, events."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import grpc
import pytest
from scripted import Scripted, StreamEnd, created, status_details

import jobwire
from jobwire import (
    App,
    Client,
    JobState,
    Payload,
    Retry,
    Unique,
)
from jobwire.v1 import common_pb2, job_pb2
from jobwire.v1 import job_service_pb2 as pb

ID = "0193a2c4-7d1e-7003-9c55-5b1f0e6a4d21"


@dataclass
class Mail:
    to: str
    body: str = ""


def sent(server: Scripted) -> Any:
    return server.named("Enqueue")[-1].job


def unavailable(*_: Any) -> Any:
    raise StreamEnd(grpc.StatusCode.UNAVAILABLE, "store is away", status_details("STORE_UNAVAILABLE"))


# --- enqueue ------------------------------------------------------------------------------------------------------


def test_every_option_reaches_the_spec(server: Scripted, app: App) -> None:
    moment = datetime(2030, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)
    app.enqueue(
        "mail",
        {"to": "ä"},
        queue="q",
        priority=-4,
        fairness_key="tenant",
        at=moment,
        timeout="1.5s",
        total_timeout=timedelta(hours=1),
        heartbeat_timeout=10,
        ttl="250ms",
        retry=Retry(
            max_attempts=8,
            initial_delay="2s",
            multiplier=3,
            max_delay="10m",
            jitter=0,
            delays=["1s", "5s"],
            non_retryable_types=["ValueError", "smtp.*"],
            max_crashes=0,
            on_exhausted="discard",
        ),
        id=ID,
        idempotency_key="order-7",
        idempotency_ttl="2d",
        unique=Unique("k", scope="for_ttl", ttl="1h", on_conflict="debounce"),
        tags=["vip", "x"],
        headers={"a": "b"},
        retention=0,
        dead_retention="7d",
        after=[ID, app.job("other")],
    )
    spec = sent(server)
    assert (spec.id, spec.type, spec.queue, spec.priority, spec.fairness_key) == (ID, "mail", "q", -4, "tenant")
    assert spec.payload.text == '{"to":"ä"}'
    assert spec.schedule_time.ToDatetime(timezone.utc) == moment
    assert (spec.timeout.seconds, spec.timeout.nanos) == (1, 500_000_000)
    assert (spec.total_timeout.seconds, spec.heartbeat_timeout.seconds, spec.ttl.nanos) == (3600, 10, 250_000_000)
    retry = spec.retry
    assert (retry.max_attempts, retry.initial_delay.seconds, retry.multiplier, retry.max_delay.seconds) == (
        8,
        2,
        3,
        600,
    )
    assert retry.HasField("jitter")
    assert retry.HasField("max_crashes")
    assert [delay.seconds for delay in retry.delays] == [1, 5]
    assert list(retry.non_retryable_types) == ["ValueError", "smtp.*"]
    assert retry.on_exhausted == common_pb2.EXHAUSTED_ACTION_DISCARD
    assert (spec.idempotency_key, spec.idempotency_ttl.seconds) == ("order-7", 172800)
    assert (spec.unique.key, spec.unique.scope, spec.unique.on_conflict) == ("k", 3, 4)
    assert (list(spec.tags), dict(spec.headers)) == (["vip", "x"], {"a": "b"})
    assert spec.HasField("retention")
    assert spec.dead_retention.seconds == 604800
    assert [dependency.job_id for dependency in spec.depends_on] == [ID, "other"]


def test_a_task_merges_its_options_with_those_of_the_call(server: Scripted, app: App) -> None:
    @app.task("mail", queue="q", retry=3, at=datetime(2030, 1, 1, tzinfo=timezone.utc), unique=lambda mail: mail.to)
    async def mail(mail: Mail) -> None: ...

    mail.opts(delay="10m", priority=2).enqueue(Mail("a@b.c"))
    spec = sent(server)
    assert (spec.type, spec.queue, spec.priority, spec.retry.max_attempts, spec.delay.seconds) == (
        "mail",
        "q",
        2,
        3,
        600,
    )
    assert spec.unique.key == "a@b.c"
    assert spec.payload.text == '{"to":"a@b.c","body":""}'


def test_arguments_become_keys(server: Scripted, app: App) -> None:
    @app.task("resize")
    def resize(ctx: jobwire.Context, path: str, /, width: int = 800, **rest: Any) -> str:
        return path

    resize.enqueue("x", width=3, depth=2)
    assert sent(server).payload.text == '{"path":"x","width":3,"depth":2}'
    with pytest.raises(TypeError, match="path"):
        resize.enqueue(width=3)  # type: ignore[call-arg]


def test_the_servers_id_counts_and_the_proposal_is_a_uuid7(server: Scripted, app: App) -> None:
    server.answers["Enqueue"] = lambda request: pb.EnqueueResponse(
        job_id=ID, status=pb.ENQUEUE_STATUS_KEPT, state=job_pb2.JOB_STATE_RUNNING
    )
    job = app.enqueue("t")
    assert job.id == ID
    assert job.enqueued == jobwire.EnqueueResult(ID, "kept", JobState.RUNNING)
    assert sent(server).id[14] == "7"
    assert sent(server).payload.text == "{}"


def test_raw_payloads_travel_as_they_are(server: Scripted, app: App) -> None:
    app.enqueue("t", Payload(b"\x00\x01", "application/x-thing", "zstd"))
    payload = sent(server).payload
    assert (payload.data, payload.content_type, payload.content_encoding) == (
        b"\x00\x01",
        "application/x-thing",
        "zstd",
    )


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"delay": "30 parsecs"}, "delay"),
        ({"delay": -1}, "delay"),
        ({"timeout": None, "ttl": True}, "ttl"),
        ({"at": datetime(2030, 1, 1)}, "at"),
        ({"priority": "high"}, "priority"),
        ({"unique": Unique(scope="sometimes")}, "unique.scope"),  # type: ignore[arg-type]
        ({"retry": Retry(on_exhausted="burn")}, "retry.on_exhausted"),  # type: ignore[arg-type]
        ({"tags": "vip"}, "tags"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_sent(
    server: Scripted, app: App, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(jobwire.InvalidArgument) as caught:
        app.enqueue("t", {}, **options)
    assert caught.value.field == field
    assert not server.requests


@pytest.mark.parametrize(
    ("options", "field", "instead"),
    [
        ({"retry": 0}, "retry", "1 = never again"),
        ({"retry": False}, "retry", "1 = never again"),
        ({"retry": True}, "retry", "-1 = without limit"),
        ({"retry": "3"}, "retry", "1 = never again"),
        ({"retry": {"max_attempts": 3}}, "retry", r"Retry\("),
        ({"retry": 1.5}, "retry", "1 = never again"),
        ({"retry": Retry(max_attempts=0)}, "retry.max_attempts", "1 = never again"),
        ({"retry": Retry(max_attempts=True)}, "retry.max_attempts", "1 = never again"),
        ({"retry": Retry(max_attempts="3")}, "retry.max_attempts", "1 = never again"),  # type: ignore[arg-type]
        ({"retry": Retry(max_crashes="3")}, "retry.max_crashes", "whole number"),  # type: ignore[arg-type]
        ({"retry": Retry(jitter="a")}, "retry.jitter", "from 0 to 1"),  # type: ignore[arg-type]
        ({"retry": Retry(multiplier="2")}, "retry.multiplier", "number"),  # type: ignore[arg-type]
        ({"retry": Retry(delays="5s")}, "retry.delays", "list of durations"),
        ({"retry": Retry(delays=5)}, "retry.delays", "list of durations"),  # type: ignore[arg-type]
        ({"retry": Retry(non_retryable_types="E")}, "retry.non_retryable_types", "list of strings"),
        ({"retry": Retry(non_retryable_types=[OSError])}, "retry.non_retryable_types", "strings"),  # type: ignore[list-item]
        ({"unique": True}, "unique", r"Unique\("),
        ({"unique": lambda _: 7}, "unique", r"Unique\("),
        ({"unique": Unique(7)}, "unique.key", "string"),  # type: ignore[arg-type]
        ({"headers": {"a": 1}}, "headers", "strings"),
        ({"headers": {1: "a"}}, "headers", "strings"),
        ({"headers": ["a"]}, "headers", "dict"),
        ({"headers": "a"}, "headers", "dict"),
        ({"tags": [1]}, "tags", "list of strings"),
        ({"tags": "abc"}, "tags", "list of strings"),
        ({"tags": 1}, "tags", "list of strings"),
        ({"tags": {"a": 1}}, "tags", "list of strings"),
        ({"after": "abc"}, "after", "list of jobs or ids"),
        ({"after": [1]}, "after", "list of jobs or ids"),
        ({"after": 1}, "after", "list of jobs or ids"),
        ({"priority": "1"}, "priority", "-4 to 4"),
        ({"priority": True}, "priority", "-4 to 4"),
        ({"priority": 1.5}, "priority", "-4 to 4"),
        ({"priority": 1 << 40}, "priority", "-4 to 4"),
        ({"queue": 7}, "queue", "expected a string"),
        ({"idempotency_key": lambda _: 7}, "idempotency_key", "expected a string"),
    ],
)
def test_options_of_a_wrong_type_are_told_what_to_be(
    server: Scripted, app: App, options: dict[str, Any], field: str, instead: str
) -> None:
    with pytest.raises(jobwire.InvalidArgument, match=f"^{field}: .*{instead}") as caught:
        app.enqueue("t", {}, **options)
    assert caught.value.field == field
    assert not server.requests


def test_numbers_of_attempts_go_through(server: Scripted, app: App) -> None:
    for retry in (1, -1, Retry(max_attempts=1), Retry(jitter=0, max_crashes=0)):
        app.enqueue("t", retry=retry)
    assert [request.job.retry.max_attempts for request in server.named("Enqueue")] == [1, -1, 1, 0]


def test_unknown_and_contradicting_options_are_type_errors(app: App) -> None:
    with pytest.raises(TypeError, match="'prio'"):
        app.enqueue("t", {}, prio=1)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="exclude"):
        app.enqueue("t", {}, delay=1, at=datetime.now(timezone.utc))
    with pytest.raises(TypeError, match="opts"):
        app.enqueue(app.task("x")(lambda: None).s(), priority=1)  # type: ignore[call-overload]


def test_options_among_the_arguments_are_sent_to_their_place(server: Scripted, app: App) -> None:
    @app.task("add")
    def add(a: int, b: int) -> int:
        return a + b

    @app.task("wait")
    def wait(delay: str) -> str:
        return delay

    told = r"^options go before the call: \.opts\(delay=\.\.\., queue=\.\.\.\)\.enqueue\("
    with pytest.raises(TypeError, match=told):
        add.enqueue(1, 2, delay="1s", queue="q")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'c'"):
        add.enqueue(1, 2, c=3)  # type: ignore[call-arg]
    assert not server.requests
    wait.enqueue(delay="1s")  # a parameter of its own
    assert sent(server).payload.text == '{"delay":"1s"}'


@pytest.mark.parametrize(
    "payload",
    [{"x": float("nan")}, {"x": object()}, {"x": datetime(2030, 1, 1)}, {"x": "\ud800"}, {"x": "y" * 1048576}],
)
def test_payloads_that_cannot_travel_are_refused(server: Scripted, app: App, payload: Any) -> None:
    with pytest.raises(jobwire.InvalidArgument) as caught:
        app.enqueue("t", payload)
    assert caught.value.field == "payload"
    assert not server.requests


def test_unavailable_is_repeated_with_the_same_id(
    server: Scripted, app: App, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 2

    def flaky(request: Any) -> Any:
        nonlocal failures
        failures -= 1
        return created(request) if failures < 0 else unavailable()

    server.answers["Enqueue"] = flaky
    monkeypatch.setattr("jobwire._calls._warned_at", float("-inf"))
    app.enqueue("t")
    ids = {request.job.id for request in server.named("Enqueue")}
    assert len(server.named("Enqueue")) == 3
    assert len(ids) == 1
    assert "store is away; retrying" in caplog.text


def test_a_call_gives_up_at_the_clients_timeout(server: Scripted) -> None:
    server.answers["Enqueue"] = unavailable
    client = Client(server.url, timeout="200ms")
    with pytest.raises(jobwire.Unavailable) as caught:
        client.enqueue("t")
    assert (caught.value.reason, caught.value.retryable) == ("STORE_UNAVAILABLE", True)
    client.close()


def test_no_server_says_how_to_start_one(caplog: pytest.LogCaptureFixture) -> None:
    client = Client("jobwire://127.0.0.1:1", timeout="100ms")
    with pytest.raises(jobwire.Unavailable, match=r"No Jobwire server at 127.0.0.1:1. Start one: jobwire dev"):
        client.enqueue("t")
    client.close()


def test_the_next_endpoint_is_tried(server: Scripted) -> None:
    client = Client(f"jobwire://127.0.0.1:1,{server.url}")
    for _ in range(4):
        client.enqueue("t")
    assert len(server.named("Enqueue")) == 4
    client.close()


@pytest.mark.parametrize(
    ("status", "trailers", "kind", "expected"),
    [
        (
            grpc.StatusCode.INVALID_ARGUMENT,
            status_details("INVALID_FIELD", field="retry.max_attempts"),
            jobwire.InvalidArgument,
            {"reason": "INVALID_FIELD", "field": "retry.max_attempts", "retryable": False},
        ),
        (
            grpc.StatusCode.ALREADY_EXISTS,
            status_details("UNIQUE_CONFLICT", metadata={"job_id": ID}),
            jobwire.AlreadyExists,
            {"job_id": ID, "metadata": {"job_id": ID}},
        ),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            status_details("QUEUE_FULL", retry_ms=1500),
            jobwire.ResourceExhausted,
            {"retry_delay": 1.5, "retryable": True},
        ),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, (), jobwire.ResourceExhausted, {"retryable": False, "retry_delay": None}),
        (grpc.StatusCode.PERMISSION_DENIED, status_details("SCOPE_MISSING"), jobwire.PermissionDenied, {}),
        (grpc.StatusCode.UNIMPLEMENTED, status_details("FEATURE_DISABLED"), jobwire.Unimplemented, {}),
        (grpc.StatusCode.OUT_OF_RANGE, (), jobwire.JobwireError, {"code": "OUT_OF_RANGE"}),
        (grpc.StatusCode.INTERNAL, (("grpc-status-details-bin", b"\xff\xff"),), jobwire.Internal, {"reason": ""}),
    ],
)
def test_statuses_become_errors(
    server: Scripted, app: App, status: Any, trailers: Any, kind: type[Exception], expected: dict[str, Any]
) -> None:
    def refuse(_: Any) -> Any:
        raise StreamEnd(status, "because", trailers)

    server.answers["Enqueue"] = refuse
    with pytest.raises(jobwire.JobwireError, match="because") as caught:
        app.enqueue("t")
    assert type(caught.value) is kind
    assert {name: getattr(caught.value, name) for name in expected} == expected
    assert len(server.named("Enqueue")) == 1
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_errors_survive_pickling() -> None:
    error = jobwire.JobFailed("it", job_id=ID, failure=jobwire.Failure("application", "E", "m"))
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.job_id, copy.failure, str(copy)) == (jobwire.JobFailed, ID, error.failure, "it")


def test_a_refused_token_is_read_again_once(
    server: Scripted, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, app: App
) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    monkeypatch.setenv("JOBWIRE_TOKEN_FILE", str(file))

    def check(request: Any) -> Any:
        if server.metadata[-1].get("authorization") != "Bearer new":
            file.write_text("new\n")
            raise StreamEnd(grpc.StatusCode.UNAUTHENTICATED, "expired", status_details("TOKEN_EXPIRED"))
        return created(request)

    server.answers["Enqueue"] = check
    app.enqueue("t")
    assert len(server.named("Enqueue")) == 2


def test_a_token_does_not_travel_in_plaintext_beyond_loopback() -> None:
    with pytest.raises(jobwire.InvalidArgument, match="plaintext"):
        Client("jobwire://queue.example.com", token="s").enqueue("t")


@pytest.mark.parametrize("url", ["ftp://x", "jobwire://", "jobwire://h:99999", "jobwire://h/path", " , "])
def test_wrong_urls_are_refused(url: str) -> None:
    with pytest.raises(jobwire.InvalidArgument, match="url"):
        Client(url).enqueue("t")


@pytest.mark.parametrize("url", ["ftp://x", "jobwire://h/path", " , ", "jobwire://[::1", 7420])
def test_a_wrong_url_is_refused_where_it_is_given(url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Client, App):
        with pytest.raises(jobwire.InvalidArgument, match=r"url: .*jobwire://host:port") as caught:
            kind(url)
        assert caught.value.field == "url"
    if isinstance(url, str):
        monkeypatch.setenv("JOBWIRE_URL", url)
        client = Client()  # a module may be imported where the environment is not for it
        with pytest.raises(jobwire.InvalidArgument, match="url"):
            client.enqueue("t")


# --- enqueue_many ---------------------------------------------------------------------------------------------------


def test_enqueue_many_answers_per_item_in_order_and_in_chunks(server: Scripted, app: App) -> None:
    @app.task("add")
    def add(a: int, b: int = 0) -> int:
        return a + b

    def answer(request: Any) -> Any:
        response = pb.EnqueueManyResponse()
        for job in request.jobs:
            if job.payload.text == '{"a":3}':
                response.results.add(error=common_pb2.ItemError(code=8, reason="QUEUE_FULL", message="full"))
            else:
                response.results.add(job_id=job.id, status=pb.ENQUEUE_STATUS_CREATED)
        return response

    server.answers["EnqueueMany"] = answer
    results = add.enqueue_many([1, (2, 2), {"a": 3}, *range(4, 1500)])
    assert [len(request.jobs) for request in server.named("EnqueueMany")] == [1000, 499]
    assert [result.status for result in results[:4]] == ["created", "created", "refused", "created"]
    assert isinstance(results[2].error, jobwire.ResourceExhausted)
    assert server.named("EnqueueMany")[0].jobs[1].payload.text == '{"a":2,"b":2}'
    assert len(results) == 1499


def test_enqueue_many_takes_types_and_calls_and_splits_by_size(server: Scripted, app: App) -> None:
    task = app.task("t", priority=1)(lambda: None)
    big = {"x": "y" * 900_000}
    asyncio.run(app.aenqueue_many([task.s(), ("big", big), ("big", big), ("big", big)]))
    requests = server.named("EnqueueMany")
    assert [[job.type for job in request.jobs] for request in requests] == [["t", "big", "big"], ["big"]]


def test_items_for_which_the_store_was_away_are_sent_again_with_their_ids(server: Scripted, app: App) -> None:
    def answer(request: Any) -> Any:
        response = pb.EnqueueManyResponse()
        first = len(server.named("EnqueueMany")) == 1
        for number, job in enumerate(request.jobs):
            if first and number % 2 == 1:
                response.results.add(error=common_pb2.ItemError(code=14, reason="STORE_UNAVAILABLE", message="away"))
            else:
                response.results.add(job_id=job.id, status=pb.ENQUEUE_STATUS_CREATED)
        return response

    server.answers["EnqueueMany"] = answer
    results = app.enqueue_many([("t", number) for number in range(5)])
    first, second = server.named("EnqueueMany")
    assert [job.id for job in second.jobs] == [job.id for job in first.jobs][1::2]
    assert [result.job_id for result in results] == [job.id for job in first.jobs]
    server.requests.clear()
    assert [result.status for result in asyncio.run(app.aenqueue_many([("t", 1), ("t", 2)]))] == ["created"] * 2
    assert len(server.named("EnqueueMany")) == 2


def test_items_are_given_up_at_the_clients_timeout(server: Scripted) -> None:
    error = common_pb2.ItemError(code=14, reason="STORE_UNAVAILABLE", message="away")
    server.answers["EnqueueMany"] = lambda request: pb.EnqueueManyResponse(
        results=[pb.EnqueueResult(error=error) for _ in request.jobs]
    )
    client = Client(server.url, timeout="200ms")
    [result] = client.enqueue_many([("t", 1)])
    assert isinstance(result.error, jobwire.Unavailable)
    client.close()
