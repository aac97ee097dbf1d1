//! Batch handlers: one call for several jobs, and an outcome for each.

use std::future::Future;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};

use crate::context::{Ctx, RawCtx, in_batch};
use crate::errors::Error;
use crate::handler::{Args, States, written};
use crate::job_error::{JobError, panicked};
use crate::payload::Payload;
use crate::task::Task;
use crate::types::CancelReason;

/// What a member has said of itself.
type Word = Arc<Mutex<Option<Result<Payload, JobError>>>>;

/// The jobs of one call of a batch handler. Each keeps its own lease, attempts, retries and cancellation.
///
/// ```
/// # use jobwire::prelude::*;
/// # use jobwire::Batch;
/// # #[derive(Serialize, Deserialize)] struct Push { to: String }
/// # impl Task for Push { const TYPE: &'static str = "push.send"; type Output = u64; }
/// # async fn provider(to: Vec<&str>) -> Result<Vec<u64>, std::io::Error> { Ok(to.iter().map(|_| 7).collect()) }
/// async fn push(batch: Batch<Push>) -> Result<Vec<u64>, JobError> {
///     let receipts = provider(batch.inputs().map(|push| push.to.as_str()).collect()).await?; // fails each of them
///     for (job, receipt) in batch.jobs().iter().zip(&receipts) {
///         if *receipt == 0 {
///             job.fail(JobError::non_retryable("no phone")); // this one only
///         }
///     }
///     Ok(receipts) // results of the others, in order
/// }
/// # fn worker(client: Client) { let _ = Worker::builder(client).handle_batch(500, millis(200), push); }
/// ```
#[derive(Debug)]
pub struct Batch<T: Task> {
    jobs: Vec<BatchJob<T>>,
}

impl<T: Task> Batch<T> {
    /// The jobs, in the order in which they came; at least one.
    pub fn jobs(&self) -> &[BatchJob<T>] {
        &self.jobs
    }

    /// The jobs, each to be handed on by itself.
    pub fn into_jobs(self) -> Vec<BatchJob<T>> {
        self.jobs
    }

    /// What their producers sent, in the same order.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = &T> {
        self.jobs.iter().map(|job| &job.input)
    }

    /// How many.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// When all of them will be cancelled: the shortest of their timeouts.
    pub fn deadline(&self) -> Option<Instant> {
        self.jobs.iter().filter_map(|job| job.deadline()).min()
    }

    /// Resolves once every job of the call is cancelled: the handler should stop. A single one is only marked, with
    /// [`cancel_reason`](RawCtx::cancel_reason).
    pub async fn cancelled(&self) {
        join_all(self.jobs.iter().map(|job| job.raw.cancelled())).await;
    }

    /// Why it should stop: what the first of the jobs was told, once all have been told to stop.
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        let reasons: Option<Vec<_>> = self.jobs.iter().map(|job| job.cancel_reason()).collect();
        reasons?.first().copied()
    }

    /// Reports the progress of all of them: percent (0 to 100) and a message.
    pub fn progress(&self, percent: f64, message: impl Into<String>) {
        let message = message.into();
        self.jobs.iter().for_each(|job| job.raw.progress(percent, message.clone()));
    }
}

/// One job of a batch: its input, everything of [`RawCtx`], and how it ends. The last word counts, and it counts more than
/// what the handler returns.
#[derive(Debug)]
pub struct BatchJob<T: Task> {
    raw: RawCtx,
    input: T,
    word: Word,
}

impl<T: Task> BatchJob<T> {
    /// What its producer sent.
    pub fn input(&self) -> &T {
        &self.input
    }

    /// Succeeded, with this result.
    pub fn succeed(&self, output: &T::Output) {
        self.say(written(output));
    }

    /// Failed: whatever a handler may return as its error, so also [`JobError::discard`], or
    /// [`JobError::cancelled`] for one that was cancelled.
    pub fn fail(&self, error: impl Into<JobError>) {
        self.say(Err(error.into()));
    }

    /// Not now: runs again after `delay`. Uses up no attempt.
    pub fn snooze(&self, delay: Duration) {
        self.say(Err(JobError::snooze(delay)));
    }

    /// Failed, and not to be tried again before `delay`.
    pub fn retry_after(&self, delay: Duration, message: impl Into<String>) {
        self.say(Err(JobError::retry_after(delay, message)));
    }

    fn say(&self, word: Result<Payload, JobError>) {
        *self.word.lock().expect("no holder panics") = Some(word);
    }
}

impl<T: Task> Deref for BatchJob<T> {
    type Target = RawCtx;

    fn deref(&self) -> &RawCtx {
        &self.raw
    }
}

/// What a batch handler returns: nothing, and its jobs have succeeded without a result; or their results, in order.
pub trait BatchOutput<T: Task>: Send + 'static {
    #[doc(hidden)]
    fn results(self) -> Option<Vec<T::Output>>;
}

impl<T: Task> BatchOutput<T> for () {
    fn results(self) -> Option<Vec<T::Output>> {
        None
    }
}

impl<T: Task> BatchOutput<T> for Vec<T::Output> {
    fn results(self) -> Option<Vec<T::Output>> {
        Some(self)
    }
}

/// An async function of a [`Batch`] and up to three [`State`](crate::State)s that gives nothing, one output for each job, or
/// a [`JobError`], which is then the error of each job that has said nothing of itself.
pub trait BatchHandler<T: Task, A: Args>: Send + Sync + 'static {
    #[doc(hidden)]
    fn call(
        &self,
        batch: Batch<T>,
        args: A,
    ) -> impl Future<Output = Result<Option<Vec<T::Output>>, JobError>> + Send + 'static;
}

/// How the call of a batch ended: what each job has said, and what became of the others.
pub(crate) struct Ended {
    words: Vec<Option<Result<Payload, JobError>>>,
    rest: Result<Vec<Payload>, JobError>,
}

impl Ended {
    /// Each job's own end, in order. `classify` is asked about every error once.
    pub fn each(self, classify: impl Fn(JobError) -> JobError) -> Vec<Result<Payload, JobError>> {
        let mut rest = self.rest.map(Vec::into_iter).map_err(&classify);
        let mut end = |word: Option<Result<Payload, JobError>>| {
            let other = match &mut rest {
                Ok(results) => Ok(results.next().unwrap_or_default()),
                Err(error) => Err(error.again()),
            };
            word.map_or(other, |word| word.map_err(&classify))
        };
        self.words.into_iter().map(&mut end).collect()
    }
}

/// A batch handler without its types.
pub(crate) type ErasedBatch = Arc<dyn Fn(Vec<RawCtx>) -> BoxFuture<'static, Ended> + Send + Sync>;

/// Makes a batch handler once all states are known.
pub(crate) type PrepareBatch = Box<dyn FnOnce(&States) -> Result<ErasedBatch, Error> + Send>;

pub(crate) fn prepare_batch<T: Task, A: Args>(handler: impl BatchHandler<T, A>) -> PrepareBatch {
    let handler = Arc::new(handler);
    Box::new(move |states| {
        let args = A::from_states(states)?;
        Ok(Arc::new(move |all| call(handler.clone(), args.clone(), all).boxed()))
    })
}

async fn call<T: Task, A: Args>(handler: Arc<impl BatchHandler<T, A>>, args: A, all: Vec<RawCtx>) -> Ended {
    let words: Vec<Word> = all.iter().map(|_| Word::default()).collect();
    let mut jobs = Vec::with_capacity(all.len());
    // A payload that does not fit ends its own job; the handler never sees it.
    let mut unread = Vec::new();
    for (raw, word) in all.into_iter().zip(&words) {
        match Ctx::<T>::read(raw) {
            Ok(ctx) => {
                let (input, raw) = ctx.into_parts();
                jobs.push(BatchJob { raw, input, word: word.clone() });
                unread.push(None);
            }
            Err(error) => unread.push(Some(error)),
        }
    }
    let count = jobs.len();
    let rest = if jobs.is_empty() {
        Ok(Vec::new())
    } else {
        let members: Arc<[RawCtx]> = jobs.iter().map(|job| job.raw.clone()).collect();
        // The call itself may panic as well, so it happens inside.
        let run = async { handler.call(Batch { jobs }, args).await };
        let ended = AssertUnwindSafe(in_batch(members, run)).catch_unwind().await;
        ended.unwrap_or_else(|panic| Err(panicked(&*panic))).and_then(|results| read_results::<T>(results, count))
    };
    // Of the results, those of jobs that could not be read are missing.
    let rest = rest.map(|results| {
        let mut results = results.into_iter();
        let place = |unread: &Option<JobError>| if unread.is_some() { None } else { results.next() };
        unread.iter().map(place).map(Option::unwrap_or_default).collect()
    });
    let said = |word: Word| word.lock().expect("no holder panics").take();
    let words = words.into_iter().zip(unread);
    Ended { words: words.map(|(word, unread)| unread.map(Err).or_else(|| said(word))).collect(), rest }
}

fn read_results<T: Task>(results: Option<Vec<T::Output>>, count: usize) -> Result<Vec<Payload>, JobError> {
    let Some(results) = results else { return Ok(vec![Payload::json_text("null"); count]) };
    if results.len() != count {
        let message = format!("the handler of {} gave {} results for {count} jobs", T::TYPE, results.len());
        return Err(JobError::new(message).kind("BatchResults"));
    }
    results.into_iter().map(written).collect()
}
