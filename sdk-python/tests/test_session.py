"""The session machine against rules W1 to W8, seen from the worker. Time is a number; nothing waits."""

from __future__ import annotations

from typing import Any

import pytest
from rig import Rig, ok

from jobwire._leases import (
    Cancel,
    Connect,
    Disconnect,
    Start,
    Warn,
    Welcomed,
)
from jobwire.v1 import common_pb2
from jobwire.v1 import worker_service_pb2 as pb


def test_hello_is_the_first_frame_and_nothing_else_goes_before_welcome() -> None:
    rig = Rig(connect=False).poll()
    (connect,) = rig.commanded(Connect)
    assert connect.hello.seq == 1
    assert connect.hello.hello.session_id == "s-1"
    assert list(connect.hello.hello.types) == ["t"]
    assert (connect.hello.hello.capacity.slots, connect.hello.hello.capacity.concurrency) == (2, 2)
    assert not rig.poll(1.0).frames
    rig.welcome()
    assert len(rig.commanded(Welcomed)) == 1


def test_a_first_frame_without_welcome_drops_the_stream() -> None:
    rig = Rig(connect=False).poll()
    rig.send(acked_seq=1)
    assert rig.commanded(Disconnect)


def test_jobs_start_up_to_concurrency_and_are_receipted_with_started_at_once() -> None:
    rig = Rig().deliver("a", "b", "c")
    assert [c.lease.token for c in rig.commanded(Start)] == ["a", "b"]
    (frame,) = rig.frames
    assert (list(frame.started), frame.received_seq, frame.seq) == (["a", "b"], 2, 2)
    rig.take()
    rig.finish("a")
    assert [c.lease.token for c in rig.commanded(Start)] == ["c"]


def test_receipt_within_a_second_even_when_nothing_starts() -> None:
    rig = Rig(concurrency=1).deliver("a")
    rig.take()
    rig.deliver("b")
    assert not rig.frames
    rig.poll(0.9)
    assert [frame.received_seq for frame in rig.frames] == [3]


def test_outcome_leaves_at_once_with_nothing_in_flight_and_gathers_behind_an_unacked_frame() -> None:
    rig = Rig(concurrency=4).deliver("a", "b", "c", "d")
    rig.take()
    rig.finish("a")
    assert rig.outcomes() == [("a", "succeeded")]
    rig.take()
    rig.finish("b").finish("c")
    assert not rig.frames  # one frame is unacknowledged
    rig.poll(0.002)
    assert rig.outcomes() == [("b", "succeeded"), ("c", "succeeded")]
    assert len(rig.frames) == 1


def test_an_ack_that_empties_the_flight_releases_what_gathered() -> None:
    rig = Rig().deliver("a", "b").finish("a")
    seq = rig.frames[-1].seq
    rig.take()
    rig.finish("b")
    assert not rig.frames
    rig.send(acked_seq=seq)
    assert rig.outcomes() == [("b", "succeeded")]


def test_a_full_frame_does_not_wait() -> None:
    tokens = [f"t{i}" for i in range(130)]
    rig = Rig(concurrency=200).deliver(*tokens).finish("t0")
    rig.take()
    for token in tokens[1:128]:
        rig.session.finished(token, ok(), rig.now)
    assert not rig.poll().frames
    rig.finish("t128")
    assert [len(frame.outcomes) for frame in rig.frames] == [128]


def test_big_outcomes_flush_by_bytes_and_are_split() -> None:
    rig = Rig(concurrency=4).deliver("a", "b", "c").finish("a")
    rig.take()
    rig.session.finished("b", ok("x" * 40_000), rig.now)
    assert not rig.poll().frames
    rig.finish("c", ok("y" * 40_000))
    assert [len(frame.outcomes) for frame in rig.frames] == [1, 1]


def test_w3_w4_unacked_outcomes_are_resent_after_a_reconnect_and_trimmed_by_acks() -> None:
    rig = Rig(concurrency=3).deliver("a", "b", "c").finish("a")
    first = rig.frames[-1].seq
    rig.finish("b").poll(0.002)
    rig.send(acked_seq=first)
    rig.take()
    hello = rig.reconnect()
    assert {held.lease_token for held in hello.hello.held} == {"b", "c"}
    assert rig.outcomes() == [("b", "succeeded")]
    assert rig.frames[0].seq == 2  # numbering starts afresh
    rig.send(acked_seq=2)
    rig.take()
    assert {held.lease_token for held in rig.reconnect().hello.held} == {"c"}
    assert rig.outcomes() == []


def test_hello_names_running_time_and_unstarted_leases() -> None:
    rig = Rig(concurrency=1).deliver("a", "b")
    rig.poll(3.0)
    rig.drop()
    hello = rig.hello().hello
    held = {h.lease_token: h.running_for.seconds if h.HasField("running_for") else None for h in hello.held}
    assert held["b"] is None
    assert held["a"] is not None
    assert held["a"] >= 3


def test_a_start_that_hello_told_is_not_told_again() -> None:
    rig = Rig(concurrency=3).deliver("a").finish("a")
    rig.take()
    rig.deliver("b")
    assert not rig.frames  # waits for company behind the unacknowledged outcome
    hello = rig.reconnect()
    assert {held.lease_token: held.HasField("running_for") for held in hello.hello.held} == {"a": True, "b": True}
    rig.poll(1.0)
    assert [token for frame in rig.frames for token in frame.started] == []


def test_no_handler_starts_without_a_stream() -> None:
    rig = Rig(concurrency=1).deliver("a", "b")
    rig.drop()
    rig.take()
    rig.session.finished("a", ok(), rig.now)
    rig.poll()
    assert not rig.commanded(Start)
    rig.hello()
    rig.welcome()
    assert [c.lease.token for c in rig.commanded(Start)] == ["b"]


def test_welcome_lost_cancels_and_drops_settled_drops_the_outcome() -> None:
    rig = Rig(concurrency=3).deliver("run", "done", "kept").finish("done").finish("kept")
    rig.take()
    rig.reconnect(lost=["run"], settled=["done"])
    (cancel,) = rig.commanded(Cancel)
    assert (cancel.lease.token, cancel.reason) == ("run", "lease_lost")
    assert rig.outcomes() == [("kept", "succeeded")]
    rig.take()
    rig.finish("run").poll(0.01)
    assert rig.outcomes() == []  # its outcome is dropped


def test_w1_a_lost_lease_is_named_until_its_handler_has_stopped() -> None:
    rig = Rig().deliver("a").poll(10.0)
    rig.send(heartbeat_ack=pb.HeartbeatAck(heartbeat_seq=3, lost=["a"]))
    rig.take()
    rig.poll(10.0)
    assert [list(f.heartbeat.held) for f in rig.frames if f.HasField("heartbeat")] == [["a"]]
    rig.take()
    rig.finish("a", None)
    rig.send().poll(10.0)
    assert [list(f.heartbeat.held) for f in rig.frames if f.HasField("heartbeat")] == [[]]


def test_lost_before_start_never_runs() -> None:
    rig = Rig(concurrency=1).deliver("a", "b")
    rig.take()
    rig.send(heartbeat_ack=pb.HeartbeatAck(lost=["b"]))
    rig.finish("a")
    assert not rig.commanded(Start)
    assert not rig.session.leases


def test_what_somebody_else_may_have_by_now_does_not_start() -> None:
    rig = Rig(concurrency=1, prefetch=1).deliver("a", "b")
    rig.take()
    rig.now += 11.0  # frozen: past the delivery lease
    rig.finish("a")
    assert not rig.commanded(Start)
    (beat,) = [frame for frame in rig.frames if frame.HasField("heartbeat")]
    rig.now += 1.0
    rig.send(heartbeat_ack=pb.HeartbeatAck(heartbeat_seq=beat.seq))
    assert [start.lease.token for start in rig.commanded(Start)] == ["b"], "the server has renewed it"

    rig.deliver("c")
    rig.take()
    rig.now += 60.0
    rig.finish("b")
    assert not rig.commanded(Start)
    rig.reconnect()
    assert [start.lease.token for start in rig.commanded(Start)] == ["c"], "the new stream has renewed it"


def test_w6_heartbeat_names_what_is_in_hand_and_not_what_was_reported() -> None:
    rig = Rig(concurrency=2).deliver("a", "b", "c").finish("a")
    rig.take()
    rig.poll(10.0)
    beats = [frame for frame in rig.frames if frame.HasField("heartbeat")]
    assert [sorted(frame.heartbeat.held) for frame in beats] == [["b", "c"]]
    assert beats[0].heartbeat.running == 2
    assert beats[0].received_seq == 2


def test_outcomes_go_ahead_of_the_heartbeat_of_the_same_moment() -> None:
    rig = Rig().deliver("a", "b").finish("a")
    rig.take()
    rig.session.finished("b", ok(), rig.now + 10.0)
    rig.poll(10.0)
    outcome, beat = rig.frames
    assert [o.lease_token for o in outcome.outcomes] == ["b"]
    assert not outcome.HasField("heartbeat")
    assert list(beat.heartbeat.held) == []


def test_heartbeat_every_interval_and_early_for_a_lease_never_named() -> None:
    rig = Rig()
    rig.poll(7.0).send()
    rig.deliver("a")
    rig.take()
    rig.poll(3.0)
    assert any(frame.HasField("heartbeat") for frame in rig.frames)  # the interval
    rig.send().take()
    rig.poll(1.0).deliver("b")
    rig.take()
    rig.poll(4.9)
    assert not any(frame.HasField("heartbeat") for frame in rig.frames)
    rig.poll(0.1)
    assert [sorted(f.heartbeat.held) for f in rig.frames if f.HasField("heartbeat")] == [["a", "b"]]


def test_a_lease_is_trusted_from_the_sending_of_an_acknowledged_heartbeat() -> None:
    rig = Rig().deliver("a")
    lease = rig.session.leases["a"]
    assert lease.trusted_until == rig.now + 10.0
    rig.poll(5.0)
    sent = rig.now
    (beat,) = [frame for frame in rig.frames if frame.HasField("heartbeat")]
    rig.now += 3.0
    rig.send(heartbeat_ack=pb.HeartbeatAck(heartbeat_seq=beat.seq))
    assert lease.trusted_until == sent + 30.0


def test_recalled_before_start_is_released_and_ignored_after() -> None:
    rig = Rig(concurrency=1).deliver("a", "b")
    rig.take()
    rig.send(recalls=["a", "b"])
    rig.poll(0.002)
    assert rig.outcomes() == [("b", "released")]
    assert "a" in rig.session.leases


def test_cancel_order_reaches_a_running_handler_once_and_ends_a_waiting_one() -> None:
    rig = Rig(concurrency=1).deliver("a", "b")
    rig.take()
    order = pb.CancelOrder(lease_token="a", reason=pb.CANCEL_REASON_REQUESTED, message="bye")
    rig.send(cancels=[order, pb.CancelOrder(lease_token="b", reason=pb.CANCEL_REASON_WORKFLOW)])
    rig.send(cancels=[order])
    assert [(c.lease.token, c.reason) for c in rig.commanded(Cancel)] == [("a", "requested")]
    assert rig.outcomes() == [("b", "cancelled")]


def test_w7_welcome_repeats_cancels_and_directives() -> None:
    rig = Rig().deliver("a")
    rig.take()
    rig.reconnect(
        cancels=[pb.CancelOrder(lease_token="a", reason=pb.CANCEL_REASON_REQUESTED)],
        directive=pb.Directive(kind=pb.DIRECTIVE_KIND_QUIET),
    )
    assert [(c.lease.token, c.reason) for c in rig.commanded(Cancel)] == [("a", "requested")]
    assert [frame.state for frame in rig.frames] == [pb.WORKER_STATE_QUIET]


def test_unknown_cancel_reason_counts_as_requested_and_unknown_directive_is_ignored() -> None:
    rig = Rig().deliver("a")
    rig.take()
    rig.send(cancels=[pb.CancelOrder(lease_token="a", reason=99)])  # type: ignore[arg-type]
    rig.send(directive=pb.Directive(kind=99))  # type: ignore[arg-type]
    assert [c.reason for c in rig.commanded(Cancel)] == ["requested"]
    assert not rig.frames


def test_timeout_cancels_at_its_time_and_not_before() -> None:
    job = pb.JobLease(lease_token="a")
    job.timeout.seconds = 5
    rig = Rig().send(jobs=[job])
    assert not rig.poll(4.9).commanded(Cancel)
    assert [c.reason for c in rig.poll(0.1).commanded(Cancel)] == ["timeout"]


def test_timeouts_go_on_without_a_stream() -> None:
    job = pb.JobLease(lease_token="a")
    job.timeout.seconds = 5
    rig = Rig().send(jobs=[job]).drop()
    assert [c.reason for c in rig.poll(5.0).commanded(Cancel)] == ["timeout"]


@pytest.mark.parametrize(
    "reason", [pb.REJECTION_REASON_SUPERSEDED, pb.REJECTION_REASON_FINISHED, pb.REJECTION_REASON_UNKNOWN_LEASE, 77]
)
def test_rejected_for_good_is_dropped(reason: Any) -> None:
    rig = Rig().deliver("a").finish("a")
    seq = rig.frames[-1].seq
    rig.take()
    rig.send(rejections=[pb.OutcomeRejection(lease_token="a", reason=reason)], acked_seq=seq)
    assert rig.commanded(Warn)
    assert not rig.frames
    assert not rig.reconnect().hello.held


@pytest.mark.parametrize("reason", [pb.REJECTION_REASON_INVALID, pb.REJECTION_REASON_UNSUPPORTED])
def test_rejected_but_armed_again_is_reported_as_unprocessable_once(reason: Any) -> None:
    rig = Rig().deliver("a").finish("a")
    seq = rig.frames[-1].seq
    rig.take()
    rig.send(rejections=[pb.OutcomeRejection(lease_token="a", reason=reason, message="too odd")], acked_seq=seq)
    (outcome,) = [o for frame in rig.frames for o in frame.outcomes]
    assert outcome.failed.failure.kind == common_pb2.FAILURE_KIND_UNPROCESSABLE
    assert outcome.failed.action == pb.FAILURE_ACTION_STOP
    assert "too odd" in outcome.failed.failure.message
    rig.take()
    rig.send(rejections=[pb.OutcomeRejection(lease_token="a", reason=reason)])
    assert not rig.frames
