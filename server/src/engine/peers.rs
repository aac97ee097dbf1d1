//! The other servers of a shared store: one task that tells them what they want to know, hears what they say, and looks
//! again where something may have been missed. A store that this server has for itself costs nothing here: the task sleeps.
//!
//! * Whoever has listeners says so every 20 s; who heard it tells what it touches for a minute.
//! * A stream opened elsewhere ends an older one here.
//! * Directives are documents; a wake says which has changed.
//! * Who holds a job, and what a session holds, is asked of all and answered by the one who knows.
use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        mpsc, oneshot,
    },
    time::Instant,
};
use tracing::debug;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    Inner,
    hub::TOLD_MOST,
    note::{Note, Question, Reply, ServerId, decode, encode},
    session,
    sessions::session_of_directive,
    settle::Holder,
};
use crate::{
    model::{
        ids::{JobId, Shard},
        job::Parts,
        limits::STORE_BATCH,
        op::Wake,
    },
    store::StoreError,
};

/// Who listens says so again after this, and is forgotten after that.
const ANNOUNCE: Duration = Duration::from_secs(20);
const FORGET: Duration = Duration::from_secs(60);
/// How long touched jobs are gathered.
const GATHER: Duration = Duration::from_millis(20);
/// Listeners look again: after they were announced, always, and after a look that failed.
const HEARD: Duration = Duration::from_millis(50);
const SWEEP: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(1);
/// A server shows its workers so often, with and without any, and so soon after a change.
const BEAT: Duration = Duration::from_secs(10);
const IDLE_BEAT: Duration = Duration::from_secs(30);
const DEBOUNCE: Duration = Duration::from_secs(1);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(300);

/// What this server knows of the others.
pub struct Peers {
    me: ServerId,
    seen: Mutex<HashMap<ServerId, Instant>>,
    asks: Mutex<HashMap<u64, mpsc::Sender<Reply>>>,
}

impl Peers {
    pub fn new(me: ServerId) -> Self {
        Self { me, seen: Mutex::default(), asks: Mutex::default() }
    }

    /// There was a sign of life of this server so long ago.
    pub fn saw(&self, server: ServerId, ago: Duration) {
        let Some(at) = Instant::now().checked_sub(ago) else { return };
        let mut seen = self.seen.lock();
        let known = seen.entry(server).or_insert(at);
        *known = at.max(*known);
    }

    fn are_there(&self) -> bool {
        self.seen.lock().values().any(|seen| seen.elapsed() < FORGET)
    }

    /// Whether this server is the first, of those alive, to do what is due in a shard. Correctness does not depend on it:
    /// it keeps servers from doing the same thing at the same moment.
    pub fn is_first(&self, shard: Shard) -> bool {
        let rank = |server: &ServerId| xxh3_64_with_seed(server, u64::from(shard.0));
        let mine = rank(&self.me);
        self.seen.lock().iter().all(|(server, seen)| seen.elapsed() >= FORGET || rank(server) > mine)
    }
}

/// Runs until the engine stops.
pub async fn run(inner: Arc<Inner>, mut wakes: Receiver<Wake>) {
    let shared = inner.shared();
    let mut talk = Talk::new(&inner);
    let mut contact = inner.contact.changes();
    if shared {
        talk.tell(Note::Started);
        talk.beat_at = Some(Instant::now());
    }
    loop {
        let next = talk.step(Instant::now());
        tokio::select! {
            wake = wakes.recv() => match wake {
                Ok(wake) => talk.on_wake(wake),
                Err(RecvError::Lagged(_)) => talk.on_wake(Wake::Reset),
                Err(RecvError::Closed) => return,
            },
            Some(done) = talk.work.next(), if !talk.work.is_empty() => talk.on_done(done),
            () = inner.hub.stirred() => {}
            () = inner.sessions.changed(), if shared => talk.beat_by(Instant::now() + DEBOUNCE),
            Ok(()) = contact.changed() => talk.look_by(Instant::now()),
            () = sleep_until(next) => {}
            () = inner.stopped.cancelled() => return,
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What has been done beside the loop.
enum Done {
    Looked(Result<(), StoreError>),
    Beaten,
    Nothing,
}

struct Talk<'a> {
    inner: &'a Arc<Inner>,
    /// Servers that have listeners, and until when that is believed.
    listening: HashMap<ServerId, Instant>,
    announced: Option<Instant>,
    look_at: Option<Instant>,
    looking: bool,
    tell_at: Option<Instant>,
    beat_at: Option<Instant>,
    beating: bool,
    work: FuturesUnordered<BoxFuture<'a, Done>>,
}

impl<'a> Talk<'a> {
    fn new(inner: &'a Arc<Inner>) -> Self {
        Self {
            inner,
            listening: HashMap::new(),
            announced: None,
            look_at: None,
            looking: false,
            tell_at: None,
            beat_at: None,
            beating: false,
            work: FuturesUnordered::new(),
        }
    }

    /// Does what is due and says when to come again.
    fn step(&mut self, now: Instant) -> Option<Instant> {
        self.listening.retain(|_, until| *until > now);
        self.inner.hub.set_wanted(!self.listening.is_empty());
        let again = self.listen(now);
        self.look(now);
        self.tell_touched(now);
        if self.beat_at.is_some_and(|at| at <= now) && !self.beating {
            (self.beating, self.beat_at) = (true, None);
            let inner = self.inner;
            self.work.push(async move { inner.beat().map(|()| Done::Beaten).await }.boxed());
        }
        let forget = self.listening.values().min().copied();
        let look = self.look_at.filter(|_| !self.looking);
        let beat = self.beat_at.filter(|_| !self.beating);
        [again, look, self.tell_at, beat, forget].into_iter().flatten().min()
    }

    /// Lets the others know that somebody listens here; answers when to say so again.
    fn listen(&mut self, now: Instant) -> Option<Instant> {
        if !self.inner.hub.has_listeners() {
            self.look_at = None;
            return None;
        }
        if !self.inner.shared() {
            return None;
        }
        if self.announced.is_none_or(|at| now >= at + ANNOUNCE) {
            self.announced = Some(now);
            self.tell(Note::Listening);
            // What has happened before they hear it.
            self.look_by(now + HEARD);
        }
        self.look_by(now + SWEEP);
        self.announced.map(|at| at + ANNOUNCE)
    }

    fn look(&mut self, now: Instant) {
        if self.look_at.is_some_and(|at| at <= now) && !self.looking {
            (self.looking, self.look_at) = (true, None);
            let inner = self.inner;
            self.work.push(async move { Done::Looked(inner.look_for_listeners().await) }.boxed());
        }
    }

    fn look_by(&mut self, at: Instant) {
        self.look_at = Some(self.look_at.map_or(at, |known| known.min(at)));
    }

    fn beat_by(&mut self, at: Instant) {
        self.beat_at = Some(self.beat_at.map_or(at, |known| known.min(at)));
    }

    fn tell_touched(&mut self, now: Instant) {
        let untold = self.inner.hub.untold();
        if untold == 0 {
            self.tell_at = None;
        } else if untold >= TOLD_MOST || self.tell_at.is_some_and(|at| at <= now) {
            self.tell_at = None;
            for jobs in self.inner.hub.take_untold().chunks(TOLD_MOST) {
                self.tell(Note::Touched(jobs.to_vec()));
            }
        } else if self.tell_at.is_none() {
            self.tell_at = Some(now + GATHER);
        }
    }

    fn tell(&self, note: Note) {
        let inner = self.inner;
        self.work.push(async move { inner.tell_others(&note).map(|()| Done::Nothing).await }.boxed());
    }

    fn on_done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Looked(result) => {
                self.looking = false;
                if let Err(error) = result {
                    debug!(%error, "listeners look again");
                    self.look_by(now + RETRY);
                }
            }
            Done::Beaten => {
                self.beating = false;
                let idle = self.inner.sessions.all().is_empty();
                self.beat_by(now + if idle { IDLE_BEAT } else { BEAT });
            }
            Done::Nothing => {}
        }
    }

    fn on_wake(&mut self, wake: Wake) {
        match wake {
            Wake::Told(bytes) => match decode(&bytes) {
                Some((from, note)) if from != self.inner.peers.me => self.on_note(from, note),
                _ => {}
            },
            Wake::Doc(key) => {
                if let Some(session_id) = session_of_directive(&key) {
                    self.read_directive(session_id.to_owned());
                }
            }
            Wake::Reset => {
                let now = Instant::now();
                self.look_by(now);
                self.announced = None;
                if self.inner.shared() {
                    self.tell(Note::Started);
                    for live in self.inner.sessions.all() {
                        self.read_directive(live.hello.session_id.clone());
                    }
                }
            }
            Wake::Ready(_) | Wake::Timer(_) | Wake::Cancel(_) | Wake::Queue(_) => {}
        }
    }

    fn on_note(&mut self, from: ServerId, note: Note) {
        let inner = self.inner;
        inner.peers.saw(from, Duration::ZERO);
        match note {
            Note::Started => self.announced = None,
            Note::Stopped => {
                inner.peers.seen.lock().remove(&from);
                self.listening.remove(&from);
                self.beat_by(Instant::now());
            }
            Note::Listening => _ = self.listening.insert(from, Instant::now() + FORGET),
            Note::Touched(jobs) => jobs.into_iter().for_each(|id| inner.hub.touched_elsewhere(id)),
            Note::Opened { session_id, held } => {
                self.work.push(async move { inner.moved(&session_id, &held).map(|()| Done::Nothing).await }.boxed());
            }
            Note::Ask { number, question } => self.work.push(
                async move {
                    if let Some(reply) = inner.reply(question).await {
                        inner.tell_others(&Note::Answer { to: from, number, reply }).await;
                    }
                    Done::Nothing
                }
                .boxed(),
            ),
            Note::Answer { to, number, reply } => {
                if to == inner.peers.me
                    && let Some(asker) = inner.peers.asks.lock().get(&number)
                {
                    // Who has enough answers listens no more.
                    _ = asker.try_send(reply);
                }
            }
        }
    }

    fn read_directive(&mut self, session_id: String) {
        if self.inner.sessions.get(&session_id).is_none() {
            return;
        }
        let inner = self.inner;
        let obey = async move {
            match inner.read_directive(&session_id).await {
                Ok(Some(directive)) => inner.obey(&session_id, directive).await,
                Ok(None) => {}
                Err(error) => debug!(%error, "a directive was not read: the next stream will"),
            }
            Done::Nothing
        };
        self.work.push(obey.boxed());
    }
}

impl Inner {
    /// Says something to the other servers; whether they hear it nobody knows.
    pub(super) async fn tell_others(&self, note: &Note) {
        if self.shared()
            && let Err(error) = self.store.tell(encode(&self.peers.me, note).into()).await
        {
            debug!(%error, "other servers were not told");
        }
    }

    /// Asks the other servers, until `enough` has enough or a moment has passed.
    pub(super) async fn ask(&self, question: Question, mut enough: impl FnMut(Reply) -> bool) {
        if !self.shared() || !self.peers.are_there() {
            return;
        }
        let (asker, mut replies) = mpsc::channel(16);
        let number = self.keys.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.peers.asks.lock().insert(number, asker);
        let answered = async {
            self.tell_others(&Note::Ask { number, question }).await;
            while let Some(reply) = replies.recv().await {
                if enough(reply) {
                    return;
                }
            }
        };
        _ = tokio::time::timeout(PATIENCE, answered).await;
        self.peers.asks.lock().remove(&number);
    }

    async fn reply(&self, question: Question) -> Option<Reply> {
        match question {
            Question::Holders(jobs) => {
                let found: Vec<(JobId, Holder)> = self.holders_here(&jobs).await.into_iter().collect();
                (!found.is_empty()).then_some(Reply::Holders(found))
            }
            Question::Held { session_id, limit } => {
                let mut held = self.held_here(&session_id).await?;
                held.truncate(limit);
                Some(Reply::Held(held))
            }
        }
    }

    /// A stream of this session was opened on another server: an older one here is over, and what the worker does not
    /// hold any more goes back.
    async fn moved(&self, session_id: &str, held: &[JobId]) {
        let mut leases = self.sessions.exorcise(session_id);
        let mut holder = Holder { session_id: session_id.to_owned(), ..Holder::default() };
        if let Some(live) = self.sessions.get(session_id) {
            holder.worker_id.clone_from(&live.hello.worker_id);
            let (reply, taken) = oneshot::channel();
            if live.events.send(session::Event::Takeover(reply)).await.is_ok() {
                leases.extend(taken.await.unwrap_or_default());
            }
        }
        let held: HashSet<&JobId> = held.iter().collect();
        leases.retain(|id, _| !held.contains(id));
        self.give_back_lost(&holder, leases.into_values()).await;
    }

    /// Looks at all jobs that somebody listens to.
    async fn look_for_listeners(&self) -> Result<(), StoreError> {
        for ids in self.hub.due_for_a_look().chunks(STORE_BATCH) {
            let records = self.store.get(ids, Parts::META).await?;
            for (id, record) in ids.iter().zip(&records) {
                self.hub.seen(*id, record.as_ref());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_shard_has_one_first_server_and_they_share_the_work() {
        let servers: Vec<ServerId> = (0..3).map(|n| [n; 16]).collect();
        let peers: Vec<Peers> = servers.iter().map(|me| Peers::new(*me)).collect();
        assert!((0..64).all(|shard| peers[0].is_first(Shard(shard))), "alone");
        for (me, known) in servers.iter().zip(&peers) {
            servers.iter().filter(|server| *server != me).for_each(|server| known.saw(*server, Duration::ZERO));
        }
        let mut share = [0; 3];
        for shard in 0..64 {
            let first: Vec<usize> = (0..3).filter(|n| peers[*n].is_first(Shard(shard))).collect();
            assert_eq!(first.len(), 1, "shard {shard}");
            share[first[0]] += 1;
        }
        assert!(share.iter().all(|shards| *shards > 8), "{share:?}");
        let late = Peers::new(servers[0]);
        servers[1..].iter().for_each(|server| late.saw(*server, FORGET));
        assert!((0..64).all(|shard| late.is_first(Shard(shard))), "the others are not heard of any more");
    }
}
