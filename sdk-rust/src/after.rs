//! What a job waits for, and what came of it.

use jobwire_proto::v1 as pb;

use crate::payload::Payload;
use crate::types::{Failure, JobState};

/// Another job that a job waits for, and how that one has to end. A job that can no longer be satisfied is cancelled.
///
/// ```no_run
/// # use jobwire::{After, prelude::*};
/// # #[derive(Serialize, Deserialize)] struct Load; #[derive(Serialize, Deserialize)] struct Alert;
/// # impl Task for Load { const TYPE: &'static str = "load"; type Output = (); }
/// # impl Task for Alert { const TYPE: &'static str = "alert"; type Output = (); }
/// # async fn example(client: Client) -> Result<(), Error> {
/// let load = client.enqueue(Load).await?;
/// client.enqueue(Load).after(&load).await?; // once the first one has succeeded
/// client.enqueue(Alert).after(After::failed(&load)).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct After {
    pub(crate) dependency: pb::Dependency,
}

impl After {
    /// Once it has ended well.
    pub fn succeeded(job: impl Into<Self>) -> Self {
        job.into().on(pb::DependencyCondition::Succeeded)
    }

    /// Once it has ended in any other way.
    pub fn failed(job: impl Into<Self>) -> Self {
        job.into().on(pb::DependencyCondition::Failed)
    }

    /// Once it has ended, whichever way.
    pub fn finished(job: impl Into<Self>) -> Self {
        job.into().on(pb::DependencyCondition::Finished)
    }

    /// A node of the workflow that is extended, by its name.
    pub fn node(name: impl Into<String>) -> Self {
        Self::target(pb::dependency::Target::Node(name.into()))
    }

    /// All nodes of a group of the workflow, by its name.
    pub fn group(name: impl Into<String>) -> Self {
        Self::target(pb::dependency::Target::Group(name.into()))
    }

    pub(crate) fn target(target: pb::dependency::Target) -> Self {
        Self { dependency: pb::Dependency { target: Some(target), ..Default::default() } }
    }

    fn on(mut self, condition: pb::DependencyCondition) -> Self {
        self.dependency.condition = condition as i32;
        self
    }
}

/// The job with this id.
impl From<&str> for After {
    fn from(id: &str) -> Self {
        id.to_owned().into()
    }
}

/// The job with this id.
impl From<String> for After {
    fn from(id: String) -> Self {
        Self::target(pb::dependency::Target::JobId(id))
    }
}

#[cfg(feature = "client")]
impl<O> From<&crate::Job<O>> for After {
    fn from(job: &crate::Job<O>) -> Self {
        job.id().into()
    }
}

/// How a job ended that another one depended on.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DependencyResult {
    /// What it is called there: the key that it is bound to, or its node, or its id.
    pub alias: String,
    /// Its id.
    pub job_id: String,
    /// How it ended.
    pub state: JobState,
    /// What it gave; empty unless it succeeded.
    pub result: Payload,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

impl DependencyResult {
    pub(crate) fn from_proto(result: pb::DependencyResult) -> Self {
        Self {
            alias: result.alias,
            job_id: result.job_id,
            state: JobState::from_proto(result.state),
            result: result.result.map(Payload::from_proto).unwrap_or_default(),
            failure: result.failure.map(Failure::from_proto),
        }
    }
}
