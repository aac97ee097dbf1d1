//! Workflows at work. A workflow is one document that says what is known of its nodes; the nodes are jobs, and whoever ends one
//! tells the workflow to look at it ([`Flows::hint`]). What was seen goes through the pure core into guarded changes of jobs
//! and then into the document, if it is still the version that was decided on: so any server finishes what another began, and
//! doing a turn twice does nothing twice. A hint is only a hint. What a server that died had not told is found by whoever
//! looks after the shard, where servers share a store, and by the start of the server, where they do not.
use std::{sync::Arc, time::Duration};

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{debug, error};

use super::{
    Inner, clock,
    workflow::{BadGraph, Graph, Seen, Todo, conclude, evaluate, see},
};
use crate::{
    model::{
        ids::{JobId, Shard},
        job::Parts,
        limits::STORE_BATCH,
        op::{Act, Doc, DocChange, Effect, Guard, NewJob, Op, Verdict},
        state::{State, StateSet},
        time::{MINUTE, SECOND},
        workflow::{Callback, Flow, FlowState, Mark, PREFIX, Part, Stop, id_of, key, part_key},
    },
    store::{Cas, StoreError},
};

mod acts;
mod calls;
mod create;
mod results;
mod view;

pub use calls::{FlowBulk, FlowSelector};
pub use create::Created;
pub use view::{FlowView, NodeView};

/// Graphs that are kept read, by their nodes.
const CACHED_NODES: usize = 2_000_000;
const CACHED_FLOWS: usize = 20_000;
/// Where servers share a store every workflow is looked at so often, less and less while nothing moves.
const LOOK_MS: (i64, i64) = (5 * SECOND, MINUTE);
/// A job that is not there yet may still be on its way, in a store that carries jobs from shard to shard.
const ON_ITS_WAY_MS: i64 = MINUTE;
/// The pause before it is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// What a running node gets to stop in, when the time of its workflow is up.
const GRACE_MS: i64 = 30 * SECOND;
/// The pause after a turn that failed; doubles up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Why a call about a workflow failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FlowError {
    #[error("no workflow {0}")]
    NotFound(JobId),
    #[error("workflow {0} exists with other nodes")]
    IdConflict(JobId),
    /// It takes no more nodes.
    #[error("workflow {0} is closed")]
    Closed(JobId),
    #[error("the workflow is {} and not in a state that this call changes", .0.name())]
    WrongState(FlowState),
    #[error(transparent)]
    Graph(#[from] BadGraph),
    /// A node, and its dependency on a job that is not there.
    #[error("no job {1}")]
    NoJob((usize, usize), JobId),
    #[error("no job {0}")]
    NoSuchJob(JobId),
    #[error("workflow {0} is damaged, or of a later release")]
    Unreadable(JobId),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is decided on a workflow as it was read: changes what is known, answers what is to be done.
type Decide<'a> = dyn FnMut(&Graph, &mut Flow) -> Result<Vec<Todo>, FlowError> + Send + 'a;

/// A workflow as it was read.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub id: JobId,
    pub version: u64,
    pub flow: Flow,
    pub graph: Arc<Graph>,
}

/// What this server has to look at, and what saves it reading.
#[derive(Default)]
pub(super) struct Flows {
    hints: Mutex<HashMap<JobId, Hint>>,
    stir: Notify,
    cache: Mutex<HashMap<JobId, Opened>>,
}

#[derive(Default)]
struct Hint {
    jobs: HashSet<JobId>,
    /// Look at everything.
    whole: bool,
    under_way: bool,
}

impl Flows {
    /// Something about this job of the workflow has changed; `None` = anything may have.
    pub fn hint(&self, flow: JobId, job: Option<JobId>) {
        let mut hints = self.hints.lock();
        let hint = hints.entry(flow).or_default();
        match job {
            Some(job) => _ = hint.jobs.insert(job),
            None => hint.whole = true,
        }
        if !hint.under_way {
            self.stir.notify_one();
        }
    }

    /// Workflows to look at that nobody is at: somebody is from now on.
    fn begin(&self) -> Vec<JobId> {
        let mut hints = self.hints.lock();
        let idle = hints.iter_mut().filter(|(_, hint)| !hint.under_way);
        idle.map(|(id, hint)| {
            hint.under_way = true;
            *id
        })
        .collect()
    }

    /// What is to be looked at; `None` = nothing any more, and nobody is at it.
    fn take(&self, flow: JobId) -> Option<(Vec<JobId>, bool)> {
        let mut hints = self.hints.lock();
        let hint = hints.get_mut(&flow)?;
        if hint.jobs.is_empty() && !hint.whole {
            hints.remove(&flow);
            return None;
        }
        Some((std::mem::take(&mut hint.jobs).into_iter().collect(), std::mem::take(&mut hint.whole)))
    }

    fn cached(&self, id: JobId) -> Option<Opened> {
        self.cache.lock().get(&id).cloned()
    }

    fn keep(&self, opened: Opened) {
        let mut cache = self.cache.lock();
        // Whoever only reads may come late with what it has read.
        if cache.get(&opened.id).is_some_and(|known| known.version > opened.version) {
            return;
        }
        let nodes: usize = cache.values().map(|each| each.graph.len()).sum();
        if cache.len() >= CACHED_FLOWS || nodes + opened.graph.len() > CACHED_NODES {
            cache.clear();
        }
        cache.insert(opened.id, opened);
    }

    fn forget(&self, id: JobId) {
        self.cache.lock().remove(&id);
    }
}

/// Runs until the server stops.
pub(super) async fn run(inner: Arc<Inner>) {
    if !inner.shared() {
        inner.look_at_all().await;
    }
    loop {
        for id in inner.flows.begin() {
            let inner = inner.clone();
            tokio::spawn(async move { inner.drive(id).await });
        }
        tokio::select! {
            () = inner.flows.stir.notified() => {}
            () = inner.stopped.cancelled() => return,
        }
    }
}

impl Inner {
    async fn look_at_all(&self) {
        for shard in (0..self.store.shards()).map(Shard) {
            match self.store.docs(shard, PREFIX).await {
                Ok(docs) => docs.iter().filter_map(|(key, _)| id_of(key)).for_each(|id| self.flows.hint(id, None)),
                Err(error) => error!(%error, "workflows are looked at when something about them moves"),
            }
        }
    }

    /// Looks at a workflow until nothing is left to look at.
    async fn drive(self: &Arc<Self>, id: JobId) {
        let mut pause = RETRY.0;
        while let Some((jobs, whole)) = self.flows.take(id) {
            let wait = match self.advance(id, &jobs, whole).await {
                // What ends meanwhile is looked at together: a large workflow costs more a turn.
                Ok(nodes) => {
                    pause = RETRY.0;
                    Duration::from_micros(if nodes < 1_000 { 0 } else { nodes as u64 })
                }
                Err(FlowError::Store(StoreError::Closed)) => return,
                Err(error) => {
                    debug!(workflow = %id, %error, "a workflow is looked at again");
                    self.flows.forget(id);
                    jobs.iter().for_each(|job| self.flows.hint(id, Some(*job)));
                    if whole {
                        self.flows.hint(id, None);
                    }
                    let wait = pause;
                    pause = (pause * 2).min(RETRY.1);
                    wait
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait), if !wait.is_zero() => {}
                () = self.stopped.cancelled() => return,
                () = std::future::ready(()), if wait.is_zero() => {}
            }
        }
    }

    /// Takes in what there is to see. Answers how many nodes the workflow has.
    async fn advance(self: &Arc<Self>, id: JobId, jobs: &[JobId], whole: bool) -> Result<usize, FlowError> {
        let Some(mut there) = self.open(id, whole || self.shared()).await? else { return Ok(0) };
        let now_ms = self.store.wall_ms();
        if there.flow.state.is_terminal() {
            if there.flow.purge_ms <= now_ms {
                self.clone().purge(there).await?;
            }
            return Ok(0);
        }
        if there.flow.deadline_ms != 0 && there.flow.deadline_ms <= now_ms && there.flow.stop.is_none() {
            let stop = Stop { reason: "its total_timeout is over".to_owned(), grace_ms: Some(GRACE_MS) };
            self.turn(id, &mut |_, flow| Ok(super::workflow::stop(flow, stop.clone()))).await?;
            // What was to be looked at still is.
            jobs.iter().for_each(|job| self.flows.hint(id, Some(*job)));
            return Ok(there.graph.len());
        }
        let mut seen = Vec::new();
        if whole {
            seen.extend(self.watch_outside(&there).await?);
            let open = (0..).zip(&there.flow.marks).filter(|(_, mark)| !mark.ended()).map(|(node, _)| node);
            seen.extend(self.look(&there, open.collect(), self.is_young(&there.flow)).await?);
        } else {
            let known = |there: &Opened| {
                let known =
                    |job: &JobId| there.graph.find_id(*job).is_some() || !there.graph.waits_outside(*job).is_empty();
                jobs.iter().all(known)
            };
            if !known(&there) {
                there = self.open(id, true).await?.ok_or(FlowError::NotFound(id))?;
            }
            seen.extend(self.look_outside(&there, jobs).await?);
            let nodes = jobs.iter().filter_map(|job| there.graph.find_id(*job)).collect();
            // Whoever told of a job has seen it.
            seen.extend(self.look(&there, nodes, false).await?);
        }
        let mut decide = |graph: &Graph, flow: &mut Flow| {
            let mut todo = see(graph, flow, &seen);
            if whole {
                todo.extend(evaluate(graph, flow));
                flow.looks = flow.looks.saturating_add(1);
            }
            Ok(todo)
        };
        Ok(self.turn(id, &mut decide).await?.graph.len())
    }

    /// How these nodes stand. `young`: what is not there may be on its way.
    async fn look(self: &Arc<Self>, there: &Opened, nodes: Vec<u32>, young: bool) -> Result<Vec<Seen>, StoreError> {
        let (flows, jobs): (Vec<u32>, Vec<u32>) =
            nodes.into_iter().partition(|node| there.graph.nodes[*node as usize].nested);
        let id = |node: &u32| there.graph.nodes[*node as usize].id;
        let mut seen = Vec::with_capacity(jobs.len() + flows.len());
        let mut see = |node: u32, mark: Mark| match mark {
            Mark::Gone if young => self.look_later(there.id),
            mark => seen.push(Seen::Node(node, mark)),
        };
        let states = self.states(jobs.iter().map(id).collect()).await?;
        jobs.into_iter().zip(states).for_each(|(node, state)| see(node, Mark::of(state)));
        for node in flows {
            let flow = self.open(id(&node), true).await.map_or(None, |flow| flow);
            see(
                node,
                match flow.map(|flow| flow.flow.state) {
                    None => Mark::Gone,
                    Some(FlowState::Running | FlowState::Held) => Mark::Released,
                    Some(FlowState::Succeeded) => Mark::Succeeded,
                    Some(FlowState::Failed) => Mark::Dead,
                    Some(FlowState::Cancelled) => Mark::Cancelled,
                },
            );
        }
        Ok(seen)
    }

    async fn look_outside(&self, there: &Opened, jobs: &[JobId]) -> Result<Vec<Seen>, StoreError> {
        let outside: Vec<JobId> =
            jobs.iter().copied().filter(|job| !there.graph.waits_outside(*job).is_empty()).collect();
        let states = self.states(outside.clone()).await?;
        Ok(outside.into_iter().zip(states).map(|(job, state)| Seen::Outside(job, Mark::of(state))).collect())
    }

    /// Where these jobs are; `None` = they are not.
    async fn states(&self, ids: Vec<JobId>) -> Result<Vec<Option<State>>, StoreError> {
        let mut states = Vec::with_capacity(ids.len());
        for ids in ids.chunks(STORE_BATCH) {
            let records = self.store.get(ids, Parts::META).await?;
            states.extend(records.into_iter().map(|record| record.map(|record| record.meta.state)));
        }
        Ok(states)
    }

    /// Has the jobs outside tell of their ends, and sees how they stand.
    async fn watch_outside(&self, there: &Opened) -> Result<Vec<Seen>, StoreError> {
        let open = there.flow.outside.iter().filter(|(_, mark)| !mark.ended()).map(|(id, _)| *id);
        let ids: Vec<JobId> = open.collect();
        let watch = Act::Watch { owner: there.id, off: false, retain_ms: 0 };
        let op = |id: &JobId| Op { id: *id, guard: Guard::In(StateSet::ANY), act: watch.clone() };
        let verdicts = self.apply(ids.iter().map(op).collect()).await?;
        let state = |verdict| match verdict {
            Verdict::Done(facts) => Some(facts.state),
            _ => None,
        };
        Ok(ids.into_iter().zip(verdicts).map(|(id, verdict)| Seen::Outside(id, Mark::of(state(verdict)))).collect())
    }

    fn is_young(&self, flow: &Flow) -> bool {
        (self.shared() || flow.lone.is_some()) && self.store.wall_ms() < flow.grow_ms + ON_ITS_WAY_MS
    }

    fn look_later(self: &Arc<Self>, id: JobId) {
        let inner = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LOOK_AGAIN).await;
            inner.flows.hint(id, None);
        });
    }

    /// Reads a workflow; what is remembered will do unless it is to be `fresh`.
    pub(super) async fn open(&self, id: JobId, fresh: bool) -> Result<Option<Opened>, FlowError> {
        if let Some(cached) = self.flows.cached(id).filter(|_| !fresh) {
            return Ok(Some(cached));
        }
        let shard = id.shard();
        if shard.0 >= self.store.shards().max(1) && self.shared() {
            return Ok(None);
        }
        match self.heard_reading(shard, self.read_doc(shard, key(id)).await)? {
            Some(doc) => Ok(Some(self.opened(id, doc).await?)),
            None => {
                self.flows.forget(id);
                Ok(None)
            }
        }
    }

    async fn opened(&self, id: JobId, doc: Doc) -> Result<Opened, FlowError> {
        let flow = Flow::decode(&doc.value).ok_or(FlowError::Unreadable(id))?;
        let known = self.flows.cached(id).filter(|known| flow.parts.starts_with(&known.flow.parts));
        let (mut graph, from) = known.map_or_else(Default::default, |known| (known.graph, known.flow.parts.len()));
        if let Some(part) = flow.lone.as_ref().filter(|_| graph.is_empty()) {
            Arc::make_mut(&mut graph).add(part);
        }
        for hash in &flow.parts[from..] {
            let part = self.part(id, *hash).await?;
            Arc::make_mut(&mut graph).add(&part);
        }
        if graph.len() != flow.marks.len() {
            return Err(FlowError::Unreadable(id));
        }
        let opened = Opened { id, version: doc.version, flow, graph };
        self.flows.keep(opened.clone());
        Ok(opened)
    }

    async fn part(&self, id: JobId, hash: u128) -> Result<Part, FlowError> {
        let doc = self.heard_reading(id.shard(), self.read_doc(id.shard(), part_key(id, hash)).await)?;
        doc.and_then(|doc| Part::decode(&doc.value)).ok_or(FlowError::Unreadable(id))
    }

    /// Decides, does what comes of it, and writes it down. What was decided on may be another one by then: decided again.
    pub(super) async fn turn(self: &Arc<Self>, id: JobId, decide: &mut Decide<'_>) -> Result<Opened, FlowError> {
        let mut there = self.open(id, self.shared()).await?.ok_or(FlowError::NotFound(id))?;
        loop {
            let mut flow = there.flow.clone();
            let now_ms = self.store.wall_ms();
            let todo = decide(&there.graph, &mut flow)?;
            let calls = conclude(&there.graph, &mut flow, now_ms);
            if flow == there.flow && todo.is_empty() {
                return Ok(there);
            }
            if flow.marks != there.flow.marks {
                flow.looks = 0;
            }
            if flow.lone.is_some() && flow.state.is_terminal() {
                flow.purge_ms = now_ms;
            }
            self.carry_out(&there, &flow, todo).await?;
            let effects = self.callbacks(&there, calls).await?;
            let change = self.document(id, there.version, &flow, effects);
            match self.write(id, vec![change]).await? {
                Cas::Done { version } => {
                    let moved = flow.state != there.flow.state;
                    let opened = Opened { version, flow, ..there };
                    self.flows.keep(opened.clone());
                    if moved {
                        self.has_moved(&opened);
                    }
                    return Ok(opened);
                }
                Cas::Conflict(Some(doc)) => there = self.opened(id, doc).await?,
                Cas::Conflict(None) => return Err(FlowError::NotFound(id)),
            }
        }
    }

    /// Tells who waits for the workflow.
    fn has_moved(&self, there: &Opened) {
        self.hub.touched(there.id);
        if there.flow.state.is_terminal() {
            if let Some(parent) = there.flow.parent {
                self.flows.hint(parent, Some(there.id));
            }
            if there.flow.lone.is_some() {
                self.flows.hint(there.id, None);
            }
        }
    }

    /// Writes documents of a workflow, its own last; answers what became of that one.
    async fn write(&self, id: JobId, changes: Vec<DocChange>) -> Result<Cas, StoreError> {
        let answers = self.heard(id.shard(), self.store.change_docs(id.shard(), changes).await)?;
        answers.into_iter().last().ok_or_else(|| StoreError::Unavailable("no answer to a change".to_owned()))
    }

    /// The document of a workflow, due when it has to be looked at next.
    fn document(&self, id: JobId, expect: u64, flow: &Flow, effects: Vec<Effect>) -> DocChange {
        let due_ms = if flow.state.is_terminal() {
            flow.purge_ms.max(1)
        } else {
            let (least, most) = LOOK_MS;
            let look_ms = (least << flow.looks.min(6)).min(most) + flow.marks.len() as i64;
            let look_ms = self.shared().then(|| self.store.wall_ms() + look_ms);
            let deadline_ms = Some(flow.deadline_ms).filter(|at| *at != 0 && flow.stop.is_none());
            look_ms.into_iter().chain(deadline_ms).min().unwrap_or(0)
        };
        DocChange { key: key(id), expect, value: Some(flow.encode()), due_ms, effects }
    }

    /// The jobs that are enqueued because of what became of the workflow.
    async fn callbacks(&self, there: &Opened, calls: Vec<Callback>) -> Result<Vec<Effect>, FlowError> {
        let Some(first) = there.flow.parts.first().filter(|_| !calls.is_empty()) else { return Ok(Vec::new()) };
        let mut jobs = self.part(there.id, *first).await?.callbacks;
        let now_ms = self.store.wall_ms();
        let job = |callback: Callback| jobs[callback as usize].take().map(|job| NewJob { create_ms: now_ms, ..job });
        Ok(calls.into_iter().filter_map(job).map(Effect::Put).collect())
    }

    /// Workflows whose time has come. Answers how many of them moved.
    pub(super) async fn flows_due(&self, shard: Shard, docs: Vec<(JobId, Doc)>) -> Result<usize, StoreError> {
        let mut changes = Vec::new();
        for (id, doc) in docs {
            self.flows.hint(id, None);
            // Whoever looks has so much time until somebody else does.
            let due_ms = self.store.wall_ms() + LOOK_MS.0 + (LOOK_MS.0 as f64 * clock::share()) as i64;
            let value = Some(doc.value);
            changes.push(DocChange { key: key(id), expect: doc.version, value, due_ms, effects: Vec::new() });
        }
        if changes.is_empty() {
            return Ok(0);
        }
        let answers = self.heard(shard, self.store.change_docs(shard, changes).await)?;
        Ok(answers.iter().filter(|answer| matches!(answer, Cas::Done { .. })).count())
    }
}
