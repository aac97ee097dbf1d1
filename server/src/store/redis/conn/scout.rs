//! Finds out where things are: asks the sentinels for their master, a cluster for its slots.
use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use redis::{Cmd, Value};
use tokio::time::{sleep, timeout};

use super::{
    dial::Dialer,
    fault::{Fault, Seldom},
    map::Map,
    net::Net,
};
use crate::store::{
    StoreError,
    redis::target::{Addr, Target, Topology},
};

/// Shortest time between two rounds.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest time between two rounds: what nobody stumbles over is found by then.
const ROUND: Duration = Duration::from_secs(30);

/// Looks again whenever something is wrong, and now and then.
pub(super) async fn run(net: Arc<Net>) {
    if matches!(net.dialer.target().topology, Topology::Single(_)) {
        return;
    }
    let mut turn = 0;
    let mut complaints = Seldom::default();
    loop {
        _ = timeout(ROUND, net.trouble.notified()).await;
        turn += 1;
        let known: Vec<Addr> = net.maps.borrow().owners().into_iter().cloned().collect();
        match find(&net.dialer, turn, &known).await {
            Ok(map) => {
                if **net.maps.borrow() != map {
                    let masters: Vec<String> = map.owners().iter().map(|addr| addr.to_string()).collect();
                    tracing::info!(?masters, "the masters of Redis are others now, or own other slots");
                }
                net.redraw(map);
            }
            Err(error) if complaints.allows() => tracing::warn!(%error, "nobody says where the masters of Redis are"),
            Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}

/// The first server that the target names.
pub(super) fn first_of(target: &Target) -> &Addr {
    match &target.topology {
        Topology::Single(addr) => addr,
        Topology::Sentinel { sentinels: named, .. } | Topology::Cluster(named) => &named[0],
    }
}

/// Where things are. `known` = the masters so far; `turn` says which node is asked first.
pub(super) async fn find(dialer: &Dialer, turn: usize, known: &[Addr]) -> Result<Map, StoreError> {
    match &dialer.target().topology {
        Topology::Single(addr) => Ok(Map::single(addr.clone())),
        Topology::Sentinel { sentinels, master } => elected(dialer, sentinels, master, known).await,
        Topology::Cluster(seeds) => drawn(dialer, seeds, turn, known).await,
    }
}

type Faults = Vec<(Fault, Addr)>;

/// One that denies or contradicts us says more than one that is not there.
fn worst(faults: &Faults) -> StoreError {
    let worst = faults.iter().find(|(fault, _)| fault.is_denial()).or(faults.first());
    worst.map_or_else(|| StoreError::Unavailable("nobody was asked".to_owned()), |(fault, addr)| fault.at_open(addr))
}

/// The master that most sentinels name. A new one must be one: a sentinel that is cut off from the others may name an old one.
async fn elected(dialer: &Dialer, sentinels: &[Addr], name: &str, known: &[Addr]) -> Result<Map, StoreError> {
    let mut faults = Faults::new();
    let mut votes: Vec<(usize, Addr)> = Vec::new();
    let answers = join_all(sentinels.iter().map(|sentinel| ask_sentinel(dialer, sentinel, name))).await;
    for (answer, sentinel) in answers.into_iter().zip(sentinels) {
        match answer {
            Ok(addr) => match votes.iter_mut().find(|(_, named)| *named == addr) {
                Some((votes, _)) => *votes += 1,
                None => votes.push((1, addr)),
            },
            Err(fault) => faults.push((fault, sentinel.clone())),
        }
    }
    votes.sort_by_key(|(votes, _)| std::cmp::Reverse(*votes));
    for (_, addr) in votes {
        if known.contains(&addr) {
            return Ok(Map::single(addr));
        }
        match dialer.master(&addr).await {
            Ok(_) => return Ok(Map::single(addr)),
            // What a master says comes before what a sentinel says.
            Err(fault) => faults.insert(0, (fault, addr)),
        }
    }
    Err(worst(&faults))
}

async fn ask_sentinel(dialer: &Dialer, sentinel: &Addr, master: &str) -> Result<Addr, Fault> {
    let mut conn = dialer.sentinel(sentinel).await?.conn;
    let mut question = Cmd::new();
    question.arg("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let answer = conn.send_packed_command(&question).await.map_err(|error| Fault::of(&error))?;
    let words = match answer {
        Value::Nil => return Err(Fault::Wrong(format!("the sentinel knows no master called `{master}`"))),
        Value::ServerError(error) if error.code() == "ERR" => {
            return Err(Fault::Wrong(format!("this is no sentinel ({})", error.details().unwrap_or_default())));
        }
        Value::ServerError(error) => return Err(Fault::said(&error)),
        Value::Array(words) => words,
        other => return Err(Fault::Gone(format!("the sentinel answered {other:?}"))),
    };
    match words.as_slice() {
        [Value::BulkString(host), Value::BulkString(port)] => {
            let port =
                String::from_utf8_lossy(port).parse().map_err(|_| Fault::Gone("a port is missing".to_owned()))?;
            Ok(Addr::Tcp { host: String::from_utf8_lossy(host).into_owned(), port })
        }
        _ => Err(Fault::Gone("the sentinel named no address".to_owned())),
    }
}

/// The map of the first node that takes part in the cluster, else of one that is cut off from it. Known masters are asked
/// before the seeds: a cluster may have moved away from all the servers that the target names.
async fn drawn(dialer: &Dialer, seeds: &[Addr], turn: usize, known: &[Addr]) -> Result<Map, StoreError> {
    let mut faults = Faults::new();
    let mut stale = None;
    let strangers = in_turn(seeds, turn).filter(|seed| !known.contains(seed));
    for addr in in_turn(known, turn).chain(strangers) {
        match ask_node(dialer, addr).await {
            Ok((map, true)) => return Ok(map),
            Ok((map, false)) => stale = stale.or(Some(map)),
            Err(fault) => faults.push((fault, addr.clone())),
        }
    }
    stale.ok_or_else(|| worst(&faults))
}

fn in_turn(addrs: &[Addr], turn: usize) -> impl Iterator<Item = &Addr> {
    (0..addrs.len()).map(move |place| &addrs[(place + turn) % addrs.len()])
}

/// The node's map, and whether it finds the cluster whole.
async fn ask_node(dialer: &Dialer, addr: &Addr) -> Result<(Map, bool), Fault> {
    let mut conn = dialer.node(addr).await?.conn;
    let mut questions = redis::pipe();
    questions.cmd("CLUSTER").arg("SLOTS").cmd("CLUSTER").arg("INFO");
    let answers = conn.send_packed_commands(&questions, 0, 2).await.map_err(|error| Fault::of(&error))?;
    let [slots, info] = answers.as_slice() else { return Err(Fault::Gone("an answer is missing".to_owned())) };
    if let Value::ServerError(error) = slots {
        return Err(match error.code() {
            "ERR" => Fault::Wrong("this is no node of a cluster: write redis://HOST:PORT".to_owned()),
            _ => Fault::said(error),
        });
    }
    // Who may not ask takes it to be whole.
    let whole =
        !matches!(info, Value::BulkString(text) if String::from_utf8_lossy(text).contains("cluster_state:fail"));
    match Map::read(slots, addr) {
        Some(map) if map.owners().is_empty() => Err(Fault::Gone("no slot has an owner yet".to_owned())),
        Some(map) => Ok((map, whole)),
        None => Err(Fault::Gone("CLUSTER SLOTS was not understood".to_owned())),
    }
}
