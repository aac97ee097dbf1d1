//! What is reported, when, and what is sent again.

use super::*;

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
