//! What is in hand: which handlers start, and which are told to stop.

use super::*;

#[test]
fn w1_no_more_handlers_than_concurrency_the_rest_waits_its_turn() {
    let mut bench = Bench::active(2, 2);
    bench.deliver(&["t1", "t2", "t3", "t4"]);
    assert_eq!(bench.started(), ["t1", "t2"]);
    bench.finish("t2");
    assert_eq!(bench.started(), ["t3"]);
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
