//! Damage of each kind, made with plain commands.
use jobwire_server::{
    model::{
        op::{DueKind, Guard, Hold, Put, UniqueKey},
        state::State,
    },
    store::{
        Checked,
        conformance::kit::{QUEUE, finish},
    },
};

use super::harness::{KEY, Rig};

#[tokio::test]
async fn a_store_in_order_has_nothing() {
    let rig = Rig::new().await;
    assert_eq!(rig.check().await, Checked { jobs: 8, ..Checked::default() });
    assert_eq!(rig.mend().await, Checked { jobs: 8, ..Checked::default() });
}

#[tokio::test]
async fn a_ready_job_without_a_hint_is_put_in_line() {
    let mut rig = Rig::new().await;
    let list = format!("q:{}:4", rig.queue().await);
    let hint: Vec<u8> = rig.ask(redis::cmd("LPOP").arg(rig.key(&list))).await;
    assert_eq!(hint[..16], *rig.ready.as_bytes());
    let head = format!("{}4", rig.queue().await);
    rig.raw("HINCRBY", "hd", &[head.as_bytes(), b"1"]).await;
    rig.finds_and_mends(&["not in line"]).await;
    let claimed: Vec<_> = rig.kit.claim(QUEUE, 9).await.into_iter().map(|job| job.meta.id).collect();
    assert_eq!(claimed, [rig.keyed, rig.expiring, rig.ready]);
}

#[tokio::test]
async fn a_second_hint_is_removed() {
    let mut rig = Rig::new().await;
    let list = format!("q:{}:4", rig.queue().await);
    let hints: Vec<Vec<u8>> = rig.ask(redis::cmd("LRANGE").arg(rig.key(&list)).arg(0).arg(0)).await;
    rig.raw("RPUSH", &list, &[&hints[0]]).await;
    rig.finds_and_mends(&["2 times"]).await;
    let claimed: Vec<_> = rig.kit.claim(QUEUE, 9).await.into_iter().map(|job| job.meta.id).collect();
    assert_eq!(claimed, [rig.ready, rig.keyed, rig.expiring]);
}

#[tokio::test]
async fn a_running_job_without_a_lease_gets_one() {
    let rig = Rig::new().await;
    assert_eq!(rig.raw("ZREM", "l", &[rig.running.as_bytes()]).await, 1);
    rig.finds_and_mends(&["RUNNING without a lease"]).await;
    rig.kit.done(rig.running, Guard::Token(rig.secret), finish(State::Succeeded)).await;
}

#[tokio::test]
async fn a_lease_that_was_given_runs_out() {
    let rig = Rig::new().await;
    rig.raw("ZREM", "l", &[rig.running.as_bytes()]).await;
    rig.mend().await;
    rig.kit.advance(600_000);
    assert!(rig.kit.due_jobs().await.contains(&(DueKind::Lease, rig.running)));
}

#[tokio::test]
async fn entries_of_no_job_are_removed() {
    let rig = Rig::new().await;
    let list = format!("s:{}:7", rig.queue().await);
    for key in ["l", "c", "x", "y", &list] {
        rig.raw("ZADD", key, &[b"5", &[9; 16]]).await;
    }
    rig.finds_and_mends(&["leases has", "cancels has", "expiries has", "trims has", "the list DEAD of queue mail has"])
        .await;
}

#[tokio::test]
async fn entries_of_jobs_in_another_state_are_removed() {
    let rig = Rig::new().await;
    let list = format!("s:{}:6", rig.queue().await);
    for key in ["l", "y", &list] {
        rig.raw("ZADD", key, &[b"5", rig.ready.as_bytes()]).await;
    }
    rig.finds_and_mends(&["which is READY", "which is READY", "which is READY"]).await;
}

#[tokio::test]
async fn entries_that_are_missing_are_set() {
    let rig = Rig::new().await;
    let lists: Vec<String> = {
        let queue = rig.queue().await;
        [1, 5, 6].map(|state| format!("s:{queue}:{state}")).into()
    };
    for (key, id) in [
        ("c", rig.stopping),
        ("x", rig.expiring),
        ("y", rig.done),
        (lists[0].as_str(), rig.scheduled),
        (lists[1].as_str(), rig.retrying),
        (lists[2].as_str(), rig.done),
    ] {
        let before = rig.check().await.found.len();
        assert_eq!(rig.raw("ZREM", key, &[id.as_bytes()]).await, 1, "{key}");
        assert_eq!(rig.check().await.found.len(), before + 1, "{key}");
    }
    let mended = rig.mend().await;
    assert_eq!((mended.found.len(), mended.left()), (6, 0), "{mended:#?}");
    assert_eq!(rig.check().await.found, []);
    rig.kit.recount().await;
    rig.kit.advance(7_500);
    assert!(rig.kit.due_jobs().await.contains(&(DueKind::Start, rig.scheduled)));
}

#[tokio::test]
async fn an_entry_at_a_wrong_time_is_set_right() {
    let rig = Rig::new().await;
    rig.raw("ZADD", "x", &[b"5", rig.expiring.as_bytes()]).await;
    rig.finds_and_mends(&["at a wrong time"]).await;
}

#[tokio::test]
async fn counters_are_set_right() {
    let rig = Rig::new().await;
    let queue = rig.queue().await;
    rig.raw("HINCRBY", "n", &[format!("{queue}3").as_bytes(), b"2"]).await;
    rig.raw("HINCRBY", "n", &[format!("{queue}4").as_bytes(), b"-1"]).await;
    rig.finds_and_mends(&["3 jobs of queue mail are READY", "2 jobs of queue mail are RUNNING"]).await;
    assert_eq!(rig.kit.facts(QUEUE).await.count(State::Ready), 3);
}

#[tokio::test]
async fn a_queue_that_would_not_start_again_is_entered() {
    let rig = Rig::new().await;
    let queue = rig.queue().await;
    rig.raw("ZREM", "t", &[queue.as_bytes()]).await;
    rig.finds_and_mends(&["the next start of queue mail"]).await;
    rig.raw("ZADD", "t", &[b"9000000000000", queue.as_bytes()]).await;
    rig.finds_and_mends(&["the next start of queue mail"]).await;
}

#[tokio::test]
async fn names_are_read_from_tasks() {
    let rig = Rig::new().await;
    let names: Vec<(String, String)> = rig.ask(redis::cmd("HGETALL").arg(rig.key("nm"))).await;
    let _: i64 = rig.ask(redis::cmd("DEL").arg(rig.key("nm"))).await;
    rig.finds_and_mends(&["the queue number", "the type number"]).await;
    let mut again: Vec<(String, String)> = rig.ask(redis::cmd("HGETALL").arg(rig.key("nm"))).await;
    let mut names = names;
    names.sort();
    again.sort();
    assert_eq!(again, names);
}

#[tokio::test]
async fn a_key_of_a_job_that_does_not_hold_it_is_freed() {
    let rig = Rig::new().await;
    rig.raw("HSET", "u", &[&[8; 16], rig.ready.as_bytes()]).await;
    rig.raw("HSET", "u", &[&[9; 16], &[9; 16]]).await;
    let found = rig.check().await.found;
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found.iter().all(|found| found.what.contains("does not hold it")));
    assert_eq!(rig.mend().await.left(), 0);
    assert_eq!(rig.check().await.found, []);
}

#[tokio::test]
async fn a_key_that_was_lost_is_kept_again() {
    let mut rig = Rig::new().await;
    rig.raw("HDEL", "u", &[&KEY]).await;
    rig.finds_and_mends(&["its uniqueness key is not kept"]).await;
    let mut rival = rig.kit.job(QUEUE);
    rival.unique = Some(UniqueKey { hash: KEY, hold: Hold::UntilFinished });
    let answers = rig.kit.put(vec![rival]).await;
    assert!(matches!(answers[..], [Put::Held { by, .. }] if by == rig.keyed), "{answers:?}");
}

#[tokio::test]
async fn parts_of_no_job_are_removed() {
    let rig = Rig::new().await;
    let none: &[u8] = &[9; 16];
    for key in ["j", "r", "p", "k", "gn"] {
        rig.raw("HSET", key, &[none, b"1"]).await;
    }
    rig.raw("HSET", "a", &[&[none, &[0, 0, 0, 1]].concat(), b"1"]).await;
    rig.finds_and_mends(&["a body", "an outcome", "a progress", "a checkpoint", "an attempt", "a log"]).await;
}

#[tokio::test]
async fn a_log_of_no_job_is_removed() {
    let rig = Rig::new().await;
    let mut key = rig.key("g:").into_bytes();
    key.extend([9; 16]);
    let _: i64 = rig.ask(redis::cmd("RPUSH").arg(&key).arg("line")).await;
    rig.finds_and_mends(&["a log"]).await;
    assert_eq!(rig.ask::<i64>(redis::cmd("EXISTS").arg(&key)).await, 0);
}

#[tokio::test]
async fn a_job_without_a_body_cannot_be_mended() {
    let rig = Rig::new().await;
    rig.raw("HDEL", "j", &[rig.ready.as_bytes()]).await;
    let mended = rig.mend().await;
    assert_eq!((mended.found.len(), mended.left()), (1, 1), "{mended:#?}");
    assert!(mended.found[0].what.contains("has no body"), "{mended:#?}");
}

#[tokio::test]
async fn what_is_stuck_in_the_outbox_is_carried() {
    let mut rig = Rig::new().await;
    let job = rig.kit.job(QUEUE);
    let entry = postcard::to_stdvec(&job).expect("plain data always encodes");
    rig.ask::<String>(redis::cmd("XADD").arg(rig.key("ob")).arg("1-1").arg("e").arg(entry)).await;
    let found = rig.check().await.found;
    assert!(found.len() == 1 && found[0].what.contains("1 jobs that outcomes enqueued"), "{found:#?}");
    assert_eq!(rig.mend().await.left(), 0);
    assert_eq!(rig.check().await, Checked { jobs: 9, ..Checked::default() });
    assert_eq!(rig.kit.state(job.id).await, State::Ready);
}
