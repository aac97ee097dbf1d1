//! Jobs in hand that wait for others of their kind, to be run in one call: a batch may start when it is full, or when its
//! first job has waited for `linger`; until it does start, it grows. A job whose worker has vanished before runs alone, so
//! that it takes no others with it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::lease::Token;

/// Which jobs of a type run in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchRule {
    pub max_size: usize,
    /// From the arrival of the first of them.
    pub linger: Duration,
    /// Only jobs of one fairness key.
    pub by_key: bool,
}

/// Type, fairness key, and the token of one that runs alone.
type Key = (String, String, Option<Token>);

#[derive(Debug, Clone)]
struct Waiting {
    token: Token,
    number: u64,
    arrived: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Gathering {
    rules: HashMap<String, BatchRule>,
    lines: BTreeMap<Key, VecDeque<Waiting>>,
}

impl Gathering {
    pub fn new(rules: HashMap<String, BatchRule>) -> Self {
        Self { rules, lines: BTreeMap::new() }
    }

    /// Whether no handler runs batches.
    pub fn is_idle(&self) -> bool {
        self.rules.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether jobs of this type gather.
    pub fn gathers(&self, r#type: &str) -> bool {
        self.rules.contains_key(r#type)
    }

    /// One more; `number` says who came first.
    pub fn add(&mut self, task: jobwire_proto::v1::Task, crashed: bool, token: Token, number: u64, arrived: Instant) {
        let by_key = self.rules.get(&task.r#type).is_some_and(|rule| rule.by_key);
        let fairness_key = if by_key && !crashed { task.fairness_key } else { String::new() };
        let key = (task.r#type, fairness_key, crashed.then(|| token.clone()));
        self.lines.entry(key).or_default().push_back(Waiting { token, number, arrived });
    }

    /// It goes without having started: cancelled, recalled or lost.
    pub fn forget(&mut self, token: &str) {
        self.lines.retain(|_, line| {
            line.retain(|waiting| &*waiting.token != token);
            !line.is_empty()
        });
    }

    /// When the first job of the batch that may start now came: the oldest of all that may.
    pub fn first(&self, now: Instant) -> Option<u64> {
        let ripe = self.lines.iter().filter(|(key, line)| self.full(key, line) || self.ripe_at(key, line) <= now);
        ripe.map(|(_, line)| line[0].number).min()
    }

    /// Those that go with the job of this number, in order; they stay where they are.
    pub fn batch(&self, number: u64) -> Vec<Token> {
        let found = self.lines.iter().find(|(_, line)| line[0].number == number);
        found.map_or_else(Vec::new, |(key, line)| {
            line.iter().take(self.rule(key).max_size).map(|waiting| waiting.token.clone()).collect()
        })
    }

    /// Takes out the batch that begins with this number.
    pub fn take(&mut self, number: u64) {
        let Some((key, line)) = self.lines.iter().find(|(_, line)| line[0].number == number) else { return };
        let (key, size) = (key.clone(), self.rule(key).max_size.min(line.len()));
        if let Some(line) = self.lines.get_mut(&key) {
            line.drain(..size);
            if line.is_empty() {
                self.lines.remove(&key);
            }
        }
    }

    /// Takes out all of them.
    pub fn clear(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.lines).into_values().flatten().map(|waiting| waiting.token).collect()
    }

    /// When the next batch will have lingered that has not yet.
    pub fn next_at(&self, now: Instant) -> Option<Instant> {
        self.lines.iter().map(|(key, line)| self.ripe_at(key, line)).filter(|at| *at > now).min()
    }

    /// The largest batch.
    pub fn largest(&self) -> usize {
        self.rules.values().map(|rule| rule.max_size).max().unwrap_or(0)
    }

    fn rule(&self, key: &Key) -> BatchRule {
        const ALONE: BatchRule = BatchRule { max_size: 1, linger: Duration::ZERO, by_key: false };
        if key.2.is_some() { ALONE } else { self.rules.get(&key.0).copied().unwrap_or(ALONE) }
    }

    fn full(&self, key: &Key, line: &VecDeque<Waiting>) -> bool {
        line.len() >= self.rule(key).max_size
    }

    fn ripe_at(&self, key: &Key, line: &VecDeque<Waiting>) -> Instant {
        line[0].arrived + self.rule(key).linger
    }
}
