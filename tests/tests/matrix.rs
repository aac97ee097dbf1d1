//! Three producers, three workers, everything that a job can do: whatever one language puts in, another takes out.
//! One test per cell; `cargo test -p jobwire-tests --test matrix -- "python to node"` runs those of a pair.
//!
//! One server, each producer and each worker are started once and shared by all cells, which run side by side.
#[path = "matrix/bodies.rs"]
mod bodies;
#[path = "matrix/cells.rs"]
mod cells;
#[path = "matrix/own.rs"]
mod own;
#[path = "matrix/producer.rs"]
mod producer;
#[path = "matrix/scene.rs"]
mod scene;

use std::{
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Instant,
};

use cells::{CELLS, Cell};
use jobwire_proto::v1::{Job, JobState, Payload, payload::Body};
use jobwire_tests::{
    site::{Site, Worker},
    wait::{LONG, wait_for},
    worker::Sdk,
};
use libtest_mimic::{Arguments, Failed, Trial};
use producer::Producer;

/// Cells wait most of the time.
const AT_ONCE: usize = 24;

/// Everybody, in the order of [`Sdk::ALL`].
struct Stage {
    site: Site,
    producers: [Producer; 3],
    workers: [Worker; 3],
}

impl Stage {
    fn open() -> Self {
        let site = Site::open();
        let workers = Sdk::ALL
            .map(|sdk| site.worker(sdk, sdk.name(), &[("CONF_QUEUES", sdk.name()), ("CONF_CONCURRENCY", "64")]));
        let producers = Sdk::ALL.map(|sdk| Producer::start(sdk, &site.url()));
        Self { site, producers, workers }
    }

    fn play(&self, cell: &Cell, place: &str, producer: usize, worker: usize) -> Result<(), Failed> {
        let scene = (cell.scene)(place, Sdk::ALL[worker].name());
        let began = Instant::now();
        let saw = self.producers[producer].play(&scene)?;
        let took = began.elapsed();
        (cell.check)(&saw);
        assert!(took >= cell.takes, "it took only {took:?}, not {:?}", cell.takes);
        Ok(())
    }

    /// One trace from a Node producer to a Python worker, and to the child that this one enqueues with its outcome for a
    /// Rust worker: headers are carried unread, and handed on.
    fn trace(&self) -> Result<(), Failed> {
        let saw = self.producers[at(Sdk::Node)].play(&cells::parent(Sdk::Python.name(), Sdk::Rust.name()))?;
        let parent = saw.enqueued[0].id.clone();
        let mut children = Vec::new();
        wait_for("the child has run", LONG, || {
            children = self.site.jobs("type = conf.context");
            children.retain(|job| job.state() == JobState::Succeeded && text(payload(job)).contains(&parent));
            !children.is_empty()
        });
        assert_eq!(children.len(), 1, "once");
        let seen = text(children[0].result.clone().unwrap_or_default());
        assert!(seen.contains(bodies::TRACE_ID), "the handler of the child saw {seen}");
        Ok(())
    }

    /// Everybody ends well, and the server has not complained.
    fn close(self) {
        let Self { site, producers, mut workers } = self;
        producers.into_iter().for_each(Producer::end);
        workers.iter_mut().for_each(Worker::stop);
        drop(site);
    }
}

fn at(sdk: Sdk) -> usize {
    Sdk::ALL.iter().position(|one| *one == sdk).expect("it is one of all")
}

fn payload(job: &Job) -> Payload {
    job.spec.as_ref().and_then(|spec| spec.payload.clone()).unwrap_or_default()
}

fn text(payload: Payload) -> String {
    match payload.body {
        Some(Body::Text(text)) => text,
        other => panic!("{other:?} is no text"),
    }
}

/// Opened by the first cell.
type Shared = Arc<OnceLock<Stage>>;

fn trials(stage: &Shared) -> Vec<Trial> {
    let traced = stage.clone();
    let mut trials =
        vec![Trial::test("trace: node to python to rust", move || traced.get_or_init(Stage::open).trace())];
    for (producer, from) in Sdk::ALL.into_iter().enumerate() {
        for (worker, to) in Sdk::ALL.into_iter().enumerate() {
            for cell in CELLS {
                let (stage, name) = (stage.clone(), format!("{} to {}: {}", from.name(), to.name(), cell.name));
                trials.push(Trial::test(name.clone(), move || {
                    stage.get_or_init(Stage::open).play(cell, &name, producer, worker)
                }));
            }
        }
    }
    trials
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let stage = Shared::default();
    let conclusion = libtest_mimic::run(&arguments, trials(&stage));
    if let Some(stage) = Arc::into_inner(stage).and_then(OnceLock::into_inner) {
        stage.close();
    }
    conclusion.exit_code()
}
