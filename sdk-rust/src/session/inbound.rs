//! What a frame of the server brings.

use std::collections::HashSet;
use std::time::Instant;

use jobwire_proto::v1 as pb;
use prost::Message;

use super::lease::{Command, Lease, Report, Token, unprocessable};
use super::{RECEIPT_DELAY, Session, State, cancel};
use crate::convert::from_duration;
use crate::types::CancelReason;

impl Session {
    /// A frame of the current stream.
    pub fn received(&mut self, frame: pb::StreamJobsResponse, now: Instant) {
        match self.state {
            State::Idle | State::Over => return,
            State::Opening => match frame.welcome {
                Some(welcome) => self.welcome(welcome, now),
                None => return self.abandon("the first frame of the server was no welcome", now),
            },
            State::Active | State::Closing => {}
        }
        self.last_frame = now;
        self.received = frame.seq;
        if !frame.rejections.is_empty() {
            self.rejected(frame.rejections, now);
        }
        if frame.acked_seq > 0 {
            self.outbox.ack(frame.acked_seq, now);
        }
        if let Some(ack) = frame.heartbeat_ack {
            self.renewed(ack.heartbeat_seq);
            self.lost(&ack.lost);
        }
        for job in frame.jobs {
            self.delivered(job, now);
        }
        for order in frame.cancels {
            self.ordered(order, now);
        }
        for token in &frame.recalls {
            if self.leases.get(token.as_str()).is_some_and(|lease| lease.started.is_none()) {
                self.give_back(token, "recalled", now);
            }
        }
        if let Some(directive) = frame.directive {
            self.directed(&directive, now);
        }
        if let Some(go_away) = frame.go_away {
            let delay = go_away.reconnect_delay.as_ref().map(from_duration).unwrap_or_default();
            self.leave_at = Some(now + delay);
        }
    }

    fn welcome(&mut self, welcome: pb::Welcome, now: Instant) {
        let span =
            |span: &Option<prost_types::Duration>| span.as_ref().map(from_duration).filter(|span| !span.is_zero());
        self.state = State::Active;
        self.lease_ttl = span(&welcome.lease_ttl).unwrap_or(self.lease_ttl);
        self.delivery_ttl = span(&welcome.delivery_ttl).unwrap_or(self.delivery_ttl);
        self.interval = span(&welcome.heartbeat_interval).unwrap_or(self.lease_ttl / 3);
        self.heartbeat_at = Some(self.opened_at + self.interval);
        if let Some(limits) = welcome.limits {
            let or = |new: i32, old: i32| if new > 0 { new } else { old };
            self.limits.max_result_bytes = or(limits.max_result_bytes, self.limits.max_result_bytes);
            self.limits.max_message_bytes = or(limits.max_message_bytes, self.limits.max_message_bytes);
        }
        self.trust(self.opened_at);
        self.lost(&welcome.lost);
        self.lost(&welcome.settled);
        for order in welcome.cancels {
            self.ordered(order, now);
        }
        if let Some(directive) = &welcome.directive {
            self.directed(directive, now);
        }
        if self.outbox.has_waiting() {
            self.outbox.flush_by(now);
        }
        self.commands.push(Command::Welcomed);
    }

    /// The heartbeat in frame `seq` has reached the store, and so have those before it.
    fn renewed(&mut self, seq: i64) {
        let mut sent = None;
        while self.heartbeats.front().is_some_and(|(of, _)| *of <= seq) {
            sent = self.heartbeats.pop_front();
        }
        if let Some((_, at)) = sent {
            self.trust(at);
        }
    }

    /// Every lease in hand at `named` was named then.
    fn trust(&mut self, named: Instant) {
        for lease in self.leases.values_mut().filter(|lease| lease.arrived <= named) {
            lease.trusted_until = lease.trusted_until.max(named + self.lease_ttl);
            lease.control.trust(lease.trusted_until);
        }
    }

    fn delivered(&mut self, job: pb::JobLease, now: Instant) {
        let token = Token::from(job.lease_token.as_str());
        self.arrivals += 1;
        let gathers = self.gathers(&job);
        let crashed = job.crashes > 0;
        self.leases.insert(token.clone(), Lease::new(job, self.arrivals, now, self.delivery_ttl));
        self.unnamed_since = self.unnamed_since.or(Some(now));
        self.receipt_at = self.receipt_at.or(Some(now + RECEIPT_DELAY));
        if self.drain_at.is_some() {
            self.give_back(&token, "worker is shutting down", now);
        } else if let Some(task) = gathers {
            self.gathering.add(task, crashed, token, self.arrivals, now);
        } else {
            self.ready.push_back(token);
        }
    }

    /// The job, if it is one that waits for others.
    fn gathers(&self, job: &pb::JobLease) -> Option<pb::Task> {
        if self.gathering.is_idle() {
            return None;
        }
        pb::Task::decode(job.task.clone()).ok().filter(|task| self.gathering.gathers(&task.r#type))
    }

    fn ordered(&mut self, order: pb::CancelOrder, now: Instant) {
        let Some(lease) = self.leases.get_mut(order.lease_token.as_str()) else { return };
        let reason = match pb::CancelReason::try_from(order.reason) {
            Ok(pb::CancelReason::Timeout) => CancelReason::Timeout,
            Ok(pb::CancelReason::Workflow) => CancelReason::Workflow,
            _ => CancelReason::Requested,
        };
        if lease.started.is_some() {
            cancel(lease, reason, &order.message, &mut self.commands);
        } else if let Some(lease) = self.drop_unstarted(&order.lease_token) {
            let result = pb::outcome::Result::Cancelled(pb::Cancelled { reason: order.message });
            self.report(&order.lease_token, lease, pb::Outcome { result: Some(result), ..Default::default() }, now);
        }
    }

    /// Gone for good, or settled. A handler that runs stays in the inventory until it has stopped (W1).
    fn lost(&mut self, tokens: &[String]) {
        if tokens.is_empty() {
            return;
        }
        self.outbox.forget(&tokens.iter().map(String::as_str).collect::<HashSet<_>>());
        for token in tokens {
            let Some(lease) = self.leases.get_mut(token.as_str()) else { continue };
            lease.lost = true;
            self.reports.forget(token);
            if lease.started.is_some() {
                cancel(lease, CancelReason::LeaseLost, "the lease was lost", &mut self.commands);
            } else {
                self.drop_unstarted(token);
            }
        }
    }

    fn rejected(&mut self, rejections: Vec<pb::OutcomeRejection>, now: Instant) {
        for (report, rejection) in self.outbox.refused(rejections) {
            let reason = pb::RejectionReason::try_from(rejection.reason).unwrap_or(pb::RejectionReason::Superseded);
            let word = reason.as_str_name().trim_start_matches("REJECTION_REASON_");
            let task = pb::Task::decode(report.task.clone()).unwrap_or_default();
            let about = format!("{word}: {}", rejection.message);
            self.commands.push(Command::Warn(format!(
                "the outcome of job {} ({}) was not applied, {about}",
                task.id, task.r#type
            )));
            let armed = matches!(reason, pb::RejectionReason::Invalid | pb::RejectionReason::Unsupported);
            if armed && !report.rearmed {
                let outcome = pb::Outcome {
                    lease_token: report.outcome.lease_token,
                    result: Some(unprocessable(format!("the server refused the outcome, {about}"))),
                    run_duration: report.outcome.run_duration,
                    ..Default::default()
                };
                self.outbox.push(Report { outcome, task: report.task, bytes: 0, seq: 0, rearmed: true }, now);
            }
        }
    }

    fn directed(&mut self, directive: &pb::Directive, now: Instant) {
        match pb::DirectiveKind::try_from(directive.kind) {
            Ok(pb::DirectiveKind::Terminate) if self.drain_at.is_none() => {
                self.drain(directive.grace.as_ref().map(from_duration), now);
            }
            Ok(kind @ (pb::DirectiveKind::Quiet | pb::DirectiveKind::Run)) => {
                let quiet = kind == pb::DirectiveKind::Quiet;
                if quiet != self.quiet {
                    (self.quiet, self.say_state, self.say_capacity) = (quiet, true, !quiet);
                }
            }
            _ => {}
        }
    }
}
