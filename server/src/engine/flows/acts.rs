//! What is done to the jobs of a workflow. Everything here may be done again.
use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};

use super::{FlowError, Inner, Opened};
use crate::{
    engine::{
        Bulk, Cancel, Engine, Retry, Selector,
        workflow::{Graph, Todo, retry, step::blame, stop},
    },
    model::{
        ids::JobId,
        job::{Failure, FailureKind, Outcome, Parts},
        limits::{BULK_DEFAULT, STORE_BATCH},
        op::{Act, DocChange, Guard, Op, Verdict},
        policy::Policy,
        state::{State, StateSet},
        workflow::{Flow, FlowState, Stop, key, part_key},
    },
    store::{Cas, StoreError},
};

impl Inner {
    /// Does what was decided on `there`, `flow` being what will be known then.
    pub(super) async fn carry_out(
        self: &Arc<Self>,
        there: &Opened,
        flow: &Flow,
        todo: Vec<Todo>,
    ) -> Result<(), FlowError> {
        let blocked = Guard::In(StateSet::of(&[State::Blocked]));
        let (mut ops, mut stops, mut retries) = (Vec::new(), Vec::new(), Vec::new());
        for each in todo {
            let (node, guard, act) = match each {
                Todo::Release(node) => {
                    (node, blocked, Act::Ready { front: false, crashed: false, attempt: None, checkpoint: None })
                }
                Todo::Skip(node) => (node, blocked, skip(there, flow, node)),
                Todo::Block(node) => (node, Guard::In(StateSet::of(&[State::Cancelled])), Act::Block),
                Todo::Stop(node) => {
                    stops.push(node);
                    continue;
                }
                Todo::Retry(node) => {
                    retries.push(node);
                    continue;
                }
            };
            ops.push(Op { id: there.graph.nodes[node as usize].id, guard, act });
        }
        self.retry_nodes(there, retries).await?;
        let verdicts = self.apply(ops).await?;
        if verdicts.contains(&Verdict::NotFound) && self.is_young(flow) {
            self.look_later(there.id);
        }
        self.stop_nodes(there, flow, stops).await
    }

    async fn retry_nodes(self: &Arc<Self>, there: &Opened, nodes: Vec<u32>) -> Result<(), FlowError> {
        let (flows, jobs) = kinds(there, nodes);
        let retry = Retry { reset_attempts: true, ..Retry::default() };
        for ids in jobs.chunks(STORE_BATCH) {
            Engine(self.clone()).retry(these(ids), retry.clone()).await?;
        }
        for id in flows {
            nobody_minds(self.clone().retry_flow(id).await)?;
        }
        Ok(())
    }

    async fn stop_nodes(self: &Arc<Self>, there: &Opened, flow: &Flow, nodes: Vec<u32>) -> Result<(), FlowError> {
        let (flows, jobs) = kinds(there, nodes);
        let failed = || Stop { reason: "a node of its workflow failed".to_owned(), grace_ms: None };
        let Stop { reason, grace_ms } = flow.stop.clone().unwrap_or_else(failed);
        for ids in jobs.chunks(STORE_BATCH) {
            Engine(self.clone()).cancel(these(ids), Cancel { reason: reason.clone(), grace_ms }).await?;
        }
        for id in flows {
            let stop = Stop { reason: reason.clone(), grace_ms };
            nobody_minds(self.clone().stop_flow(id, stop).await)?;
        }
        Ok(())
    }

    /// A workflow may be in a workflow, and so on.
    pub(super) fn stop_flow(self: Arc<Self>, id: JobId, request: Stop) -> BoxFuture<'static, Result<(), FlowError>> {
        async move { self.stop_one(id, request).await }.boxed()
    }

    async fn stop_one(self: &Arc<Self>, id: JobId, request: Stop) -> Result<(), FlowError> {
        let mut decide = |_: &Graph, flow: &mut Flow| {
            if flow.state.is_terminal() {
                return Err(FlowError::WrongState(flow.state));
            }
            Ok(stop(flow, request.clone()))
        };
        self.turn(id, &mut decide).await.map(drop)
    }

    pub(super) fn retry_flow(self: Arc<Self>, id: JobId) -> BoxFuture<'static, Result<(), FlowError>> {
        async move { self.retry_one(id).await }.boxed()
    }

    async fn retry_one(self: &Arc<Self>, id: JobId) -> Result<(), FlowError> {
        let mut decide = |graph: &Graph, flow: &mut Flow| match flow.state {
            FlowState::Failed | FlowState::Cancelled | FlowState::Held => Ok(retry(graph, flow)),
            FlowState::Running if flow.failed => Ok(retry(graph, flow)),
            state => Err(FlowError::WrongState(state)),
        };
        let after = self.turn(id, &mut decide).await?;
        if let Some(parent) = after.flow.parent {
            self.flows.hint(parent, Some(id));
        }
        Ok(())
    }

    /// The workflow goes, with all its nodes: first the document says that it has ended, then they go, then the document.
    pub(super) fn purge(self: Arc<Self>, there: Opened) -> BoxFuture<'static, Result<(), FlowError>> {
        async move { self.purge_one(there).await }.boxed()
    }

    async fn purge_one(self: &Arc<Self>, there: Opened) -> Result<(), FlowError> {
        let (id, mut there) = (there.id, there);
        if !there.flow.state.is_terminal() || there.flow.purge_ms > self.store.wall_ms() {
            let now_ms = self.store.wall_ms();
            let mut decide = |_: &Graph, flow: &mut Flow| {
                if !flow.state.is_terminal() {
                    (flow.state, flow.finish_ms, flow.open) = (FlowState::Cancelled, now_ms, false);
                }
                flow.purge_ms = now_ms;
                Ok(Vec::new())
            };
            there = self.turn(id, &mut decide).await?;
        }
        let all = (0..there.graph.len() as u32).collect();
        let (flows, jobs) = kinds(&there, all);
        match there.flow.lone {
            Some(_) => self.unwatch(id, jobs).await?,
            None => {
                let delete = |id: JobId| Op { id, guard: Guard::In(StateSet::ANY), act: Act::Delete };
                for ids in jobs.chunks(STORE_BATCH) {
                    self.apply(ids.iter().copied().map(delete).collect()).await?;
                }
            }
        }
        for child in flows {
            if let Some(child) = self.open(child, true).await? {
                self.clone().purge(child).await?;
            }
        }
        self.unwatch(id, there.flow.outside.iter().map(|(id, _)| *id).collect()).await?;
        let gone = |key, expect| DocChange { key, expect, value: None, due_ms: 0, effects: Vec::new() };
        for hash in &there.flow.parts {
            let key = part_key(id, *hash);
            if let Some(doc) = self.read_doc(id.shard(), key.clone()).await? {
                self.write(id, vec![gone(key, doc.version)]).await?;
            }
        }
        let mut version = there.version;
        while let Cas::Conflict(Some(doc)) = self.write(id, vec![gone(key(id), version)]).await? {
            version = doc.version;
        }
        self.flows.forget(id);
        self.hub.touched(id);
        Ok(())
    }

    /// These jobs need not tell of their ends any more, and are kept as long as any other.
    async fn unwatch(&self, owner: JobId, ids: Vec<JobId>) -> Result<(), StoreError> {
        for ids in ids.chunks(STORE_BATCH) {
            let records = self.store.get(ids, Parts::BODY).await?.into_iter().flatten();
            let op = |record: crate::model::job::Record| {
                let policy: Policy = record.body.map(|body| body.policy).unwrap_or_default();
                let dead = record.meta.state == State::Dead;
                let retain_ms = if dead { policy.dead_retention_ms } else { policy.retention_ms };
                let act = Act::Watch { owner, off: true, retain_ms };
                Op { id: record.meta.id, guard: Guard::In(StateSet::ANY), act }
            };
            self.apply(records.map(op).collect()).await?;
        }
        Ok(())
    }
}

/// Workflows and jobs among these nodes.
fn kinds(there: &Opened, nodes: Vec<u32>) -> (Vec<JobId>, Vec<JobId>) {
    let nodes = nodes.into_iter().map(|node| &there.graph.nodes[node as usize]);
    let (flows, jobs): (Vec<_>, Vec<_>) = nodes.partition(|node| node.nested);
    let ids = |nodes: Vec<&crate::model::workflow::Node>| nodes.into_iter().map(|node| node.id).collect();
    (ids(flows), ids(jobs))
}

fn these(ids: &[JobId]) -> Bulk {
    Bulk { selector: Selector::Ids(ids.to_vec()), limit: BULK_DEFAULT.max(ids.len()), cursor: None, dry_run: false }
}

/// A workflow in a workflow that is gone, or has ended, is none to bother with.
fn nobody_minds(result: Result<(), FlowError>) -> Result<(), FlowError> {
    match result {
        Err(FlowError::NotFound(_) | FlowError::WrongState(_)) => Ok(()),
        result => result,
    }
}

fn skip(there: &Opened, flow: &Flow, node: u32) -> Act {
    let failure = match &flow.stop {
        Some(stop) => Failure::new(FailureKind::Cancelled, format!("cancelled with its workflow: {}", stop.reason)),
        None => Failure::new(FailureKind::Dependency, blame(&there.graph, flow, node)),
    };
    let outcome = Outcome { result: None, failure: Some(failure), last: None };
    Act::Finish { to: State::Cancelled, outcome, retain_ms: 0, effects: Vec::new() }
}
