//! Unique keys over three servers on one Redis: however many ask at once, in whatever language, there is one job; and however
//! workers and servers die, no key is held without a job that lives.
use std::{process::Command, time::Duration};

use jobwire::Client;
use jobwire_proto::v1::{
    EnqueueRequest, EnqueueResponse, EnqueueStatus, Job, JobSpec, JobState, Payload, Unique, UniqueConflict,
    payload::Body,
};
use jobwire_redis_rig::{Redis, Settings};
use jobwire_tests::{
    process::{Process, root},
    random::now,
    server::Store,
    site::Site,
    wait::{LONG, wait_for},
    worker::{Sdk, python},
};
use serde_json::json;
use tonic::Status;

const SERVERS: usize = 3;
/// Enqueues of one key by each language: 201 in all.
const EACH: usize = 67;
/// How long programs get to start before they all begin.
const HEAD_START_MS: u64 = 3_000;
const KEYS: usize = 4;
const ROUNDS: usize = 3;
const DRAIN: Duration = Duration::from_secs(60);

fn burst(sdk: Sdk, url: &str, at_ms: u64) -> Process {
    let mut command = match sdk {
        Sdk::Python => Command::new(python()),
        Sdk::Node | Sdk::Rust => Command::new("node"),
    };
    let program = if matches!(sdk, Sdk::Python) { "burst.py" } else { "burst.mjs" };
    command.arg(root().join("tests/programs").join(program));
    command.env("JOBWIRE_URL", url).env("BURST_TYPE", "conf.echo").env("BURST_KEY", "one");
    command.env("BURST_COUNT", EACH.to_string()).env("BURST_AT_MS", at_ms.to_string());
    Process::start(command)
}

/// The same with the Rust SDK: (status, id) of each.
async fn own_burst(url: String, at_ms: u64) -> Vec<(String, String)> {
    let client = Client::connect(url).expect("a good URL");
    tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(now()))).await;
    let asked = (0..EACH).map(|n| {
        let client = client.clone();
        async move { client.enqueue_raw("conf.echo", &json!({"key": format!("rust-{n}")})).unique("one").await }
    });
    let answers = futures::future::join_all(asked).await.into_iter();
    let said = answers.map(|answer| {
        let job = answer.expect("it is accepted");
        (format!("{:?}", job.enqueue_status().expect("it was enqueued")).to_lowercase(), job.id().to_string())
    });
    said.collect()
}

#[test]
fn two_hundred_enqueues_of_one_key_in_three_languages_on_three_servers_make_one_job() {
    let redis = Redis::start(Settings::new());
    let site = Site::on(&Store::redis(redis.url()), SERVERS, &[]);
    let at_ms = now() + HEAD_START_MS;
    let mut programs = [Sdk::Python, Sdk::Node].map(|sdk| burst(sdk, &site.servers[sdk as usize].url(), at_ms));
    let mut answers = site.runtime.block_on(own_burst(site.servers[2].url(), at_ms));
    for program in &mut programs {
        let end = program.wait(LONG);
        assert!(end.success(), "a producer ended with {end}: {}", program.err.lines().join("\n"));
        let said = program.out.lines();
        answers.extend(said.iter().map(|line| {
            let (status, id) = line.split_once(' ').expect("status and id");
            (status.to_owned(), id.to_owned())
        }));
    }
    assert_eq!(answers.len(), 3 * EACH);
    let count = |status: &str| answers.iter().filter(|(said, _)| said == status).count();
    assert_eq!((count("created"), count("kept")), (1, 3 * EACH - 1), "{answers:?}");
    let jobs = site.jobs("queue = \"conf.echo\"");
    assert_eq!(jobs.len(), 1, "one job");
    assert!(answers.iter().all(|(_, id)| *id == jobs[0].id), "and everybody knows its id");
}

/// A job of this key; the answer of the server.
fn ask(site: &Site, number: usize, key: &str, conflict: UniqueConflict) -> Result<EnqueueResponse, Status> {
    let payload = json!({"key": key, "ms": 300}).to_string();
    let unique = Unique { key: key.to_owned(), on_conflict: conflict.into(), ..Default::default() };
    let job = JobSpec {
        r#type: "conf.sleep".into(),
        payload: Some(Payload { body: Some(Body::Text(payload)), ..Default::default() }),
        unique: Some(unique),
        ..Default::default()
    };
    let mut clients = site.clients_of(number);
    let request = EnqueueRequest { job: Some(job), ..Default::default() };
    site.runtime.block_on(clients.jobs.enqueue(request)).map(tonic::Response::into_inner)
}

fn lives(job: &Job) -> bool {
    let ended = [JobState::Succeeded, JobState::Dead, JobState::Cancelled, JobState::Expired, JobState::Discarded];
    !ended.contains(&job.state())
}

#[test]
fn a_key_is_never_held_without_a_job_that_lives_however_workers_and_servers_die() {
    let redis = Redis::start(Settings::new());
    let mut site = Site::on(&Store::redis(redis.url()), SERVERS, &[]);
    for text in ["no answer in time", "jobs that found no worker"] {
        site.allow(text);
    }
    let keys: Vec<String> = (0..KEYS).map(|n| format!("key-{n}")).collect();
    for round in 0..ROUNDS {
        let mut workers = Sdk::ALL.map(|sdk| site.worker(sdk, &format!("{}-{round}", sdk.name()), &[]));
        for (n, key) in keys.iter().enumerate() {
            ask(&site, n % SERVERS, key, UniqueConflict::KeepLast).expect("it is accepted");
        }
        wait_for("some are at work", LONG, || site.jobs("state = RUNNING").len() > 1);
        // Whoever is at work gets a successor, and then everybody who matters dies.
        for (n, key) in keys.iter().enumerate() {
            ask(&site, n % SERVERS, key, UniqueConflict::KeepLast).expect("it is accepted");
        }
        site.kill_server(round % SERVERS);
        site.kill(&mut workers[round % 3]);
        site.kill(&mut workers[(round + 1) % 3]);
        for (n, key) in keys.iter().enumerate() {
            let number = if n % SERVERS == round % SERVERS { (n + 1) % SERVERS } else { n % SERVERS };
            ask(&site, number, key, UniqueConflict::KeepLast).expect("it is accepted");
        }
        let living: Vec<Job> = site.jobs("").into_iter().filter(lives).collect();
        assert!(living.len() <= 2 * KEYS, "one at work, at most one behind it: {}", living.len());
        site.start_server_again(round % SERVERS);
        wait_for("every job has ended", DRAIN, || !site.jobs("").iter().any(lives));
        workers[(round + 2) % 3].stop();
        // Nobody lives: every key is free, on every server.
        for (n, key) in keys.iter().enumerate() {
            let answer = ask(&site, n % SERVERS, key, UniqueConflict::Reject).expect("the key is free");
            assert_eq!(answer.status(), EnqueueStatus::Created);
            let kept = ask(&site, (n + 1) % SERVERS, key, UniqueConflict::Keep).expect("it is accepted");
            assert_eq!((kept.status(), kept.job_id), (EnqueueStatus::Kept, answer.job_id));
        }
    }
}
