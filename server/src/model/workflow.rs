//! A workflow as it is asked for and as it is kept: plain data. What the end of a node means is decided in
//! `engine/workflow`. A job that waits for other jobs without a workflow is kept as one of a single node.
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{
    ids::{JobId, Name, Shard},
    job::JobSpec,
    op::NewJob,
    state::State,
    time::{DAY, HOUR},
};

/// Documents that are workflows: this, and the id.
pub const PREFIX: &str = "flow/";
/// Documents that are the nodes of one call: this, the id of the workflow, and a hash of the content.
const PART_PREFIX: &str = "flowpart/";

/// Nodes of a workflow at most.
pub const NODES_MOST: usize = 1_000_000;
/// An open workflow that does not say how long it may take is cancelled after so long.
pub const OPEN_MS: i64 = 7 * DAY;
/// How long a workflow is kept after its end when it does not say: FAILED ones, and others.
pub const RETENTION_MS: (i64, i64) = (30 * DAY, HOUR);

/// What the failure of a node does to those that can no longer be satisfied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailurePolicy {
    #[default]
    CancelDependants,
    CancelAll,
    Hold,
}

/// When a dependency is satisfied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    #[default]
    Succeeded,
    /// Ended in any other way.
    Failed,
    /// Ended, whichever way.
    Finished,
}

/// What a job waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Job(JobId),
    /// Of the same workflow.
    Node(Name),
    /// Every node of that group.
    Group(Name),
}

/// One thing that a job waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub target: Target,
    pub condition: Condition,
    /// Its result travels with the job.
    pub pass_result: bool,
    /// Empty = the node's name, then the job's id.
    pub alias: String,
}

/// Where in a workflow a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub workflow: JobId,
    /// `None` = a callback.
    pub node: Option<Name>,
}

/// A node as it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSpec {
    pub name: Name,
    pub group: Option<Name>,
    pub job: JobSpec,
}

/// A workflow as it is asked for, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowSpec {
    pub id: Option<Uuid>,
    pub name: Option<Name>,
    pub nodes: Vec<NodeSpec>,
    pub policy: FailurePolicy,
    /// In the order of [`Callback`].
    pub callbacks: [Option<JobSpec>; 3],
    pub open: bool,
    pub parent: Option<JobId>,
    pub tags: Vec<String>,
    pub total_timeout_ms: Option<i64>,
    pub retention_ms: Option<i64>,
}

/// A job that tells of the workflow's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callback {
    Success = 0,
    Failure = 1,
    Finish = 2,
}

impl Callback {
    pub const ALL: [Self; 3] = [Self::Success, Self::Failure, Self::Finish];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "on_success",
            Self::Failure => "on_failure",
            Self::Finish => "on_finish",
        }
    }
}

/// What is known of a node. Ends are those of jobs, and two more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Mark {
    /// BLOCKED.
    Waiting,
    /// It may run, runs, or is between attempts.
    Released,
    Succeeded,
    Dead,
    Cancelled,
    Expired,
    Discarded,
    /// Deleted before its end.
    Gone,
    /// Cancelled by the workflow, because a dependency could not be satisfied any more or everything was.
    Skipped,
}

impl Mark {
    pub fn ended(self) -> bool {
        !matches!(self, Self::Waiting | Self::Released)
    }

    /// Ended in another way than success.
    pub fn failed(self) -> bool {
        self.ended() && self != Self::Succeeded
    }

    /// The state of the job, as far as it is known from this.
    pub fn state(self) -> State {
        match self {
            Self::Waiting => State::Blocked,
            Self::Released => State::Ready,
            Self::Succeeded => State::Succeeded,
            Self::Dead => State::Dead,
            Self::Cancelled | Self::Gone | Self::Skipped => State::Cancelled,
            Self::Expired => State::Expired,
            Self::Discarded => State::Discarded,
        }
    }

    /// Of a job in this state; `None` = it is gone.
    pub fn of(state: Option<State>) -> Self {
        match state {
            None => Self::Gone,
            Some(State::Blocked) => Self::Waiting,
            Some(State::Scheduled | State::Ready | State::Running | State::Retrying) => Self::Released,
            Some(State::Succeeded) => Self::Succeeded,
            Some(State::Dead) => Self::Dead,
            Some(State::Cancelled) => Self::Cancelled,
            Some(State::Expired) => Self::Expired,
            Some(State::Discarded) => Self::Discarded,
        }
    }
}

/// Where a workflow is. Numbers are those of the contract's `WorkflowState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum FlowState {
    Running = 1,
    Held = 2,
    Succeeded = 3,
    Failed = 4,
    Cancelled = 5,
}

impl FlowState {
    pub const NAMES: &[&str] = &["RUNNING", "HELD", "SUCCEEDED", "FAILED", "CANCELLED"];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize - 1]
    }

    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Running | Self::Held)
    }
}

/// What a node waits for, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum To {
    /// The number of a node.
    Node(u32),
    Group(Name),
    Job(JobId),
}

/// A node as it is kept: never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub name: Name,
    pub group: Option<Name>,
    /// Of its job, or of the workflow that it is.
    pub id: JobId,
    pub nested: bool,
    /// Tells a repeated addition from another one.
    pub content: u64,
    pub edges: Vec<(To, Condition)>,
}

/// The nodes of one call, and with the first the callbacks: a document of its own, never changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub nodes: Vec<Node>,
    pub callbacks: [Option<NewJob>; 3],
}

/// A request to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub reason: String,
    /// For running jobs; `None` = as long as it takes.
    pub grace_ms: Option<i64>,
}

/// A workflow as it is kept: what changes. The document of it is the one place where its fate is decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// A job that waits for others without a workflow: not listed, and gone when the job has ended.
    pub lone: Option<Part>,
    pub name: Option<Name>,
    pub policy: FailurePolicy,
    pub state: FlowState,
    pub open: bool,
    pub parent: Option<JobId>,
    pub tags: Vec<String>,
    /// Hashes of the parts, in order.
    pub parts: Vec<u128>,
    /// Of the nodes, in order of the parts.
    #[serde(with = "runs")]
    pub marks: Vec<Mark>,
    /// Jobs outside that nodes wait for.
    pub outside: Vec<(JobId, Mark)>,
    pub stop: Option<Stop>,
    /// A node failed and nobody waits for that.
    pub failed: bool,
    /// Which callbacks were enqueued, a bit each.
    pub called: u8,
    pub create_ms: i64,
    /// When nodes were added last.
    pub grow_ms: i64,
    /// 0 = not ended.
    pub finish_ms: i64,
    /// When everything is cancelled; 0 = never.
    pub deadline_ms: i64,
    pub retention_ms: Option<i64>,
    /// When it goes with all its nodes; 0 = not ended.
    pub purge_ms: i64,
    /// Tells a repeated creation from another one.
    pub content: u64,
    /// How often its nodes were looked at since anything moved.
    pub looks: u32,
}

/// Format of the documents.
const VERSION: u8 = 1;

fn encode(value: &impl Serialize) -> Bytes {
    postcard::to_extend(value, vec![VERSION]).expect("plain data always encodes").into()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (version, rest) = bytes.split_first()?;
    if *version == VERSION { postcard::from_bytes(rest).ok() } else { None }
}

impl Flow {
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// `None`: damaged, or of a later release.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }

    /// Everything that has not ended is being cancelled, and nothing new begins.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_some() || self.policy == FailurePolicy::CancelAll && self.failed
    }

    pub fn has_called(&self, callback: Callback) -> bool {
        self.called & (1 << callback as u8) != 0
    }
}

impl Part {
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }
}

/// The key of a workflow's document.
pub fn key(id: JobId) -> String {
    format!("{PREFIX}{id}")
}

/// The workflow that a document is.
pub fn id_of(key: &str) -> Option<JobId> {
    key.strip_prefix(PREFIX)?.parse().ok()
}

/// The key of the document with one call's nodes.
pub fn part_key(id: JobId, hash: u128) -> String {
    format!("{PART_PREFIX}{id}/{hash:032x}")
}

/// The shard that keeps the document, when it is a workflow's or a part of one.
pub fn home(key: &str) -> Option<Shard> {
    let id = key.strip_prefix(PREFIX).or_else(|| key.strip_prefix(PART_PREFIX)?.get(..36))?;
    Some(id.parse::<JobId>().ok()?.shard())
}

/// The id that a proposal becomes, in a store of so many shards.
pub fn flow_id(proposal: Uuid, shards: u16) -> JobId {
    // The bits that a stamp overwrites must not count.
    let shard = xxh3_64(&proposal.as_bytes()[9..]) % u64::from(shards.max(1));
    JobId::stamp(proposal, Shard(shard as u16))
}

/// What the id of a node, or of a callback (`what`), is made from.
pub fn computed(flow: JobId, what: &str, name: &str) -> Uuid {
    let mut hash = Xxh3::new();
    for part in [flow.as_bytes().as_slice(), what.as_bytes(), &[0], name.as_bytes()] {
        hash.update(part);
    }
    Uuid::new_v8(hash.digest128().to_be_bytes())
}

/// Marks as runs of equal ones: most of a large workflow has ended, or waits.
mod runs {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use super::{Mark, NODES_MOST};

    pub fn serialize<S: Serializer>(marks: &[Mark], to: S) -> Result<S::Ok, S::Error> {
        let runs: Vec<(Mark, u32)> = marks.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)).collect();
        runs.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Mark>, D::Error> {
        let runs = Vec::<(Mark, u32)>::deserialize(from)?;
        let all: u64 = runs.iter().map(|(_, count)| u64::from(*count)).sum();
        if all > NODES_MOST as u64 {
            return Err(D::Error::custom("more nodes than a workflow may have"));
        }
        Ok(runs.into_iter().flat_map(|(mark, count)| std::iter::repeat_n(mark, count as usize)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_keys_say_where_things_are() {
        let id = flow_id(Uuid::now_v7(), 16);
        assert_eq!(id, flow_id(Uuid::from_bytes(*id.as_bytes()), 16), "the same proposal, stamped or not");
        assert_eq!(id_of(&key(id)), Some(id));
        assert_eq!((home(&key(id)), home(&part_key(id, 5))), (Some(id.shard()), Some(id.shard())));
        assert_eq!((home("schedule/x"), home("flow/x")), (None, None));
        assert_ne!(computed(id, "node", "a"), computed(id, "callback", "a"));
    }

    #[test]
    fn marks_are_kept_as_runs() {
        let mut flow = Flow {
            lone: None,
            name: None,
            policy: FailurePolicy::Hold,
            state: FlowState::Held,
            open: true,
            parent: None,
            tags: vec!["t".into()],
            parts: vec![u128::MAX],
            marks: vec![Mark::Succeeded; 100_000],
            outside: vec![(JobId::from_bytes([1; 16]), Mark::Gone)],
            stop: Some(Stop { reason: "r".into(), grace_ms: None }),
            failed: true,
            called: 3,
            create_ms: 1,
            grow_ms: 2,
            finish_ms: 3,
            deadline_ms: 4,
            retention_ms: Some(5),
            purge_ms: 6,
            content: 7,
            looks: 8,
        };
        flow.marks.extend([Mark::Released, Mark::Waiting, Mark::Skipped]);
        let bytes = flow.encode();
        assert!(bytes.len() < 150, "{}", bytes.len());
        assert_eq!(Flow::decode(&bytes), Some(flow));
        assert_eq!(Flow::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Flow::decode(b"\x02rest"), None);
    }
}
