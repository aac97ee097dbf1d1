//! The three producers: two programs that are talked to, and the Rust SDK in this process.
use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use jobwire_tests::{
    process::{Process, root},
    wait::LONG,
    worker::{Sdk, python},
};

use crate::{
    own::Own,
    scene::{Saw, Scene},
};

/// Longer than a producer waits for a result.
pub const PATIENCE: Duration = Duration::from_secs(35);

/// A producer that plays scenes, many at once.
pub enum Producer {
    Program(Program),
    Own(Own),
}

impl Producer {
    pub fn start(sdk: Sdk, url: &str) -> Self {
        let (program, file) = match sdk {
            Sdk::Rust => return Self::Own(Own::new(url)),
            Sdk::Python => (python(), "matrix_producer.py"),
            Sdk::Node => ("node".into(), "matrix_producer.mjs"),
        };
        let mut command = Command::new(program);
        command.arg(root().join("tests/programs").join(file)).env("JOBWIRE_URL", url);
        Self::Program(Program::start(command))
    }

    /// Plays a scene and waits for what was seen.
    pub fn play(&self, scene: &Scene) -> Result<Saw, String> {
        match self {
            Self::Program(program) => program.play(scene),
            Self::Own(own) => own.play(scene),
        }
    }

    /// Its good end.
    pub fn end(self) {
        if let Self::Program(mut program) = self {
            drop(program.input);
            let end = program.process.wait(LONG);
            assert!(end.success(), "a producer ended with {end}: {}", program.process.err.lines().join("\n"));
        }
    }
}

/// Who waits for the answer to which scene.
type Waiting = Arc<Mutex<HashMap<usize, mpsc::Sender<Saw>>>>;

pub struct Program {
    process: Process,
    input: Mutex<ChildStdin>,
    waiting: Waiting,
    next: AtomicUsize,
}

impl Program {
    fn start(command: Command) -> Self {
        let (process, input, output) = Process::talk(command);
        let waiting = Waiting::default();
        let answers = waiting.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let saw: Saw = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
                if let Some(asker) = answers.lock().expect("no panic in between").remove(&saw.number) {
                    let _ = asker.send(saw);
                }
            }
            // Whoever still waits has waited in vain.
            answers.lock().expect("no panic in between").clear();
        });
        Self { process, input: Mutex::new(input), waiting, next: AtomicUsize::new(1) }
    }

    fn play(&self, scene: &Scene) -> Result<Saw, String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (asker, answer) = mpsc::channel();
        self.waiting.lock().expect("no panic in between").insert(number, asker);
        let line = scene.line(number);
        let written = self.input.lock().expect("no panic in between").write_all(line.as_bytes());
        written.map_err(|error| format!("{error}: {}", self.complaints()))?;
        let saw = answer.recv_timeout(PATIENCE).map_err(|error| format!("{error}: {}", self.complaints()))?;
        saw.fault.clone().map_or(Ok(saw), Err)
    }

    fn complaints(&self) -> String {
        self.process.err.lines().join("\n")
    }
}
