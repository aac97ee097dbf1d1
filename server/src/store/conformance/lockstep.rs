//! The model test: the same calls on two stores, one of which is the reference; whatever can be seen must be the same
//! after each. Calls are plain data, so that any generator can make them.
use std::collections::HashMap;

use super::kit::{self, Kit, name};
use crate::{
    model::{
        ids::{JobId, Shard},
        job::{AttemptResult, LogLine, Meta, Outcome, Parts, Progress, Record, Start},
        op::{
            Act, Claim, Claimed, DocChange, Due, DueKind, Effect, Guard, Hold, ListQuery, NewJob, Op, Throttle,
            UniqueKey, fair_key,
        },
        queue::{Bounds, KeyBounds, Pause, QueueChange, QueueConfig, QueueFacts, Rate},
        state::{State, StateSet},
    },
    store::{Cas, SharedStore},
};

const QUEUES: [&str; 3] = ["mail", "post", "news"];
const KINDS: [DueKind; 5] = [DueKind::Start, DueKind::Lease, DueKind::Cancel, DueKind::Expire, DueKind::Trim];
/// The longest lease of a sequence: below what a store gives when it opens again, so that opening never shortens.
const LONGEST_LEASE_MS: i64 = 10_000;

/// One call. Numbers pick among what there is, whatever that is.
#[derive(Clone, Debug)]
pub enum Call {
    Put {
        queue: u8,
        priority: i8,
        start: Option<i64>,
        expire_ms: Option<i64>,
        total_ms: Option<i64>,
        /// A fairness key; 0 = none.
        fair: u8,
        /// Which of two keys, and whether the last is kept.
        unique: Option<(bool, bool)>,
        n: u8,
    },
    /// Again, with the same or other content.
    Repeat {
        job: u16,
        same: bool,
    },
    Claim {
        queue: u8,
        want: u8,
        from_bottom: u8,
        bytes: Option<u16>,
        lease_ms: i64,
        started: bool,
    },
    Act {
        job: u16,
        guard: GuardPick,
        act: ActPick,
    },
    /// What is due, acted on as a server would.
    Sweep {
        limit: u8,
    },
    Log {
        job: u16,
        lines: u8,
        keep: u8,
    },
    Doc {
        key: u8,
        right: bool,
        value: Option<u8>,
        /// From now; `None` = never due.
        due_ms: Option<i64>,
    },
    Pause {
        queue: u8,
        lasts_ms: Option<i64>,
    },
    Resume {
        queue: u8,
        if_due: bool,
    },
    /// Bounds of fairness keys, and whether one of them weighs more.
    Configure {
        queue: u8,
        max_running: u8,
        rate: Option<(u8, u8)>,
        weighs: bool,
    },
    Advance {
        ms: i64,
    },
    Reopen,
}

#[derive(Clone, Copy, Debug)]
pub enum GuardPick {
    Latest,
    Wrong,
    Due(u8),
    In(u8),
    Waiting,
    Terminal,
    Any,
    Version,
}

#[derive(Clone, Copy, Debug)]
pub enum ActPick {
    Extend { lease_ms: i64, started: bool, progress: bool, checkpoint: bool },
    Finish { to: u8, retain_ms: i64, effect: bool, spoken: bool },
    Later { retrying: bool, delay_ms: i64, counts: bool, spoken: bool, checkpoint: bool, throttle: Option<Throttle> },
    Ready { front: bool, crashed: bool, attempt: bool },
    Requeue { failures: u8, delay_ms: i64, queue: Option<u8>, body: bool, keep: bool },
    RequestCancel { grace_ms: Option<i64> },
    Patch { queue: Option<u8>, priority: Option<i8>, start: Option<i64>, body: bool },
    Delete,
}

/// What the runner remembers so that calls can name real things.
#[derive(Default)]
struct Memory {
    jobs: Vec<NewJob>,
    /// The latest secret of each job.
    secrets: HashMap<JobId, u64>,
    versions: HashMap<String, u64>,
    serial: u64,
}

/// Runs the calls on both; the stores and their clocks must be fresh. Panics at the first difference.
pub async fn run(calls: &[Call], model: &mut Kit, subject: &mut Kit) {
    let mut memory = Memory::default();
    for (step, call) in calls.iter().enumerate() {
        let at = format!("step {step}, {call:?}");
        apply(call, model, subject, &mut memory, &at).await;
        compare(model, subject, &memory, &at).await;
    }
    model.recount().await;
    subject.recount().await;
}

fn pick(memory: &Memory, job: u16) -> Option<&NewJob> {
    if memory.jobs.is_empty() { None } else { memory.jobs.get(usize::from(job) % memory.jobs.len()) }
}

fn queue(number: u8) -> &'static str {
    QUEUES[usize::from(number) % QUEUES.len()]
}

fn key(number: u8) -> String {
    format!("key-{}", number % 5)
}

/// As a job was, but for its place, which is a store's own number.
fn seen(meta: &Meta) -> Meta {
    Meta { order: 0, ..meta.clone() }
}

fn start(start: Option<i64>) -> Start {
    start.map_or(Start::Now, Start::In)
}

async fn apply(call: &Call, model: &mut Kit, subject: &mut Kit, memory: &mut Memory, at: &str) {
    match call {
        Call::Put { queue: number, priority, start: delay, expire_ms, total_ms, fair, unique, n } => {
            let jobs: Vec<NewJob> = (0..=n % 4)
                .map(|_| NewJob {
                    priority: *priority,
                    start: start(*delay),
                    expire_ms: expire_ms.map_or(0, |ms| model.wall_ms() + ms),
                    deadline_ms: total_ms.map_or(0, |ms| model.wall_ms() + ms),
                    fair: if *fair == 0 { 0 } else { fair_key(&key(*fair)) },
                    unique: unique.map(|(which, last)| UniqueKey {
                        hash: [number % QUEUES.len() as u8 * 2 + u8::from(which) + 1; 16],
                        hold: if last { Hold::KeepLast } else { Hold::UntilFinished },
                    }),
                    ..model.job(queue(*number))
                })
                .collect();
            memory.jobs.extend(jobs.iter().cloned());
            assert_eq!(model.put(jobs.clone()).await, subject.put(jobs).await, "{at}");
        }
        Call::Repeat { job, same } => {
            let Some(mut job) = pick(memory, *job).cloned() else { return };
            job.content += u64::from(!same);
            assert_eq!(model.put(vec![job.clone()]).await, subject.put(vec![job]).await, "{at}");
        }
        Call::Claim { queue: number, want, from_bottom, bytes, lease_ms, started } => {
            let secrets = (0..want % 8).map(|_| {
                memory.serial += 1;
                memory.serial
            });
            let claim = Claim {
                queue: name(queue(*number)),
                secrets: secrets.collect(),
                from_bottom: usize::from(from_bottom % 4),
                bytes: bytes.map_or(usize::MAX, usize::from),
                lease_ms: (*lease_ms).clamp(1, LONGEST_LEASE_MS),
                started: *started,
            };
            let (a, b) = (model.claim_as(claim.clone()).await, subject.claim_as(claim).await);
            let told = |claimed: &Claimed| (claimed.jobs.len(), claimed.more, claimed.opens_in_ms);
            assert_eq!(told(&a), told(&b), "{at}");
            for (a, b) in a.jobs.iter().zip(&b.jobs) {
                assert_eq!((seen(&a.meta), a.secret), (seen(&b.meta), b.secret), "{at}");
                assert_eq!(
                    (&a.body, &a.checkpoint, &a.last_failure),
                    (&b.body, &b.checkpoint, &b.last_failure),
                    "{at}"
                );
                memory.secrets.insert(a.meta.id, a.secret);
            }
        }
        Call::Act { job, guard, act } => {
            let Some(id) = pick(memory, *job).map(|job| job.id) else { return };
            let meta = model.find(id, Parts::META).await.map(|record| record.meta);
            let secret = memory.secrets.get(&id).copied().unwrap_or(u64::MAX);
            let guard = match guard {
                GuardPick::Latest => Guard::Token(secret),
                GuardPick::Wrong => Guard::Token(secret ^ 1 << 40),
                GuardPick::Due(kind) => Guard::Due(KINDS[usize::from(*kind) % KINDS.len()]),
                GuardPick::In(state) => Guard::In(StateSet::of(&[State::ALL[usize::from(*state) % State::ALL.len()]])),
                GuardPick::Waiting => Guard::In(StateSet::WAITING),
                GuardPick::Terminal => Guard::In(StateSet::TERMINAL),
                GuardPick::Any => kit::ANY,
                GuardPick::Version => Guard::Version(meta.as_ref().map_or(0, |meta| meta.version)),
            };
            let delivery = meta.map_or(0, |meta| meta.delivery);
            let act = make(*act, delivery, model, memory);
            both(model, subject, Op { id, guard, act }, at).await;
        }
        Call::Sweep { limit } => {
            let mut due = model.due(usize::MAX).await.entries;
            due.sort_by_key(|entry| match entry {
                Due::Job { kind, meta } => (Some(*kind), Some(meta.id)),
                Due::QueueOpens(_) | Due::Doc { .. } => (None, None),
            });
            for entry in due.into_iter().take(usize::from(*limit)) {
                match entry {
                    Due::Doc { key, doc } => {
                        let change = DocChange {
                            key: key.clone(),
                            expect: doc.version,
                            value: Some(doc.value),
                            due_ms: 0,
                            effects: Vec::new(),
                        };
                        let version = change_doc(model, subject, change, at).await;
                        memory.versions.insert(key, version.expect("it is the one that is there"));
                    }
                    Due::QueueOpens(queue) => set(model, subject, queue.as_str(), QueueChange::ResumeIfDue, at).await,
                    Due::Job { kind, meta } => {
                        let act = match kind {
                            DueKind::Start => kit::ready(),
                            DueKind::Lease if meta.cancel.is_some() => kit::finish(State::Cancelled),
                            DueKind::Lease if meta.started => kit::crashed(),
                            DueKind::Lease => kit::give_back(),
                            DueKind::Cancel => kit::finish(State::Cancelled),
                            DueKind::Expire => kit::finish(State::Expired),
                            DueKind::Trim => Act::Delete,
                        };
                        both(model, subject, Op { id: meta.id, guard: Guard::Due(kind), act }, at).await;
                    }
                }
            }
        }
        Call::Log { job, lines, keep } => {
            let Some(id) = pick(memory, *job).map(|job| job.id) else { return };
            let lines: Vec<LogLine> = (0..lines % 5)
                .map(|n| LogLine {
                    index: 0,
                    time_ms: model.wall_ms(),
                    level: n * 4,
                    message: format!("line {n}"),
                    fields: Vec::new(),
                    attempt: 1,
                })
                .collect();
            for kit in [&*model, &*subject] {
                kit.store().log(id, lines.clone(), usize::from(keep % 6)).await.expect("lines are taken");
            }
        }
        Call::Doc { key, right, value, due_ms } => {
            let key = format!("doc/{key}");
            let known = memory.versions.get(&key).copied().unwrap_or(0);
            let change = DocChange {
                key: key.clone(),
                expect: if *right { known } else { known + 1 },
                value: value.map(|byte| bytes::Bytes::from(vec![byte; 3])),
                due_ms: value.and(*due_ms).map_or(0, |ms| model.wall_ms() + ms),
                effects: Vec::new(),
            };
            if let Some(version) = change_doc(model, subject, change, at).await {
                memory.versions.insert(key, version);
            }
        }
        Call::Pause { queue: number, lasts_ms } => {
            let now = model.wall_ms();
            let pause = Pause {
                reason: "r".to_owned(),
                actor: "a".to_owned(),
                pause_ms: now,
                resume_ms: lasts_ms.map(|ms| now + ms),
            };
            set(model, subject, queue(*number), QueueChange::Pause(pause), at).await;
        }
        Call::Resume { queue: number, if_due } => {
            let change = if *if_due { QueueChange::ResumeIfDue } else { QueueChange::Resume };
            set(model, subject, queue(*number), change, at).await;
        }
        Call::Configure { queue: number, max_running, rate, weighs } => {
            let rate = rate.map(|(max, burst)| Rate {
                max: 1 + u32::from(max % 9),
                per_ms: 1_000,
                burst: 1 + u32::from(burst % 4),
            });
            let per_key = KeyBounds { max_running: u32::from(max_running % 4), rate };
            let weights = weighs.then(|| (key(1), 3)).into_iter().collect();
            let bounds = Bounds { per_key, ..Bounds::default() };
            let known = queues(&model.store()).await.into_iter().find(|facts| facts.name == name(queue(*number)));
            let version = known.map_or(0, |facts| facts.version());
            let config = Box::new(QueueConfig { bounds, weights, ..QueueConfig::default() });
            set(model, subject, queue(*number), QueueChange::Configure(version, Some(config)), at).await;
        }
        Call::Advance { ms } => {
            model.advance(*ms);
            subject.advance(*ms);
        }
        Call::Reopen => reopen(model, subject, memory, at).await,
    }
}

/// Opening again gives every running job one fresh lease; the model, which has no such thing, renews them.
async fn reopen(model: &mut Kit, subject: &mut Kit, memory: &Memory, at: &str) {
    let Some(fresh_ms) = subject.reopen().await else { return };
    assert!(fresh_ms >= LONGEST_LEASE_MS, "{at}: a fresh lease of {fresh_ms} ms may shorten one");
    for job in &memory.jobs {
        let running = model.find(job.id, Parts::META).await.is_some_and(|record| record.meta.state == State::Running);
        if running {
            let secret = memory.secrets.get(&job.id).copied().expect("a running job was leased here");
            model.done(job.id, Guard::Token(secret), kit::extend(fresh_ms)).await;
        }
    }
}

fn make(act: ActPick, delivery: u32, model: &mut Kit, memory: &mut Memory) -> Act {
    let text = |on: bool, what: &str| on.then(|| kit::payload(&format!("{what} {delivery}")));
    match act {
        ActPick::Extend { lease_ms, started, progress, checkpoint } => Act::Extend {
            lease_ms: lease_ms.clamp(0, LONGEST_LEASE_MS),
            started,
            progress: progress.then(|| Progress { current: i64::from(delivery), ..Progress::default() }),
            checkpoint: text(checkpoint, "checkpoint"),
        },
        ActPick::Finish { to, retain_ms, effect, spoken } => {
            let to = State::ALL[usize::from(to) % State::ALL.len()];
            let outcome = match (spoken, to) {
                (false, _) => Outcome::default(),
                (true, State::Succeeded) => Outcome {
                    result: text(true, "result"),
                    failure: None,
                    last: Some(kit::attempt(delivery, AttemptResult::Succeeded)),
                },
                (true, _) => kit::failed(delivery, "over"),
            };
            let mut effects = Vec::new();
            if effect {
                let job = model.job(QUEUES[2]);
                memory.jobs.push(job.clone());
                effects.push(Effect::Put(job));
            }
            Act::Finish { to, outcome, retain_ms, effects }
        }
        ActPick::Later { retrying, delay_ms, counts, spoken, checkpoint, throttle } => Act::Later {
            to: if retrying { State::Retrying } else { State::Scheduled },
            delay_ms,
            counts,
            outcome: spoken.then(|| kit::failed(delivery, "boom")),
            checkpoint: text(checkpoint, "checkpoint"),
            throttle,
            effects: Vec::new(),
        },
        ActPick::Ready { front, crashed, attempt } => Act::Ready {
            front,
            crashed,
            attempt: attempt.then(|| kit::attempt(delivery, AttemptResult::Released)),
            checkpoint: None,
        },
        ActPick::Requeue { failures, delay_ms, queue: number, body, keep } => Act::Requeue {
            failures: u32::from(failures),
            delay_ms,
            queue: number.map(|number| name(queue(number))),
            body: body.then(|| kit::body("requeued")),
            keep: keep.then(|| kit::attempt(delivery, AttemptResult::Failed)),
        },
        ActPick::RequestCancel { grace_ms } => kit::request_cancel(grace_ms),
        ActPick::Patch { queue: number, priority, start: delay, body } => Act::Patch {
            queue: number.map(|number| name(queue(number))),
            priority,
            start: delay.map(|delay| start(Some(delay))),
            body: body.then(|| kit::body("patched")),
            content: body.then_some(1),
        },
        ActPick::Delete => Act::Delete,
    }
}

async fn both(model: &Kit, subject: &Kit, op: Op, at: &str) {
    let verdict = model.apply(vec![op.clone()]).await;
    assert_eq!(verdict, subject.apply(vec![op]).await, "{at}");
}

/// The new version, if it was written.
async fn change_doc(model: &Kit, subject: &Kit, change: DocChange, at: &str) -> Option<u64> {
    let a = model.store().change_docs(Shard(0), vec![change.clone()]).await.expect("documents are kept");
    let b = subject.store().change_docs(Shard(0), vec![change]).await.expect("documents are kept");
    assert_eq!(a, b, "{at}");
    match a[..] {
        [Cas::Done { version }] => Some(version),
        _ => None,
    }
}

async fn set(model: &Kit, subject: &Kit, queue: &str, change: QueueChange, at: &str) {
    let a = model.store().set_queue(name(queue), change.clone()).await.expect("a queue can be changed");
    let b = subject.store().set_queue(name(queue), change).await.expect("a queue can be changed");
    assert_eq!((a.pause, a.counts), (b.pause, b.counts), "{at}");
}

/// What is due, sorted: the order of what becomes due in the same millisecond is a store's own. That of starts is not.
fn dues(entries: &[Due]) -> (Vec<(Option<DueKind>, String)>, Vec<JobId>) {
    let mut all = Vec::new();
    let mut starts = Vec::new();
    for entry in entries {
        match entry {
            Due::Job { kind, meta } => {
                all.push((Some(*kind), format!("{:?}", seen(meta))));
                if *kind == DueKind::Start {
                    starts.push(meta.id);
                }
            }
            Due::QueueOpens(queue) => all.push((None, queue.to_string())),
            Due::Doc { key, doc } => all.push((None, format!("{key} {doc:?}"))),
        }
    }
    all.sort();
    (all, starts)
}

/// Who has waited longest is looked for at the head of each line only, and how far is a store's own.
async fn queues(store: &SharedStore) -> Vec<QueueFacts> {
    let facts = store.queues(None).await.expect("the store knows queues").into_iter();
    facts.map(|facts| QueueFacts { oldest_ready_ms: None, ..facts }).collect()
}

/// Everything that can be read.
async fn compare(model: &Kit, subject: &Kit, memory: &Memory, at: &str) {
    let (a, b) = (model.store(), subject.store());
    assert_eq!(queues(&a).await, queues(&b).await, "{at}: queues");
    for queue in QUEUES {
        for state in State::ALL {
            let query = ListQuery { queue: name(queue), state, after: None, limit: usize::MAX };
            let now_ms = model.wall_ms();
            // As `Store::list` says: what was claimed in one millisecond stands in any order, what has expired may be left out.
            let list = |mut metas: Vec<Meta>| {
                if state == State::Running {
                    metas.sort_by_key(|meta| (meta.start_ms, meta.id));
                }
                let over = |at: i64| at != 0 && at <= now_ms;
                let gone = |meta: &Meta| state == State::Ready && (over(meta.expire_ms) || over(meta.deadline_ms));
                metas.iter().filter(|meta| !gone(meta)).map(seen).collect::<Vec<_>>()
            };
            let a = a.list(query.clone()).await.map(list).expect("it lists");
            let b = b.list(query).await.map(list).expect("it lists");
            assert_eq!(a, b, "{at}: {} of {queue}", state.name());
        }
    }
    let (due_a, due_b) = (model.due(usize::MAX).await, subject.due(usize::MAX).await);
    assert_eq!((dues(&due_a.entries), due_a.next_in_ms), (dues(&due_b.entries), due_b.next_in_ms), "{at}: due");
    let ids: Vec<JobId> = memory.jobs.iter().map(|job| job.id).collect();
    let records_a = a.get(&ids, Parts::ALL).await.expect("it reads");
    let records_b = b.get(&ids, Parts::ALL).await.expect("it reads");
    for (id, (a, b)) in ids.iter().zip(records_a.iter().zip(&records_b)) {
        let parts = |record: &Option<Record>| {
            record.clone().map(|record| {
                let Record { meta, body, outcome, attempts, progress, checkpoint } = record;
                (seen(&meta), body, outcome, attempts, progress, checkpoint)
            })
        };
        assert_eq!(parts(a), parts(b), "{at}: {id}");
    }
    for id in &ids {
        let a = a.read_log(*id, 0, 0, usize::MAX).await.expect("logs can be read");
        assert_eq!(a, b.read_log(*id, 0, 0, usize::MAX).await.expect("logs can be read"), "{at}: log of {id}");
    }
    let docs = a.docs(Shard(0), "").await.expect("documents can be read");
    assert_eq!(docs, b.docs(Shard(0), "").await.expect("documents can be read"), "{at}: documents");
}
