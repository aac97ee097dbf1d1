//! Who takes jobs: a stream or a long-poll, its window and what of it is in use.
use hashbrown::{HashMap, HashSet};
use tokio::sync::mpsc;

use super::{Freed, Joining, Window};
use crate::{
    engine::session,
    model::{
        ids::{Pattern, QueueName, TypeName},
        worker::Subscription,
    },
};

/// Types that a worker handles.
#[derive(Clone, Debug)]
pub struct Types {
    exact: HashSet<TypeName>,
    prefixes: Vec<Pattern>,
}

impl Types {
    pub fn new(patterns: &[Pattern]) -> Self {
        let mut types = Self { exact: HashSet::new(), prefixes: Vec::new() };
        for pattern in patterns {
            match pattern {
                Pattern::Exact(name) => _ = types.exact.insert(name.clone()),
                Pattern::Prefix(_) => types.prefixes.push(pattern.clone()),
            }
        }
        types
    }

    pub fn handles(&self, kind: &TypeName) -> bool {
        (self.exact.is_empty() && self.prefixes.is_empty())
            || self.exact.contains(kind)
            || self.prefixes.iter().any(|prefix| prefix.matches(kind.as_str()))
    }
}

pub struct Member {
    pub events: mpsc::Sender<session::Event>,
    pub types: Types,
    pub subscriptions: Vec<Subscription>,
    pub window: Window,
    pub in_use: u32,
    pub bytes: u64,
    pub per_queue: HashMap<QueueName, u32>,
    /// The lanes it is a member of.
    pub queues: Vec<QueueName>,
    pub recalling: bool,
}

impl Member {
    pub fn new(joining: Joining) -> Self {
        let Joining { events, types, subscriptions, window, held, .. } = joining;
        let mut member = Self {
            events,
            types,
            subscriptions,
            window,
            in_use: 0,
            bytes: 0,
            per_queue: HashMap::new(),
            queues: Vec::new(),
            recalling: false,
        };
        for held in held {
            member.in_use += held.count;
            member.bytes += held.bytes;
            *member.per_queue.entry(held.queue).or_insert(0) += held.count;
        }
        member
    }

    pub fn free(&self) -> usize {
        if !self.window.accepting || (self.window.max_bytes > 0 && self.bytes >= self.window.max_bytes) {
            return 0;
        }
        self.window.slots.saturating_sub(self.in_use) as usize
    }

    /// Jobs that it runs side by side.
    pub fn concurrency(&self) -> u32 {
        match self.window.concurrency {
            0 => self.window.slots,
            some => some,
        }
    }

    pub fn subscription(&self, queue: &QueueName) -> Option<usize> {
        self.subscriptions.iter().position(|s| s.queue.matches(queue.as_str()))
    }

    pub fn fits(&self, bytes: u64) -> bool {
        self.window.max_bytes == 0 || self.bytes == 0 || self.bytes + bytes <= self.window.max_bytes
    }

    pub fn count(&mut self, queue: &QueueName, bytes: u64) {
        self.in_use += 1;
        self.bytes += bytes;
        *self.per_queue.entry(queue.clone()).or_insert(0) += 1;
    }

    pub fn uncount(&mut self, freed: &Freed) {
        self.in_use = self.in_use.saturating_sub(freed.count);
        self.bytes = self.bytes.saturating_sub(freed.bytes);
        if let Some(held) = self.per_queue.get_mut(&freed.queue) {
            *held = held.saturating_sub(freed.count);
        }
    }
}
