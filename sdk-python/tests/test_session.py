"""The session machine against rules W1 to W8, seen from the worker. Time is a number; nothing waits."""

from __future__ import annotations

from typing import Any

import pytest
from rig import Rig, ok

from jobwire._leases import (
    Cancel,
    Connect,
    Disconnect,
    Exit,
    HalfClose,
    Outcome,
    Start,
    Warn,
    Welcomed,
    cancelled,
    released,
)
from jobwire.v1 import common_pb2, job_pb2
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


def test_liveness_two_intervals_and_five_seconds_without_a_frame() -> None:
    rig = Rig().deliver("a")
    rig.take()
    assert not rig.poll(24.9).commanded(Disconnect)
    rig.poll(0.1)
    assert len(rig.commanded(Disconnect)) == 1
    assert {held.lease_token for held in rig.hello().hello.held} == {"a"}


def test_go_away_reconnects_after_its_delay_and_keeps_working_until_then() -> None:
    away = pb.GoAway(reason=pb.GO_AWAY_REASON_REBALANCE)
    away.reconnect_delay.nanos = 700_000_000
    rig = Rig().deliver("a").send(go_away=away)
    rig.take()
    rig.poll(0.6).finish("a")
    assert rig.outcomes() == [("a", "succeeded")]
    assert not rig.commanded(Disconnect)
    rig.poll(0.11)
    assert [type(command) for command in rig.commands] == [Disconnect, Connect]
    assert [held.lease_token for held in rig.commanded(Connect)[0].hello.hello.held] == ["a"]


def test_a_stream_that_ends_before_the_go_away_delay_waits_for_it() -> None:
    away = pb.GoAway()
    away.reconnect_delay.seconds = 3
    rig = Rig().send(go_away=away)
    rig.take()
    rig.drop().poll(2.9)
    assert not rig.commanded(Connect)
    assert rig.poll(1.0).commanded(Connect)


def test_backoff_grows_with_full_jitter_and_starts_afresh_after_a_stream_that_lived() -> None:
    rig = Rig()
    ceilings = []
    for _ in range(12):
        rig.poll(0.0)
        rig.drop()
        ceilings.append(rig.session._connect_at - rig.now)
        rig.hello()
    assert all(0.0 <= delay <= min(15.0, 0.05 * 2**n) for n, delay in enumerate(ceilings))
    assert max(ceilings) > 1.0
    rig.welcome()
    rig.poll(2.0).drop()
    assert rig.session._connect_at - rig.now <= 0.05


def test_with_jobs_in_hand_the_next_try_comes_within_a_third_of_the_lease() -> None:
    rig = Rig().deliver("a")
    delays = []
    for _ in range(100):
        rig.drop()
        delays.append(rig.session._connect_at - rig.now)
        rig.hello()
    assert 5.0 < max(delays) <= 10.0


def test_retry_delay_of_the_server_is_a_floor() -> None:
    rig = Rig().drop("RESOURCE_EXHAUSTED", retry_delay=9.0)
    assert rig.session._connect_at - rig.now >= 9.0


def test_session_moved_waits_before_it_speaks_again() -> None:
    rig = Rig().drop("ABORTED", reason="SESSION_MOVED")
    assert rig.session._connect_at - rig.now >= 1.0


@pytest.mark.parametrize("code", ["FAILED_PRECONDITION", "INVALID_ARGUMENT", "PERMISSION_DENIED"])
def test_refused_for_good_stops_loudly(code: str) -> None:
    rig = Rig().deliver("a")
    rig.take()
    rig.drop(code)
    (stop,) = rig.commanded(Exit)
    assert stop.error is not None
    assert stop.error.code == code
    assert [c.reason for c in rig.commanded(Cancel)] == ["shutdown"]


@pytest.mark.parametrize("code", ["UNAVAILABLE", "UNAUTHENTICATED", "INTERNAL", "ABORTED", "UNKNOWN"])
def test_anything_else_reconnects(code: str) -> None:
    assert Rig().drop(code).hello().hello.session_id == "s-1"


def test_quiet_then_run() -> None:
    rig = Rig().deliver("a")
    rig.take()
    rig.send(directive=pb.Directive(kind=pb.DIRECTIVE_KIND_QUIET))
    assert [frame.state for frame in rig.frames] == [pb.WORKER_STATE_QUIET]
    rig.take()
    hello = rig.reconnect()
    assert hello.hello.capacity.slots == 0
    assert [frame.state for frame in rig.frames] == [pb.WORKER_STATE_QUIET]
    rig.take()
    rig.send(directive=pb.Directive(kind=pb.DIRECTIVE_KIND_RUN))
    assert [(frame.state, frame.capacity.slots) for frame in rig.frames] == [(pb.WORKER_STATE_ACTIVE, 2)]


def test_drain_releases_the_unstarted_lets_the_rest_finish_and_half_closes_when_all_is_acked() -> None:
    rig = Rig(concurrency=1).deliver("a", "b")
    rig.take()
    rig.session.drain(rig.now)
    rig.poll()
    assert [frame.state for frame in rig.frames] == [pb.WORKER_STATE_DRAINING]
    assert rig.outcomes() == [("b", "released")]
    rig.deliver("c").poll(0.002)  # crossed on the wire
    assert rig.outcomes() == [("b", "released"), ("c", "released")]
    rig.finish("a").poll(0.002)
    last = rig.frames[-1].seq
    assert rig.outcomes()[-1] == ("a", "succeeded")
    assert not rig.commanded(HalfClose)
    rig.send(acked_seq=last)
    assert len(rig.commanded(HalfClose)) == 1
    rig.session.disconnected(None, rig.now)
    rig.poll()
    assert [command.error for command in rig.commanded(Exit)] == [None]


def test_drain_at_grace_cancels_then_releases_with_the_checkpoint() -> None:
    rig = Rig().deliver("a")
    rig.take()
    rig.session.drain(rig.now)
    rig.poll(15.0).send().poll(9.9)
    assert not rig.commanded(Cancel)
    rig.poll(0.1)
    assert [(c.lease.token, c.reason) for c in rig.commanded(Cancel)] == [("a", "shutdown")]
    rig.session.progressed("a", None, common_pb2.Payload(text='{"step":1}'), rig.now)
    rig.poll(2.0)
    (outcome,) = [o for frame in rig.frames for o in frame.outcomes]
    assert outcome.WhichOneof("result") == "released"
    assert outcome.checkpoint.text == '{"step":1}'
    rig.send(acked_seq=rig.frames[-1].seq)
    assert rig.commanded(HalfClose)
    rig.session.finished("a", ok(), rig.now)  # the hung handler returns after all: too late
    rig.poll()
    assert [kind for _, kind in rig.outcomes()] == ["released"]


def test_second_drain_releases_now() -> None:
    rig = Rig().deliver("a")
    rig.session.drain(rig.now)
    rig.poll().take()
    rig.session.drain(rig.now)
    rig.poll()
    assert [c.reason for c in rig.commanded(Cancel)] == ["shutdown"]
    assert rig.outcomes() == [("a", "released")]


def test_terminate_drains_with_the_grace_of_the_directive() -> None:
    directive = pb.Directive(kind=pb.DIRECTIVE_KIND_TERMINATE)
    directive.grace.seconds = 3
    rig = Rig().deliver("a")
    rig.take()
    rig.send(directive=directive)
    assert [frame.state for frame in rig.frames] == [pb.WORKER_STATE_DRAINING]
    assert not rig.poll(2.9).commanded(Cancel)
    assert rig.poll(0.1).commanded(Cancel)


def test_drain_waits_two_seconds_for_the_last_ack_and_says_what_is_missing() -> None:
    rig = Rig().deliver("a").finish("a")
    rig.session.drain(rig.now)
    rig.poll().take()
    assert not rig.poll(1.9).commanded(Exit)
    rig.poll(0.1)
    assert rig.commanded(Exit)
    assert "1 outcomes were not acknowledged" in rig.commanded(Warn)[0].message


def test_drain_without_a_stream_resends_until_the_grace_is_over() -> None:
    rig = Rig().deliver("a").finish("a").drop()
    rig.session.drain(rig.now)
    rig.poll()
    hello = rig.hello()
    assert [held.lease_token for held in hello.hello.held] == ["a"]
    rig.take()
    rig.welcome()
    assert [frame.state for frame in rig.frames if frame.state] == [pb.WORKER_STATE_DRAINING]
    assert rig.outcomes() == [("a", "succeeded")]
    rig.send(acked_seq=rig.frames[-1].seq)
    assert rig.commanded(HalfClose)


def test_drain_with_nothing_in_hand_ends_at_once() -> None:
    connected = Rig()
    connected.session.drain(connected.now)
    connected.poll()
    assert [frame.state for frame in connected.frames] == [pb.WORKER_STATE_DRAINING]
    assert connected.commanded(HalfClose)
    away = Rig().drop()
    away.session.drain(away.now)
    away.poll()
    assert away.commanded(Exit)


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
