//! Opening a store: finding, or making, what describes it.
use std::{
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use parking_lot::Mutex;
use redis::Pipeline;
use tokio::sync::broadcast;

use super::{
    Core, Options, RedisStore, WAKES,
    clock::RedisClock,
    conn::Conn,
    known::Known,
    lanes::Lane,
    layout::{self, Layout},
    names::Names,
    placing::Placing,
    target::Target,
    value,
};
use crate::store::{StoreError, StoreInfo};

/// Time for the first subscription; without it the store works, but hears of nothing.
const SUBSCRIBING: Duration = Duration::from_secs(2);

/// Version of the layout of keys and records.
const FORMAT: i64 = 1;

impl RedisStore {
    /// Connects and looks whether a store can rest on what is there. Errors: `Refused` with what is wrong and how to mend
    /// it; `Unavailable` while nothing answers.
    pub async fn open(target: &Target) -> Result<Self, StoreError> {
        Self::open_with(target, Options::default()).await
    }

    /// Opens a store that is there. Errors: as `open`; `Refused` if there is none.
    pub async fn open_existing(target: &Target) -> Result<Self, StoreError> {
        let conn = Conn::open(target).await?;
        let root = layout::root(&target.prefix);
        let mut pipe = Pipeline::new();
        pipe.cmd("EXISTS").arg(&root);
        if value::int(&conn.run(root.as_bytes(), pipe).await?[0])? == 0 {
            let prefix = &target.prefix;
            return Err(StoreError::Refused(format!(
                "there is no store under the prefix {prefix}: see --redis-prefix"
            )));
        }
        Self::open(target).await
    }

    pub async fn open_with(target: &Target, options: Options) -> Result<Self, StoreError> {
        let conn = Conn::open(target).await?;
        let root = layout::root(&target.prefix);
        let masters = u16::try_from(conn.masters()).unwrap_or(u16::MAX);
        let default = if masters > 1 { masters.saturating_mul(layout::SHARDS_PER_MASTER) } else { layout::SHARDS };
        let wanted = options.shards.unwrap_or(default).clamp(1, layout::MOST_SHARDS);
        let (shards, epoch) = describe(&conn, &root, wanted).await?;
        let layout = Layout::new(&target.prefix, shards);
        let core = Arc::new(Core {
            conn,
            root,
            placing: Placing::new(shards),
            layout,
            names: Names::default(),
            clock: RedisClock::new(options.clock),
            known: Known::default(),
            me: uuid::Uuid::new_v4().simple().to_string(),
            numbers: AtomicU64::new(1),
            unanswered: Mutex::default(),
            puts: OnceLock::new(),
            moves: OnceLock::new(),
            wakes: broadcast::channel(WAKES).0,
            epoch: Mutex::new(epoch),
            closed: tokio_util::sync::CancellationToken::new(),
        });
        let lanes = || core.layout.all();
        _ = core.puts.set(lanes().map(|shard| Lane::start(Arc::downgrade(&core), shard)).collect());
        _ = core.moves.set(lanes().map(|shard| Lane::start(Arc::downgrade(&core), shard)).collect());
        core.read_time().await?;
        core.load_placing().await?;
        let mut wakes = core.wakes.subscribe();
        tokio::spawn(core.clone().listen());
        // The first wake is that the channels are subscribed: from here on nothing is missed without a word.
        _ = tokio::time::timeout(SUBSCRIBING, wakes.recv()).await;
        Ok(Self { core })
    }
}

/// The number of shards and the epoch of the store at `root`, which is made if it is not there.
async fn describe(conn: &Conn, root: &str, shards: u16) -> Result<(u16, String), StoreError> {
    let mut pipe = Pipeline::new();
    pipe.cmd("HSETNX").arg(root).arg("format").arg(FORMAT);
    pipe.cmd("HSETNX").arg(root).arg("shards").arg(shards);
    pipe.cmd("HSETNX").arg(root).arg("epoch").arg(uuid::Uuid::new_v4().simple().to_string());
    pipe.cmd("HMGET").arg(root).arg("format").arg("shards").arg("epoch");
    let answers = conn.run(root.as_bytes(), pipe).await?;
    let found = value::list(answers.last().unwrap_or(&redis::Value::Nil))?;
    let [format, shards, epoch] = found else { return Err(value::unexpected(&redis::Value::Nil)) };
    let format = value::int(format)?;
    if format != FORMAT {
        return Err(StoreError::Refused(format!(
            "the store at {root} has format {format}, and this server knows {FORMAT}: use a server of its version, or \
             another --redis-prefix"
        )));
    }
    let shards = u16::try_from(value::int(shards)?).ok().filter(|shards| (1..=layout::MOST_SHARDS).contains(shards));
    let shards = shards.ok_or_else(|| {
        StoreError::Damaged(format!("{root} does not say how many shards the store has; restore it, or another prefix"))
    })?;
    Ok((shards, value::text(epoch)?))
}

impl Core {
    /// Whether the store is still the one that was opened. If not, it is described anew.
    pub(super) async fn check_epoch(&self) -> Result<bool, StoreError> {
        let (shards, epoch) = describe(&self.conn, &self.root, self.layout.shards()).await?;
        if shards != self.layout.shards() {
            tracing::error!(shards, "the store has another number of shards now: restart this server");
        }
        let mut known = self.epoch.lock();
        let same = *known == epoch;
        *known = epoch;
        Ok(same)
    }

    async fn read_time(&self) -> Result<(), StoreError> {
        let mut pipe = Pipeline::new();
        pipe.cmd("TIME");
        let asked = std::time::Instant::now();
        let answers = self.conn.run(self.root.as_bytes(), pipe).await?;
        let [seconds, micros] = value::list(&answers[0])? else { return Err(value::unexpected(&answers[0])) };
        self.clock.heard(value::int(seconds)? * 1_000 + value::int(micros)? / 1_000, asked);
        Ok(())
    }

    pub(super) async fn info(&self) -> Result<StoreInfo, StoreError> {
        self.open()?;
        Ok(self.conn.health().await?.info())
    }
}
