"""The session machine: progress, log lines, checkpoints, limits."""

from __future__ import annotations

import pytest
from rig import Rig, ok

from jobwire._leases import (
    Connect,
    Outcome,
    Start,
    cancelled,
    released,
)
from jobwire.v1 import common_pb2, job_pb2
from jobwire.v1 import worker_service_pb2 as pb


def test_progress_latest_wins_at_most_every_quarter_second_and_last_is_sent_ahead_of_the_outcome() -> None:
    rig = Rig().deliver("a")
    rig.take()
    for percent in (1, 2):
        rig.session.progressed("a", job_pb2.Progress(percent=percent), None, rig.now)
        rig.poll()
    assert [p.progress.percent for frame in rig.frames for p in frame.progress] == [1]
    rig.session.progressed("a", job_pb2.Progress(percent=3), None, rig.now)
    rig.poll(0.25)
    assert [p.progress.percent for frame in rig.frames for p in frame.progress] == [1, 3]
    rig.take()
    rig.session.progressed("a", job_pb2.Progress(percent=100), None, rig.now)
    rig.finish("a")
    kinds = [("progress" if f.progress else "") + ("outcome" if f.outcomes else "") for f in rig.frames]
    assert kinds == ["progress", "outcome"]


def test_log_lines_gather_and_go_ahead_of_the_outcome_and_the_oldest_are_dropped() -> None:
    rig = Rig().deliver("a")
    rig.take()
    rig.session.logged("a", job_pb2.LogLine(message="one"), rig.now)
    rig.session.logged("a", job_pb2.LogLine(message="two"), rig.now)
    assert not rig.poll().frames
    rig.poll(0.25)
    assert [[line.message for line in report.lines] for f in rig.frames for report in f.logs] == [["one", "two"]]
    rig.take()
    for index in range(300):
        rig.session.logged("a", job_pb2.LogLine(message=f"{index} " + "x" * 8000), rig.now)
    rig.finish("a")
    lines = [line for frame in rig.frames for report in frame.logs for line in report.lines]
    assert lines[-1].message.startswith("299 ")
    assert sum(line.ByteSize() for line in lines) <= 1 << 20
    assert all(frame.ByteSize() < 3 << 20 for frame in rig.frames)
    assert rig.frames[-1].outcomes
    assert not rig.frames[-1].logs


def test_checkpoint_travels_with_progress_and_with_outcomes_that_keep_it_and_is_repeated_after_a_break() -> None:
    rig = Rig().deliver("a", "b")
    rig.take()
    for token in "ab":
        rig.session.progressed(token, None, common_pb2.Payload(text=token), rig.now)
    rig.poll()
    assert [p.checkpoint.text for frame in rig.frames for p in frame.progress] == ["a", "b"]
    rig.take()
    rig.reconnect()
    assert [p.checkpoint.text for frame in rig.frames for p in frame.progress] == ["a", "b"]
    rig.finish("a", Outcome(failed=pb.Failed())).finish("b").poll(0.002)
    sent = {o.lease_token: o.checkpoint.text for frame in rig.frames for o in frame.outcomes}
    assert sent == {"a": "a", "b": ""}


def test_result_beyond_the_limit_is_reported_as_unprocessable() -> None:
    rig = Rig().deliver("a")
    rig.take()
    rig.finish("a", ok("x" * (1 << 20) + "x"))
    (outcome,) = [o for frame in rig.frames for o in frame.outcomes]
    assert outcome.failed.failure.kind == common_pb2.FAILURE_KIND_UNPROCESSABLE


def test_handlers_wait_while_too_many_outcomes_are_unacknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobwire._outbox.UNACKED_MAX", 2)
    rig = Rig(concurrency=1).deliver("a", "b", "c").finish("a").finish("b").poll(0.002)
    assert [c.lease.token for c in rig.commanded(Start)] == ["a", "b"]
    rig.send(acked_seq=rig.frames[-1].seq)
    assert [c.lease.token for c in rig.commanded(Start)] == ["a", "b", "c"]


def test_prefetch_adapts_to_slow_handlers() -> None:
    rig = Rig(concurrency=4, prefetch=None, connect=False).poll()
    assert rig.commanded(Connect)[0].hello.hello.capacity.slots == 8
    rig.welcome().deliver("a")
    for _ in range(2):
        rig.poll(10.0).send()
    rig.finish("a")
    rig.take()
    rig.poll(10.0)
    assert [frame.capacity.slots for frame in rig.frames if frame.HasField("capacity")] == [4]


def test_run_duration_is_measured_by_the_machine() -> None:
    rig = Rig().deliver("a")
    rig.poll(1.5).finish("a", cancelled("x"))
    (outcome,) = [o for frame in rig.frames for o in frame.outcomes]
    assert (outcome.run_duration.seconds, outcome.run_duration.nanos) == (1, 500_000_000)


def test_timeouts_of_ended_jobs_do_not_pile_up() -> None:
    rig = Rig(concurrency=1)
    job = pb.JobLease()
    job.timeout.seconds = 1800
    for index in range(1000):
        job.lease_token = f"t{index}"
        rig.send(jobs=[job]).finish(job.lease_token, released(""))
    assert len(rig.session._deadlines) < 100
