//! A good request for every call: what the bad ones are made of.
use jobwire_proto::v1;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor, Value};

use super::harness::{BYSTANDER, Harness};

/// Calls that are part of the contract and not served yet.
pub fn is_disabled(method: &MethodDescriptor) -> bool {
    matches!(method.name(), "ExplainJob" | "DeleteQueue" | "WatchEvents")
}

/// Whether the client sends a stream.
pub fn is_stream(method: &MethodDescriptor) -> bool {
    method.is_client_streaming()
}

/// A request that is accepted. Nothing of it changes what other cases see.
pub fn request(harness: &Harness, method: &MethodDescriptor) -> DynamicMessage {
    let bytes = bytes(harness, method);
    DynamicMessage::decode(method.input(), bytes.as_slice()).expect("a request of this call")
}

fn bytes(harness: &Harness, method: &MethodDescriptor) -> Vec<u8> {
    let id = harness.job_id.clone();
    let single = || Some(v1::Selector { ids: vec![harness.job_id.clone()], filter: String::new() });
    let nothing = |filter: &str| Some(v1::Selector { ids: vec![], filter: filter.into() });
    let none = || nothing("queue = nothing");
    let no_flow = || nothing("name = nobody");
    let job = || v1::JobSpec { id: uuid::Uuid::now_v7().to_string(), r#type: "base".into(), ..Default::default() };
    fn encode(message: impl Message) -> Vec<u8> {
        message.encode_to_vec()
    }
    match method.name() {
        "Enqueue" => encode(v1::EnqueueRequest { job: Some(job()), validate_only: true, ..Default::default() }),
        "EnqueueMany" => encode(v1::EnqueueManyRequest { jobs: vec![job()] }),
        "EnqueueStream" => encode(v1::EnqueueStreamRequest { seq: 1, jobs: vec![job()] }),
        "GetJob" => encode(v1::GetJobRequest { id, ..Default::default() }),
        "ListJobLogs" => encode(v1::ListJobLogsRequest { id, ..Default::default() }),
        "WaitJob" => encode(v1::WaitJobRequest { id, ..Default::default() }),
        "WatchJob" => encode(v1::WatchJobRequest { id, ..Default::default() }),
        "AwaitResults" => encode(v1::AwaitResultsRequest { job_ids: vec![id], forget_ids: vec![] }),
        "CancelJobs" => encode(v1::CancelJobsRequest { selector: none(), ..Default::default() }),
        "RetryJobs" => encode(v1::RetryJobsRequest { selector: none(), ..Default::default() }),
        "UpdateJobs" => {
            let patch = Some(v1::JobPatch { priority: Some(1), ..Default::default() });
            encode(v1::UpdateJobsRequest { selector: single(), patch, ..Default::default() })
        }
        "DeleteJobs" => encode(v1::DeleteJobsRequest { selector: none(), ..Default::default() }),
        "LeaseJobs" => encode(v1::LeaseJobsRequest {
            types: vec!["none".into()],
            wait: Some(prost_types::Duration::default()),
            ..Default::default()
        }),
        "ReportJobs" => encode(v1::ReportJobsRequest { outcomes: vec![outcome()], ..Default::default() }),
        "ExtendLeases" => encode(v1::ExtendLeasesRequest { lease_tokens: vec![token()], lease_ttl: None }),
        "StreamJobs" => encode(v1::StreamJobsRequest { seq: 2, ..Default::default() }),
        "GetQueue" => encode(v1::GetQueueRequest { name: "finished".into() }),
        "PutQueue" => {
            let per = Some(prost_types::Duration { seconds: 1, nanos: 0 });
            let rate_limit = Some(v1::RateLimit { max: 1, per, burst: 1 });
            let config = v1::QueueConfig { rate_limit, rate_limit_per_key: rate_limit, ..Default::default() };
            let config = Some(config);
            encode(v1::PutQueueRequest { name: "closed".into(), config, ..Default::default() })
        }
        "PauseQueues" => encode(v1::PauseQueuesRequest { names: vec!["closed".into()], ..Default::default() }),
        "ResumeQueues" => encode(v1::ResumeQueuesRequest { names: vec!["closed".into()] }),
        "PurgeQueue" => encode(v1::PurgeQueueRequest { name: "finished".into(), ..Default::default() }),
        "PutSchedule" => encode(v1::PutScheduleRequest {
            id: SCHEDULE.into(),
            spec: Some(schedule()),
            validate_only: true,
            ..Default::default()
        }),
        "GetSchedule" => encode(v1::GetScheduleRequest { id: SCHEDULE.into() }),
        "TriggerSchedule" => encode(v1::TriggerScheduleRequest { id: SCHEDULE.into(), payload: None }),
        "PauseSchedules" => encode(v1::PauseSchedulesRequest { selector: none(), ..Default::default() }),
        "ResumeSchedules" => encode(v1::ResumeSchedulesRequest { selector: none() }),
        "DeleteSchedules" => encode(v1::DeleteSchedulesRequest { selector: none(), force: true }),
        "PreviewSchedule" => encode(v1::PreviewScheduleRequest { id: SCHEDULE.into(), ..Default::default() }),
        "BackfillSchedule" => encode(v1::BackfillScheduleRequest {
            id: SCHEDULE.into(),
            from: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            to: Some(prost_types::Timestamp { seconds: 10, nanos: 0 }),
            dry_run: true,
            ..Default::default()
        }),
        "CreateWorkflow" => encode(v1::CreateWorkflowRequest { workflow: Some(workflow(true)), validate_only: true }),
        "AddWorkflowNodes" => {
            encode(v1::AddWorkflowNodesRequest { workflow_id: WORKFLOW.into(), nodes: vec![workflow_node()] })
        }
        "CloseWorkflow" => encode(v1::CloseWorkflowRequest { workflow_id: CLOSED.into() }),
        "GetWorkflow" => encode(v1::GetWorkflowRequest { id: WORKFLOW.into() }),
        "ListWorkflowNodes" => {
            encode(v1::ListWorkflowNodesRequest { workflow_id: WORKFLOW.into(), ..Default::default() })
        }
        "WaitWorkflow" => encode(v1::WaitWorkflowRequest { id: CLOSED.into(), timeout: None }),
        "CancelWorkflows" => encode(v1::CancelWorkflowsRequest { selector: no_flow(), ..Default::default() }),
        "RetryWorkflows" => encode(v1::RetryWorkflowsRequest { selector: no_flow(), ..Default::default() }),
        "DeleteWorkflows" => encode(v1::DeleteWorkflowsRequest { selector: no_flow(), ..Default::default() }),
        "ListDependencyResults" => encode(v1::ListDependencyResultsRequest { job_id: id, ..Default::default() }),
        "GetWorker" => encode(v1::GetWorkerRequest { session_id: BYSTANDER.into() }),
        "SignalWorkers" => encode(v1::SignalWorkersRequest {
            selector: nothing("hostname = nobody"),
            directive: v1::DirectiveKind::Run.into(),
            ..Default::default()
        }),
        // All of their fields are optional, or they are not served yet.
        "ListJobs" | "ListQueues" | "ListSchedules" | "ListWorkflows" | "ListWorkers" | "GetServerInfo"
        | "GetStats" => Vec::new(),
        _ if is_disabled(method) => Vec::new(),
        other => panic!("{other} has no good request here: add one"),
    }
}

/// The schedule that is there.
pub const SCHEDULE: &str = "yearly";

/// What it is.
pub fn schedule() -> v1::ScheduleSpec {
    v1::ScheduleSpec {
        cadence: Some(v1::schedule_spec::Cadence::Cron("@yearly".into())),
        job: Some(v1::JobSpec { r#type: "base".into(), ..Default::default() }),
        ..Default::default()
    }
}

/// The workflow that is there, open, and one that has ended.
pub const WORKFLOW: &str = "01900000-0000-7000-8000-000000000001";
pub const CLOSED: &str = "01900000-0000-7000-8000-000000000002";

/// What they are.
pub fn workflow(open: bool) -> v1::WorkflowSpec {
    let nodes = if open { vec![workflow_node()] } else { Vec::new() };
    v1::WorkflowSpec { nodes, open, ..Default::default() }
}

fn workflow_node() -> v1::WorkflowNode {
    let job = Some(v1::JobSpec { r#type: "base".into(), ..Default::default() });
    v1::WorkflowNode { name: "n".into(), group: String::new(), job }
}

/// The first frame of a worker's stream.
pub fn hello() -> v1::StreamJobsRequest {
    let hello = v1::Hello {
        session_id: uuid::Uuid::now_v7().to_string(),
        types: vec!["none".into()],
        revision: 1,
        ..Default::default()
    };
    v1::StreamJobsRequest { seq: 1, hello: Some(hello), ..Default::default() }
}

/// Names a lease of a job that does not exist.
pub fn token() -> String {
    "A".repeat(32)
}

fn outcome() -> v1::Outcome {
    let result = Some(v1::outcome::Result::Succeeded(v1::Succeeded::default()));
    v1::Outcome { lease_token: token(), result, ..Default::default() }
}

/// A message that is good in itself, for fields that a good request leaves out.
pub fn seed(descriptor: &MessageDescriptor) -> DynamicMessage {
    let bytes = match descriptor.full_name() {
        "jobwire.v1.Payload" => {
            let body = Some(v1::payload::Body::Text("{}".into()));
            v1::Payload { body, ..Default::default() }.encode_to_vec()
        }
        "jobwire.v1.JobSpec" => {
            let id = uuid::Uuid::now_v7().to_string();
            v1::JobSpec { id, r#type: "base".into(), ..Default::default() }.encode_to_vec()
        }
        "jobwire.v1.WorkflowNode" => workflow_node().encode_to_vec(),
        "jobwire.v1.Subscription" => v1::Subscription { queue: "none".into(), ..Default::default() }.encode_to_vec(),
        "jobwire.v1.Outcome" => outcome().encode_to_vec(),
        _ => Vec::new(),
    };
    DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).expect("a message of this type")
}

/// A value of the well-known types that are spans and times.
pub fn seconds_and_nanos(descriptor: &MessageDescriptor, seconds: i64, nanos: i32) -> Value {
    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field_by_name("seconds", Value::I64(seconds));
    message.set_field_by_name("nanos", Value::I32(nanos));
    Value::Message(message)
}
