//! The format of a case. `conformance/README.md` is its manual.
use std::{fs, path::Path, time::Duration};

use serde::Deserialize;
use serde_json::Value;

/// Which end the case plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The case is a worker; the real server is under test.
    Server,
    /// The case is a server; the worker of an SDK is under test.
    Worker,
}

/// One file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The file's name without `.json`.
    #[serde(skip)]
    pub name: String,
    /// The rule (`W1`) or section (`protocol 13: happy path`) it checks.
    pub rule: String,
    /// What must be so, in one sentence.
    pub title: String,
    /// Stores to run it on; both, unless a case needs one that outlives its server.
    #[serde(default = "both_stores")]
    pub stores: Vec<String>,
    /// Flags of a server of its own, for cases that restart it or that others would disturb.
    pub server: Option<Vec<String>>,
    /// Environment of the worker under test.
    #[serde(default)]
    pub env: std::collections::BTreeMap<String, String>,
    /// Log lines that this case makes the server write.
    #[serde(default)]
    pub allow_log: Vec<String>,
    /// SDKs to run it against; all, unless a case is about something that one cannot have.
    #[serde(default = "all_sdks")]
    pub sdks: Vec<String>,
    /// Fields that may be left in an inbox at the end.
    #[serde(default)]
    pub leftovers: Vec<String>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

fn both_stores() -> Vec<String> {
    vec!["memory".to_owned(), "embedded".to_owned()]
}

fn all_sdks() -> Vec<String> {
    vec!["python".to_owned(), "node".to_owned(), "rust".to_owned()]
}

fn stream_a() -> String {
    "a".to_owned()
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

fn yes() -> bool {
    true
}

fn patience() -> u64 {
    10_000
}

/// One step: an object with one key, its verb.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Opens a stream to the server.
    Connect(Connect),
    /// Waits for the worker to open a stream.
    Accept(Accept),
    /// Sends a frame.
    Send(Send),
    /// Waits until all of this has come, in however many frames.
    Expect(Expect),
    /// Waits until so many items have come, without looking at them.
    Count(Count),
    /// Nothing of these fields is waiting.
    Absent(Absent),
    /// Forgets what waits in these fields.
    Forget(Absent),
    /// A unary call.
    Call(Call),
    /// Waits for the answer of a call that was started in the background.
    Join(Join),
    /// Breaks the connection.
    Cut(On),
    /// Reads no more of what comes, until [`Step::Resume`].
    Pause(On),
    /// Reads on.
    Resume(On),
    /// Ends our half of the stream.
    HalfClose(On),
    /// Waits for the end of the other half; as server: for the worker's half-close.
    Ended(Ended),
    /// As server: ends the call.
    End(Ended),
    /// Does something to the server under test.
    Server(ServerStep),
    /// Does something to the worker under test.
    Worker(WorkerStep),
    /// Remembers the time under a name.
    Mark(String),
    /// So much time has passed since a mark, no less and no more.
    Since(Since),
    /// Defines variables.
    Set(serde_json::Map<String, Value>),
    /// The same steps for every value of a variable.
    Each(Each),
}

/// See [`Step::Connect`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// Its name from now on.
    #[serde(default = "stream_a")]
    pub on: String,
    /// Laid over the standard hello.
    #[serde(default = "empty")]
    pub hello: Value,
    /// What the welcome must have.
    pub welcome: Option<Value>,
    /// The whole first frame instead; nothing is awaited then.
    pub frame: Option<Value>,
}

/// See [`Step::Accept`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// Its name from now on.
    #[serde(default = "stream_a")]
    pub on: String,
    /// What the hello must have.
    pub hello: Option<Value>,
    /// Laid over the standard welcome. False = not sent.
    pub welcome: Option<Value>,
    /// Whether heartbeats are answered by themselves.
    #[serde(default = "yes")]
    pub answer_heartbeats: bool,
    /// Longest wait for the stream, ms.
    #[serde(default = "patience")]
    pub within_ms: u64,
}

/// See [`Step::Send`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// The stream.
    #[serde(default = "stream_a")]
    pub on: String,
    /// Protobuf JSON; `seq` is added.
    pub frame: Value,
}

/// See [`Step::Expect`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The stream.
    #[serde(default = "stream_a")]
    pub on: String,
    /// Fields that must come.
    pub frame: Value,
    /// Longest wait, ms.
    #[serde(default = "patience")]
    pub within_ms: u64,
}

/// See [`Step::Count`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// The stream.
    #[serde(default = "stream_a")]
    pub on: String,
    /// The field.
    pub field: String,
    /// How many items.
    pub count: usize,
    /// Longest wait, ms.
    #[serde(default = "patience")]
    pub within_ms: u64,
}

/// See [`Step::Absent`] and [`Step::Forget`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    /// The stream.
    #[serde(default = "stream_a")]
    pub on: String,
    /// The fields.
    pub fields: Vec<String>,
}

/// See [`Step::Call`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// `Service/Method`.
    pub method: String,
    /// Protobuf JSON.
    #[serde(default = "empty")]
    pub request: Value,
    /// What the answer must have.
    pub response: Option<Value>,
    /// The refusal that is expected.
    pub error: Option<Refusal>,
    /// Repeats the call until the answer is as expected.
    #[serde(default)]
    pub until: bool,
    /// Goes on without the answer; [`Step::Join`] waits for it.
    pub background: Option<String>,
    /// Longest wait, ms.
    #[serde(default = "patience")]
    pub within_ms: u64,
}

/// See [`Step::Join`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The name given by `background`.
    pub call: String,
    /// What the answer must have.
    pub response: Option<Value>,
    /// The refusal that is expected.
    pub error: Option<Refusal>,
    /// Longest wait, ms.
    #[serde(default = "patience")]
    pub within_ms: u64,
}

/// A stream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct On {
    /// Its name.
    #[serde(default = "stream_a")]
    pub on: String,
}

/// See [`Step::Ended`] and [`Step::End`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// The stream.
    #[serde(default = "stream_a")]
    pub on: String,
    /// Name of the gRPC code, such as `ABORTED`; `OK` for a good end, `ANY` for whatever a broken connection gives.
    pub code: String,
    /// Reason in its ErrorInfo.
    pub reason: Option<String>,
    /// Field in its BadRequest.
    pub field: Option<String>,
    /// Longest wait, ms.
    #[serde(default = "patience")]
    pub within_ms: u64,
}

/// A call that is refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Name of the gRPC code.
    pub code: String,
    /// Reason in its ErrorInfo.
    pub reason: Option<String>,
    /// Field in its BadRequest.
    pub field: Option<String>,
}

/// What can happen to the server under test.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerStep {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Terminate,
    /// Waits for its end, which must be a good one.
    Exited,
    /// Starts it again on the same ports and store.
    Start,
}

/// What can happen to the worker under test.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WorkerStep {
    /// Waits for `ready` on its standard output.
    Ready,
    /// Sends SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
    /// Waits for its end. `0`: it must exit well; `"error"`: it must exit with another code than 0.
    Exited(Value),
    /// Waits for a text in what it writes to standard error.
    Says(String),
}

/// See [`Step::Since`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// The mark.
    pub mark: String,
    /// At least so long, ms.
    #[serde(default)]
    pub min_ms: u64,
    /// At most so long, ms.
    pub max_ms: Option<u64>,
}

/// See [`Step::Each`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Each {
    /// The variable.
    pub name: String,
    /// Its values.
    pub values: Vec<Value>,
    /// The steps.
    pub steps: Vec<Step>,
}

/// Milliseconds of a case file.
pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Reads all cases of a directory, by name.
///
/// # Errors
/// Names the file that is none: unreadable, no rule, nothing expected, a verb of the other direction.
pub fn load(dir: &Path, against: Against) -> Result<Vec<Case>, String> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .map_err(|error| format!("{}: {error}", dir.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    if paths.is_empty() {
        return Err(format!("{}: no cases", dir.display()));
    }
    paths.iter().map(|path| read(path, against).map_err(|error| format!("{}: {error}", path.display()))).collect()
}

fn read(path: &Path, against: Against) -> Result<Case, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut case = parse(&text, against)?;
    case.name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
    Ok(case)
}

fn parse(text: &str, against: Against) -> Result<Case, String> {
    let case: Case = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if case.rule.trim().is_empty() || case.title.trim().is_empty() {
        return Err("rule and title must say something".to_owned());
    }
    if !case.steps.iter().any(expects) {
        return Err("it expects nothing".to_owned());
    }
    if let Some(step) = case.steps.iter().find(|step| !belongs(step, against)) {
        return Err(format!("not a step of this direction: {step:?}"));
    }
    Ok(case)
}

fn expects(step: &Step) -> bool {
    match step {
        Step::Expect(_)
        | Step::Count(_)
        | Step::Ended(_)
        | Step::Worker(WorkerStep::Exited(_) | WorkerStep::Says(_)) => true,
        Step::Call(Call { response, error, .. }) | Step::Join(Join { response, error, .. }) => {
            response.is_some() || error.is_some()
        }
        Step::Connect(connect) => connect.welcome.is_some(),
        Step::Accept(accept) => accept.hello.is_some(),
        Step::Each(each) => each.steps.iter().any(expects),
        _ => false,
    }
}

fn belongs(step: &Step, against: Against) -> bool {
    match step {
        Step::Connect(_) | Step::Call(_) | Step::Join(_) | Step::HalfClose(_) | Step::Server(_) => {
            against == Against::Server
        }
        Step::Accept(_) | Step::End(_) | Step::Worker(_) => against == Against::Worker,
        Step::Each(each) => each.steps.iter().all(|step| belongs(step, against)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text, Against::Server).expect_err("refused")
    }

    #[test]
    fn a_case_needs_a_rule_and_an_expectation() {
        assert!(refused(r#"{"title": "t", "steps": []}"#).contains("rule"));
        assert!(refused(r#"{"rule": " ", "title": "t", "steps": []}"#).contains("rule"));
        assert!(refused(r#"{"rule": "W1", "title": "t", "steps": [{"mark": "m"}]}"#).contains("expects nothing"));
        assert!(refused(r#"{"rule": "W1", "title": "t", "steps": [{"jump": {}}]}"#).contains("jump"));
        let foreign = r#"{"rule": "W1", "title": "t", "steps": [{"accept": {"hello": {}}}]}"#;
        assert!(refused(foreign).contains("direction"));
        assert!(parse(foreign, Against::Worker).is_ok());
    }
}
