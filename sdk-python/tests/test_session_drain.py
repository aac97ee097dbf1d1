"""The session machine: QUIET, draining, and its end."""

from __future__ import annotations

from rig import Rig, ok

from jobwire._leases import (
    Cancel,
    Exit,
    HalfClose,
    Warn,
)
from jobwire.v1 import common_pb2
from jobwire.v1 import worker_service_pb2 as pb


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
