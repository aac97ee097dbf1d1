//! Outcomes until they are durable: those to send, those sent and not acknowledged, and the flush rule.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use jobwire_proto::v1 as pb;
use prost::Message;

use super::lease::Report;

pub(super) const FLUSH_OUTCOMES: usize = 128;
pub(super) const FLUSH_BYTES: usize = 64 << 10;
pub(super) const FLUSH_DELAY: Duration = Duration::from_millis(2);
const UNACKED_MAX: usize = 10_000;
const UNACKED_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Not sent on this stream.
    queue: VecDeque<Report>,
    /// Sent on this stream, in the order of their frames.
    unacked: VecDeque<Report>,
    queue_bytes: usize,
    unacked_bytes: usize,
    /// When the queue has to leave at the latest.
    pub flush_at: Option<Instant>,
}

impl Outbox {
    /// Takes an outcome: to leave at once when nothing is in flight or a frame is full, else within 2 ms.
    pub fn push(&mut self, mut report: Report, now: Instant) {
        report.bytes = report.outcome.encoded_len();
        self.queue_bytes += report.bytes;
        self.queue.push_back(report);
        let full = self.queue.len() >= FLUSH_OUTCOMES || self.queue_bytes >= FLUSH_BYTES;
        self.flush_by(if full || self.unacked.is_empty() { now } else { now + FLUSH_DELAY });
    }

    pub fn flush_by(&mut self, at: Instant) {
        self.flush_at = Some(self.flush_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// The outcomes of one frame, at most 128 or 64 KiB (a larger one travels alone); empty when nothing is left.
    pub fn take_frame(&mut self, seq: i64) -> Vec<pb::Outcome> {
        let mut outcomes = Vec::with_capacity(self.queue.len().min(FLUSH_OUTCOMES));
        let mut bytes = 0;
        while let Some(next) = self.queue.front() {
            if outcomes.len() >= FLUSH_OUTCOMES || (!outcomes.is_empty() && bytes + next.bytes > FLUSH_BYTES) {
                break;
            }
            let Some(mut report) = self.queue.pop_front() else { break };
            bytes += report.bytes;
            report.seq = seq;
            outcomes.push(report.outcome.clone());
            self.unacked.push_back(report);
        }
        self.queue_bytes -= bytes;
        self.unacked_bytes += bytes;
        outcomes
    }

    /// W3: everything up to frame `seq` is durable.
    pub fn ack(&mut self, seq: i64, now: Instant) {
        while self.unacked.front().is_some_and(|report| report.seq <= seq) {
            if let Some(report) = self.unacked.pop_front() {
                self.unacked_bytes -= report.bytes;
            }
        }
        if self.unacked.is_empty() && !self.queue.is_empty() {
            self.flush_at = Some(now);
        }
    }

    /// W4: the stream broke; what is not acknowledged goes first on the next one.
    pub fn resend(&mut self) {
        while let Some(report) = self.unacked.pop_back() {
            self.queue.push_front(report);
        }
        self.queue_bytes += std::mem::take(&mut self.unacked_bytes);
        self.flush_at = None;
    }

    /// Drops the outcomes of these leases: durable already, or not wanted any more.
    pub fn forget(&mut self, tokens: &HashSet<&str>) {
        let keep = |reports: &mut VecDeque<Report>, bytes: &mut usize| {
            reports.retain(|report| {
                let gone = tokens.contains(report.outcome.lease_token.as_str());
                *bytes -= if gone { report.bytes } else { 0 };
                !gone
            });
        };
        keep(&mut self.queue, &mut self.queue_bytes);
        keep(&mut self.unacked, &mut self.unacked_bytes);
    }

    /// Takes out the outcomes that the server refused, each with the refusal.
    pub fn refused(&mut self, rejections: Vec<pb::OutcomeRejection>) -> Vec<(Report, pb::OutcomeRejection)> {
        let mut by_token: HashMap<String, pb::OutcomeRejection> =
            rejections.into_iter().map(|rejection| (rejection.lease_token.clone(), rejection)).collect();
        let mut refused = Vec::new();
        let mut kept = VecDeque::with_capacity(self.unacked.len());
        for report in self.unacked.drain(..) {
            match by_token.remove(&report.outcome.lease_token) {
                Some(rejection) => {
                    self.unacked_bytes -= report.bytes;
                    refused.push((report, rejection));
                }
                None => kept.push_back(report),
            }
        }
        self.unacked = kept;
        refused
    }

    /// Every outcome on its way, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Report> {
        self.unacked.iter().chain(&self.queue)
    }

    /// Those that the next frames will carry.
    pub fn waiting(&self) -> impl Iterator<Item = &Report> {
        self.queue.iter()
    }

    pub fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    pub fn waiting_len(&self) -> usize {
        self.queue.len()
    }

    pub fn len(&self) -> usize {
        self.queue.len() + self.unacked.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.unacked.is_empty()
    }

    /// So much is on its way that no more handlers may start.
    pub fn is_full(&self) -> bool {
        self.len() >= UNACKED_MAX || self.queue_bytes + self.unacked_bytes >= UNACKED_BYTES_MAX
    }
}
