//! Damage to what keeps jobs apart by fairness key.
use jobwire_server::{
    model::{op::NewJob, state::State},
    store::conformance::kit::{QUEUE, finish},
};

use super::harness::Rig;

/// A fairness key whose hash can be read.
const KEY: &str = "AAAAAAAA";

/// Two jobs of one key in the queue of the rig, and where hints and strands are.
async fn divided() -> (Rig, String, String) {
    let mut rig = Rig::new().await;
    let fair = u64::from_be_bytes(*b"AAAAAAAA");
    let jobs: Vec<NewJob> = (0..2).map(|_| NewJob { fair, ..rig.kit.job(QUEUE) }).collect();
    rig.kit.put(jobs).await;
    let queue = rig.queue().await;
    assert_eq!(rig.check().await.found, []);
    (rig, format!("q:{queue}:4{KEY}"), queue)
}

#[tokio::test]
async fn a_keyed_job_without_a_hint_is_put_in_line() {
    let (mut rig, list, _) = divided().await;
    let _: Vec<u8> = rig.ask(redis::cmd("LPOP").arg(rig.key(&list))).await;
    rig.finds_and_mends(&["not in line"]).await;
    assert_eq!(rig.kit.claim(QUEUE, 9).await.len(), 5);
}

#[tokio::test]
async fn a_second_hint_of_a_keyed_job_is_removed() {
    let (mut rig, list, _) = divided().await;
    let hints: Vec<Vec<u8>> = rig.ask(redis::cmd("LRANGE").arg(rig.key(&list)).arg(0).arg(0)).await;
    rig.raw("RPUSH", &list, &[&hints[0]]).await;
    rig.finds_and_mends(&["2 times"]).await;
    assert_eq!(rig.kit.claim(QUEUE, 9).await.len(), 5);
}

#[tokio::test]
async fn a_key_that_was_forgotten_gets_its_turns_again() {
    let (mut rig, _, queue) = divided().await;
    rig.raw("HDEL", &format!("k:{queue}"), &[KEY.as_bytes()]).await;
    rig.finds_and_mends(&["2 jobs are READY and 0 RUNNING with fairness key 4141414141414141"]).await;
    let claimed = rig.kit.claim(QUEUE, 9).await;
    assert_eq!(claimed.len(), 5);
    for job in claimed {
        rig.kit.done(job.meta.id, jobwire_server::model::op::Guard::Token(job.secret), finish(State::Succeeded)).await;
    }
    rig.kit.recount().await;
}

#[tokio::test]
async fn a_ring_that_was_lost_is_made_anew() {
    let (mut rig, _, queue) = divided().await;
    rig.raw("DEL", &format!("kr:{queue}"), &[]).await;
    rig.finds_and_mends(&["jobs without a fairness key of queue mail", "is out of turn"]).await;
    assert_eq!(rig.kit.claim(QUEUE, 9).await.len(), 5);
}

#[tokio::test]
async fn places_of_jobs_that_are_not_ready_are_removed() {
    let (rig, _, queue) = divided().await;
    rig.raw("ZADD", &format!("kz:{queue}:4"), &[b"5", rig.running.as_bytes()]).await;
    rig.finds_and_mends(&["which is RUNNING"]).await;
}
