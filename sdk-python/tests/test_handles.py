"""Handles against a scripted server: results, status, events, cancel, retry, explain."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import grpc
import pytest
from conftest import eventually
from scripted import WAIT, Scripted, StreamEnd, created, status_details

import jobwire
from jobwire import (
    App,
    Explanation,
    Job,
    JobState,
    LogEvent,
    ProgressEvent,
    StateEvent,
    WaitReason,
)
from jobwire.v1 import common_pb2, job_pb2
from jobwire.v1 import job_service_pb2 as pb

ID = "0193a2c4-7d1e-7003-9c55-5b1f0e6a4d21"


@dataclass
class Mail:
    to: str
    body: str = ""


@dataclass
class Receipt:
    id: str


def unavailable(*_: Any) -> Any:
    raise StreamEnd(grpc.StatusCode.UNAVAILABLE, "store is away", status_details("STORE_UNAVAILABLE"))


def ended(state: Any, text: str = "", job_id: str = ID, **failure: Any) -> Any:
    result = pb.JobResult(job_id=job_id, state=state)
    if text:
        result.result.text = text
    if failure:
        result.failure.CopyFrom(common_pb2.Failure(**failure))
    return result


# --- results --------------------------------------------------------------------------------------------------------


def answer_results(server: Scripted, *results: Any) -> None:
    server.answers["AwaitResults"] = lambda request: (
        [pb.AwaitResultsResponse(results=results)] if request.job_ids else []
    )


def test_result_is_decoded_to_what_the_handler_returns(server: Scripted, app: App) -> None:
    @app.task("mail")
    async def mail(mail: Mail) -> Receipt:
        return Receipt("x")

    server.answers["Enqueue"] = lambda request: pb.EnqueueResponse(job_id=ID, status=pb.ENQUEUE_STATUS_CREATED)
    answer_results(server, ended(job_pb2.JOB_STATE_SUCCEEDED, '{"id":"r-1"}'))
    assert mail.enqueue(Mail("a")).result(WAIT) == Receipt("r-1")
    assert asyncio.run(mail.enqueue(Mail("a")).aresult(WAIT)) == Receipt("r-1")
    assert app.job(ID).result() == {"id": "r-1"}


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (job_pb2.JOB_STATE_DEAD, jobwire.JobFailed),
        (job_pb2.JOB_STATE_DISCARDED, jobwire.JobFailed),
        (job_pb2.JOB_STATE_CANCELLED, jobwire.JobCancelled),
        (job_pb2.JOB_STATE_EXPIRED, jobwire.JobExpired),
    ],
)
def test_other_ends_raise(server: Scripted, app: App, state: Any, kind: type[jobwire.JobNotSucceeded]) -> None:
    answer_results(server, ended(state, type="smtp.Timeout", message="late", stack_trace="at x"))
    with pytest.raises(kind, match=r"smtp.Timeout: late") as caught:
        app.job(ID).result(WAIT)
    assert caught.value.failure is not None
    assert (caught.value.job_id, caught.value.failure.stack_trace) == (ID, "at x")


def test_result_of_an_unknown_job(server: Scripted, app: App) -> None:
    server.answers["AwaitResults"] = lambda request: [pb.AwaitResultsResponse(unknown_ids=request.job_ids)]
    with pytest.raises(jobwire.NotFound):
        app.job(ID).result(WAIT)


def test_a_caller_that_gives_up_is_forgotten(server: Scripted, app: App) -> None:
    server.answers["AwaitResults"] = lambda request: []
    with pytest.raises(TimeoutError, match=ID):
        app.job(ID).result("20ms")
    with pytest.raises(jobwire.DeadlineExceeded):
        asyncio.run(app.job(ID).aresult("20ms"))
    eventually(lambda: any(list(request.forget_ids) == [ID] for request in server.named("AwaitResults")))


def test_results_survive_a_broken_stream_and_share_one(server: Scripted, app: App) -> None:
    calls = 0

    def answer(request: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            unavailable()
        return [
            pb.AwaitResultsResponse(results=[ended(job_pb2.JOB_STATE_SUCCEEDED, job_id=i) for i in request.job_ids])
        ]

    server.answers["AwaitResults"] = answer
    threads = [threading.Thread(target=app.job(f"{ID}{n}").result, args=(WAIT,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    assert len([t for t in threading.enumerate() if t.name == "jobwire-results"]) <= 1


def test_a_refused_await_reaches_the_caller(server: Scripted, app: App) -> None:
    def refuse(_: Any) -> Any:
        raise StreamEnd(grpc.StatusCode.PERMISSION_DENIED, "no")

    server.answers["AwaitResults"] = refuse
    with pytest.raises(jobwire.PermissionDenied):
        app.job(ID).result(WAIT)


def test_run_waits_in_the_enqueue_call_and_goes_on_with_await_results(server: Scripted, app: App) -> None:
    server.answers["Enqueue"] = lambda request: pb.EnqueueResponse(
        job_id=ID, status=pb.ENQUEUE_STATUS_CREATED, result=ended(job_pb2.JOB_STATE_SUCCEEDED, "7")
    )
    assert app.run("t", {}, wait=WAIT) == 7
    assert 9 <= server.named("Enqueue")[0].wait.seconds <= 10
    server.answers["Enqueue"] = lambda request: pb.EnqueueResponse(job_id=ID, status=pb.ENQUEUE_STATUS_CREATED)
    answer_results(server, ended(job_pb2.JOB_STATE_SUCCEEDED, "8"))
    task = app.task("t")(lambda: 8)
    assert task.run() == 8
    assert asyncio.run(task.arun()) == 8
    assert server.named("Enqueue")[1].wait.seconds == 300


# --- handles --------------------------------------------------------------------------------------------------------


def test_status(server: Scripted, app: App) -> None:
    def answer(request: Any) -> Any:
        assert request.payload_format == common_pb2.PAYLOAD_FORMAT_OMIT
        job = job_pb2.Job(
            id=ID, state=job_pb2.JOB_STATE_RUNNING, spec=job_pb2.JobSpec(type="t", tags=["x"]), attempt=2, delivery=3
        )
        job.progress.percent = 40
        job.create_time.seconds = 1_700_000_000
        return pb.GetJobResponse(job=job)

    server.answers["GetJob"] = answer
    status = app.job(ID).status()
    assert (status.state, status.type, status.queue, status.tags) == (JobState.RUNNING, "t", "t", ("x",))
    assert status.progress is not None
    assert status.progress.percent == 40
    assert status.create_time == datetime.fromtimestamp(1_700_000_000, timezone.utc)
    assert asyncio.run(app.job(ID).astatus()) == status
    assert not status.state.terminal


def test_cancel_and_retry(server: Scripted, app: App) -> None:
    changed = common_pb2.BulkResult(matched_count=1, affected_count=1)
    server.answers["CancelJobs"] = lambda request: pb.CancelJobsResponse(result=changed)
    server.answers["RetryJobs"] = lambda request: pb.RetryJobsResponse(result=common_pb2.BulkResult())
    assert app.job(ID).cancel("user left", grace="5s")
    request = server.named("CancelJobs")[0]
    assert (list(request.selector.ids), request.reason, request.grace.seconds) == ([ID], "user left", 5)
    with pytest.raises(jobwire.NotFound):
        app.job(ID).retry(reset_attempts=True)
    assert server.named("RetryJobs")[0].reset_attempts
    running = common_pb2.BulkResult(matched_count=1)
    running.errors.add(id=ID, error=common_pb2.ItemError(code=9, reason="JOB_RUNNING"))
    server.answers["RetryJobs"] = lambda request: pb.RetryJobsResponse(result=running)
    assert not asyncio.run(app.job(ID).aretry())


def test_explain(server: Scripted, app: App) -> None:
    server.answers["ExplainJob"] = lambda request: pb.ExplainJobResponse(
        state=job_pb2.JOB_STATE_READY,
        summary="READY: queue mail is paused.",
        reasons=[
            pb.WaitReason(message="Queue mail is paused.", paused=pb.WaitPaused()),
            pb.WaitReason(message="of the future"),
        ],
    )
    expected = Explanation(
        JobState.READY,
        "READY: queue mail is paused.",
        (WaitReason("paused", "Queue mail is paused."), WaitReason("unknown", "of the future")),
    )
    assert app.job(ID).explain() == expected
    assert asyncio.run(app.job(ID).aexplain()) == expected


def test_run_of_a_call_gives_up_after_its_wait(server: Scripted, app: App) -> None:
    @app.task("t")
    def task(n: int) -> int:
        return n

    def enqueued(request: Any) -> Any:
        assert request.HasField("wait")
        return created(request)

    server.answers["Enqueue"] = enqueued
    server.answers["AwaitResults"] = lambda request: []
    with pytest.raises(jobwire.DeadlineExceeded, match="not there after"):
        task.s(1).run(wait="50ms")
    with pytest.raises(jobwire.DeadlineExceeded):
        asyncio.run(task.s(1).arun(wait="50ms"))
    del server.answers["Enqueue"]
    server.answers["Enqueue"] = created
    assert task.s(1).enqueue().id
    assert asyncio.run(task.s(1).aenqueue()).id


def test_retry_is_not_repeated_by_itself(server: Scripted, app: App) -> None:
    server.answers["RetryJobs"] = unavailable
    with pytest.raises(jobwire.Unavailable):
        app.job(ID).retry()
    assert len(server.named("RetryJobs")) == 1


def watch(server: Scripted) -> None:
    def job(state: int) -> Any:
        return job_pb2.Job(id=ID, state=state, spec=job_pb2.JobSpec(type="t"))  # type: ignore[arg-type]

    def line(index: int) -> Any:
        return job_pb2.LogLine(index=index, level=job_pb2.LOG_LEVEL_WARN, message=f"line {index}")

    def answer(request: Any) -> Any:
        yield pb.WatchJobResponse(job=job(4))
        if request.logs_after == 0:
            yield pb.WatchJobResponse(lines=[line(1), line(2)])
            unavailable()
        yield pb.WatchJobResponse(progress=job_pb2.Progress(percent=50), lines=[line(request.logs_after + 1)])
        yield pb.WatchJobResponse(job=job(6))

    def guarded(request: Any) -> Any:
        return answer(request)

    server.answers["WatchJob"] = guarded


def check_events(server: Scripted, events: list[Any]) -> None:
    shown = [
        e.state.value if isinstance(e, StateEvent) else e.message if isinstance(e, LogEvent) else e for e in events
    ]
    assert shown[:3] == ["running", "line 1", "line 2"]
    assert shown[3] == "line 3"
    assert isinstance(shown[4], ProgressEvent)
    assert shown[5:] == ["succeeded"]
    assert [request.logs_after for request in server.named("WatchJob")] == [0, 2]
    assert events[1].level == logging.WARNING


def test_events_resume_behind_the_last_line(server: Scripted, app: App) -> None:
    watch(server)
    check_events(server, list(app.job(ID).events()))


def test_events_for_asyncio(server: Scripted, app: App) -> None:
    watch(server)

    async def main() -> list[Any]:
        return [event async for event in app.job(ID).events()]

    check_events(server, asyncio.run(asyncio.wait_for(main(), WAIT)))


def test_events_raise_what_cannot_be_resumed(server: Scripted, app: App) -> None:
    def answer(_: Any) -> Any:
        raise StreamEnd(grpc.StatusCode.NOT_FOUND, "no such job", status_details("JOB_NOT_FOUND"))

    server.answers["WatchJob"] = answer
    with pytest.raises(jobwire.NotFound):
        list(app.job(ID).events())


def test_a_handle_is_cheap_and_a_task_still_a_function(app: App, server: Scripted) -> None:
    @app.task("double")
    def double(n: int) -> int:
        """Twice."""
        return 2 * n

    assert isinstance(app.job(ID), Job)
    assert double(21) == 42
    assert double.__doc__ == "Twice."
    assert not server.requests
