//! The fake's jobs, and what becomes of them: pure but for the ids that callers propose. A small likeness of the server's
//! rules; where a test needs more than this, it needs a server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jobwire_proto::v1 as pb;
use pb::outcome::Result as Arm;

use super::moment;
use crate::convert::{from_duration, to_duration, to_timestamp};
use crate::errors::{Code, RpcError};
use crate::session::{Control, News};
use crate::types::{CancelReason, JobState};

const IDEMPOTENCY_TTL: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug)]
pub(super) struct World {
    now: SystemTime,
    /// In order of arrival.
    jobs: Vec<Job>,
    places: HashMap<String, usize>,
    /// Idempotency keys: job, and when they end.
    keys: HashMap<String, (String, SystemTime)>,
}

#[derive(Debug)]
pub(super) struct Job {
    pub spec: pb::JobSpec,
    pub state: pb::JobState,
    pub created: SystemTime,
    pub first_due: SystemTime,
    pub due: SystemTime,
    pub failures: i32,
    pub delivery: i32,
    pub failure: Option<pb::Failure>,
    pub result: Option<pb::Payload>,
    pub checkpoint: Option<pb::Payload>,
    pub progress: Option<pb::Progress>,
    pub lines: Vec<pb::LogLine>,
    pub parent_id: String,
    pub finished: Option<SystemTime>,
    expires: Option<SystemTime>,
    key: Option<Key>,
    control: Option<Arc<Control>>,
}

/// A uniqueness key that the job holds.
#[derive(Debug)]
struct Key {
    name: String,
    scope: pb::UniqueScope,
    until: Option<SystemTime>,
}

impl Job {
    /// The retry policy with the server's defaults, without jitter.
    pub fn policy(&self) -> pb::RetryPolicy {
        let mut policy = self.spec.retry.clone().unwrap_or_default();
        if policy.max_attempts == 0 {
            policy.max_attempts = 20;
        }
        policy
    }

    pub fn is_terminal(&self) -> bool {
        JobState::from_proto(self.state as i32).is_terminal()
    }

    fn holds(&self, name: &str, now: SystemTime) -> bool {
        self.key.as_ref().is_some_and(|key| {
            key.name == name
                && match key.scope {
                    pb::UniqueScope::ForTtl => key.until.is_none_or(|until| now < until),
                    pb::UniqueScope::UntilStarted => self.delivery == 0 && !self.is_terminal(),
                    _ => !self.is_terminal(),
                }
        })
    }

    fn waits(&self) -> bool {
        matches!(self.state, pb::JobState::Scheduled | pb::JobState::Ready | pb::JobState::Retrying)
    }

    fn end(&mut self, state: pb::JobState, now: SystemTime) {
        (self.state, self.finished, self.control) = (state, Some(now), None);
    }

    fn wait_until(&mut self, due: SystemTime, now: SystemTime, state: pb::JobState) {
        self.control = None;
        (self.due, self.state) = (due, if due <= now { pb::JobState::Ready } else { state });
    }
}

impl World {
    pub fn new(now: SystemTime) -> Self {
        Self { now, jobs: Vec::new(), places: HashMap::new(), keys: HashMap::new() }
    }

    pub fn now(&self) -> SystemTime {
        self.now
    }

    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter()
    }

    pub fn get(&self, id: &str) -> Option<&Job> {
        self.places.get(id).map(|place| &self.jobs[*place])
    }

    fn get_mut(&mut self, id: &str) -> Option<&mut Job> {
        self.places.get(id).map(|place| &mut self.jobs[*place])
    }

    pub fn clear(&mut self) {
        (self.jobs, self.places, self.keys) = Default::default();
    }

    pub fn move_to(&mut self, now: SystemTime) {
        self.now = self.now.max(now);
        let now = self.now;
        for job in self.jobs.iter_mut().filter(|job| job.waits()) {
            if job.delivery == 0 && job.expires.is_some_and(|at| at <= now) {
                job.end(pb::JobState::Expired, now);
            } else if job.due <= now {
                job.state = pb::JobState::Ready;
            }
        }
    }

    pub fn put(&mut self, mut spec: pb::JobSpec, parent: Option<&str>) -> Result<pb::EnqueueResult, Box<RpcError>> {
        use pb::EnqueueStatus as Status;
        let now = self.now;
        if let Some(job) = self.get(&spec.id) {
            if (&job.spec.r#type, &job.spec.payload) == (&spec.r#type, &spec.payload) {
                return Ok(answer(job, Status::Duplicate));
            }
            return Err(taken("ID_CONFLICT", &spec.id));
        }
        let home = if spec.queue.is_empty() { &spec.r#type } else { &spec.queue };
        let place = |key: &str| format!("{home}\0{}\0{key}", spec.fairness_key);
        let idempotency = (!spec.idempotency_key.is_empty()).then(|| place(&spec.idempotency_key));
        if let Some((id, until)) = idempotency.as_ref().and_then(|key| self.keys.get(key))
            && now < *until
            && let Some(job) = self.get(id)
        {
            return Ok(answer(job, Status::Duplicate));
        }
        let due = start(&spec, now);
        let expires = match &spec.expiration {
            None => None,
            Some(pb::job_spec::Expiration::Ttl(ttl)) => Some(due.max(now) + from_duration(ttl)),
            Some(pb::job_spec::Expiration::ExpireTime(time)) => moment(Some(time)),
        };
        let mut key = None;
        if let Some(unique) = &spec.unique {
            let name = if unique.key.is_empty() { place(&by_payload(&spec)) } else { place(&unique.key) };
            if let Some(holder) = self.jobs.iter_mut().find(|job| job.holds(&name, now)) {
                use pb::UniqueConflict as Conflict;
                return match unique.on_conflict() {
                    Conflict::Reject => Err(taken("UNIQUE_CONFLICT", &holder.spec.id)),
                    Conflict::Replace if holder.waits() => {
                        spec.id = holder.spec.id.clone();
                        (holder.spec, holder.first_due, holder.expires) = (spec, due, expires);
                        holder.wait_until(due, now, pb::JobState::Scheduled);
                        Ok(answer(holder, Status::Replaced))
                    }
                    Conflict::Debounce if holder.waits() => {
                        holder.wait_until(due, now, pb::JobState::Scheduled);
                        Ok(answer(holder, Status::Replaced))
                    }
                    _ => Ok(answer(holder, Status::Kept)),
                };
            }
            let until = unique.ttl.as_ref().map(|ttl| now + from_duration(ttl));
            key = Some(Key { name, scope: unique.scope(), until });
        }
        if let Some(key) = idempotency {
            let ttl = spec.idempotency_ttl.as_ref().map_or(IDEMPOTENCY_TTL, from_duration);
            self.keys.insert(key, (spec.id.clone(), now + ttl));
        }
        let mut job = Job {
            state: pb::JobState::Ready,
            created: now,
            first_due: due,
            due,
            failures: 0,
            delivery: 0,
            failure: None,
            result: None,
            checkpoint: None,
            progress: None,
            lines: Vec::new(),
            parent_id: parent.unwrap_or_default().to_owned(),
            finished: None,
            expires,
            key,
            control: None,
            spec,
        };
        job.wait_until(due, now, pb::JobState::Scheduled);
        let created = answer(&job, Status::Created);
        self.places.insert(job.spec.id.clone(), self.jobs.len());
        self.jobs.push(job);
        Ok(created)
    }

    /// The job to run next, if one comes due until `target` that has a handler. Moves the clock to its time.
    pub fn next(&mut self, target: SystemTime, handled: impl Fn(&str) -> bool) -> Option<String> {
        self.move_to(self.now);
        loop {
            let due = self
                .jobs
                .iter()
                .enumerate()
                .filter(|(_, job)| job.waits() && job.due <= target && handled(&job.spec.r#type));
            let now = self.now;
            let (place, _) = due.min_by_key(|(place, job)| (job.due.max(now), -job.spec.priority, *place))?;
            self.move_to(self.jobs[place].due);
            // It may have expired on the way.
            if self.jobs[place].waits() {
                return Some(self.jobs[place].spec.id.clone());
            }
        }
    }

    /// Jobs that run in one call with this one, itself first: those of its type that are due now, and of its key if asked.
    pub fn batch(&self, id: &str, max_size: usize, by_key: bool) -> Vec<String> {
        let Some(first) = self.get(id) else { return Vec::new() };
        let with = |job: &&Job| {
            job.spec.id != id
                && job.spec.r#type == first.spec.r#type
                && (!by_key || job.spec.fairness_key == first.spec.fairness_key)
                && job.waits()
                && job.due <= self.now
        };
        let mut others: Vec<&Job> = self.jobs.iter().filter(with).collect();
        others.sort_by_key(|job| (job.due, -job.spec.priority));
        std::iter::once(first).chain(others).take(max_size).map(|job| job.spec.id.clone()).collect()
    }

    pub fn start(&mut self, id: &str, control: Arc<Control>) -> Option<pb::JobLease> {
        let now = self.now;
        let job = self.get_mut(id).filter(|job| !job.is_terminal())?;
        job.state = pb::JobState::Running;
        job.delivery += 1;
        job.control = Some(control);
        Some(super::lease(job, now))
    }

    pub fn told(&mut self, id: &str, news: News) {
        let Some(job) = self.get_mut(id) else { return };
        job.progress = news.progress.or(job.progress.take());
        job.checkpoint = news.checkpoint.or(job.checkpoint.take());
        for mut line in news.lines {
            line.index = job.lines.len() as i64 + 1;
            line.attempt = job.failures + 1;
            job.lines.push(line);
        }
    }

    /// `finally`: nothing is tried again.
    pub fn finish(&mut self, id: &str, outcome: Option<pb::Outcome>, _: Duration, finally: bool) {
        let now = self.now;
        let Some(job) = self.get_mut(id) else { return };
        let outcome = outcome.unwrap_or_default();
        job.checkpoint = outcome.checkpoint.or(job.checkpoint.take());
        match outcome.result {
            Some(Arm::Succeeded(done)) => {
                job.result = done.result;
                job.end(pb::JobState::Succeeded, now);
            }
            Some(Arm::Failed(failed)) => {
                job.failures += 1;
                let next = if finally { Next::Exhausted } else { after_failure(job, &failed) };
                job.failure = failed.failure;
                match next {
                    Next::Retry(delay) => job.wait_until(now + delay, now, pb::JobState::Retrying),
                    Next::Discard => job.end(pb::JobState::Discarded, now),
                    Next::Exhausted => {
                        let discard = job.policy().on_exhausted() == pb::ExhaustedAction::Discard;
                        job.end(if discard { pb::JobState::Discarded } else { pb::JobState::Dead }, now);
                    }
                }
            }
            Some(Arm::Cancelled(cancelled)) => {
                job.failure = Some(pb::Failure { message: cancelled.reason, ..Default::default() });
                job.end(pb::JobState::Cancelled, now);
            }
            Some(Arm::Snoozed(_) | Arm::Released(_)) if finally => {
                let message = "the handler gave its job back, and inline nobody runs it again; fake() has a clock";
                job.failure = Some(pb::Failure { message: message.to_owned(), ..Default::default() });
                job.end(pb::JobState::Dead, now);
            }
            Some(Arm::Snoozed(snoozed)) => {
                let delay = snoozed.delay.as_ref().map(from_duration).unwrap_or_default();
                job.wait_until(now + delay, now, pb::JobState::Scheduled);
            }
            Some(Arm::Released(_)) | None => job.wait_until(now, now, pb::JobState::Ready),
        }
        for spec in outcome.enqueue {
            let _ = self.put(spec, Some(id));
        }
    }

    pub fn cancel(&mut self, id: &str, reason: &str) -> bool {
        let now = self.now;
        let Some(job) = self.get_mut(id) else { return false };
        if let Some(control) = &job.control {
            control.cancel(CancelReason::Requested, reason.to_owned());
        } else if !job.is_terminal() {
            job.failure = Some(pb::Failure { message: reason.to_owned(), ..Default::default() });
            job.end(pb::JobState::Cancelled, now);
        }
        true
    }

    pub fn retry(&mut self, id: &str) -> bool {
        let now = self.now;
        let Some(job) = self.get_mut(id) else { return false };
        if job.state != pb::JobState::Running {
            if job.is_terminal() {
                (job.failures, job.finished) = (0, None);
            }
            job.wait_until(now, now, pb::JobState::Ready);
        }
        true
    }

    pub fn record(&self, id: &str) -> Option<pb::Job> {
        let job = self.get(id)?;
        Some(pb::Job {
            id: job.spec.id.clone(),
            spec: Some(job.spec.clone()),
            state: job.state as i32,
            attempt: job.failures + i32::from(job.state == pb::JobState::Running),
            delivery: job.delivery,
            create_time: Some(to_timestamp(job.created)),
            schedule_time: Some(to_timestamp(job.due)),
            finish_time: job.finished.map(to_timestamp),
            result: job.result.clone(),
            failure: job.failure.clone(),
            progress: job.progress.clone(),
            ..Default::default()
        })
    }

    /// Once it is terminal.
    pub fn result(&self, id: &str) -> Option<pb::JobResult> {
        let job = self.get(id).filter(|job| job.is_terminal())?;
        Some(pb::JobResult {
            job_id: id.to_owned(),
            state: job.state as i32,
            result: job.result.clone(),
            failure: job.failure.clone(),
            ..Default::default()
        })
    }
}

enum Next {
    Retry(Duration),
    Discard,
    Exhausted,
}

fn after_failure(job: &Job, failed: &pb::Failed) -> Next {
    let policy = job.policy();
    let class = failed.failure.as_ref().map_or("", |failure| &failure.r#type);
    let listed = policy.non_retryable_types.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => class.starts_with(prefix),
        None => pattern == class,
    });
    match failed.action() {
        pb::FailureAction::Discard => return Next::Discard,
        pb::FailureAction::Stop => return Next::Exhausted,
        pb::FailureAction::Unspecified if listed => return Next::Exhausted,
        _ => {}
    }
    if policy.max_attempts >= 0 && job.failures >= policy.max_attempts {
        return Next::Exhausted;
    }
    match (failed.action(), &failed.retry_delay) {
        (pb::FailureAction::Retry, Some(delay)) => Next::Retry(from_duration(delay)),
        _ => Next::Retry(backoff(&policy, job.failures)),
    }
}

/// The delay after failure number `failures`, without jitter.
fn backoff(policy: &pb::RetryPolicy, failures: i32) -> Duration {
    let n = failures.max(1) - 1;
    if let Some(last) = policy.delays.len().checked_sub(1) {
        return from_duration(&policy.delays[(n as usize).min(last)]);
    }
    let span = |span: &Option<prost_types::Duration>, default| span.as_ref().map_or(default, from_duration);
    let first = span(&policy.initial_delay, Duration::from_secs(1)).as_secs_f64();
    let most = span(&policy.max_delay, Duration::from_secs(3_600));
    let multiplier = if policy.multiplier == 0.0 { 2.0 } else { policy.multiplier };
    most.min(Duration::try_from_secs_f64(first * multiplier.powi(n)).unwrap_or(most))
}

/// When a job may start first.
fn start(spec: &pb::JobSpec, now: SystemTime) -> SystemTime {
    match &spec.start {
        None => now,
        Some(pb::job_spec::Start::Delay(delay)) => now + from_duration(delay),
        Some(pb::job_spec::Start::ScheduleTime(time)) => moment(Some(time)).unwrap_or(now),
    }
}

fn by_payload(spec: &pb::JobSpec) -> String {
    format!("{}\0{:?}", spec.r#type, spec.payload)
}

fn answer(job: &Job, status: pb::EnqueueStatus) -> pb::EnqueueResult {
    pb::EnqueueResult {
        job_id: job.spec.id.clone(),
        status: status as i32,
        state: job.state as i32,
        schedule_time: Some(to_timestamp(job.due)),
        error: None,
    }
}

fn taken(reason: &str, id: &str) -> Box<RpcError> {
    let mut error = RpcError::local(Code::AlreadyExists, format!("job {id} is there already"));
    error.reason = reason.to_owned();
    error.metadata.insert("job_id".to_owned(), id.to_owned());
    Box::new(error)
}

/// An error for one item of a bulk call.
pub(super) fn item_error(error: RpcError) -> pb::ItemError {
    pb::ItemError {
        code: error.code as i32,
        reason: error.reason,
        message: error.message,
        field: error.field,
        retry_delay: error.retry_delay.map(to_duration),
        metadata: error.metadata,
    }
}
