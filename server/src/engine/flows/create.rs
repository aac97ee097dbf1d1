//! New workflows, and new nodes: one change of the workflow's document, with the jobs as its effects. I15: so a call is done or
//! undone as a whole, and repeating it gives the same ids.
use std::{collections::BTreeMap, sync::Arc};

use xxhash_rust::xxh3::Xxh3;

use super::{FlowError, Inner, Opened};
use crate::{
    engine::{
        Engine, EnqueueError, Enqueued, clock,
        workflow::{Graph, evaluate, see},
    },
    model::{
        ids::{JobId, Name},
        job::{JobSpec, Parts},
        limits::STORE_BATCH,
        op::{DocChange, Effect, NewJob},
        workflow::{
            Callback, Flow, FlowState, Mark, Member, Node, NodeSpec, OPEN_MS, Part, Target, To, WorkflowSpec, computed,
            flow_id, key, part_key,
        },
    },
    store::{Cas, StoreError},
};

/// What became of a creation, or of an addition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Created {
    pub id: Option<JobId>,
    /// Jobs, or workflows, by the names of their nodes.
    pub nodes: BTreeMap<String, JobId>,
    /// The same thing was there before.
    pub duplicate: bool,
}

/// Nodes to be added, and what goes with them.
struct Addition {
    part: Part,
    jobs: Vec<NewJob>,
    marks: Vec<Mark>,
    outside: Vec<(JobId, Mark)>,
}

impl Engine {
    /// Creates a workflow with its nodes.
    pub async fn create_workflow(&self, spec: WorkflowSpec, dry_run: bool) -> Result<Created, FlowError> {
        self.0.configured().await?;
        self.0.create(spec, dry_run).await
    }

    /// Adds nodes to an open workflow. Nodes that are there already, as they are asked for, are left as they are when all are.
    pub async fn add_nodes(&self, id: JobId, nodes: Vec<NodeSpec>) -> Result<Created, FlowError> {
        self.0.configured().await?;
        self.0.add_nodes(id, &nodes, None).await
    }

    /// No more nodes will come.
    pub async fn close_workflow(&self, id: JobId) -> Result<super::FlowView, FlowError> {
        let mut close = |_: &Graph, flow: &mut Flow| {
            flow.open = false;
            Ok(Vec::new())
        };
        self.0.turn(id, &mut close).await?;
        self.workflow(id).await
    }

    /// Records a job that waits for others: first what it waits for, then the job, so that it never waits for nothing.
    pub(in crate::engine) async fn enqueue_blocked(
        &self,
        spec: JobSpec,
        dry_run: bool,
    ) -> Result<Enqueued, EnqueueError> {
        let inner = &self.0;
        let id = inner.admit(spec.clone(), inner.wall_ms()).id;
        let spec = JobSpec { id: Some(uuid::Uuid::from_bytes(*id.as_bytes())), ..spec };
        let ids: Vec<JobId> = spec
            .depends_on
            .iter()
            .filter_map(|dependency| match dependency.target {
                Target::Job(id) => Some(id),
                _ => None,
            })
            .collect();
        if let Some(place) = inner.missing(&ids).await? {
            return Err(EnqueueError::NoJob(place, ids[place]));
        }
        if dry_run {
            return inner.record_one(spec, true).await;
        }
        let flow = inner.wait_for(id, &spec);
        let change = inner.document(id, 0, &flow, Vec::new());
        let new = matches!(inner.write(id, vec![change]).await?, Cas::Done { .. });
        let answer = inner.record_one(spec, false).await;
        let other = !matches!(&answer, Ok(enqueued) if enqueued.id == id);
        if other && new {
            inner.drop_waiting(id).await?;
        } else if !other {
            inner.flows.hint(id, None);
        }
        answer
    }
}

impl Inner {
    /// The place of the first of these jobs that is not there.
    async fn missing(&self, ids: &[JobId]) -> Result<Option<usize>, StoreError> {
        for (n, ids) in ids.chunks(STORE_BATCH).enumerate() {
            let records = self.store.get(ids, Parts::META).await?;
            if let Some(place) = records.iter().position(Option::is_none) {
                return Ok(Some(n * STORE_BATCH + place));
            }
        }
        Ok(None)
    }

    /// What a job waits for that is in no workflow.
    fn wait_for(&self, id: JobId, spec: &JobSpec) -> Flow {
        let edges = spec.depends_on.iter().filter_map(|dependency| match dependency.target {
            Target::Job(job) => Some((To::Job(job), dependency.condition)),
            _ => None,
        });
        let edges: Vec<_> = edges.collect();
        let outside =
            edges.iter().filter_map(|(to, _)| if let To::Job(id) = to { Some((*id, Mark::Released)) } else { None });
        let mut outside: Vec<(JobId, Mark)> = outside.collect();
        outside.sort_unstable_by_key(|(id, _)| *id);
        outside.dedup_by_key(|(id, _)| *id);
        let node = Node { name: spec.kind.clone(), group: None, id, nested: false, content: 0, edges };
        let part = Part { nodes: vec![node], callbacks: Default::default() };
        Flow { lone: Some(part), marks: vec![Mark::Waiting], outside, ..new_flow(self.store.wall_ms()) }
    }

    async fn drop_waiting(&self, id: JobId) -> Result<(), StoreError> {
        let Some(doc) = self.read_doc(id.shard(), key(id)).await? else { return Ok(()) };
        let gone = DocChange { key: key(id), expect: doc.version, value: None, due_ms: 0, effects: Vec::new() };
        self.write(id, vec![gone]).await.map(drop)
    }

    async fn create(self: &Arc<Self>, spec: WorkflowSpec, dry_run: bool) -> Result<Created, FlowError> {
        let proposal = spec.id.unwrap_or_else(clock::uuid);
        let id = flow_id(proposal, self.store.shards());
        let now_ms = self.store.wall_ms();
        let content = content_of(&spec);
        let mut addition = self.addition(id, &Graph::default(), &spec.nodes, None)?;
        for (at, callback) in Callback::ALL.into_iter().enumerate() {
            addition.part.callbacks[at] = spec.callbacks[at].clone().map(|job| {
                let job = JobSpec { id: Some(computed(id, "callback", callback.name())), ..job };
                let member = Some(Member { workflow: id, node: None });
                NewJob { overshoots: true, ..self.admit(JobSpec { member, ..job }, now_ms) }
            });
        }
        self.refuse_missing(&spec.nodes).await?;
        let ids = |part: &Part| part.nodes.iter().map(|node| (node.name.to_string(), node.id)).collect();
        if dry_run {
            return Ok(Created { id: Some(id), nodes: ids(&addition.part), duplicate: false });
        }
        if let (Some(parent), Some(name)) = (spec.parent, &spec.name) {
            self.add_nodes(parent, &[], Some((name.clone(), id, content))).await?;
        }
        let deadline_ms =
            spec.total_timeout_ms.or(spec.open.then_some(OPEN_MS)).map_or(0, |ms| now_ms.saturating_add(ms));
        let Addition { part, jobs, marks, outside } = addition;
        let encoded = part.encode();
        let hash = xxhash_rust::xxh3::xxh3_128(&encoded);
        let mut flow = Flow {
            name: spec.name,
            policy: spec.policy,
            open: spec.open,
            parent: spec.parent,
            tags: spec.tags,
            parts: vec![hash],
            marks,
            outside,
            deadline_ms,
            retention_ms: spec.retention_ms,
            content,
            ..new_flow(now_ms)
        };
        let mut graph = Graph::default();
        graph.add(&part);
        // An empty workflow that is closed has ended before it began: its callbacks are the first thing to come of it.
        let calls = crate::engine::workflow::conclude(&graph, &mut flow, now_ms);
        let mut effects: Vec<Effect> = jobs.into_iter().map(Effect::Put).collect();
        let call = |callback: Callback| part.callbacks[callback as usize].clone().map(Effect::Put);
        effects.extend(calls.into_iter().filter_map(call));
        let part_change =
            DocChange { key: part_key(id, hash), expect: 0, value: Some(encoded), due_ms: 0, effects: Vec::new() };
        let change = self.document(id, 0, &flow, effects);
        match self.write(id, vec![part_change, change]).await? {
            Cas::Done { version } => {
                let opened = Opened { id, version, flow, graph: Arc::new(graph) };
                self.flows.keep(opened.clone());
                self.has_moved(&opened);
                let nodes = ids(&part);
                self.begin(&opened).await;
                Ok(Created { id: Some(id), nodes, duplicate: false })
            }
            Cas::Conflict(_) => {
                let there = self.open(id, true).await?.ok_or(FlowError::IdConflict(id))?;
                if there.flow.content != content || there.flow.lone.is_some() {
                    return Err(FlowError::IdConflict(id));
                }
                // Nodes that were added since are none of this call's.
                let nodes = there.graph.nodes.iter().take(part.nodes.len());
                let nodes = nodes.map(|node| (node.name.to_string(), node.id)).collect();
                Ok(Created { id: Some(id), nodes, duplicate: true })
            }
        }
    }

    /// Looks at what need not wait for anything, or waits for jobs outside. What fails is looked at again.
    async fn begin(self: &Arc<Self>, there: &Opened) {
        let begun = async {
            let seen = self.watch_outside(there).await?;
            let mut decide = |graph: &Graph, flow: &mut Flow| {
                let mut todo = see(graph, flow, &seen);
                todo.extend(evaluate(graph, flow));
                Ok(todo)
            };
            self.turn(there.id, &mut decide).await
        };
        if begun.await.is_err() {
            self.flows.hint(there.id, None);
        }
    }

    async fn refuse_missing(&self, nodes: &[NodeSpec]) -> Result<(), FlowError> {
        let (mut places, mut ids) = (Vec::new(), Vec::new());
        for (n, node) in nodes.iter().enumerate() {
            for (i, dependency) in node.job.depends_on.iter().enumerate() {
                if let Target::Job(id) = dependency.target {
                    places.push((n, i));
                    ids.push(id);
                }
            }
        }
        match self.missing(&ids).await? {
            Some(place) => Err(FlowError::NoJob(places[place], ids[place])),
            None => Ok(()),
        }
    }

    /// What is to be recorded of new nodes. `nested`: or of a workflow that is one.
    fn addition(
        &self,
        id: JobId,
        graph: &Graph,
        new: &[NodeSpec],
        nested: Option<&(Name, JobId, u64)>,
    ) -> Result<Addition, FlowError> {
        let edges = graph.resolve(new)?;
        let now_ms = self.store.wall_ms();
        let (mut nodes, mut jobs, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        let mut outside: Vec<(JobId, Mark)> = Vec::new();
        for (spec, edges) in new.iter().zip(edges) {
            let job = JobSpec {
                id: Some(computed(id, "node", spec.name.as_str())),
                member: Some(Member { workflow: id, node: Some(spec.name.clone()) }),
                ..spec.job.clone()
            };
            let job = NewJob { overshoots: true, owner: Some(id), ..self.admit(job, now_ms) };
            marks.push(if job.blocked { Mark::Waiting } else { Mark::Released });
            outside.extend(
                edges
                    .iter()
                    .filter_map(|(to, _)| if let To::Job(id) = to { Some((*id, Mark::Released)) } else { None }),
            );
            let (name, group) = (spec.name.clone(), spec.group.clone());
            nodes.push(Node { name, group, id: job.id, nested: false, content: node_content(spec), edges });
            jobs.push(job);
        }
        if let Some((name, id, content)) = nested {
            let (name, content) = (name.clone(), *content);
            nodes.push(Node { name, group: None, id: *id, nested: true, content, edges: Vec::new() });
            marks.push(Mark::Released);
        }
        let part = Part { nodes, callbacks: Default::default() };
        // New nodes that only wait for nodes before them wait for no circle.
        let harmless = part.nodes.iter().zip(graph.len() as u32..).all(|(node, at)| {
            node.edges
                .iter()
                .all(|(to, _)| matches!(to, To::Node(upstream) if *upstream < at) || matches!(to, To::Job(_)))
                && node
                    .group
                    .as_ref()
                    .is_none_or(|group| graph.groups.get(group).is_none_or(|group| group.dependants.is_empty()))
        });
        if !harmless {
            let mut whole = graph.clone();
            whole.add(&part);
            whole.refuse_cycles(graph.len())?;
        }
        outside.sort_unstable_by_key(|(id, _)| *id);
        outside.dedup_by_key(|(id, _)| *id);
        Ok(Addition { part, jobs, marks, outside })
    }

    async fn add_nodes(
        self: &Arc<Self>,
        id: JobId,
        new: &[NodeSpec],
        nested: Option<(Name, JobId, u64)>,
    ) -> Result<Created, FlowError> {
        self.refuse_missing(new).await?;
        let mut there = self.open(id, true).await?.filter(|there| there.flow.lone.is_none());
        loop {
            let Some(now) = there else { return Err(FlowError::NotFound(id)) };
            if let Some(known) = known(&now.graph, new, nested.as_ref()) {
                return Ok(Created { id: Some(id), nodes: known, duplicate: true });
            }
            if !now.flow.open || now.flow.state.is_terminal() || now.flow.is_stopping() {
                return Err(FlowError::Closed(id));
            }
            let Addition { part, jobs, marks, outside } = self.addition(id, &now.graph, new, nested.as_ref())?;
            let encoded = part.encode();
            let hash = xxhash_rust::xxh3::xxh3_128(&encoded);
            let mut flow = now.flow.clone();
            flow.parts.push(hash);
            flow.marks.extend(marks);
            flow.outside
                .extend(outside.into_iter().filter(|(id, _)| !now.flow.outside.iter().any(|(each, _)| each == id)));
            flow.grow_ms = self.store.wall_ms();
            flow.looks = 0;
            let key = part_key(id, hash);
            let part_change = DocChange { key, expect: 0, value: Some(encoded), due_ms: 0, effects: Vec::new() };
            let change = self.document(id, now.version, &flow, jobs.into_iter().map(Effect::Put).collect());
            match self.write(id, vec![part_change, change]).await? {
                Cas::Done { version } => {
                    let nodes = part.nodes.iter().map(|node| (node.name.to_string(), node.id)).collect();
                    let waits = part.nodes.iter().any(|node| !node.edges.is_empty());
                    self.flows.forget(id);
                    let mut graph = now.graph;
                    Arc::make_mut(&mut graph).add(&part);
                    let opened = Opened { id, version, flow, graph };
                    self.flows.keep(opened.clone());
                    if waits {
                        self.begin(&opened).await;
                    }
                    return Ok(Created { id: Some(id), nodes, duplicate: false });
                }
                Cas::Conflict(Some(doc)) => there = Some(self.opened(id, doc).await?),
                Cas::Conflict(None) => there = None,
            }
        }
    }
}

fn new_flow(now_ms: i64) -> Flow {
    Flow {
        lone: None,
        name: None,
        policy: Default::default(),
        state: FlowState::Running,
        open: false,
        parent: None,
        tags: Vec::new(),
        parts: Vec::new(),
        marks: Vec::new(),
        outside: Vec::new(),
        stop: None,
        failed: false,
        called: 0,
        create_ms: now_ms,
        grow_ms: now_ms,
        finish_ms: 0,
        deadline_ms: 0,
        retention_ms: None,
        purge_ms: 0,
        content: 0,
        looks: 0,
    }
}

/// The ids of these nodes, if all of them are there as they are asked for.
fn known(graph: &Graph, new: &[NodeSpec], nested: Option<&(Name, JobId, u64)>) -> Option<BTreeMap<String, JobId>> {
    let nodes = new.iter().map(|spec| (&spec.name, node_content(spec)));
    let all = nodes.chain(nested.map(|(name, _, content)| (name, *content)));
    all.map(|(name, content)| {
        let node = &graph.nodes[graph.find(name.as_str())? as usize];
        (node.content == content).then(|| (name.to_string(), node.id))
    })
    .collect()
}

/// Hash of what a node is.
fn node_content(spec: &NodeSpec) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(spec.name.as_str().as_bytes());
    hash.update(&[0]);
    hash.update(spec.group.as_ref().map_or("", Name::as_str).as_bytes());
    hash.update(&crate::engine::admit::content(&spec.job.kind, spec.job.payload.as_ref()).to_le_bytes());
    for dependency in &spec.job.depends_on {
        let target = match &dependency.target {
            Target::Job(id) => format!("j{id}"),
            Target::Node(name) => format!("n{name}"),
            Target::Group(name) => format!("g{name}"),
        };
        hash.update(target.as_bytes());
        hash.update(&[dependency.condition as u8, u8::from(dependency.pass_result)]);
    }
    hash.digest()
}

/// Hash of what a workflow is.
fn content_of(spec: &WorkflowSpec) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(spec.name.as_ref().map_or("", Name::as_str).as_bytes());
    hash.update(&[spec.policy as u8, u8::from(spec.open)]);
    spec.nodes.iter().for_each(|node| hash.update(&node_content(node).to_le_bytes()));
    for callback in spec.callbacks.iter().flatten() {
        hash.update(&crate::engine::admit::content(&callback.kind, callback.payload.as_ref()).to_le_bytes());
    }
    hash.digest()
}
