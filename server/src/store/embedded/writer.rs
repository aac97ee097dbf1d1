//! The thread that writes: takes what has gathered, commits it as one, and only then gives the answers that waited.
//!
//! I1: answers come after the commit. I23: a commit that fails for good ends the process.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    changes::Changes,
    lock::DirLock,
    pipe::{Answer, Check, Group, Pipe, Taken},
    record_log::{CommitError, RecordLog, Safety},
    sides::SideCache,
    space::Space,
};
use crate::store::{Durability, StoreError};

/// Between two tries of a commit that the disk has no room for.
const RETRY: Duration = Duration::from_millis(100);
/// For how long a store that is closing waits for room.
const CLOSING: Duration = Duration::from_secs(5);

/// How a store is, for those outside its threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Open,
    /// Everything that was accepted is kept, and the data can be opened again.
    Closed,
    /// What the disk holds is unknown; nothing is accepted or acknowledged any more.
    Failed(String),
}

/// Told once when the store fails.
pub type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// Reports a failure, whichever thread meets it, and once.
#[derive(Clone)]
pub(crate) struct Alarm {
    pub status: watch::Sender<Status>,
    pub on_fatal: Option<OnFatal>,
    pub pipe: Arc<Pipe>,
}

impl Alarm {
    pub fn raise(&self, what: &str) {
        let first = self.status.send_if_modified(|status| {
            let is_open = *status == Status::Open;
            if is_open {
                *status = Status::Failed(what.to_owned());
            }
            is_open
        });
        self.pipe.give_up();
        if first {
            tracing::error!(error = what, "the store has failed: nothing is accepted any more");
            if let Some(on_fatal) = &self.on_fatal {
                on_fatal(what);
            }
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.raise("a thread of the store panicked");
        }
    }
}

pub(crate) struct Writer {
    pub log: Box<dyn RecordLog>,
    pub pipe: Arc<Pipe>,
    pub sides: Arc<SideCache>,
    pub space: Arc<Space>,
    pub durability: Durability,
    pub sync_interval: Duration,
    pub alarm: Alarm,
    /// Held until the log has been closed.
    pub lock: Option<DirLock>,
    /// FAST: since when something is not safe against power loss.
    pub unsafe_since: Option<Instant>,
}

impl Writer {
    pub fn run(mut self) {
        loop {
            let step = match self.pipe.take(self.deadline()) {
                Taken::Group(group) => self.keep(group),
                Taken::Idle => self.catch_up(),
                Taken::Closed => break,
                Taken::Broken => return,
            };
            if let Err(what) = step {
                self.alarm.raise(&what);
                return;
            }
        }
        let Self { log, alarm, lock, .. } = self;
        match log.close() {
            Ok(()) => {
                drop(lock);
                alarm.status.send_replace(Status::Closed);
            }
            Err(error) => alarm.raise(&error.to_string()),
        }
    }

    fn keep(&mut self, group: Group) -> Result<(), String> {
        let changes = Changes::of(group.writes);
        if !changes.is_empty() {
            self.commit(&changes)?;
        }
        drop(changes);
        self.sides.committed(group.batch);
        group.answers.into_iter().for_each(Answer::give);
        if let Some(check) = group.check {
            self.check(check)?;
        }
        self.log.tidy().or_else(|error| self.bear(error))?;
        self.make_room()
    }

    /// When there is something to do though nothing comes. An idle store that has room does nothing.
    fn deadline(&self) -> Option<Instant> {
        let sync = self.unsafe_since.map(|since| since + self.sync_interval);
        let look = self.space.is_full().then(|| Instant::now() + RETRY);
        sync.into_iter().chain(look).min()
    }

    fn catch_up(&mut self) -> Result<(), String> {
        if self.unsafe_since.is_some_and(|since| since.elapsed() >= self.sync_interval) {
            match self.log.sync() {
                Ok(()) => self.unsafe_since = None,
                Err(error) => self.bear(error)?,
            }
        }
        self.make_room()
    }

    /// Full: what was deleted makes room for the others on this disk, too.
    fn make_room(&mut self) -> Result<(), String> {
        if self.space.is_full() {
            self.log.shrink().or_else(|error| self.bear(error))?;
        }
        self.space.look();
        Ok(())
    }

    /// Commits, however long it takes until there is room.
    fn commit(&mut self, changes: &Changes) -> Result<(), String> {
        let safety = self.safety();
        let mut give_up_at = None;
        loop {
            match self.log.commit(changes, safety) {
                Ok(()) => break,
                Err(CommitError::NoSpace(what)) => {
                    self.space.ran_out();
                    self.log.shrink().or_else(|error| self.bear(error))?;
                    let now = Instant::now();
                    if self.pipe.wait_for_close(now + RETRY) && *give_up_at.get_or_insert(now + CLOSING) <= now {
                        return Err(what);
                    }
                }
                Err(CommitError::Fatal(what)) => return Err(what),
            }
        }
        self.unsafe_since = match safety {
            Safety::PowerLoss => None,
            Safety::Crash => self.unsafe_since.or_else(|| Some(Instant::now())),
        };
        Ok(())
    }

    /// FAST: one commit per interval is a safe one, and makes those before it safe.
    fn safety(&self) -> Safety {
        match (self.durability, self.unsafe_since) {
            (Durability::EmbeddedFast, None) => Safety::Crash,
            (Durability::EmbeddedFast, Some(since)) if since.elapsed() < self.sync_interval => Safety::Crash,
            _ => Safety::PowerLoss,
        }
    }

    /// Errors of work that can be done later: only those are borne that are for want of room.
    fn bear(&self, error: CommitError) -> Result<(), String> {
        match error {
            CommitError::NoSpace(_) => {
                self.space.ran_out();
                Ok(())
            }
            CommitError::Fatal(what) => Err(what),
        }
    }

    fn check(&mut self, check: Check) -> Result<(), String> {
        let Check { jobs, mut found, reply } = check;
        let answer = self.log.verify(jobs).map(|more| {
            found.extend(more);
            found
        });
        let _ = reply.send(answer.map_err(|error| StoreError::Unavailable(error.to_string())));
        Ok(())
    }
}
