"""Concurrent enqueue calls leave together, and each caller gets its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from conftest import eventually
from scripted import WAIT, Scripted, StreamEnd, created, created_many, status_details

import jobwire
from jobwire import App
from jobwire._coalesce import Coalescer
from jobwire.v1 import common_pb2, job_pb2
from jobwire.v1 import job_service_pb2 as pb

CALLERS = 256


class Held:
    """The first Enqueue of a server waits until it is let go, so that what comes meanwhile gathers."""

    def __init__(self, server: Scripted) -> None:
        self.go = threading.Event()
        server.answers["Enqueue"] = self.answer

    def answer(self, request: Any) -> Any:
        assert self.go.wait(WAIT)
        return created(request)


@pytest.fixture
def held(server: Scripted) -> Iterator[Held]:
    held = Held(server)
    yield held
    held.go.set()


def gathered(app: App) -> int:
    return len(app._process.coalescer._gathered)


def many(server: Scripted) -> list[int]:
    return [len(request.jobs) for request in server.named("EnqueueMany")]


async def callers(app: App, held: Held, count: int = CALLERS) -> list[Any]:
    tasks = [asyncio.create_task(app.aenqueue("t", {"n": n})) for n in range(count)]
    await asyncio.to_thread(eventually, lambda: gathered(app) == count - 1)
    held.go.set()
    return list(await asyncio.gather(*tasks, return_exceptions=True))


def test_256_tasks_cost_two_calls_and_each_gets_its_own_id(server: Scripted, app: App, held: Held) -> None:
    jobs = asyncio.run(callers(app, held))
    assert (len(server.named("Enqueue")), many(server)) == (1, [CALLERS - 1])
    by_payload = {job.payload.text: job.id for request in server.named("EnqueueMany") for job in request.jobs}
    by_payload |= {request.job.payload.text: request.job.id for request in server.named("Enqueue")}
    assert [by_payload[f'{{"n":{n}}}'] for n in range(CALLERS)] == [job.id for job in jobs]


def test_threads_coalesce_as_well(server: Scripted, app: App, held: Held) -> None:
    with ThreadPoolExecutor(32) as pool:
        jobs = [pool.submit(app.enqueue, "t", {"n": n}) for n in range(32)]
        eventually(lambda: gathered(app) == 31)
        held.go.set()
        assert len({job.result(WAIT).id for job in jobs}) == 32
    assert many(server) == [31]


def test_one_bad_item_fails_one_caller(server: Scripted, app: App, held: Held) -> None:
    def answer(request: Any) -> Any:
        response = created_many(request)
        for job, result in zip(request.jobs, response.results, strict=True):
            if job.payload.text == '{"n":7}':
                result.Clear()
                result.error.CopyFrom(common_pb2.ItemError(code=6, reason="ID_CONFLICT", metadata={"job_id": "x"}))
        return response

    server.answers["EnqueueMany"] = answer
    jobs = asyncio.run(callers(app, held, 20))
    errors = [job for job in jobs if isinstance(job, Exception)]
    assert len(errors) == 1
    assert isinstance(errors[0], jobwire.AlreadyExists)
    assert (errors[0].job_id, jobs.index(errors[0])) == ("x", 7)


def test_a_lost_reply_makes_no_second_job(server: Scripted, app: App, held: Held) -> None:
    seen: list[str] = []

    def answer(request: Any) -> Any:
        seen.extend(job.id for job in request.jobs)
        if len(server.named("EnqueueMany")) == 1:
            raise StreamEnd(grpc.StatusCode.UNAVAILABLE, "cut", status_details("STORE_UNAVAILABLE"))
        return created_many(request)

    server.answers["EnqueueMany"] = answer
    jobs = asyncio.run(callers(app, held, 20))
    assert len({job.id for job in jobs}) == 20
    repeated = [request.job.id for request in server.named("Enqueue")[1:]]
    assert set(seen[:19]) <= set(seen[19:]) | set(repeated)


def test_a_caller_that_is_cancelled_ends_nothing(server: Scripted, app: App, held: Held) -> None:
    async def main() -> None:
        first, second, third = (asyncio.create_task(app.aenqueue("t", {"n": n})) for n in range(3))
        await asyncio.to_thread(eventually, lambda: gathered(app) == 2)
        first.cancel()
        second.cancel()
        held.go.set()
        await third
        with pytest.raises(asyncio.CancelledError):
            await second

    asyncio.run(main())
    assert many(server) == [2]


class Calls:
    """A transport that answers when told to."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Any, float | None, Future[Any]]] = []
        self.blocking: list[bool] = []

    def __call__(self, name: str, request: Any, timeout: float | None, *, blocking: bool = False) -> Future[Any]:
        future: Future[Any] = Future()
        self.blocking.append(blocking)
        self.made.append((name, request, timeout, future))
        return future

    def answer(self, index: int) -> None:
        name, request, _, future = self.made[index]
        future.set_result(created(request) if name == "Enqueue" else created_many(request))


def spec(n: int = 0, size: int = 0) -> job_pb2.JobSpec:
    return job_pb2.JobSpec(id=str(n), type="t", payload=common_pb2.Payload(text="x" * size))


def test_nothing_in_flight_leaves_at_once_and_the_rest_when_it_returns() -> None:
    calls = Calls()
    coalescer = Coalescer(calls)
    futures = [coalescer.submit(spec(n), None) for n in range(4)]
    assert [name for name, *_ in calls.made] == ["Enqueue"]
    calls.answer(0)
    assert [name for name, *_ in calls.made] == ["Enqueue", "EnqueueMany"]
    calls.answer(1)
    assert [future.result(0).job_id for future in futures] == ["0", "1", "2", "3"]
    coalescer.submit(spec(9), None)
    assert calls.made[-1][0] == "Enqueue"


def test_a_caller_that_waits_makes_its_own_call_in_its_thread_but_nobody_elses() -> None:
    calls = Calls()
    coalescer = Coalescer(calls)
    for n in range(1 + 1000 + 1):
        coalescer.submit(spec(n), None, blocking=True)
    calls.answer(0)
    assert calls.blocking == [True, False, False]


def test_a_thousand_gathered_leave_beside_the_first() -> None:
    calls = Calls()
    coalescer = Coalescer(calls)
    for n in range(1 + 1000 + 5):
        coalescer.submit(spec(n), None)
    assert [len(request.jobs) for name, request, *_ in calls.made if name == "EnqueueMany"] == [1000]
    calls.answer(0)
    assert len(calls.made[-1][1].jobs) == 5


def test_a_mebibyte_gathered_leaves_beside_the_first() -> None:
    calls = Calls()
    coalescer = Coalescer(calls)
    for n in range(4):
        coalescer.submit(spec(n, 400_000), None)
    assert [len(request.jobs) for name, request, *_ in calls.made if name == "EnqueueMany"] == [3]


def test_the_deadline_is_the_longest_of_the_callers() -> None:
    calls = Calls()
    coalescer = Coalescer(calls)
    for timeout in (1.0, 5.0, 20.0, 3.0):
        coalescer.submit(spec(), timeout)
    calls.answer(0)
    longest = calls.made[1][2]
    assert longest is not None
    assert 19.0 < longest <= 20.0


def test_each_caller_gets_an_error_object_of_its_own() -> None:
    calls = Calls()
    coalescer = Coalescer(calls)
    futures = [coalescer.submit(spec(n), None) for n in range(3)]
    calls.answer(0)
    calls.made[1][3].set_exception(jobwire.Unavailable("away", retryable=True))
    first, second = futures[1].exception(0), futures[2].exception(0)
    assert isinstance(first, jobwire.Unavailable)
    assert first.retryable
    assert first is not second


def test_a_short_answer_fails_only_what_it_left_out() -> None:
    calls = Calls()
    coalescer = Coalescer(calls)
    futures = [coalescer.submit(spec(n), None) for n in range(3)]
    calls.answer(0)
    calls.made[1][3].set_result(
        pb.EnqueueManyResponse(results=[pb.EnqueueResult(job_id="1", status=pb.ENQUEUE_STATUS_CREATED)])
    )
    assert futures[1].result(0).job_id == "1"
    assert isinstance(futures[2].exception(0), jobwire.Unavailable)
