//! What a handler knows about its job, and how it talks to the outside while it runs.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use jobwire_proto::v1 as pb;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::after::DependencyResult;
use crate::convert::{from_duration, from_timestamp, to_timestamp};
use crate::draft::Draft;
use crate::errors::Error;
use crate::job_error::JobError;
use crate::mailbox::{Event, Mailbox};
use crate::options::{Options, option_setters};
use crate::payload::Payload;
use crate::session::{Control, News, Start, Token};
use crate::task::Task;
use crate::telemetry::{Current, hand_on};
use crate::types::{CancelReason, Failure, LogLevel, Progress};

const CHECKPOINT_MAX: usize = 64 << 10;
const PROGRESS_MAX: usize = 4 << 10;
const LOG_LINE_MAX: usize = 8 << 10;
/// Lines of one job that wait for the session, which empties this within milliseconds.
const LOG_LINES_MAX: usize = 1_000;
const ENQUEUE_MAX: usize = 1_000;

tokio::task_local! {
    static CURRENT: RawCtx;
    /// Several, in a call of a batch handler.
    static BATCH: Arc<[RawCtx]>;
}

/// Runs a call of a batch handler, so that [`running`] sees its jobs.
pub(crate) async fn in_batch<F: Future>(jobs: Arc<[RawCtx]>, call: F) -> F::Output {
    BATCH.scope(jobs, call).await
}

/// Does something for the job that runs here, or for each of a batch.
pub(crate) fn running(mut each: impl FnMut(&RawCtx)) {
    if let Some(ctx) = RawCtx::current() {
        each(&ctx);
    } else {
        let _ = BATCH.try_with(|jobs| jobs.iter().for_each(each));
    }
}

/// The context of a typed handler: its input, and everything of [`RawCtx`].
#[derive(Debug)]
pub struct Ctx<T: Task> {
    raw: RawCtx,
    input: T,
}

impl<T: Task> Ctx<T> {
    /// What the producer sent.
    pub fn input(&self) -> &T {
        &self.input
    }

    /// The input and the rest of the context.
    pub fn into_parts(self) -> (T, RawCtx) {
        (self.input, self.raw)
    }

    /// Reads the payload. What cannot be read is never retried.
    pub(crate) fn read(raw: RawCtx) -> Result<Self, JobError> {
        let payload = raw.payload();
        let input = match payload.to() {
            Err(_) if payload.is_empty() => Payload::json_text("{}").to(),
            read => read,
        };
        match input {
            Ok(input) => Ok(Self { raw, input }),
            Err(Error::Codec { message, .. }) => {
                Err(JobError::unprocessable(format!("payload of {}: {message}", T::TYPE)))
            }
            Err(error) => Err(JobError::unprocessable(format!("payload of {}: {error}", T::TYPE))),
        }
    }
}

impl<T: Task> Deref for Ctx<T> {
    type Target = RawCtx;

    fn deref(&self) -> &RawCtx {
        &self.raw
    }
}

/// The context of a running job. Cheap to clone; clones may move to other tasks and threads.
#[derive(Clone)]
pub struct RawCtx(Arc<Inner>);

struct Inner {
    token: Token,
    lease: Box<pb::JobLease>,
    task: pb::Task,
    payload: Payload,
    deadline: Option<Instant>,
    control: Arc<Control>,
    mailbox: Arc<Mailbox>,
    checkpoint: OnceLock<Option<Payload>>,
    notes: Mutex<Notes>,
}

/// What the handler said and the session has not fetched yet, and what travels with the outcome.
#[derive(Default)]
struct Notes {
    news: News,
    announced: bool,
    saved: Option<pb::Payload>,
    enqueue: Vec<(pb::JobSpec, bool)>,
}

impl RawCtx {
    pub(crate) fn new(start: Start, mut task: pb::Task, mailbox: Arc<Mailbox>) -> Self {
        let payload = task.payload.take().map(Payload::from_proto).unwrap_or_default();
        Self(Arc::new(Inner {
            token: start.token,
            lease: start.job,
            task,
            payload,
            deadline: start.deadline,
            control: start.control,
            mailbox,
            checkpoint: OnceLock::new(),
            notes: Mutex::default(),
        }))
    }

    /// The context of the job that runs here, if one does: for code that is called from a handler without being given
    /// its context. A batch handler runs several, and none here. Not seen in tasks and threads that the handler spawns, unless by [`scope`](Self::scope).
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Runs `future` so that [`current`](Self::current) and the log capture see this job in it.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    pub(crate) fn sync_scope<R>(self, run: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self, run)
    }

    // --- what the job is ---

    /// Id of the job.
    pub fn job_id(&self) -> &str {
        &self.0.task.id
    }

    /// Its type.
    pub fn job_type(&self) -> &str {
        &self.0.task.r#type
    }

    /// The queue it came from.
    pub fn queue(&self) -> &str {
        &self.0.task.queue
    }

    /// Its argument, as it came.
    pub fn payload(&self) -> &Payload {
        &self.0.payload
    }

    /// 1 for the first attempt. Snoozes, releases and lost workers do not raise it.
    pub fn attempt(&self) -> i32 {
        self.0.lease.attempt
    }

    /// Attempts in all; `attempt() == max_attempts()` means that this is the last one. -1 = no limit.
    pub fn max_attempts(&self) -> i32 {
        self.0.lease.max_attempts
    }

    /// Times this job was ever handed out; rises with every lease. The number to fence other systems with.
    pub fn delivery(&self) -> i32 {
        self.0.lease.delivery
    }

    /// Times a worker vanished with it; 0 again after a manual retry.
    pub fn crashes(&self) -> i32 {
        self.0.lease.crashes
    }

    /// Whose turn it is in its queue, or empty.
    pub fn fairness_key(&self) -> &str {
        &self.0.task.fairness_key
    }

    /// -4 (last) to 4 (first).
    pub fn priority(&self) -> i32 {
        self.0.task.priority
    }

    /// Headers given at enqueue.
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.0.task.headers
    }

    /// Tags given at enqueue.
    pub fn tags(&self) -> &[String] {
        &self.0.task.tags
    }

    /// When it was enqueued.
    pub fn create_time(&self) -> Option<SystemTime> {
        self.0.task.create_time.as_ref().and_then(from_timestamp)
    }

    /// How long it was runnable before this delivery.
    pub fn waited(&self) -> Duration {
        self.0.lease.wait_duration.as_ref().map(from_duration).unwrap_or_default()
    }

    /// The workflow it belongs to, or empty.
    pub fn workflow_id(&self) -> &str {
        &self.0.task.workflow_id
    }

    /// Its name in that workflow, or empty.
    pub fn node(&self) -> &str {
        &self.0.task.node
    }

    /// What the jobs gave that it depends on and asked for, in the order of its dependencies. Those that belong into the
    /// input are there already.
    pub fn dependencies(&self) -> Vec<DependencyResult> {
        self.0.lease.dependencies.iter().cloned().map(DependencyResult::from_proto).collect()
    }

    /// The job that spawned it, or empty.
    pub fn parent_id(&self) -> &str {
        &self.0.task.parent_id
    }

    /// The schedule that made it, or empty.
    pub fn schedule_id(&self) -> &str {
        &self.0.task.schedule_id
    }

    /// The tick it stands for, when it came from a schedule.
    pub fn fire_time(&self) -> Option<SystemTime> {
        self.0.task.fire_time.as_ref().and_then(from_timestamp)
    }

    /// Why the previous attempt failed: kind, type and message.
    pub fn last_failure(&self) -> Option<Failure> {
        self.0.lease.last_failure.clone().map(Failure::from_proto)
    }

    /// When this attempt will be cancelled for its timeout.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    // --- being told to stop ---

    /// Resolves when the handler should stop; see [`cancel_reason`](Self::cancel_reason). Obey by returning
    /// [`JobError::cancelled`]; a handler that does not goes on, and what it returns still counts if it comes in time.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.0.control.token().cancelled()
    }

    /// The token behind [`cancelled`](Self::cancelled), to hand to other libraries.
    pub fn cancellation(&self) -> CancellationToken {
        self.0.control.token().clone()
    }

    /// Why it should stop; None as long as it should not.
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.0.control.reason()
    }

    /// What the one who cancelled said, or empty.
    pub fn cancel_message(&self) -> &str {
        self.0.control.message()
    }

    /// Whether the lease may have run out, because the server has confirmed none for too long: the job may be running
    /// elsewhere by now. Go on unless that would do harm: whatever comes first counts, and a stale outcome is refused.
    /// False again once the server is back and still knows the lease.
    pub fn lease_at_risk(&self) -> bool {
        self.0.control.at_risk(Instant::now())
    }

    /// An error once the handler should stop: for loops, and for blocking handlers.
    pub fn check_cancelled(&self) -> Result<(), JobError> {
        if self.0.control.token().is_cancelled() { Err(JobError::cancelled()) } else { Ok(()) }
    }

    // --- talking ---

    /// Reports progress: percent (0 to 100) and a message. The latest report wins and is sent at most every 250 ms; the
    /// last one always. Resets `heartbeat_timeout`.
    pub fn progress(&self, percent: f64, message: impl Into<String>) {
        self.report(Progress::percent(percent).message(message));
    }

    /// Reports progress in any form. At most 4 KiB; of a larger one only the numbers are sent.
    pub fn report(&self, progress: Progress) {
        let mut progress = progress.into_proto();
        if progress.encoded_len() > PROGRESS_MAX {
            progress.data = None;
            progress.message = String::from("(progress was larger than 4 KiB)");
        }
        self.tell(|news| news.progress = Some(progress));
    }

    /// Adds a line to the job's log. Cut at 8 KiB. Never blocks: under pressure the oldest lines are dropped.
    pub fn log(&self, level: LogLevel, message: impl Into<String>) {
        self.log_with(level, message, BTreeMap::new());
    }

    /// As [`log`](Self::log), with structured fields.
    pub fn log_with(&self, level: LogLevel, message: impl Into<String>, fields: BTreeMap<String, String>) {
        let mut line = pb::LogLine {
            time: Some(to_timestamp(SystemTime::now())),
            level: level.to_proto() as i32,
            message: message.into(),
            fields,
            ..Default::default()
        };
        if line.encoded_len() > LOG_LINE_MAX {
            line.fields.clear();
            let mut room = (LOG_LINE_MAX - 64).min(line.message.len());
            while !line.message.is_char_boundary(room) {
                room -= 1;
            }
            line.message.truncate(room);
        }
        self.tell(|news| {
            if news.lines.len() >= LOG_LINES_MAX {
                news.lines.pop_front();
            }
            news.lines.push_back(line);
        });
    }

    // --- remembering ---

    /// What an earlier attempt, or this one, saved last.
    pub fn checkpoint<C: DeserializeOwned>(&self) -> Result<Option<C>, Error> {
        if let Some(saved) = self.notes().saved.clone() {
            return Payload::from_proto(saved).to().map(Some);
        }
        let earlier = self.0.checkpoint.get_or_init(|| self.0.lease.checkpoint.clone().map(Payload::from_proto));
        earlier.as_ref().map(Payload::to).transpose()
    }

    /// Saves state for the next attempt: with the next progress report, and with the outcome. At most 64 KiB.
    pub fn save_checkpoint<C: Serialize + ?Sized>(&self, state: &C) -> Result<(), Error> {
        let payload = Payload::json(state)?;
        let size = payload.as_bytes().len();
        if size > CHECKPOINT_MAX {
            return Err(Error::invalid("checkpoint", format!("{size} bytes, the limit is {CHECKPOINT_MAX}")));
        }
        let payload = payload.into_proto();
        self.notes().saved = Some(payload.clone());
        self.tell(|news| news.checkpoint = Some(payload));
        Ok(())
    }

    /// Enqueues another job together with this one's outcome, in the same atomic step: exactly once, or not at all. End
    /// with [`on_success`](Follow::on_success) or [`always`](Follow::always). Needs the scope `enqueue`. For a handle,
    /// or for a job that must not wait for this one's end, enqueue with a [`Client`](crate::Client).
    pub fn enqueue<N: Task>(&self, task: N) -> Follow<'_> {
        Follow { ctx: self, draft: Draft::task(&task) }
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.0.notes.lock().expect("no holder panics")
    }

    fn tell(&self, say: impl FnOnce(&mut News)) {
        let announce = {
            let mut notes = self.notes();
            say(&mut notes.news);
            !std::mem::replace(&mut notes.announced, true)
        };
        if announce {
            self.0.mailbox.push(Event::News(self.clone()));
        }
    }

    pub(crate) fn take_news(&self) -> News {
        let mut notes = self.notes();
        notes.announced = false;
        std::mem::take(&mut notes.news)
    }

    pub(crate) fn token(&self) -> &Token {
        &self.0.token
    }

    /// Adds to an outcome what the handler wants to travel with it.
    pub(crate) fn complete(&self, outcome: &mut pb::Outcome) {
        let mut notes = self.notes();
        let succeeded = matches!(outcome.result, Some(pb::outcome::Result::Succeeded(_)));
        if !notes.enqueue.is_empty() {
            let jobs = std::mem::take(&mut notes.enqueue).into_iter();
            outcome.enqueue = jobs.filter(|(_, always)| succeeded || *always).map(|(spec, _)| spec).collect();
        }
        if !succeeded {
            outcome.checkpoint = notes.saved.take();
        }
    }
}

impl std::fmt::Debug for RawCtx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawCtx")
            .field("job_id", &self.job_id())
            .field("job_type", &self.job_type())
            .field("attempt", &self.attempt())
            .field("delivery", &self.delivery())
            .finish_non_exhaustive()
    }
}

/// A job to be enqueued with the outcome of the running one; see [`RawCtx::enqueue`].
#[must_use = "end with on_success() or always()"]
#[derive(Debug)]
pub struct Follow<'a> {
    ctx: &'a RawCtx,
    draft: Draft,
}

impl Follow<'_> {
    option_setters!();

    /// Enqueued if this attempt succeeds.
    pub fn on_success(self) -> Result<(), Error> {
        self.record(false)
    }

    /// Enqueued however this attempt ends, each attempt anew.
    pub fn always(self) -> Result<(), Error> {
        self.record(true)
    }

    fn edit(mut self, change: impl Fn(&mut Options)) -> Self {
        change(&mut self.draft.options);
        self
    }

    fn record(self, always: bool) -> Result<(), Error> {
        let mut spec = self.draft.into_spec()?;
        Current::get().inject(&mut spec);
        hand_on(self.ctx, &mut spec);
        let mut notes = self.ctx.notes();
        if notes.enqueue.len() >= ENQUEUE_MAX {
            return Err(Error::invalid("enqueue", format!("more than {ENQUEUE_MAX} jobs with one outcome")));
        }
        notes.enqueue.push((spec, always));
        Ok(())
    }
}
