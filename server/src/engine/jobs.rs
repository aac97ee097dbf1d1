//! Calls about jobs: read, list, wait, watch. Enqueuing is in `enqueue`, changes in bulk are in `bulk`.
use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    Cursor, Engine, Inner, JobError, JobEvent, JobPage,
    hub::{Interest, Listener},
};
use crate::{
    model::{
        filter::{Filter, Row, Value},
        ids::{JobId, QueueName},
        job::{LogLine, Parts, Record, Task},
        limits::{EXAMINED, STORE_BATCH},
        op::ListQuery,
        state::{State, StateSet},
    },
    store::StoreError,
};

/// Events of a watched job waiting for a slow reader; the next ones carry the newest state anyway.
const WATCH_EVENTS: usize = 16;
/// Log lines in one event.
const WATCH_LINES: usize = 500;

impl Engine {
    pub async fn get(&self, id: JobId, parts: Parts) -> Result<Record, JobError> {
        self.0.read(id, parts).await
    }

    /// Lines after `after` (0 = from the start) of at least `min_level`, oldest first.
    pub async fn logs(&self, id: JobId, after: u64, min_level: u8, limit: usize) -> Result<Vec<LogLine>, JobError> {
        self.0.read(id, Parts::META).await?;
        Ok(self.0.store.read_log(id, after, min_level, limit).await?)
    }

    /// The record once it is terminal, or as it is when the time is up. Waits through outages of the store.
    pub async fn wait(&self, id: JobId, timeout_ms: i64, parts: Parts) -> Result<Record, JobError> {
        let patience = Duration::from_millis(timeout_ms.max(0) as u64);
        if let Ok(ended) = tokio::time::timeout(patience, self.ended(id)).await {
            ended?;
        }
        self.0.read(id, parts).await
    }

    /// Resolves when the job is terminal (with its record), or at once with `None` when there is no such job. Waits through
    /// outages of the store.
    pub async fn ended(&self, id: JobId) -> Result<Option<Record>, StoreError> {
        let mut listener = self.0.hub.listen(id, Interest::End);
        loop {
            match self.0.read(id, Parts { outcome: true, ..Parts::META }).await {
                Ok(record) if record.meta.state.is_terminal() => return Ok(Some(record)),
                Err(JobError::NotFound(_)) => return Ok(None),
                Err(JobError::Store(error)) if !is_outage(&error) => return Err(error),
                Ok(_) | Err(_) => listener.changed().await,
            }
        }
    }

    /// The record now, then its changes until it is terminal. `logs_after`: also lines after that index.
    pub async fn watch(
        &self,
        id: JobId,
        logs_after: Option<u64>,
    ) -> Result<mpsc::Receiver<Result<JobEvent, JobError>>, JobError> {
        let listener = self.0.hub.listen(id, Interest::Anything);
        self.0.read(id, Parts::META).await?;
        let (events, stream) = mpsc::channel(WATCH_EVENTS);
        let inner = self.0.clone();
        tokio::spawn(async move {
            let mut watch = Watch { inner, id, events, version: None, progress_ms: 0, logs_after };
            let (stopped, reader) = (watch.inner.stopped.clone(), watch.events.clone());
            let outcome = tokio::select! {
                outcome = watch.run(listener) => outcome,
                () = reader.closed() => Ok(()),
                () = stopped.cancelled() => Err(StoreError::Closed.into()),
            };
            if let Err(error) = outcome {
                _ = watch.events.send(Err(error)).await;
            }
        });
        Ok(stream)
    }

    /// One page: jobs grouped by queue and state. Examines a bounded number of records: a page may be short, or empty, and
    /// still have a successor.
    pub async fn list(
        &self,
        filter: &Filter,
        cursor: Option<Cursor>,
        page: usize,
        parts: Parts,
    ) -> Result<JobPage, StoreError> {
        self.0.list(filter, StateSet::ANY, cursor, page, parts).await
    }
}

impl Inner {
    pub(super) async fn read(&self, id: JobId, parts: Parts) -> Result<Record, JobError> {
        let found = self.heard_reading(id.shard(), self.store.get(&[id], parts).await)?;
        found.into_iter().next().flatten().ok_or(JobError::NotFound(id))
    }

    /// As [`Engine::list`], narrowed to `states`.
    pub(super) async fn list(
        &self,
        filter: &Filter,
        states: StateSet,
        cursor: Option<Cursor>,
        page: usize,
        parts: Parts,
    ) -> Result<JobPage, StoreError> {
        let scope = filter.scope();
        let parts = needed(filter, parts);
        if let Some(ids) = &scope.ids {
            let records = self.store.get(ids, parts).await?.into_iter().flatten();
            let jobs = records.filter(|r| states.has(r.meta.state) && self.matches(filter, r)).collect();
            return Ok(JobPage { jobs, next: None });
        }
        let since_ms = cursor.as_ref().map_or_else(|| self.wall_ms(), |cursor| cursor.since_ms);
        let mut examined = 0;
        let mut jobs = Vec::new();
        for (queue, state) in self.groups(&scope.queues, cursor.as_ref()).await? {
            if !scope.states.has(state) || !states.has(state) {
                continue;
            }
            let mut after = match &cursor {
                Some(cursor) if cursor.queue == queue && cursor.state == state => cursor.after,
                _ => None,
            };
            loop {
                if jobs.len() >= page || examined >= EXAMINED {
                    return Ok(JobPage { jobs, next: Some(Cursor { queue, state, after, since_ms }) });
                }
                let limit = page.clamp(100, STORE_BATCH);
                let metas = self.store.list(ListQuery { queue: queue.clone(), state, after, limit }).await?;
                let full = metas.len() == limit;
                examined += metas.len();
                let ids: Vec<JobId> = metas.iter().map(|meta| meta.id).collect();
                let records = self.store.get(&ids, parts).await?;
                for (meta, record) in metas.into_iter().zip(records) {
                    if jobs.len() >= page {
                        return Ok(JobPage { jobs, next: Some(Cursor { queue, state, after, since_ms }) });
                    }
                    after = Some(meta.place());
                    // A record that moved on since the list was read is found under its new state, or not at all.
                    jobs.extend(record.filter(|r| r.meta.state == state && self.matches(filter, r)));
                }
                if !full {
                    break;
                }
            }
        }
        Ok(JobPage { jobs, next: None })
    }

    /// Lists that have jobs, in order, from the cursor's on.
    async fn groups(
        &self,
        queues: &Option<Vec<QueueName>>,
        cursor: Option<&Cursor>,
    ) -> Result<Vec<(QueueName, State)>, StoreError> {
        let mut facts = self.store.queues(queues.as_deref()).await?;
        facts.sort_by(|a, b| a.name.cmp(&b.name));
        let all = facts.into_iter().flat_map(|facts| {
            let states = State::ALL.into_iter().filter(|state| facts.count(*state) > 0);
            states.map(|state| (facts.name.clone(), state)).collect::<Vec<_>>()
        });
        let from = cursor.map(|cursor| (cursor.queue.clone(), cursor.state));
        Ok(all.filter(|group| from.as_ref().is_none_or(|from| group >= from)).collect())
    }

    fn matches(&self, filter: &Filter, record: &Record) -> bool {
        let task = record.body.as_ref().and_then(|body| self.codec.decode(&body.task));
        filter.matches(&JobRow { record, task: task.as_ref() })
    }
}

/// The parts that a filter looks at, besides those asked for.
fn needed(filter: &Filter, parts: Parts) -> Parts {
    let body = ["tag", "parent_id", "schedule_id", "workflow_id"].into_iter().any(|field| filter.mentions(field));
    let outcome = ["failure.type", "worker_id"].into_iter().any(|field| filter.mentions(field));
    Parts { body: parts.body || body, outcome: parts.outcome || outcome, ..parts }
}

/// It passes: whoever waits, looks again.
fn is_outage(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(_))
}

/// A job as filters see it.
struct JobRow<'a> {
    record: &'a Record,
    task: Option<&'a Task>,
}

impl Row for JobRow<'_> {
    fn values(&self, field: &str) -> Vec<Value> {
        let meta = &self.record.meta;
        let text = |text: &str| if text.is_empty() { Vec::new() } else { vec![Value::Text(text.to_owned())] };
        let time = |ms: i64| if ms == 0 { Vec::new() } else { vec![Value::Time(ms)] };
        let outcome = self.record.outcome.as_ref();
        match field {
            "id" => vec![Value::Text(meta.id.to_string())],
            "queue" => text(meta.queue.as_str()),
            "state" => text(meta.state.name()),
            "type" => text(meta.kind.as_str()),
            "tag" => {
                let tags = self.task.map(|task| task.tags.as_slice()).unwrap_or_default();
                tags.iter().map(|tag| Value::Text(tag.clone())).collect()
            }
            "priority" => vec![Value::Number(f64::from(meta.priority))],
            "attempt" => vec![Value::Number(f64::from(meta.attempt()))],
            "fairness_key" => text(self.task.map_or("", |task| task.fairness_key.as_str())),
            "parent_id" => {
                self.task.and_then(|task| task.parent).map(|id| Value::Text(id.to_string())).into_iter().collect()
            }
            "workflow_id" => {
                let member = self.task.and_then(|task| task.member.as_ref());
                member.map(|member| Value::Text(member.workflow.to_string())).into_iter().collect()
            }
            "schedule_id" => {
                text(self.task.and_then(|task| task.tick.as_ref()).map_or("", |tick| tick.schedule.as_str()))
            }
            "worker_id" => text(outcome.and_then(|o| o.last.as_ref()).map_or("", |last| last.worker_id.as_str())),
            "failure.type" => text(outcome.and_then(|o| o.failure.as_ref()).map_or("", |f| f.class.as_str())),
            "create_time" => time(meta.create_ms),
            "schedule_time" => time(meta.ready_ms),
            "start_time" => time(meta.start_ms),
            "finish_time" => time(meta.finish_ms),
            _ => Vec::new(),
        }
    }
}

/// One watcher of one job.
struct Watch {
    inner: Arc<Inner>,
    id: JobId,
    events: mpsc::Sender<Result<JobEvent, JobError>>,
    version: Option<u32>,
    progress_ms: i64,
    logs_after: Option<u64>,
}

impl Watch {
    async fn run(&mut self, mut listener: Listener) -> Result<(), JobError> {
        loop {
            match self.look().await {
                Ok(true) => return Ok(()),
                Err(JobError::Store(error)) if is_outage(&error) => {}
                Err(error) => return Err(error),
                Ok(false) => {}
            }
            listener.changed().await;
        }
    }

    /// Sends what is new; answers whether the job has ended.
    async fn look(&mut self) -> Result<bool, JobError> {
        let record = self.inner.read(self.id, Parts::ALL).await?;
        let ended = record.meta.state.is_terminal();
        self.send_lines().await?;
        if let Some(progress) = record.progress.clone().filter(|progress| progress.update_ms > self.progress_ms) {
            self.progress_ms = progress.update_ms;
            self.send(JobEvent::Progress(progress)).await;
        }
        if self.version != Some(record.meta.version) {
            self.version = Some(record.meta.version);
            self.send(JobEvent::Record(Box::new(record))).await;
        }
        Ok(ended)
    }

    async fn send_lines(&mut self) -> Result<(), JobError> {
        while let Some(after) = self.logs_after {
            let lines = self.inner.store.read_log(self.id, after, 0, WATCH_LINES).await;
            let lines = self.inner.heard_reading(self.id.shard(), lines)?;
            let Some(last) = lines.last() else { break };
            self.logs_after = Some(last.index);
            self.send(JobEvent::Lines(lines)).await;
        }
        Ok(())
    }

    /// A reader that has gone is noticed by `run`'s caller.
    async fn send(&self, event: JobEvent) {
        _ = self.events.send(Ok(event)).await;
    }
}
