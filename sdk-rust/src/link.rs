//! Drives the session on a thread of its own, with a runtime of its own: a handler that blocks the user's runtime cannot
//! keep heartbeats, outcomes or a drain from going out.

use std::future::Future;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::errors::{Error, RpcError};
use crate::health::{self, Metrics};
use crate::lag::{self, Lag};
use crate::mailbox::{Event, Mailbox};
use crate::runner::Runner;
use crate::session::{Command, Output, Session};
use crate::transport::{Line, Transport};
use crate::vitals::Vitals;

/// Frames read before the session is polled again.
const FRAMES_AT_ONCE: usize = 32;

pub(crate) type Shutdown = Pin<Box<dyn Future<Output = ()> + Send>>;
/// What has to be done before the first job is taken.
pub(crate) type FirstCall = BoxFuture<'static, Result<(), Error>>;
pub(crate) type OnReady = Box<dyn FnOnce() + Send>;

/// Everything the thread works with.
pub(crate) struct Link {
    pub session: Session,
    pub transport: Arc<Transport>,
    pub mailbox: Arc<Mailbox>,
    pub runner: Arc<Runner>,
    /// Where handlers run.
    pub user: Handle,
    /// Resolves when the worker is to drain.
    pub shutdown: Shutdown,
    pub on_ready: Option<OnReady>,
    pub metrics: Arc<Metrics>,
    /// Where probes are answered.
    pub health: Option<TcpListener>,
    /// Made on the handlers' runtime, because its connection may be theirs as well.
    pub first: Option<FirstCall>,
}

impl Link {
    /// Starts the thread; the receiver hears how it ended.
    pub fn spawn(self) -> Result<oneshot::Receiver<Result<(), Error>>, Error> {
        let failed = |error: std::io::Error| Error::Config(format!("cannot start the session thread: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (done, receiver) = oneshot::channel();
        let run = move || {
            let end = runtime.block_on(self.drive());
            // Ends the connection's tasks before anybody hears of the end.
            runtime.shutdown_background();
            let _ = done.send(end);
        };
        std::thread::Builder::new().name("jobwire-session".to_owned()).spawn(run).map_err(failed)?;
        Ok(receiver)
    }

    async fn drive(mut self) -> Result<(), Error> {
        let mut output = Output::default();
        let mut events = Vec::new();
        let mut line: Option<Line> = None;
        let mut vitals = Vitals::default();
        let (mut drains, mut streams) = (0, 0);
        if let Some(listener) = self.health.take() {
            tokio::spawn(health::serve(listener, self.metrics.clone()));
        }
        if let Some(first) = self.first.take()
            && !self.first_done(first).await?
        {
            return Ok(());
        }
        let mut lag = Lag::default();
        let mut ticks = tokio::time::interval(lag::PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = Instant::now();
            self.session.poll(now, &mut output);
            self.metrics.running.store(self.session.running(), Ordering::Relaxed);
            self.metrics.ready.store(self.session.is_ready(), Ordering::Relaxed);
            for mut frame in output.frames.drain(..) {
                if let Some(heartbeat) = &mut frame.heartbeat {
                    (heartbeat.rss_bytes, heartbeat.cpu_percent) = vitals.read(now);
                }
                if let Some(line) = &line {
                    line.send(frame);
                }
            }
            if !output.starts.is_empty() {
                self.runner.start(std::mem::take(&mut output.starts), &self.user);
            }
            for batch in output.batches.drain(..) {
                self.runner.start_batch(batch, &self.user);
            }
            let mut again = false;
            for command in output.commands.drain(..) {
                match command {
                    Command::Connect(hello) => {
                        self.metrics.reconnects.store(streams, Ordering::Relaxed);
                        streams += 1;
                        match self.transport.open(*hello) {
                            Ok(opened) => line = Some(opened),
                            Err(error) => {
                                tracing::warn!(%error, "cannot open the worker's stream");
                                self.session.disconnected(Some(error), now);
                                again = true;
                            }
                        }
                    }
                    Command::Disconnect(why) => {
                        tracing::info!(why, "dropping the worker's stream");
                        line = None;
                    }
                    Command::HalfClose => {
                        if let Some(line) = &line {
                            line.half_close();
                        }
                    }
                    Command::Cancel(control, reason, message) => control.cancel(reason, message),
                    Command::Welcomed => {
                        tracing::debug!("connected");
                        if let Some(ready) = self.on_ready.take() {
                            self.user.spawn(async move { ready() });
                        }
                    }
                    Command::Warn(warning) => tracing::warn!("{warning}"),
                    Command::Exit(end) => return end.map_err(Error::from),
                }
            }
            if again {
                continue;
            }
            let frame = tokio::select! {
                () = self.mailbox.wait(self.session.patience()) => None,
                frame = next(&mut line) => Some(frame),
                () = sleep_until(output.wake) => None,
                _ = ticks.tick() => {
                    let now = Instant::now();
                    self.metrics.lag(lag.latest(now));
                    if let Some(silence) = lag.tick(now, &self.user) {
                        let running = self.session.running_types().join(", ");
                        tracing::warn!(?silence, running, "the runtime of the handlers stands still; use handle_blocking for what blocks");
                    }
                    None
                }
                () = &mut self.shutdown => {
                    drains += 1;
                    tracing::info!(at_once = drains > 1, "draining");
                    self.session.drain(None, Instant::now());
                    // A second signal means now.
                    self.shutdown = if drains == 1 { crate::worker::shutdown_signal().boxed() } else { std::future::pending().boxed() };
                    None
                }
            };
            let now = Instant::now();
            self.mailbox.take(&mut events);
            for event in events.drain(..) {
                match event {
                    Event::Finished { token, outcome, run } => self.session.finished(&token, outcome, run, now),
                    Event::News(ctx) => self.session.reported(ctx.token(), ctx.take_news(), now),
                    Event::Abandon => return Ok(()),
                }
            }
            if let Some(mut frame) = frame {
                for _ in 0..FRAMES_AT_ONCE {
                    match frame {
                        Some(Ok(frame)) => self.session.received(frame, now),
                        Some(Err(error)) => {
                            tracing::warn!(%error, "the worker's stream broke");
                            line = None;
                            self.session.disconnected(Some(error), now);
                        }
                        None => {
                            line = None;
                            self.session.disconnected(None, now);
                        }
                    }
                    match line.as_mut().and_then(Line::ready) {
                        Some(more) => frame = Some(more),
                        None => break,
                    }
                }
            }
        }
    }
}

impl Link {
    /// Makes the first call; false = the worker is to end before it was answered.
    async fn first_done(&mut self, first: FirstCall) -> Result<bool, Error> {
        let mut call = self.user.spawn(first);
        tokio::select! {
            done = &mut call => match done {
                Ok(done) => done.map(|()| true),
                Err(_) => Ok(false), // the handlers' runtime has ended
            },
            () = &mut self.shutdown => {
                call.abort();
                Ok(false)
            }
            // Nobody but the one who waits for this worker can have said anything yet.
            () = self.mailbox.wait(1) => {
                call.abort();
                Ok(false)
            }
        }
    }
}

/// The next frame of the stream, if there is one. Cancel-safe.
async fn next(line: &mut Option<Line>) -> Option<Result<jobwire_proto::v1::StreamJobsResponse, Box<RpcError>>> {
    match line {
        Some(line) => line.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
