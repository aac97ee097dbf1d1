//! The systems that are compared: their programs, how much work each gets, and how to see that it is done.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use jobwire_redis_rig::Redis;

/// An SDK of Jobwire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sdk {
    Python,
    Node,
    Rust,
}

/// Another system, on a Redis like Jobwire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    Celery,
    Taskiq,
    Bullmq,
}

/// One side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    Jobwire(Sdk),
    Peer(Peer),
}

/// What is done with its programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Obeys the driver
    Produce,
    /// Runs handlers until SIGTERM
    Work,
}

impl Sdk {
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "Python SDK",
            Self::Node => "Node SDK",
            Self::Rust => "Rust SDK",
        }
    }
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Celery => "Celery",
            Self::Taskiq => "Taskiq",
            Self::Bullmq => "BullMQ",
        }
    }

    /// What its installer calls it.
    pub fn id(self) -> &'static str {
        match self {
            Self::Celery => "celery",
            Self::Taskiq => "taskiq",
            Self::Bullmq => "bullmq",
        }
    }

    /// Jobs with a result in `redis`, and jobs that are anything but that.
    pub fn done_and_left(self, redis: &Redis) -> (u64, u64) {
        let number = |command: &[&str]| redis.query::<u64>(command);
        match self {
            Self::Celery => {
                // Every key but these is a result.
                const OTHERS: [&str; 9] = [
                    "celery",
                    "unacked",
                    "unacked_index",
                    "unacked_mutex",
                    "_kombu.binding_deadlines",
                    "_kombu.binding_permanent.celery",
                    "_kombu.binding.celery",
                    "_kombu.binding.celery.pidbox",
                    "_kombu.binding.reply.celery.pidbox",
                ];
                let others = number(&[&["EXISTS"], &OTHERS[..]].concat());
                (number(&["DBSIZE"]) - others, number(&["LLEN", "celery"]) + number(&["HLEN", "unacked"]))
            }
            Self::Taskiq => {
                // Its stream keeps what was acknowledged.
                let pending = redis
                    .try_query::<(u64, redis::Value, redis::Value, redis::Value)>(&["XPENDING", "taskiq", "taskiq"]);
                (number(&["DBSIZE"]) - number(&["EXISTS", "taskiq"]), pending.map_or(0, |(count, ..)| count))
            }
            Self::Bullmq => {
                let list = |name: &str| number(&["LLEN", &format!("bull:bench:{name}")]);
                let set = |name: &str| number(&["ZCARD", &format!("bull:bench:{name}")]);
                (set("completed"), list("wait") + list("active") + set("delayed") + set("failed"))
            }
        }
    }
}

impl System {
    pub fn name(self) -> &'static str {
        match self {
            Self::Jobwire(sdk) => sdk.name(),
            Self::Peer(peer) => peer.name(),
        }
    }

    /// Program and arguments; those of the project lie below `root`.
    pub fn command(self, role: Role, root: &Path) -> (PathBuf, Vec<String>, Option<PathBuf>) {
        let verb = if role == Role::Produce { "produce" } else { "work" };
        let at = |path: &str| root.join(path);
        let run =
            |program: PathBuf, script: &str| (program, vec![at(script).display().to_string(), verb.to_owned()], None);
        let bin = |name: &str| at(".tools/peers/venv/bin").join(name);
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        match (self, role) {
            (Self::Jobwire(Sdk::Python), _) => run(at(".tools/venv/bin/python"), "tests/bench/sdk/bench.py"),
            (Self::Jobwire(Sdk::Node), _) => run("node".into(), "tests/bench/sdk/bench.mjs"),
            (Self::Jobwire(Sdk::Rust), _) => {
                let this = std::env::current_exe().unwrap_or_else(|_| "bench".into());
                (this, vec!["--sdk-program".to_owned(), verb.to_owned()], None)
            }
            (Self::Peer(Peer::Bullmq), _) => run("node".into(), "tests/bench/peers/bullmq/bench.js"),
            (Self::Peer(peer), Role::Produce) => {
                let dir = at("tests/bench/peers").join(peer.id());
                (bin("python"), vec!["produce.py".to_owned()], Some(dir))
            }
            // A process per core: the best that its pool does for short tasks.
            (Self::Peer(Peer::Celery), Role::Work) => {
                let arguments =
                    "-A app worker -l ERROR -P prefork -c 2 --prefetch-multiplier 64 --without-gossip --without-mingle";
                (bin("celery"), words(arguments), Some(at("tests/bench/peers/celery")))
            }
            (Self::Peer(Peer::Taskiq), Role::Work) => {
                let arguments = "worker app:broker --workers 1 --max-async-tasks 100 --log-level ERROR";
                (bin("taskiq"), words(arguments), Some(at("tests/bench/peers/taskiq")))
            }
        }
    }

    /// Handlers at once: the best of the few that were tried.
    pub fn concurrency(self) -> usize {
        match self {
            Self::Jobwire(Sdk::Python) => 250,
            Self::Jobwire(Sdk::Node) => 500,
            Self::Jobwire(Sdk::Rust) => 1_000,
            Self::Peer(_) => 100,
        }
    }

    /// Jobs that take it a few seconds.
    pub fn jobs(self) -> u64 {
        match self {
            Self::Jobwire(Sdk::Python) => 40_000,
            Self::Jobwire(Sdk::Node) => 100_000,
            Self::Jobwire(Sdk::Rust) => 300_000,
            Self::Peer(Peer::Celery) => 4_000,
            Self::Peer(Peer::Taskiq) => 10_000,
            Self::Peer(Peer::Bullmq) => 50_000,
        }
    }

    /// Whether many callers can share a process.
    pub fn has_callers(self) -> bool {
        self != Self::Peer(Peer::Celery)
    }

    /// What its programs read besides.
    pub fn environment(self, root: &Path) -> Vec<(&'static str, String)> {
        vec![
            ("PYTHONPATH", root.join("tests/bench").display().to_string()),
            ("PYTHONUNBUFFERED", "1".to_owned()),
            ("NODE_PATH", super::node_modules().display().to_string()),
            ("NODE_ENV", "production".to_owned()),
            ("BENCH_CONCURRENCY", self.concurrency().to_string()),
        ]
    }
}
