//! What each field of each request may hold. The table of expectations: a field that is missing here fails the test.

/// What a field may hold, and so what it may not.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// Whatever is said is taken, cut or ignored; and so is everything inside.
    Any,
    /// A message: its own fields have rules.
    Inside,
    /// A message that must be there.
    Needed,
    /// A queue or a type.
    Name {
        needed: bool,
    },
    /// A name, or a prefix ending in `*`.
    Pattern,
    /// A job's id. Where it is needed on a stream of its own the field says so.
    Id {
        needed: bool,
    },
    /// So many bytes.
    Text {
        min: usize,
        max: usize,
    },
    /// Seconds.
    Span {
        min: i64,
        max: i64,
    },
    /// More than 0, at most so many seconds.
    PositiveSpan {
        max: i64,
    },
    /// A time that exists, at most 10 years ahead.
    Start,
    /// A time that exists.
    Time {
        needed: bool,
    },
    /// A message that must be there, and whose fields mean something else than elsewhere.
    Template,
    /// A time that exists and comes after the start.
    Expiry,
    Int {
        min: i64,
        max: i64,
    },
    /// A size where 0 is the default and too much is cut.
    Size,
    Float {
        min: f64,
        max: f64,
        zero: bool,
    },
    /// Known values only in unary calls; unknown ones mean nothing on streams.
    Enum,
    /// As Enum, but 0 is refused.
    Choice,
    Token,
    Etag,
    Filter,
    /// Ids or a filter of a bulk call about jobs, or about workers or schedules.
    Selector {
        jobs: bool,
    },
    /// A list, and what its items may hold.
    List {
        min: usize,
        max: usize,
        item: &'static Rule,
    },
    Headers,
    /// A body, as text or bytes.
    Body,
    Json,
    /// `seq`, `received_seq` and `hello` of a worker's frame; `seq` of a frame of jobs.
    Seq,
    ReceivedSeq,
    Hello,
    Revision,
    LeaseToken,
    /// Part of the contract, not served yet: refused by name.
    NotYet,
}

const DAY: i64 = 86_400;
const TEN_YEARS: i64 = 3_653 * DAY;
const NAMES: Rule = Rule::List { min: 1, max: 1_000, item: &Rule::Name { needed: true } };
const TYPES: Rule = Rule::List { min: 0, max: 1_000, item: &Rule::Pattern };
const NOTE: Rule = Rule::Text { min: 0, max: 1_024 };
const ANY_TEXTS: Rule = Rule::List { min: 0, max: 1_000, item: &Rule::Any };
const JOBS: Rule = Rule::List { min: 0, max: 1_000, item: &Rule::Inside };
const SPAN: Rule = Rule::Span { min: 0, max: TEN_YEARS };
const LEASE: Rule = Rule::Span { min: 10, max: DAY / 2 };

/// The rule of a field, by the short name of its message. `None` = nobody thought of it.
pub fn rule(message: &str, field: &str) -> Option<Rule> {
    use Rule::*;
    Some(match (message, field) {
        (_, "page_size" | "limit") => Size,
        (_, "page_token" | "continue_token") => Token,
        (_, "payload_format" | "view" | "min_level" | "on_exhausted") => Enum,
        (_, "validate_only" | "dry_run" | "force" | "reset_attempts" | "strict") => Any,
        ("SignalWorkersRequest", "selector") => Selector { jobs: false },
        ("PauseSchedulesRequest" | "ResumeSchedulesRequest" | "DeleteSchedulesRequest", "selector") => {
            Selector { jobs: false }
        }
        (_, "selector") => Selector { jobs: true },
        (_, "filter") => Filter,
        (_, "reason") if message.ends_with("Request") => NOTE,

        ("EnqueueRequest", "job") => Needed,
        ("EnqueueRequest", "wait") => Span { min: 0, max: 300 },
        ("EnqueueManyRequest", "jobs") => List { min: 1, max: 1_000, item: &Inside },
        ("EnqueueStreamRequest", "jobs") => JOBS,
        ("EnqueueStreamRequest" | "StreamJobsRequest", "seq") => Seq,

        ("JobSpec", "id" | "parent_id") => Id { needed: false },
        ("JobSpec", "type") => Name { needed: true },
        ("JobSpec", "queue") => Name { needed: false },
        ("JobSpec" | "JobPatch", "payload" | "retry") => Inside,
        ("JobSpec", "headers") => Headers,
        ("JobSpec" | "JobPatch", "priority") => Int { min: -4, max: 4 },
        ("JobSpec" | "JobPatch", "schedule_time") => Start,
        ("JobSpec" | "JobPatch", "delay") => SPAN,
        ("JobSpec" | "JobPatch", "timeout") => PositiveSpan { max: 30 * DAY },
        ("JobSpec", "tags") => List { min: 0, max: 16, item: &Text { min: 1, max: 64 } },
        ("JobSpec", "ttl") => PositiveSpan { max: TEN_YEARS },
        ("JobSpec", "expire_time") => Expiry,
        ("JobSpec", "retention" | "dead_retention") => SPAN,
        ("JobSpec", "unique") => Inside,
        ("JobSpec", "fairness_key" | "idempotency_key") => Text { min: 0, max: 256 },
        // Goes with a key only, and the base has none.
        ("JobSpec", "idempotency_ttl") => PositiveSpan { max: 0 },
        ("Unique", "key") => Text { min: 0, max: 256 },
        ("Unique", "scope" | "on_conflict") => Enum,
        ("Unique", "ttl") => PositiveSpan { max: 0 },

        ("PutQueueRequest", "name") => Name { needed: true },
        ("PutQueueRequest", "config") => Inside,
        // An etag that this server has not given; a mask that names nothing known.
        ("PutQueueRequest", "etag" | "update_mask") => Any,
        ("QueueConfig", "shards") => Int { min: 0, max: 1 },
        ("QueueConfig", "max_running" | "max_running_per_key") => Int { min: 0, max: i32::MAX as i64 },
        ("QueueConfig", "max_depth") => Int { min: 0, max: i64::MAX },
        ("QueueConfig", "max_finished" | "max_dead") => Int { min: -1, max: i64::MAX },
        ("QueueConfig", "rate_limit" | "rate_limit_per_key" | "retry") => Inside,
        ("QueueConfig", "timeout") => PositiveSpan { max: 30 * DAY },
        ("QueueConfig", "ttl") => PositiveSpan { max: TEN_YEARS },
        ("QueueConfig", "retention" | "dead_retention") => SPAN,
        ("QueueConfig", "note") => NOTE,
        // Its values have a test of their own: what_makes_no_sense_of_keys_is_refused.
        ("QueueConfig", "key_weights") => Any,
        ("QueueConfig", _) => NotYet,
        ("RateLimit", "max") => Int { min: 1, max: i32::MAX as i64 },
        ("RateLimit", "per") => PositiveSpan { max: 30 * DAY },
        ("RateLimit", "burst") => Int { min: 0, max: i32::MAX as i64 },
        ("JobSpec", "heartbeat_timeout") => PositiveSpan { max: 30 * DAY },
        ("JobSpec", "total_timeout") => PositiveSpan { max: TEN_YEARS },
        // Names jobs that are there, and the base has none.
        ("JobSpec", "depends_on") => Any,

        ("Payload", "text" | "data") => Body,
        ("Payload", "json") => Json,
        ("Payload", "content_type") => Text { min: 0, max: 256 },
        // Goes with `data` only, and the base has text.
        ("Payload", "content_encoding") => Text { min: 0, max: 0 },

        ("RetryPolicy", "max_attempts") => Int { min: -1, max: i32::MAX as i64 },
        ("RetryPolicy", "initial_delay" | "max_delay") => SPAN,
        ("RetryPolicy", "multiplier") => Float { min: 1.0, max: f64::MAX, zero: true },
        ("RetryPolicy", "jitter") => Float { min: 0.0, max: 1.0, zero: true },
        ("RetryPolicy", "delays") => List { min: 0, max: 100, item: &SPAN },
        ("RetryPolicy", "non_retryable_types") => List { min: 0, max: 100, item: &Text { min: 1, max: 256 } },
        ("RetryPolicy", "max_crashes") => Int { min: -1, max: i32::MAX as i64 },

        ("GetJobRequest" | "ListJobLogsRequest" | "WaitJobRequest" | "WatchJobRequest", "id") => Id { needed: true },
        ("WaitJobRequest", "timeout") => Span { min: 0, max: 300 },
        ("WatchJobRequest", "logs_after") => Int { min: 0, max: i64::MAX },
        ("AwaitResultsRequest", "job_ids" | "forget_ids") => ANY_TEXTS,
        ("CancelJobsRequest", "grace") => SPAN,
        ("RetryJobsRequest", "spread") => SPAN,
        ("RetryJobsRequest", "queue") => Name { needed: false },
        ("UpdateJobsRequest", "patch") => Needed,
        ("UpdateJobsRequest", "etag") => Etag,
        ("JobPatch", "queue") => Name { needed: true },

        ("GetQueueRequest" | "PurgeQueueRequest", "name") => Name { needed: true },
        ("PauseQueuesRequest" | "ResumeQueuesRequest", "names") => NAMES,
        ("PauseQueuesRequest", "duration") => PositiveSpan { max: TEN_YEARS },

        ("PutScheduleRequest", "spec") => Needed,
        // One of another record is ABORTED.
        ("PutScheduleRequest", "etag") => Any,
        ("ScheduleSpec", "cron") => Text { min: 1, max: 256 },
        ("ScheduleSpec", "interval") => Span { min: 1, max: TEN_YEARS },
        // No name of one letter is a zone.
        ("ScheduleSpec", "time_zone") => Text { min: 0, max: 0 },
        ("ScheduleSpec", "job") => Template,
        ("ScheduleSpec", "start_time" | "end_time") => Time { needed: false },
        ("ScheduleSpec", "jitter") => Span { min: 0, max: DAY },
        ("ScheduleSpec" | "BackfillScheduleRequest", "overlap") => Enum,
        ("ScheduleSpec", "catch_up" | "gap" | "fold") => Enum,
        ("ScheduleSpec", "catch_up_window") => PositiveSpan { max: TEN_YEARS },
        ("ScheduleSpec", "note") => NOTE,
        ("BackfillScheduleRequest", "from" | "to") => Time { needed: true },
        ("TriggerScheduleRequest", "payload") => Inside,
        ("PreviewScheduleRequest", "count") => Size,
        // Goes without an id only, and the base has one.
        ("PreviewScheduleRequest", "spec") => Any,
        (_, "id") if message.ends_with("ScheduleRequest") => Name { needed: true },

        ("CreateWorkflowRequest", "workflow") => Needed,
        ("WorkflowSpec", "id" | "parent_workflow_id") => Id { needed: false },
        ("WorkflowSpec", "name") => Name { needed: false },
        ("WorkflowSpec", "nodes") => JOBS,
        ("AddWorkflowNodesRequest", "nodes") => List { min: 1, max: 1_000, item: &Inside },
        ("WorkflowNode", "name") => Name { needed: true },
        ("WorkflowNode", "group") => Name { needed: false },
        ("WorkflowNode", "job") => Template,
        ("WorkflowSpec", "on_node_failure") => Enum,
        // Jobs without an id of their own, and otherwise as nodes are.
        ("WorkflowSpec", "on_success" | "on_failure" | "on_finish" | "open") => Any,
        ("WorkflowSpec", "tags") => List { min: 0, max: 16, item: &Text { min: 1, max: 64 } },
        ("WorkflowSpec", "total_timeout") => PositiveSpan { max: TEN_YEARS },
        ("WorkflowSpec", "retention") | ("CancelWorkflowsRequest", "grace") => SPAN,
        ("GetWorkflowRequest" | "WaitWorkflowRequest", "id") => Id { needed: true },
        (_, "workflow_id") => Id { needed: true },
        ("WaitWorkflowRequest", "timeout") => Span { min: 0, max: 300 },
        ("ListDependencyResultsRequest", "job_id") => Id { needed: true },

        ("GetStatsRequest", "queues") => List { min: 0, max: 1_000, item: &Name { needed: true } },
        ("GetWorkerRequest", "session_id") => Text { min: 1, max: 64 },
        ("SignalWorkersRequest", "directive") => Choice,
        ("SignalWorkersRequest", "grace") => Span { min: 0, max: 30 * DAY },

        ("LeaseJobsRequest" | "Hello", "types") => TYPES,
        ("LeaseJobsRequest" | "Hello", "subscriptions") => List { min: 0, max: 1_000, item: &Inside },
        ("LeaseJobsRequest", "max_jobs") => Int { min: 0, max: 1_000 },
        ("LeaseJobsRequest", "wait") => Span { min: 0, max: 60 },
        ("LeaseJobsRequest" | "ExtendLeasesRequest", "lease_ttl") => LEASE,
        ("LeaseJobsRequest" | "Hello", "worker_id") => Any,
        ("Subscription", "queue") => Pattern,
        ("Subscription", "weight" | "max_slots") => Int { min: 0, max: i32::MAX as i64 },
        ("ExtendLeasesRequest", "lease_tokens") => List { min: 1, max: 1_000, item: &Any },

        ("ReportJobsRequest" | "StreamJobsRequest", "outcomes") => List { min: 0, max: 1_000, item: &Inside },
        // Reports that make no sense are dropped: nothing depends on them.
        ("ReportJobsRequest" | "StreamJobsRequest", "progress" | "logs") => Any,
        ("StreamJobsRequest", "started" | "heartbeat" | "state") => Any,
        ("StreamJobsRequest", "received_seq") => ReceivedSeq,
        ("StreamJobsRequest" | "Hello", "capacity") => Inside,
        ("StreamJobsRequest", "hello") => Hello,
        ("Hello", "session_id") => Text { min: 1, max: 64 },
        ("Hello", "held" | "info" | "features" | "lease_ttl") => Any,
        ("Hello", "revision") => Revision,
        ("Capacity", "slots" | "concurrency") => Int { min: 0, max: i32::MAX as i64 },
        ("Capacity", "max_bytes") => Int { min: 0, max: i64::MAX },

        ("Outcome", "lease_token") => LeaseToken,
        ("Outcome", "succeeded" | "failed" | "snoozed" | "checkpoint") => Inside,
        ("Outcome", "cancelled" | "released" | "run_duration") => Any,
        ("Outcome", "enqueue") => JOBS,
        ("Succeeded", "result") => Inside,
        ("Failed", "failure") => Inside,
        ("Failed", "action") => Any,
        ("Failed", "retry_delay") => SPAN,
        ("Failure", "details") => Inside,
        // Cut; causes beyond the fifth are dropped.
        ("Failure", "kind" | "type" | "message" | "stack_trace" | "cause") => Any,
        ("Snoozed", "delay") => SPAN,
        ("Snoozed", "reason" | "throttle") => Any,
        _ => return None,
    })
}
