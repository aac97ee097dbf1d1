//! What the servers say of themselves, and whether a store can rest on them.
use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    conn::{fault::Fault, net::Net},
    target::{Addr, Topology},
};
use crate::store::{Durability, StoreInfo};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(30);

/// Oldest Redis: LMPOP, script flags and sharded channels came with it.
const OLDEST: u32 = 7;

/// What INFO says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts(BTreeMap<String, String>);

impl Facts {
    pub(crate) fn read(info: &str) -> Self {
        let pairs = info.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(':'));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some("1")
    }

    /// Valkey speaks of itself as Redis 7.2.4 and adds its own number.
    fn version(&self) -> Option<String> {
        match self.get("valkey_version") {
            Some(version) => Some(format!("valkey {version}")),
            None => self.get("redis_version").map(str::to_owned),
        }
    }

    /// Can this server be worked with now? `cluster` = the URL said so.
    pub(crate) fn serves(&self, cluster: bool) -> Result<(), Fault> {
        let wrong = |text: &str| Err(Fault::Wrong(text.to_owned()));
        if self.get("redis_mode") == Some("sentinel") {
            return wrong("this is a sentinel: write redis+sentinel://HOST:PORT/NAME-OF-MASTER");
        }
        match self.get("cluster_enabled") {
            Some("1") if !cluster => return wrong("this is a node of a cluster: write redis+cluster://HOST:PORT"),
            Some("0") if cluster => return wrong("this is no node of a cluster: write redis://HOST:PORT"),
            _ => {}
        }
        if self.is_on("loading") || self.is_on("async_loading") {
            let done = self.get("loading_loaded_perc").map_or(String::new(), |text| format!(", {text} % done"));
            return Err(Fault::Said { code: "LOADING".to_owned(), text: format!("it is reading its data{done}") });
        }
        if self.get("role") == Some("slave") {
            let text = "this is a replica, which takes no writes: name the master, or redis+sentinel://";
            return Err(Fault::Said { code: "READONLY".to_owned(), text: text.to_owned() });
        }
        Ok(())
    }
}

/// One server's answer.
#[derive(Clone, Debug)]
pub(crate) struct NodeFacts {
    pub(crate) addr: Addr,
    pub(crate) facts: Facts,
    /// `None` = it may not be asked.
    pub(crate) appendfsync: Option<String>,
}

/// How the store is, over all of its masters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The oldest, as "7.0.15" or "valkey 8.0.1".
    pub version: String,
    /// What an acknowledged change survives: the least of all masters.
    pub durability: Durability,
    /// Bytes in use, all masters together.
    pub used_memory: u64,
    /// Bytes that may be used, all masters together; 0 = one of them has no limit.
    pub max_memory: u64,
    /// A master is at its limit: it takes no new jobs.
    pub full: bool,
    /// Keys thrown away since the servers started.
    pub evicted_keys: u64,
    /// Replicas that are connected, all masters together.
    pub replicas: u64,
    /// What someone should look at, a sentence each.
    pub warnings: Vec<String>,
    /// Why a store must not be opened on these servers; an alarm when it comes up later. A sentence that says how to mend it.
    pub refusal: Option<String>,
}

impl Health {
    /// The same in the words of every store.
    pub fn info(self) -> StoreInfo {
        StoreInfo {
            kind: "redis",
            durability: self.durability,
            bytes: self.used_memory,
            full: self.full,
            version: Some(self.version),
            warnings: self.refusal.into_iter().chain(self.warnings).collect(),
        }
    }
}

/// Looks every 30 s and logs what is new. What is wrong enough to refuse a start is an error now.
pub(super) async fn run(net: Arc<Net>, mut known: Vec<String>) {
    for warning in &known {
        tracing::warn!("{warning}");
    }
    loop {
        sleep(EVERY).await;
        // Outages are logged by the links.
        let Ok(health) = net.health().await else { continue };
        if let Some(refusal) = &health.refusal {
            tracing::error!("{refusal}");
        }
        for warning in health.warnings.iter().filter(|warning| !known.contains(warning)) {
            tracing::warn!("{warning}");
        }
        known = health.warnings;
    }
}

/// Makes up its mind from what every master said. Pure.
pub(crate) fn judge(nodes: &[NodeFacts], topology: &Topology) -> Health {
    let mut health = Health {
        version: nodes.iter().filter_map(|node| node.facts.version()).min().unwrap_or_else(|| "unknown".to_owned()),
        durability: nodes.iter().map(|node| level(node, topology)).min().unwrap_or(Durability::RedisVolatile),
        used_memory: nodes.iter().map(|node| node.facts.number("used_memory")).sum(),
        max_memory: match nodes.iter().map(|node| node.facts.number("maxmemory")).collect::<Vec<_>>() {
            limits if limits.contains(&0) => 0,
            limits => limits.iter().sum(),
        },
        full: nodes.iter().any(|NodeFacts { facts, .. }| {
            facts.number("maxmemory") > 0 && facts.number("used_memory") >= facts.number("maxmemory")
        }),
        evicted_keys: nodes.iter().map(|node| node.facts.number("evicted_keys")).sum(),
        replicas: nodes.iter().map(|node| node.facts.number("connected_slaves")).sum(),
        warnings: Vec::new(),
        refusal: nodes.iter().find_map(refusal),
    };
    health.warnings.extend(nodes.iter().flat_map(warnings));
    health
}

fn level(NodeFacts { facts, appendfsync, .. }: &NodeFacts, topology: &Topology) -> Durability {
    let alone = matches!(topology, Topology::Single(_)) && facts.number("connected_slaves") == 0;
    match appendfsync.as_deref() {
        _ if !facts.is_on("aof_enabled") => Durability::RedisVolatile,
        Some("no") => Durability::RedisVolatile,
        _ if !alone => Durability::RedisReplicated,
        Some("always") => Durability::RedisAlways,
        _ => Durability::RedisEverysec,
    }
}

fn refusal(NodeFacts { addr, facts, .. }: &NodeFacts) -> Option<String> {
    let version = facts.get("redis_version").unwrap_or_default();
    let major = version.split('.').next().and_then(|text| text.parse::<u32>().ok());
    if facts.get("valkey_version").is_none() && major.is_some_and(|major| major < OLDEST) {
        return Some(format!("Redis at {addr} is version {version}; Jobwire needs {OLDEST}.0 or newer, or Valkey"));
    }
    match facts.get("maxmemory_policy") {
        None | Some("noeviction") => None,
        Some(policy) => Some(format!(
            "Redis at {addr} may throw jobs away when memory is short (maxmemory-policy is {policy}); run CONFIG SET \
             maxmemory-policy noeviction and write it into redis.conf"
        )),
    }
}

fn warnings(NodeFacts { addr, facts, appendfsync }: &NodeFacts) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |text: String| warnings.push(format!("Redis at {addr}: {text}"));
    if facts.version().is_none() {
        warn("INFO may not be asked: version, role, memory and persistence are unknown".to_owned());
        return warnings;
    }
    if facts.get("maxmemory_policy").is_none() {
        warn("maxmemory-policy is unknown; it must be noeviction".to_owned());
    }
    match facts.number("evicted_keys") {
        0 => {}
        keys => warn(format!("{keys} keys were thrown away since it started; if they were ours, jobs are lost")),
    }
    match (facts.is_on("aof_enabled"), appendfsync.as_deref()) {
        (false, _) => {
            warn("no append-only file: with Redis goes all since its last snapshot; set appendonly yes".to_owned())
        }
        (true, Some("no")) => {
            warn("appendfsync is no: a power cut may cost half a minute; set everysec or always".to_owned())
        }
        (true, None) => warn("appendfsync may not be asked; taken to be everysec".to_owned()),
        (true, Some(_)) => {}
    }
    if facts.get("aof_last_write_status").is_some_and(|status| status != "ok") {
        warn("the append-only file cannot be written".to_owned());
    }
    if facts.get("rdb_last_bgsave_status").is_some_and(|status| status != "ok") {
        warn("the last snapshot failed; Redis may refuse writes until one succeeds".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\nloading:0\r\n\
        used_memory:1000\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\nevicted_keys:0\r\naof_enabled:1\r\n\
        aof_last_write_status:ok\r\nrdb_last_bgsave_status:ok\r\nconnected_slaves:0\r\ncluster_enabled:0\r\n";

    fn addr() -> Addr {
        Addr::Tcp { host: "r".to_owned(), port: 1 }
    }

    /// A good server, but for these lines.
    fn node(changes: &str, appendfsync: Option<&str>) -> NodeFacts {
        let mut facts = Facts::read(GOOD);
        facts.0.extend(Facts::read(changes).0);
        NodeFacts { addr: addr(), facts, appendfsync: appendfsync.map(str::to_owned) }
    }

    fn health(changes: &str, appendfsync: Option<&str>) -> Health {
        judge(&[node(changes, appendfsync)], &Topology::Single(addr()))
    }

    #[test]
    fn the_level_is_what_the_servers_are_set_to() {
        for (changes, appendfsync, level) in [
            ("", Some("always"), Durability::RedisAlways),
            ("", Some("everysec"), Durability::RedisEverysec),
            ("", None, Durability::RedisEverysec),
            ("", Some("no"), Durability::RedisVolatile),
            ("aof_enabled:0", Some("always"), Durability::RedisVolatile),
            ("connected_slaves:1", Some("always"), Durability::RedisReplicated),
        ] {
            assert_eq!(health(changes, appendfsync).durability, level, "{changes} {appendfsync:?}");
        }
        let nodes = [node("", Some("always")), node("aof_enabled:0", Some("always"))];
        let cluster = Topology::Cluster(vec![addr()]);
        assert_eq!(judge(&nodes[..1], &cluster).durability, Durability::RedisReplicated);
        assert_eq!(judge(&nodes, &cluster).durability, Durability::RedisVolatile);
    }

    #[test]
    fn what_may_lose_jobs_is_refused_with_the_remedy() {
        assert_eq!(health("", Some("always")).refusal, None);
        let policy = health("maxmemory_policy:allkeys-lru", Some("always")).refusal.expect("refused");
        assert!(policy.contains("CONFIG SET maxmemory-policy noeviction"), "{policy}");
        let version = health("redis_version:6.2.7", Some("always")).refusal.expect("refused");
        assert!(version.contains("6.2.7") && version.contains("7.0"), "{version}");
        let valkey = health("redis_version:7.2.4\nserver_name:valkey\nvalkey_version:8.0.1", Some("always"));
        assert_eq!((valkey.version.as_str(), valkey.refusal), ("valkey 8.0.1", None));
    }

    #[test]
    fn what_is_odd_is_said() {
        assert_eq!(health("", Some("always")).warnings, [""; 0]);
        for (changes, appendfsync, words) in [
            ("evicted_keys:3", Some("always"), "3 keys were thrown away"),
            ("aof_enabled:0", Some("always"), "set appendonly yes"),
            ("", None, "may not be asked"),
            ("", Some("no"), "set everysec or always"),
            ("rdb_last_bgsave_status:err", Some("always"), "the last snapshot failed"),
        ] {
            let warnings = health(changes, appendfsync).warnings;
            assert!(warnings.len() == 1 && warnings[0].contains(words), "{words}: {warnings:?}");
        }
        let dumb = NodeFacts { addr: addr(), facts: Facts::default(), appendfsync: None };
        assert_eq!(judge(&[dumb], &Topology::Single(addr())).warnings.len(), 1);
    }

    #[test]
    fn memory_is_added_up_and_one_full_master_is_a_full_store() {
        let nodes = [node("maxmemory:2000", None), node("maxmemory:900", None)];
        let health = judge(&nodes, &Topology::Cluster(vec![addr()]));
        assert_eq!((health.used_memory, health.max_memory, health.full), (2_000, 2_900, true));
        let health = judge(&[node("maxmemory:1001", None), node("", None)], &Topology::Cluster(vec![addr()]));
        assert_eq!((health.max_memory, health.full), (0, false));
    }

    #[test]
    fn servers_that_cannot_be_worked_with_say_why() {
        let serves = |changes: &str, cluster| node(changes, None).facts.serves(cluster).map_err(|fault| fault.words());
        assert_eq!(serves("", false), Ok(()));
        assert_eq!(Facts::default().serves(true).map_err(|fault| fault.words()), Ok(()));
        for (changes, cluster, words) in [
            ("redis_mode:sentinel", false, "this is a sentinel"),
            ("cluster_enabled:1", false, "write redis+cluster://"),
            ("", true, "write redis://"),
            ("loading:1\nloading_loaded_perc:12.5", false, "LOADING it is reading its data, 12.5 % done"),
            ("role:slave", false, "READONLY this is a replica"),
        ] {
            let error = serves(changes, cluster).expect_err(words);
            assert!(error.contains(words), "{error}");
        }
    }
}
