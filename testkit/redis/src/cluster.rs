//! A Redis Cluster.
use std::time::Duration;

use crate::{
    redis_server::{Kind, LONG, Redis},
    settings::Settings,
    wait_for,
};

const SLOTS: usize = 16_384;
/// A node that is silent for so long is taken for dead, ms.
const NODE_TIMEOUT: &str = "1000";
/// A failover: the silence, the vote, and the news going round.
const FAILOVER: Duration = Duration::from_secs(30);

/// A Cluster of masters that share the slots evenly, with or without replicas. Nodes are taken for dead after 1 s.
#[derive(Debug)]
pub struct Cluster {
    /// All nodes: the masters as started, then their replicas, round after round.
    pub nodes: Vec<Redis>,
    masters: usize,
}

impl Cluster {
    /// Starts one with so many masters, each with so many replicas, and waits until every node serves.
    ///
    /// # Panics
    /// When it does not come about.
    pub fn start(masters: usize, replicas: usize) -> Self {
        Self::start_with(masters, replicas, &Settings::new())
    }

    /// [`Cluster::start`] with further settings for every node.
    pub fn start_with(masters: usize, replicas: usize, settings: &Settings) -> Self {
        let settings = settings
            .clone()
            .set("cluster-enabled", "yes")
            .set("cluster-config-file", "nodes.conf")
            .set("cluster-node-timeout", NODE_TIMEOUT);
        let count = masters * (1 + replicas);
        let nodes: Vec<Redis> = (0..count).map(|_| Redis::start_kind(settings.clone(), Kind::Node)).collect();
        let cluster = Self { nodes, masters };
        for (number, master) in cluster.nodes[..masters].iter().enumerate() {
            let (first, last) = (SLOTS * number / masters, SLOTS * (number + 1) / masters - 1);
            master.run(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
        let (first, others) = cluster.nodes.split_first().expect("it has nodes");
        for (number, node) in cluster.nodes.iter().enumerate() {
            node.run(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
        }
        for node in others {
            let port = node.address().port().to_string();
            first.run(&["CLUSTER", "MEET", "127.0.0.1", &port, &node.bus().to_string()]);
        }
        cluster.everybody_knows(count);
        for (number, replica) in cluster.nodes[masters..].iter().enumerate() {
            replica.run(&["CLUSTER", "REPLICATE", &cluster.nodes[number % masters].node_id()]);
        }
        for replica in &cluster.nodes[masters..] {
            replica.in_sync();
        }
        cluster.wait_until_it_serves();
        cluster
    }

    /// `redis+cluster://127.0.0.1:PORT,…`, every node.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| node.address().to_string()).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// Number of the node that serves the slot of `key` now.
    ///
    /// # Panics
    /// When none does, for 20 s.
    #[track_caller]
    pub fn master_of(&self, key: &str) -> usize {
        let mut found = None;
        wait_for("a master serves the key", FAILOVER, || {
            found = self.nodes.iter().position(|node| {
                // A node that does not serve it says where it has moved.
                node.try_query::<redis::Value>(&["EXISTS", key]).is_ok()
                    && node.info("replication", "role").is_some_and(|role| role == "master")
            });
            found.is_some()
        });
        found.expect("waited for")
    }

    /// Numbers of the nodes that are masters now and answer.
    pub fn masters(&self) -> Vec<usize> {
        let master = |node: &Redis| node.info("replication", "role").is_some_and(|role| role == "master");
        (0..self.nodes.len()).filter(|&number| master(&self.nodes[number])).collect()
    }

    /// Waits until every node that answers says that all slots are served, by as many masters as at the start.
    #[track_caller]
    pub fn wait_until_it_serves(&self) {
        wait_for("every slot of the Cluster is served", FAILOVER, || {
            let states: Vec<String> =
                self.nodes.iter().filter_map(|node| node.try_query::<String>(&["CLUSTER", "INFO"]).ok()).collect();
            let serves = |state: &String| {
                state.contains("cluster_state:ok") && state.contains(&format!("cluster_size:{}", self.masters))
            };
            states.len() >= self.masters && states.iter().all(serves) && self.masters().len() == self.masters
        });
    }

    fn everybody_knows(&self, count: usize) {
        wait_for("every node knows every other", LONG, || {
            self.nodes.iter().all(|node| {
                let table: String = node.query(&["CLUSTER", "NODES"]);
                table.lines().filter(|line| line.contains(" connected") && !line.contains("handshake")).count() == count
            })
        });
    }
}

impl Redis {
    fn node_id(&self) -> String {
        self.query(&["CLUSTER", "MYID"])
    }
}
