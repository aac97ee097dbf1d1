//! The store over a log that is played by hand: when answers are given, and what a disk that refuses does to callers.
#![expect(clippy::disallowed_methods, reason = "a test that listens to everything has nothing to bound")]
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use uuid::Uuid;

use super::{
    changes::Changes,
    record_log::{CommitError, Found, Loaded, ReadError, RecordLog, Safety, SideKey, SideSource},
    space::Space,
    *,
};
use crate::{
    model::{
        job::{Body, Outcome, Start},
        op::{Act, Guard, Put},
        policy::Policy,
        state::State,
    },
    store::conformance::ManualClock,
};

const SHARD: Shard = Shard(0);

/// What the log was asked, in order; the answer to each commit comes from the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Commit { safety: Safety, changes: usize },
    Sync,
    Close,
}

type Verdicts = std::sync::mpsc::Receiver<Result<(), CommitError>>;

struct HandLog {
    asked: UnboundedSender<Asked>,
    verdicts: Verdicts,
    kept: Arc<Kept>,
}

#[derive(Default)]
struct Kept(Mutex<HashMap<SideKey, Bytes>>);

impl SideSource for Kept {
    fn read(&self, keys: &[SideKey]) -> Vec<Result<Option<Bytes>, ReadError>> {
        keys.iter().map(|key| Ok(self.0.lock().get(key).cloned())).collect()
    }

    fn bytes(&self) -> u64 {
        0
    }
}

impl RecordLog for HandLog {
    fn load(&mut self, _sink: &mut dyn FnMut(Found<'_>) -> Result<(), String>) -> Result<Loaded, StoreError> {
        Ok(Loaded::default())
    }

    fn commit(&mut self, changes: &Changes, safety: Safety) -> Result<(), CommitError> {
        let _ = self.asked.send(Asked::Commit { safety, changes: changes.jobs.len() });
        self.verdicts.recv().unwrap_or_else(|_| Err(CommitError::Fatal("the test is over".to_owned())))?;
        let mut kept = self.kept.0.lock();
        for change in &changes.jobs {
            let key = (change.table, change.row, change.sub);
            change.value.clone().map(|value| kept.insert(key, value));
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), CommitError> {
        let _ = self.asked.send(Asked::Sync);
        Ok(())
    }

    fn tidy(&mut self) -> Result<(), CommitError> {
        Ok(())
    }

    fn shrink(&mut self) -> Result<(), CommitError> {
        Ok(())
    }

    fn reader(&self) -> Arc<dyn SideSource> {
        self.kept.clone()
    }

    fn verify(&mut self, _jobs: u64) -> Result<Vec<String>, CommitError> {
        Ok(Vec::new())
    }

    fn close(self: Box<Self>) -> Result<(), CommitError> {
        let _ = self.asked.send(Asked::Close);
        Ok(())
    }
}

struct Stage {
    store: Arc<EmbeddedStore>,
    asked: UnboundedReceiver<Asked>,
    answer: std::sync::mpsc::Sender<Result<(), CommitError>>,
    free: Arc<AtomicU64>,
    failures: UnboundedReceiver<String>,
    _dir: tempfile::TempDir,
}

fn stage(durability: Durability) -> Stage {
    let dir = tempfile::tempdir().expect("a directory");
    let (asked_sender, asked) = unbounded_channel();
    let (answer, verdicts) = std::sync::mpsc::channel();
    let log = HandLog { asked: asked_sender, verdicts, kept: Arc::default() };
    let free = Arc::new(AtomicU64::new(1_000_000));
    let gauge = free.clone();
    let space = Space::with_gauge(dir.path(), 1_000, 10, Box::new(move |_| Ok(gauge.load(Relaxed))));
    let (failed, failures) = unbounded_channel();
    let options = Options {
        durability,
        cache_bytes: 0,
        on_fatal: Some(Arc::new(move |what: &str| failed.send(what.to_owned()).expect("the test listens"))),
        ..Options::default()
    };
    let clock = Arc::new(ManualClock::default());
    let store = EmbeddedStore::over(Box::new(log), None, space, options, clock).expect("opens");
    Stage { store, asked, answer, free, failures, _dir: dir }
}

impl Stage {
    /// Waits until the log is asked something.
    async fn asked(&mut self) -> Asked {
        let asked = tokio::time::timeout(Duration::from_secs(10), self.asked.recv()).await;
        asked.expect("the log is asked in time").expect("the log is there")
    }

    async fn asked_to_commit(&mut self, changes: usize) {
        assert_eq!(self.asked().await, Asked::Commit { safety: Safety::PowerLoss, changes });
    }

    fn put(&self, n: u128) -> tokio::task::JoinHandle<Result<Vec<Put>, StoreError>> {
        let store = self.store.clone();
        tokio::spawn(async move { store.put(SHARD, vec![job(n)]).await })
    }

    /// What was decided before has been handed to the writing thread: a second call is served in a later batch.
    async fn settle(&self) {
        for _ in 0..2 {
            self.store.queues(None).await.expect("reads");
        }
    }

    async fn claim(&self) -> Vec<crate::model::op::Leased> {
        let claim = Claim {
            queue: "q".parse().expect("a name"),
            secrets: vec![5],
            from_bottom: 0,
            bytes: 1_000,
            lease_ms: 1_000,
            started: false,
        };
        self.store.claim(SHARD, claim).await.expect("claims").jobs
    }
}

fn id(n: u128) -> JobId {
    JobId::stamp(Uuid::from_u128(n), SHARD)
}

fn job(n: u128) -> NewJob {
    NewJob {
        id: id(n),
        kind: "t".parse().expect("a name"),
        queue: "q".parse().expect("a name"),
        priority: 0,
        start: Start::Now,
        expire_ms: 0,
        deadline_ms: 0,
        create_ms: 0,
        content: 0,
        unique: None,
        idempotency: None,
        fair: 0,
        overshoots: false,
        blocked: false,
        owner: None,
        body: Body { policy: Policy::default(), task: n.to_le_bytes().to_vec().into() }.encode(),
    }
}

fn op(n: u128, act: Act) -> Vec<Op> {
    vec![Op { id: id(n), guard: Guard::Token(5), act }]
}

fn success() -> Act {
    Act::Finish { to: State::Succeeded, outcome: Outcome::default(), retain_ms: 1_000, effects: Vec::new() }
}

fn renewal() -> Act {
    Act::Extend { lease_ms: 2_000, started: false, progress: None, checkpoint: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_comes_before_its_commit_has_returned() {
    let mut stage = stage(Durability::EmbeddedFsync);
    let first = stage.put(1);
    stage.asked_to_commit(2).await;
    // The commit is under way. The job can be read and claimed, and its lease renewed, meanwhile.
    let record = stage.store.get(&[id(1)], Parts::ALL).await.expect("reads").remove(0).expect("there");
    assert_eq!(record.body.expect("a body").task, Bytes::copy_from_slice(&1u128.to_le_bytes()));
    let leased = stage.claim().await;
    assert_eq!(leased[0].body.as_ref().expect("a body").task, Bytes::copy_from_slice(&1u128.to_le_bytes()));
    stage.store.apply(SHARD, op(1, renewal())).await.expect("renewals do not wait");

    // What waits: an outcome, a repeat of the put, a document, another job.
    let store = stage.store.clone();
    let outcome = tokio::spawn(async move { store.apply(SHARD, op(1, success())).await });
    while stage.store.get(&[id(1)], Parts::META).await.expect("reads")[0].as_ref().expect("there").meta.state
        != State::Succeeded
    {
        tokio::task::yield_now().await;
    }
    let repeat = stage.put(1);
    let store = stage.store.clone();
    let doc = tokio::spawn(async move { store.doc(SHARD, "d".to_owned(), 0, Some(Bytes::new())).await });
    while stage.store.docs(SHARD, "d").await.expect("reads").is_empty() {
        tokio::task::yield_now().await;
    }
    stage.settle().await;
    assert!(!first.is_finished() && !outcome.is_finished() && !repeat.is_finished() && !doc.is_finished());

    stage.answer.send(Ok(())).expect("the log listens");
    assert!(matches!(first.await.expect("runs").expect("kept")[..], [Put::Created { .. }]));
    // Claim and outcome of the job come down to one record.
    stage.asked_to_commit(1).await;
    assert!(!outcome.is_finished() && !doc.is_finished());
    stage.answer.send(Ok(())).expect("the log listens");
    assert!(matches!(outcome.await.expect("runs").expect("kept")[..], [Verdict::Done(_)]));
    assert!(matches!(repeat.await.expect("runs").expect("kept")[..], [Put::Exists { .. }]));
    doc.await.expect("runs").expect("kept");

    // Nothing is on its way: what changes nothing is answered without a commit.
    let again = stage.store.apply(SHARD, op(1, success())).await.expect("answers");
    assert_eq!(again, vec![Verdict::Already(State::Succeeded)]);
    stage.store.close().await;
    assert_eq!(stage.asked().await, Asked::Close);
    assert!(matches!(stage.store.put(SHARD, vec![job(2)]).await, Err(StoreError::Closed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_ends_it_all() {
    let mut stage = stage(Durability::EmbeddedFsync);
    let put = stage.put(1);
    stage.asked_to_commit(2).await;
    let waiting = stage.put(2);
    while stage.store.get(&[id(2)], Parts::META).await.expect("reads")[0].is_none() {
        tokio::task::yield_now().await;
    }
    stage.answer.send(Err(CommitError::Fatal("the disk is gone".to_owned()))).expect("the log listens");
    for put in [put, waiting] {
        match put.await.expect("runs") {
            Err(StoreError::Unavailable(what)) => assert_eq!(what, "the disk is gone"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stage.failures.recv().await, Some("the disk is gone".to_owned()));
    // Nothing more is written, not even in closing, and nothing more is taken.
    stage.store.close().await;
    assert_eq!(stage.asked.recv().await, None);
    assert!(matches!(stage.store.put(SHARD, vec![job(3)]).await, Err(StoreError::Unavailable(_))));
    assert!(stage.failures.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_new_jobs_and_lets_the_others_end() {
    let mut stage = stage(Durability::EmbeddedFsync);
    let first = stage.put(1);
    stage.asked_to_commit(2).await;
    stage.answer.send(Ok(())).expect("the log listens");
    first.await.expect("runs").expect("kept");
    assert_eq!(stage.claim().await.len(), 1);
    stage.asked_to_commit(1).await;
    stage.answer.send(Ok(())).expect("the log listens");

    let second = stage.put(2);
    stage.asked_to_commit(2).await;
    stage.free.store(0, Relaxed);
    stage.answer.send(Err(CommitError::NoSpace("full".to_owned()))).expect("the log listens");
    // The same commit again, its answer held back.
    stage.asked_to_commit(2).await;
    assert!(stage.store.info().await.expect("says").full);
    match stage.store.put(SHARD, vec![job(3)]).await {
        Err(StoreError::Full(why)) => assert!(why.contains("MiB are free"), "{why}"),
        other => panic!("{other:?}"),
    }
    let store = stage.store.clone();
    let outcome = tokio::spawn(async move { store.apply(SHARD, op(1, success())).await });
    stage.answer.send(Ok(())).expect("the log listens");
    second.await.expect("runs").expect("kept");
    stage.asked_to_commit(1).await;
    stage.answer.send(Ok(())).expect("the log listens");
    assert!(matches!(outcome.await.expect("runs").expect("kept")[..], [Verdict::Done(_)]));

    // Room again: somebody asks, and is let in.
    stage.free.store(1_000_000, Relaxed);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let third = loop {
        stage.answer.send(Ok(())).expect("the log listens");
        match stage.store.put(SHARD, vec![job(3)]).await {
            Err(StoreError::Full(_)) if tokio::time::Instant::now() < deadline => tokio::task::yield_now().await,
            other => break other,
        }
    };
    third.expect("kept");
    assert!(!stage.store.info().await.expect("says").full);
    assert!(stage.failures.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn fast_answers_first_and_syncs_soon_by_itself() {
    let mut stage = stage(Durability::EmbeddedFast);
    stage.answer.send(Ok(())).expect("the log listens");
    stage.put(1).await.expect("runs").expect("kept");
    assert_eq!(stage.asked().await, Asked::Commit { safety: Safety::Crash, changes: 2 });
    assert_eq!(stage.asked().await, Asked::Sync);
    // And then no more: an idle store does nothing.
    stage.store.close().await;
    assert_eq!(stage.asked().await, Asked::Close);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_body_is_never_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { ballast_bytes: 0, min_free_bytes: 0, cache_bytes: 0, ..Options::default() };
    let clock = Arc::new(ManualClock::default());
    let open = || EmbeddedStore::open(dir.path(), options.clone(), clock.clone()).expect("opens");
    let store = open();
    store.put(SHARD, vec![job(1), job(2)]).await.expect("kept");
    store.close().await;
    let path: PathBuf = dir.path().join(sqlite::FILE);
    let mut bytes = std::fs::read(&path).expect("there");
    let needle = job(1).body;
    // Also where a copy is left in what a page does not use.
    let places: Vec<usize> = (0..bytes.len() - needle.len()).filter(|at| bytes[*at..].starts_with(&needle)).collect();
    assert!(!places.is_empty(), "the body is in the database");
    for place in places {
        bytes[place + 7] ^= 1;
    }
    std::fs::write(&path, bytes).expect("writes");

    let store = open();
    let records = store.get(&[id(1), id(2)], Parts::BODY).await.expect("reads");
    let bodies: Vec<bool> = records.into_iter().map(|record| record.expect("there").body.is_some()).collect();
    assert_eq!(bodies, vec![false, true]);
    let claim = Claim {
        queue: "q".parse().expect("a name"),
        secrets: vec![1, 2],
        from_bottom: 0,
        bytes: 1_000,
        lease_ms: 1_000,
        started: false,
    };
    let leased = store.claim(SHARD, claim).await.expect("claims").jobs;
    let bodies: Vec<bool> = leased.iter().map(|leased| leased.body.is_some()).collect();
    assert_eq!(bodies, vec![false, true]);
    let found = store.recount().await.expect("counts");
    assert_eq!(found, vec!["table body, row 0: the checksum does not match".to_owned()]);
    store.close().await;
}
