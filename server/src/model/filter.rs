//! The filter language: a subset of AIP-160 over documented fields. Parsing and evaluation; no store, no protobuf.
use super::{
    ids::{JobId, QueueName},
    state::StateSet,
};

/// A parsed filter.
#[derive(Clone, Debug, Default)]
pub struct Filter {}

/// What a filter demands of indexed fields: a superset of what matches, to narrow the lists that are read.
#[derive(Clone, Debug)]
pub struct Scope {
    pub states: StateSet,
    /// `None` = any.
    pub queues: Option<Vec<QueueName>>,
    /// `None` = any.
    pub ids: Option<Vec<JobId>>,
}

/// One value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Number(f64),
    /// Wall clock, milliseconds.
    Time(i64),
    Bool(bool),
}

/// A row that a filter is held against. A field that is absent has no values; a repeated one has several.
pub trait Row {
    fn values(&self, field: &str) -> Vec<Value>;
}

impl Filter {
    pub fn scope(&self) -> Scope {
        Scope { states: StateSet::ANY, queues: None, ids: None }
    }

    /// Whether a field is mentioned anywhere.
    pub fn mentions(&self, _field: &str) -> bool {
        false
    }

    pub fn matches(&self, _row: &dyn Row) -> bool {
        true
    }
}
