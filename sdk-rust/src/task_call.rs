//! A call of a task that somebody else will make: its input and its options, to hand on.

use std::marker::PhantomData;

use serde::Serialize;

use crate::draft::Draft;
use crate::options::{Options, option_setters};
use crate::payload::Payload;
use crate::task::Task;

/// A task with its input and options, to hand on: to a [`Schedule`](crate::Schedule), whose jobs are made of it. Made by
/// [`Task::s`], or by [`raw`](Self::raw) from the name of a type that is handled in another language. `O` is what the job
/// will give.
///
/// ```
/// # use jobwire::{Options, Task, mins};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct Report { kind: String }
/// # impl Task for Report { const TYPE: &'static str = "report.build"; type Output = String; }
/// let call = Report { kind: "sales".into() }.s().queue("reports").timeout(mins(10));
/// ```
#[must_use = "a call does nothing until it is handed on"]
pub struct TaskCall<O> {
    pub(crate) draft: Draft,
    output: PhantomData<fn() -> O>,
}

impl<O> TaskCall<O> {
    option_setters!();

    /// Replaces all options, the task's own included.
    pub fn options(mut self, options: Options) -> Self {
        self.draft.replace_options(options);
        self
    }

    /// The same call, its output read as something else.
    pub fn typed<P>(self) -> TaskCall<P> {
        TaskCall { draft: self.draft, output: PhantomData }
    }

    pub(crate) fn new(draft: Draft) -> Self {
        Self { draft, output: PhantomData }
    }

    fn edit(mut self, change: impl Fn(&mut Options)) -> Self {
        change(&mut self.draft.options);
        self
    }
}

impl TaskCall<serde_json::Value> {
    /// A call of any type with any JSON, such as one that is handled in another language.
    pub fn raw<P: Serialize + ?Sized>(r#type: impl Into<String>, payload: &P) -> Self {
        Self::new(Draft::new(r#type.into(), Options::new(), Payload::json(payload)))
    }
}

impl<O> Clone for TaskCall<O> {
    fn clone(&self) -> Self {
        Self { draft: self.draft.clone(), output: PhantomData }
    }
}

impl<O> std::fmt::Debug for TaskCall<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TaskCall").field(&self.draft).finish()
    }
}

/// What can be handed on: a [`Task`], with its own options, or a [`TaskCall`].
pub trait IntoTaskCall {
    /// What the job will give.
    type Output;

    /// The call.
    fn into_task_call(self) -> TaskCall<Self::Output>;
}

impl<T: Task> IntoTaskCall for T {
    type Output = T::Output;

    fn into_task_call(self) -> TaskCall<T::Output> {
        self.s()
    }
}

impl<O> IntoTaskCall for TaskCall<O> {
    type Output = O;

    fn into_task_call(self) -> TaskCall<O> {
        self
    }
}
