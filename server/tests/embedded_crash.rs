//! The process is killed with -9 in the middle of its work, again and again on the same data: what it acknowledged is
//! there, and nothing is half done.
use std::{
    collections::{HashMap, HashSet},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jobwire_server::{
    model::{
        ids::{JobId, QueueName, Shard},
        job::{Body, Outcome, Parts, Payload, Start},
        op::{Act, Claim, Guard, NewJob, Op, Put, Verdict},
        policy::Policy,
        state::{State, StateSet},
        time::{Clock, Now},
    },
    store::{
        Store as _, StoreError,
        embedded::{EmbeddedStore, Options},
    },
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use uuid::Uuid;

const SHARD: Shard = Shard(0);
const KILLS: u64 = 20;
/// Set for the process that is killed: the directory it works in, and its seed.
const DIR: &str = "JOBWIRE_CRASH_DIR";
const SEED: &str = "JOBWIRE_CRASH_SEED";

struct SystemClock(Instant);

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        Now { wall_ms: wall.as_millis() as i64, mono_ms: self.0.elapsed().as_millis() as i64 }
    }
}

fn open(dir: &Path) -> Result<Arc<EmbeddedStore>, StoreError> {
    // A small cache, so that bodies are read from the disk, too.
    let options = Options { ballast_bytes: 0, min_free_bytes: 0, cache_bytes: 100_000, ..Options::default() };
    EmbeddedStore::open(dir, options, Arc::new(SystemClock(Instant::now())))
}

fn queue() -> QueueName {
    "crash".parse().expect("a name")
}

/// Bytes that follow from the id: some small, some over several pages of the database.
fn task(id: JobId) -> Vec<u8> {
    let bytes = id.as_bytes();
    let times = if bytes[15] == 0 { 2_000 } else { 1 + usize::from(bytes[15]) / 16 };
    bytes.repeat(times)
}

fn result(id: JobId) -> Outcome {
    let payload = Payload {
        kind: jobwire_server::model::job::BodyKind::Data,
        bytes: id.as_bytes().to_vec().into(),
        content_type: String::new(),
        content_encoding: String::new(),
    };
    Outcome { result: Some(payload), failure: None, last: None }
}

fn new_job(rng: &mut StdRng) -> NewJob {
    let id = JobId::stamp(Uuid::from_bytes(rng.random()), SHARD);
    NewJob {
        id,
        kind: queue(),
        queue: queue(),
        priority: rng.random_range(-4..=4),
        start: Start::Now,
        expire_ms: 0,
        deadline_ms: 0,
        create_ms: 0,
        content: 7,
        unique: None,
        idempotency: None,
        fair: 0,
        overshoots: false,
        blocked: false,
        owner: None,
        body: Body { policy: Policy::default(), task: task(id).into() }.encode(),
    }
}

/// One line, whole or recognisably cut.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n={line};\n").as_bytes()).expect("somebody listens");
    out.flush().expect("somebody listens");
}

fn words(ids: &[JobId]) -> String {
    ids.iter().map(JobId::to_string).collect::<Vec<_>>().join(" ")
}

/// The work that is killed. Lines: `I ids` about to put these in one call, `P ids` they were acknowledged, `L id secret
/// delivery` leased, `F id` its success was acknowledged, `D id` its deletion was, `O` open, `R what` refused.
#[test]
fn the_process_that_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let seed: u64 = std::env::var(SEED).expect("a seed").parse().expect("a number");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("starts");
    runtime.block_on(async {
        let store = match open(Path::new(&dir)) {
            Ok(store) => store,
            Err(error) => return say(&format!("R {error}")),
        };
        say("O");
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..4 {
            tasks.spawn(work(store.clone(), StdRng::seed_from_u64(seed.wrapping_mul(4).wrapping_add(task))));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a task fails only with the process");
        }
    });
}

async fn work(store: Arc<EmbeddedStore>, mut rng: StdRng) {
    loop {
        let count = rng.random_range(1..30);
        let jobs: Vec<NewJob> = (0..count).map(|_| new_job(&mut rng)).collect();
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        say(&format!("I {}", words(&ids)));
        let answers = store.put(SHARD, jobs).await.expect("room");
        assert!(answers.iter().all(|answer| matches!(answer, Put::Created { .. })));
        say(&format!("P {}", words(&ids)));

        let secrets = (0..rng.random_range(1..30)).map(|_| rng.random()).collect();
        let claim = Claim { queue: queue(), secrets, from_bottom: 1, bytes: 1 << 20, lease_ms: 60_000, started: true };
        let claimed = store.claim(SHARD, claim).await.expect("open");
        let mut ops = Vec::new();
        for leased in &claimed.jobs {
            let id = leased.meta.id;
            say(&format!("L {id} {} {}", leased.secret, leased.meta.delivery));
            assert_eq!(leased.body.as_ref().expect("a body").task, task(id));
            if rng.random_bool(0.7) {
                let act = Act::Finish {
                    to: State::Succeeded,
                    outcome: result(id),
                    retain_ms: 3_600_000,
                    effects: Vec::new(),
                };
                ops.push(Op { id, guard: Guard::Token(leased.secret), act });
            }
        }
        let finished: Vec<JobId> = ops.iter().map(|op| op.id).collect();
        let verdicts = store.apply(SHARD, ops).await.expect("open");
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Done(_))), "{verdicts:?}");
        if !finished.is_empty() {
            say(&format!("F {}", words(&finished)));
        }
        if let Some(id) = finished.first().filter(|_| rng.random_bool(0.3)) {
            let op = Op { id: *id, guard: Guard::In(StateSet::TERMINAL), act: Act::Delete };
            // Deleting is announced first: whether it happened is open until it is acknowledged.
            say(&format!("W {id}"));
            store.apply(SHARD, vec![op]).await.expect("open");
            say(&format!("D {id}"));
        }
    }
}

/// What a process said before it died, and all before it.
#[derive(Default)]
struct Said {
    intended: Vec<Vec<JobId>>,
    put: HashSet<JobId>,
    finished: HashSet<JobId>,
    /// Latest secret, by job and delivery.
    leased: HashMap<(JobId, u32), u64>,
    maybe_deleted: HashSet<JobId>,
    deleted: HashSet<JobId>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let (what, rest) = line.split_at(1);
        let ids = || rest.split_whitespace().map(|id| id.parse::<JobId>().expect("an id"));
        match what {
            "I" => self.intended.push(ids().collect()),
            "P" => self.put.extend(ids()),
            "F" => self.finished.extend(ids()),
            "W" => self.maybe_deleted.extend(ids()),
            "D" => self.deleted.extend(ids()),
            "L" => {
                let mut parts = rest.split_whitespace();
                let mut next = || parts.next().expect("three parts");
                let (id, secret, delivery) = (next(), next(), next());
                let key = (id.parse().expect("an id"), delivery.parse().expect("a number"));
                self.leased.insert(key, secret.parse().expect("a number"));
            }
            "O" => {}
            _ => panic!("the process said {line}"),
        }
    }
}

fn start(dir: &Path, seed: u64) -> (Child, impl Iterator<Item = String>) {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "the_process_that_is_killed", "--nocapture"])
        .env(DIR, dir)
        .env(SEED, seed.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the process starts");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    // What the test harness prints lacks the signs around a line; so does a line that was cut by the kill.
    let lines = out.split(b'\n').map_while(Result::ok).filter_map(|line| {
        let line = String::from_utf8(line).expect("text");
        Some(line.strip_prefix('=')?.strip_suffix(';')?.to_owned())
    });
    (child, lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_kill_9() {
    let seed = std::env::var(SEED).map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
    println!("{SEED}={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().expect("a directory");
    let mut said = Said::default();
    for kill in 0..KILLS {
        let (mut child, mut lines) = start(dir.path(), seed.wrapping_add(kill));
        let first = lines.next().expect("the process says something");
        assert_eq!(first, "O", "kill {kill}");
        // Some die early, most amid the work; some at once after an answer, some a moment later.
        let heard = rng.random_range(1..200);
        for line in lines.by_ref().take(heard) {
            said.hear(&line);
        }
        if rng.random_bool(0.5) {
            let until = Instant::now() + Duration::from_micros(rng.random_range(0..3_000));
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
        child.kill().expect("it runs");
        lines.for_each(|line| said.hear(&line));
        child.wait().expect("it ends");
        check(dir.path(), &mut said, kill).await;
    }
    assert!(said.finished.len() > 100, "hardly anything happened: {} finished", said.finished.len());
    println!("{} put, {} finished, {} deleted", said.put.len(), said.finished.len(), said.deleted.len());
}

async fn check(dir: &Path, said: &mut Said, kill: u64) {
    let store = open(dir).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
    assert_eq!(store.recount().await.expect("counts"), Vec::<String>::new(), "kill {kill}");
    let mut renewals = Vec::new();
    let mut leased = HashMap::new();
    for ids in &said.intended {
        let records = store.get(ids, Parts::ALL).await.expect("reads");
        let deletable = |id: &JobId| said.maybe_deleted.contains(id);
        let there = records.iter().filter(|record| record.is_some()).count();
        let gone = ids.iter().filter(|id| deletable(id)).count();
        let acknowledged = said.put.contains(&ids[0]);
        assert!(
            there + gone >= ids.len() || there == 0 && !acknowledged,
            "kill {kill}: {there} of {} jobs of one call are there (acknowledged: {acknowledged})",
            ids.len()
        );
        for (id, record) in ids.iter().zip(records) {
            let Some(record) = record else { continue };
            assert!(!said.deleted.contains(id), "kill {kill}: {id} is there again");
            assert_eq!(record.body.expect("a body").task, task(*id), "kill {kill}");
            let state = record.meta.state;
            if said.finished.contains(id) {
                assert_eq!(state, State::Succeeded, "kill {kill}: the outcome of {id} is lost");
            }
            match state {
                State::Succeeded => assert_eq!(record.outcome, Some(result(*id)), "kill {kill}"),
                State::Running => {
                    let lease = (*id, record.meta.delivery);
                    if let Some(secret) = said.leased.get(&lease) {
                        leased.insert(lease, *secret);
                        renewals.push(Op {
                            id: *id,
                            guard: Guard::Token(*secret),
                            act: Act::Extend { lease_ms: 60_000, started: true, progress: None, checkpoint: None },
                        });
                    }
                }
                State::Ready => {}
                _ => panic!("kill {kill}: {id} is {state:?}"),
            }
        }
    }
    // Claims are not waited for: one that was lost will be made anew, with another secret.
    said.leased = leased;
    // Whoever still works on a job may go on.
    let verdicts = store.apply(SHARD, renewals).await.expect("open");
    let refused = verdicts.iter().find(|verdict| !matches!(verdict, Verdict::Done(_)));
    assert_eq!(refused, None, "kill {kill}: a lease is lost");
    store.close().await;
}

#[test]
fn a_second_process_is_told_who_has_the_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut first, mut lines) = start(dir.path(), 1);
    assert_eq!(lines.next().expect("the process says something"), "O");
    let refusal = open(dir.path()).err().expect("refused").to_string();
    assert!(refusal.contains(&format!("process {}", first.id())), "{refusal}");
    let (mut second, mut second_lines) = start(dir.path(), 2);
    let heard = second_lines.next().expect("the process says something");
    assert!(heard.starts_with("R ") && heard.contains(&format!("process {}", first.id())), "{heard}");
    second.wait().expect("it ends by itself");
    first.kill().expect("it runs");
    first.wait().expect("it ends");
    open(dir.path()).expect("free again");
}
