//! Recording jobs.
use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;

use super::{
    Core,
    lanes::Item,
    names::{self, Of},
    record,
    scripts::PUT,
    value,
};
use crate::{
    model::{
        ids::{Name, Shard},
        op::{HeldBy, Hold, KeyKind, NewJob, Put},
        state::State,
        time::Now,
    },
    store::{
        StoreError, rules,
        slot::{Slot, Stamp},
    },
};

/// How often a number that is another name's is tried again with the next one.
const ROUNDS: usize = 4;

#[async_trait]
impl Item for NewJob {
    type Answer = Put;

    fn size(&self) -> usize {
        self.body.len() + 160
    }

    async fn send(core: &Core, shard: Shard, jobs: Vec<Self>) -> Result<Vec<Put>, StoreError> {
        for _ in 0..ROUNDS {
            let now = core.clock.now();
            let mut args = core.times();
            let mut named: Vec<(Of, u32, &Name)> = Vec::new();
            let mut number = |of, name| {
                let number = core.names.number(shard, of, name);
                if !named.iter().any(|known| (known.0, known.1) == (of, number)) {
                    named.push((of, number, name));
                }
                number
            };
            let new = |job| {
                let (mut slot, _) =
                    rules::new_job(now, job, number(Of::Queue, &job.queue), number(Of::Type, &job.kind));
                // A hint of a job that was deleted and is put again must not stand for the new one.
                slot.row = Stamp::new((core.next_number() & 0xffff) as i64);
                slot
            };
            let slots: Vec<Slot> = jobs.iter().map(new).collect();
            args.push(named.len().to_string().into());
            args.extend(named.iter().flat_map(|(of, number, name)| names::entry(*of, *number, name).map(Bytes::from)));
            let keys = args.len();
            args.push(Bytes::new());
            for (place, job) in jobs.iter().enumerate() {
                push_keys(&mut args, now, place + 1, job);
            }
            args[keys] = ((args.len() - keys - 1) / 4).to_string().into();
            args.push(jobs.iter().map(|job| if job.overshoots { b'o' } else { b'-' }).collect());
            for (job, slot) in jobs.iter().zip(&slots) {
                args.push(Bytes::copy_from_slice(slot.id.as_bytes()));
                args.push(record::encode(slot));
                args.push(job.body.clone());
            }
            match core.eval(shard, &PUT, &args).await? {
                Value::Array(answers) => {
                    return answers.iter().zip(slots).map(|(a, slot)| answer(a, slot)).collect();
                }
                taken => match names::field(&value::text(&taken)?) {
                    Some((of, number)) => core.names.is_taken(shard, of, number),
                    None => return Err(value::unexpected(&taken)),
                },
            }
        }
        Err(StoreError::Unavailable("names of queues and types collide over and over".to_owned()))
    }
}

/// The keys of a job and when they end.
fn push_keys(args: &mut Vec<Bytes>, now: Now, place: usize, job: &NewJob) {
    let idempotency = job.idempotency.map(|(hash, keep_ms)| ("1", hash, Some(keep_ms)));
    let unique = job.unique.map(|unique| match unique.hold {
        Hold::For(ms) => ("2", unique.hash, Some(ms)),
        Hold::UntilFinished | Hold::UntilStarted => ("2", unique.hash, None),
        Hold::KeepLast => ("3", unique.hash, None),
    });
    for (kind, hash, ms) in idempotency.into_iter().chain(unique) {
        let ends = ms.map(|ms| now.wall_ms.saturating_add(ms).to_string());
        args.push(place.to_string().into());
        args.push(Bytes::from_static(kind.as_bytes()));
        args.push(Bytes::copy_from_slice(&hash));
        args.push(ends.unwrap_or_default().into());
    }
}

fn answer(answer: &Value, slot: Slot) -> Result<Put, StoreError> {
    match answer {
        Value::Int(1) => Ok(Put::QueueFull),
        Value::Int(2) => Ok(Put::Created { state: State::Blocked, ready_ms: slot.ready.get() }),
        Value::Int(0) => Ok(Put::Created { state: slot.state, ready_ms: slot.ready.get() }),
        Value::Array(held) => {
            let [key, by, record] = &held[..] else { return Err(value::unexpected(answer)) };
            let key = if value::int(key)? == 1 { KeyKind::Idempotency } else { KeyKind::Unique };
            let by = value::id(by)?;
            let holder = value::maybe(record)?.map(|record| record::decode(by, &record)).transpose();
            let job = holder.map_err(value::damaged)?.map(|holder| HeldBy {
                state: holder.state,
                ready_ms: holder.ready.get(),
                same: holder.content == slot.content,
            });
            Ok(Put::Held { by, key, job })
        }
        there => {
            let there = record::decode(slot.id, &value::bytes(there)?).map_err(value::damaged)?;
            Ok(Put::Exists { state: there.state, ready_ms: there.ready.get(), same: there.content == slot.content })
        }
    }
}
