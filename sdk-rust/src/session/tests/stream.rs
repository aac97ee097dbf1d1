//! The life of the stream: hello, welcome, breaks, and when to give up.

use super::*;

#[test]
fn hello_comes_first_and_nothing_before_the_welcome() {
    let mut bench = Bench::new(4, 2);
    let hello = bench.connect();
    assert_eq!((hello.session_id.as_str(), hello.revision), ("s", 1));
    assert_eq!(hello.capacity.map(|capacity| (capacity.slots, capacity.concurrency)), Some((6, 4)));
    bench.pass(secs(1));
    assert!(bench.frames.is_empty());
    bench.welcome(pb::Welcome::default());
    assert!(matches!(bench.commands[..], [Command::Welcomed]));
}

#[test]
fn a_first_frame_without_welcome_drops_the_stream() {
    let mut bench = Bench::new(1, 0);
    bench.connect();
    bench.deliver(&["t1"]);
    assert!(matches!(bench.commands[0], Command::Disconnect(_)));
    assert!(bench.starts.is_empty());
}

#[test]
fn hello_says_how_long_handlers_have_been_running() {
    let mut bench = Bench::active(1, 1);
    bench.deliver(&["t1", "t2"]);
    bench.pass(secs(3));
    bench.breaks();
    bench.now = bench.now.max(bench.t0 + secs(4));
    let hello = bench.connect();
    let held = |token: &str| hello.held.iter().find(|held| held.lease_token == token).expect("held").running_for;
    assert!(held("t1").is_some_and(|span| from_duration(&span) >= secs(3)));
    assert_eq!(held("t2"), None);
}

#[test]
fn welcome_drops_what_is_lost_or_settled() {
    let mut bench = Bench::active(9, 0);
    bench.deliver(&["t1", "t2", "t3"]);
    bench.finish("t1");
    bench.finish("t2");
    bench.breaks();
    bench.connect();
    bench.welcome(pb::Welcome { settled: vec!["t1".into()], lost: vec!["t3".into()], ..Default::default() });
    assert_eq!(bench.outcomes(), [("t2".into(), "succeeded")]);
    assert_eq!(bench.cancelled(), [CancelReason::LeaseLost]);
    bench.finish("t3");
    bench.pass(millis(2));
    assert!(bench.outcomes().is_empty(), "the outcome of a lost lease is dropped");
}

#[test]
fn directives_quiet_run_and_terminate() {
    let mut bench = Bench::active(1, 0);
    let directive = |kind: pb::DirectiveKind, grace: Option<Duration>| pb::StreamJobsResponse {
        directive: Some(pb::Directive { kind: kind as i32, grace: grace.map(to_duration), reason: String::new() }),
        ..Default::default()
    };
    bench.receive(directive(pb::DirectiveKind::Quiet, None));
    assert_eq!(bench.frames[0].state, pb::WorkerState::Quiet as i32);
    bench.receive(directive(pb::DirectiveKind::Run, None));
    assert_eq!(bench.frames[0].state, pb::WorkerState::Active as i32);
    assert!(bench.frames[0].capacity.is_some());
    bench.deliver(&["t1"]);
    bench.receive(directive(pb::DirectiveKind::Terminate, Some(secs(1))));
    assert_eq!(bench.frames[0].state, pb::WorkerState::Draining as i32);
    bench.pass(secs(1));
    assert_eq!(bench.cancelled(), [CancelReason::Shutdown]);
}

#[test]
fn the_state_is_said_again_on_a_new_stream() {
    let mut bench = Bench::active(1, 0);
    bench.deliver(&["t1"]);
    bench.session.drain(None, bench.now);
    bench.poll();
    bench.breaks();
    bench.connect();
    bench.welcome(pb::Welcome::default());
    assert_eq!(bench.frames[0].state, pb::WorkerState::Draining as i32);
}

#[test]
fn go_away_cuts_the_stream_after_the_delay_and_connects_at_once() {
    let mut bench = Bench::active(1, 0);
    bench.deliver(&["t1"]);
    let go_away = pb::GoAway { reconnect_delay: Some(to_duration(millis(700))), ..Default::default() };
    bench.receive(pb::StreamJobsResponse { go_away: Some(go_away), ..Default::default() });
    bench.pass(millis(699));
    assert!(bench.commands.is_empty());
    bench.pass(millis(1));
    assert!(matches!(bench.commands[..], [Command::Disconnect(_), Command::Connect(_)]), "{:?}", bench.commands);
}

#[test]
fn silence_for_two_intervals_and_5_s_drops_the_stream() {
    let mut bench = Bench::active(1, 0);
    bench.pass(millis(24_999));
    assert!(!bench.commands.iter().any(|command| matches!(command, Command::Disconnect(_))));
    bench.pass(millis(1));
    assert!(matches!(bench.commands[0], Command::Disconnect(_)));
}

#[test]
fn reconnects_for_ever_with_full_jitter_up_to_15_s() {
    let mut bench = Bench::new(1, 0);
    let mut longest = Duration::ZERO;
    for round in 0..200 {
        bench.connect();
        let before = bench.now;
        bench.breaks();
        let delay = bench.now - before;
        assert!(delay <= BACKOFF_MAX && (round > 0 || delay <= BACKOFF_FIRST), "{round}: {delay:?}");
        longest = longest.max(delay);
    }
    assert!(longest > secs(10), "{longest:?}");
}

#[test]
fn with_jobs_in_hand_the_next_try_comes_within_a_third_of_the_lease() {
    let mut bench = Bench::active(1, 0);
    bench.deliver(&["t1"]);
    let mut longest = Duration::ZERO;
    for _ in 0..200 {
        let before = bench.now;
        bench.breaks();
        longest = longest.max(bench.now - before);
        bench.connect();
    }
    assert!(longest > secs(5) && longest <= secs(10), "{longest:?}");
}

#[test]
fn a_session_that_moved_is_not_fought_for() {
    let mut bench = Bench::active(1, 0);
    let mut error = RpcError::local(Code::Aborted, "moved");
    error.reason = "SESSION_MOVED".into();
    bench.session.disconnected(Some(Box::new(error)), bench.now);
    bench.pass(secs(4));
    assert!(bench.commands.is_empty());
    assert!(bench.wake.is_some_and(|at| at <= bench.now + secs(2)), "yet it comes back");
}

#[test]
fn stops_loudly_when_refused_and_cancels_what_runs() {
    for code in [Code::FailedPrecondition, Code::InvalidArgument, Code::PermissionDenied] {
        let mut bench = Bench::active(1, 0);
        bench.deliver(&["t1"]);
        bench.session.disconnected(Some(Box::new(RpcError::local(code, "no"))), bench.now);
        bench.poll();
        assert_eq!(bench.exited(), Some(false), "{code:?}");
        assert_eq!(bench.cancelled(), [CancelReason::Shutdown]);
    }
    let mut bench = Bench::active(1, 0);
    bench.session.disconnected(Some(Box::new(RpcError::local(Code::Unauthenticated, "expired"))), bench.now);
    bench.poll();
    assert_eq!(bench.exited(), None, "new credentials may come");
}

#[test]
fn odd_tokens_and_values_do_no_harm() {
    let mut bench = Bench::active(1, 0);
    bench.receive(pb::StreamJobsResponse {
        acked_seq: 99,
        rejections: vec![pb::OutcomeRejection { lease_token: "?".into(), reason: 77, message: String::new() }],
        cancels: vec![pb::CancelOrder { lease_token: "?".into(), reason: 77, ..Default::default() }],
        recalls: vec!["?".into()],
        heartbeat_ack: Some(pb::HeartbeatAck { lost: vec!["?".into()], heartbeat_seq: 77, server_time: None }),
        directive: Some(pb::Directive { kind: 77, ..Default::default() }),
        ..Default::default()
    });
    assert!(bench.commands.is_empty() && bench.frames.is_empty());
}
