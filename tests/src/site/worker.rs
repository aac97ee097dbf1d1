//! A conformance worker at work on a [`Site`].
use std::{fs, path::PathBuf, thread};

use jobwire_proto::v1::{GetWorkerRequest, Worker as Session};

use super::Site;
use crate::{
    ledger::{Run, read},
    process::{Process, Signal},
    wait::LONG,
    worker::Sdk,
};

/// A conformance worker, and the file it writes its starts and ends to.
#[derive(Debug)]
pub struct Worker {
    /// Its language.
    pub sdk: Sdk,
    /// Its process.
    pub process: Process,
    log: PathBuf,
}

impl Worker {
    pub(super) fn start(sdk: Sdk, name: &str, site: &Site, env: &[(&str, &str)]) -> Self {
        let log = site.dir.path().join(format!("{name}.worker"));
        let path = log.to_str().expect("a plain path").to_owned();
        let env = env.iter().copied().chain([("CONF_LOG", path.as_str())]);
        let mut process = sdk.start(&site.url(), env);
        assert_eq!(process.first_line(), "ready", "{sdk:?}: {}", process.err.lines().join("\n"));
        Self { sdk, process, log }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it ran.
    pub fn runs(&self) -> Vec<Run> {
        read::runs(&self.log)
    }

    /// Its session, as the servers see it.
    ///
    /// # Panics
    /// When no server answers.
    pub fn session(&self, site: &Site) -> Session {
        let pid = i32::try_from(self.pid()).expect("a small number");
        let mut found =
            site.sessions().into_iter().filter(|session| session.info.as_ref().is_some_and(|info| info.pid == pid));
        found.next().unwrap_or_default()
    }

    /// Ids of the jobs it holds, as the servers see it.
    ///
    /// # Panics
    /// When it is not connected.
    pub fn held(&self, site: &Site) -> Vec<String> {
        let request = GetWorkerRequest { session_id: self.session(site).session_id };
        let mut clients = site.clients();
        let answer = site.runtime.block_on(clients.admin.get_worker(request)).expect("it is connected");
        answer.into_inner().jobs.into_iter().map(|job| job.id).collect()
    }

    /// SIGTERM, and an end with status 0 within 20 s.
    ///
    /// # Panics
    /// When it ends otherwise.
    #[track_caller]
    pub fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        self.ended();
    }

    /// Its end, with status 0.
    ///
    /// # Panics
    /// When it ends otherwise.
    #[track_caller]
    pub fn ended(&mut self) {
        let end = self.process.wait(LONG);
        assert!(
            end.success(),
            "the {} worker ended with {end}: {}",
            self.sdk.name(),
            self.process.err.lines().join("\n")
        );
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = fs::write(self.log.with_extension("err"), self.process.err.lines().join("\n"));
        }
    }
}
