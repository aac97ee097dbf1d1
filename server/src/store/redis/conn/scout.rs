//! Finds out where things are: asks the sentinels for their master, a cluster for its slots.
use std::{sync::Arc, time::Duration};

use redis::{Cmd, Value};
use tokio::time::{sleep, timeout};

use super::{Net, dial::Dialer, fault::Fault, map::Map};
use crate::store::{
    StoreError,
    redis::target::{Addr, Target, Topology},
};

/// Shortest time between two rounds.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest time between two rounds: what nobody stumbles over is found by then.
const ROUND: Duration = Duration::from_secs(15);

/// Looks again whenever something is wrong, and now and then.
pub(super) async fn run(net: Arc<Net>) {
    if matches!(net.dialer.target().topology, Topology::Single(_)) {
        return;
    }
    let mut turn = 0;
    loop {
        _ = timeout(ROUND, net.trouble.notified()).await;
        turn += 1;
        // Known owners too: a cluster may have moved away from all the servers that the target names.
        let known: Vec<Addr> = net.maps.borrow().owners().into_iter().cloned().collect();
        match find_among(&net.dialer, turn, &known).await {
            Ok(map) => {
                if **net.maps.borrow() != map {
                    tracing::info!(masters = ?map.owners().iter().map(|addr| addr.to_string()).collect::<Vec<_>>(), "Redis has new masters");
                }
                net.redraw(map);
            }
            // The links say in the log that something is wrong.
            Err(error) => tracing::debug!(%error, "Redis could not be asked for its masters"),
        }
        sleep(PAUSE).await;
    }
}

/// Where things are now. `turn` says who is asked first.
pub(super) async fn find(dialer: &Dialer, turn: usize) -> Result<Map, StoreError> {
    find_among(dialer, turn, &[]).await
}

/// The first server that the target names.
pub(super) fn first_of(target: &Target) -> &Addr {
    match &target.topology {
        Topology::Single(addr) => addr,
        Topology::Sentinel { sentinels: named, .. } | Topology::Cluster(named) => &named[0],
    }
}

async fn find_among(dialer: &Dialer, turn: usize, known: &[Addr]) -> Result<Map, StoreError> {
    let mut faults = Vec::new();
    match &dialer.target().topology {
        Topology::Single(addr) => return Ok(Map::single(addr.clone())),
        Topology::Sentinel { sentinels, master } => {
            for addr in in_turn(sentinels, turn) {
                match ask_sentinel(dialer, addr, master).await {
                    Ok(found) => return Ok(Map::single(found)),
                    Err(fault) => faults.push((fault, addr)),
                }
            }
        }
        Topology::Cluster(seeds) => {
            for addr in in_turn(known, turn).chain(in_turn(seeds, turn)) {
                match ask_node(dialer, addr).await {
                    Ok(map) => return Ok(map),
                    Err(fault) => faults.push((fault, addr)),
                }
            }
        }
    }
    // One that denies or contradicts us says more than one that is not there.
    let (worst, addr) = faults.iter().find(|(fault, _)| fault.is_denial()).unwrap_or(&faults[0]);
    Err(worst.at_open(addr))
}

fn in_turn(addrs: &[Addr], turn: usize) -> impl Iterator<Item = &Addr> {
    (0..addrs.len()).map(move |place| &addrs[(place + turn) % addrs.len()])
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

async fn ask_node(dialer: &Dialer, addr: &Addr) -> Result<Map, Fault> {
    let mut conn = dialer.node(addr).await?.conn;
    let mut question = Cmd::new();
    question.arg("CLUSTER").arg("SLOTS");
    let answer = match conn.send_packed_command(&question).await.map_err(|error| Fault::of(&error))? {
        Value::ServerError(error) if error.code() == "ERR" => {
            return Err(Fault::Wrong("this is no node of a cluster: write redis://HOST:PORT".to_owned()));
        }
        Value::ServerError(error) => return Err(Fault::said(&error)),
        answer => answer,
    };
    match Map::read(&answer, addr) {
        Some(map) if map.owners().is_empty() => Err(Fault::Gone("no slot has an owner yet".to_owned())),
        Some(map) => Ok(map),
        None => Err(Fault::Gone("CLUSTER SLOTS was not understood".to_owned())),
    }
}
