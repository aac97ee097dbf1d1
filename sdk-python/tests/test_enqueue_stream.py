"""`enqueue_stream`: what travels, what comes back, and a stream that breaks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from scripted import WAIT, Scripted, StreamEnd

import jobwire
from jobwire import App, EnqueueResult
from jobwire.v1 import common_pb2, job_service_pb2


def answer(request: Any, **fields: Any) -> Any:
    return job_service_pb2.EnqueueStreamResponse(
        acked_seq=request.seq, job_ids=[f"id-{job.type}" for job in request.jobs], **fields
    )


def greeting(room: int = 64) -> Any:
    return job_service_pb2.EnqueueStreamResponse(max_unacked=room)


def obedient(requests: Iterator[Any]) -> Iterator[Any]:
    yield greeting()
    for request in requests:
        yield answer(request)


def ids(results: list[EnqueueResult]) -> list[str]:
    return [result.job_id for result in results]


def test_answers_come_in_order(server: Scripted, app: App) -> None:
    server.answers["EnqueueStream"] = obedient
    results = list(app.enqueue_stream((f"t{n}", {"n": n}) for n in range(1000)))
    assert ids(results) == [f"id-t{n}" for n in range(1000)]
    assert {result.status for result in results} == {"accepted"}
    sent = [job for request in server.named("EnqueueStream") for job in request.jobs]
    assert [job.type for job in sent] == [f"t{n}" for n in range(1000)]
    assert len({job.id for job in sent}) == 1000
    assert [request.seq for request in server.named("EnqueueStream")] == list(
        range(1, len(server.named("EnqueueStream")) + 1)
    )


def test_items_gather_while_others_are_on_their_way(server: Scripted, app: App) -> None:
    go = threading.Event()

    def slow(requests: Iterator[Any]) -> Iterator[Any]:
        yield greeting()
        for request in requests:
            assert go.wait(WAIT)
            yield answer(request)

    server.answers["EnqueueStream"] = slow

    def source() -> Iterator[tuple[str, Any]]:
        for n in range(100):
            yield f"t{n}", {}
        go.set()

    assert len(list(app.enqueue_stream(source()))) == 100
    assert len(server.named("EnqueueStream")) <= 3


def test_nothing_is_asked_of_the_iterable_while_too_much_is_unacknowledged(server: Scripted, app: App) -> None:
    asked: list[int] = []
    go = threading.Event()

    def stuck(requests: Iterator[Any]) -> Iterator[Any]:
        yield greeting(2)
        for request in requests:
            if len(asked) > 1000:  # the producer has filled what it may
                assert go.wait(WAIT)
            yield answer(request)

    server.answers["EnqueueStream"] = stuck

    def source() -> Iterator[tuple[str, Any]]:
        for n in range(10_000):
            asked.append(n)
            yield "t", {}

    results = app.enqueue_stream(source())
    next(results)
    consumer = threading.Thread(target=lambda: [None for _ in results], daemon=True)
    consumer.start()
    consumer.join(0.5)
    assert consumer.is_alive()
    assert len(asked) < 10_000
    go.set()
    consumer.join(WAIT)
    assert len(asked) == 10_000


def test_a_refused_item_has_its_error_and_holds_up_no_other(server: Scripted, app: App) -> None:
    def picky(requests: Iterator[Any]) -> Iterator[Any]:
        yield greeting()
        for request in requests:
            response = answer(request)
            for index, job in enumerate(request.jobs):
                if job.type == "bad":
                    response.job_ids[index] = ""
                    error = common_pb2.ItemError(code=3, message="no", reason="INVALID_FIELD", field="type")
                    response.errors.add(seq=request.seq, index=index, error=error)
            yield response

    server.answers["EnqueueStream"] = picky
    jobs: list[tuple[str, Any]] = [("a", {}), ("nan", {"x": float("nan")}), ("bad", {}), ("b", {})]
    first, unsent, refused, last = app.enqueue_stream(jobs)
    assert (first.job_id, last.job_id) == ("id-a", "id-b")
    assert isinstance(unsent.error, jobwire.InvalidArgument)
    assert isinstance(refused.error, jobwire.InvalidArgument)
    assert refused.error.field == "type"
    assert (unsent.status, refused.status) == ("refused", "refused")


def test_unacknowledged_frames_are_sent_again_with_their_ids(server: Scripted, app: App) -> None:
    calls: list[int] = []

    def flaky(requests: Iterator[Any]) -> Iterator[Any]:
        calls.append(1)
        yield greeting()
        for request in requests:
            if len(calls) == 1 and request.seq == 2:
                raise StreamEnd(grpc.StatusCode.UNAVAILABLE, "away")
            yield answer(request)

    server.answers["EnqueueStream"] = flaky
    results = list(app.enqueue_stream((f"t{n}", {}) for n in range(300)))
    assert ids(results) == [f"id-t{n}" for n in range(300)]
    sent: dict[str, str] = {}
    for request in server.named("EnqueueStream"):
        for job in request.jobs:
            assert sent.setdefault(job.type, job.id) == job.id
    assert len(calls) == 2


def test_a_server_that_asks_to_go_gets_nothing_more_on_that_stream(server: Scripted, app: App) -> None:
    calls: list[int] = []

    def leaving(requests: Iterator[Any]) -> Iterator[Any]:
        calls.append(1)
        yield greeting()
        for request in requests:
            response = answer(request)
            if len(calls) == 1:
                response.reconnect_delay.nanos = 1_000_000
                yield response
                return
            yield response

    server.answers["EnqueueStream"] = leaving
    assert len(list(app.enqueue_stream((f"t{n}", {}) for n in range(200)))) == 200
    assert len(calls) == 2


def test_items_are_refused_when_nobody_answers_for_the_clients_timeout(server: Scripted) -> None:
    def away(requests: Iterator[Any]) -> Iterator[Any]:
        raise StreamEnd(grpc.StatusCode.UNAVAILABLE, "away")
        yield

    server.answers["EnqueueStream"] = away
    with App(server.url, timeout="200ms") as app:

        def source() -> Iterator[tuple[str, Any]]:
            yield "first", {}
            server.answers["EnqueueStream"] = obedient
            yield "later", {}

        results = app.enqueue_stream([("t", {})])
        (refused,) = results
        assert isinstance(refused.error, jobwire.Unavailable)
        assert [result.status for result in app.enqueue_stream(source())] == ["accepted", "accepted"]


def test_a_refusal_of_the_whole_stream_reaches_each_item(server: Scripted, app: App) -> None:
    def denied(requests: Iterator[Any]) -> Iterator[Any]:
        raise StreamEnd(grpc.StatusCode.PERMISSION_DENIED, "scope enqueue is missing")
        yield

    server.answers["EnqueueStream"] = denied
    results = list(app.enqueue_stream([("a", {}), ("b", {})]))
    assert [type(result.error) for result in results] == [jobwire.PermissionDenied] * 2


def test_what_an_iterable_yielded_before_it_raised_is_finished(server: Scripted, app: App) -> None:
    server.answers["EnqueueStream"] = obedient

    def source() -> Iterator[tuple[str, Any]]:
        yield "a", {}
        raise LookupError("the source is broken")

    results = app.enqueue_stream(source())
    assert next(results).job_id == "id-a"
    with pytest.raises(LookupError):
        next(results)

    async def main() -> None:
        seen = app.aenqueue_stream(source())
        assert (await anext(seen)).job_id == "id-a"
        with pytest.raises(LookupError):
            await anext(seen)

    asyncio.run(main())


def test_asyncio_gets_answers_while_the_source_waits(server: Scripted, app: App) -> None:
    server.answers["EnqueueStream"] = obedient

    @app.task("t")
    def task(n: int) -> None: ...

    async def main() -> list[str]:
        answered = asyncio.Event()

        async def source() -> AsyncIterator[int]:
            yield 1
            await answered.wait()
            for n in range(500):
                yield n

        seen = []
        async for result in task.aenqueue_stream(source()):
            seen.append(result.job_id)
            answered.set()
        return seen

    assert asyncio.run(main()) == ["id-t"] * 501
    assert [result.status for result in task.enqueue_stream(range(3))] == ["accepted"] * 3


def test_leaving_the_loop_ends_the_stream(server: Scripted, app: App) -> None:
    server.answers["EnqueueStream"] = obedient
    before = threading.active_count()

    def source() -> Iterator[tuple[str, Any]]:
        while True:
            yield "t", {}

    results = app.enqueue_stream(source())
    next(results)
    results.close()  # type: ignore[attr-defined]
    deadline = threading.Event()
    while any(thread.name == "jobwire-enqueue" for thread in threading.enumerate()):
        assert not deadline.wait(0.01)
    assert before
