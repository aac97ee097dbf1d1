//! Results of the jobs that a job waited for. They are read when it is handed out: what is watched is not trimmed.
use super::{FlowError, Inner};
use crate::{
    engine::{Engine, JobError},
    model::{
        ids::JobId,
        job::{Parts, Task},
        limits::STORE_BATCH,
        op::{Leased, Passed},
        state::State,
        worker::DependencyResult,
        workflow::Target,
    },
};

/// Results that travel with one job, in bytes.
const PASSED_BYTES: usize = 256 << 10;
/// Results that are read at a time while there is room.
const READ_AT_ONCE: usize = 50;

impl Engine {
    /// Results that a job asked for, from the `from`-th on; and where to go on.
    pub async fn dependency_results(
        &self,
        id: JobId,
        from: usize,
        page: usize,
        bytes: usize,
    ) -> Result<(Vec<DependencyResult>, Option<usize>), FlowError> {
        let record = match self.0.read(id, Parts::BODY).await {
            Ok(record) => record,
            Err(JobError::Store(error)) => return Err(error.into()),
            Err(_) => return Err(FlowError::NoSuchJob(id)),
        };
        let sources = match self.task(&record) {
            Some(task) => self.0.sources(&task).await?,
            None => Vec::new(),
        };
        let upto = from.saturating_add(page).min(sources.len());
        let mut results = self.0.results(&sources[from.min(upto)..upto]).await?;
        let mut left = bytes;
        let fit = results.iter().take_while(|result| match left.checked_sub(size(result)) {
            Some(less) => {
                left = less;
                true
            }
            None => false,
        });
        // The first always fits.
        let fit = fit.count().max(1).min(results.len());
        results.truncate(fit);
        let next = from + results.len();
        Ok((results, (next < sources.len()).then_some(next)))
    }
}

impl Inner {
    /// Puts results into jobs that asked for them. What cannot be read now is left for the worker to ask for.
    pub(in crate::engine) async fn pass_results(&self, jobs: &mut [Leased]) {
        for job in jobs.iter_mut().filter(|job| job.meta.watched) {
            let task = job.body.as_ref().and_then(|body| self.codec.decode(&body.task));
            let Some(task) = task.filter(|task| task.depends_on.iter().any(|dependency| dependency.pass_result)) else {
                continue;
            };
            job.passed = self.passed(&task).await.unwrap_or(Passed { results: Vec::new(), truncated: true });
        }
    }

    async fn passed(&self, task: &Task) -> Result<Passed, FlowError> {
        let sources = self.sources(task).await?;
        let mut passed = Passed::default();
        let mut left = PASSED_BYTES;
        for sources in sources.chunks(READ_AT_ONCE) {
            for result in self.results(sources).await? {
                let Some(less) = left.checked_sub(size(&result)) else {
                    return Ok(Passed { truncated: true, ..passed });
                };
                left = less;
                passed.results.push(result);
            }
        }
        Ok(passed)
    }

    /// The jobs whose results were asked for, in the declared order, by the names that they go by.
    async fn sources(&self, task: &Task) -> Result<Vec<(String, JobId)>, FlowError> {
        let mut sources = Vec::new();
        let there = match &task.member {
            Some(member) => self.open(member.workflow, false).await?,
            None => None,
        };
        for dependency in task.depends_on.iter().filter(|dependency| dependency.pass_result) {
            let alias = |own: String| if dependency.alias.is_empty() { own } else { dependency.alias.clone() };
            let graph = there.as_ref().map(|there| &there.graph);
            match (&dependency.target, graph) {
                (Target::Job(id), _) => sources.push((alias(id.to_string()), *id)),
                (Target::Node(name), Some(graph)) => {
                    let id = graph.find(name.as_str()).map(|at| graph.nodes[at as usize].id);
                    sources.extend(id.map(|id| (alias(name.to_string()), id)));
                }
                (Target::Group(name), Some(graph)) => {
                    let nodes = graph.members(name).iter().map(|at| &graph.nodes[*at as usize]);
                    sources.extend(nodes.map(|node| (alias(node.name.to_string()), node.id)));
                }
                (Target::Node(_) | Target::Group(_), None) => {}
            }
        }
        Ok(sources)
    }

    async fn results(&self, sources: &[(String, JobId)]) -> Result<Vec<DependencyResult>, FlowError> {
        let mut results = Vec::with_capacity(sources.len());
        for sources in sources.chunks(STORE_BATCH) {
            let ids: Vec<JobId> = sources.iter().map(|(_, id)| *id).collect();
            let records = self.store.get(&ids, Parts { outcome: true, ..Parts::META }).await?;
            results.extend(sources.iter().zip(records).map(|((alias, id), record)| {
                let state = record.as_ref().map_or(State::Cancelled, |record| record.meta.state);
                let outcome = record.and_then(|record| record.outcome).unwrap_or_default();
                let failure = outcome.failure.as_ref().map(crate::engine::transition::short);
                DependencyResult { alias: alias.clone(), job: *id, state, result: outcome.result, failure }
            }));
        }
        Ok(results)
    }
}

fn size(result: &DependencyResult) -> usize {
    let failure = result.failure.as_ref().map_or(0, |failure| failure.message.len() + failure.class.len());
    result.alias.len() + result.result.as_ref().map_or(0, |body| body.bytes.len()) + failure + 96
}
