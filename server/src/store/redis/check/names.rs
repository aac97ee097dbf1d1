//! Names of queues and types, and when each queue starts its next job.
use redis::Pipeline;

use super::{LOOKS, Look};
use crate::{
    model::{
        ids::{JobId, Name},
        job::Body,
        state::State,
    },
    store::{
        StoreError,
        redis::{
            layout::{TIES, by_time, hex},
            names::{self, Of},
            value,
        },
    },
};

impl Look<'_> {
    /// Every queue and type that has a job has a name. Names are never forgotten, so one look is enough.
    pub(super) async fn names(&mut self) -> Result<(), StoreError> {
        self.core.learn_names(self.shard).await?;
        let mut nameless: Vec<(Of, u32, JobId)> =
            self.named.drain().map(|((of, number), id)| (of, number, id)).collect();
        nameless.sort_unstable_by_key(|(of, number, _)| (*of == Of::Type, *number));
        for (of, number, id) in nameless {
            let field = names::field_of(of, number);
            let mut pipe = Pipeline::new();
            pipe.cmd("HEXISTS").arg(self.key("nm")).arg(&field);
            if value::int(&self.core.run(self.shard, pipe).await?[0])? == 1 {
                continue;
            }
            let kind = if of == Of::Queue { "queue" } else { "type" };
            let what = format!("the {kind} number {} of {id} has no name in shard {}", hex(number), self.shard.0);
            if !self.mends() {
                self.found(what, None);
                continue;
            }
            let mended =
                match self.name_in_task(of, number, id).await? {
                    Some(name) => {
                        let [field, entry] = names::entry(of, number, &name);
                        let mut pipe = Pipeline::new();
                        pipe.cmd("HSETNX").arg(self.key("nm")).arg(field).arg(entry);
                        self.core.run(self.shard, pipe).await?;
                        self.core.learn_names(self.shard).await?;
                        Ok(format!("it is {name}, as the job says"))
                    }
                    None => Err("the job does not say what it is: put a job of this queue and type, which names them"
                        .to_owned()),
                };
            self.found(what, Some(mended));
        }
        Ok(())
    }

    /// The name that a job's own task says, if the number can be of that name.
    async fn name_in_task(&self, of: Of, number: u32, id: JobId) -> Result<Option<Name>, StoreError> {
        let mut pipe = Pipeline::new();
        pipe.cmd("HGET").arg(self.key("j")).arg(id.as_bytes());
        let body = value::maybe(&self.core.run(self.shard, pipe).await?[0])?;
        let body = body.and_then(|body| Body::decode(&body).ok());
        let task = body.zip(self.mend.tasks.as_ref()).and_then(|(body, tasks)| tasks.decode(&body.task));
        let name = task.map(|task| if of == Of::Queue { task.queue } else { task.kind });
        Ok(name.filter(|name| names::may_be(of, number, name)))
    }

    /// No queue's next start is later in the index than its first job. Earlier is harmless: it is set right when it is due.
    pub(super) async fn starts(&mut self) -> Result<(), StoreError> {
        let mut queues: Vec<u32> = self.queues.iter().copied().collect();
        queues.sort_unstable();
        for queue in queues {
            let lists = [State::Scheduled, State::Retrying].map(|state| self.key(&by_time(queue, state)));
            for _ in 0..LOOKS {
                let mut pipe = Pipeline::new();
                let firsts = |pipe: &mut Pipeline| {
                    lists.iter().for_each(|list| _ = pipe.cmd("ZRANGE").arg(list).arg(0).arg(0).arg("WITHSCORES"));
                };
                firsts(&mut pipe);
                pipe.cmd("ZSCORE").arg(self.key("t")).arg(hex(queue));
                firsts(&mut pipe);
                let answers = self.core.run(self.shard, pipe).await?;
                if answers[..2] != answers[3..] {
                    continue;
                }
                let mut first: Option<i64> = None;
                for answer in &answers[..2] {
                    if let [_, score] = value::list(answer)? {
                        first = first.into_iter().chain([value::score(score)? / TIES]).min();
                    }
                }
                let entry = super::entries::maybe_score(&answers[2])?;
                if let Some(first) = first.filter(|first| entry.is_none_or(|entry| entry > *first)) {
                    self.late_start(queue, first).await?;
                }
                break;
            }
        }
        Ok(())
    }

    async fn late_start(&mut self, queue: u32, first: i64) -> Result<(), StoreError> {
        let what = format!(
            "the index of starts does not have the next start of queue {} in shard {}",
            self.queue(queue),
            self.shard.0
        );
        if !self.mends() {
            self.found(what, None);
            return Ok(());
        }
        let mut pipe = Pipeline::new();
        pipe.cmd("ZADD").arg(self.key("t")).arg("LT").arg(first).arg(hex(queue));
        pipe.cmd("SPUBLISH").arg(self.core.layout.channel(self.shard)).arg("T");
        self.core.run(self.shard, pipe).await?;
        self.found(what, Some(Ok("it was entered".to_owned())));
        Ok(())
    }
}
