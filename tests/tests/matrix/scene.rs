//! What a producer is asked to do, and what it answers to have seen. Programs get a [`Scene`] as one line of JSON on
//! their standard input and answer with one [`Saw`] on their standard output, in any order.
//!
//! Every producer does the same: enqueues each payload; follows the events of the last job that was taken; hurries it
//! with `retry` and cancels it once it runs, where asked to; awaits the result, the end of the events, and the status.
use jobwire_tests::exact::Exact;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What to do.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    pub r#type: &'static str,
    /// One job each, all with the same options.
    pub payloads: Vec<Exact>,
    pub options: Options,
    /// Start a job that waits, as soon as it is followed.
    pub hurry: bool,
    /// Cancel it for this reason, once it runs.
    pub cancel: Option<&'static str>,
}

/// Options that cells use, named as in Python.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Options {
    pub queue: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<&'static str>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub headers: serde_json::Map<String, serde_json::Value>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Retry {
    pub max_attempts: i32,
    pub initial_delay: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub struct Unique {
    pub key: String,
    pub on_conflict: &'static str,
}

impl Scene {
    /// The line for a program.
    pub fn line(&self, number: usize) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            number: usize,
            r#type: &'a str,
            payloads: Vec<Box<RawValue>>,
            options: &'a Options,
            hurry: bool,
            cancel: Option<&'a str>,
        }
        let raw = |payload: &Exact| RawValue::from_string(payload.marked()).expect("JSON");
        let payloads = self.payloads.iter().map(raw).collect();
        let Self { r#type, options, hurry, cancel, .. } = self;
        let line = Line { number, r#type, payloads, options, hurry: *hurry, cancel: *cancel };
        serde_json::to_string(&line).expect("JSON") + "\n"
    }
}

/// What a producer saw.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Saw {
    pub number: usize,
    /// Something that no producer should meet; nothing else is there then.
    pub fault: Option<String>,
    /// One answer for each payload.
    pub enqueued: Vec<Enqueued>,
    pub result: Option<Exact>,
    /// Raised instead of a result.
    pub error: Option<Error>,
    pub status: Option<Status>,
    /// States in the order of the events; some may be skipped.
    pub states: Vec<String>,
    pub progress: Vec<Progress>,
    /// Level and message.
    pub logs: Vec<(String, String)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Enqueued {
    pub id: String,
    pub status: String,
    pub error: Option<Error>,
}

/// An error of the SDK.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Error {
    pub class: String,
    pub message: String,
    /// Of the failure; empty where there is none.
    pub kind: String,
    pub r#type: String,
    /// Which job is in the way.
    pub job_id: String,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Status {
    pub state: String,
    pub attempt: i32,
    pub delivery: i32,
    pub crashes: i32,
}

#[derive(Debug, Deserialize, PartialEq)]
pub struct Progress {
    pub percent: Option<f64>,
    pub current: i64,
    pub total: i64,
    pub message: String,
    pub data: Option<Exact>,
}
