//! Workflows and their nodes as they are shown.
use std::time::Duration;

use super::{FlowError, Opened};
use crate::{
    engine::{Engine, hub::Interest},
    model::{
        filter::{Filter, Row, Value},
        ids::{JobId, Name, Shard},
        job::{Failure, Parts, Progress},
        limits::{EXAMINED, STORE_BATCH},
        state::State,
        workflow::{Callback, Dependency, Flow, Mark, PREFIX, id_of},
    },
    store::StoreError,
};

/// Jobs that are looked at for the counts of one workflow. Of those beyond it READY is what is said.
const COUNTED: usize = 10_000;

/// A workflow as it is now.
#[derive(Clone, Debug)]
pub struct FlowView {
    pub id: JobId,
    pub flow: Flow,
    pub counts: Vec<(State, usize)>,
    /// Callbacks that were enqueued.
    pub callbacks: Vec<JobId>,
}

impl FlowView {
    /// 0 to 100: nodes that have ended, of all.
    pub fn percent(&self) -> f64 {
        let ended = self.flow.marks.iter().filter(|mark| mark.ended()).count();
        match self.flow.marks.len() {
            0 if self.flow.state.is_terminal() => 100.0,
            0 => 0.0,
            all => ended as f64 * 100.0 / all as f64,
        }
    }
}

/// A node as it is now.
#[derive(Clone, Debug)]
pub struct NodeView {
    pub name: Name,
    pub group: Option<Name>,
    /// `None` = the node is a workflow of its own.
    pub job: Option<JobId>,
    pub state: State,
    pub depends_on: Vec<Dependency>,
    pub progress: Option<Progress>,
    pub failure: Option<Failure>,
    pub start_ms: i64,
    pub finish_ms: i64,
}

impl Engine {
    pub async fn workflow(&self, id: JobId) -> Result<FlowView, FlowError> {
        let there = self.0.open(id, true).await?.filter(|there| there.flow.lone.is_none());
        self.view(there.ok_or(FlowError::NotFound(id))?, true).await
    }

    /// The workflow once it is terminal, or as it is when the time is up.
    pub async fn wait_workflow(&self, id: JobId, timeout_ms: i64) -> Result<FlowView, FlowError> {
        let ended = async {
            let mut listener = self.0.hub.listen(id, Interest::End);
            loop {
                match self.0.open(id, true).await {
                    Ok(Some(there)) if there.flow.state.is_terminal() => return Ok(()),
                    Ok(None) => return Err(FlowError::NotFound(id)),
                    Err(error) if !matches!(error, FlowError::Store(StoreError::Unavailable(_))) => return Err(error),
                    Ok(_) | Err(_) => listener.changed().await,
                }
            }
        };
        let patience = Duration::from_millis(timeout_ms.max(0) as u64);
        if let Ok(ended) = tokio::time::timeout(patience, ended).await {
            ended?;
        }
        self.workflow(id).await
    }

    /// Workflows that match, the newest first, after `after` (time of creation and id), `limit` and one more.
    pub async fn workflows(
        &self,
        filter: &Filter,
        after: Option<(i64, JobId)>,
        limit: usize,
    ) -> Result<Vec<FlowView>, FlowError> {
        let mut found = self.matching(filter).await?;
        if let Some(after) = after {
            found.retain(|(id, flow)| (flow.create_ms, *id) < after);
        }
        found.truncate(limit.saturating_add(1));
        let mut views = Vec::with_capacity(found.len());
        for (id, flow) in found {
            let there = Opened { id, version: 0, flow, graph: Default::default() };
            views.push(self.view(there, false).await?);
        }
        Ok(views)
    }

    /// All that match, the newest first.
    pub(super) async fn matching(&self, filter: &Filter) -> Result<Vec<(JobId, Flow)>, StoreError> {
        let mut all = Vec::new();
        for shard in (0..self.0.store.shards()).map(Shard) {
            let docs = self.0.heard_reading(shard, self.0.store.docs(shard, PREFIX).await)?;
            all.extend(docs.into_iter().filter_map(|(key, doc)| {
                let (id, flow) = (id_of(&key)?, Flow::decode(&doc.value)?);
                (flow.lone.is_none() && filter.matches(&FlowRow { id, flow: &flow })).then_some((id, flow))
            }));
        }
        all.sort_unstable_by_key(|(id, flow)| std::cmp::Reverse((flow.create_ms, *id)));
        Ok(all)
    }

    /// `live`: jobs that go on are looked at for the counts.
    async fn view(&self, there: Opened, live: bool) -> Result<FlowView, FlowError> {
        let mut counts = [0; 11];
        let (mut released, mut unread) = (Vec::new(), 0);
        for (node, mark) in there.flow.marks.iter().enumerate() {
            match mark {
                Mark::Released if live && released.len() < COUNTED && !there.graph.nodes[node].nested => {
                    released.push(there.graph.nodes[node].id);
                }
                Mark::Released => unread += 1,
                mark => counts[mark.state() as usize] += 1,
            }
        }
        for state in self.0.states(released).await? {
            counts[state.unwrap_or(State::Ready) as usize] += 1;
        }
        counts[State::Ready as usize] += unread;
        let mut callbacks = Vec::new();
        if live
            && there.flow.called != 0
            && let Some(first) = there.flow.parts.first()
        {
            let part = self.0.part(there.id, *first).await?;
            let called = Callback::ALL.into_iter().filter(|callback| there.flow.has_called(*callback));
            callbacks
                .extend(called.filter_map(|callback| part.callbacks[callback as usize].as_ref()).map(|job| job.id));
        }
        let counts = State::ALL.into_iter().map(|state| (state, counts[state as usize])).filter(|(_, n)| *n > 0);
        Ok(FlowView { id: there.id, counts: counts.collect(), callbacks, flow: there.flow })
    }

    /// Nodes that match, in the order in which they came, from the `from`-th on; and where to go on.
    pub async fn workflow_nodes(
        &self,
        id: JobId,
        filter: &Filter,
        from: usize,
        page: usize,
    ) -> Result<(Vec<NodeView>, Option<usize>), FlowError> {
        let there = self.0.open(id, true).await?.filter(|there| there.flow.lone.is_none());
        let there = there.ok_or(FlowError::NotFound(id))?;
        let mut found = Vec::new();
        let mut at = from;
        while at < there.graph.len() {
            if found.len() >= page || at - from >= EXAMINED {
                return Ok((found, Some(at)));
            }
            let batch = page.clamp(1, STORE_BATCH).min(there.graph.len() - at);
            for (n, node) in self.node_views(&there, at, batch).await?.into_iter().enumerate() {
                if filter.matches(&NodeRow(&node)) {
                    found.push(node);
                    if found.len() >= page && at + n + 1 < there.graph.len() {
                        return Ok((found, Some(at + n + 1)));
                    }
                }
            }
            at += batch;
        }
        Ok((found, None))
    }

    async fn node_views(&self, there: &Opened, from: usize, count: usize) -> Result<Vec<NodeView>, FlowError> {
        let nodes = &there.graph.nodes[from..from + count];
        let parts = Parts { body: true, outcome: true, progress: true, ..Parts::META };
        let ids: Vec<JobId> = nodes.iter().map(|node| node.id).collect();
        let records = self.0.store.get(&ids, parts).await?;
        let marks = &there.flow.marks[from..];
        let view =
            |((node, record), mark): ((&crate::model::workflow::Node, Option<crate::model::job::Record>), &Mark)| {
                let task = record.as_ref().and_then(|record| self.task(record));
                let meta = record.as_ref().map(|record| &record.meta);
                NodeView {
                    name: node.name.clone(),
                    group: node.group.clone(),
                    job: (!node.nested).then_some(node.id),
                    state: match (meta, mark) {
                        (Some(meta), _) => meta.state,
                        (None, Mark::Released) if node.nested => State::Running,
                        (None, mark) => mark.state(),
                    },
                    depends_on: task.map(|task| task.depends_on).unwrap_or_default(),
                    start_ms: meta.map_or(0, |meta| meta.start_ms),
                    finish_ms: meta.map_or(0, |meta| meta.finish_ms),
                    failure: record.as_ref().and_then(|record| record.outcome.as_ref()?.failure.clone()),
                    progress: record.and_then(|record| record.progress),
                }
            };
        Ok(nodes.iter().zip(records).zip(marks).map(view).collect())
    }
}

/// A workflow as filters see it.
struct FlowRow<'a> {
    id: JobId,
    flow: &'a Flow,
}

fn text(text: &str) -> Vec<Value> {
    if text.is_empty() { Vec::new() } else { vec![Value::Text(text.to_owned())] }
}

impl Row for FlowRow<'_> {
    fn values(&self, field: &str) -> Vec<Value> {
        let time = |ms: i64| if ms == 0 { Vec::new() } else { vec![Value::Time(ms)] };
        match field {
            "id" => text(&self.id.to_string()),
            "name" => text(self.flow.name.as_ref().map_or("", Name::as_str)),
            "state" => text(self.flow.state.name()),
            "tag" => self.flow.tags.iter().map(|tag| Value::Text(tag.clone())).collect(),
            "create_time" => time(self.flow.create_ms),
            "finish_time" => time(self.flow.finish_ms),
            "parent_workflow_id" => self.flow.parent.map_or_else(Vec::new, |id| text(&id.to_string())),
            _ => Vec::new(),
        }
    }
}

/// A node as filters see it.
pub struct NodeRow<'a>(&'a NodeView);

impl Row for NodeRow<'_> {
    fn values(&self, field: &str) -> Vec<Value> {
        match field {
            "name" => text(self.0.name.as_str()),
            "group" => text(self.0.group.as_ref().map_or("", Name::as_str)),
            "state" => text(self.0.state.name()),
            _ => Vec::new(),
        }
    }
}
