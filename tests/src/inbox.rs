//! Frames that came, merged: what counts is what was said, not how it was cut into frames.
use serde_json::{Map, Value, json};

use crate::pattern::{Vars, assign, matches};

/// Which of the two directions of StreamJobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// StreamJobsResponse.
    FromServer,
    /// StreamJobsRequest.
    FromWorker,
}

impl Direction {
    /// Fields whose items stand for themselves, whatever frame they came in.
    fn lists(self) -> &'static [&'static str] {
        match self {
            Self::FromServer => &["jobs", "rejections", "cancels", "recalls", "lost"],
            Self::FromWorker => &["outcomes", "started", "progress", "logs"],
        }
    }

    /// Fields of which the greatest value counts.
    fn counters(self) -> &'static [&'static str] {
        match self {
            Self::FromServer => &["seq", "ackedSeq", "heartbeatSeq"],
            Self::FromWorker => &["seq", "receivedSeq"],
        }
    }

    /// Fields that a case must not leave unlooked at.
    fn weighty(self) -> &'static [&'static str] {
        match self {
            Self::FromServer => &["jobs", "rejections", "cancels", "recalls", "lost", "directive", "goAway"],
            Self::FromWorker => &["outcomes"],
        }
    }
}

/// What has come and was not expected yet.
#[derive(Debug)]
pub struct Inbox {
    direction: Direction,
    waiting: Map<String, Value>,
}

impl Inbox {
    /// An empty one.
    pub fn new(direction: Direction) -> Self {
        Self { direction, waiting: Map::new() }
    }

    /// Takes a frame in. The parts of a `heartbeatAck` become `heartbeatSeq` and `lost`; a log report of n lines becomes
    /// n reports of one.
    pub fn push(&mut self, frame: &Value) {
        let mut frame = frame.clone();
        if let Some(ack) =
            frame.as_object_mut().and_then(|frame| frame.remove("heartbeatAck")).filter(|ack| !ack.is_null())
        {
            frame["heartbeatSeq"] = ack["heartbeatSeq"].clone();
            frame["lost"] = ack["lost"].clone();
        }
        if let Some(reports) = frame["logs"].as_array() {
            let lines = |report: &Value| {
                let token = report["leaseToken"].clone();
                let lines = report["lines"].as_array().cloned().unwrap_or_default();
                lines.into_iter().map(move |line| json!({"leaseToken": token, "lines": [line]})).collect::<Vec<_>>()
            };
            frame["logs"] = reports.iter().flat_map(lines).collect();
        }
        let Value::Object(frame) = frame else { return };
        for (field, value) in frame {
            self.take_in(&field, value);
        }
    }

    fn take_in(&mut self, field: &str, value: Value) {
        let waiting = self.waiting.entry(field).or_insert(Value::Null);
        if self.direction.counters().contains(&field) {
            if value.as_i64() > waiting.as_i64() {
                *waiting = value;
            }
            return;
        }
        let come: Vec<Value> = match value {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            Value::String(text) if text.ends_with("_UNSPECIFIED") => Vec::new(),
            other => vec![other],
        };
        match waiting {
            Value::Array(items) => items.extend(come),
            other => *other = Value::Array(come),
        }
    }

    /// Whether everything in `expected` has come; if so it is taken out. Counters count as come when they are at least
    /// what is expected. Of a field that is no list the occurrences before the one that matches go too.
    pub fn take(&mut self, expected: &Value, vars: &mut Vars) -> bool {
        let mut tried = vars.clone();
        let mut left = self.waiting.clone();
        let Some(wanted) = expected.as_object() else { return false };
        for (field, wanted) in wanted {
            let found = left.entry(field).or_insert(Value::Null);
            let taken = if self.direction.counters().contains(&field.as_str()) {
                crate::pattern::fill(wanted, &tried).is_ok_and(|wanted| {
                    found.as_i64().zip(wanted.as_i64()).is_some_and(|(found, least)| found >= least)
                })
            } else if self.direction.lists().contains(&field.as_str()) {
                take_items(wanted, found, &mut tried)
            } else {
                take_occurrence(wanted, found, &mut tried)
            };
            if !taken {
                return false;
            }
        }
        self.waiting = left;
        *vars = tried;
        true
    }

    /// Whether something of `field` is waiting.
    pub fn has(&self, field: &str) -> bool {
        self.waiting.get(field).and_then(Value::as_array).is_some_and(|items| !items.is_empty())
    }

    /// How many items of `field` wait.
    pub fn count(&self, field: &str) -> usize {
        self.waiting.get(field).and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// Forgets what waits in `field`.
    pub fn clear(&mut self, field: &str) {
        self.waiting.remove(field);
    }

    /// What came, matters, and was never expected.
    pub fn leftovers(&self) -> Vec<String> {
        let weighty = self.direction.weighty().iter().filter(|field| self.has(field));
        weighty.map(|field| format!("{field}: {}", self.waiting[*field])).collect()
    }

    /// Everything that waits, for people.
    pub fn show(&self) -> String {
        let waiting = self.waiting.iter().filter(|(_, value)| !matches!(value, Value::Null) && *value != &json!([]));
        Value::Object(waiting.map(|(field, value)| (field.clone(), value.clone())).collect()).to_string()
    }
}

fn take_items(wanted: &Value, found: &mut Value, vars: &mut Vars) -> bool {
    let (Some(wanted), Some(items)) = (wanted.as_array(), found.as_array_mut()) else { return false };
    let Some(mut places) = assign(wanted, items, vars) else { return false };
    places.sort_unstable();
    places.into_iter().rev().for_each(|place| _ = items.remove(place));
    true
}

fn take_occurrence(wanted: &Value, found: &mut Value, vars: &mut Vars) -> bool {
    let Some(items) = found.as_array_mut() else { return false };
    let Some(place) = items.iter().position(|item| matches(wanted, item, vars)) else { return false };
    items.drain(..=place);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_merged_and_expectations_taken_out() {
        let mut inbox = Inbox::new(Direction::FromServer);
        inbox.push(&json!({"seq": 1, "jobs": [{"leaseToken": "a"}], "ackedSeq": 0}));
        inbox.push(&json!({"seq": 2, "jobs": [{"leaseToken": "b"}], "ackedSeq": 4}));
        inbox.push(&json!({"seq": 3, "jobs": [], "ackedSeq": 0, "heartbeatAck": {"heartbeatSeq": 3, "lost": ["x"]}}));
        let mut vars = Vars::new();
        assert!(!inbox.take(&json!({"ackedSeq": 5}), &mut vars));
        assert!(inbox.take(&json!({"ackedSeq": 3, "jobs": [{"leaseToken": "b"}]}), &mut vars));
        assert!(!inbox.take(&json!({"jobs": [{"leaseToken": "b"}]}), &mut vars));
        assert!(inbox.take(&json!({"heartbeatSeq": 3}), &mut vars));
        assert_eq!(inbox.leftovers(), [r#"jobs: [{"leaseToken":"a"}]"#, r#"lost: ["x"]"#]);
        assert!(inbox.take(&json!({"jobs": [{"leaseToken": "${t}"}], "lost": ["x"]}), &mut vars));
        assert_eq!((vars["t"].as_str(), inbox.leftovers().len()), (Some("a"), 0));
    }

    #[test]
    fn an_occurrence_is_found_among_many_and_nothing_is_taken_in_vain() {
        let mut inbox = Inbox::new(Direction::FromWorker);
        for held in [json!([]), json!(["a"]), json!(["b"])] {
            inbox.push(&json!({"heartbeat": {"held": held}, "state": "WORKER_STATE_UNSPECIFIED"}));
        }
        inbox.push(&json!({"logs": [{"leaseToken": "a", "lines": [{"message": "1"}, {"message": "2"}]}]}));
        let mut vars = Vars::new();
        assert!(!inbox.take(&json!({"heartbeat": {"held": ["a"]}, "outcomes": [{}]}), &mut vars));
        assert!(inbox.take(&json!({"heartbeat": {"held": ["a"]}}), &mut vars));
        assert!(!inbox.take(&json!({"heartbeat": {"held": {"$length": 0}}}), &mut vars));
        assert!(!inbox.has("state") && inbox.has("heartbeat"));
        assert!(
            inbox.take(&json!({"logs": [{"lines": [{"message": "2"}]}, {"lines": [{"message": "1"}]}]}), &mut vars)
        );
    }
}
