//! A Sentinel set: who is the master is decided by vote.
use std::{collections::HashMap, time::Duration};

use crate::{
    redis_server::{Kind, Redis},
    settings::Settings,
    wait_for,
};

/// The name under which the sentinels watch their master.
pub const MASTER: &str = "jobwire";
/// A master that is silent for so long is taken for dead, ms.
const DOWN_AFTER: &str = "2000";
/// A failover that has not happened within this is tried again, ms.
const FAILOVER_TIMEOUT: &str = "5000";
/// The silence, the vote, and the news going round; also the time in which they find each other at the start.
const FAILOVER: Duration = Duration::from_secs(40);

/// One master, two replicas, three sentinels of which two must agree. A master is taken for dead after 2 s.
#[derive(Debug)]
pub struct Sentinels {
    /// The data: the first master, then its replicas.
    pub nodes: Vec<Redis>,
    /// Those who watch.
    pub sentinels: Vec<Redis>,
}

impl Sentinels {
    /// Starts the set and waits until all know each other.
    ///
    /// # Panics
    /// When it does not come about.
    pub fn start() -> Self {
        Self::start_with(&Settings::new())
    }

    /// [`Sentinels::start`] with further settings for the nodes that hold the data.
    pub fn start_with(settings: &Settings) -> Self {
        let master = Redis::start(settings.clone());
        let replicas = [(); 2].map(|()| master.start_replica(settings.clone()));
        let mut watching = Settings::new()
            .set("sentinel monitor", &format!("{MASTER} 127.0.0.1 {} 2", master.address().port()))
            .set("sentinel down-after-milliseconds", &format!("{MASTER} {DOWN_AFTER}"))
            .set("sentinel failover-timeout", &format!("{MASTER} {FAILOVER_TIMEOUT}"));
        if let (_, Some(password)) = settings.credentials() {
            watching = watching.set("sentinel auth-pass", &format!("{MASTER} {password}"));
        }
        let sentinels = (0..3).map(|_| Redis::start_kind(watching.clone(), Kind::Sentinel)).collect();
        let set = Self { nodes: [master].into_iter().chain(replicas).collect(), sentinels };
        set.wait_until_complete();
        set
    }

    /// `redis+sentinel://[:password@]127.0.0.1:PORT,…/jobwire`, every sentinel.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.sentinels.iter().map(|node| node.address().to_string()).collect();
        let nodes = self.nodes[0].url();
        let login = nodes.trim_start_matches("redis://").rsplit_once('@').map_or("", |(login, _)| login);
        let at = if login.is_empty() { "" } else { "@" };
        format!("redis+sentinel://{login}{at}{}/{MASTER}", addresses.join(","))
    }

    /// Number of the node that the sentinels call master.
    ///
    /// # Panics
    /// When no sentinel answers, or when they name a stranger.
    #[track_caller]
    pub fn master(&self) -> usize {
        let ask = |node: &Redis| node.try_query::<(String, u16)>(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).ok();
        let (_, port) = self.sentinels.iter().find_map(ask).expect("a sentinel answers");
        self.nodes.iter().position(|node| node.address().port() == port).expect("the master is one of the nodes")
    }

    /// Waits until the sentinels name another master than `old` and that one takes writes; its number.
    ///
    /// # Panics
    /// When it takes longer than 40 s.
    #[track_caller]
    pub fn failed_over_from(&self, old: usize) -> usize {
        wait_for("another master", FAILOVER, || {
            let now = self.master();
            now != old && self.nodes[now].info("replication", "role").is_some_and(|role| role == "master")
        });
        self.master()
    }

    /// A failover that an operator asks for, while the master lives; the number of the new one.
    #[track_caller]
    pub fn failover(&self) -> usize {
        let old = self.master();
        wait_for("a sentinel takes the order", FAILOVER, || {
            self.sentinels[0].try_query::<String>(&["SENTINEL", "FAILOVER", MASTER]).is_ok()
        });
        self.failed_over_from(old)
    }

    /// Waits until each sentinel knows the other two and two replicas that are up.
    #[track_caller]
    pub fn wait_until_complete(&self) {
        wait_for("the sentinels know each other and the replicas", FAILOVER, || {
            self.sentinels.iter().all(|sentinel| {
                let facts: HashMap<String, String> =
                    sentinel.try_query(&["SENTINEL", "MASTER", MASTER]).unwrap_or_default();
                let is = |name: &str, value: &str| facts.get(name).is_some_and(|found| found == value);
                is("num-slaves", "2") && is("num-other-sentinels", "2") && is("flags", "master")
            })
        });
    }
}
