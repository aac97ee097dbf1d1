"""The session machine and handlers in child processes: their own line, and children that die."""

from __future__ import annotations

from typing import Any

from rig import Rig, ok

from jobwire._leases import Start
from jobwire.v1 import common_pb2, job_pb2
from jobwire.v1 import worker_service_pb2 as pb


def pooled(**config: Any) -> Rig:
    return Rig(concurrency=3, pool_types=frozenset({"cpu"}), pool_size=1, **config)


def deliver(rig: Rig, *tokens: str) -> None:
    """Tokens that begin with "p" are of the pool."""
    types = {token: "cpu" if token.startswith("p") else "t" for token in tokens}
    rig.send(jobs=[pb.JobLease(lease_token=t, task=pb.Task(id=f"job-{t}", type=kind)) for t, kind in types.items()])


def started(rig: Rig) -> list[str]:
    tokens = [command.lease.token for command in rig.commanded(Start)]
    rig.take()
    return tokens


def test_a_full_pool_holds_up_its_own_jobs_only() -> None:
    rig = pooled()
    deliver(rig, "p1", "p2", "a", "b", "c")
    assert started(rig) == ["p1", "a", "b"]
    rig.finish("a")
    assert started(rig) == ["c"]
    rig.finish("p1")
    assert started(rig) == ["p2"]


def test_a_drain_gives_both_lines_back() -> None:
    rig = pooled()
    deliver(rig, "p1", "p2", "a")
    rig.take()
    rig.session.drain(rig.now)
    rig.poll()
    assert rig.outcomes() == [("p2", "released")]


def test_a_handler_that_died_with_its_process_is_not_named_and_nothing_is_reported() -> None:
    rig = pooled()
    deliver(rig, "p1", "p2", "a")
    rig.take()
    checkpoint = common_pb2.Payload(text="7")
    rig.session.progressed("p1", None, checkpoint, rig.now)
    rig.session.logged("p1", job_pb2.LogLine(message="its process was killed"), rig.now)
    rig.session.vanished("p1", rig.now)
    rig.poll()
    ahead, beat = rig.frames
    assert [report.checkpoint.text for report in ahead.progress] == ["7"]
    assert [line.message for report in ahead.logs for line in report.lines] == ["its process was killed"]
    assert list(ahead.started) == ["p2"]
    assert list(beat.heartbeat.held) == ["p2", "a"]
    assert rig.outcomes() == []
    assert "p1" not in [held.lease_token for held in rig.reconnect().hello.held]


def test_a_lost_lease_whose_process_dies_leaves_nothing_behind() -> None:
    rig = pooled()
    deliver(rig, "p1", "p2")
    rig.send(heartbeat_ack=pb.HeartbeatAck(lost=["p1"]))
    rig.take()
    rig.session.vanished("p1", rig.now)
    rig.session.finished("p1", ok(), rig.now)  # too late to count
    rig.poll()
    assert rig.outcomes() == []
    assert started(rig) == ["p2"]
    assert rig.session.running == 1
