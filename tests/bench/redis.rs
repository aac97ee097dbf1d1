//! What only a Redis store has: commands per job, bytes per job in Redis, slow scripts, and a peer on the same Redis.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use jobwire_proto::v1::{self as pb, job_spec::Start, payload::Body};
use jobwire_redis_rig::Redis;
use serde_json::json;

use crate::{
    Failure,
    contest::{self, Peer},
    figures::Report,
    load::{self, Running, Trace, settled},
    phases::Setting,
    server::Server,
};

/// Longest wait for a few jobs to get done.
const PATIENCE: Duration = Duration::from_secs(60);
/// Jobs that are weighed.
const WEIGHED: u64 = 100_000;
/// Jobs before them, so that tables and lists that are there once do not count.
const FIRST: u64 = 5_000;
/// Far enough ahead for jobs that wait for their time.
const LATER_S: i64 = 3_600;
/// A call that takes longer is slow, µs.
pub const SLOW_US: u64 = 5_000;

/// Calls of each command since the server was started, those of scripts included.
struct Calls(BTreeMap<String, u64>);

impl Calls {
    fn of(redis: &Redis) -> Self {
        let text: String = redis.query(&["INFO", "commandstats"]);
        let count = |line: &str| {
            let (name, facts) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            let calls = facts.split(',').find_map(|fact| fact.strip_prefix("calls="))?;
            Some((name.to_owned(), calls.parse().ok()?))
        };
        Self(text.lines().filter_map(count).collect())
    }

    /// Scripts called, and commands in them and beside them, since `before`.
    fn since(&self, before: &Self) -> (u64, BTreeMap<&str, u64>) {
        let of = |calls: &Self, name: &str| calls.0.get(name).copied().unwrap_or(0);
        let grown = self.0.iter().map(|(name, calls)| (name.as_str(), calls - of(before, name)));
        let grown: BTreeMap<&str, u64> =
            grown.filter(|(name, calls)| *calls > 0 && !name.starts_with("info")).collect();
        let scripts = ["evalsha", "eval"].iter().filter_map(|name| grown.get(name)).sum();
        let commands = grown.into_iter().filter(|(name, _)| !name.starts_with("eval")).collect();
        (scripts, commands)
    }
}

/// Script calls and commands of one job's whole life, by how many go together.
pub async fn calls(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    for (batch, scripts_name, commands_name) in [
        (1, "redis_scripts_1", "redis_commands_1"),
        (10, "redis_scripts_10", "redis_commands_10"),
        (100, "redis_scripts_100", "redis_commands_100"),
    ] {
        let server = Server::start(setting).await?;
        let redis = server.redis().ok_or("this phase needs --store redis")?;
        let (client, jobs) = (server.client()?, setting.jobs());
        let trace = Trace::counting();
        let worker = Running::start(&server, trace.clone(), batch as usize).await?;
        let rounds = setting.pick(50, 200);
        // The first rounds load scripts and make the queue known.
        let mut before = Calls::of(redis);
        for round in 0..rounds + 10 {
            if round == 10 {
                before = Calls::of(redis);
            }
            let expected = (round + 1) * batch;
            load::enqueue_bulk(&client, &jobs, None, batch).await?;
            trace.reached(expected, PATIENCE).await?;
            // One batch at a time: the next begins when the last outcome is kept.
            settled(&server, 0, PATIENCE).await?;
        }
        let after = Calls::of(redis);
        worker.stop().await?;
        let (scripts, commands) = after.since(&before);
        let count = rounds * batch;
        let of_settled = |name: &&str| matches!(*name, "hgetall" | "hmget" | "llen" | "zcard" | "hget");
        let all: u64 = commands.values().sum();
        let detail = json!({
            "jobs": count,
            "commands": commands,
            "of_those_reading": commands.keys().filter(|name| of_settled(name)).collect::<Vec<_>>(),
        });
        report.add(scripts_name, scripts as f64 / count as f64, None, detail.clone())?;
        report.add(commands_name, all as f64 / count as f64, None, detail)?;
    }
    Ok(())
}

/// Bytes of Redis that a waiting job takes beyond its payload; beside those of a peer, if asked for.
pub async fn weight(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    for (name, delay_s) in [("redis_ready_job", 0), ("redis_scheduled_job", LATER_S)] {
        let server = Server::start(setting).await?;
        let redis = server.redis().ok_or("this phase needs --store redis")?;
        put(&server, setting, FIRST, delay_s).await?;
        let before = used(redis)?;
        put(&server, setting, WEIGHED, delay_s).await?;
        let bytes = (used(redis)? - before) / WEIGHED as f64 - load::PAYLOAD_BYTES as f64;
        report.add(name, bytes, None, json!({"jobs": WEIGHED}))?;
    }
    if setting.peers.contains(&Peer::Bullmq) {
        contest::install(&[Peer::Bullmq]).await?;
        bullmq(report)?;
    }
    Ok(())
}

fn used(redis: &Redis) -> Result<f64, Failure> {
    let text = redis.info("memory", "used_memory").ok_or("Redis does not say how much memory it uses")?;
    Ok(text.parse()?)
}

/// Enqueues jobs that wait for a worker, or for their time.
async fn put(server: &Server, setting: &Setting, count: u64, delay_s: i64) -> Result<(), Failure> {
    if delay_s == 0 {
        load::enqueue_bulk(&server.client()?, &setting.jobs(), None, count).await?;
        return Ok(());
    }
    let mut client = server.jobs();
    let jobs = setting.jobs();
    for first in (0..count).step_by(load::BULK as usize) {
        let spec = |n: u64| pb::JobSpec {
            id: uuid::Uuid::now_v7().to_string(),
            r#type: load::QUEUE.to_owned(),
            payload: Some(pb::Payload {
                body: Some(Body::Text(serde_json::to_string(&jobs.job(n)).expect("it is plain data"))),
                ..Default::default()
            }),
            start: Some(Start::Delay(prost_types::Duration { seconds: delay_s, nanos: 0 })),
            ..Default::default()
        };
        let request = pb::EnqueueManyRequest { jobs: (first..count.min(first + load::BULK)).map(spec).collect() };
        let answer = client.enqueue_many(request).await?.into_inner();
        if let Some(error) = answer.results.into_iter().find_map(|result| result.error) {
            return Err(format!("a job was refused: {error:?}").into());
        }
    }
    Ok(())
}

fn bullmq(report: &mut Report) -> Result<(), Failure> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/peers/bullmq");
    let run = |command: &mut Command| -> Result<(), Failure> {
        let status = command.current_dir(&dir).stdout(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}").into()) }
    };
    let redis = Redis::start(jobwire_redis_rig::Settings::new());
    for (name, kind) in [("bullmq_ready_job", "ready"), ("bullmq_scheduled_job", "delayed")] {
        let enqueue = |count: u64| {
            let port = redis.address().port().to_string();
            let mut command = Command::new("node");
            command.args(["enqueue.js", kind, &count.to_string()]).env("BENCH_PORT", port);
            run(command.env("NODE_PATH", contest::node_modules()))
        };
        enqueue(FIRST)?;
        let before = used(&redis)?;
        enqueue(WEIGHED)?;
        let bytes = (used(&redis)? - before) / WEIGHED as f64 - load::PAYLOAD_BYTES as f64;
        report.add(name, bytes, None, json!({"jobs": WEIGHED}))?;
    }
    Ok(())
}

/// Calls that took longer than 5 ms since the Redis was started.
pub fn slow(redis: &Redis, report: &mut Report) -> Result<(), Failure> {
    let entries: Vec<Vec<redis::Value>> = redis.query(&["SLOWLOG", "GET", "1000"]);
    let calls = entries.iter().map(|entry| slow_call(entry)).collect::<Result<Vec<_>, _>>()?;
    let scripts: Vec<_> = calls.iter().filter(|(_, words)| words[0].to_ascii_uppercase().starts_with("EVAL")).collect();
    let worst_us = scripts.iter().map(|(us, _)| *us).max().unwrap_or(0);
    let all: Vec<_> = calls.iter().map(|(us, words)| json!({"us": us, "command": words})).collect();
    report.add("redis_slow", scripts.len() as f64, None, json!({"worst_us": worst_us, "entries": all}))
}

/// Microseconds, and the first words of the command; the others may be any bytes.
fn slow_call(entry: &[redis::Value]) -> Result<(u64, Vec<String>), Failure> {
    let [_, _, us, command, ..] = entry else { return Err(format!("no entry of a slow log: {entry:?}").into()) };
    let words: Vec<Vec<u8>> = redis::from_redis_value(command.clone())?;
    if words.is_empty() {
        return Err("an entry of the slow log without a command".into());
    }
    let words = words.iter().take(2).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    Ok((redis::from_redis_value(us.clone())?, words))
}
