//! How a worker ends.

use super::*;

#[test]
fn drain_releases_the_unstarted_waits_for_the_rest_and_half_closes() {
    let mut bench = Bench::active(1, 2);
    bench.deliver(&["t1", "t2", "t3"]);
    bench.session.drain(None, bench.now);
    bench.poll();
    assert_eq!(bench.frames[0].state, pb::WorkerState::Draining as i32);
    assert_eq!(bench.outcomes(), [("t2".into(), "released"), ("t3".into(), "released")]);
    bench.deliver(&["t4"]);
    bench.pass(millis(2));
    assert_eq!(bench.outcomes(), [("t4".into(), "released")], "it crossed on the wire");
    bench.finish("t1");
    bench.pass(millis(2));
    let seq = bench.session.seq;
    bench.ack(seq);
    assert!(matches!(bench.commands[..], [Command::HalfClose]));
    bench.session.disconnected(None, bench.now);
    bench.poll();
    assert_eq!(bench.exited(), Some(true));
}

#[test]
fn drain_cancels_at_the_grace_and_releases_two_seconds_later() {
    let mut bench = Bench::active(2, 0);
    bench.deliver(&["t1", "t2"]);
    bench.session.drain(Some(secs(3)), bench.now);
    bench.poll();
    bench.pass(secs(3));
    assert_eq!(bench.cancelled(), [CancelReason::Shutdown; 2]);
    bench.finish("t1");
    assert_eq!(bench.outcomes(), [("t1".into(), "succeeded")]);
    bench.pass(secs(2));
    bench.pass(millis(2));
    assert_eq!(bench.outcomes(), [("t2".into(), "released")]);
    bench.finish("t2");
    assert!(bench.outcomes().is_empty(), "given up");
    bench.pass(secs(2));
    assert_eq!(bench.exited(), Some(true), "no acknowledgement came");
    assert!(bench.commands.iter().any(|command| matches!(command, Command::Warn(_))));
}

#[test]
fn a_second_drain_releases_now() {
    let mut bench = Bench::active(1, 0);
    bench.deliver(&["t1"]);
    bench.session.drain(None, bench.now);
    bench.poll();
    bench.session.drain(None, bench.now);
    bench.poll();
    assert_eq!(bench.outcomes(), [("t1".into(), "released")]);
}

#[test]
fn a_drain_without_a_server_ends_when_nothing_is_in_hand() {
    let mut bench = Bench::new(1, 0);
    bench.session.drain(None, bench.now);
    bench.poll();
    assert_eq!(bench.exited(), Some(true));
}
