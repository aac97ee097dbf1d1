//! What a job waits for.

use jobwire_proto::v1 as pb;

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
