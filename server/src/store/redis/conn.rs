//! The way to the servers, whatever their topology: finds the owner of a key, keeps connections, follows failovers and moved
//! slots. Repeats nothing that may have been done: a call that got no answer is [`StoreError::Unavailable`], and its caller
//! knows whether to try again.
use std::sync::{Arc, OnceLock};

use futures::future::try_join_all;
use redis::{Cmd, Pipeline, Value};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    health::{self, Health},
    push::{self, Push},
    target::Target,
};
use crate::store::StoreError;

pub(super) mod dial;
pub(super) mod fault;
mod link;
pub(super) mod map;
pub(super) mod net;
mod scout;

use dial::Dialer;
use fault::Fault;
pub use map::{SLOTS, slot_of};
use net::{Net, Request};

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
        let net = Arc::new(Net::new(dialer, map, first));
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
