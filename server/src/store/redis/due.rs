//! What is due, and when the next thing will be.
//!
//! I10: nothing is due before its time.
use bytes::Bytes;
use hashbrown::HashSet;
use redis::Value;

use super::{
    Core, docs,
    layout::{TIES, by_time},
    names::Of,
    scripts::DUE,
    value,
};
use crate::{
    model::{
        ids::{JobId, QueueName, Shard},
        limits::STORE_BATCH,
        op::{Due, DueKind, DueList},
        policy::TOMBSTONE_MS,
        state::State,
    },
    store::{StoreError, slot::flag},
};

/// An entry of the answer.
enum Found {
    Job(DueKind, JobId),
    Opens(QueueName),
}

impl Found {
    fn id(&self) -> Option<JobId> {
        match self {
            Self::Job(_, id) => Some(*id),
            Self::Opens(_) => None,
        }
    }
}

/// Ended records beyond the number that a queue keeps.
#[derive(Debug, Default)]
pub(super) struct Surplus {
    /// Those that have been kept for as long as every record is, oldest first.
    pub due: Vec<JobId>,
    /// When the next one will have been.
    pub next_ms: Option<i64>,
}

impl Core {
    pub(super) async fn due(&self, shard: Shard, limit: usize) -> Result<DueList, StoreError> {
        let most = limit.min(STORE_BATCH);
        let mut args = self.times();
        args.push(Bytes::from(most.to_string()));
        let parts = self.eval_parts(shard, &DUE, &args).await?;
        let [leases, cancels, opens, starts, expiries, trims, crowded, timed, outbox, next] = &parts[..] else {
            return Err(value::unexpected(&Value::Array(parts)));
        };
        if value::int(outbox)? > 0 {
            self.relay(shard).await;
        }
        let now = self.clock.now();
        let mut next_in_ms = Some(value::int(next)?).filter(|ms| *ms >= 0);
        let mut found: Vec<Found> = Vec::new();
        let jobs = |kind, ids: Vec<JobId>| ids.into_iter().map(move |id| Found::Job(kind, id));
        found.extend(jobs(DueKind::Lease, value::ids(leases)?));
        found.extend(jobs(DueKind::Cancel, value::ids(cancels)?));
        for queue in value::list(opens)? {
            let number = u32::from_str_radix(&value::text(queue)?, 16).map_err(|_| value::unexpected(queue))?;
            found.push(Found::Opens(self.name_of(shard, Of::Queue, number).await?));
        }
        let trimmed = value::ids(trims)?;
        let already: HashSet<JobId> = trimmed.iter().copied().collect();
        found.extend(jobs(DueKind::Start, value::ids(starts)?));
        found.extend(jobs(DueKind::Expire, value::ids(expiries)?));
        found.extend(jobs(DueKind::Trim, trimmed));
        for queue in value::list(crowded)? {
            let text = value::text(queue)?;
            let number = u32::from_str_radix(&text, 16).map_err(|_| value::unexpected(queue))?;
            let mut again = None;
            for dead in [false, true] {
                let surplus = self.surplus(shard, number, dead, most).await?;
                found.extend(jobs(
                    DueKind::Trim,
                    surplus.due.iter().copied().filter(|id| !already.contains(id)).collect(),
                ));
                if let Some(ms) = surplus.next_ms {
                    let ms = (ms - now.wall_ms).max(0);
                    next_in_ms = Some(next_in_ms.map_or(ms, |first| first.min(ms)));
                }
                // What is in the answer stays due until it is gone.
                let still = surplus.due.first().map(|_| now.wall_ms);
                again = again.into_iter().chain(surplus.next_ms).chain(still).min();
            }
            let mut pipe = redis::Pipeline::new();
            match again {
                Some(ms) => pipe.cmd("ZADD").arg(self.layout.key(shard, "v")).arg(ms).arg(&text),
                None => pipe.cmd("ZREM").arg(self.layout.key(shard, "v")).arg(&text),
            };
            self.run(shard, pipe).await?;
        }
        let mut entries = Vec::with_capacity(found.len());
        for doc in value::list(timed)?.chunks_exact(3) {
            let (key, due_ms) = (value::text(&doc[0])?, value::score(&doc[1])?);
            match docs::read(&value::bytes(&doc[2])?, due_ms) {
                Some(doc) => entries.push(Due::Doc { key, doc }),
                None => tracing::error!(shard = shard.0, key, "a document does not decode"),
            }
        }
        if entries.len() + found.len() > limit {
            entries.truncate(limit);
            found.truncate(limit - entries.len());
            next_in_ms = Some(0);
        }
        let ids: Vec<JobId> = found.iter().filter_map(Found::id).collect();
        let mut slots = self.slots(shard, &ids).await?.into_iter();
        for each in found {
            match each {
                Found::Opens(queue) => entries.push(Due::QueueOpens(queue)),
                Found::Job(kind, id) => match slots.next().flatten() {
                    Some(slot) => entries.push(Due::Job { kind, meta: self.meta_of(shard, &slot).await? }),
                    // An entry of no job, as a loss of data may leave it.
                    None => self.forget_entry(shard, kind, id).await?,
                },
            }
        }
        Ok(DueList { entries, next_in_ms })
    }

    /// The oldest ended records of a queue, as many as there are too many, at most `limit`.
    pub(super) async fn surplus(
        &self,
        shard: Shard,
        queue: u32,
        dead: bool,
        limit: usize,
    ) -> Result<Surplus, StoreError> {
        let states: &[State] = match dead {
            true => &[State::Dead],
            false => &[State::Succeeded, State::Cancelled, State::Expired, State::Discarded],
        };
        let most = self.bounds(shard, queue).await?.most_kept(states[0]);
        let keys: Vec<String> = states.iter().map(|state| self.layout.key(shard, by_time(queue, *state))).collect();
        let mut pipe = redis::Pipeline::new();
        keys.iter().for_each(|key| _ = pipe.cmd("ZCARD").arg(key));
        let mut kept = 0;
        for count in self.run(shard, pipe).await? {
            kept += value::int(&count)? as usize;
        }
        let excess = kept.saturating_sub(most);
        if excess == 0 {
            return Ok(Surplus::default());
        }
        let take = excess.min(limit);
        let mut pipe = redis::Pipeline::new();
        keys.iter().for_each(|key| _ = pipe.cmd("ZRANGE").arg(key).arg(0).arg(take).arg("WITHSCORES"));
        let mut oldest = Vec::new();
        for found in self.run(shard, pipe).await? {
            oldest.extend(scored(&found)?);
        }
        oldest.sort_unstable_by_key(|(score, id)| (*score, *id));
        oldest.truncate(excess);
        let ids: Vec<JobId> = oldest.iter().map(|(_, id)| *id).collect();
        // What is watched is kept, however many there are.
        let slots = self.slots(shard, &ids).await?;
        let free = oldest
            .into_iter()
            .zip(slots)
            .filter(|(_, slot)| !slot.as_ref().is_some_and(|slot| slot.has(flag::WATCHED)));
        let now_ms = self.clock.now().wall_ms;
        let mut surplus = Surplus::default();
        for ((score, id), _) in free {
            let at = score / TIES + TOMBSTONE_MS;
            if at > now_ms || surplus.due.len() == take {
                surplus.next_ms = Some(at);
                break;
            }
            surplus.due.push(id);
        }
        Ok(surplus)
    }

    async fn forget_entry(&self, shard: Shard, kind: DueKind, id: JobId) -> Result<(), StoreError> {
        let key = match kind {
            DueKind::Lease => "l",
            DueKind::Cancel => "c",
            DueKind::Expire => "x",
            DueKind::Trim => "y",
            // Found by the audit: which list it stands in is not known here.
            DueKind::Start => return Ok(()),
        };
        let mut pipe = redis::Pipeline::new();
        pipe.cmd("ZREM").arg(self.layout.key(shard, key)).arg(id.as_bytes());
        self.run(shard, pipe).await.map(drop)
    }
}

/// (score, id) of a list with scores, as RESP2 has it.
pub(super) fn scored(value: &Value) -> Result<Vec<(i64, JobId)>, StoreError> {
    let list = value::list(value)?;
    list.chunks_exact(2).map(|pair| Ok((value::score(&pair[1])?, value::id(&pair[0])?))).collect()
}
