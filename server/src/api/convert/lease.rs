//! Frames to workers.
use bytes::Bytes;
use jobwire_proto::v1;
use prost::Message as _;

use super::{
    job::{View, to_failure},
    payload::{Format, raw},
    to_span, to_time,
};
use crate::model::{
    ids::LeaseToken,
    limits::Limits,
    worker::{
        CancelOrder, CancelReason, Directive, DirectiveKind, GoAway, GoAwayReason, HeartbeatAck, JobLease, Rejection,
        ServerFrame, Welcome,
    },
};

/// What frames say about the server.
pub struct Server<'a> {
    pub id: &'a str,
    pub limits: &'a Limits,
    pub now_ms: i64,
}

/// The release of this server.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Writes a frame. `unknown`: tokens of the hello that were none; the welcome names them as lost.
pub fn frame(server: &Server<'_>, frame: ServerFrame, unknown: &mut Vec<String>) -> v1::StreamJobsResponse {
    v1::StreamJobsResponse {
        seq: frame.seq,
        jobs: frame.jobs.into_iter().map(lease).collect(),
        acked_seq: frame.acked_seq,
        rejections: rejections(frame.rejections),
        cancels: cancels(frame.cancels),
        recalls: encode(&frame.recalls),
        heartbeat_ack: frame.heartbeat_ack.map(|ack| heartbeat_ack(server, ack)),
        directive: frame.directive.map(directive),
        go_away: frame.go_away.map(go_away),
        welcome: frame.welcome.map(|welcome| self::welcome(server, *welcome, std::mem::take(unknown))),
    }
}

/// Writes a lease; the stored task goes in as it is.
pub fn lease(lease: JobLease) -> v1::JobLease {
    v1::JobLease {
        lease_token: lease.token.encode(),
        task: lease.task,
        attempt: lease.attempt as i32,
        max_attempts: lease.max_attempts,
        delivery: lease.delivery as i32,
        timeout: Some(to_span(lease.timeout_ms)),
        heartbeat_timeout: lease.heartbeat_ms.map(to_span),
        checkpoint: lease.checkpoint.map(raw),
        last_failure: lease.last_failure.map(|failure| to_failure(failure, View::Basic, Format::Omit)),
        wait_duration: Some(to_span(lease.wait_ms.max(0))),
        crashes: lease.crashes as i32,
        dependencies_truncated: lease.passed.truncated,
        dependencies: lease.passed.results.into_iter().map(super::workflow::to_dependency_result).collect(),
    }
}

/// The same lease with its bodies in another format. What does not decode stays as it is.
pub fn reformat(mut lease: v1::JobLease, format: Format) -> v1::JobLease {
    if let Ok(mut task) = v1::Task::decode(lease.task.clone()) {
        task.payload = task.payload.map(|payload| format.rewrite(payload));
        lease.task = Bytes::from(task.encode_to_vec());
    }
    lease.checkpoint = lease.checkpoint.map(|checkpoint| format.rewrite(checkpoint));
    lease
}

pub fn encode(tokens: &[LeaseToken]) -> Vec<String> {
    tokens.iter().map(LeaseToken::encode).collect()
}

pub fn rejections(rejections: Vec<Rejection>) -> Vec<v1::OutcomeRejection> {
    let write = |rejection: Rejection| v1::OutcomeRejection {
        lease_token: rejection.token,
        reason: rejection.reason as i32,
        message: rejection.message,
    };
    rejections.into_iter().map(write).collect()
}

pub fn cancels(orders: Vec<CancelOrder>) -> Vec<v1::CancelOrder> {
    let write = |order: CancelOrder| v1::CancelOrder {
        lease_token: order.token.encode(),
        reason: match order.reason {
            CancelReason::Requested => v1::CancelReason::Requested,
            CancelReason::Timeout => v1::CancelReason::Timeout,
            CancelReason::Workflow => v1::CancelReason::Workflow,
        }
        .into(),
        message: order.message,
        grace: order.grace_ms.map(to_span),
    };
    orders.into_iter().map(write).collect()
}

fn heartbeat_ack(server: &Server<'_>, ack: HeartbeatAck) -> v1::HeartbeatAck {
    v1::HeartbeatAck { heartbeat_seq: ack.heartbeat_seq, lost: ack.lost, server_time: Some(to_time(server.now_ms)) }
}

pub fn directive_kind(kind: DirectiveKind) -> v1::DirectiveKind {
    match kind {
        DirectiveKind::Run => v1::DirectiveKind::Run,
        DirectiveKind::Quiet => v1::DirectiveKind::Quiet,
        DirectiveKind::Terminate => v1::DirectiveKind::Terminate,
    }
}

fn directive(directive: Directive) -> v1::Directive {
    v1::Directive {
        kind: directive_kind(directive.kind).into(),
        grace: directive.grace_ms.map(to_span),
        reason: directive.reason,
    }
}

fn go_away(go_away: GoAway) -> v1::GoAway {
    v1::GoAway {
        reason: match go_away.reason {
            GoAwayReason::Shutdown => v1::GoAwayReason::Shutdown,
            GoAwayReason::Rebalance => v1::GoAwayReason::Rebalance,
            GoAwayReason::Credentials => v1::GoAwayReason::Credentials,
            GoAwayReason::Unhealthy => v1::GoAwayReason::Unhealthy,
        }
        .into(),
        reconnect_delay: Some(to_span(go_away.reconnect_ms)),
        grace: Some(to_span(go_away.grace_ms)),
        message: go_away.message,
    }
}

fn welcome(server: &Server<'_>, welcome: Welcome, unknown: Vec<String>) -> v1::Welcome {
    let mut lost = encode(&welcome.lost);
    lost.extend(unknown);
    v1::Welcome {
        lost,
        settled: encode(&welcome.settled),
        cancels: cancels(welcome.cancels),
        directive: welcome.directive.map(directive),
        slots: welcome.slots as i32,
        lease_ttl: Some(to_span(welcome.lease_ttl_ms)),
        delivery_ttl: Some(to_span(welcome.delivery_ttl_ms)),
        heartbeat_interval: Some(to_span(welcome.heartbeat_ms)),
        limits: Some(limits(server.limits)),
        revision: welcome.revision,
        features: Vec::new(),
        server_id: server.id.to_owned(),
        server_version: VERSION.to_owned(),
        server_time: Some(to_time(server.now_ms)),
    }
}

pub fn limits(limits: &Limits) -> v1::Limits {
    v1::Limits {
        max_payload_bytes: limits.payload_bytes as i32,
        max_result_bytes: limits.result_bytes as i32,
        max_checkpoint_bytes: limits.checkpoint_bytes as i32,
        max_headers: limits.headers as i32,
        max_headers_bytes: limits.headers_bytes as i32,
        max_tags: limits.tags as i32,
        max_dependencies: limits.dependencies as i32,
        max_progress_bytes: limits.progress_bytes as i32,
        max_log_line_bytes: limits.log_line_bytes as i32,
        max_log_lines: limits.log_lines as i32,
        max_message_bytes: limits.message_bytes as i32,
        max_outcomes: limits.outcomes as i32,
        max_slots: limits.slots as i32,
        max_jobs_per_call: limits.jobs_per_call as i32,
        max_workflow_call_bytes: limits.workflow_call_bytes as i32,
        max_workflow_nodes: limits.workflow_nodes as i32,
        max_ids: limits.ids as i32,
        max_filter_bytes: limits.filter_bytes as i32,
        max_page_size: limits.page_size as i32,
        max_delay: Some(to_span(limits.delay_ms)),
        max_timeout: Some(to_span(limits.timeout_ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::JobId;

    fn token() -> LeaseToken {
        LeaseToken { job: JobId::from_bytes([1; 16]), secret: 7 }
    }

    /// A lease whose task has a payload of JSON text.
    fn sample() -> JobLease {
        let task = v1::Task {
            id: token().job.to_string(),
            payload: Some(v1::Payload { body: Some(v1::payload::Body::Text("[1]".into())), ..Default::default() }),
            ..Default::default()
        };
        JobLease {
            passed: Default::default(),
            token: token(),
            task: task.encode_to_vec().into(),
            attempt: 1,
            max_attempts: 20,
            delivery: 1,
            timeout_ms: 1_500,
            heartbeat_ms: None,
            checkpoint: None,
            last_failure: None,
            wait_ms: -3,
            crashes: 2,
        }
    }

    #[test]
    fn a_stored_task_is_a_task_on_the_wire() {
        let pool = prost_reflect::DescriptorPool::decode(jobwire_proto::DESCRIPTOR_SET).expect("a descriptor set");
        let descriptor = pool.get_message_by_name("jobwire.v1.JobLease").expect("in the contract");
        let bytes = lease(sample()).encode_to_vec();
        let message = prost_reflect::DynamicMessage::decode(descriptor, bytes.as_slice()).expect("decodes");
        let task = message.get_field_by_name("task").expect("a field").into_owned();
        let id = task.as_message().expect("a message").get_field_by_name("id").expect("a field").into_owned();
        assert_eq!(id.as_str(), Some(token().job.to_string().as_str()));
    }

    #[test]
    fn people_get_json() {
        let lease = reformat(lease(sample()), Format::Json);
        let task = v1::Task::decode(lease.task).expect("a task");
        assert!(matches!(task.payload.and_then(|p| p.body), Some(v1::payload::Body::Json(_))));
        assert_eq!(lease.wait_duration, Some(to_span(0)));
    }

    #[test]
    fn the_welcome_names_what_was_no_token_as_lost() {
        let limits = Limits::default();
        let server = Server { id: "s", limits: &limits, now_ms: 1 };
        let mut unknown = vec!["garbage".to_owned()];
        let welcome = Welcome { lost: vec![token()], ..Default::default() };
        let written =
            frame(&server, ServerFrame { welcome: Some(Box::new(welcome)), ..Default::default() }, &mut unknown);
        assert_eq!(written.welcome.expect("a welcome").lost, [token().encode(), "garbage".into()]);
    }
}
