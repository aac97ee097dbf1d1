//! Flow: the builder of workflows, and the usual shapes by their usual names: chain, group, chord.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jobwire_proto::v1 as pb;
use pb::dependency::Target;
use uuid::Uuid;

use crate::after::After;
use crate::bind::{HEADER, LIST};
use crate::convert::to_duration;
use crate::draft::Draft;
use crate::errors::Error;
use crate::payload::Payload;
use crate::task::Task;
use crate::task_call::IntoTaskCall;

/// Builds a workflow: jobs with what they wait for and what goes from one into another. [`Client::start`](crate::Client::start)
/// creates it, all or nothing.
///
/// ```no_run
/// # use jobwire::{Flow, prelude::*};
/// # #[derive(Serialize, Deserialize)] struct Extract { day: String }
/// # #[derive(Serialize, Deserialize, Default)] struct Report { rows: Vec<u32>, title: String }
/// # #[derive(Serialize, Deserialize)] struct Alert;
/// # impl Task for Extract { const TYPE: &'static str = "extract"; type Output = Vec<u32>; }
/// # impl Task for Report { const TYPE: &'static str = "report"; type Output = String; }
/// # impl Task for Alert { const TYPE: &'static str = "alert"; type Output = (); }
/// # async fn example(client: Client) -> Result<(), Error> {
/// let mut flow = Flow::new("nightly");
/// let rows = flow.add(Extract { day: "monday".into() });
/// let report = flow.add(Report { title: "Sales".into(), ..Report::default() }).bind("rows", &rows);
/// flow.add(Alert).after(rows.failed());
/// let workflow = client.start(flow).await?;
/// println!("{}", workflow.job(&report).await?.result().await?);
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
#[must_use = "a flow does nothing until it is started"]
pub struct Flow {
    spec: pb::WorkflowSpec,
    nodes: Arc<Mutex<Vec<DraftNode>>>,
    groups: usize,
    /// The first thing that was wrong.
    wrong: Option<Error>,
}

#[derive(Debug)]
struct DraftNode {
    name: String,
    group: String,
    draft: Draft,
    /// What goes into which key.
    binds: Vec<(Target, String)>,
    after: Vec<pb::Dependency>,
}

/// What becomes of other nodes when one has failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnNodeFailure {
    /// Those that wait for it are cancelled, and so on; the others go on.
    #[default]
    CancelDependants,
    /// Everything is cancelled.
    CancelAll,
    /// Those that wait for it wait for an operator.
    Hold,
}

impl Flow {
    /// An empty one. The name is for people: `[A-Za-z0-9_.:/-]`, at most 128 characters, or empty.
    pub fn new(name: impl Into<String>) -> Self {
        let spec = pb::WorkflowSpec { id: Uuid::now_v7().to_string(), name: name.into(), ..Default::default() };
        Self { spec, ..Self::default() }
    }

    /// Proposes the workflow's id, a UUID. Default: a fresh one.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.spec.id = id.into();
        self
    }

    /// Adds a tag. At most 16 of 64 bytes.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.spec.tags.push(tag.into());
        self
    }

    /// What becomes of other nodes when one has failed for good.
    pub fn on_node_failure(mut self, policy: OnNodeFailure) -> Self {
        self.spec.on_node_failure = match policy {
            OnNodeFailure::CancelDependants => pb::WorkflowFailurePolicy::CancelDependants,
            OnNodeFailure::CancelAll => pb::WorkflowFailurePolicy::CancelAll,
            OnNodeFailure::Hold => pb::WorkflowFailurePolicy::Hold,
        } as i32;
        self
    }

    /// Enqueued when the workflow has succeeded.
    pub fn on_success(mut self, call: impl IntoTaskCall) -> Self {
        self.spec.on_success = self.template(call);
        self
    }

    /// Enqueued at the first failure that makes it fail.
    pub fn on_failure(mut self, call: impl IntoTaskCall) -> Self {
        self.spec.on_failure = self.template(call);
        self
    }

    /// Enqueued when it has ended, whichever way.
    pub fn on_finish(mut self, call: impl IntoTaskCall) -> Self {
        self.spec.on_finish = self.template(call);
        self
    }

    /// Longest time to its end; then what is left is cancelled.
    pub fn total_timeout(mut self, timeout: Duration) -> Self {
        self.spec.total_timeout = Some(to_duration(timeout));
        self
    }

    /// How long it is kept with its nodes once it has ended. Default 1 h; 30 days when it failed.
    pub fn retention(mut self, span: Duration) -> Self {
        self.spec.retention = Some(to_duration(span));
        self
    }

    /// More nodes may come: it does not end before [`Workflow::close`](crate::Workflow::close).
    pub fn open(mut self) -> Self {
        self.spec.open = true;
        self
    }

    /// Adds a node: a task, or a [`TaskCall`](crate::TaskCall) with options of its own.
    pub fn add<C: IntoTaskCall>(&mut self, call: C) -> Node<C::Output> {
        self.put(call.into_task_call().draft, String::new())
    }

    /// Adds nodes that are waited for together, however many they are.
    pub fn add_group<C: IntoTaskCall>(&mut self, calls: impl IntoIterator<Item = C>) -> NodeGroup<C::Output> {
        self.groups += 1;
        let name = format!("group-{}", self.groups);
        let nodes: Vec<_> = calls.into_iter().map(|call| self.put(call.into_task_call().draft, name.clone())).collect();
        NodeGroup { name, nodes }
    }

    fn template(&mut self, call: impl IntoTaskCall) -> Option<pb::JobSpec> {
        match call.into_task_call().draft.into_template() {
            Ok(spec) => Some(spec),
            Err(error) => {
                self.wrong.get_or_insert(error);
                None
            }
        }
    }

    fn put<O>(&mut self, draft: Draft, group: String) -> Node<O> {
        let mut nodes = self.nodes.lock().expect("no holder panics");
        let r#type = &draft.options.spec.r#type;
        let like = nodes.iter().filter(|node| node.draft.options.spec.r#type == *r#type).count();
        let name = if like == 0 { r#type.clone() } else { format!("{type}-{}", like + 1) };
        nodes.push(DraftNode { name: name.clone(), group, draft, binds: Vec::new(), after: Vec::new() });
        Node { nodes: self.nodes.clone(), index: nodes.len() - 1, name, output: PhantomData }
    }

    /// What it is made of: the workflow without nodes, and its nodes.
    pub(crate) fn into_parts(self) -> Result<(pb::WorkflowSpec, Vec<pb::WorkflowNode>), Error> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let drafts = std::mem::take(&mut *self.nodes.lock().expect("no holder panics"));
        let mut names = HashSet::new();
        if let Some(twice) = drafts.iter().find(|node| !names.insert(node.name.clone())) {
            return Err(Error::invalid("workflow.nodes.name", format!("two nodes are called {}", twice.name)));
        }
        let sizes: HashMap<&str, usize> = drafts.iter().fold(HashMap::new(), |mut sizes, node| {
            *sizes.entry(node.group.as_str()).or_default() += 1;
            sizes
        });
        // A group of nobody is finished already.
        let empty: HashSet<String> = drafts
            .iter()
            .flat_map(|node| node.binds.iter().map(|(target, _)| target))
            .filter_map(|target| match target {
                Target::Group(group) if !sizes.contains_key(group.as_str()) => Some(group.clone()),
                _ => None,
            })
            .collect();
        let nodes = drafts.into_iter().map(|node| node.into_proto(&empty)).collect::<Result<_, _>>()?;
        Ok((self.spec, nodes))
    }
}

impl DraftNode {
    fn into_proto(self, empty: &HashSet<String>) -> Result<pb::WorkflowNode, Error> {
        let mut spec = self.draft.into_template()?;
        let mut header = BTreeMap::new();
        let mut left_out = Vec::new();
        for (target, key) in self.binds {
            let list = matches!(target, Target::Group(_));
            let alias = if key.is_empty() { "previous".to_owned() } else { key.clone() };
            left_out.push(key.clone());
            header.insert(alias.clone(), if list { format!("{key}{LIST}") } else { key });
            if !matches!(&target, Target::Group(group) if empty.contains(group)) {
                let target = Some(target);
                spec.depends_on.push(pb::Dependency { target, pass_result: true, alias, ..Default::default() });
            }
        }
        if !header.is_empty() {
            let header = serde_json::to_string(&header).map_err(|error| Error::codec(HEADER, error))?;
            spec.headers.insert(HEADER.to_owned(), header);
            spec.payload = Some(without(spec.payload.unwrap_or_default(), &left_out)?);
        }
        spec.depends_on.extend(self.after);
        Ok(pb::WorkflowNode { name: self.name, group: self.group, job: Some(spec) })
    }
}

/// A payload without the keys that results will take.
fn without(payload: pb::Payload, keys: &[String]) -> Result<pb::Payload, Error> {
    let payload = Payload::from_proto(payload);
    let Ok(serde_json::Value::Object(mut object)) = payload.to() else { return Ok(payload.into_proto()) };
    keys.iter().for_each(|key| drop(object.remove(key)));
    Ok(Payload::json(&object)?.into_proto())
}

/// A node of a flow: a job that runs once what it waits for has ended. `O` is what it will give.
pub struct Node<O> {
    nodes: Arc<Mutex<Vec<DraftNode>>>,
    index: usize,
    name: String,
    output: PhantomData<fn() -> O>,
}

impl<O> Node<O> {
    /// Its name: the type, numbered, unless it was given another one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives it a name, unique in the workflow: `[A-Za-z0-9_.:/-]{1,128}`. Before other nodes name it.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        let name = self.name.clone();
        self.edit(|node| node.name = name);
        self
    }

    /// The result of another node, or the list of those of a group, goes into this key of the input, whatever is there. The
    /// empty key is the input itself; keys that were given win.
    pub fn bind(self, key: impl Into<String>, source: impl Into<After>) -> Self {
        let (key, source) = (key.into(), source.into());
        if let Some(target) = source.dependency.target {
            self.edit(|node| node.binds.push((target, key)));
        }
        self
    }

    /// Waits for another node, a group or a job that is there, without taking its result. They have to succeed, unless
    /// [`failed`](Self::failed) or [`finished`](Self::finished) is said.
    pub fn after(self, what: impl Into<After>) -> Self {
        let dependency = what.into().dependency;
        self.edit(|node| node.after.push(dependency));
        self
    }

    /// For [`after`](Self::after): once it has ended in another way than success. A failure that is awaited is no failure
    /// of the workflow.
    pub fn failed(&self) -> After {
        After::failed(self)
    }

    /// For [`after`](Self::after): once it has ended, whichever way.
    pub fn finished(&self) -> After {
        After::finished(self)
    }

    fn all(&self) -> MutexGuard<'_, Vec<DraftNode>> {
        self.nodes.lock().expect("no holder panics")
    }

    fn edit(&self, change: impl FnOnce(&mut DraftNode)) {
        if let Some(node) = self.all().get_mut(self.index) {
            change(node);
        }
    }
}

impl<O> Clone for Node<O> {
    fn clone(&self) -> Self {
        Self { nodes: self.nodes.clone(), index: self.index, name: self.name.clone(), output: PhantomData }
    }
}

impl<O> std::fmt::Debug for Node<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Node").field(&self.name).finish()
    }
}

impl<O> From<&Node<O>> for After {
    fn from(node: &Node<O>) -> Self {
        Self::target(Target::Node(node.name.clone()))
    }
}

/// Nodes that are waited for together. Bound to a key it is the list of their results.
#[derive(Debug, Clone)]
pub struct NodeGroup<O> {
    name: String,
    nodes: Vec<Node<O>>,
}

impl<O> NodeGroup<O> {
    /// The nodes, in the order in which their results are listed.
    pub fn nodes(&self) -> &[Node<O>] {
        &self.nodes
    }
}

impl<O> From<&NodeGroup<O>> for After {
    fn from(group: &NodeGroup<O>) -> Self {
        Self::target(Target::Group(group.name.clone()))
    }
}

/// Steps, one after the other, each with the result of the one before. Made by [`chain`], [`chord`] and [`Group::then`].
#[derive(Debug)]
#[must_use = "a chain does nothing until it is started"]
pub struct Chain<O> {
    flow: Flow,
    last: Node<O>,
}

/// Jobs that run side by side; their results, in order, are a list. Made by [`group`].
#[derive(Debug)]
#[must_use = "a group does nothing until it is started"]
pub struct Group<O> {
    flow: Flow,
    members: NodeGroup<O>,
}

/// Runs steps one after the other: begin with the first, go on with [`Chain::then`].
///
/// ```no_run
/// # use jobwire::{chain, prelude::*};
/// # #[derive(Serialize, Deserialize)] struct Fetch { url: String }
/// # #[derive(Serialize, Deserialize)] struct Page { html: String }
/// # #[derive(Serialize, Deserialize, Default)] struct Store { words: u32, table: String }
/// # impl Task for Fetch { const TYPE: &'static str = "fetch"; type Output = Page; }
/// # impl Task for Page { const TYPE: &'static str = "parse"; type Output = u32; }
/// # impl Task for Store { const TYPE: &'static str = "store"; type Output = bool; }
/// # async fn example(client: Client) -> Result<(), Error> {
/// let steps = chain(Fetch { url: "https://example.com".into() })
///     .then::<Page>() // the result is its input
///     .then_bind("words", Store { table: "pages".into(), ..Store::default() }); // the result is one key of it
/// let stored: bool = client.start(steps).await?.result().await?;
/// # Ok(()) }
/// ```
pub fn chain<C: IntoTaskCall>(first: C) -> Chain<C::Output> {
    let mut flow = Flow::new("");
    let last = flow.add(first);
    Chain { flow, last }
}

/// Runs jobs side by side.
pub fn group<C: IntoTaskCall>(members: impl IntoIterator<Item = C>) -> Group<C::Output> {
    let mut flow = Flow::new("");
    let members = flow.add_group(members);
    Group { flow, members }
}

/// Runs jobs side by side, and one more once all have succeeded: the list of their results, in order, goes into this key of
/// its input. The empty key is the input itself.
pub fn chord<M: IntoTaskCall, C: IntoTaskCall>(
    members: impl IntoIterator<Item = M>,
    key: impl Into<String>,
    callback: C,
) -> Chain<C::Output> {
    group(members).then_bind(key, callback)
}

fn next<T: Task>() -> Draft {
    Draft::new(T::TYPE.to_owned(), T::options(), Payload::json(&serde_json::Map::new()))
}

impl<O> Chain<O> {
    /// A step whose input is the result of the one before.
    pub fn then<T: Task>(mut self) -> Chain<T::Output> {
        let last = self.flow.put(next::<T>(), String::new()).bind("", &self.last);
        Chain { flow: self.flow, last }
    }

    /// A step that takes the result of the one before in one key of its input, whatever is there; a
    /// [`TaskCall`](crate::TaskCall) has options of its own, or a type that is handled in another language.
    pub fn then_bind<C: IntoTaskCall>(mut self, key: impl Into<String>, call: C) -> Chain<C::Output> {
        let last = self.flow.add(call).bind(key, &self.last);
        Chain { flow: self.flow, last }
    }

    /// Options of the workflow: `chain.flow(|flow| flow.tag("nightly"))`.
    pub fn flow(mut self, options: impl FnOnce(Flow) -> Flow) -> Self {
        self.flow = options(self.flow);
        self
    }
}

impl<O> Group<O> {
    /// A job whose input is the list of results, once all have succeeded.
    pub fn then<T: Task>(mut self) -> Chain<T::Output> {
        let last = self.flow.put(next::<T>(), String::new()).bind("", &self.members);
        Chain { flow: self.flow, last }
    }

    /// A job that takes the list of results in one key of its input, once all have succeeded.
    pub fn then_bind<C: IntoTaskCall>(mut self, key: impl Into<String>, call: C) -> Chain<C::Output> {
        let last = self.flow.add(call).bind(key, &self.members);
        Chain { flow: self.flow, last }
    }

    /// Options of the workflow.
    pub fn flow(mut self, options: impl FnOnce(Flow) -> Flow) -> Self {
        self.flow = options(self.flow);
        self
    }
}

/// Whose results are those of a workflow.
#[derive(Debug, Clone)]
pub enum Ends {
    /// Nobody's.
    None,
    /// Those of one node.
    One(String),
    /// Those of several, as a list.
    List(Vec<String>),
}

/// What [`Client::start`](crate::Client::start) takes: a [`Flow`], a [`Chain`], a [`Group`].
pub trait IntoFlow {
    /// What the workflow as a whole gives.
    type Output;

    #[doc(hidden)]
    fn into_flow(self) -> (Flow, Ends);
}

impl IntoFlow for Flow {
    type Output = ();

    fn into_flow(self) -> (Flow, Ends) {
        (self, Ends::None)
    }
}

impl<O> IntoFlow for Chain<O> {
    type Output = O;

    fn into_flow(self) -> (Flow, Ends) {
        (self.flow, Ends::One(self.last.name))
    }
}

impl<O> IntoFlow for Group<O> {
    type Output = Vec<O>;

    fn into_flow(self) -> (Flow, Ends) {
        (self.flow, Ends::List(self.members.nodes.into_iter().map(|node| node.name).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TaskCall, secs};
    use serde_json::{Value, json};

    fn call(r#type: &str, payload: Value) -> TaskCall<Value> {
        TaskCall::raw(r#type, &payload)
    }

    /// Nodes in short: name, group, payload, header, dependencies.
    fn short(flow: impl IntoFlow) -> Vec<Value> {
        let (_, nodes) = flow.into_flow().0.into_parts().expect("a workflow");
        let dependency = |one: &pb::Dependency| {
            let target = match one.target.as_ref().expect("a target") {
                Target::Node(name) => name.clone(),
                Target::Group(name) => format!("{name}[]"),
                Target::JobId(id) => format!("job {id}"),
            };
            json!([target, one.condition, one.pass_result, one.alias])
        };
        let node = |node: pb::WorkflowNode| {
            let job = node.job.expect("a job");
            assert!(job.id.is_empty());
            let payload: Value = Payload::from_proto(job.payload.expect("a payload")).to().expect("JSON");
            let bind: Value = job.headers.get(HEADER).map_or(Value::Null, |it| serde_json::from_str(it).expect("JSON"));
            let depends_on: Vec<_> = job.depends_on.iter().map(dependency).collect();
            json!([node.name, node.group, payload, bind, depends_on])
        };
        nodes.into_iter().map(node).collect()
    }

    #[test]
    fn a_bound_key_leaves_the_payload_and_comes_by_its_header() {
        let mut flow = Flow::new("nightly");
        let rows = flow.add(call("extract", json!({"day": 1})));
        let clean = flow.add(call("clean", json!({"rows": []}))).bind("rows", &rows);
        flow.add(call("report", json!({"title": "t"}))).bind("a", &rows).bind("b", &clean);
        flow.add(call("alert", json!({}))).after(rows.failed()).after("job-1").after(clean.finished());
        assert_eq!(
            short(flow),
            [
                json!(["extract", "", {"day": 1}, null, []]),
                json!(["clean", "", {}, {"rows": "rows"}, [["extract", 0, true, "rows"]]]),
                json!(["report", "", {"title": "t"}, {"a": "a", "b": "b"},
                    [["extract", 0, true, "a"], ["clean", 0, true, "b"]]]),
                json!([
                    "alert",
                    "",
                    {},
                    null,
                    [["extract", 2, false, ""], ["job job-1", 0, false, ""], ["clean", 3, false, ""]]
                ]),
            ]
        );
    }

    #[test]
    fn a_chord_gets_the_list_and_a_chain_hands_on() {
        let members = [1, 2].map(|n| call("resize", json!({"n": n})));
        let steps =
            chord(members, "pictures", call("gallery", json!({"name": "g"}))).then_bind("", call("send", json!({})));
        assert_eq!(
            short(steps),
            [
                json!(["resize", "group-1", {"n": 1}, null, []]),
                json!(["resize-2", "group-1", {"n": 2}, null, []]),
                json!(["gallery", "", {"name": "g"}, {"pictures": "pictures[]"}, [["group-1[]", 0, true, "pictures"]]]),
                json!(["send", "", {}, {"previous": ""}, [["gallery", 0, true, "previous"]]]),
            ]
        );
    }

    #[test]
    fn a_group_of_nobody_is_an_empty_list() {
        let nobody: [TaskCall<Value>; 0] = [];
        let steps = chord(nobody, "pictures", call("gallery", json!({})));
        assert_eq!(short(steps), [json!(["gallery", "", {}, {"pictures": "pictures[]"}, []])]);
    }

    #[test]
    fn what_is_wrong_is_said_before_anything_is_sent() {
        let mut twice = Flow::new("");
        twice.add(call("a", json!({}))).named("x");
        twice.add(call("b", json!({}))).named("x");
        assert_eq!(twice.into_parts().expect_err("twice").field(), "workflow.nodes.name");
        let none = Flow::new("").on_success(call("a", json!({})).retry(0));
        assert_eq!(none.into_parts().expect_err("no attempt").field(), "job.retry.max_attempts");
    }

    #[test]
    fn options_are_those_of_the_workflow() {
        let flow = Flow::new("nightly").tag("t").on_node_failure(OnNodeFailure::Hold).total_timeout(secs(9)).open();
        let (spec, _) = flow.on_finish(call("done", json!({"a": 1}))).into_parts().expect("a workflow");
        assert_eq!((spec.name.as_str(), spec.tags.as_slice(), spec.open), ("nightly", &["t".to_owned()][..], true));
        assert_eq!(spec.on_node_failure, pb::WorkflowFailurePolicy::Hold as i32);
        assert_eq!(spec.on_finish.expect("a job").r#type, "done");
        assert!(!spec.id.is_empty());
    }
}
