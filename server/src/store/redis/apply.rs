//! Changing known jobs: decide on the record as it is known here, and let Redis make the change if the record is still that
//! one. If it is not, Redis answers with the one that is, and it is decided again.
use async_trait::async_trait;
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use redis::Value;

use super::{
    Core,
    lanes::Item,
    moves::{Condition, Step},
    names::Of,
    record,
    scripts::MOVE,
    value,
};
use crate::{
    model::{
        ids::{JobId, QueueName, Shard},
        limits::STORE_BATCH,
        op::{Act, DueKind, Facts, Guard, Op, Throttle, Verdict},
    },
    store::{StoreError, rules},
};

/// How often a change is decided anew before it is left to the caller.
const ROUNDS: usize = 20;

/// What became of a [`Step`].
#[derive(Debug)]
pub(super) enum Stepped {
    Done,
    /// The lease has not run out.
    NotLapsed,
    /// The uniqueness key is this job's.
    Taken(JobId),
    /// The record is this one now; `None` = there is none.
    Other(Option<Bytes>),
}

#[async_trait]
impl Item for Step {
    type Answer = Stepped;

    fn size(&self) -> usize {
        Step::size(self)
    }

    async fn send(core: &Core, shard: Shard, steps: Vec<Self>) -> Result<Vec<Stepped>, StoreError> {
        let mut args = core.times();
        args.reserve(steps.len() * 14);
        steps.iter().for_each(|step| step.write(&mut args));
        let answers = core.eval(shard, &MOVE, &args).await?;
        let answers = value::list(&answers)?.iter().map(|answer| match answer {
            Value::Int(1) => Ok(Stepped::Done),
            Value::Int(2) => Ok(Stepped::NotLapsed),
            Value::Int(_) => Ok(Stepped::Other(None)),
            Value::Array(by) => by.first().map_or(Err(value::unexpected(answer)), value::id).map(Stepped::Taken),
            record => value::bytes(record).map(|record| Stepped::Other(Some(record))),
        });
        answers.collect()
    }
}

/// A change on its way.
struct Open {
    index: usize,
    op: Op,
    /// Earlier tries had an answer with the record: what is known is fresh.
    fresh: bool,
}

/// What a change comes to, on the record as it is known.
enum Decided {
    /// This step makes it, and then its caller is told this.
    Step(Box<Step>, Facts),
    Refused(Verdict),
}

impl Core {
    pub(super) async fn apply(&self, shard: Shard, ops: Vec<Op>) -> Result<Vec<Verdict>, StoreError> {
        let mut verdicts: Vec<Option<Verdict>> = ops.iter().map(|_| None).collect();
        let ids: Vec<JobId> = ops.iter().map(|op| op.id).collect();
        let mut records = self.recall(&ids);
        let mut open: Vec<Open> =
            ops.into_iter().enumerate().map(|(index, op)| Open { index, op, fresh: false }).collect();
        let mut effects = false;
        for _ in 0..ROUNDS {
            if open.is_empty() {
                break;
            }
            self.read_missing(shard, &mut open, &mut records).await?;
            let surplus = self.surplus_among(shard, &open, &records).await?;
            let mut steps = Vec::with_capacity(open.len());
            let mut sent: Vec<(Open, Facts)> = Vec::with_capacity(open.len());
            let mut later = Vec::new();
            let mut taken = HashSet::with_capacity(open.len());
            for mut each in open {
                if !taken.insert(each.op.id) {
                    // One change of a job after the other.
                    later.push(each);
                    continue;
                }
                match self.decide(shard, &each.op, records.get(&each.op.id), &surplus)? {
                    Decided::Step(step, facts) => {
                        effects |= step.has_effects();
                        steps.push(*step);
                        sent.push((each, facts));
                    }
                    Decided::Refused(refusal) if each.fresh => {
                        verdicts[each.index] = Some(match each.op.guard {
                            Guard::Due(DueKind::Lease) => self.refused_if_lapsed(shard, &each.op, refusal).await?,
                            _ => refusal,
                        });
                    }
                    // What is known here may be old: a refusal needs the record as it is.
                    Decided::Refused(_) => {
                        records.remove(&each.op.id);
                        each.fresh = true;
                        later.push(each);
                    }
                }
            }
            if self.enter(shard, sent.iter().filter_map(|(each, _)| moved_to(&each.op.act))).await? {
                // A queue has another number than it was decided with.
                open = sent.into_iter().map(|(each, _)| each).chain(later).collect();
                continue;
            }
            let news: Vec<(JobId, Bytes)> = steps.iter().map(|step| (step.id, step.new.clone())).collect();
            let answers = self.moves(shard).ask(steps).await?;
            for (((mut each, facts), (id, new)), answer) in sent.into_iter().zip(news).zip(answers) {
                match answer {
                    Stepped::Done => {
                        verdicts[each.index] = Some(Verdict::Done(facts));
                        records.insert(id, (!new.is_empty()).then_some(new));
                    }
                    Stepped::Taken(by) => verdicts[each.index] = Some(Verdict::KeyTaken(by)),
                    Stepped::NotLapsed => verdicts[each.index] = Some(Verdict::Stale),
                    Stepped::Other(record) => {
                        records.insert(id, record);
                        each.fresh = true;
                        later.push(each);
                    }
                }
            }
            // What was decided on an answer stays fresh only for the change that it answered.
            open = later;
        }
        if let Some(each) = open.first() {
            return Err(StoreError::Unavailable(format!("job {} changes faster than it can be changed", each.op.id)));
        }
        self.learn(records);
        if effects {
            self.relay(shard).await;
        }
        Ok(verdicts.into_iter().map(|verdict| verdict.expect("every change was answered")).collect())
    }

    /// Records that are not known here.
    async fn read_missing(
        &self,
        shard: Shard,
        open: &mut [Open],
        records: &mut HashMap<JobId, Option<Bytes>>,
    ) -> Result<(), StoreError> {
        let mut missing: Vec<JobId> =
            open.iter().map(|each| each.op.id).filter(|id| !records.contains_key(id)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_unstable();
        missing.dedup();
        for ids in missing.chunks(STORE_BATCH) {
            for (id, record) in ids.iter().zip(self.raw(shard, ids).await?) {
                records.insert(*id, record);
            }
        }
        for each in open.iter_mut() {
            each.fresh |= missing.binary_search(&each.op.id).is_ok();
        }
        Ok(())
    }

    /// The guard comes first: a lease that has not run out is the reason, whatever the act.
    async fn refused_if_lapsed(&self, shard: Shard, op: &Op, refusal: Verdict) -> Result<Verdict, StoreError> {
        let mut pipe = redis::Pipeline::new();
        pipe.cmd("ZSCORE").arg(self.layout.key(shard, "l")).arg(op.id.as_bytes());
        match &self.run(shard, pipe).await?[0] {
            Value::Nil => Ok(refusal),
            end if value::score(end)? > self.clock.now().mono_ms => Ok(Verdict::Stale),
            _ => Ok(refusal),
        }
    }

    fn decide(
        &self,
        shard: Shard,
        op: &Op,
        record: Option<&Option<Bytes>>,
        surplus: &HashSet<JobId>,
    ) -> Result<Decided, StoreError> {
        let Some(old) = record.and_then(Option::as_ref) else {
            return Ok(Decided::Refused(Verdict::NotFound));
        };
        let before = record::decode(op.id, old).map_err(value::damaged)?;
        let now = self.clock.now();
        // Redis looks at the lease itself, in the same step.
        let refusal = rules::check(&before, now, op.guard, || true, || surplus.contains(&op.id))
            .and_then(|()| rules::may(&before, &op.act));
        if let Err(refusal) = refusal {
            return Ok(Decided::Refused(refusal));
        }
        let queue = moved_to(&op.act).map(|name| self.names.number(shard, Of::Queue, name));
        let mut slot = record::decode(op.id, old).map_err(value::damaged)?;
        let by_token = matches!(op.guard, Guard::Token(_));
        let change = rules::act(&mut slot, now, by_token, op.act.clone(), queue);
        let facts = rules::facts(&slot, before.state, change.deleted);
        let condition = match rules::takes_again(&before, &op.act) {
            Some(key) => Condition::Free(key),
            None if op.guard == Guard::Due(DueKind::Lease) => Condition::Lapsed,
            None => Condition::None,
        };
        let throttled = change.throttle.filter(|(what, _)| *what == Throttle::Queue);
        let mut step = Step::new(now, (&before, old.clone()), &mut slot, condition, change);
        if let Some((_, until_ms)) = throttled {
            self.spread_throttle(shard, before.queue, until_ms, &mut step);
        }
        Ok(Decided::Step(Box::new(step), facts))
    }

    /// Those of the jobs to be trimmed that are too many, though their time is not up.
    async fn surplus_among(
        &self,
        shard: Shard,
        open: &[Open],
        records: &HashMap<JobId, Option<Bytes>>,
    ) -> Result<HashSet<JobId>, StoreError> {
        let now = self.clock.now();
        let mut groups = HashSet::new();
        for each in open.iter().filter(|each| each.op.guard == Guard::Due(DueKind::Trim)) {
            if let Some(Some(record)) = records.get(&each.op.id)
                && let Ok(slot) = record::decode(each.op.id, record)
                && slot.state.is_terminal()
                && slot.until.get() > now.wall_ms
            {
                groups.insert((slot.queue, slot.state == crate::model::state::State::Dead));
            }
        }
        let mut surplus = HashSet::new();
        for (queue, dead) in groups {
            let found = self.surplus(shard, queue, dead, STORE_BATCH).await?;
            surplus.extend(found.due);
        }
        Ok(surplus)
    }
}

/// The queue that an act moves its job to.
fn moved_to(act: &Act) -> Option<&QueueName> {
    match act {
        Act::Requeue { queue, .. } | Act::Patch { queue, .. } => queue.as_ref(),
        _ => None,
    }
}
