//! What can go wrong with a server of Redis, and what callers are told.
use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use redis::{RedisError, ServerError};

use crate::store::{StoreError, redis::target::Addr};

/// Why an exchange with one server failed.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// No connection, it broke, or there was no answer in time.
    Gone(String),
    /// The server answered, with an error.
    Said { code: String, text: String },
    /// Waiting will not help: certificates, the wrong kind of server.
    Wrong(String),
}

/// What a fault says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Keep,
    /// Dial anew: the server hangs, or is no longer the one to write to.
    Redial,
    /// The servers have changed places: ask where things are.
    Refresh,
}

impl Fault {
    pub(crate) fn of(error: &RedisError) -> Self {
        if error.is_timeout() {
            return Self::Gone("no answer in time".to_owned());
        }
        match error.code() {
            Some(code) => {
                Self::Said { code: code.to_owned(), text: error.detail().unwrap_or("without a word").to_owned() }
            }
            None => Self::Gone(error.to_string()),
        }
    }

    pub(crate) fn said(error: &ServerError) -> Self {
        Self::Said { code: error.code().to_owned(), text: error.details().unwrap_or_default().to_owned() }
    }

    pub(crate) fn io(what: &str, error: impl std::fmt::Display) -> Self {
        Self::Gone(format!("{what}: {error}"))
    }

    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Said { code, .. } => code,
            Self::Gone(_) | Self::Wrong(_) => "",
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match (self, self.code()) {
            (Self::Gone(_), _) | (_, "READONLY" | "MASTERDOWN") => Verdict::Redial,
            (_, "MOVED" | "CLUSTERDOWN") => Verdict::Refresh,
            _ => Verdict::Keep,
        }
    }

    /// Credentials, rights, certificates: only a person can help.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Self::Wrong(_)) || matches!(self.code(), "WRONGPASS" | "NOAUTH" | "NOPERM" | "DENIED")
    }

    /// In words, without the address.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Gone(text) | Self::Wrong(text) => text.clone(),
            Self::Said { code, text } => format!("{code} {text}").trim_end().to_owned(),
        }
    }

    /// For whoever opens the store: denials are refused, everything else may pass.
    pub(crate) fn at_open(&self, addr: &Addr) -> StoreError {
        match self {
            Self::Wrong(text) => StoreError::Refused(format!("Redis at {addr}: {text}")),
            fault if fault.is_denial() => StoreError::Refused(format!(
                "Redis at {addr} does not let us in: {}; check user, password and rights (docs/operations.md)",
                fault.words()
            )),
            fault => StoreError::Unavailable(format!("{addr}: {}", fault.words())),
        }
    }

    /// For whoever made a call. Errors that are nobody's outage are logged: denials once a minute, bugs every time.
    pub(crate) fn in_call(&self, addr: &Addr) -> StoreError {
        let words = self.words();
        match self.code() {
            "OOM" => return StoreError::Full(format!("Redis at {addr} is at maxmemory")),
            _ if self.is_denial() => {
                if DENIALS.lock().allows() {
                    tracing::error!(%addr, error = words, "Redis denies access");
                }
            }
            "" | "LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MISCONF" | "BUSY"
            | "NOREPLICAS" | "MOVED" | "ASK" | "UNKILLABLE" => {}
            _ => tracing::error!(%addr, error = words, "Redis refuses a command of ours: a bug"),
        }
        StoreError::Unavailable(format!("{addr}: {words}"))
    }
}

static DENIALS: LazyLock<Mutex<Seldom>> = LazyLock::new(Mutex::default);

/// Lets one through a minute.
#[derive(Default)]
pub(crate) struct Seldom(Option<Instant>);

impl Seldom {
    const EVERY: Duration = Duration::from_secs(60);

    pub(crate) fn allows(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= Self::EVERY);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str) -> Fault {
        Fault::Said { code: code.to_owned(), text: "so".to_owned() }
    }

    #[test]
    fn outages_are_unavailable_and_a_full_redis_is_full() {
        let addr = Addr::Tcp { host: "r".to_owned(), port: 1 };
        for code in ["LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "BUSY", "NOREPLICAS"] {
            assert!(
                matches!(said(code).in_call(&addr), StoreError::Unavailable(text) if text == format!("r:1: {code} so"))
            );
            assert!(matches!(said(code).at_open(&addr), StoreError::Unavailable(_)));
        }
        assert!(matches!(said("OOM").in_call(&addr), StoreError::Full(_)));
        assert!(matches!(said("ERR").in_call(&addr), StoreError::Unavailable(_)));
    }

    #[test]
    fn denials_are_refused_at_the_start_only() {
        let addr = Addr::Tcp { host: "r".to_owned(), port: 1 };
        for code in ["WRONGPASS", "NOAUTH", "NOPERM"] {
            assert!(matches!(said(code).at_open(&addr), StoreError::Refused(_)));
            assert!(matches!(said(code).in_call(&addr), StoreError::Unavailable(_)));
        }
    }

    #[test]
    fn what_changed_places_is_looked_for() {
        assert_eq!(said("READONLY").verdict(), Verdict::Redial);
        assert_eq!(Fault::Gone("x".to_owned()).verdict(), Verdict::Redial);
        assert_eq!(said("CLUSTERDOWN").verdict(), Verdict::Refresh);
        assert_eq!(said("OOM").verdict(), Verdict::Keep);
    }
}
