//! `store copy`.
use std::time::{Duration, Instant};

use super::{Opened, Secrets, open};
use crate::{
    duration,
    engine::{
        clock::SystemClock,
        roster::{self, GONE_MS},
    },
    model::{ids::Shard, limits::STORE_BATCH, queue::QueueFacts, time::Clock as _},
    store::{SharedStore, StoreError, Whole, redis::Options},
};

/// Between two lines on how far it is.
const SAY_EVERY: Duration = Duration::from_secs(5);

#[derive(clap::Args, Clone, Debug)]
pub struct Copy {
    /// The store to read, which no server has: embedded:DIR or redis://HOST:PORT/DB, as for serve --store
    from: String,
    /// The store to fill, which is empty
    to: String,
    /// What the keys of the first begin with, in Redis [default: jobwire] [env: JOBWIRE_REDIS_PREFIX]
    #[arg(long, value_name = "WORD")]
    from_prefix: Option<String>,
    /// What the keys of the second begin with, in Redis [default: jobwire] [env: JOBWIRE_REDIS_PREFIX]
    #[arg(long, value_name = "WORD")]
    to_prefix: Option<String>,
    /// Shards of a new store in Redis [default: as many as the first has; 16, or 8 per master of a cluster, if that is embedded]
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// How long workers have to show up at the new servers before their jobs run elsewhere
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "30s")]
    lease_ttl: Duration,
    /// Copy although a server may be running: what it changes meanwhile is lost
    #[arg(long)]
    force: bool,
}

/// 0 = copied, and the numbers of both stores agree; 1 = they do not.
pub async fn run(copy: Copy) -> Result<u8, String> {
    let from = open(Some(&copy.from), copy.from_prefix.as_deref(), &Secrets::default(), None).await?;
    let shards = copy.shards.or(Some(from.store.shards()).filter(|shards| *shards > 1));
    let options = Options { shards, ..Options::default() };
    let to = open(Some(&copy.to), copy.to_prefix.as_deref(), &Secrets::default(), Some(options)).await?;
    let done = between(&from, &to, &copy).await;
    from.store.close().await;
    to.store.close().await;
    done
}

async fn between(from: &Opened, to: &Opened, copy: &Copy) -> Result<u8, String> {
    for opened in [from, to] {
        if !copy.force && is_served(&opened.store).await.map_err(|error| error.to_string())? {
            return Err(format!("a server is using {}: stop it, and give it a minute (or --force)", opened.name));
        }
    }
    if to.store.is_shared() && to.store.shards() < from.store.shards() {
        return Err(format!(
            "{} has {} shards, fewer than the {} of {}: take another prefix, so that a new one is made",
            to.name,
            to.store.shards(),
            from.store.shards(),
            from.name
        ));
    }
    if !is_empty(&to.store).await.map_err(|error| error.to_string())? {
        return Err(format!("{} is not empty: take another directory or prefix, or remove what is there", to.name));
    }
    let lease_ms = copy.lease_ttl.as_millis() as i64;
    let copied = carry(&from.store, &to.store, lease_ms)
        .await
        .map_err(|error| format!("{error}\nThe copy is not complete: empty {} before you start again", to.name))?;
    let wrong = differences(&from.store, &to.store).await.map_err(|error| error.to_string())?;
    for sentence in &wrong {
        println!("{sentence}");
    }
    let Copied { jobs, queues, documents, keys } = copied;
    println!(
        "{jobs} jobs of {queues} queues, {documents} documents and {keys} remembered keys copied from {} to {}",
        from.name, to.name
    );
    if !wrong.is_empty() {
        eprintln!("jobwire: the numbers do not agree: see jobwire store check --repair on the first store");
    }
    Ok(u8::from(!wrong.is_empty()))
}

/// What was carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub jobs: u64,
    pub queues: u64,
    pub documents: u64,
    pub keys: u64,
}

/// Carries everything, page by page, but for who serves the first store. RUNNING jobs get a lease of `lease_ms`.
pub async fn carry(from: &SharedStore, to: &SharedStore, lease_ms: i64) -> Result<Copied, StoreError> {
    let mut copied = Copied::default();
    let mut said = Instant::now();
    let mut mark = None;
    loop {
        let page = from.export(mark, STORE_BATCH).await?;
        let mut things = page.things;
        things.retain(|thing| !is_server(thing));
        for thing in &things {
            match thing {
                Whole::Queue(_) => copied.queues += 1,
                Whole::Doc { .. } => copied.documents += 1,
                Whole::Key(_) => copied.keys += 1,
                Whole::Job(_) => copied.jobs += 1,
                Whole::DocFloor(..) => {}
            }
        }
        if !things.is_empty() {
            to.import(things, lease_ms).await?;
        }
        if said.elapsed() >= SAY_EVERY {
            eprintln!("jobwire: {} jobs copied", copied.jobs);
            said = Instant::now();
        }
        match page.next {
            Some(next) => mark = Some(next),
            None => return Ok(copied),
        }
    }
}

fn is_server(thing: &Whole) -> bool {
    matches!(thing, Whole::Doc { key, .. } if key.starts_with(roster::PREFIX))
}

/// Whether a server of a shared store has shown itself lately. Others are locked while they are open.
async fn is_served(store: &SharedStore) -> Result<bool, StoreError> {
    if !store.is_shared() {
        return Ok(false);
    }
    let now_ms = SystemClock::default().now().wall_ms;
    let docs = store.docs(Shard(0), roster::PREFIX).await?;
    // What cannot be read may be a server of a later release.
    let lately = |value: &[u8]| roster::written_ms(value).is_none_or(|ms| now_ms - ms < GONE_MS);
    Ok(docs.iter().any(|(_, doc)| lately(&doc.value)))
}

async fn is_empty(store: &SharedStore) -> Result<bool, StoreError> {
    let mut mark = None;
    loop {
        let page = store.export(mark, 1).await?;
        if page.things.iter().any(|thing| !is_server(thing) && !matches!(thing, Whole::DocFloor(..))) {
            return Ok(false);
        }
        match page.next {
            Some(next) => mark = Some(next),
            None => return Ok(true),
        }
    }
}

/// Queues whose numbers are not the same in both, a sentence each.
async fn differences(from: &SharedStore, to: &SharedStore) -> Result<Vec<String>, StoreError> {
    let (old, new) = (from.queues(None).await?, to.queues(None).await?);
    let mut wrong = Vec::new();
    for queue in &old {
        match new.iter().find(|other| other.name == queue.name) {
            None => wrong.push(format!("queue {} is missing", queue.name)),
            Some(other) => wrong.extend(difference(queue, other)),
        }
    }
    Ok(wrong)
}

fn difference(old: &QueueFacts, new: &QueueFacts) -> Vec<String> {
    let name = &old.name;
    let mut wrong = Vec::new();
    for state in crate::model::state::State::ALL {
        let (had, has) = (old.count(state), new.count(state));
        if had != has {
            wrong.push(format!("queue {name} had {had} jobs {} and has {has}", state.name()));
        }
    }
    if old.pause != new.pause {
        wrong.push(format!("queue {name} is not paused as it was"));
    }
    if !new.is_configured(old.config.as_ref().map(|configured| &*configured.config)) {
        wrong.push(format!("queue {name} is not configured as it was"));
    }
    wrong
}
