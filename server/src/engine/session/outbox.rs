//! What a worker is owed, gathered until the transport takes the next frame: one frame carries everything that came
//! together meanwhile.
use std::collections::VecDeque;

use crate::model::{
    ids::LeaseToken,
    limits::FRAME_BYTES,
    worker::{
        CancelOrder, Directive, GoAway, HeartbeatAck, JobLease, Rejection, RejectionReason, ServerFrame, Welcome,
    },
};

#[derive(Default)]
pub(super) struct Outbox {
    seq: i64,
    jobs: VecDeque<JobLease>,
    acked_seq: i64,
    acked_sent: i64,
    rejections: Vec<Rejection>,
    pub cancels: Vec<CancelOrder>,
    pub recalls: Vec<LeaseToken>,
    /// Heartbeats whose renewals are under way, and the leases found lost so far.
    awaiting: Option<HeartbeatAck>,
    ready_ack: Option<HeartbeatAck>,
    pub directive: Option<Directive>,
    pub go_away: Option<GoAway>,
    pub welcome: Option<Box<Welcome>>,
    /// Leases whose outcome was refused: valid still, and delivered anew by the frame that says so.
    pub rearmed: Vec<LeaseToken>,
    keep_alive: bool,
}

impl Outbox {
    pub fn is_due(&self) -> bool {
        self.keep_alive
            || !self.jobs.is_empty()
            || self.acked_seq > self.acked_sent
            || !self.rejections.is_empty()
            || !self.cancels.is_empty()
            || !self.recalls.is_empty()
            || self.ready_ack.is_some()
            || self.directive.is_some()
            || self.go_away.is_some()
            || self.welcome.is_some()
    }

    pub fn keep_alive(&mut self) {
        self.keep_alive = true;
    }

    pub fn push_job(&mut self, job: JobLease) {
        self.jobs.push_back(job);
    }

    pub fn acknowledge(&mut self, upto: i64) {
        self.acked_seq = self.acked_seq.max(upto);
    }

    /// `token`: the lease that an INVALID or UNSUPPORTED outcome leaves valid.
    pub fn reject(&mut self, rejection: Rejection, token: Option<LeaseToken>) {
        if matches!(rejection.reason, RejectionReason::Invalid | RejectionReason::Unsupported) {
            self.rearmed.extend(token);
        }
        self.rejections.push(rejection);
    }

    /// A heartbeat came; it is answered when the store has taken its renewals.
    pub fn heartbeat_ack(&mut self, seq: i64, lost: Vec<String>) {
        let mut lost_before = self.awaiting.take().map(|ack| ack.lost).unwrap_or_default();
        lost_before.extend(lost);
        self.awaiting = Some(HeartbeatAck { heartbeat_seq: seq, lost: lost_before });
    }

    pub fn lost(&mut self, token: &LeaseToken) {
        let text = token.encode();
        let ack = self.awaiting.get_or_insert_default();
        if !ack.lost.contains(&text) {
            ack.lost.push(text);
        }
    }

    /// The renewals of heartbeat `seq` are in the store. A later heartbeat that is still under way answers for itself.
    pub fn renewed(&mut self, seq: i64) {
        let lost = self.awaiting.as_mut().map(|ack| std::mem::take(&mut ack.lost)).unwrap_or_default();
        if self.awaiting.as_ref().is_some_and(|ack| ack.heartbeat_seq <= seq) {
            self.awaiting = None;
        }
        let ready = self.ready_ack.get_or_insert_default();
        ready.heartbeat_seq = ready.heartbeat_seq.max(seq);
        ready.lost.extend(lost);
    }

    /// The next frame. Jobs up to [`FRAME_BYTES`]; one larger job travels alone; the rest stays for the frame after.
    pub fn build(&mut self) -> ServerFrame {
        self.seq += 1;
        self.keep_alive = false;
        let mut jobs = Vec::new();
        let mut bytes = 0;
        while let Some(job) = self.jobs.front() {
            let size = job.task.len() + job.checkpoint.as_ref().map_or(0, |payload| payload.bytes.len());
            if !jobs.is_empty() && bytes + size > FRAME_BYTES {
                break;
            }
            bytes += size;
            jobs.extend(self.jobs.pop_front());
        }
        let acked_seq = if self.acked_seq > self.acked_sent { self.acked_seq } else { 0 };
        self.acked_sent = self.acked_seq;
        ServerFrame {
            seq: self.seq,
            jobs,
            acked_seq,
            rejections: std::mem::take(&mut self.rejections),
            cancels: std::mem::take(&mut self.cancels),
            recalls: std::mem::take(&mut self.recalls),
            heartbeat_ack: self.ready_ack.take(),
            directive: self.directive.take(),
            go_away: self.go_away.take(),
            welcome: self.welcome.take(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::ids::{JobId, Shard};

    fn job(bytes: usize) -> JobLease {
        JobLease {
            passed: Default::default(),
            token: LeaseToken { job: JobId::stamp(uuid::Uuid::now_v7(), Shard(0)), secret: 1 },
            task: Bytes::from(vec![0; bytes]),
            attempt: 1,
            max_attempts: 20,
            delivery: 1,
            timeout_ms: 0,
            checkpoint: None,
            last_failure: None,
            heartbeat_ms: None,
            wait_ms: 0,
            crashes: 0,
        }
    }

    #[test]
    fn frames_are_filled_up_to_their_size_and_a_large_job_travels_alone() {
        let mut outbox = Outbox::default();
        for size in [100, FRAME_BYTES - 100, 1, 3 * FRAME_BYTES, 5] {
            outbox.push_job(job(size));
        }
        let sizes = |frame: ServerFrame| frame.jobs.iter().map(|job| job.task.len()).collect::<Vec<_>>();
        assert_eq!(sizes(outbox.build()), [100, FRAME_BYTES - 100]);
        assert_eq!(sizes(outbox.build()), [1]);
        assert_eq!(sizes(outbox.build()), [3 * FRAME_BYTES]);
        assert_eq!(sizes(outbox.build()), [5]);
        assert!(!outbox.is_due());
    }

    #[test]
    fn an_acknowledgement_is_sent_once() {
        let mut outbox = Outbox::default();
        outbox.acknowledge(3);
        outbox.acknowledge(2);
        assert_eq!(outbox.build().acked_seq, 3);
        outbox.acknowledge(3);
        assert!(!outbox.is_due());
        outbox.keep_alive();
        assert_eq!(outbox.build(), ServerFrame { seq: 2, ..ServerFrame::default() });
    }

    #[test]
    fn a_heartbeat_is_answered_when_its_renewals_are_stored() {
        let mut outbox = Outbox::default();
        outbox.heartbeat_ack(4, vec!["gone".into()]);
        assert!(!outbox.is_due());
        outbox.renewed(4);
        let ack = outbox.build().heartbeat_ack.expect("an answer");
        assert_eq!((ack.heartbeat_seq, ack.lost), (4, vec!["gone".to_owned()]));
    }
}
