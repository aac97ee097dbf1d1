//! What leaves: outcomes, receipts, heartbeats, and the frames that carry them.

use std::time::Instant;

use jobwire_proto::v1 as pb;
use prost::Message;

use super::lease::{Lease, Report, released, unprocessable};
use super::{MESSAGE_MARGIN, Session};

impl Session {
    pub(super) fn capacity(&self) -> pb::Capacity {
        pb::Capacity {
            slots: i32::try_from(self.config.concurrency + self.prefetch).unwrap_or(i32::MAX),
            max_bytes: 0,
            concurrency: i32::try_from(self.config.concurrency).unwrap_or(i32::MAX),
        }
    }

    /// In full for handlers with a mean under 1 s, none above 10 s, in proportion between; a batch has to find room.
    pub(super) fn wanted_prefetch(&self) -> usize {
        let (concurrency, largest) = (self.config.concurrency, self.gathering.largest());
        let least = largest.saturating_sub(concurrency);
        let full = concurrency.min(16).max((2 * largest).saturating_sub(concurrency));
        self.config.prefetch.unwrap_or_else(|| match self.mean_run.map_or(0.0, |mean| mean.as_secs_f64()) {
            mean if mean <= 1.0 => full,
            mean if mean >= 10.0 => least,
            mean => least.max((full as f64 * (10.0 - mean) / 9.0).round() as usize),
        })
    }

    pub(super) fn give_back(&mut self, token: &str, reason: &str, now: Instant) {
        if let Some(lease) = self.drop_unstarted(token) {
            let outcome = pb::Outcome { result: Some(released(reason)), ..Default::default() };
            self.report(token, lease, outcome, now);
        }
    }

    pub(super) fn report(&mut self, token: &str, lease: Lease, outcome: pb::Outcome, now: Instant) {
        let mut outcome = self.fitting(outcome);
        outcome.lease_token = token.to_owned();
        self.outbox.push(Report { outcome, task: lease.task, bytes: 0, seq: 0, rearmed: false }, now);
    }

    /// What is too large for the server is reported as that.
    pub(super) fn fitting(&self, outcome: pb::Outcome) -> pb::Outcome {
        let refuse = |what: &str, size: usize, limit: usize| pb::Outcome {
            result: Some(unprocessable(format!("{what} has {size} bytes, the limit is {limit}"))),
            run_duration: outcome.run_duration,
            ..Default::default()
        };
        if let Some(pb::outcome::Result::Succeeded(pb::Succeeded { result: Some(result) })) = &outcome.result {
            let size = match &result.body {
                Some(pb::payload::Body::Text(text)) => text.len(),
                Some(pb::payload::Body::Data(data)) => data.len(),
                _ => 0,
            };
            let limit = usize::try_from(self.limits.max_result_bytes).unwrap_or(usize::MAX);
            if size > limit {
                return refuse("the result", size, limit);
            }
        }
        let message = usize::try_from(self.limits.max_message_bytes).unwrap_or(usize::MAX);
        let (size, limit) = (outcome.encoded_len(), message.saturating_sub(MESSAGE_MARGIN).max(MESSAGE_MARGIN));
        if size > limit { refuse("the outcome", size, limit) } else { outcome }
    }

    /// At every interval, and when a lease that none has named is half a delivery_ttl old.
    pub(super) fn next_heartbeat(&self) -> Option<Instant> {
        let unnamed = self.unnamed_since.map(|since| since + self.delivery_ttl / 2);
        [self.heartbeat_at, unnamed].into_iter().flatten().min()
    }

    /// Whether a heartbeat is due. `unnamed_since` is only a bound: when it is reached, the leases are looked at.
    pub(super) fn heartbeat_due(&mut self, now: Instant) -> bool {
        if self.next_heartbeat().is_none_or(|at| now < at) {
            return false;
        }
        if self.heartbeat_at.is_some_and(|at| at <= now) {
            return true;
        }
        self.unnamed_since = self.leases.values().filter(|lease| !lease.named).map(|lease| lease.arrived).min();
        self.next_heartbeat().is_some_and(|at| at <= now)
    }

    pub(super) fn compose(&mut self, now: Instant, frames: &mut Vec<pb::StreamJobsRequest>) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let beat = self.heartbeat_due(now);
        let reports = !self.reports.is_empty() && due(self.reports.next_at());
        let flush = due(self.outbox.flush_at) || due(self.receipt_at);
        if !(beat || reports || flush || self.say_state || self.say_capacity) {
            return;
        }
        let first = frames.len();
        frames.push(self.controls());
        if !self.reports.is_empty() {
            // Progress and log lines go ahead of the outcome of their job.
            let ended = self.outbox.waiting().map(|report| report.outcome.lease_token.as_str());
            self.reports.write(ended, now, frames);
        }
        for frame in &mut frames[first..] {
            number(frame, &mut self.seq, self.received);
        }
        while self.outbox.has_waiting() {
            let free = frames
                .last()
                .is_some_and(|frame| frame.outcomes.is_empty() && frame.progress.is_empty() && frame.logs.is_empty());
            if !free {
                frames.push(numbered(&mut self.seq, self.received));
            }
            if let Some(frame) = frames.last_mut() {
                frame.outcomes = self.outbox.take_frame(frame.seq);
            }
        }
        if beat {
            // The inventory follows the outcomes, so that it need not name their leases.
            if frames.last().is_some_and(|frame| !frame.outcomes.is_empty()) {
                frames.push(numbered(&mut self.seq, self.received));
            }
            let heartbeat = self.heartbeat(now);
            let capacity = self.adapt();
            if let Some(frame) = frames.last_mut() {
                self.heartbeats.push_back((frame.seq, now));
                frame.heartbeat = Some(heartbeat);
                frame.capacity = capacity.or(frame.capacity);
            }
        }
        (self.outbox.flush_at, self.receipt_at) = (None, None);
    }

    pub(super) fn controls(&mut self) -> pb::StreamJobsRequest {
        let mut frame = pb::StreamJobsRequest::default();
        for token in self.started.drain(..) {
            // One that has ended since says so by its outcome.
            if self.leases.contains_key(&token) {
                frame.started.push(token.to_string());
            }
        }
        if std::mem::take(&mut self.say_state) {
            frame.state = match (self.drain_at, self.quiet) {
                (Some(_), _) => pb::WorkerState::Draining,
                (None, true) => pb::WorkerState::Quiet,
                (None, false) => pb::WorkerState::Active,
            } as i32;
        }
        if std::mem::take(&mut self.say_capacity) {
            frame.capacity = Some(self.capacity());
        }
        frame
    }

    pub(super) fn heartbeat(&mut self, now: Instant) -> pb::Heartbeat {
        self.heartbeat_at = Some(now + self.interval);
        self.unnamed_since = None;
        let held = self.leases.iter_mut().map(|(token, lease)| {
            lease.named = true;
            token.to_string()
        });
        pb::Heartbeat { held: held.collect(), running: self.running as i32, rss_bytes: 0, cpu_percent: 0.0 }
    }

    /// A new window, when handlers have become quicker or slower.
    pub(super) fn adapt(&mut self) -> Option<pb::Capacity> {
        let prefetch = self.wanted_prefetch();
        (prefetch != self.prefetch).then(|| {
            self.prefetch = prefetch;
            self.capacity()
        })
    }
}

fn number(frame: &mut pb::StreamJobsRequest, seq: &mut i64, received: i64) {
    *seq += 1;
    (frame.seq, frame.received_seq) = (*seq, received);
}

fn numbered(seq: &mut i64, received: i64) -> pb::StreamJobsRequest {
    let mut frame = pb::StreamJobsRequest::default();
    number(&mut frame, seq, received);
    frame
}
