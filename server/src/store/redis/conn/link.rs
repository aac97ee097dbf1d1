//! A connection to one server that is opened again for as long as it is wanted.
use std::{sync::Arc, time::Duration};

use redis::aio::MultiplexedConnection;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    dial::{Dialed, Dialer},
    fault::{Fault, Seldom},
};
use crate::store::redis::target::Addr;

/// Pause between attempts to connect: from here, doubling, to there.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Dropping it closes the connection.
pub(super) struct Link {
    pub(super) addr: Addr,
    state: watch::Receiver<State>,
    suspects: mpsc::Sender<(u64, Fault)>,
    keeper: JoinHandle<()>,
}

#[derive(Clone)]
pub(super) enum State {
    Up(Live),
    Down(Fault),
}

/// A connection that worked when last heard of.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) conn: MultiplexedConnection,
    /// Which of the link's connections this is.
    number: u64,
}

impl Link {
    /// Keeps a connection to this server from now on, beginning with `first` if it is there. Each failure wakes `trouble`.
    pub(super) fn start(dialer: Arc<Dialer>, addr: Addr, first: Option<Dialed>, trouble: Arc<Notify>) -> Self {
        let begin = match &first {
            Some(dialed) => State::Up(Live { conn: dialed.conn.clone(), number: 0 }),
            None => State::Down(Fault::Gone("not connected yet".to_owned())),
        };
        let (states, state) = watch::channel(begin);
        let (suspects, suspected) = mpsc::channel(8);
        let keeper = Keeper { dialer, addr: addr.clone(), states, suspected, trouble };
        Self { addr, state, suspects, keeper: tokio::spawn(keeper.run(first)) }
    }

    /// What it is now, and to be told of changes.
    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// This connection does not do what it should: open another. Calls under way on it may still be answered.
    pub(super) fn suspect(&self, live: &Live, why: &Fault) {
        // Full = the keeper has suspicions enough.
        _ = self.suspects.try_send((live.number, why.clone()));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

struct Keeper {
    dialer: Arc<Dialer>,
    addr: Addr,
    states: watch::Sender<State>,
    suspected: mpsc::Receiver<(u64, Fault)>,
    trouble: Arc<Notify>,
}

impl Keeper {
    async fn run(mut self, first: Option<Dialed>) {
        let mut next = first;
        let mut number = 0;
        let mut pause = BACKOFF.0;
        let mut denials = Seldom::default();
        loop {
            let fault = match next.take() {
                Some(dialed) => {
                    let since = Instant::now();
                    if number > 0 {
                        tracing::info!(addr = %self.addr, "connected to Redis");
                    }
                    let fault = self.lifetime(number, dialed.closed).await;
                    // A server that hangs up at once is not worth more than one that is not there.
                    if since.elapsed() > BACKOFF.1 {
                        pause = BACKOFF.0;
                    }
                    tracing::warn!(addr = %self.addr, error = fault.words(), "the connection to Redis is lost");
                    fault
                }
                None => match self.dialer.master(&self.addr).await {
                    Ok(dialed) => {
                        number += 1;
                        self.states.send_replace(State::Up(Live { conn: dialed.conn.clone(), number }));
                        next = Some(dialed);
                        continue;
                    }
                    Err(fault) => {
                        if denials.allows() {
                            tracing::warn!(addr = %self.addr, error = fault.words(), "Redis cannot be used");
                        }
                        fault
                    }
                },
            };
            self.states.send_replace(State::Down(fault));
            self.trouble.notify_one();
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    /// Ends with the connection, or when somebody suspects it.
    async fn lifetime(&mut self, number: u64, mut closed: JoinHandle<()>) -> Fault {
        loop {
            tokio::select! {
                _ = &mut closed => return Fault::Gone("the connection was closed".to_owned()),
                suspect = self.suspected.recv() => match suspect {
                    Some((suspect, why)) if suspect == number => return why,
                    Some(_) => {}
                    // The link is gone, and with it the wish for connections.
                    None => std::future::pending().await,
                },
            }
        }
    }
}
