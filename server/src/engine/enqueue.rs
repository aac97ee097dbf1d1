//! Enqueue: record, and when a key of a job is another's, do what its producer asked for.
use super::{Accepted, Engine, EnqueueError, Enqueued, Inner, JobError, admit, clock, spread};
use crate::{
    model::{
        ids::{JobId, QueueName},
        job::{Conflict, JobSpec, Parts, Payload, Start},
        op::{Act, Guard, HeldBy, Hold, KeyKind, NewJob, Op, Put, Verdict},
        policy::Defaults,
        state::{State, StateSet},
    },
    store::StoreError,
};

/// How often a job whose key's holder changes under our hands is tried again.
const ROUNDS: usize = 5;

/// What is wanted besides the record: what happens on a conflict, and with what.
struct Wish {
    queue: QueueName,
    kind: QueueName,
    conflict: Conflict,
    /// How long after the holder's creation a debounce may move its start.
    within_ms: Option<i64>,
    payload: Option<Payload>,
}

/// What becomes of a conflict.
enum Resolved {
    Answer(Enqueued),
    /// The holder is another one by now, or none.
    Again,
}

impl Engine {
    /// Records jobs; one answer per job, in order. `dry_run` checks without recording.
    pub async fn enqueue(&self, jobs: Vec<JobSpec>, dry_run: bool) -> Vec<Result<Enqueued, EnqueueError>> {
        let inner = &self.0;
        if let Err(error) = inner.configured().await {
            return jobs.iter().map(|_| Err(error.clone().into())).collect();
        }
        if jobs.iter().any(|job| !job.depends_on.is_empty()) {
            let mut answers = Vec::with_capacity(jobs.len());
            for job in jobs {
                answers.push(match job.depends_on.is_empty() {
                    true => inner.record_one(job, dry_run).await,
                    false => self.enqueue_blocked(job, dry_run).await,
                });
            }
            return answers;
        }
        inner.record(jobs, dry_run).await
    }
}

impl Inner {
    pub(super) async fn record_one(&self, job: JobSpec, dry_run: bool) -> Result<Enqueued, EnqueueError> {
        let mut answers = self.record(vec![job], dry_run).await;
        answers.pop().expect("an answer to each job")
    }

    async fn record(&self, jobs: Vec<JobSpec>, dry_run: bool) -> Vec<Result<Enqueued, EnqueueError>> {
        let now_ms = self.wall_ms();
        let mut wishes = Vec::with_capacity(jobs.len());
        let mut admitted = Vec::with_capacity(jobs.len());
        for spec in jobs {
            let (conflict, within_ms) =
                spec.unique.as_ref().map_or((Conflict::Keep, None), |unique| (unique.conflict, unique.within_ms));
            // Only what replaces has to be looked at again.
            let payload = if replaces(conflict) { spec.payload.clone() } else { None };
            wishes.push(Wish { queue: spec.queue().clone(), kind: spec.kind.clone(), conflict, within_ms, payload });
            let blocked = !spec.depends_on.is_empty();
            let job = self.admit(spec, now_ms);
            // A job that waits for others is its own workflow.
            let owner = blocked.then_some(job.id);
            admitted.push(NewJob { owner, ..job });
        }
        if dry_run {
            return admitted.iter().map(|job| Ok(would_be(job, now_ms))).collect();
        }
        self.put(wishes, admitted).await
    }

    /// The record that `spec` becomes, in its place.
    pub(super) fn admit(&self, spec: JobSpec, now_ms: i64) -> NewJob {
        let proposal = spec.id.unwrap_or_else(clock::uuid);
        let key = admit::keys(&spec);
        let id = JobId::stamp(proposal, self.store.place(spec.queue(), proposal, key.first()));
        let config = self.configs.get(spec.queue());
        let unset = Defaults::default();
        let defaults = config.as_ref().map_or(&unset, |config| &config.defaults);
        admit::admit(spec, defaults, key, id, now_ms, &*self.codec)
    }

    /// Errors are those of single calls to the store: jobs of other shards may be in.
    async fn put(&self, wishes: Vec<Wish>, jobs: Vec<NewJob>) -> Vec<Result<Enqueued, EnqueueError>> {
        // Few jobs have keys: only those are kept for a second try.
        let keyed: Vec<Option<NewJob>> = jobs.iter().map(|job| has_keys(job).then(|| job.clone())).collect();
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let call = |shard, jobs| async move { self.heard(shard, self.store.put(shard, jobs).await) };
        let puts = spread::spread(jobs, |job| job.id.shard(), call).await;
        let mut answers = Vec::with_capacity(ids.len());
        for (((id, wish), keyed), put) in ids.into_iter().zip(&wishes).zip(keyed).zip(puts) {
            answers.push(match (put, keyed) {
                (Ok(put @ Put::Held { .. }), Some(job)) => self.contend(job, wish, put).await,
                (put, _) => put.map_err(EnqueueError::from).and_then(|put| recorded(id, &wish.queue, put)),
            });
        }
        let mut counted = self.meters.batch();
        for (answer, wish) in answers.iter().zip(&wishes) {
            if matches!(answer, Ok(Enqueued { status: Accepted::Created, .. })) {
                counted.enqueued(&wish.queue, &wish.kind);
            }
        }
        answers
    }

    /// A key of the job is another's.
    async fn contend(&self, job: NewJob, wish: &Wish, first: Put) -> Result<Enqueued, EnqueueError> {
        let (id, shard) = (job.id, job.id.shard());
        let mut put = first;
        for _ in 0..ROUNDS {
            let Put::Held { by, key, job: holder } = put else { return recorded(id, &wish.queue, put) };
            match self.resolve(&job, wish, by, key, holder).await? {
                Resolved::Answer(answer) => return Ok(answer),
                Resolved::Again => {
                    let mut puts = self.store.put(shard, vec![job.clone()]).await?;
                    put = puts.pop().ok_or_else(|| StoreError::Unavailable("no answer to a put".to_owned()))?;
                }
            }
        }
        // The key is another's for a time, whatever that job does: there is no end to wait for.
        if let (Conflict::KeepLast, Put::Held { by, job: Some(holder), .. }) = (wish.conflict, &put) {
            let HeldBy { state, ready_ms, .. } = *holder;
            return Ok(Enqueued { id: *by, status: Accepted::Kept, state, ready_ms });
        }
        Err(StoreError::Unavailable(format!("the holder of the key of job {id} changes over and over")).into())
    }

    async fn resolve(
        &self,
        job: &NewJob,
        wish: &Wish,
        by: JobId,
        key: KeyKind,
        holder: Option<HeldBy>,
    ) -> Result<Resolved, EnqueueError> {
        // A key that outlived its job: what the job was is not known any more, only that it ended.
        let (state, ready_ms) = holder.map_or((State::Succeeded, 0), |holder| (holder.state, holder.ready_ms));
        let answer = |status| Resolved::Answer(Enqueued { id: by, status, state, ready_ms });
        match (key, wish.conflict) {
            (KeyKind::Idempotency, _) if holder.is_some_and(|holder| !holder.same) => Err(EnqueueError::IdConflict(by)),
            (KeyKind::Idempotency, _) => Ok(answer(Accepted::Duplicate)),
            (KeyKind::Unique, Conflict::Keep) => Ok(answer(Accepted::Kept)),
            (KeyKind::Unique, Conflict::Reject) => Err(EnqueueError::UniqueConflict(by)),
            (KeyKind::Unique, Conflict::Replace | Conflict::Debounce | Conflict::KeepLast) => {
                if holder.is_none_or(|holder| !StateSet::WAITING.has(holder.state)) {
                    return Ok(answer(Accepted::Kept));
                }
                self.replace(job, wish, by).await
            }
        }
    }

    /// The newcomer's start, and its payload if that is wanted, go into the holder, unless that was handed out before.
    async fn replace(&self, job: &NewJob, wish: &Wish, by: JobId) -> Result<Resolved, EnqueueError> {
        let holder = match self.read(by, Parts::BODY).await {
            Ok(holder) => holder,
            Err(JobError::Store(error)) => return Err(error.into()),
            Err(_) => return Ok(Resolved::Again),
        };
        let meta = &holder.meta;
        if meta.delivery > 0 || !StateSet::WAITING.has(meta.state) {
            // Handed out since: who keeps the last waits behind it now.
            if job.unique.is_some_and(|unique| unique.hold == Hold::KeepLast) {
                return Ok(Resolved::Again);
            }
            let kept = Enqueued { id: by, status: Accepted::Kept, state: meta.state, ready_ms: meta.ready_ms };
            return Ok(Resolved::Answer(kept));
        }
        let replaces = replaces(wish.conflict);
        let start = match wish.within_ms {
            None => job.start,
            Some(within_ms) => {
                let latest_ms = meta.create_ms.saturating_add(within_ms);
                Start::At(admit::starts_at(job.start, self.wall_ms()).min(latest_ms))
            }
        };
        let body = match self.edited(&holder, |_, task| {
            if replaces {
                task.payload.clone_from(&wish.payload);
            }
        }) {
            Ok(body) => body,
            Err(JobError::Store(error)) => return Err(error.into()),
            Err(_) => return Ok(Resolved::Again),
        };
        let act = Act::Patch {
            queue: None,
            priority: None,
            start: Some(start),
            body: body.map(|body| body.encode()),
            content: replaces.then_some(job.content),
        };
        let verdicts = self.apply(vec![Op { id: by, guard: Guard::Version(meta.version), act }]).await?;
        match verdicts.into_iter().next() {
            Some(Verdict::Done(facts)) => {
                let ready_ms = admit::starts_at(start, self.wall_ms());
                let answer = Enqueued { id: by, status: Accepted::Replaced, state: facts.state, ready_ms };
                Ok(Resolved::Answer(answer))
            }
            _ => Ok(Resolved::Again),
        }
    }
}

fn replaces(conflict: Conflict) -> bool {
    matches!(conflict, Conflict::Replace | Conflict::KeepLast)
}

fn has_keys(job: &NewJob) -> bool {
    job.unique.is_some() || job.idempotency.is_some()
}

fn recorded(id: JobId, queue: &QueueName, put: Put) -> Result<Enqueued, EnqueueError> {
    match put {
        Put::Created { state, ready_ms } => Ok(Enqueued { id, status: Accepted::Created, state, ready_ms }),
        Put::Exists { state, ready_ms, same: true } => {
            Ok(Enqueued { id, status: Accepted::Duplicate, state, ready_ms })
        }
        Put::Exists { same: false, .. } => Err(EnqueueError::IdConflict(id)),
        Put::QueueFull => Err(EnqueueError::QueueFull(queue.clone())),
        Put::Held { by, .. } => Err(EnqueueError::UniqueConflict(by)),
    }
}

/// What a dry run answers.
fn would_be(job: &NewJob, now_ms: i64) -> Enqueued {
    let ready_ms = admit::starts_at(job.start, now_ms);
    let state = match job.blocked {
        true => State::Blocked,
        false if ready_ms > now_ms => State::Scheduled,
        false => State::Ready,
    };
    Enqueued { id: job.id, status: Accepted::Created, state, ready_ms }
}
