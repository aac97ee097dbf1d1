//! What a change does to a job's record: stated once, for every store. PURE: the record, the change and the time in, the
//! record and its consequences out. The memory machine and the Redis store differ in where they keep jobs and in how they
//! make a change atomic, not in what it means.
use super::slot::{Slot, Stamp, flag};
use crate::model::{
    ids::JobId,
    job::{Attempt, AttemptResult, CancelRequest, Outcome, Payload, Progress, Start},
    op::{Act, DueKind, Effect, Facts, Guard, Hold, KeyHash, NewJob, Throttle, UniqueKey, Verdict},
    policy::TOMBSTONE_MS,
    state::{State, sources},
    time::Now,
};

/// Where a change leaves a job in the list of its queue and state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Where it stands. In another list, if its queue changed: there at the same place.
    Stays,
    /// At the end.
    End,
    /// Before all others of its priority.
    Front,
    /// Among those that wait for a time, after those of the same millisecond.
    Time(i64),
}

/// What a change brings with it besides the new record. What is `None` stays as it is.
#[derive(Debug)]
pub(super) struct Change {
    pub line: Line,
    /// Whether the record itself changed, so that it must be kept and its version counted.
    pub touched: bool,
    pub outcome: Option<Outcome>,
    /// The outcome kept so far is void.
    pub drop_outcome: bool,
    pub attempt: Option<Attempt>,
    pub progress: Option<Progress>,
    pub checkpoint: Option<Payload>,
    pub body: Option<bytes::Bytes>,
    pub effects: Vec<Effect>,
    /// What else is held back, and until when on the wall clock.
    pub throttle: Option<(Throttle, i64)>,
    /// Its worker has to be told to stop.
    pub stopping: bool,
    /// The job and all that belongs to it go.
    pub deleted: bool,
}

impl Change {
    pub fn at(line: Line) -> Self {
        Self {
            line,
            touched: true,
            outcome: None,
            drop_outcome: false,
            attempt: None,
            progress: None,
            checkpoint: None,
            body: None,
            effects: Vec::new(),
            throttle: None,
            stopping: false,
            deleted: false,
        }
    }

    /// Nothing changed, and all is well.
    fn nothing() -> Self {
        Self { touched: false, ..Self::at(Line::Stays) }
    }
}

/// The record of a job that is put now, READY or SCHEDULED, and its place. Its number in a store (`row`) and its `order`
/// are the store's.
pub(super) fn new_job(now: Now, job: &NewJob, queue: u32, kind: u32) -> (Slot, Line) {
    let starts = starts_at(now, job.start);
    let (state, line) = match job.blocked {
        true => (State::Blocked, Line::End),
        false if starts > now.wall_ms => (State::Scheduled, Line::Time(starts)),
        false => (State::Ready, Line::End),
    };
    let mut slot = Slot {
        id: job.id,
        content: job.content,
        create: Stamp::new(job.create_ms),
        ready: Stamp::new(starts),
        queue,
        kind,
        version: 1,
        body_bytes: job.body.len().try_into().unwrap_or(u32::MAX),
        state,
        priority: job.priority.clamp(-4, 4),
        fair: job.fair,
        flags: if job.fair == 0 { 0 } else { flag::KEYED },
        ..Slot::free()
    };
    if job.expire_ms != 0 {
        slot.extra_mut().expire_ms = job.expire_ms;
    }
    slot.set_deadline((job.deadline_ms != 0).then_some(job.deadline_ms));
    if let Some(owner) = job.owner {
        slot.extra_mut().owners = vec![owner];
        slot.set(flag::WATCHED, true);
    }
    match job.unique {
        Some(UniqueKey { hash, hold: hold @ (Hold::UntilFinished | Hold::UntilStarted | Hold::KeepLast) }) => {
            slot.extra_mut().unique = hash;
            slot.set(flag::UNIQUE, true);
            slot.set(flag::UNTIL_STARTED, hold == Hold::UntilStarted);
        }
        // Remembered beside the job: it may outlive it.
        Some(UniqueKey { hold: Hold::For(_), .. }) | None => {}
    }
    (slot, line)
}

/// A job that is put now becomes the successor of the one that has its key.
pub(super) fn wait_behind(slot: &mut Slot) -> Line {
    slot.state = State::Blocked;
    slot.await_key(true);
    Line::End
}

/// The job before it has ended: a successor has the key, and runs when its start has come.
pub(super) fn succeed(slot: &mut Slot, now: Now) -> Line {
    slot.await_key(false);
    let starts = slot.ready.get();
    if starts > now.wall_ms {
        slot.state = State::Scheduled;
        return Line::Time(starts);
    }
    slot.state = State::Ready;
    slot.ready = Stamp::new(now.wall_ms);
    Line::End
}

fn starts_at(now: Now, start: Start) -> i64 {
    match start {
        Start::Now => now.wall_ms,
        Start::At(at) => at.max(now.wall_ms),
        Start::In(delay) => now.wall_ms.saturating_add(delay.max(0)),
    }
}

/// Whether the guard holds. `lease_over` and `surplus` answer what the record alone does not tell: whether the lease of a
/// RUNNING job has run out, and whether an ended job is one too many.
pub(super) fn check(
    slot: &Slot,
    now: Now,
    guard: Guard,
    lease_over: impl FnOnce() -> bool,
    surplus: impl FnOnce() -> bool,
) -> Result<(), Verdict> {
    match guard {
        Guard::Token(secret) if !slot.has(flag::LEASED) || slot.token != secret => Err(Verdict::Stale),
        Guard::Token(_) if slot.has(flag::SETTLED) => Err(Verdict::Already(slot.state)),
        Guard::Token(_) if slot.state.is_terminal() => Err(Verdict::Conflict(slot.state)),
        Guard::Token(_) => Ok(()),
        Guard::Due(kind) => {
            let due = match kind {
                DueKind::Start => {
                    matches!(slot.state, State::Scheduled | State::Retrying) && slot.ready.get() <= now.wall_ms
                }
                DueKind::Lease => slot.state == State::Running && lease_over(),
                DueKind::Cancel => {
                    slot.state == State::Running
                        && slot.cancel_deadline().is_some_and(|deadline| deadline <= now.wall_ms)
                }
                DueKind::Expire => slot.waiting_expiry().is_some_and(|expiry| expiry <= now.wall_ms),
                DueKind::Trim => slot.state.is_terminal() && (slot.until.get() <= now.wall_ms || surplus()),
            };
            if due { Ok(()) } else { Err(Verdict::Stale) }
        }
        Guard::In(states) if states.has(slot.state) => Ok(()),
        Guard::In(_) => Err(Verdict::Conflict(slot.state)),
        Guard::Version(version) if version == slot.version => Ok(()),
        Guard::Version(_) => Err(Verdict::Stale),
    }
}

/// Whether the state table lets the act happen to this job.
pub(super) fn may(slot: &Slot, act: &Act) -> Result<(), Verdict> {
    let state = slot.state;
    let taken_back = state == State::Ready && matches!(act, Act::Extend { .. });
    // Only the end of the job before it opens a successor.
    let opened = slot.awaited_key().is_some() && matches!(act, Act::Ready { .. });
    if !sources(act.kind()).has(state) || taken_back && !slot.is_open() || opened {
        return Err(Verdict::Conflict(state));
    }
    let reruns = matches!(act, Act::Later { .. } | Act::Ready { .. });
    match slot.cancel().filter(|_| reruns && state == State::Running) {
        Some(cancel) => Err(Verdict::CancelRequested(cancel.clone())),
        None => Ok(()),
    }
}

/// The uniqueness key that a job takes again when it leaves an end: it must be free.
pub(super) fn takes_again(slot: &Slot, act: &Act) -> Option<KeyHash> {
    let extra = slot.extra.as_ref().filter(|_| slot.has(flag::UNIQUE) && slot.state.is_terminal())?;
    matches!(act, Act::Requeue { .. } | Act::Block).then_some(extra.unique)
}

/// Changes the record as the act says. It may: see [`may`]. `by_token`: the guard is the lease's token. `queue`: the
/// number of the queue that the act names.
pub(super) fn act(slot: &mut Slot, now: Now, by_token: bool, act: Act, queue: Option<u32>) -> Change {
    match act {
        Act::Extend { lease_ms, started, progress, checkpoint } => {
            extend(slot, now, lease_ms, started, progress, checkpoint)
        }
        Act::Finish { to, outcome, retain_ms, effects } => finish(slot, now, by_token, to, outcome, retain_ms, effects),
        Act::Later { to, delay_ms, counts, outcome, checkpoint, throttle, effects } => {
            let later = later(slot, now, by_token, to, delay_ms, counts, outcome);
            let throttle = throttle.map(|what| (what, slot.ready.get()));
            Change { checkpoint, effects, throttle, ..later }
        }
        Act::Ready { front, crashed, attempt, checkpoint } => {
            Change { attempt, checkpoint, ..ready(slot, now, by_token, front, crashed) }
        }
        Act::Requeue { failures, delay_ms, queue: _, body, keep } => {
            let line = requeue(slot, now, failures, delay_ms, queue);
            count_body(slot, body.as_ref());
            Change { attempt: keep, body, ..Change::at(line) }
        }
        Act::RequestCancel { reason, grace_ms } => request_cancel(slot, now, reason, grace_ms),
        Act::Patch { queue: _, priority, start, body, content } => {
            let line = patch(slot, now, queue, priority, start);
            if let Some(content) = content {
                slot.content = content;
            }
            count_body(slot, body.as_ref());
            Change { body, ..Change::at(line) }
        }
        Act::Block => block(slot),
        Act::Watch { owner, off, retain_ms } => watch(slot, now, owner, off, retain_ms),
        Act::Delete => Change { touched: false, deleted: true, ..Change::at(Line::Stays) },
    }
}

/// What the caller is told of an applied change that found the job in `before`.
pub(super) fn facts(slot: &Slot, before: State, deleted: bool) -> Facts {
    let cancel = slot.cancel().filter(|_| slot.state == State::Running).cloned();
    let news = deleted || before.is_terminal() != slot.state.is_terminal();
    let owners = if news { slot.owners().to_vec() } else { Vec::new() };
    Facts { state: slot.state, cancel, owners }
}

/// A mere renewal is not kept: after a restart every running job gets a fresh lease.
fn extend(
    slot: &mut Slot,
    now: Now,
    lease_ms: i64,
    started: bool,
    progress: Option<Progress>,
    checkpoint: Option<Payload>,
) -> Change {
    let takes_back = slot.state == State::Ready;
    let end = now.mono_ms.saturating_add(lease_ms.max(0));
    if takes_back {
        slot.state = State::Running;
        slot.until = Stamp::new(end);
        take_crash_off(slot);
    } else {
        slot.until = Stamp::new(end.max(slot.until.get()));
    }
    let starts = started && !slot.has(flag::STARTED);
    if starts {
        slot.set(flag::STARTED | flag::BEGUN, true);
    }
    let line = if takes_back { Line::End } else { Line::Stays };
    let touched = takes_back || starts || progress.is_some() || checkpoint.is_some();
    Change { touched, progress, checkpoint, ..Change::at(line) }
}

fn finish(
    slot: &mut Slot,
    now: Now,
    by_token: bool,
    to: State,
    outcome: Outcome,
    retain_ms: i64,
    effects: Vec<Effect>,
) -> Change {
    settle(slot, by_token);
    match outcome.last.as_ref().map(|last| last.result) {
        Some(AttemptResult::Failed | AttemptResult::TimedOut) => slot.failures += 1,
        Some(AttemptResult::Lost) => slot.set_crashes(slot.crashes() + 1),
        Some(
            AttemptResult::Succeeded | AttemptResult::Snoozed | AttemptResult::Released | AttemptResult::Cancelled,
        )
        | None => {}
    }
    if slot.awaited_key().is_some() {
        slot.await_key(false);
    }
    slot.state = to;
    slot.finish = Stamp::new(now.wall_ms);
    slot.until = match slot.has(flag::WATCHED) {
        true => Stamp::new(Stamp::MAX),
        false => Stamp::new(now.wall_ms.saturating_add(retain_ms.max(TOMBSTONE_MS))),
    };
    let says = outcome != Outcome::default();
    // The failure of an earlier attempt is not that of a job that succeeded.
    let drop_outcome = !says && to == State::Succeeded && slot.has(flag::OUTCOME);
    Change { outcome: says.then_some(outcome), drop_outcome, effects, ..Change::at(Line::End) }
}

fn later(
    slot: &mut Slot,
    now: Now,
    by_token: bool,
    to: State,
    delay_ms: i64,
    counts: bool,
    outcome: Option<Outcome>,
) -> Change {
    let due = now.wall_ms.saturating_add(delay_ms.max(0));
    settle(slot, by_token);
    slot.state = to;
    slot.ready = Stamp::new(due);
    if counts {
        slot.failures += 1;
    }
    if counts || outcome.is_some() {
        slot.set(flag::BEGUN, true);
    }
    let mut outcome = outcome;
    let attempt = outcome.as_mut().and_then(|outcome| outcome.last.take());
    // A snooze has neither result nor failure: the failure stored before stays.
    let outcome = outcome.filter(|outcome| *outcome != Outcome::default());
    Change { outcome, attempt, ..Change::at(Line::Time(due)) }
}

fn ready(slot: &mut Slot, now: Now, by_token: bool, front: bool, crashed: bool) -> Change {
    let line = match front {
        true => Line::Front,
        false if slot.state == State::Ready => Line::Stays,
        false => Line::End,
    };
    settle(slot, by_token);
    if crashed {
        slot.set_crashes(slot.crashes() + 1);
        slot.set(flag::CRASHED, true);
    }
    if slot.state == State::Blocked && slot.ready.get() > now.wall_ms {
        slot.state = State::Scheduled;
        return Change::at(Line::Time(slot.ready.get()));
    }
    slot.ready = match slot.state {
        State::Scheduled | State::Retrying => Stamp::new(slot.ready.get().min(now.wall_ms)),
        State::Ready => slot.ready,
        _ => Stamp::new(now.wall_ms),
    };
    slot.state = State::Ready;
    Change::at(line)
}

fn requeue(slot: &mut Slot, now: Now, failures: u32, delay_ms: i64, queue: Option<u32>) -> Line {
    let due = now.wall_ms.saturating_add(delay_ms.max(0));
    let ready = delay_ms <= 0;
    if slot.state.is_terminal() {
        slot.set(flag::BEGUN, true);
        slot.set_deadline(None);
    }
    cut_off(slot);
    slot.state = if ready { State::Ready } else { State::Scheduled };
    slot.failures = failures;
    slot.set_crashes(0);
    slot.ready = Stamp::new(due);
    slot.finish = Stamp::default();
    slot.until = Stamp::default();
    if let Some(extra) = slot.extra.as_mut() {
        extra.cancel = None;
    }
    if let Some(queue) = queue {
        slot.queue = queue;
    }
    if ready { Line::End } else { Line::Time(due) }
}

/// What was settled under the latest lease stays settled; a lease that was cut off can never be taken back.
fn cut_off(slot: &mut Slot) {
    if slot.is_open() {
        slot.set(flag::LEASED, false);
        slot.token = 0;
    }
    slot.set(flag::CRASHED, false);
}

/// As it was before it was released, but for what it has been through.
fn block(slot: &mut Slot) -> Change {
    cut_off(slot);
    slot.set(flag::BEGUN, true);
    slot.set_deadline(None);
    slot.state = State::Blocked;
    slot.finish = Stamp::default();
    slot.until = Stamp::default();
    if let Some(extra) = slot.extra.as_mut() {
        extra.cancel = None;
    }
    Change::at(Line::End)
}

fn watch(slot: &mut Slot, now: Now, owner: JobId, off: bool, retain_ms: i64) -> Change {
    let ended = slot.state.is_terminal();
    if slot.owners().contains(&owner) != off {
        return Change::nothing();
    }
    let owners = &mut slot.extra_mut().owners;
    match off {
        true => owners.retain(|each| *each != owner),
        false => owners.push(owner),
    }
    let watched = !owners.is_empty();
    slot.set(flag::WATCHED, watched);
    if ended {
        let least = now.wall_ms.saturating_add(TOMBSTONE_MS);
        let kept = slot.finish.get().saturating_add(retain_ms.max(0));
        slot.until = Stamp::new(if watched { Stamp::MAX } else { kept.max(least) });
    }
    Change::at(Line::Stays)
}

/// Asks again with less grace: the shorter one holds.
fn request_cancel(slot: &mut Slot, now: Now, reason: String, grace_ms: Option<i64>) -> Change {
    let deadline_ms = grace_ms.map(|grace| now.wall_ms.saturating_add(grace.max(0)));
    let request = match slot.cancel() {
        None => CancelRequest { reason, request_ms: now.wall_ms, deadline_ms },
        Some(first) => {
            let both = [first.deadline_ms, deadline_ms];
            CancelRequest { deadline_ms: both.into_iter().flatten().min(), ..first.clone() }
        }
    };
    if slot.cancel() == Some(&request) {
        return Change::nothing();
    }
    slot.extra_mut().cancel = Some(request);
    Change { stopping: true, ..Change::at(Line::Stays) }
}

fn patch(slot: &mut Slot, now: Now, queue: Option<u32>, priority: Option<i8>, start: Option<Start>) -> Line {
    let queue = queue.unwrap_or(slot.queue);
    let priority = priority.map_or(slot.priority, |priority| priority.clamp(-4, 4));
    let starts = start.map(|start| starts_at(now, start));
    let state = match (slot.state, starts) {
        (State::Blocked, _) => State::Blocked,
        (state, None) => state,
        (_, Some(starts)) if starts <= now.wall_ms => State::Ready,
        (State::Retrying, Some(_)) => State::Retrying,
        (_, Some(_)) => State::Scheduled,
    };
    let moves = queue != slot.queue || priority != slot.priority;
    let line = match (state, starts) {
        // Where it is in line it stays, unless the line is another one.
        (State::Ready, _) if slot.state == State::Ready && !moves => Line::Stays,
        (State::Ready, _) => Line::End,
        (State::Scheduled | State::Retrying, Some(due)) => Line::Time(due),
        (_, _) => Line::Stays,
    };
    match starts {
        Some(starts) if !(state == State::Ready && slot.state == State::Ready) => slot.ready = Stamp::new(starts),
        _ => {}
    }
    slot.state = state;
    slot.queue = queue;
    slot.priority = priority;
    line
}

fn count_body(slot: &mut Slot, body: Option<&bytes::Bytes>) {
    if let Some(body) = body {
        slot.body_bytes = body.len().try_into().unwrap_or(u32::MAX);
    }
}

/// An act under the token was applied: nothing more will be, and whoever spoke had not crashed.
fn settle(slot: &mut Slot, by_token: bool) {
    if by_token {
        take_crash_off(slot);
        slot.set(flag::SETTLED, true);
    }
}

fn take_crash_off(slot: &mut Slot) {
    if slot.has(flag::CRASHED) {
        slot.set(flag::CRASHED, false);
        slot.set_crashes(slot.crashes().saturating_sub(1));
    }
}
