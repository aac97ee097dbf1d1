//! The conformance workers: one small program per SDK, all with the same tasks.
use std::{path::PathBuf, process::Command};

use crate::process::{Process, build_dir, root};

/// An SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// `sdk-python/tests/conformance_worker.py`
    Python,
    /// `sdk-node/tests/conformance-worker.mjs`
    Node,
    /// `sdk-rust/examples/conformance_worker.rs`
    Rust,
}

impl Sdk {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Python, Self::Node, Self::Rust];

    /// Its name in case files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Node => "node",
            Self::Rust => "rust",
        }
    }

    /// Its worker, as a command without environment.
    pub fn command(self) -> Command {
        match self {
            Self::Python => {
                let mut command = Command::new(python());
                command.arg("-u").arg(root().join("sdk-python/tests/conformance_worker.py"));
                command
            }
            Self::Node => {
                let mut command = Command::new("node");
                command.arg(root().join("sdk-node/tests/conformance-worker.mjs"));
                command
            }
            Self::Rust => Command::new(build_dir().join("examples/conformance_worker")),
        }
    }

    /// Starts its worker against `url`, which may be a list. `env`: the `CONF_*` variables.
    pub fn start<'a>(self, url: &str, env: impl IntoIterator<Item = (&'a str, &'a str)>) -> Process {
        let mut command = self.command();
        command.current_dir(root()).env("JOBWIRE_URL", url).envs(env);
        Process::start(command)
    }
}

/// The interpreter that has the Python SDK: `JOBWIRE_PYTHON`, or the one that `make setup` installs.
pub fn python() -> PathBuf {
    std::env::var_os("JOBWIRE_PYTHON").map_or_else(|| root().join(".tools/venv/bin/python"), PathBuf::from)
}
