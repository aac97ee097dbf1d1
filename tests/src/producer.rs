//! The producers, one per language: all write the same lines; see `programs/producer.py`.
use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    process::{Process, Signal, root},
    random::now,
    wait::LONG,
    worker::{Sdk, python},
};
use jobwire::{Client, Error, Job};
use serde_json::{Value, json};
use uuid::Uuid;

const LOOPS: usize = 4;
const PAUSE: Duration = Duration::from_millis(150);

/// A producer at work.
#[derive(Debug)]
pub enum Producer {
    /// A program in the SDK's language.
    Program(Process),
    /// The Rust SDK, in a thread.
    Own {
        /// Set to let it end.
        stop: Arc<AtomicBool>,
        /// None: it has ended.
        thread: Option<thread::JoinHandle<()>>,
    },
}

impl Producer {
    /// Starts one against `url`, which may be a list; it writes to `SDK.producer` in `dir`.
    pub fn start(sdk: Sdk, url: &str, dir: &Path) -> Self {
        let log = dir.join(format!("{}.producer", sdk.name()));
        let mut command = match sdk {
            Sdk::Rust => return own(url, &log),
            Sdk::Python => {
                let mut command = Command::new(python());
                command.arg(root().join("tests/programs/producer.py"));
                command
            }
            Sdk::Node => {
                let mut command = Command::new("node");
                command.arg(root().join("tests/programs/producer.mjs"));
                command
            }
        };
        command.env("JOBWIRE_URL", url).env("PRODUCER_NAME", sdk.name()).env("PRODUCER_LOG", log);
        Self::Program(Process::start(command))
    }

    /// Lets it finish what it began.
    ///
    /// # Panics
    /// When it does not end well within 40 s.
    pub fn stop(&mut self) {
        match self {
            Self::Program(process) => {
                process.signal(Signal::TERM);
                let end = process.wait(2 * LONG);
                assert!(end.success(), "a producer ended with {end}: {}", process.err.lines().join("\n"));
            }
            Self::Own { stop, thread } => {
                stop.store(true, Ordering::Relaxed);
                thread.take().expect("stopped once").join().expect("the producer did not panic");
            }
        }
    }
}

fn own(url: &str, log: &Path) -> Producer {
    let stop = Arc::new(AtomicBool::new(false));
    let file = OpenOptions::new().create(true).append(true).open(log).expect("a file");
    let (url, stopped) = (url.to_owned(), stop.clone());
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = Client::connect(url).expect("a good URL");
            let own = Own { client, file, stopped, next: AtomicUsize::new(0) };
            futures::future::join_all((0..LOOPS).map(|_| own.run())).await;
        });
    });
    Producer::Own { stop, thread: Some(thread) }
}

struct Own {
    client: Client,
    file: File,
    stopped: Arc<AtomicBool>,
    next: AtomicUsize,
}

impl Own {
    async fn run(&self) {
        while !self.stopped.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number % 5 == 4 {
                self.many(number).await;
            }
            self.one(number).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One job; every eighth is enqueued again with the same id, which has to make no second job.
    async fn one(&self, number: usize) {
        let key = format!("rust-{number}");
        let (r#type, payload) = match number % 10 {
            9 => ("conf.fail", json!({"key": key, "message": "as planned", "times": 1})),
            5.. => ("conf.sleep", json!({"key": key, "ms": 50 + number * 37 % 451})),
            _ => ("conf.echo", json!({"key": key})),
        };
        let id = Uuid::now_v7().to_string();
        for _ in 0..if number.is_multiple_of(8) { 2 } else { 1 } {
            self.sent(&key);
            let answer = self.client.enqueue_raw(r#type, &payload).id(&id).await;
            self.answered(&key, answer);
        }
    }

    async fn many(&self, number: usize) {
        let keys: Vec<String> = (0..5).map(|part| format!("rust-{number}.{part}")).collect();
        for key in &keys {
            self.sent(key);
        }
        let answers = self.client.enqueue_many_raw("conf.echo", keys.iter().map(|key| json!({"key": key}))).await;
        for (key, answer) in keys.iter().zip(answers) {
            self.answered(key, answer);
        }
    }

    fn sent(&self, key: &str) {
        self.note(&format!("sent {key} {}\n", now()));
    }

    fn answered(&self, key: &str, answer: Result<Job<Value>, Error>) {
        self.note(&match answer {
            Ok(job) => {
                let status = job.enqueue_status().expect("it was enqueued");
                format!("acked {key} {} {status:?} {}\n", job.id(), now())
            }
            Err(error) => format!("failed {key} {} {}\n", now(), error.to_string().replace('\n', " ")),
        });
    }

    fn note(&self, line: &str) {
        (&self.file).write_all(line.as_bytes()).expect("the log can be written");
    }
}
