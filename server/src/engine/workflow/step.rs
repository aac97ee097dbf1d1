//! What the end of a node means: `(graph, what is known, what was seen) → what is known then, what is to be done`. Marks only
//! tell what was seen of jobs, so seeing the same thing again changes nothing, in whatever order it is seen. What is to be
//! done may be done again, too: each is a guarded change of one job.
//!
//! I14: fan-in fires once, when the last one has ended, however it ended.
use super::graph::Graph;
use crate::model::{
    ids::JobId,
    workflow::{Callback, Condition, FailurePolicy, Flow, FlowState, Mark, RETENTION_MS, Stop, To},
};

/// What was seen of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Node(u32, Mark),
    Outside(JobId, Mark),
}

/// What is to be done with the job of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Todo {
    /// BLOCKED → READY.
    Release(u32),
    /// BLOCKED → CANCELLED: what it waits for cannot come any more, or nothing new begins.
    Skip(u32),
    /// Asked to stop, whatever it does.
    Stop(u32),
    /// Ended → READY.
    Retry(u32),
    /// CANCELLED → BLOCKED.
    Block(u32),
}

/// How a dependency stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hope {
    Satisfied,
    Open,
    Never,
}

fn hope(mark: Mark, condition: Condition) -> Hope {
    match (mark.ended(), mark == Mark::Succeeded, condition) {
        (false, _, _) => Hope::Open,
        (true, _, Condition::Finished) | (true, true, Condition::Succeeded) | (true, false, Condition::Failed) => {
            Hope::Satisfied
        }
        (true, _, _) => Hope::Never,
    }
}

/// All of several things that have to come.
fn all(hopes: impl Iterator<Item = Hope>) -> Hope {
    let mut all = Hope::Satisfied;
    for hope in hopes {
        match hope {
            Hope::Never => return Hope::Never,
            Hope::Open => all = Hope::Open,
            Hope::Satisfied => {}
        }
    }
    all
}

fn hope_of(graph: &Graph, flow: &Flow, node: u32) -> Hope {
    all(graph.nodes[node as usize].edges.iter().map(|(to, condition)| match to {
        To::Node(upstream) => hope(flow.marks[*upstream as usize], *condition),
        // A group without nodes is finished at once.
        To::Group(name) => all(graph.members(name).iter().map(|member| hope(flow.marks[*member as usize], *condition))),
        To::Job(id) => {
            let outside = flow.outside.iter().find(|(each, _)| each == id);
            hope(outside.map_or(Mark::Released, |(_, mark)| *mark), *condition)
        }
    }))
}

/// Takes in what was seen.
pub fn see(graph: &Graph, flow: &mut Flow, seen: &[Seen]) -> Vec<Todo> {
    let mut todo = Vec::new();
    let mut touched = Vec::new();
    let mut revived = false;
    for seen in seen {
        match *seen {
            Seen::Node(node, now) => {
                let mark = &mut flow.marks[node as usize];
                match (*mark, now) {
                    (before, now) if before == now => continue,
                    // It ended because it was told to.
                    (Mark::Skipped, Mark::Cancelled | Mark::Gone) => continue,
                    (Mark::Skipped, Mark::Waiting) => todo.push(Todo::Skip(node)),
                    (Mark::Released, Mark::Waiting) => todo.push(Todo::Release(node)),
                    // A person tries it again.
                    (before, Mark::Released | Mark::Waiting) => {
                        revived |= before.failed();
                        *mark = now;
                        touched.push(node);
                    }
                    (_, now) => {
                        *mark = now;
                        touched.extend(graph.dependants(node));
                    }
                }
            }
            Seen::Outside(id, now) => {
                let Some((_, mark)) = flow.outside.iter_mut().find(|(each, _)| *each == id) else { continue };
                if *mark != now && now.ended() {
                    *mark = now;
                    touched.extend(graph.waits_outside(id));
                }
            }
        }
    }
    if revived {
        todo.extend(revive(graph, flow));
    }
    evaluate_these(graph, flow, touched, &mut todo);
    let failing = !flow.failed && fails(graph, flow);
    if failing {
        flow.failed = true;
        if flow.policy == FailurePolicy::CancelAll {
            stop_all(flow, &mut todo);
        }
    }
    todo
}

/// Looks at every node that waits.
pub fn evaluate(graph: &Graph, flow: &mut Flow) -> Vec<Todo> {
    let mut todo = Vec::new();
    let waiting = (0..graph.len() as u32).filter(|node| flow.marks[*node as usize] == Mark::Waiting).collect();
    evaluate_these(graph, flow, waiting, &mut todo);
    todo
}

fn evaluate_these(graph: &Graph, flow: &mut Flow, mut touched: Vec<u32>, todo: &mut Vec<Todo>) {
    touched.sort_unstable();
    touched.dedup();
    touched.reverse();
    while let Some(node) = touched.pop() {
        if flow.marks[node as usize] != Mark::Waiting {
            continue;
        }
        if flow.is_stopping() {
            flow.marks[node as usize] = Mark::Skipped;
            todo.push(Todo::Skip(node));
            continue;
        }
        match hope_of(graph, flow, node) {
            Hope::Satisfied => {
                flow.marks[node as usize] = Mark::Released;
                todo.push(Todo::Release(node));
            }
            Hope::Never if flow.policy != FailurePolicy::Hold || is_for_good(graph, flow, node) => {
                flow.marks[node as usize] = Mark::Skipped;
                todo.push(Todo::Skip(node));
                touched.extend(graph.dependants(node));
            }
            Hope::Never | Hope::Open => {}
        }
    }
}

/// Whether what the node waits for cannot come even if whatever failed is tried again: it waits for the failure of what
/// has succeeded, or for a node that is skipped for that.
fn is_for_good(graph: &Graph, flow: &Flow, node: u32) -> bool {
    let lost = |mark: Mark, condition: Condition| match condition {
        Condition::Failed => mark == Mark::Succeeded,
        Condition::Succeeded => mark == Mark::Skipped,
        Condition::Finished => false,
    };
    graph.nodes[node as usize].edges.iter().any(|(to, condition)| match to {
        To::Node(upstream) => lost(flow.marks[*upstream as usize], *condition),
        To::Group(name) => graph.members(name).iter().any(|member| lost(flow.marks[*member as usize], *condition)),
        To::Job(id) => flow.outside.iter().any(|(each, mark)| each == id && lost(*mark, *condition)),
    })
}

/// A node failed, and no other one waits for that.
fn fails(graph: &Graph, flow: &Flow) -> bool {
    (0..graph.len() as u32)
        .zip(&flow.marks)
        .any(|(node, mark)| mark.failed() && *mark != Mark::Skipped && !graph.is_handled(node))
}

/// Those that were skipped may wait again, if there is hope for them.
fn revive(graph: &Graph, flow: &mut Flow) -> Vec<Todo> {
    flow.failed = false;
    let skipped: Vec<u32> =
        (0..graph.len() as u32).filter(|node| flow.marks[*node as usize] == Mark::Skipped).collect();
    for node in &skipped {
        flow.marks[*node as usize] = Mark::Waiting;
    }
    flow.failed = fails(graph, flow);
    let mut again = Vec::new();
    evaluate_these(graph, flow, skipped.clone(), &mut again);
    let mut todo = Vec::new();
    for node in skipped {
        match flow.marks[node as usize] {
            Mark::Waiting => todo.push(Todo::Block(node)),
            Mark::Released => todo.extend([Todo::Block(node), Todo::Release(node)]),
            _ => {}
        }
    }
    todo
}

/// Cancels everything that has not ended.
pub fn stop(flow: &mut Flow, stop: Stop) -> Vec<Todo> {
    let mut todo = Vec::new();
    (flow.stop, flow.open) = (Some(stop), false);
    stop_all(flow, &mut todo);
    todo
}

fn stop_all(flow: &mut Flow, todo: &mut Vec<Todo>) {
    for (node, mark) in (0..).zip(&mut flow.marks) {
        match mark {
            Mark::Waiting => {
                *mark = Mark::Skipped;
                todo.push(Todo::Skip(node));
            }
            Mark::Released => todo.push(Todo::Stop(node)),
            _ => {}
        }
    }
}

/// Tries again what failed, and revives what was skipped because of it.
pub fn retry(graph: &Graph, flow: &mut Flow) -> Vec<Todo> {
    let mut todo = Vec::new();
    for (node, mark) in (0..).zip(&mut flow.marks) {
        if mark.failed() && !matches!(mark, Mark::Skipped | Mark::Gone) {
            *mark = Mark::Released;
            todo.push(Todo::Retry(node));
        }
    }
    flow.stop = None;
    (flow.state, flow.finish_ms, flow.purge_ms) = (FlowState::Running, 0, 0);
    todo.extend(revive(graph, flow));
    todo
}

/// Where the workflow is now, and the callbacks that are called for the first time.
pub fn conclude(graph: &Graph, flow: &mut Flow, now_ms: i64) -> Vec<Callback> {
    if flow.state.is_terminal() {
        return Vec::new();
    }
    let mut calls = Vec::new();
    if flow.failed && flow.stop.is_none() {
        calls.push(Callback::Failure);
    }
    let (mut waiting, mut released) = (0, 0);
    for mark in &flow.marks {
        waiting += usize::from(*mark == Mark::Waiting);
        released += usize::from(*mark == Mark::Released);
    }
    if !flow.open && waiting + released == 0 {
        flow.state = match () {
            () if flow.stop.is_some() => FlowState::Cancelled,
            () if flow.failed => FlowState::Failed,
            () => FlowState::Succeeded,
        };
        flow.finish_ms = now_ms;
        let (failed_ms, other_ms) = RETENTION_MS;
        let kept_ms = if flow.state == FlowState::Failed { failed_ms } else { other_ms };
        flow.purge_ms = now_ms.saturating_add(flow.retention_ms.unwrap_or(kept_ms));
        if flow.state == FlowState::Succeeded {
            calls.push(Callback::Success);
        }
        calls.push(Callback::Finish);
    } else {
        let hopeless =
            |node: u32| flow.marks[node as usize] == Mark::Waiting && hope_of(graph, flow, node) == Hope::Never;
        let holds = flow.policy == FailurePolicy::Hold && released == 0 && waiting > 0;
        let held = holds && (0..graph.len() as u32).any(hopeless);
        flow.state = if held { FlowState::Held } else { FlowState::Running };
    }
    calls.retain(|callback| !flow.has_called(*callback));
    for callback in &calls {
        flow.called |= 1 << *callback as u8;
    }
    calls
}

/// Why a node was skipped, in words.
pub fn blame(graph: &Graph, flow: &Flow, node: u32) -> String {
    let why = |what: String, mark: Mark| match mark {
        Mark::Gone => format!("{what} was deleted"),
        Mark::Skipped => format!("{what} was skipped"),
        mark => format!("{what} is {}", mark.state().name()),
    };
    let name = |at: u32| format!("node {}", graph.nodes[at as usize].name);
    let culprit = graph.nodes[node as usize].edges.iter().find_map(|(to, condition)| match to {
        To::Node(at) => {
            let mark = flow.marks[*at as usize];
            (hope(mark, *condition) == Hope::Never).then(|| why(name(*at), mark))
        }
        To::Group(group) => {
            let lost = |at: &&u32| hope(flow.marks[**at as usize], *condition) == Hope::Never;
            graph.members(group).iter().find(lost).map(|at| why(name(*at), flow.marks[*at as usize]))
        }
        To::Job(id) => {
            let lost = flow.outside.iter().find(|(each, mark)| each == id && hope(*mark, *condition) == Hope::Never);
            lost.map(|(id, mark)| why(format!("job {id}"), *mark))
        }
    });
    culprit.unwrap_or_else(|| "a node of its workflow failed".to_owned())
}
