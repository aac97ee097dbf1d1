//! The rules W1 to W8 as the worker sees them, driven with a clock of our own.

use super::*;
use crate::{millis, secs};

struct Bench {
    session: Session,
    t0: Instant,
    now: Instant,
    server_seq: i64,
    frames: Vec<pb::StreamJobsRequest>,
    starts: Vec<Start>,
    commands: Vec<Command>,
    wake: Option<Instant>,
}

impl Bench {
    fn new(concurrency: usize, prefetch: usize) -> Self {
        let config = Config {
            session_id: "s".into(),
            worker_id: "w".into(),
            types: vec!["t".into()],
            subscriptions: Vec::new(),
            concurrency,
            prefetch: Some(prefetch),
            grace: secs(25),
            lease_ttl: None,
            info: pb::WorkerInfo::default(),
        };
        let t0 = Instant::now();
        let session = Session::new(config, 7, t0);
        Self { session, t0, now: t0, server_seq: 0, frames: vec![], starts: vec![], commands: vec![], wake: None }
    }

    /// Connected and welcomed.
    fn active(concurrency: usize, prefetch: usize) -> Self {
        let mut bench = Self::new(concurrency, prefetch);
        bench.connect();
        bench.welcome(pb::Welcome::default());
        bench
    }

    fn poll(&mut self) {
        let mut output = Output::default();
        self.session.poll(self.now, &mut output);
        self.frames = output.frames;
        self.starts = output.starts;
        self.commands = output.commands;
        self.wake = output.wake;
    }

    fn connect(&mut self) -> pb::Hello {
        self.poll();
        self.server_seq = 0;
        let hello = self.commands.iter().find_map(|command| match command {
            Command::Connect(frame) => frame.hello.clone(),
            _ => None,
        });
        hello.expect("a Connect")
    }

    fn welcome(&mut self, welcome: pb::Welcome) {
        self.receive(pb::StreamJobsResponse { welcome: Some(welcome), ..Default::default() });
    }

    fn receive(&mut self, mut frame: pb::StreamJobsResponse) {
        self.server_seq += 1;
        frame.seq = self.server_seq;
        self.session.received(frame, self.now);
        self.poll();
    }

    fn deliver(&mut self, tokens: &[&str]) {
        let jobs = tokens.iter().map(|token| job(token)).collect();
        self.receive(pb::StreamJobsResponse { jobs, ..Default::default() });
    }

    fn ack(&mut self, acked_seq: i64) {
        self.receive(pb::StreamJobsResponse { acked_seq, ..Default::default() });
    }

    fn finish(&mut self, token: &str) {
        let result = Some(pb::outcome::Result::Succeeded(pb::Succeeded::default()));
        let outcome = pb::Outcome { result, ..Default::default() };
        self.session.finished(token, Some(Box::new(outcome)), millis(5), self.now);
        self.poll();
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        self.poll();
    }

    fn breaks(&mut self) {
        self.session.disconnected(Some(Box::new(RpcError::local(Code::Unavailable, "gone"))), self.now);
        self.poll();
        self.now = self.wake.expect("a reconnect").max(self.now);
    }

    /// Every outcome in the frames of the last poll, as (token, arm).
    fn outcomes(&self) -> Vec<(String, &'static str)> {
        let outcomes = self.frames.iter().flat_map(|frame| &frame.outcomes);
        outcomes.map(|outcome| (outcome.lease_token.clone(), arm(outcome))).collect()
    }

    fn started(&self) -> Vec<&str> {
        self.starts.iter().map(|start| &*start.token).collect()
    }

    fn cancelled(&self) -> Vec<CancelReason> {
        let reason = |command: &Command| match command {
            Command::Cancel(_, reason, _) => Some(*reason),
            _ => None,
        };
        self.commands.iter().filter_map(reason).collect()
    }

    fn exited(&self) -> Option<bool> {
        self.commands.iter().find_map(|command| match command {
            Command::Exit(end) => Some(end.is_ok()),
            _ => None,
        })
    }
}

fn job(token: &str) -> pb::JobLease {
    pb::JobLease { lease_token: token.to_owned(), attempt: 1, delivery: 1, ..Default::default() }
}

fn arm(outcome: &pb::Outcome) -> &'static str {
    match outcome.result.as_ref().expect("an arm") {
        pb::outcome::Result::Succeeded(_) => "succeeded",
        pb::outcome::Result::Failed(_) => "failed",
        pb::outcome::Result::Snoozed(_) => "snoozed",
        pb::outcome::Result::Cancelled(_) => "cancelled",
        pb::outcome::Result::Released(_) => "released",
    }
}

fn named(hello: &pb::Hello) -> Vec<&str> {
    let mut tokens: Vec<_> = hello.held.iter().map(|held| held.lease_token.as_str()).collect();
    tokens.sort_unstable();
    tokens
}

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
fn w1_no_more_handlers_than_concurrency_the_rest_waits_its_turn() {
    let mut bench = Bench::active(2, 2);
    bench.deliver(&["t1", "t2", "t3", "t4"]);
    assert_eq!(bench.started(), ["t1", "t2"]);
    bench.finish("t2");
    assert_eq!(bench.started(), ["t3"]);
}

#[test]
fn receipts_and_started_leave_within_a_second() {
    let mut bench = Bench::active(1, 1);
    bench.deliver(&["t1", "t2"]);
    assert!(bench.frames.is_empty());
    bench.pass(millis(2));
    assert_eq!(bench.frames.len(), 1);
    assert_eq!(bench.frames[0].started, ["t1"]);
    assert_eq!((bench.frames[0].seq, bench.frames[0].received_seq), (2, 2));
    bench.receive(pb::StreamJobsResponse::default());
    let full = Bench::active(0, 1);
    let mut idle = full;
    idle.deliver(&["t1"]);
    assert!(idle.wake.expect("a receipt") <= idle.now + secs(1));
    idle.pass(millis(900));
    assert_eq!(idle.frames[0].received_seq, 2);
}

#[test]
fn one_that_ends_before_the_flush_needs_no_started() {
    let mut bench = Bench::active(2, 0);
    bench.deliver(&["t1"]);
    bench.finish("t1");
    assert_eq!(bench.outcomes(), [("t1".into(), "succeeded")]);
    assert!(bench.frames[0].started.is_empty());
}

#[test]
fn flush_at_once_with_nothing_in_flight_else_after_2_ms_or_128() {
    let mut bench = Bench::active(300, 0);
    let tokens: Vec<String> = (0..300).map(|n| format!("t{n}")).collect();
    bench.deliver(&tokens.iter().map(String::as_str).collect::<Vec<_>>());
    bench.finish("t0");
    assert_eq!(bench.outcomes().len(), 1, "nothing was in flight");
    bench.finish("t1");
    assert!(bench.outcomes().is_empty(), "t0 is in flight");
    assert_eq!(bench.session.patience(), 127);
    bench.pass(millis(2));
    assert_eq!(bench.outcomes().len(), 1, "2 ms are over");
    for n in 2..129 {
        bench.finish(&format!("t{n}"));
        assert!(bench.outcomes().is_empty(), "t{n}");
    }
    bench.finish("t129");
    assert_eq!(bench.outcomes().len(), 128);
    bench.finish("t130");
    assert!(bench.outcomes().is_empty());
    let last = bench.session.seq;
    bench.ack(last);
    assert_eq!(bench.outcomes().len(), 1, "the ack leaves nothing in flight");
}

#[test]
fn a_frame_takes_64_kib_of_outcomes_and_a_larger_one_travels_alone() {
    let mut bench = Bench::active(9, 0);
    bench.deliver(&["t1", "t2", "t3"]);
    for (token, size) in [("t1", 60 << 10), ("t2", 200 << 10), ("t3", 10)] {
        let result = crate::Payload::json_text("x".repeat(size)).into_proto();
        let result = Some(pb::outcome::Result::Succeeded(pb::Succeeded { result: Some(result) }));
        let outcome = pb::Outcome { result, ..Default::default() };
        bench.session.finished(token, Some(Box::new(outcome)), millis(1), bench.now);
    }
    bench.poll();
    assert_eq!(bench.frames.iter().map(|frame| frame.outcomes.len()).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn w3_acknowledged_outcomes_are_forgotten_and_w4_the_rest_is_resent() {
    let mut bench = Bench::active(9, 0);
    bench.deliver(&["t1", "t2", "t3"]);
    bench.finish("t1");
    let first = bench.session.seq;
    bench.finish("t2");
    bench.pass(millis(2));
    bench.ack(first);
    bench.breaks();
    let hello = bench.connect();
    assert_eq!(named(&hello), ["t2", "t3"]);
    bench.welcome(pb::Welcome::default());
    assert_eq!(bench.outcomes(), [("t2".into(), "succeeded")]);
    assert_eq!(bench.frames[0].seq, 2, "numbers start afresh");
    let seq = bench.frames[0].seq;
    bench.ack(seq);
    assert!(bench.session.outbox.is_empty());
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
fn w5_w6_heartbeats_name_what_is_in_hand_and_not_what_is_reported() {
    let mut bench = Bench::active(9, 0);
    bench.deliver(&["t1", "t2"]);
    bench.finish("t1");
    bench.pass(secs(5));
    let early = bench.frames.iter().find_map(|frame| frame.heartbeat.clone()).expect("half of delivery_ttl has passed");
    assert_eq!((early.held, early.running), (vec!["t2".to_owned()], 1));
    bench.receive(pb::StreamJobsResponse::default());
    bench.pass(secs(4));
    assert!(bench.frames.is_empty(), "t2 has been named");
    bench.pass(secs(6));
    assert!(bench.frames.iter().any(|frame| frame.heartbeat.is_some()), "an interval has passed");
}

#[test]
fn an_outcome_goes_ahead_of_the_inventory_that_no_longer_names_it() {
    let mut bench = Bench::active(9, 0);
    bench.deliver(&["t1", "t2"]);
    bench.now += secs(10);
    bench.receive(pb::StreamJobsResponse::default());
    bench.finish("t0");
    bench.now += secs(10);
    bench.session.finished("t1", Some(Box::new(outcome_of(released("x")))), millis(1), bench.now);
    bench.poll();
    let [first, second] = &bench.frames[..] else { panic!("{:?}", bench.frames) };
    assert_eq!(first.outcomes.len(), 1);
    assert_eq!(second.heartbeat.as_ref().expect("a heartbeat").held, ["t2"]);
}

fn outcome_of(result: pb::outcome::Result) -> pb::Outcome {
    pb::Outcome { result: Some(result), ..Default::default() }
}

#[test]
fn a_lost_lease_is_named_until_its_handler_has_stopped() {
    let mut bench = Bench::active(1, 0);
    bench.deliver(&["t1"]);
    let ack = pb::HeartbeatAck { lost: vec!["t1".into()], ..Default::default() };
    bench.receive(pb::StreamJobsResponse { heartbeat_ack: Some(ack), ..Default::default() });
    assert_eq!(bench.cancelled(), [CancelReason::LeaseLost]);
    let control = bench.session.leases["t1"].control.clone();
    control.cancel(CancelReason::LeaseLost, String::new());
    assert_eq!(control.reason(), Some(CancelReason::LeaseLost));
    bench.pass(secs(10));
    let beat = bench.frames.iter().find_map(|frame| frame.heartbeat.clone()).expect("a heartbeat");
    assert_eq!(beat.held, ["t1"]);
    bench.receive(pb::StreamJobsResponse::default());
    bench.finish("t1");
    bench.pass(secs(10));
    let beat = bench.frames.iter().find_map(|frame| frame.heartbeat.clone()).expect("a heartbeat");
    assert!(beat.held.is_empty());
    assert!(bench.outcomes().is_empty());
}

#[test]
fn w7_cancels_reach_running_handlers_and_answer_for_waiting_ones() {
    let mut bench = Bench::active(1, 1);
    bench.deliver(&["t1", "t2"]);
    let order = |token: &str, reason: pb::CancelReason| pb::CancelOrder {
        lease_token: token.into(),
        reason: reason as i32,
        ..Default::default()
    };
    let cancels = vec![order("t1", pb::CancelReason::Workflow), order("t2", pb::CancelReason::Requested)];
    bench.receive(pb::StreamJobsResponse { cancels: cancels.clone(), ..Default::default() });
    assert_eq!(bench.cancelled(), [CancelReason::Workflow]);
    assert_eq!(bench.outcomes(), [("t2".into(), "cancelled")]);
    bench.breaks();
    bench.connect();
    bench.welcome(pb::Welcome { cancels, ..Default::default() });
    assert!(bench.cancelled().is_empty(), "told once");
}

#[test]
fn recalls_give_back_what_has_not_started() {
    let mut bench = Bench::active(1, 1);
    bench.deliver(&["t1", "t2"]);
    let recalls = vec!["t1".into(), "t2".into(), "t9".into()];
    bench.receive(pb::StreamJobsResponse { recalls, ..Default::default() });
    assert_eq!(bench.outcomes(), [("t2".into(), "released")]);
    bench.finish("t1");
    assert!(bench.starts.is_empty());
}

#[test]
fn what_somebody_else_may_have_by_now_does_not_start() {
    let mut bench = Bench::active(1, 1);
    bench.deliver(&["t1", "t2"]);
    bench.now += secs(11); // frozen: past the delivery lease
    bench.finish("t1");
    assert!(bench.starts.is_empty());
    let beat = bench.frames.iter().find(|frame| frame.heartbeat.is_some()).expect("it is overdue").seq;
    bench.pass(secs(1));
    let ack = pb::HeartbeatAck { heartbeat_seq: beat, ..Default::default() };
    bench.receive(pb::StreamJobsResponse { heartbeat_ack: Some(ack), ..Default::default() });
    assert_eq!(bench.started(), ["t2"], "the server has renewed it");

    bench.deliver(&["t3"]);
    bench.now += secs(60);
    bench.finish("t2");
    assert!(bench.starts.is_empty());
    bench.breaks();
    assert!(bench.connect().held.iter().any(|held| held.lease_token == "t3"));
    bench.welcome(pb::Welcome::default());
    assert_eq!(bench.started(), ["t3"], "the new stream has renewed it");
}

#[test]
fn a_timeout_cancels_and_is_told_once() {
    let mut bench = Bench::active(2, 0);
    let timeout = |token: &str, span| pb::JobLease { timeout: Some(to_duration(span)), ..job(token) };
    let jobs = vec![timeout("t1", secs(4)), timeout("t2", secs(2))];
    bench.receive(pb::StreamJobsResponse { jobs, ..Default::default() });
    assert_eq!(bench.starts[1].deadline, Some(bench.now + secs(2)));
    bench.pass(millis(1_999));
    assert!(bench.cancelled().is_empty());
    bench.pass(millis(1));
    assert_eq!(bench.cancelled(), [CancelReason::Timeout]);
    bench.pass(secs(2));
    assert_eq!(bench.cancelled(), [CancelReason::Timeout], "now the other one");
}

#[test]
fn refused_outcomes_are_dropped_or_replaced_by_unprocessable_once() {
    let mut bench = Bench::active(3, 0);
    bench.deliver(&["t1", "t2"]);
    bench.finish("t1");
    bench.finish("t2");
    bench.pass(millis(2));
    let reject = |token: &str, reason: pb::RejectionReason| pb::OutcomeRejection {
        lease_token: token.into(),
        reason: reason as i32,
        message: "m".into(),
    };
    let rejections = vec![reject("t1", pb::RejectionReason::Superseded), reject("t2", pb::RejectionReason::Invalid)];
    let acked_seq = bench.session.seq;
    bench.receive(pb::StreamJobsResponse { rejections, acked_seq, ..Default::default() });
    assert_eq!(bench.outcomes(), [("t2".into(), "failed")]);
    assert_eq!(bench.commands.iter().filter(|command| matches!(command, Command::Warn(_))).count(), 2);
    let again = vec![reject("t2", pb::RejectionReason::Unsupported)];
    bench.receive(pb::StreamJobsResponse { rejections: again, ..Default::default() });
    assert!(bench.outcomes().is_empty() && bench.session.outbox.is_empty());
}

#[test]
fn a_result_beyond_the_limit_is_unprocessable() {
    let mut bench = Bench::active(1, 0);
    bench.session.limits.max_result_bytes = 10;
    bench.deliver(&["t1"]);
    let result = crate::Payload::json_text("x".repeat(11)).into_proto();
    let result = pb::outcome::Result::Succeeded(pb::Succeeded { result: Some(result) });
    bench.session.finished("t1", Some(Box::new(outcome_of(result))), millis(1), bench.now);
    bench.poll();
    let Some(pb::outcome::Result::Failed(failed)) = &bench.frames[0].outcomes[0].result else { panic!() };
    let failure = failed.failure.as_ref().expect("a failure");
    assert_eq!(failure.kind, pb::FailureKind::Unprocessable as i32);
    assert_eq!(failure.message, "the result has 11 bytes, the limit is 10");
}

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
fn progress_and_logs_go_ahead_of_the_outcome() {
    let mut bench = Bench::active(1, 0);
    bench.deliver(&["t1"]);
    let line = pb::LogLine { message: "one".into(), ..Default::default() };
    let progress = Some(pb::Progress { percent: Some(50.0), ..Default::default() });
    let news = News { progress, lines: VecDeque::from([line]), ..Default::default() };
    bench.session.reported(&Token::from("t1"), news, bench.now);
    bench.finish("t1");
    let [reports, outcome] = &bench.frames[..] else { panic!("{:?}", bench.frames) };
    assert_eq!((reports.progress.len(), reports.logs.len(), reports.outcomes.len()), (1, 1, 0));
    assert_eq!(outcome.outcomes.len(), 1);
    assert!(reports.seq + 1 == outcome.seq);
}

#[test]
fn prefetch_adapts_to_slow_handlers() {
    let mut bench = Bench::active(4, 0);
    bench.session.config.prefetch = None;
    bench.session.prefetch = bench.session.wanted_prefetch();
    assert_eq!(bench.session.prefetch, 4);
    bench.deliver(&["t1"]);
    bench.session.finished("t1", None, secs(20), bench.now);
    bench.receive(pb::StreamJobsResponse::default());
    bench.pass(secs(10));
    let capacity = bench.frames.iter().find_map(|frame| frame.capacity).expect("a new window");
    assert_eq!(capacity.slots, 4);
}

#[test]
fn too_many_unacknowledged_outcomes_hold_back_handlers() {
    let mut bench = Bench::active(20_000, 0);
    let tokens: Vec<String> = (0..10_001).map(|n| format!("t{n}")).collect();
    bench.deliver(&tokens[..10_000].iter().map(String::as_str).collect::<Vec<_>>());
    for token in &tokens[..10_000] {
        bench.session.finished(token, Some(Box::new(outcome_of(released("x")))), millis(1), bench.now);
    }
    bench.poll();
    bench.deliver(&["t10000"]);
    assert!(bench.starts.is_empty());
    let seq = bench.session.seq;
    bench.ack(seq);
    assert_eq!(bench.started(), ["t10000"]);
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
