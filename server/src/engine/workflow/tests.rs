//! Random graphs, outcomes and orders of what is seen, held against what the words of the contract say.
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::model::{
    ids::{JobId, Name, Shard},
    workflow::{Condition, FailurePolicy, Flow, FlowState, Mark, Node, Part, Stop, To},
};

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn flow(policy: FailurePolicy, graph: &Graph) -> Flow {
    let mark = |node: &Node| if node.edges.is_empty() { Mark::Released } else { Mark::Waiting };
    Flow {
        lone: None,
        name: None,
        policy,
        state: FlowState::Running,
        open: false,
        parent: None,
        tags: Vec::new(),
        parts: Vec::new(),
        marks: graph.nodes.iter().map(mark).collect(),
        outside: Vec::new(),
        stop: None,
        failed: false,
        called: 0,
        create_ms: 0,
        grow_ms: 0,
        finish_ms: 0,
        deadline_ms: 0,
        retention_ms: None,
        purge_ms: 0,
        content: 0,
        looks: 0,
    }
}

/// A group or an earlier node, which one, and the condition.
type Edge = (bool, u16, u8);

#[derive(Clone, Debug)]
struct Plan {
    policy: FailurePolicy,
    /// Of each node: its group, and what it waits for.
    nodes: Vec<(u8, Vec<Edge>)>,
    ends: Vec<u8>,
    order: Vec<u16>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let policy =
        prop_oneof![Just(FailurePolicy::CancelDependants), Just(FailurePolicy::CancelAll), Just(FailurePolicy::Hold),];
    let edge = (any::<bool>(), any::<u16>(), 0..3u8);
    let node = (0..6u8, proptest::collection::vec(edge, 0..4));
    (policy, proptest::collection::vec(node, 1..200)).prop_flat_map(|(policy, nodes)| {
        let n = nodes.len();
        let (ends, order) = (proptest::collection::vec(0..10u8, n), proptest::collection::vec(any::<u16>(), 4 * n));
        (ends, order).prop_map(move |(ends, order)| Plan { policy, nodes: nodes.clone(), ends, order })
    })
}

fn conditions(n: u8) -> Condition {
    [Condition::Succeeded, Condition::Failed, Condition::Finished][usize::from(n)]
}

fn graph(plan: &Plan) -> Graph {
    let nodes = plan.nodes.iter().enumerate().map(|(at, (group, edges))| {
        // A node may wait for groups of lower number only, so there is no circle.
        let edge = |(grouped, to, condition): &(bool, u16, u8)| match (grouped, at) {
            (true, _) if *group > 0 => {
                Some((To::Group(name(&format!("g{}", to % u16::from(*group)))), conditions(*condition)))
            }
            (false, 1..) => Some((To::Node(u32::from(*to) % at as u32), conditions(*condition))),
            _ => None,
        };
        // What waits for a node of a higher group would make a circle with it.
        let harmless = |(to, _): &(To, Condition)| match to {
            To::Node(to) => plan.nodes[*to as usize].0 <= *group,
            _ => true,
        };
        Node {
            name: name(&format!("n{at}")),
            group: Some(name(&format!("g{group}"))),
            id: JobId::stamp(Uuid::from_u128(at as u128), Shard(0)),
            nested: false,
            content: 0,
            edges: edges.iter().filter_map(edge).filter(harmless).collect(),
        }
    });
    let mut graph = Graph::default();
    graph.add(&Part { nodes: nodes.collect(), callbacks: Default::default() });
    graph
}

/// What a job is, as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Blocked,
    Ready,
    Ended(Mark),
}

struct World {
    graph: Graph,
    flow: Flow,
    jobs: Vec<Job>,
    runs: Vec<usize>,
    calls: Vec<crate::model::workflow::Callback>,
}

impl World {
    fn new(plan: &Plan) -> Self {
        let graph = graph(plan);
        graph.refuse_cycles(0).expect("made without one");
        let flow = flow(plan.policy, &graph);
        let start = |mark: &Mark| if *mark == Mark::Waiting { Job::Blocked } else { Job::Ready };
        let jobs = flow.marks.iter().map(start).collect();
        let mut world = Self { runs: vec![0; graph.len()], graph, flow, jobs, calls: Vec::new() };
        let todo = evaluate(&world.graph, &mut world.flow);
        world.carry_out(todo);
        world
    }

    /// As the engine does: guarded, and more than once.
    fn carry_out(&mut self, todo: Vec<Todo>) {
        for todo in todo.iter().chain(&todo) {
            match *todo {
                Todo::Release(node) if self.jobs[node as usize] == Job::Blocked => {
                    self.satisfied(node);
                    self.jobs[node as usize] = Job::Ready;
                }
                Todo::Skip(node) if self.jobs[node as usize] == Job::Blocked => {
                    self.jobs[node as usize] = Job::Ended(Mark::Cancelled);
                }
                Todo::Stop(node) if self.jobs[node as usize] == Job::Ready => {
                    self.jobs[node as usize] = Job::Ended(Mark::Cancelled);
                }
                Todo::Retry(node) if matches!(self.jobs[node as usize], Job::Ended(_)) => {
                    self.jobs[node as usize] = Job::Ready;
                }
                Todo::Block(node) if self.jobs[node as usize] == Job::Ended(Mark::Cancelled) => {
                    self.jobs[node as usize] = Job::Blocked;
                }
                _ => {}
            }
        }
        let calls = conclude(&self.graph, &mut self.flow, 1);
        self.calls.extend(calls);
    }

    /// Everything that a node waits for has come, by what the jobs are.
    fn satisfied(&self, node: u32) {
        let ended = |at: u32, condition: Condition| match (self.jobs[at as usize], condition) {
            (Job::Ended(Mark::Succeeded), Condition::Succeeded | Condition::Finished) => true,
            (Job::Ended(Mark::Succeeded), Condition::Failed) => false,
            (Job::Ended(_), condition) => condition != Condition::Succeeded,
            _ => false,
        };
        for (to, condition) in &self.graph.nodes[node as usize].edges {
            let held = match to {
                To::Node(at) => ended(*at, *condition),
                To::Group(group) => self.graph.members(group).iter().all(|at| ended(*at, *condition)),
                To::Job(_) => unreachable!("none here"),
            };
            assert!(held, "node {node} was released too early");
        }
    }

    fn see(&mut self, node: u32) {
        let now = match self.jobs[node as usize] {
            Job::Blocked => Mark::Waiting,
            Job::Ready => Mark::Released,
            Job::Ended(mark) => mark,
        };
        let todo = see(&self.graph, &mut self.flow, &[Seen::Node(node, now)]);
        self.carry_out(todo);
    }

    /// Runs whatever may run, in the plan's order, until nothing moves any more.
    fn run(&mut self, plan: &Plan) {
        let end = |n: u8| [Mark::Dead, Mark::Discarded, Mark::Expired, Mark::Gone].get(usize::from(n)).copied();
        let n = self.graph.len();
        let order = plan.order.iter().map(|at| usize::from(*at) % n);
        for at in order.chain((0..n).cycle().take(n * n.min(60))) {
            if self.flow.state.is_terminal() {
                break;
            }
            if self.jobs[at] == Job::Ready {
                self.runs[at] += 1;
                self.jobs[at] = Job::Ended(end(plan.ends[at]).unwrap_or(Mark::Succeeded));
                // What is told at once may be told late, or twice; somebody looks at everything from time to time.
                if plan.ends[at].is_multiple_of(2) {
                    continue;
                }
            }
            self.see(at as u32);
        }
        for at in 0..n as u32 {
            self.see(at);
        }
    }
}

fn times(world: &World, callback: crate::model::workflow::Callback) -> usize {
    world.calls.iter().filter(|each| **each == callback).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_workflow_ends_whatever_its_nodes_do(plan in plan()) {
        use crate::model::workflow::Callback;
        let mut world = World::new(&plan);
        world.run(&plan);
        let ended = |world: &World| world.flow.state.is_terminal() || world.flow.state == FlowState::Held;
        prop_assert!(ended(&world), "{:?} {:?}", world.flow, world.jobs);
        prop_assert!(plan.policy == FailurePolicy::Hold || world.flow.state != FlowState::Held);
        prop_assert!(world.runs.iter().all(|runs| *runs <= 1));
        let failed = world.jobs.iter().zip(&world.flow.marks).enumerate().any(|(at, (job, mark))| {
            matches!(job, Job::Ended(end) if end.failed()) && *mark != Mark::Skipped && !world.graph.is_handled(at as u32)
        });
        match world.flow.state {
            FlowState::Succeeded => prop_assert!(!failed),
            FlowState::Failed => prop_assert!(failed),
            state => prop_assert_eq!(state, FlowState::Held),
        }
        prop_assert_eq!(times(&world, Callback::Failure), usize::from(world.flow.failed));
        prop_assert_eq!(times(&world, Callback::Finish), usize::from(world.flow.state.is_terminal()));
        // Tried again, and this time all goes well: each callback still at most once.
        if world.flow.state != FlowState::Succeeded && !plan.ends.contains(&3) {
            let well = Plan { ends: vec![9; plan.ends.len()], ..plan.clone() };
            let todo = retry(&world.graph, &mut world.flow);
            world.carry_out(todo);
            world.run(&well);
            prop_assert_eq!(world.flow.state, FlowState::Succeeded, "{:?} {:?}", world.flow, world.jobs);
            prop_assert!(times(&world, Callback::Success) == 1 && times(&world, Callback::Finish) == 1);
        }
    }

    #[test]
    fn a_stop_ends_everything(plan in plan(), at in any::<u16>()) {
        let mut world = World::new(&plan);
        let part = Plan { order: plan.order[..usize::from(at) % plan.order.len()].to_vec(), ..plan.clone() };
        let n = world.graph.len();
        for at in part.order.iter().map(|at| usize::from(*at) % n) {
            if world.jobs[at] == Job::Ready {
                world.jobs[at] = Job::Ended(Mark::Succeeded);
            }
            world.see(at as u32);
        }
        let over = world.flow.state.is_terminal();
        if !over {
            let todo = stop(&mut world.flow, Stop { reason: String::new(), grace_ms: None });
            world.carry_out(todo);
            (0..world.graph.len() as u32).for_each(|at| world.see(at));
            prop_assert_eq!(world.flow.state, FlowState::Cancelled);
        }
    }
}
