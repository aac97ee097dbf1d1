"""The session machine: streams that break, move, or are refused."""

from __future__ import annotations

import pytest
from rig import Rig

from jobwire._leases import (
    Cancel,
    Connect,
    Disconnect,
    Exit,
)
from jobwire.v1 import worker_service_pb2 as pb


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
