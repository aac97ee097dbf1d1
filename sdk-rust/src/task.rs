//! A task: a job type declared in code, once, where producers can import it without worker code.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::draft::Draft;
use crate::options::Options;
use crate::task_call::TaskCall;

/// A job type: its name, its input (the type itself, by serde), its output and its default options.
///
/// ```
/// # use jobwire::{Options, Retry, Task, mins, secs};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize)]
/// struct SendMail { to: String, body: String }
///
/// impl Task for SendMail {
///     const TYPE: &'static str = "email.send";
///     type Output = String;
///     fn options() -> Options {
///         Options::new().queue("mail").timeout(secs(30)).retry(Retry::exponential(8, secs(2)).max_delay(mins(10)))
///     }
/// }
/// ```
pub trait Task: Serialize + DeserializeOwned + Send + 'static {
    /// Name of the job type, the same in every language: `[A-Za-z0-9_.:/-]{1,128}`.
    const TYPE: &'static str;

    /// What the handler returns: any JSON value. Both ends need it, so it is written and read by serde.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// What each enqueue starts from; the call's own options win over these. Default: everything from the queue's
    /// configuration, then the server's.
    fn options() -> Options {
        Options::new()
    }

    /// Options that depend on the input: a unique or idempotency key, a tenant to be fair to, tags. What each enqueue of
    /// this very input starts from instead of [`options`](Self::options), so begin with those. A worker knows no input:
    /// its default queue comes from `options()`.
    ///
    /// ```
    /// # use jobwire::{Options, Task};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct SendMail { to: String, tenant: String }
    /// impl Task for SendMail {
    ///     const TYPE: &'static str = "email.send";
    ///     type Output = String;
    ///     fn options_for(&self) -> Options {
    ///         Self::options().unique(&self.to).fairness_key(&self.tenant)
    ///     }
    /// }
    /// ```
    fn options_for(&self) -> Options {
        Self::options()
    }

    /// A call of this task to hand on, with options of its own: to a [`Schedule`](crate::Schedule), say.
    fn s(self) -> TaskCall<Self::Output> {
        TaskCall::new(Draft::task(&self))
    }
}
