//! Recording jobs.
//!
//! I2: a repeat has one effect.
use super::kit::{Kit, body, name};
use crate::model::{
    job::{Body, Parts, Start},
    op::Put,
    state::State,
};

pub async fn ready_or_scheduled_by_the_start(kit: &mut Kit) {
    let now = kit.wall_ms();
    let cases = [
        (Start::Now, State::Ready, now),
        (Start::At(now + 5_000), State::Scheduled, now + 5_000),
        (Start::In(7_000), State::Scheduled, now + 7_000),
        (Start::At(now), State::Ready, now),
        (Start::At(now - 5_000), State::Ready, now),
        (Start::In(0), State::Ready, now),
        (Start::In(-9), State::Ready, now),
    ];
    for (start, state, ready_ms) in cases {
        let mut job = kit.job("mail");
        job.start = start;
        job.priority = -3;
        job.create_ms = now - 1;
        job.content = 42;
        job.expire_ms = now + 99_000;
        let id = job.id;
        assert_eq!(kit.put(vec![job]).await, [Put::Created { state, ready_ms }], "{start:?}");
        let meta = kit.meta(id).await;
        assert_eq!((meta.id, meta.state, meta.ready_ms), (id, state, ready_ms), "{start:?}");
        assert_eq!((meta.queue, meta.kind), (name("mail"), name("send")));
        assert_eq!((meta.priority, meta.create_ms, meta.content, meta.expire_ms), (-3, now - 1, 42, now + 99_000));
        assert_eq!((meta.failures, meta.crashes, meta.delivery, meta.started), (0, 0, 0, false));
        assert_eq!((meta.start_ms, meta.finish_ms, meta.purge_ms, meta.cancel), (0, 0, 0, None));
    }
}

pub async fn a_repeat_changes_nothing(kit: &mut Kit) {
    let first = kit.job("mail");
    let id = first.id;
    kit.put(vec![first.clone()]).await;
    let before = kit.record(id).await;
    kit.advance(1_000);

    let mut other = first.clone();
    other.content += 1;
    other.queue = name("elsewhere");
    other.body = body("another task");
    let (state, ready_ms) = (State::Ready, before.meta.ready_ms);
    let answers = kit.put(vec![first.clone(), other.clone(), first.clone()]).await;
    assert_eq!(
        answers,
        [
            Put::Exists { state, ready_ms, same: true },
            Put::Exists { state, ready_ms, same: false },
            Put::Exists { state, ready_ms, same: true },
        ]
    );
    let after = kit.record(id).await;
    assert_eq!((after.meta, after.body), (before.meta, before.body));
    assert_eq!(kit.facts("mail").await.count(State::Ready), 1);

    let secret = kit.lease("mail", id).await.secret;
    kit.done(id, crate::model::op::Guard::Token(secret), super::kit::finish(State::Succeeded)).await;
    let answers = kit.put(vec![first]).await;
    assert!(matches!(answers[..], [Put::Exists { state: State::Succeeded, same: true, .. }]), "{answers:?}");
    assert!(kit.claim("mail", 1).await.is_empty(), "an ended job is not run again by a repeat");

    // Twice within one call.
    let twin = kit.job("mail");
    let answers = kit.put(vec![twin.clone(), twin]).await;
    assert!(matches!(answers[..], [Put::Created { .. }, Put::Exists { same: true, .. }]), "{answers:?}");
}

pub async fn a_large_batch_is_answered_in_order(kit: &mut Kit) {
    let mut jobs = kit.jobs("mail", 1_000);
    for (i, job) in jobs.iter_mut().enumerate() {
        job.body = body(&format!("task {i}"));
        if i % 3 == 0 {
            job.start = Start::In(1_000 + i as i64);
        }
    }
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    let now = kit.wall_ms();
    for (i, put) in kit.put(jobs).await.into_iter().enumerate() {
        let expected = match i % 3 {
            0 => Put::Created { state: State::Scheduled, ready_ms: now + 1_000 + i as i64 },
            _ => Put::Created { state: State::Ready, ready_ms: now },
        };
        assert_eq!(put, expected, "job {i}");
    }
    let records = kit.store().get(&ids, Parts::BODY).await.expect("the store reads");
    for (i, record) in records.into_iter().enumerate() {
        let record = record.expect("every job is there");
        assert_eq!(record.meta.id, ids[i]);
        assert_eq!(record.body.map(|Body { task, .. }| task), Some(format!("task {i}").into()));
    }
}
