//! Who owns what, the connections there, and how one call finds its way.
use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::join_all;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    dial::{Dialed, Dialer},
    fault::{Fault, Verdict},
    link::{Link, Live, State},
    map::{Map, redirection},
    scout,
};
use crate::store::{
    StoreError,
    redis::{
        health::{self, Facts, Health, NodeFacts},
        target::{Addr, Topology},
    },
};

/// Longest time that a call waits for a connection; its answer may take as long again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Who asks how the servers are wants to know soon: longest wait for a connection, and for an answer.
const HEALTH_PATIENCE: Duration = Duration::from_millis(500);
const HEALTH_TIMEOUT: Duration = Duration::from_millis(1_200);
/// Times that the servers of a cluster may send a call on before it is given up.
const MAX_HOPS: usize = 5;

/// Who is where, and the connections there.
pub(in crate::store::redis) struct Net {
    pub(in crate::store::redis) dialer: Arc<Dialer>,
    pub(in crate::store::redis) maps: watch::Sender<Arc<Map>>,
    links: Mutex<HashMap<Addr, Arc<Link>>>,
    /// Wakes the scout.
    pub(in crate::store::redis) trouble: Arc<Notify>,
}

/// What is sent in one go.
pub(super) enum Request {
    Script(Cmd),
    Commands(Pipeline),
}

/// A fault, and whose.
type Failed = (Fault, Addr);

impl Net {
    /// Begins with these owners and the connections to them.
    pub(super) fn new(dialer: Arc<Dialer>, map: Map, first: Vec<(Addr, Dialed)>) -> Self {
        let trouble = Arc::new(Notify::new());
        let links = first.into_iter().map(|(addr, dialed)| {
            (addr.clone(), Arc::new(Link::start(dialer.clone(), addr, Some(dialed), trouble.clone())))
        });
        let links = Mutex::new(links.collect());
        Self { dialer, maps: watch::Sender::new(Arc::new(map)), links, trouble }
    }

    /// Sends to the owner of the slot, and on to where the servers of a cluster say it is.
    pub(super) async fn call(&self, slot: u16, request: &Request) -> Result<Vec<Value>, Failed> {
        let deadline = Instant::now() + PATIENCE;
        let mut sent_on = None;
        let mut hops = 0;
        loop {
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
                Fault::Said { code, text } if hops < MAX_HOPS && (code == "MOVED" || code == "ASK") => {
                    redirection(text, &link.addr).map(|addr| (addr, code == "ASK"))
                }
                _ => None,
            };
            if sent_on.is_none() {
                return Err((fault, link.addr.clone()));
            }
            hops += 1;
        }
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
    pub(in crate::store::redis) async fn health(&self) -> Result<Health, StoreError> {
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
