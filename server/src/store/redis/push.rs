//! Sharded channels: one connection to each server that owns some, subscribed again wherever they go.
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use redis::{PushInfo, PushKind, Value, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{
    conn::{
        dial::PushSink,
        fault::{Fault, Seldom},
        map::Map,
        net::Net,
        slot_of,
    },
    target::Addr,
};

/// Messages that wait for the receiver; what comes beyond is lost, and [`Push::Lost`] says so.
const BUFFER: usize = 4_096;
/// Pause between attempts to subscribe: from here, doubling, to there.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// What a subscription brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    Message {
        channel: Bytes,
        payload: Bytes,
    },
    /// Every channel is subscribed, and messages may have been missed until now. The first push is one.
    Lost,
}

pub(super) fn start(net: Arc<Net>, channels: Vec<Vec<u8>>) -> mpsc::Receiver<Push> {
    let (out, receiver) = mpsc::channel(BUFFER);
    let (heard, hearing) = mpsc::channel(BUFFER);
    let maps = net.maps.subscribe();
    let listener = Listener {
        net,
        maps,
        channels,
        ears: HashMap::new(),
        placed: HashMap::new(),
        ear_number: 0,
        heard,
        missed: Arc::default(),
        complaints: Seldom::default(),
    };
    tokio::spawn(listener.run(hearing, out));
    receiver
}

/// What an ear heard.
type Heard = (u64, PushInfo);

/// A connection that listens.
struct Ear {
    conn: MultiplexedConnection,
    number: u64,
}

/// What was heard and did not fit.
#[derive(Default)]
struct Missed {
    something: Notify,
    /// It was about the subscriptions themselves: begin anew.
    news: AtomicBool,
}

struct Listener {
    net: Arc<Net>,
    maps: watch::Receiver<Arc<Map>>,
    channels: Vec<Vec<u8>>,
    ears: HashMap<Addr, Ear>,
    /// Channels that are subscribed, and the ear's number.
    placed: HashMap<Vec<u8>, u64>,
    ear_number: u64,
    heard: mpsc::Sender<Heard>,
    missed: Arc<Missed>,
    complaints: Seldom,
}

impl Listener {
    async fn run(mut self, mut hearing: mpsc::Receiver<Heard>, out: mpsc::Sender<Push>) {
        let mut whole = false;
        let mut pause = BACKOFF.0;
        let mut next = Instant::now();
        loop {
            if !whole && next <= Instant::now() {
                if self.settle().await {
                    whole = true;
                    pause = BACKOFF.0;
                    // A flood is not answered by another one.
                    next = Instant::now() + pause;
                    if out.send(Push::Lost).await.is_err() {
                        return;
                    }
                } else {
                    next = Instant::now() + pause;
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
            tokio::select! {
                heard = hearing.recv() => {
                    let Some((number, push)) = heard else { return };
                    match self.understand(number, push) {
                        Some(message) => if out.send(message).await.is_err() { return },
                        None => whole &= self.is_whole(),
                    }
                }
                () = self.missed.something.notified() => {
                    if self.missed.news.swap(false, Relaxed) {
                        self.ears.clear();
                        self.placed.clear();
                    }
                    whole = false;
                }
                changed = self.maps.changed() => {
                    if changed.is_err() { return }
                    whole &= self.is_whole();
                }
                () = sleep_until(next), if !whole => {}
                () = out.closed() => return,
            }
        }
    }

    /// Where a channel should be, and whether it is.
    fn place(&self, map: &Map, channel: &[u8]) -> (Option<Addr>, bool) {
        let owner = map.owner(slot_of(channel)).cloned();
        let ear = owner.as_ref().and_then(|owner| self.ears.get(owner));
        let placed = ear.is_some_and(|ear| self.placed.get(channel) == Some(&ear.number));
        (owner, placed)
    }

    fn is_whole(&self) -> bool {
        let map = self.maps.borrow();
        self.channels.iter().all(|channel| self.place(&map, channel).1)
    }

    /// Subscribes to what is not subscribed; `true` = everything is.
    async fn settle(&mut self) -> bool {
        let map = self.maps.borrow_and_update().clone();
        let owners: HashSet<&Addr> = map.owners().into_iter().collect();
        self.ears.retain(|addr, _| owners.contains(addr));
        let mut missing: HashMap<Addr, Vec<Vec<u8>>> = HashMap::new();
        for channel in &self.channels {
            match self.place(&map, channel) {
                (_, true) => {}
                (Some(owner), false) => missing.entry(owner).or_default().push(channel.clone()),
                (None, false) => self.net.trouble.notify_one(),
            }
        }
        for (addr, channels) in missing {
            if let Err(fault) = self.listen(&addr, channels).await {
                if self.complaints.allows() {
                    tracing::warn!(%addr, error = fault.words(), "cannot subscribe: news from other servers come late");
                }
                self.net.trouble.notify_one();
            }
        }
        self.is_whole()
    }

    /// Subscribes to channels of one server.
    async fn listen(&mut self, addr: &Addr, channels: Vec<Vec<u8>>) -> Result<(), Fault> {
        let (mut conn, number) = match self.ears.get(addr) {
            Some(ear) => (ear.conn.clone(), ear.number),
            None => {
                self.ear_number += 1;
                let number = self.ear_number;
                let (heard, missed) = (self.heard.clone(), self.missed.clone());
                let sink: PushSink = Arc::new(move |push| {
                    let is_message = push.kind == PushKind::SMessage;
                    if heard.try_send((number, push)).is_err() {
                        missed.news.fetch_or(!is_message, Relaxed);
                        missed.something.notify_one();
                    }
                    Ok(())
                });
                let conn = self.net.dialer.pushed(addr, sink).await?.conn;
                self.ears.insert(addr.clone(), Ear { conn: conn.clone(), number });
                (conn, number)
            }
        };
        let mut commands = redis::pipe();
        for channel in &channels {
            commands.cmd("SSUBSCRIBE").arg(channel.as_slice());
        }
        let answers = conn.send_packed_commands(&commands, 0, channels.len()).await.map_err(|error| {
            self.ears.remove(addr);
            Fault::of(&error)
        })?;
        let mut refused = None;
        for (channel, answer) in channels.into_iter().zip(answers) {
            match answer {
                Value::ServerError(error) => refused = Some(Fault::said(&error)),
                _ => drop(self.placed.insert(channel, number)),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// The message in it, if there is one; else what it says about subscriptions is taken note of.
    fn understand(&mut self, number: u64, push: PushInfo) -> Option<Push> {
        match push.kind {
            PushKind::SMessage => match <[Value; 2]>::try_from(push.data) {
                Ok([Value::BulkString(channel), Value::BulkString(payload)]) => {
                    Some(Push::Message { channel: channel.into(), payload: payload.into() })
                }
                _ => None,
            },
            PushKind::Disconnection => {
                self.ears.retain(|_, ear| ear.number != number);
                self.placed.retain(|_, placed| *placed != number);
                self.net.trouble.notify_one();
                None
            }
            // The server gave the slot away.
            PushKind::SUnsubscribe => {
                if let Some(Value::BulkString(channel)) = push.data.first()
                    && self.placed.get(channel) == Some(&number)
                {
                    self.placed.remove(channel);
                    self.net.trouble.notify_one();
                }
                None
            }
            _ => None,
        }
    }
}
