//! The nodes of a workflow and who waits for whom.
use hashbrown::HashMap;

use crate::model::{
    ids::{JobId, Name},
    workflow::{Condition, NODES_MOST, Node, NodeSpec, Part, Target, To},
};

/// Why nodes cannot be added. Names the node by its place in the call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGraph {
    #[error("node {1} is there already")]
    Duplicate(usize, Name),
    #[error("there is no node {1}")]
    NoNode((usize, usize), Name),
    /// The nodes of the cycle in order, each waiting for the next; a group as `group name`.
    #[error("nodes wait for each other: {}", .1.join(" -> "))]
    Cycle(usize, Vec<String>),
    #[error("a workflow has at most {NODES_MOST} nodes")]
    TooMany,
}

/// A group, which is what its nodes have in common.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub members: Vec<u32>,
    /// Nodes that wait for all of them.
    pub dependants: Vec<u32>,
    /// One of them waits for a failure.
    handled: bool,
}

/// All nodes of a workflow. Grows part by part.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub groups: HashMap<Name, Group>,
    by_name: HashMap<Name, u32>,
    by_id: HashMap<JobId, u32>,
    /// Nodes that wait for a node.
    dependants: Vec<Vec<u32>>,
    /// Nodes that wait for a job outside.
    outside: HashMap<JobId, Vec<u32>>,
    /// Some node waits for its failure.
    handled: Vec<bool>,
}

impl Graph {
    /// Takes the nodes of one more part. They were checked when the part was made.
    pub fn add(&mut self, part: &Part) {
        for node in &part.nodes {
            let at = self.nodes.len() as u32;
            self.by_name.insert(node.name.clone(), at);
            self.by_id.insert(node.id, at);
            if let Some(group) = &node.group {
                self.groups.entry(group.clone()).or_default().members.push(at);
            }
            self.dependants.push(Vec::new());
            self.handled.push(false);
            self.nodes.push(node.clone());
        }
        // Nodes of one part may wait for later ones of it.
        let first = self.nodes.len() - part.nodes.len();
        for (node, at) in part.nodes.iter().zip(first as u32..) {
            for (to, condition) in &node.edges {
                let handles = *condition != Condition::Succeeded;
                match to {
                    To::Node(upstream) => {
                        let upstream = *upstream as usize;
                        self.dependants[upstream].push(at);
                        self.handled[upstream] |= handles;
                    }
                    To::Group(name) => {
                        let group = self.groups.entry(name.clone()).or_default();
                        group.dependants.push(at);
                        group.handled |= handles;
                    }
                    To::Job(id) => self.outside.entry(*id).or_default().push(at),
                }
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub fn find_id(&self, id: JobId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub fn outside(&self) -> impl Iterator<Item = JobId> {
        self.outside.keys().copied()
    }

    pub fn waits_outside(&self, id: JobId) -> &[u32] {
        self.outside.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Nodes that wait for this one, by itself or as one of its group.
    pub fn dependants(&self, node: u32) -> impl Iterator<Item = u32> {
        let group = self.group_of(node).map_or(&[][..], |group| &group.dependants);
        self.dependants[node as usize].iter().chain(group).copied()
    }

    /// Whether a node waits for the failure of this one.
    pub fn is_handled(&self, node: u32) -> bool {
        self.handled[node as usize] || self.group_of(node).is_some_and(|group| group.handled)
    }

    fn group_of(&self, node: u32) -> Option<&Group> {
        self.groups.get(self.nodes[node as usize].group.as_ref()?)
    }

    pub fn members(&self, group: &Name) -> &[u32] {
        self.groups.get(group).map_or(&[], |group| &group.members)
    }

    /// The edges of new nodes, with names resolved. `Err`: they cannot be added.
    pub fn resolve(&self, new: &[NodeSpec]) -> Result<Vec<Vec<(To, Condition)>>, BadGraph> {
        if self.len() + new.len() > NODES_MOST {
            return Err(BadGraph::TooMany);
        }
        let mut names: HashMap<&str, u32> = HashMap::new();
        for (place, (node, at)) in new.iter().zip(self.len() as u32..).enumerate() {
            if self.by_name.contains_key(&node.name) || names.insert(node.name.as_str(), at).is_some() {
                return Err(BadGraph::Duplicate(place, node.name.clone()));
            }
        }
        let edge = |place: (usize, usize), target: &Target| match target {
            Target::Job(id) => Ok(To::Job(*id)),
            Target::Group(name) => Ok(To::Group(name.clone())),
            Target::Node(name) => match names.get(name.as_str()).copied().or_else(|| self.find(name.as_str())) {
                Some(at) => Ok(To::Node(at)),
                None => Err(BadGraph::NoNode(place, name.clone())),
            },
        };
        new.iter()
            .enumerate()
            .map(|(place, node)| {
                let edges = node.job.depends_on.iter().enumerate();
                edges.map(|(i, dependency)| Ok((edge((place, i), &dependency.target)?, dependency.condition))).collect()
            })
            .collect()
    }

    /// Refuses a graph in which a node from `first` on waits for itself, by whatever way. Older nodes cannot wait for newer
    /// ones but as members of a group, so a new cycle has a new node.
    pub fn refuse_cycles(&self, first: usize) -> Result<(), BadGraph> {
        // Nodes, then groups, by number.
        let groups: HashMap<&Name, usize> = self.groups.keys().zip(self.len()..).collect();
        let names: Vec<&Name> = self.groups.keys().collect();
        let next = |at: usize| -> Vec<usize> {
            match self.nodes.get(at) {
                Some(node) => {
                    let to = |(to, _): &(To, Condition)| match to {
                        To::Node(upstream) => Some(*upstream as usize),
                        To::Group(name) => groups.get(name).copied(),
                        To::Job(_) => None,
                    };
                    node.edges.iter().filter_map(to).collect()
                }
                None => self.members(names[at - self.len()]).iter().map(|member| *member as usize).collect(),
            }
        };
        let mut done = vec![false; self.len() + names.len()];
        let mut on_path = done.clone();
        for start in first..self.len() {
            // A path from the start: each with what is left of its ways.
            let mut path = Vec::new();
            if !done[start] {
                on_path[start] = true;
                path.push((start, next(start)));
            }
            while let Some((at, ways)) = path.last_mut() {
                let at = *at;
                match ways.pop() {
                    None => {
                        (done[at], on_path[at]) = (true, false);
                        path.pop();
                    }
                    Some(to) if on_path[to] => {
                        let name = |at: usize| match self.nodes.get(at) {
                            Some(node) => node.name.to_string(),
                            None => format!("group {}", names[at - self.len()]),
                        };
                        let cycle = path.iter().map(|(at, _)| *at).skip_while(|at| *at != to).chain([to]);
                        let new = path.iter().map(|(at, _)| *at).find(|at| (first..self.len()).contains(at));
                        let place = new.unwrap_or(start) - first;
                        return Err(BadGraph::Cycle(place, cycle.map(name).collect()));
                    }
                    Some(to) if done[to] => {}
                    Some(to) => {
                        on_path[to] = true;
                        path.push((to, next(to)));
                    }
                }
            }
        }
        Ok(())
    }
}
