//! The filter language: a subset of AIP-160 over documented fields. Evaluation and narrowing; no store, no protobuf.
//!
//! `state = DEAD AND (queue = mail OR queue = sms) AND finish_time < "2026-11-01T00:00:00Z" AND NOT tag = "vip*"`
//!
//! `OR` binds tighter than `AND`, so what this file prints always has parentheses. `filter/parse.rs` reads it.
use std::fmt;

use super::{
    ids::{JobId, QueueName},
    state::{State, StateSet},
};

mod parse;
#[cfg(test)]
mod tests;

pub use parse::FilterError;

/// What a field holds, and so which comparisons it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `=`, `!=`, `:`; a trailing `*` matches a prefix.
    Text,
    /// A UUID: `=`, `!=`, `:`.
    Id,
    /// One of these short names, upper case: `=`, `!=`, `:`.
    Enum(&'static [&'static str]),
    /// All operators.
    Number,
    /// All operators; RFC 3339.
    Time,
    /// `true` or `false`: `=`, `!=`, `:`.
    Bool,
}

/// A field that a filter may name. A name ending in `.*` stands for every name with that prefix.
#[derive(Clone, Copy, Debug)]
pub struct FieldDef {
    pub name: &'static str,
    pub kind: Kind,
}

const fn field(name: &'static str, kind: Kind) -> FieldDef {
    FieldDef { name, kind }
}

const JOB_STATES: &[&str] =
    &["SCHEDULED", "BLOCKED", "READY", "RUNNING", "RETRYING", "SUCCEEDED", "DEAD", "CANCELLED", "EXPIRED", "DISCARDED"];

/// Fields of a job.
pub const JOB_FIELDS: &[FieldDef] = &[
    field("id", Kind::Id),
    field("queue", Kind::Text),
    field("state", Kind::Enum(JOB_STATES)),
    field("type", Kind::Text),
    field("tag", Kind::Text),
    field("priority", Kind::Number),
    field("fairness_key", Kind::Text),
    field("workflow_id", Kind::Id),
    field("schedule_id", Kind::Text),
    field("parent_id", Kind::Id),
    field("worker_id", Kind::Text),
    field("failure.type", Kind::Text),
    field("attempt", Kind::Number),
    field("create_time", Kind::Time),
    field("schedule_time", Kind::Time),
    field("start_time", Kind::Time),
    field("finish_time", Kind::Time),
];

/// Fields of a queue.
pub const QUEUE_FIELDS: &[FieldDef] = &[field("name", Kind::Text), field("paused", Kind::Bool)];

/// Fields of a schedule.
pub const SCHEDULE_FIELDS: &[FieldDef] = &[
    field("id", Kind::Text),
    field("type", Kind::Text),
    field("queue", Kind::Text),
    field("paused", Kind::Bool),
    field("tag", Kind::Text),
];

/// Fields of a workflow.
pub const WORKFLOW_FIELDS: &[FieldDef] = &[
    field("id", Kind::Id),
    field("name", Kind::Text),
    field("state", Kind::Enum(crate::model::workflow::FlowState::NAMES)),
    field("tag", Kind::Text),
    field("create_time", Kind::Time),
    field("finish_time", Kind::Time),
    field("parent_workflow_id", Kind::Id),
];

/// Fields of a node of a workflow.
pub const NODE_FIELDS: &[FieldDef] =
    &[field("name", Kind::Text), field("group", Kind::Text), field("state", Kind::Enum(JOB_STATES))];

/// Fields of a connected worker.
pub const WORKER_FIELDS: &[FieldDef] = &[
    field("session_id", Kind::Text),
    field("worker_id", Kind::Text),
    field("state", Kind::Enum(&["ACTIVE", "QUIET", "DRAINING"])),
    field("queue", Kind::Text),
    field("type", Kind::Text),
    field("hostname", Kind::Text),
    field("sdk", Kind::Text),
    field("label.*", Kind::Text),
];

/// A parsed filter. The default one matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    root: Option<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
enum Expr {
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Test(Test),
}

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
struct Test {
    field: String,
    op: Op,
    arg: Arg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Lt,
    Gt,
    Le,
    Ge,
    Has,
}

impl Op {
    const fn sign(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Gt => ">",
            Self::Le => "<=",
            Self::Ge => ">=",
            Self::Has => ":",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Arg {
    Value(Value),
    /// Text that starts like this; the empty one, written `*`, asks whether there is a value at all.
    Prefix(String),
}

/// What a filter demands of indexed fields: a superset of what matches, to narrow the lists that are read.
#[derive(Clone, Debug)]
pub struct Scope {
    pub states: StateSet,
    /// `None` = any.
    pub queues: Option<Vec<QueueName>>,
    /// `None` = any.
    pub ids: Option<Vec<JobId>>,
}

impl Scope {
    const ANY: Self = Self { states: StateSet::ANY, queues: None, ids: None };

    fn and(self, other: Self) -> Self {
        Self {
            states: intersect(self.states, other.states),
            queues: both(self.queues, other.queues),
            ids: both(self.ids, other.ids),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            states: self.states.or(other.states),
            queues: either(self.queues, other.queues),
            ids: either(self.ids, other.ids),
        }
    }
}

fn intersect(a: StateSet, b: StateSet) -> StateSet {
    let states: Vec<State> = a.iter().filter(|state| b.has(*state)).collect();
    StateSet::of(&states)
}

fn both<T: PartialEq>(a: Option<Vec<T>>, b: Option<Vec<T>>) -> Option<Vec<T>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.into_iter().filter(|x| b.contains(x)).collect()),
        (one, None) | (None, one) => one,
    }
}

fn either<T: PartialEq>(a: Option<Vec<T>>, b: Option<Vec<T>>) -> Option<Vec<T>> {
    let (mut all, b) = (a?, b?);
    for x in b {
        if !all.contains(&x) {
            all.push(x);
        }
    }
    Some(all)
}

/// One value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Also enum values, by short upper-case name, and ids, in lower-case hyphenated form.
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
    /// Reads a filter over `fields`. Empty text and `*` match everything. Errors name the position. Parentheses nest at
    /// most 32 deep; the caller bounds the length.
    pub fn parse(text: &str, fields: &[FieldDef]) -> Result<Self, FilterError> {
        parse::parse(text, fields).map(|root| Self { root })
    }

    /// A superset of what matches, by the indexed fields `id`, `queue` and `state`. A row must have exactly one value of
    /// each.
    pub fn scope(&self) -> Scope {
        self.root.as_ref().map_or(Scope::ANY, |root| root.scope(false))
    }

    /// Whether a field is mentioned anywhere.
    pub fn mentions(&self, field: &str) -> bool {
        self.root.as_ref().is_some_and(|root| root.mentions(field))
    }

    /// Whether the row satisfies the filter. An absent value satisfies no comparison but `!=`.
    pub fn matches(&self, row: &dyn Row) -> bool {
        self.root.as_ref().is_none_or(|root| root.matches(row))
    }
}

impl Expr {
    /// The scope of the expression, or of its negation: `NOT` is pushed down to the comparisons.
    fn scope(&self, negated: bool) -> Scope {
        match self {
            Self::Not(inner) => inner.scope(!negated),
            Self::Test(test) => test.scope(negated),
            Self::And(parts) | Self::Or(parts) => {
                let scopes = parts.iter().map(|part| part.scope(negated));
                let all = matches!(self, Self::And(_)) != negated;
                scopes.reduce(|a, b| if all { a.and(b) } else { a.or(b) }).unwrap_or(Scope::ANY)
            }
        }
    }

    fn mentions(&self, field: &str) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().any(|part| part.mentions(field)),
            Self::Not(inner) => inner.mentions(field),
            Self::Test(test) => test.field == field,
        }
    }

    fn matches(&self, row: &dyn Row) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.matches(row)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(row)),
            Self::Not(inner) => !inner.matches(row),
            Self::Test(test) => test.matches(row),
        }
    }
}

impl Test {
    fn scope(&self, negated: bool) -> Scope {
        let wanted = match self.op {
            Op::Eq | Op::Has => !negated,
            Op::Ne => negated,
            Op::Lt | Op::Gt | Op::Le | Op::Ge => return Scope::ANY,
        };
        let Arg::Value(Value::Text(text)) = &self.arg else { return Scope::ANY };
        match (self.field.as_str(), wanted) {
            ("state", wanted) => match State::from_name(text) {
                Some(state) => {
                    let states: Vec<State> = State::ALL.into_iter().filter(|s| (*s == state) == wanted).collect();
                    Scope { states: StateSet::of(&states), ..Scope::ANY }
                }
                None => Scope::ANY,
            },
            ("queue", true) => Scope { queues: Some(text.parse().into_iter().collect()), ..Scope::ANY },
            ("id", true) => Scope { ids: Some(text.parse().into_iter().collect()), ..Scope::ANY },
            _ => Scope::ANY,
        }
    }

    fn matches(&self, row: &dyn Row) -> bool {
        let values = row.values(&self.field);
        match self.op {
            Op::Eq | Op::Has => values.iter().any(|value| self.arg.equals(value)),
            Op::Ne => !values.iter().any(|value| self.arg.equals(value)),
            Op::Lt => values.iter().any(|value| self.arg.order(value).is_some_and(|o| o.is_lt())),
            Op::Gt => values.iter().any(|value| self.arg.order(value).is_some_and(|o| o.is_gt())),
            Op::Le => values.iter().any(|value| self.arg.order(value).is_some_and(|o| o.is_le())),
            Op::Ge => values.iter().any(|value| self.arg.order(value).is_some_and(|o| o.is_ge())),
        }
    }
}

impl Arg {
    fn equals(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Value(wanted), value) => wanted == value,
            (Self::Prefix(prefix), Value::Text(text)) => text.starts_with(prefix.as_str()),
            // Only `*` can be asked of anything but text.
            (Self::Prefix(_), _) => true,
        }
    }

    /// How the value stands to this argument.
    fn order(&self, value: &Value) -> Option<std::cmp::Ordering> {
        match (self, value) {
            (Self::Value(Value::Number(wanted)), Value::Number(number)) => number.partial_cmp(wanted),
            (Self::Value(Value::Time(wanted)), Value::Time(time)) => Some(time.cmp(wanted)),
            _ => None,
        }
    }
}

/// Prints a filter that reads back as the same one, with parentheses around every inner AND and OR.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            None => f.write_str("*"),
            Some(root) => root.fmt(f),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(parts) => join(f, parts, " AND "),
            Self::Or(parts) => join(f, parts, " OR "),
            Self::Not(inner) => {
                f.write_str("NOT ")?;
                inner.part(f)
            }
            Self::Test(test) => write!(f, "{} {} {}", test.field, test.op.sign(), test.arg),
        }
    }
}

impl Expr {
    fn part(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self, Self::Test(_)) { write!(f, "{self}") } else { write!(f, "({self})") }
    }
}

fn join(f: &mut fmt::Formatter<'_>, parts: &[Expr], between: &str) -> fmt::Result {
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            f.write_str(between)?;
        }
        part.part(f)?;
    }
    Ok(())
}

impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(Value::Text(text)) => write!(f, "\"{}\"", Escaped(text)),
            Self::Value(Value::Number(number)) => write!(f, "{number}"),
            Self::Value(Value::Bool(yes)) => write!(f, "{yes}"),
            Self::Value(Value::Time(ms)) => match jiff::Timestamp::from_millisecond(*ms) {
                Ok(time) => write!(f, "\"{time}\""),
                Err(_) => write!(f, "{ms}"),
            },
            Self::Prefix(prefix) if prefix.is_empty() => f.write_str("*"),
            Self::Prefix(prefix) => write!(f, "\"{}*\"", Escaped(prefix)),
        }
    }
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if matches!(c, '"' | '\\' | '*') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        Ok(())
    }
}
