//! What happened here, counted: totals for metrics, rates and percentiles of the last minute for people. Per server, in
//! memory. The hot path touches atomics of one (queue, type) and no label strings.
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use hashbrown::HashMap;
use parking_lot::RwLock;

use super::{Counter, Percentiles, Rates, invariants};
use crate::model::{
    ids::{QueueName, TypeName},
    job::{AttemptResult, FailureKind, Meta},
    op::Leased,
    state::{State, StateSet},
    time::Clock,
    worker::{Ended, Rejection, RejectionReason, Report},
};

/// Everything counted for one type in one queue.
#[derive(Default)]
pub struct TypeMeters {
    pub enqueued: AtomicU64,
    /// Indexed by `State`.
    pub finished: [AtomicU64; 11],
    /// Indexed by `AttemptResult`.
    pub attempts: [AtomicU64; 8],
    /// Leases that ran out: those whose handler had not started, and those whose had.
    pub expired: [AtomicU64; 2],
    minute: Minute,
}

/// Counters of the server as a whole.
#[derive(Default)]
pub struct Totals {
    pub recalls: AtomicU64,
    pub resumes: AtomicU64,
    /// Indexed by `RejectionReason`.
    pub rejected: [AtomicU64; 6],
    pub finished_by_time: [AtomicU64; 11],
}

const RESULTS: [(AttemptResult, &str); 7] = [
    (AttemptResult::Succeeded, "succeeded"),
    (AttemptResult::Failed, "failed"),
    (AttemptResult::TimedOut, "timed_out"),
    (AttemptResult::Lost, "lost"),
    (AttemptResult::Snoozed, "snoozed"),
    (AttemptResult::Released, "released"),
    (AttemptResult::Cancelled, "cancelled"),
];

const REJECTIONS: [(RejectionReason, &str); 5] = [
    (RejectionReason::Superseded, "superseded"),
    (RejectionReason::Finished, "finished"),
    (RejectionReason::UnknownLease, "unknown_lease"),
    (RejectionReason::Invalid, "invalid"),
    (RejectionReason::Unsupported, "unsupported"),
];

pub struct Meters {
    clock: Arc<dyn Clock>,
    types: RwLock<HashMap<(QueueName, TypeName), Arc<TypeMeters>>>,
    pub totals: Totals,
}

impl Meters {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, types: RwLock::default(), totals: Totals::default() }
    }

    fn of(&self, queue: &QueueName, kind: &TypeName) -> Arc<TypeMeters> {
        // `Equivalent` look-ups by a pair of references would save the two clones; they are reference counts.
        let key = (queue.clone(), kind.clone());
        if let Some(found) = self.types.read().get(&key) {
            return found.clone();
        }
        self.types.write().entry(key).or_default().clone()
    }

    /// For counting the events of one batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch { meters: self, second: self.second(), last: None }
    }

    /// Jobs that a schedule enqueued.
    pub fn fired(&self, queue: &QueueName, kind: &TypeName, jobs: usize) {
        let mut batch = self.batch();
        (0..jobs).for_each(|_| batch.enqueued(queue, kind));
    }

    pub fn started(&self, jobs: &[Leased]) {
        let mut batch = self.batch();
        for job in jobs {
            let (_, slot) = batch.of(&job.meta.queue, &job.meta.kind);
            slot.started.fetch_add(1, Relaxed);
            slot.wait.add(job.meta.start_ms - job.meta.ready_ms);
        }
    }

    pub fn rejected(&self, rejections: &[Rejection]) {
        for rejection in rejections {
            self.totals.rejected[rejection.reason as usize].fetch_add(1, Relaxed);
        }
    }

    pub fn lease_expired(&self, meta: &Meta) {
        self.of(&meta.queue, &meta.kind).expired[usize::from(meta.started)].fetch_add(1, Relaxed);
    }

    pub fn ended_by_time(&self, state: State) {
        self.totals.finished_by_time[state as usize].fetch_add(1, Relaxed);
    }

    /// Every (queue, type) seen here, for metrics.
    pub fn types(&self) -> Vec<((QueueName, TypeName), Arc<TypeMeters>)> {
        self.types.read().iter().map(|(key, meters)| (key.clone(), meters.clone())).collect()
    }

    pub fn counters(&self) -> Vec<Counter> {
        let mut counters = Vec::new();
        let mut add = |name, labels: &[&str], value: u64| {
            if value > 0 {
                let labels = labels.iter().map(|label| (*label).to_owned()).collect();
                counters.push(Counter { name, labels, value });
            }
        };
        let mut expired: BTreeMap<(QueueName, bool), u64> = BTreeMap::new();
        for ((queue, kind), meters) in self.types() {
            for started in [false, true] {
                let count = meters.expired[usize::from(started)].load(Relaxed);
                *expired.entry((queue.clone(), started)).or_default() += count;
            }
            let (queue, kind) = (queue.as_str(), kind.as_str());
            add("jobs_enqueued_total", &[queue, kind], meters.enqueued.load(Relaxed));
            for state in StateSet::TERMINAL.iter() {
                let name = state.name().to_lowercase();
                add("jobs_finished_total", &[queue, kind, &name], meters.finished[state as usize].load(Relaxed));
            }
            for (result, name) in RESULTS {
                add("attempts_total", &[queue, kind, name], meters.attempts[result as usize].load(Relaxed));
            }
        }
        for (reason, name) in REJECTIONS {
            add("outcomes_rejected_total", &[name], self.totals.rejected[reason as usize].load(Relaxed));
        }
        for ((queue, started), count) in expired {
            add("leases_expired_total", &[queue.as_str(), if started { "yes" } else { "no" }], count);
        }
        add("recalls_total", &[], self.totals.recalls.load(Relaxed));
        add("stream_resumes_total", &["resumed"], self.totals.resumes.load(Relaxed));
        for (id, count) in invariants::violations() {
            add("invariant_violations_total", &[id], count);
        }
        counters
    }

    /// The last minute, per queue.
    pub fn rates(&self) -> BTreeMap<QueueName, Rates> {
        let now = self.second();
        let mut sums: BTreeMap<QueueName, Sum> = BTreeMap::new();
        for ((queue, _), meters) in self.types.read().iter() {
            sums.entry(queue.clone()).or_default().add(&meters.minute, now);
        }
        sums.into_iter().map(|(queue, sum)| (queue, sum.rates())).collect()
    }

    fn second(&self) -> i64 {
        self.clock.now().mono_ms / 1_000
    }
}

/// Counts events that come together. Most are of one queue and type, which is looked up once for a run of them.
pub struct Batch<'a> {
    meters: &'a Meters,
    second: i64,
    last: Option<(QueueName, TypeName, Arc<TypeMeters>)>,
}

impl Batch<'_> {
    fn of(&mut self, queue: &QueueName, kind: &TypeName) -> (&TypeMeters, &Slot) {
        if !self.last.as_ref().is_some_and(|(q, k, _)| q == queue && k == kind) {
            self.last = Some((queue.clone(), kind.clone(), self.meters.of(queue, kind)));
        }
        let (_, _, meters) = self.last.as_ref().expect("just set");
        (meters, meters.minute.at(self.second))
    }

    pub fn enqueued(&mut self, queue: &QueueName, kind: &TypeName) {
        let (meters, slot) = self.of(queue, kind);
        meters.enqueued.fetch_add(1, Relaxed);
        slot.enqueued.fetch_add(1, Relaxed);
    }

    /// An outcome was applied and left the job in `state`.
    pub fn ended(&mut self, meta: &Meta, report: &Report, state: State) {
        let (meters, slot) = self.of(&meta.queue, &meta.kind);
        let result = match &report.ended {
            Ended::Succeeded { .. } => AttemptResult::Succeeded,
            Ended::Failed { failure, .. } if failure.kind == FailureKind::Timeout => AttemptResult::TimedOut,
            Ended::Failed { .. } => AttemptResult::Failed,
            Ended::Snoozed { .. } => AttemptResult::Snoozed,
            Ended::Cancelled { .. } => AttemptResult::Cancelled,
            Ended::Released { .. } => AttemptResult::Released,
        };
        meters.attempts[result as usize].fetch_add(1, Relaxed);
        match report.ended {
            Ended::Succeeded { .. } => slot.succeeded.fetch_add(1, Relaxed),
            Ended::Failed { .. } => slot.failed.fetch_add(1, Relaxed),
            Ended::Snoozed { .. } | Ended::Cancelled { .. } | Ended::Released { .. } => 0,
        };
        if let Some(run_ms) = report.run_ms {
            slot.run.add(run_ms);
        }
        if state.is_terminal() {
            meters.finished[state as usize].fetch_add(1, Relaxed);
        }
    }
}

/// Ten slots of six seconds; a slot is wiped when its time comes round again.
#[derive(Default)]
struct Minute {
    slots: [Slot; Minute::SLOTS],
}

impl Minute {
    const SLOTS: usize = 10;
    const SECONDS: i64 = 6;

    fn at(&self, second: i64) -> &Slot {
        let era = second / Self::SECONDS + 1;
        let slot = &self.slots[era as usize % Self::SLOTS];
        if slot.era.load(Relaxed) != era && slot.era.swap(era, Relaxed) != era {
            slot.wipe();
        }
        slot
    }
}

#[derive(Default)]
struct Slot {
    /// Which six seconds since the start of the clock, from 1; 0 = unused.
    era: AtomicI64,
    enqueued: AtomicU64,
    started: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    wait: Histogram,
    run: Histogram,
}

impl Slot {
    fn wipe(&self) {
        for counter in [&self.enqueued, &self.started, &self.succeeded, &self.failed] {
            counter.store(0, Relaxed);
        }
        self.wait.wipe();
        self.run.wipe();
    }
}

/// Counts of milliseconds by powers of √2: percentiles within a fifth of the truth, in 256 bytes.
struct Histogram([AtomicU32; Histogram::BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Histogram {
    const BUCKETS: usize = 64;

    fn add(&self, ms: i64) {
        self.0[Self::bucket(ms)].fetch_add(1, Relaxed);
    }

    fn bucket(ms: i64) -> usize {
        let ms = ms.max(0) as f64;
        ((ms + 1.0).log2() * 2.0).round().min(Self::BUCKETS as f64 - 1.0) as usize
    }

    /// The value in the middle of a bucket.
    fn value(bucket: usize) -> f64 {
        2f64.powf(bucket as f64 / 2.0) - 1.0
    }

    fn wipe(&self) {
        for bucket in &self.0 {
            bucket.store(0, Relaxed);
        }
    }
}

#[derive(Default)]
struct Sum {
    enqueued: u64,
    started: u64,
    succeeded: u64,
    failed: u64,
    wait: Vec<u64>,
    run: Vec<u64>,
}

impl Sum {
    fn add(&mut self, minute: &Minute, second: i64) {
        let era = second / Minute::SECONDS + 1;
        self.wait.resize(Histogram::BUCKETS, 0);
        self.run.resize(Histogram::BUCKETS, 0);
        for slot in &minute.slots {
            let age = era - slot.era.load(Relaxed);
            if slot.era.load(Relaxed) == 0 || age >= Minute::SLOTS as i64 {
                continue;
            }
            self.enqueued += slot.enqueued.load(Relaxed);
            self.started += slot.started.load(Relaxed);
            self.succeeded += slot.succeeded.load(Relaxed);
            self.failed += slot.failed.load(Relaxed);
            for (sum, bucket) in self.wait.iter_mut().zip(&slot.wait.0) {
                *sum += u64::from(bucket.load(Relaxed));
            }
            for (sum, bucket) in self.run.iter_mut().zip(&slot.run.0) {
                *sum += u64::from(bucket.load(Relaxed));
            }
        }
    }

    fn rates(self) -> Rates {
        let per_second = |count: u64| count as f64 / (Minute::SLOTS as i64 * Minute::SECONDS) as f64;
        Rates {
            enqueued: per_second(self.enqueued),
            started: per_second(self.started),
            succeeded: per_second(self.succeeded),
            failed: per_second(self.failed),
            wait: percentiles(&self.wait),
            run: percentiles(&self.run),
        }
    }
}

fn percentiles(buckets: &[u64]) -> Percentiles {
    let total: u64 = buckets.iter().sum();
    let at = |share: f64| {
        let wanted = (total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(0.0, Histogram::value)
    };
    if total == 0 {
        return Percentiles::default();
    }
    Percentiles { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::ManualClock;

    #[test]
    fn a_minute_is_remembered_and_then_forgotten() {
        let clock = Arc::new(ManualClock::at(0));
        let meters = Meters::new(clock.clone());
        let queue: QueueName = "q".parse().expect("a name");
        for _ in 0..60 {
            meters.batch().enqueued(&queue, &queue);
        }
        assert_eq!(meters.rates()[&queue].enqueued, 1.0);
        clock.advance(50_000);
        assert_eq!(meters.rates()[&queue].enqueued, 1.0);
        clock.advance(15_000);
        assert_eq!(meters.rates()[&queue].enqueued, 0.0);
    }

    #[test]
    fn percentiles_are_within_a_fifth() {
        let histogram = Histogram::default();
        for ms in 1..=1_000 {
            histogram.add(ms);
        }
        let counts: Vec<u64> = histogram.0.iter().map(|b| u64::from(b.load(Relaxed))).collect();
        let found = percentiles(&counts);
        assert!((400.0..600.0).contains(&found.p50), "{}", found.p50);
        assert!((790.0..1_200.0).contains(&found.p99), "{}", found.p99);
    }
}
