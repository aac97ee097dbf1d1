"""The session machine and batch tasks: when a batch starts, who is in it, and what becomes of single members."""

from __future__ import annotations

from typing import Any

import pytest
from rig import Rig

from jobwire._leases import BatchRule, Cancel, SessionConfig, Start, StartBatch
from jobwire.v1 import worker_service_pb2 as pb

RULE = BatchRule(max_size=3, linger=0.5)


def batching(rule: BatchRule = RULE, **config: Any) -> Rig:
    return Rig(batches={"t": rule}, **config)


def deliver(rig: Rig, *tokens: str, key: str = "", **fields: Any) -> Rig:
    task = pb.Task(type="t", fairness_key=key)
    return rig.send(jobs=[pb.JobLease(lease_token=token, task=task, **fields) for token in tokens])


def started(rig: Rig) -> list[list[str]]:
    batches = [[lease.token for lease in command.leases] for command in rig.commanded(StartBatch)]
    rig.take()
    return batches


def test_a_full_batch_starts_at_once_and_the_rest_lingers() -> None:
    rig = deliver(batching(), "a", "b", "c", "d")
    assert [list(frame.started) for frame in rig.frames if frame.started] == [["a", "b", "c"]]
    assert started(rig) == [["a", "b", "c"]]
    assert rig.session.running == 1
    rig.poll(0.49)
    assert started(rig) == []
    rig.poll(0.01)
    assert started(rig) == [["d"]]


def test_linger_counts_from_the_first_and_the_machine_wakes_for_it() -> None:
    rig = deliver(batching(), "a")
    assert rig.session.poll(rig.now).wake == rig.now + 0.5
    deliver(rig.poll(0.3), "b")
    assert rig.session.poll(rig.now).wake == pytest.approx(rig.now + 0.2)
    rig.poll(0.2)
    assert started(rig) == [["a", "b"]]


def test_without_linger_what_came_together_runs_together() -> None:
    rig = batching(BatchRule(3, 0.0), concurrency=9)
    deliver(rig, "a", "b")
    deliver(rig, "c")
    assert started(rig) == [["a", "b"], ["c"]]


def test_a_batch_is_one_handler_and_grows_while_it_waits_for_its_turn() -> None:
    rig = batching(concurrency=1)
    deliver(rig, "a", "b", "c")
    assert started(rig) == [["a", "b", "c"]]
    deliver(rig, "d")
    rig.poll(5.0)
    assert started(rig) == []
    deliver(rig, "e")
    for token in "abc":
        rig.finish(token)
    assert started(rig) == [["d", "e"]]
    assert rig.session.running == 1
    rig.finish("d")
    assert rig.session.running == 1
    rig.finish("e")
    assert rig.session.running == 0


def test_a_batch_takes_its_turn_by_its_first_job() -> None:
    rig = batching(concurrency=1, pool_types=frozenset(), prefetch=9)
    other = pb.JobLease(lease_token="x", task=pb.Task(type="u"))
    deliver(rig, "a", "b", "c")
    started(rig)
    deliver(rig, "d", "e", "f")
    rig.send(jobs=[other])
    for token in "abc":
        rig.finish(token)
    assert started(rig) == [["d", "e", "f"]]
    for token in "def":
        rig.finish(token)
    assert [command.lease.token for command in rig.commanded(Start)] == ["x"]


def test_by_key_only_one_key_is_in_a_batch() -> None:
    rig = batching(BatchRule(2, 0.5, by_key=True), concurrency=9)
    deliver(rig, "a1", key="a")
    deliver(rig, "b1", key="b")
    assert started(rig) == []
    deliver(rig, "a2", "a3", key="a")
    assert started(rig) == [["a1", "a2"]]
    rig.poll(0.5)
    assert started(rig) == [["b1"], ["a3"]]


def test_keys_do_not_matter_otherwise() -> None:
    rig = batching(BatchRule(2, 0.5))
    deliver(rig, "a1", key="a")
    deliver(rig, "b1", key="b")
    assert started(rig) == [["a1", "b1"]]


def test_a_job_that_crashed_runs_alone_and_at_once_and_one_such_at_a_time() -> None:
    rig = batching(concurrency=9)
    deliver(rig, "a")
    deliver(rig, "poison", crashes=1)
    deliver(rig, "again", "gone", "last", crashes=2)
    assert started(rig) == [["poison"]]
    rig.finish("poison")
    assert started(rig) == [["again"]]
    rig.send(recalls=["gone"])
    rig.finish("again")
    assert started(rig) == [["last"]]
    rig.finish("last")
    deliver(rig, "b")
    rig.poll(0.5)
    assert started(rig) == [["a", "b"]]


@pytest.mark.parametrize("how", ["recalls", "cancels", "lost"])
def test_who_leaves_while_lingering_is_not_in_the_batch(how: str) -> None:
    rig = deliver(batching(), "a", "b")
    rig.take()
    if how == "recalls":
        rig.send(recalls=["a"])
        assert rig.outcomes() == [("a", "released")]
    elif how == "cancels":
        rig.send(cancels=[pb.CancelOrder(lease_token="a", message="changed my mind")])
        assert rig.outcomes() == [("a", "cancelled")]
    else:
        rig.send(heartbeat_ack=pb.HeartbeatAck(lost=["a"]))
        assert rig.outcomes() == []
    rig.take()
    rig.poll(0.5)
    assert started(rig) == [["b"]]


def test_all_may_leave_while_lingering() -> None:
    rig = deliver(batching(), "a", "b")
    rig.take()
    rig.send(recalls=["a", "b"]).poll(0.5)
    assert started(rig) == []
    deliver(rig, "c").poll(0.49)
    assert started(rig) == []
    rig.poll(0.01)
    assert started(rig) == [["c"]]


def test_a_drain_releases_who_lingers_and_lets_the_batch_finish() -> None:
    rig = batching(concurrency=9)
    deliver(rig, "a", "b", "c")
    deliver(rig, "d", "e")
    rig.take()
    rig.session.drain(rig.now)
    rig.poll()
    assert rig.outcomes() == [("d", "released"), ("e", "released")]
    rig.poll(0.5)
    assert started(rig) == []
    for token in "abc":
        rig.finish(token).poll(0.002)
    assert rig.outcomes() == [("a", "succeeded"), ("b", "succeeded"), ("c", "succeeded")]


def test_the_grace_of_a_drain_ends_for_all_of_a_batch() -> None:
    rig = deliver(batching(), "a", "b", "c")
    rig.take()
    rig.session.drain(rig.now, 1.0)
    rig.poll(1.0)
    assert [(c.lease.token, c.reason) for c in rig.commanded(Cancel)] == [(token, "shutdown") for token in "abc"]
    rig.poll(2.0)
    assert rig.outcomes() == [("a", "released"), ("b", "released"), ("c", "released")]
    assert rig.session.running == 0


def test_it_runs_under_the_shortest_timeout() -> None:
    rig = batching()
    task = pb.Task(type="t")
    jobs = [pb.JobLease(lease_token=token, task=task) for token in "abc"]
    jobs[0].timeout.seconds, jobs[1].timeout.seconds = 9, 5
    rig.send(jobs=jobs)
    (command,) = rig.commanded(StartBatch)
    assert {lease.deadline for lease in command.leases} == {rig.now + 5.0}
    rig.take()
    rig.poll(4.9)
    assert not rig.commanded(Cancel)
    rig.poll(0.1)
    assert [(c.lease.token, c.reason) for c in rig.commanded(Cancel)] == [(token, "timeout") for token in "abc"]


def test_one_that_is_cancelled_is_marked_and_the_others_go_on() -> None:
    rig = deliver(batching(), "a", "b", "c")
    rig.take()
    rig.send(cancels=[pb.CancelOrder(lease_token="b")])
    (command,) = rig.commanded(Cancel)
    assert (command.lease.token, command.lease.cancel) == ("b", "requested")
    assert [lease.cancel for lease in rig.session.leases.values()] == [None, "requested", None]


def test_of_one_that_is_lost_nothing_is_reported() -> None:
    rig = deliver(batching(), "a", "b", "c")
    rig.take()
    rig.send(heartbeat_ack=pb.HeartbeatAck(lost=["b"]))
    for token in "abc":
        rig.finish(token)
    rig.poll(0.002)
    assert rig.outcomes() == [("a", "succeeded"), ("c", "succeeded")]


def test_no_batch_starts_while_somebody_else_may_have_one_of_its_jobs() -> None:
    rig = deliver(batching(BatchRule(2, 20.0)), "a")
    rig.poll(5.0)  # named, and not acknowledged
    rig.poll(5.1)  # its delivery has run out
    deliver(rig, "b")
    assert started(rig) == []
    rig.send(heartbeat_ack=pb.HeartbeatAck(heartbeat_seq=99))
    assert started(rig) == [["a", "b"]]


@pytest.mark.parametrize(
    ("concurrency", "mean", "prefetch"),
    [(10, None, 90), (10, 0.5, 90), (10, 9.9, 40), (10, 100.0, 40), (60, None, 40), (60, 100.0, 0), (200, None, 16)],
)
def test_a_batch_of_fifty_always_finds_room(concurrency: int, mean: float | None, prefetch: int) -> None:
    config = SessionConfig("s", concurrency=concurrency, batches={"t": BatchRule(50, 0.1)})
    assert config.wanted_prefetch(mean) == prefetch
    assert concurrency + prefetch >= 50


def test_what_is_long_gone_is_not_kept() -> None:
    rig = batching(BatchRule(2, 30.0), concurrency=99)
    for n in range(500):
        deliver(rig, f"a{n}", f"b{n}")
        rig.finish(f"a{n}").finish(f"b{n}")
        rig.poll(0.002)
    gathering = rig.session._lines._gathering
    assert len(gathering._due) <= 70
    assert (gathering._lines, rig.session.running) == ({}, 0)
    assert len(gathering._ripe) <= 1
