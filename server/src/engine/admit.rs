//! PURE. From what a producer asks for to what the store records: defaults, times, the hash that tells a repeat from a
//! conflict.
use xxhash_rust::xxh3::Xxh3;

use crate::model::{
    ids::{JobId, TypeName},
    job::{Body, Expiry, JobSpec, Payload, Start, Task, TaskCodec},
    op::{FairKey, KeyHash, NewJob, UniqueKey, fair_key},
    policy::{Defaults, Policy},
};

/// Keys of a job as the store knows them: hashes, apart by queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keys {
    fair: FairKey,
    /// Of the fairness key: jobs that have the same one stand in the same place.
    place: Option<KeyHash>,
    unique: Option<UniqueKey>,
    idempotency: Option<(KeyHash, i64)>,
}

impl Keys {
    /// The one that places the job.
    pub fn first(&self) -> Option<KeyHash> {
        self.place.or(self.unique.map(|unique| unique.hash)).or(self.idempotency.map(|(hash, _)| hash))
    }
}

/// The keys of `spec`. A uniqueness key that is empty is a hash of type and payload. Those of jobs with a fairness key are
/// apart from all others.
pub fn keys(spec: &JobSpec) -> Keys {
    let hash = |what: u8, key: &[u8]| {
        let mut hash = Xxh3::new();
        hash.update(&[what]);
        hash.update(spec.queue().as_str().as_bytes());
        hash.update(&[0]);
        if !spec.fairness_key.is_empty() {
            hash.update(&(spec.fairness_key.len() as u64).to_le_bytes());
            hash.update(spec.fairness_key.as_bytes());
        }
        hash.update(key);
        hash.digest128().to_be_bytes()
    };
    let unique = spec.unique.as_ref().map(|unique| UniqueKey {
        hash: match unique.key.as_str() {
            "" => hash(2, &content(&spec.kind, spec.payload.as_ref()).to_be_bytes()),
            key => hash(1, key.as_bytes()),
        },
        hold: unique.hold,
    });
    let idempotency = spec.idempotency.as_ref().map(|(key, keep_ms)| (hash(3, key.as_bytes()), *keep_ms));
    let fair = fair_key(&spec.fairness_key);
    Keys { fair, place: (fair != 0).then(|| hash(4, &[])), unique, idempotency }
}

/// The record that `spec` becomes under `id`, at `now_ms` on the wall clock. What it does not say its queue says.
pub fn admit(spec: JobSpec, defaults: &Defaults, keys: Keys, id: JobId, now_ms: i64, codec: &dyn TaskCodec) -> NewJob {
    let expiry = spec.expiry.or(defaults.ttl_ms.map(Expiry::AfterStart));
    let defaults = defaults.policy();
    let policy = Policy {
        retry: spec.retry.over(defaults.retry),
        timeout_ms: spec.timeout_ms.unwrap_or(defaults.timeout_ms),
        retention_ms: spec.retention_ms.unwrap_or(defaults.retention_ms),
        dead_retention_ms: spec.dead_retention_ms.unwrap_or(defaults.dead_retention_ms),
        heartbeat_ms: spec.heartbeat_ms,
    };
    let start_ms = starts_at(spec.start, now_ms);
    let expire_ms = match expiry {
        None => 0,
        Some(Expiry::At(ms)) => ms,
        Some(Expiry::AfterStart(ms)) => start_ms.saturating_add(ms),
    };
    let content = content(&spec.kind, spec.payload.as_ref());
    let blocked = !spec.depends_on.is_empty();
    let queue = spec.queue.unwrap_or_else(|| spec.kind.clone());
    let task = Task {
        kind: spec.kind.clone(),
        queue: queue.clone(),
        payload: spec.payload,
        headers: spec.headers,
        tags: spec.tags,
        parent: spec.parent,
        fairness_key: spec.fairness_key,
        tick: spec.tick,
        depends_on: spec.depends_on,
        member: spec.member,
    };
    NewJob {
        id,
        kind: spec.kind,
        queue,
        priority: spec.priority,
        start: spec.start,
        expire_ms,
        deadline_ms: spec.total_ms.map_or(0, |ms| now_ms.saturating_add(ms)),
        create_ms: now_ms,
        content,
        unique: keys.unique,
        idempotency: keys.idempotency,
        fair: keys.fair,
        overshoots: false,
        blocked,
        owner: None,
        body: Body { policy, task: codec.encode(task) }.encode(),
    }
}

/// When a job with this start becomes runnable; a start in the past is now.
pub fn starts_at(start: Start, now_ms: i64) -> i64 {
    match start {
        Start::Now => now_ms,
        Start::At(ms) => ms.max(now_ms),
        Start::In(ms) => now_ms.saturating_add(ms.max(0)),
    }
}

/// Hash of type and payload. A body with a `content_encoding` is left out: encrypting or compressing twice gives other
/// bytes for the same content.
pub fn content(kind: &TypeName, payload: Option<&Payload>) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(kind.as_str().as_bytes());
    hash.update(&[0]);
    if let Some(payload) = payload {
        hash.update(payload.content_encoding.as_bytes());
        if payload.content_encoding.is_empty() {
            hash.update(&payload.bytes);
        }
    }
    hash.digest()
}

/// The id of the `index`-th job that an outcome of `job` enqueues, when it proposes none: reporting the outcome again
/// names the same job.
pub fn spawned(job: JobId, delivery: u32, index: usize) -> uuid::Uuid {
    let mut hash = Xxh3::new();
    hash.update(job.as_bytes());
    hash.update(&delivery.to_le_bytes());
    hash.update(&(index as u64).to_le_bytes());
    uuid::Uuid::new_v8(hash.digest128().to_be_bytes())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::job::BodyKind;

    fn payload(bytes: &'static str, encoding: &str) -> Payload {
        Payload {
            kind: BodyKind::Text,
            bytes: Bytes::from_static(bytes.as_bytes()),
            content_type: String::new(),
            content_encoding: encoding.into(),
        }
    }

    #[test]
    fn content_is_type_and_payload_but_not_encoded_bytes() {
        let kind: TypeName = "a".parse().expect("a name");
        let other: TypeName = "b".parse().expect("a name");
        let plain = content(&kind, Some(&payload("{}", "")));
        assert_eq!(plain, content(&kind, Some(&payload("{}", ""))));
        assert_ne!(plain, content(&kind, Some(&payload("{ }", ""))));
        assert_ne!(plain, content(&other, Some(&payload("{}", ""))));
        assert_ne!(plain, content(&kind, None));
        assert_eq!(content(&kind, Some(&payload("x", "zstd"))), content(&kind, Some(&payload("y", "zstd"))));
    }

    #[test]
    fn a_start_in_the_past_is_now() {
        assert_eq!(starts_at(Start::At(5), 10), 10);
        assert_eq!(starts_at(Start::At(15), 10), 15);
        assert_eq!(starts_at(Start::In(7), 10), 17);
        assert_eq!(starts_at(Start::In(i64::MAX), 10), i64::MAX);
    }

    #[test]
    fn spawned_ids_repeat_and_differ() {
        let job = JobId::stamp(uuid::Uuid::now_v7(), crate::model::ids::Shard(0));
        assert_eq!(spawned(job, 1, 0), spawned(job, 1, 0));
        assert_ne!(spawned(job, 1, 0), spawned(job, 1, 1));
        assert_ne!(spawned(job, 1, 0), spawned(job, 2, 0));
    }
}
