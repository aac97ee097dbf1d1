//! A store with a job of every kind, and a way to break it.
use std::sync::Arc;

use bytes::Bytes;
use jobwire_redis_rig::Redis as Process;
use jobwire_server::{
    model::{
        ids::JobId,
        job::{LogLine, Start, Task, TaskCodec},
        op::{Guard, Hold, UniqueKey},
        schedule::ScheduleSpec,
        state::State,
    },
    store::{
        Checked, Mend,
        conformance::{
            Kit,
            kit::{ANY, LEASE_MS, QUEUE, finish, name, request_cancel, retry_in},
        },
    },
};
use redis::{Cmd, FromRedisValue, aio::MultiplexedConnection};

use crate::redis_support::Redis;

/// The key of the job that has one.
pub const KEY: [u8; 16] = [7; 16];

/// Reads the tasks of the suite: all of them say the same.
#[derive(Debug)]
pub struct Tasks;

impl TaskCodec for Tasks {
    fn encode(&self, _: Task) -> Bytes {
        Bytes::from_static(b"task")
    }

    fn decode(&self, bytes: &Bytes) -> Option<Task> {
        (bytes.as_ref() == b"task").then(|| Task {
            kind: name("send"),
            queue: name(QUEUE),
            payload: None,
            headers: Vec::new(),
            tags: Vec::new(),
            parent: None,
            fairness_key: String::new(),
            tick: None,
            depends_on: Vec::new(),
            member: None,
        })
    }

    fn schedule(&self, _: &Bytes) -> Option<ScheduleSpec> {
        None
    }

    fn complete(&self, encoded: &bytes::Bytes, _: &jobwire_server::model::job::Meta) -> bytes::Bytes {
        encoded.clone()
    }
}

pub struct Rig {
    pub kit: Kit,
    con: MultiplexedConnection,
    tag: String,
    pub ready: JobId,
    /// READY, and holds `KEY`.
    pub keyed: JobId,
    pub expiring: JobId,
    pub scheduled: JobId,
    pub retrying: JobId,
    pub running: JobId,
    pub secret: u64,
    /// RUNNING, asked to stop, with a deadline.
    pub stopping: JobId,
    pub done: JobId,
}

impl Rig {
    pub async fn new() -> Self {
        let process = Process::shared();
        let client = redis::Client::open(process.url()).expect("a good URL");
        let con = client.get_multiplexed_async_connection().await.expect("Redis answers");
        let store = Redis::at(&process.url()).await;
        let prefix = store.prefix().to_owned();
        let mut kit = Kit::new(Box::new(store));
        let (running, secret) = kit.running(QUEUE).await;
        let (stopping, _) = kit.running(QUEUE).await;
        kit.done(stopping, ANY, request_cancel(Some(5_000))).await;
        let (retrying, token) = kit.running(QUEUE).await;
        kit.done(retrying, Guard::Token(token), retry_in(9_000, 1)).await;
        let (done, token) = kit.running(QUEUE).await;
        kit.done(done, Guard::Token(token), finish(State::Succeeded)).await;
        let line = LogLine { index: 0, time_ms: 1, level: 9, message: "hi".into(), fields: vec![], attempt: 1 };
        kit.store().log(running, vec![line], 10).await.expect("it logs");
        let ready = kit.put_one(QUEUE).await;
        let unique = Some(UniqueKey { hash: KEY, hold: Hold::UntilFinished });
        let keyed = kit.put_with(QUEUE, |job| job.unique = unique).await;
        let expires = kit.wall_ms() + 60_000;
        let expiring = kit.put_with(QUEUE, |job| job.expire_ms = expires).await;
        let scheduled = kit.put_with(QUEUE, |job| job.start = Start::In(7_000)).await;
        let mut rig = Self {
            kit,
            con,
            tag: String::new(),
            ready,
            keyed,
            expiring,
            scheduled,
            retrying,
            running,
            secret,
            stopping,
            done,
        };
        let names: Vec<String> = rig.ask(redis::cmd("KEYS").arg(format!("{{{prefix}.0~*}}:nm"))).await;
        rig.tag = names[0].trim_end_matches(":nm").to_owned();
        rig
    }

    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        command.query_async(&mut self.con.clone()).await.expect("Redis does it")
    }

    /// A command on a key of the store, and its number.
    pub async fn raw(&self, command: &str, key: &str, args: &[&[u8]]) -> i64 {
        let key = self.key(key);
        self.ask(redis::cmd(command).arg(key).arg(args)).await
    }

    pub fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.tag)
    }

    /// The number of the queue, as it stands in keys.
    pub async fn queue(&self) -> String {
        let names: Vec<(String, String)> = self.ask(redis::cmd("HGETALL").arg(self.key("nm"))).await;
        let mail = names.into_iter().find(|(_, name)| name == "qmail");
        mail.expect("the queue has a number").0
    }

    pub async fn check(&self) -> Checked {
        self.kit.store().check(Mend::default()).await.expect("it can be looked at")
    }

    pub async fn mend(&self) -> Checked {
        let mend = Mend { tasks: Some(Arc::new(Tasks)), lease_ms: LEASE_MS };
        self.kit.store().check(mend).await.expect("it can be looked at")
    }

    /// The damage is found, all of it and nothing else; it is mended, and then nothing is found any more.
    pub async fn finds_and_mends(&self, words: &[&str]) {
        let found = self.check().await;
        let texts: Vec<&str> = found.found.iter().map(|found| found.what.as_str()).collect();
        assert_eq!(texts.len(), words.len(), "{texts:#?}");
        for (text, words) in texts.iter().zip(words) {
            assert!(text.contains(words), "{words:?} in {text:?}");
        }
        assert!(found.found.iter().all(|found| found.mended.is_none()), "nothing is done unasked");
        assert_eq!(self.check().await, found, "looking changes nothing");
        let mended = self.mend().await;
        assert_eq!((mended.found.len(), mended.left()), (words.len(), 0), "{mended:#?}");
        assert_eq!(self.check().await, Checked { jobs: found.jobs, ..Checked::default() });
        self.kit.recount().await;
    }
}
