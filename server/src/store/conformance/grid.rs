//! Every (state × act × guard), legal and illegal, each sent twice. What must come out is worked out here from the state
//! table and the words of `model/op.rs`, not from any store.
use super::kit::{self, Kit};
use crate::model::{
    ids::JobId,
    op::{Act, DueKind, Facts, Guard, Op, Verdict},
    state::{Move, State, StateSet, sources},
};

/// Expiry of jobs in scenes that expire, and the grace of cancels.
const EXPIRY_MS: i64 = 3_600_000;
const GRACE_MS: i64 = 60_000;
/// Long enough for everything to be due.
const LATE_MS: i64 = 40 * 86_400_000;

/// The latest lease of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lease {
    Never,
    Open,
    Settled,
}

/// A way to get a job into a state, by real calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    Blocked,
    Scheduled,
    Expiring,
    Ready,
    ReadyExpiring,
    Lapsed,
    GivenBack,
    Running,
    Stopping,
    Retrying,
    Snoozed,
    Succeeded,
    Dead,
    Reaped,
    Discarded,
    CancelledWaiting,
    CancelledRunning,
    Expired,
}

const SCENES: [Scene; 18] = [
    Scene::Blocked,
    Scene::Scheduled,
    Scene::Expiring,
    Scene::Ready,
    Scene::ReadyExpiring,
    Scene::Lapsed,
    Scene::GivenBack,
    Scene::Running,
    Scene::Stopping,
    Scene::Retrying,
    Scene::Snoozed,
    Scene::Succeeded,
    Scene::Dead,
    Scene::Reaped,
    Scene::Discarded,
    Scene::CancelledWaiting,
    Scene::CancelledRunning,
    Scene::Expired,
];

/// What the rules need to know of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Job {
    state: State,
    lease: Lease,
    stopping: bool,
    grace_over: bool,
    /// It expires unless a handler starts.
    expires: bool,
    /// Since it entered its state, everything that waits for time has come.
    late: bool,
    /// A flow hears of its end, and it is not trimmed.
    watched: bool,
    gone: bool,
}

impl Job {
    fn is_due(&self, kind: DueKind) -> bool {
        let waiting = StateSet::WAITING.has(self.state);
        match kind {
            DueKind::Start => self.late && matches!(self.state, State::Scheduled | State::Retrying),
            DueKind::Lease => self.late && self.state == State::Running,
            DueKind::Cancel => self.grace_over && self.state == State::Running,
            // The expiry is a point in time: it does not move when the job does.
            DueKind::Expire => waiting && self.expires,
            DueKind::Trim => self.late && self.state.is_terminal() && !self.watched,
        }
    }

    /// The verdict on an act, and what becomes of the job.
    fn judge(&mut self, guard: Guard, right_version: bool, right_token: bool, act: &Act) -> Expected {
        if self.gone {
            return Expected::NotFound;
        }
        let refusal = match guard {
            Guard::Token(_) if !right_token || self.lease == Lease::Never => Some(Expected::Stale),
            Guard::Token(_) if self.lease == Lease::Settled => Some(Expected::Already(self.state)),
            Guard::Token(_) if self.state.is_terminal() => Some(Expected::Conflict(self.state)),
            Guard::Token(_) => None,
            Guard::Due(kind) => (!self.is_due(kind)).then_some(Expected::Stale),
            Guard::In(states) => (!states.has(self.state)).then_some(Expected::Conflict(self.state)),
            Guard::Version(_) => (!right_version).then_some(Expected::Stale),
        };
        if let Some(refusal) = refusal {
            return refusal;
        }
        let takes_back = self.state == State::Ready && act.kind() == Move::Extend;
        if !sources(act.kind()).has(self.state) || takes_back && self.lease != Lease::Open {
            return Expected::Conflict(self.state);
        }
        let running = self.state == State::Running;
        if self.stopping && running && matches!(act.kind(), Move::Later(_) | Move::Ready) {
            return Expected::CancelRequested;
        }
        let by_token = matches!(guard, Guard::Token(_));
        let ends_lease = matches!(act.kind(), Move::Finish(_) | Move::Later(_) | Move::Ready | Move::Requeue);
        if by_token && ends_lease {
            self.lease = Lease::Settled;
        }
        let from = self.state;
        match act.kind() {
            Move::Claim => unreachable!("not an act"),
            Move::Extend => {
                self.state = State::Running;
                self.late = false;
            }
            Move::Finish(to) => {
                self.state = to;
                self.late = false;
            }
            Move::Later(to) => {
                self.state = to;
                self.late = false;
                self.expires = false;
            }
            Move::Ready => self.state = State::Ready,
            Move::Requeue => {
                self.expires &= !from.is_terminal();
                (self.stopping, self.grace_over) = (false, false);
                if self.lease == Lease::Open {
                    self.lease = Lease::Never;
                }
                self.state = State::Ready;
            }
            Move::RequestCancel => self.stopping = true,
            Move::Patch => {}
            Move::Block => {
                (self.stopping, self.grace_over) = (false, false);
                if self.lease == Lease::Open {
                    self.lease = Lease::Never;
                }
                self.state = State::Blocked;
            }
            Move::Watch => self.watched = true,
            Move::Delete => self.gone = true,
        }
        Expected::Done(if self.gone { from } else { self.state })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Done(State),
    Already(State),
    Stale,
    Conflict(State),
    CancelRequested,
    NotFound,
}

fn seen(verdict: &Verdict) -> Expected {
    match verdict {
        Verdict::Done(Facts { state, .. }) => Expected::Done(*state),
        Verdict::Already(state) => Expected::Already(*state),
        Verdict::Stale => Expected::Stale,
        Verdict::Conflict(state) => Expected::Conflict(*state),
        Verdict::CancelRequested(_) => Expected::CancelRequested,
        Verdict::NotFound => Expected::NotFound,
        Verdict::KeyTaken(_) => unreachable!("these jobs have no keys"),
    }
}

fn acts() -> Vec<Act> {
    let mut acts = vec![
        kit::extend(kit::LEASE_MS),
        kit::ready(),
        kit::give_back(),
        kit::requeue(),
        kit::request_cancel(Some(GRACE_MS)),
        kit::no_patch(),
        Act::Block,
        Act::Watch { owner: JobId::from_bytes([7; 16]), off: false, retain_ms: 0 },
        Act::Delete,
    ];
    acts.extend(State::ALL.map(kit::finish));
    acts.extend(State::ALL.map(|to| match kit::retry_in(5_000, 1) {
        Act::Later { delay_ms, counts, outcome, checkpoint, throttle, effects, .. } => {
            Act::Later { to, delay_ms, counts, outcome, checkpoint, throttle, effects }
        }
        other => other,
    }));
    acts
}

/// Guards as they are to be made for a job: with its own secret and version, or with others.
#[derive(Clone, Copy, Debug)]
enum GuardOf {
    Token { right: bool },
    Due(DueKind),
    In(StateSet),
    Version { right: bool },
}

fn guards() -> Vec<GuardOf> {
    let mut guards = vec![
        GuardOf::Token { right: true },
        GuardOf::Token { right: false },
        GuardOf::Version { right: true },
        GuardOf::Version { right: false },
        GuardOf::In(StateSet::EMPTY),
        GuardOf::In(StateSet::ANY),
        GuardOf::In(StateSet::WAITING),
        GuardOf::In(StateSet::TERMINAL),
    ];
    guards.extend(State::ALL.map(|state| GuardOf::In(StateSet::of(&[state]))));
    guards.extend([DueKind::Start, DueKind::Lease, DueKind::Cancel, DueKind::Expire, DueKind::Trim].map(GuardOf::Due));
    guards
}

/// Brings jobs into a scene: their ids, the secrets of their leases (0 = none), and what is known of each.
async fn stage(kit: &mut Kit, scene: Scene, late: bool, n: usize) -> (Vec<JobId>, Vec<u64>, Job) {
    let queue = format!("{scene:?}.{late}");
    let expire_ms = kit.wall_ms() + EXPIRY_MS;
    let mut jobs = kit.jobs(&queue, n);
    for job in &mut jobs {
        if matches!(scene, Scene::Scheduled | Scene::Expiring) {
            job.start = crate::model::job::Start::In(EXPIRY_MS / 2);
        }
        if matches!(scene, Scene::Expiring | Scene::ReadyExpiring | Scene::Expired) {
            job.expire_ms = expire_ms;
        }
        job.blocked = scene == Scene::Blocked;
    }
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    kit.put(jobs).await;
    let never_leased = matches!(
        scene,
        Scene::Blocked
            | Scene::Scheduled
            | Scene::Expiring
            | Scene::Ready
            | Scene::ReadyExpiring
            | Scene::CancelledWaiting
            | Scene::Expired
    );
    let mut secrets = vec![0; n];
    if !never_leased {
        for leased in kit.claim(&queue, n).await {
            let at = ids.iter().position(|id| *id == leased.meta.id).expect("a job of this scene");
            secrets[at] = leased.secret;
        }
    }
    let by_token: Vec<Guard> = secrets.iter().map(|secret| Guard::Token(*secret)).collect();
    let same = |guard| vec![guard; n];
    use State as S;
    let (steps, state, lease): (Vec<(Vec<Guard>, Act)>, State, Lease) = match scene {
        Scene::Blocked => (vec![], S::Blocked, Lease::Never),
        Scene::Scheduled | Scene::Expiring => (vec![], S::Scheduled, Lease::Never),
        Scene::Ready | Scene::ReadyExpiring => (vec![], S::Ready, Lease::Never),
        Scene::Lapsed => {
            kit.advance(kit::LEASE_MS);
            (vec![(same(Guard::Due(DueKind::Lease)), kit::give_back())], S::Ready, Lease::Open)
        }
        Scene::GivenBack => (vec![(by_token, kit::give_back())], S::Ready, Lease::Settled),
        Scene::Running => (vec![], S::Running, Lease::Open),
        Scene::Stopping => (vec![(same(kit::ANY), kit::request_cancel(Some(GRACE_MS)))], S::Running, Lease::Open),
        Scene::Retrying => (vec![(by_token, kit::retry_in(5_000, 1))], S::Retrying, Lease::Settled),
        Scene::Snoozed => (vec![(by_token, kit::later(5_000))], S::Scheduled, Lease::Settled),
        Scene::Succeeded => (vec![(by_token, kit::finish(S::Succeeded))], S::Succeeded, Lease::Settled),
        Scene::Dead => (vec![(by_token, kit::finish(S::Dead))], S::Dead, Lease::Settled),
        Scene::Reaped => {
            kit.advance(kit::LEASE_MS);
            (vec![(same(Guard::Due(DueKind::Lease)), kit::finish(S::Dead))], S::Dead, Lease::Open)
        }
        Scene::Discarded => (vec![(by_token, kit::finish(S::Discarded))], S::Discarded, Lease::Settled),
        Scene::CancelledWaiting => (vec![(same(kit::ANY), kit::finish(S::Cancelled))], S::Cancelled, Lease::Never),
        Scene::CancelledRunning => (
            vec![(same(kit::ANY), kit::request_cancel(None)), (by_token, kit::finish(S::Cancelled))],
            S::Cancelled,
            Lease::Settled,
        ),
        Scene::Expired => {
            kit.advance(EXPIRY_MS);
            (vec![(same(Guard::Due(DueKind::Expire)), kit::finish(S::Expired))], S::Expired, Lease::Never)
        }
    };
    for (guards, act) in steps {
        let ops = ids.iter().zip(guards).map(|(id, guard)| Op { id: *id, guard, act: act.clone() }).collect();
        for verdict in kit.apply(ops).await {
            assert!(matches!(verdict, Verdict::Done(_)), "{scene:?}: {act:?} gave {verdict:?}");
        }
    }
    if late {
        kit.advance(LATE_MS);
    }
    let expires = late && matches!(scene, Scene::Expiring | Scene::ReadyExpiring) || scene == Scene::Expired;
    let stopping = scene == Scene::Stopping;
    let job = Job { state, lease, stopping, grace_over: stopping && late, expires, late, watched: false, gone: false };
    (ids, secrets, job)
}

/// (a) and (b) of the suite.
pub async fn every_state_act_and_guard(kit: &mut Kit) {
    let cells: Vec<(Act, GuardOf)> =
        acts().into_iter().flat_map(|act| guards().into_iter().map(move |guard| (act.clone(), guard))).collect();
    for scene in SCENES {
        for late in [false, true] {
            let (ids, secrets, job) = stage(kit, scene, late, cells.len()).await;
            for id in ids.iter().take(1) {
                assert_eq!(kit.state(*id).await, job.state, "{scene:?}");
            }
            hold_against_rules(kit, scene, late, &cells, &ids, &secrets, job).await;
            kit.recount().await;
        }
    }
}

async fn hold_against_rules(
    kit: &Kit,
    scene: Scene,
    late: bool,
    cells: &[(Act, GuardOf)],
    ids: &[JobId],
    secrets: &[u64],
    job: Job,
) {
    let before = kit.store().get(ids, crate::model::job::Parts::META).await.expect("the store reads");
    let versions: Vec<u32> = before.iter().map(|record| record.as_ref().expect("staged").meta.version).collect();
    let ops: Vec<Op> = cells
        .iter()
        .enumerate()
        .map(|(i, (act, guard))| {
            let guard = match guard {
                GuardOf::Token { right: true } => Guard::Token(secrets[i]),
                GuardOf::Token { right: false } => Guard::Token(secrets[i] ^ 0xff),
                GuardOf::Due(kind) => Guard::Due(*kind),
                GuardOf::In(states) => Guard::In(*states),
                GuardOf::Version { right: true } => Guard::Version(versions[i]),
                GuardOf::Version { right: false } => Guard::Version(versions[i].wrapping_add(1_000)),
            };
            Op { id: ids[i], guard, act: act.clone() }
        })
        .collect();
    let mut jobs = vec![job; cells.len()];
    let mut changed = vec![false; cells.len()];
    for round in ["first", "again"] {
        let verdicts = kit.apply(ops.clone()).await;
        let after = kit.store().get(ids, crate::model::job::Parts::META).await.expect("the store reads");
        for (i, verdict) in verdicts.iter().enumerate() {
            let (act, guard) = &cells[i];
            let right_version = matches!(guard, GuardOf::Version { right: true }) && !changed[i];
            let right_token = matches!(guard, GuardOf::Token { right: true });
            let expected = jobs[i].judge(ops[i].guard, right_version, right_token, act);
            let cell = format!("{scene:?} (late: {late}) × {act:?} × {guard:?}, {round}");
            assert_eq!(seen(verdict), expected, "{cell}");
            match (&after[i], jobs[i].gone) {
                (Some(record), false) => {
                    assert_eq!(record.meta.state, jobs[i].state, "state after {cell}");
                    let old = before[i].as_ref().expect("staged").meta.version;
                    if !matches!(expected, Expected::Done(_)) && round == "first" {
                        assert_eq!(record.meta.version, old, "a refusal changes nothing: {cell}");
                    }
                    changed[i] = record.meta.version != old;
                }
                (None, true) => {}
                (record, _) => panic!("after {cell}: {record:?}"),
            }
        }
    }
}

/// Whatever is asked of it.
pub async fn a_job_that_is_not_there(kit: &mut Kit) {
    let id = kit.id();
    for act in acts() {
        for guard in [Guard::Token(1), Guard::Due(DueKind::Start), kit::ANY, Guard::Version(1)] {
            assert_eq!(kit.act(id, guard, act.clone()).await, Verdict::NotFound, "{act:?}");
        }
    }
    assert!(kit.find(id, crate::model::job::Parts::ALL).await.is_none());
}
