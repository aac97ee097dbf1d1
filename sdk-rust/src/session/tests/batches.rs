//! Batches: which jobs come together, when they start, and what befalls one of them.

use super::*;

fn rule(max_size: usize, linger: Duration) -> BatchRule {
    BatchRule { max_size, linger, by_key: false }
}

fn bench(concurrency: usize, rule: BatchRule) -> Bench {
    let mut bench = Bench::with(concurrency, 20, HashMap::from([("batch".to_owned(), rule)]));
    bench.connect();
    bench.welcome(pb::Welcome::default());
    bench
}

fn lease(token: &str, key: &str) -> pb::JobLease {
    let task = pb::Task { r#type: "batch".into(), fairness_key: key.into(), ..Default::default() };
    pb::JobLease { task: task.encode_to_vec().into(), ..job(token) }
}

impl Bench {
    fn send(&mut self, jobs: Vec<pb::JobLease>) {
        self.receive(pb::StreamJobsResponse { jobs, ..Default::default() });
    }

    fn gather(&mut self, tokens: &[&str]) {
        self.send(tokens.iter().map(|token| lease(token, "")).collect());
    }

    /// Batches started by the last poll.
    fn batched(&self) -> Vec<Vec<&str>> {
        self.batches.iter().map(|batch| batch.iter().map(|start| &*start.token).collect()).collect()
    }
}

#[test]
fn a_batch_starts_when_it_is_full_or_has_lingered() {
    let mut bench = bench(9, rule(3, millis(100)));
    bench.gather(&["a", "b"]);
    assert!(bench.batches.is_empty());
    assert_eq!(bench.wake, Some(bench.now + millis(100)));
    bench.pass(millis(60));
    bench.gather(&["c", "d"]);
    assert_eq!(bench.batched(), [["a", "b", "c"]]);
    assert_eq!(bench.session.running(), 1, "one handler");
    bench.pass(millis(99));
    assert!(bench.batches.is_empty(), "counted from its own first job");
    bench.pass(millis(1));
    assert_eq!(bench.batched(), [["d"]]);
    assert_eq!(bench.frames.iter().flat_map(|frame| &frame.started).count(), 0);
    bench.pass(millis(2));
    assert!(bench.frames.iter().any(|frame| frame.started.contains(&"d".to_owned())));
}

#[test]
fn a_batch_is_one_handler_and_grows_while_all_are_busy() {
    let mut bench = bench(1, rule(3, Duration::ZERO));
    bench.gather(&["a", "b"]);
    assert_eq!(bench.batched(), [["a", "b"]]);
    bench.gather(&["c"]);
    bench.deliver(&["single"]);
    bench.gather(&["d"]);
    bench.finish("a");
    assert!(bench.batches.is_empty() && bench.starts.is_empty(), "b runs");
    bench.finish("b");
    assert_eq!(bench.batched(), [["c", "d"]], "c came before the single one");
    bench.finish("c");
    bench.finish("d");
    assert_eq!(bench.started(), ["single"]);
    assert_eq!(bench.session.running(), 1);
}

#[test]
fn only_jobs_of_one_key_come_together_if_asked() {
    let mut bench = bench(9, BatchRule { by_key: true, ..rule(2, millis(100)) });
    bench.send(vec![lease("a1", "a"), lease("b1", "b"), lease("a2", "a")]);
    assert_eq!(bench.batched(), [["a1", "a2"]]);
    bench.pass(millis(100));
    assert_eq!(bench.batched(), [["b1"]]);
}

#[test]
fn a_job_that_was_there_when_a_worker_vanished_runs_alone_and_at_once() {
    let mut bench = bench(9, rule(3, millis(100)));
    let crashed = |token| pb::JobLease { crashes: 1, ..lease(token, "") };
    bench.send(vec![lease("a", ""), crashed("x"), crashed("y"), lease("b", "")]);
    assert_eq!(bench.batched(), [["x"], ["y"]]);
    bench.gather(&["c"]);
    assert_eq!(bench.batched(), [["a", "b", "c"]]);
}

#[test]
fn the_shortest_timeout_is_that_of_all() {
    let mut bench = bench(9, rule(2, millis(100)));
    let timeout = |token, span| pb::JobLease { timeout: Some(to_duration(span)), ..lease(token, "") };
    bench.send(vec![timeout("a", secs(9)), timeout("b", secs(2))]);
    assert!(bench.batches[0].iter().all(|start| start.deadline == Some(bench.now + secs(2))));
    bench.pass(secs(2));
    assert_eq!(bench.cancelled(), [CancelReason::Timeout; 2]);
}

#[test]
fn a_cancelled_member_is_marked_and_a_lost_one_is_dropped() {
    let mut bench = bench(9, rule(3, Duration::ZERO));
    bench.gather(&["a", "b", "c"]);
    let order = pb::CancelOrder { lease_token: "a".into(), ..Default::default() };
    bench.receive(pb::StreamJobsResponse { cancels: vec![order], ..Default::default() });
    assert_eq!(bench.cancelled(), [CancelReason::Requested], "the others go on");
    let ack = pb::HeartbeatAck { lost: vec!["b".into()], ..Default::default() };
    bench.receive(pb::StreamJobsResponse { heartbeat_ack: Some(ack), ..Default::default() });
    for token in ["a", "b", "c"] {
        bench.session.finished(token, Some(Box::new(outcome_of(released("x")))), millis(1), bench.now);
    }
    assert_eq!(bench.session.running(), 0);
    bench.pass(millis(2));
    assert_eq!(bench.outcomes(), [("a".into(), "released"), ("c".into(), "released")]);
}

#[test]
fn while_they_linger_jobs_may_be_recalled_cancelled_or_lost() {
    let mut bench = bench(9, rule(3, millis(100)));
    bench.gather(&["a", "b"]);
    let order = pb::CancelOrder { lease_token: "b".into(), ..Default::default() };
    let recalls = vec!["a".to_owned()];
    bench.receive(pb::StreamJobsResponse { cancels: vec![order], recalls, ..Default::default() });
    assert_eq!(bench.outcomes(), [("b".into(), "cancelled"), ("a".into(), "released")]);
    bench.gather(&["c", "d"]);
    assert!(bench.batches.is_empty(), "two of three");
    let ack = pb::HeartbeatAck { lost: vec!["c".into()], ..Default::default() };
    bench.receive(pb::StreamJobsResponse { heartbeat_ack: Some(ack), ..Default::default() });
    bench.gather(&["e", "f"]);
    assert_eq!(bench.batched(), [["d", "e", "f"]]);
}

#[test]
fn a_drain_gives_back_what_lingers_and_lets_a_batch_finish() {
    let mut bench = bench(9, rule(2, secs(10)));
    bench.gather(&["a", "b", "c"]);
    bench.session.drain(None, bench.now);
    bench.poll();
    assert_eq!(bench.outcomes(), [("c".into(), "released")]);
    bench.gather(&["d"]);
    bench.pass(millis(2));
    assert_eq!(bench.outcomes(), [("d".into(), "released")], "it crossed on the wire");
    bench.session.drain(None, bench.now);
    bench.poll();
    bench.pass(millis(2));
    assert_eq!(bench.session.running(), 0, "given up as a whole");
}

#[test]
fn what_somebody_else_may_have_by_now_starts_no_batch() {
    let mut bench = bench(9, rule(2, secs(1)));
    bench.gather(&["a"]);
    bench.now += secs(11); // frozen: past the delivery lease
    bench.gather(&["b"]);
    assert!(bench.batches.is_empty());
    let beat = bench.frames.iter().find(|frame| frame.heartbeat.is_some()).expect("it is overdue").seq;
    let ack = pb::HeartbeatAck { heartbeat_seq: beat, ..Default::default() };
    bench.receive(pb::StreamJobsResponse { heartbeat_ack: Some(ack), ..Default::default() });
    assert_eq!(bench.batched(), [["a", "b"]]);
}

#[test]
fn slots_are_as_many_as_the_largest_batch_needs() {
    let mut session = Bench::with(2, 0, HashMap::from([("batch".to_owned(), rule(50, secs(1)))])).session;
    session.config.prefetch = None;
    assert_eq!(session.config.concurrency + session.wanted_prefetch(), 100, "one runs, one gathers");
    session.mean_run = Some(secs(20));
    assert_eq!(session.config.concurrency + session.wanted_prefetch(), 50);
}
