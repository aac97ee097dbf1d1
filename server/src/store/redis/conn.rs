//! The way to the servers, whatever their topology: finds the owner of a key, keeps connections, follows failovers and moved
//! slots. Repeats nothing that may have been done: a call that got no answer is [`StoreError::Unavailable`], and its caller
//! knows whether to try again.
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::future::{join_all, try_join_all};
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{
    health::{self, Facts, Health, NodeFacts},
    push::{self, Push},
    target::{Addr, Target, Topology},
};
use crate::store::StoreError;

pub(super) mod dial;
pub(super) mod fault;
mod link;
pub(super) mod map;
mod scout;

use dial::Dialer;
use fault::{Fault, Verdict};
use link::{Link, Live, State};
use map::{Map, redirection};
pub use map::{SLOTS, slot_of};

/// Longest time that a call waits for a connection; its answer may take as long again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Who asks how the servers are wants to know soon: longest wait for a connection, and for an answer.
const HEALTH_PATIENCE: Duration = Duration::from_millis(500);
const HEALTH_TIMEOUT: Duration = Duration::from_millis(1_200);
/// Times that the servers of a cluster may send a call on before it is given up.
const MAX_HOPS: usize = 5;

/// A Lua script. The servers know it by the hash of its text.
pub struct Script {
    code: &'static str,
    sha: OnceLock<String>,
}

impl Script {
    pub const fn new(code: &'static str) -> Self {
        Self { code, sha: OnceLock::new() }
    }

    fn sha(&self) -> &str {
        self.sha.get_or_init(|| redis::Script::new(self.code).get_hash().to_owned())
    }
}

/// The servers of one target. Cheap to clone; connections close with the last clone.
///
/// While a server is away, calls wait for it up to 2 s and then get `Unavailable`; an answer is waited for 2 s more.
/// Connections come back by themselves, within about a second of the server.
#[derive(Clone)]
pub struct Conn {
    net: Arc<Net>,
    _tasks: Arc<Tasks>,
}

/// Ends with the last clone.
struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Conn {
    /// Connects to every master and looks whether a store may rest on them.
    ///
    /// Errors: `Refused` = waiting will not help (credentials, version, eviction policy, kind of server);
    /// `Unavailable` = they cannot be reached now, or are reading their data.
    pub async fn open(target: &Target) -> Result<Self, StoreError> {
        let dialer = Arc::new(Dialer::new(target.clone()));
        let map = scout::find(&dialer, 0, &[]).await?;
        let first = try_join_all(map.owners().into_iter().map(async |addr| {
            let dialed = dialer.master(addr).await.map_err(|fault| fault.at_open(addr))?;
            Ok::<_, StoreError>((addr.clone(), dialed))
        }));
        let first = first.await?;
        let trouble = Arc::new(Notify::new());
        let links = first.into_iter().map(|(addr, dialed)| {
            (addr.clone(), Arc::new(Link::start(dialer.clone(), addr, Some(dialed), trouble.clone())))
        });
        let links = Mutex::new(links.collect());
        let net = Arc::new(Net { dialer, maps: watch::Sender::new(Arc::new(map)), links, trouble });

        let health = net.health().await?;
        if let Some(refusal) = health.refusal {
            return Err(StoreError::Refused(refusal));
        }
        let tasks =
            vec![tokio::spawn(scout::run(net.clone())), tokio::spawn(health::run(net.clone(), health.warnings))];
        Ok(Self { net, _tasks: Arc::new(Tasks(tasks)) })
    }

    /// Where this leads to.
    pub fn target(&self) -> &Target {
        self.net.dialer.target()
    }

    /// Masters now: 1 outside of a cluster.
    pub fn masters(&self) -> usize {
        self.net.maps.borrow().owners().len()
    }

    /// Runs a script: by its hash, and by its text where the server does not know it yet. All keys are of one slot; without
    /// keys the script runs on any master. A repeat after an error must be safe: the script may have run.
    pub async fn eval<A>(&self, script: &Script, keys: &[&[u8]], args: &[A]) -> Result<Value, StoreError>
    where
        A: AsRef<[u8]> + Sync,
    {
        let slot = keys.first().map_or(0, |key| slot_of(key));
        let bytes = |what: &str| what.len() + 32 + args.iter().map(|arg| arg.as_ref().len()).sum::<usize>();
        let command = |name: &str, what: &str| {
            let mut command = Cmd::with_capacity(3 + keys.len() + args.len(), bytes(what));
            command.arg(name).arg(what).arg(keys.len());
            keys.iter().for_each(|key| _ = command.arg(*key));
            args.iter().for_each(|arg| _ = command.arg(arg.as_ref()));
            command
        };
        let short = Request::Script(command("EVALSHA", script.sha()));
        let asked = self.net.call(slot, &short).await;
        let done = match asked {
            Err((Fault::Said { code, .. }, _)) if code == "NOSCRIPT" => {
                self.net.call(slot, &Request::Script(command("EVAL", script.code))).await
            }
            done => done,
        };
        done.map(|mut values| values.pop().unwrap_or(Value::Nil)).map_err(|(fault, addr)| fault.in_call(&addr))
    }

    /// Runs commands whose keys are all of the slot of `slot_key`; one value each, in the shapes of RESP2. The first error
    /// among the answers fails the call; the commands after it were done nevertheless.
    pub async fn run(&self, slot_key: &[u8], commands: Pipeline) -> Result<Vec<Value>, StoreError> {
        let done = self.net.call(slot_of(slot_key), &Request::Commands(commands)).await;
        done.map_err(|(fault, addr)| fault.in_call(&addr))
    }

    /// Messages on these sharded channels from now on, until the receiver is dropped. Begins with [`Push::Lost`], once every
    /// channel is subscribed, and has another one whenever messages may have been missed: after a lost connection, a
    /// failover, a slot that moved, or when the receiver was slow.
    pub fn subscribe(&self, channels: Vec<Vec<u8>>) -> mpsc::Receiver<Push> {
        push::start(self.net.clone(), channels)
    }

    /// Asks every master how it is; answers within 2 s. Error: none of them can be used now.
    pub async fn health(&self) -> Result<Health, StoreError> {
        self.net.health().await
    }
}

/// Who is where, and the connections there.
pub(super) struct Net {
    pub(super) dialer: Arc<Dialer>,
    pub(super) maps: watch::Sender<Arc<Map>>,
    links: Mutex<HashMap<Addr, Arc<Link>>>,
    /// Wakes the scout.
    pub(super) trouble: Arc<Notify>,
}

enum Request {
    Script(Cmd),
    Commands(Pipeline),
}

/// A fault, and whose.
type Failed = (Fault, Addr);

impl Net {
    /// Sends to the owner of the slot, and on to where the servers of a cluster say it is.
    async fn call(&self, slot: u16, request: &Request) -> Result<Vec<Value>, Failed> {
        let deadline = Instant::now() + PATIENCE;
        let mut sent_on = None;
        for hop in 0.. {
            let (link, live) = match &sent_on {
                None => self.owner(slot, deadline).await?,
                Some((addr, _)) => self.up(self.link(addr), deadline).await?,
            };
            let asking = matches!(sent_on, Some((_, true)));
            let fault = match request.send(live.conn.clone(), asking).await {
                Ok(values) => return Ok(values),
                Err(fault) => fault,
            };
            match fault.verdict() {
                Verdict::Redial => link.suspect(&live, &fault),
                Verdict::Refresh => self.trouble.notify_one(),
                Verdict::Keep => {}
            }
            sent_on = match &fault {
                Fault::Said { code, text } if hop < MAX_HOPS && (code == "MOVED" || code == "ASK") => {
                    redirection(text, &link.addr).map(|addr| (addr, code == "ASK"))
                }
                _ => None,
            };
            if sent_on.is_none() {
                return Err((fault, link.addr.clone()));
            }
        }
        unreachable!("the last hop returns")
    }

    /// A connection to the owner of a slot, as soon as there is one.
    async fn owner(&self, slot: u16, deadline: Instant) -> Result<(Arc<Link>, Live), Failed> {
        let mut maps = self.maps.subscribe();
        loop {
            let map = maps.borrow_and_update().clone();
            let Some(addr) = map.owner(slot) else {
                tokio::select! {
                    _ = maps.changed() => continue,
                    () = sleep_until(deadline) => {
                        let somewhere = map.owners().first().map_or_else(|| self.somewhere(), |addr| (*addr).clone());
                        return Err((Fault::Gone(format!("no server of the cluster owns slot {slot}")), somewhere));
                    }
                }
            };
            tokio::select! {
                biased;
                up = self.up(self.link(addr), deadline) => return up,
                _ = maps.changed() => {}
            }
        }
    }

    fn somewhere(&self) -> Addr {
        scout::first_of(self.dialer.target()).clone()
    }

    /// The link's connection, as soon as it has one.
    async fn up(&self, link: Arc<Link>, deadline: Instant) -> Result<(Arc<Link>, Live), Failed> {
        let mut states = link.state();
        loop {
            let fault = match &*states.borrow_and_update() {
                State::Up(live) => {
                    let live = live.clone();
                    return Ok((link, live));
                }
                State::Down(fault) => fault.clone(),
            };
            tokio::select! {
                _ = states.changed() => {}
                () = sleep_until(deadline) => return Err((fault, link.addr.clone())),
            }
        }
    }

    /// The link to a server, started if need be.
    fn link(&self, addr: &Addr) -> Arc<Link> {
        let mut links = self.links.lock();
        match links.get(addr) {
            Some(link) => link.clone(),
            None => {
                let link = Arc::new(Link::start(self.dialer.clone(), addr.clone(), None, self.trouble.clone()));
                links.insert(addr.clone(), link.clone());
                link
            }
        }
    }

    /// Takes up a new map, and lets go of servers that own nothing any more.
    pub(super) fn redraw(&self, map: Map) {
        self.links.lock().retain(|addr, _| map.owners().contains(&addr));
        self.maps.send_if_modified(|current| {
            let new = **current != map;
            if new {
                *current = Arc::new(map);
            }
            new
        });
    }

    /// What the masters that answer say; those that do not are a warning, unless nobody does.
    pub(super) async fn health(&self) -> Result<Health, StoreError> {
        let map = self.maps.borrow().clone();
        let asked = join_all(map.owners().into_iter().map(|addr| self.ask_health(addr))).await;
        let (mut nodes, mut silent) = (Vec::new(), Vec::new());
        for node in asked {
            match node {
                Ok(node) => nodes.push(node),
                Err(failed) => silent.push(failed),
            }
        }
        match silent.first() {
            Some((fault, addr)) if nodes.is_empty() => return Err(fault.in_call(addr)),
            _ => {}
        }
        let mut health = health::judge(&nodes, &self.dialer.target().topology);
        let away = silent.iter().map(|(fault, addr)| format!("Redis at {addr} cannot be used: {}", fault.words()));
        health.warnings.extend(away);
        Ok(health)
    }

    async fn ask_health(&self, addr: &Addr) -> Result<NodeFacts, Failed> {
        let (link, live) = self.up(self.link(addr), Instant::now() + HEALTH_PATIENCE).await?;
        let asked = timeout(HEALTH_TIMEOUT, self.ask_facts(&live)).await;
        match asked.unwrap_or_else(|_| Err(Fault::Gone("no answer in time".to_owned()))) {
            Ok((facts, appendfsync)) => Ok(NodeFacts { addr: addr.clone(), facts, appendfsync }),
            Err(fault) => {
                if fault.verdict() == Verdict::Redial {
                    link.suspect(&live, &fault);
                }
                Err((fault, addr.clone()))
            }
        }
    }

    /// INFO, and the one setting that it lacks. What may not be asked is unknown.
    async fn ask_facts(&self, live: &Live) -> Result<(Facts, Option<String>), Fault> {
        let mut questions = redis::pipe();
        questions.cmd("INFO").cmd("CONFIG").arg("GET").arg("appendfsync");
        let mut conn = live.conn.clone();
        let answers = conn.send_packed_commands(&questions, 0, 2).await.map_err(|error| Fault::of(&error))?;
        let [info, setting] = answers.as_slice() else { return Err(Fault::Gone("an answer is missing".to_owned())) };
        let facts = match info {
            Value::BulkString(text) => Facts::read(&String::from_utf8_lossy(text)),
            Value::ServerError(error) if error.code() == "NOPERM" => Facts::default(),
            Value::ServerError(error) => return Err(Fault::said(error)),
            other => return Err(Fault::Gone(format!("INFO answered {other:?}"))),
        };
        facts.serves(matches!(self.dialer.target().topology, Topology::Cluster(_)))?;
        let appendfsync = match setting {
            Value::Array(pair) => match pair.as_slice() {
                [_, Value::BulkString(value)] => Some(String::from_utf8_lossy(value).into_owned()),
                _ => None,
            },
            _ => None,
        };
        Ok((facts, appendfsync))
    }
}

impl Request {
    /// `asking` = the server was named by another one that is giving the slot away.
    async fn send(&self, mut conn: redis::aio::MultiplexedConnection, asking: bool) -> Result<Vec<Value>, Fault> {
        let one;
        let commands = match self {
            Self::Script(command) if !asking => {
                let answer = conn.send_packed_command(command).await.map_err(|error| Fault::of(&error))?;
                return refuse_errors(vec![answer]);
            }
            Self::Script(command) => {
                let mut pipeline = Pipeline::with_capacity(1);
                pipeline.add_command(command.clone());
                one = pipeline;
                &one
            }
            Self::Commands(commands) => commands,
        };
        let count = commands.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        if !asking {
            let answers = conn.send_packed_commands(commands, 0, count).await.map_err(|error| Fault::of(&error))?;
            return refuse_errors(answers);
        }
        let mut asked = Pipeline::with_capacity(2 * count);
        for command in commands.cmd_iter() {
            asked.cmd("ASKING").add_command(command.clone());
        }
        let answers = conn.send_packed_commands(&asked, 0, 2 * count).await.map_err(|error| Fault::of(&error))?;
        refuse_errors(answers.into_iter().skip(1).step_by(2).collect())
    }
}

/// The answers, or the first error among them. A redirection counts only if it holds for all of them.
fn refuse_errors(answers: Vec<Value>) -> Result<Vec<Value>, Fault> {
    let Some((place, error)) = answers.iter().enumerate().find_map(|(place, answer)| match answer {
        Value::ServerError(error) => Some((place, error)),
        _ => None,
    }) else {
        return Ok(answers);
    };
    Err(match (place, error.code()) {
        (0, _) => Fault::said(error),
        (_, "MOVED" | "ASK") => Fault::Gone("the slot moved away between two commands".to_owned()),
        _ => Fault::said(error),
    })
}
