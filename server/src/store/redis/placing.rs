//! Which shards a queue uses. Without further ado it is one, found by its name; a queue that was widened has a list of
//! them, and a job that was moved into a queue stays in its shard, which then is one of the queue's as well.
//!
//! Kept in fields of the store's root key: `w:<queue>` = the lists, each with the time from which it holds;
//! `g:<queue>:<shard>` = a shard that has jobs of the queue besides.
use hashbrown::HashMap;
use parking_lot::RwLock;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::model::{
    ids::{QueueName, Shard},
    op::KeyHash,
};

/// A new list holds from so long after it was written, so that every server knows it before it counts.
pub(super) const NOTICE_MS: i64 = 60_000;

/// What is known of the queues that are not as all others.
#[derive(Debug)]
pub(super) struct Placing {
    shards: u16,
    queues: RwLock<HashMap<QueueName, Queue>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Queue {
    /// (from when, shards), oldest first.
    lists: Vec<(i64, Vec<Shard>)>,
    guests: Vec<Shard>,
}

impl Placing {
    pub fn new(shards: u16) -> Self {
        Self { shards, queues: RwLock::default() }
    }

    /// The shard that a queue has from the beginning and never loses.
    pub fn home(&self, queue: &QueueName) -> Shard {
        Shard((xxh3_64(queue.as_str().as_bytes()) % u64::from(self.shards)) as u16)
    }

    /// Where a job goes: by the list that held when its id was made, and in it by its key, if it has one, else by the id. An
    /// id that does not say when it was made goes by the first list.
    pub fn place(&self, queue: &QueueName, proposal: Uuid, key: Option<KeyHash>) -> Shard {
        let queues = self.queues.read();
        let Some(known) = queues.get(queue).filter(|known| !known.lists.is_empty()) else { return self.home(queue) };
        let made_ms = match proposal.get_timestamp() {
            Some(made) if proposal.get_version_num() == 7 => {
                let (seconds, nanos) = made.to_unix();
                seconds as i64 * 1_000 + i64::from(nanos / 1_000_000)
            }
            _ => 0,
        };
        match known.lists.iter().rev().find(|(since_ms, _)| *since_ms <= made_ms) {
            Some((_, list)) => {
                // The bits that a stamp overwrites must not count.
                let hash = key.map_or_else(|| xxh3_64(&proposal.as_bytes()[8..]), |key| xxh3_64(&key));
                list[(hash % list.len() as u64) as usize]
            }
            None => self.home(queue),
        }
    }

    /// All shards where the queue may have jobs.
    pub fn shards_of(&self, queue: &QueueName) -> Vec<Shard> {
        let mut all = vec![self.home(queue)];
        if let Some(known) = self.queues.read().get(queue) {
            all.extend(known.lists.iter().flat_map(|(_, list)| list).chain(&known.guests));
            all.sort_unstable();
            all.dedup();
        }
        all
    }

    /// The width that was asked for last.
    pub fn width(&self, queue: &QueueName) -> u16 {
        self.queues.read().get(queue).and_then(|known| known.lists.last()).map_or(1, |(_, list)| list.len() as u16)
    }

    /// The lists of the queue when `width` holds from `since_ms` on: its home and the shards after it.
    pub fn widened(&self, queue: &QueueName, width: u16, since_ms: i64) -> String {
        let home = self.home(queue).0;
        let list = (0..width.clamp(1, self.shards)).map(|n| Shard((home + n) % self.shards)).collect();
        let mut lists = self.queues.read().get(queue).map(|known| known.lists.clone()).unwrap_or_default();
        lists.push((since_ms, list));
        write(&lists)
    }

    /// The lists of the queue as they are kept; `None` = it is as all others.
    pub fn written(&self, queue: &QueueName) -> Option<String> {
        let queues = self.queues.read();
        queues.get(queue).filter(|known| !known.lists.is_empty()).map(|known| write(&known.lists))
    }

    /// Takes the fields of the root key as they are.
    pub fn load(&self, fields: impl Iterator<Item = (String, String)>) {
        let mut queues: HashMap<QueueName, Queue> = HashMap::new();
        for (field, value) in fields {
            if let Some(name) = field.strip_prefix("w:").and_then(|name| name.parse().ok()) {
                queues.entry(name).or_default().lists = read(&value, self.shards);
            } else if let Some((name, shard)) = field.strip_prefix("g:").and_then(|rest| rest.rsplit_once(':'))
                && let (Ok(name), Ok(shard)) = (name.parse(), shard.parse())
                && shard < self.shards
            {
                queues.entry(name).or_default().guests.push(Shard(shard));
            }
        }
        *self.queues.write() = queues;
    }

    /// This shard has jobs of the queue from now on.
    pub fn add_guest(&self, queue: &QueueName, shard: Shard) {
        self.queues.write().entry(queue.clone()).or_default().guests.push(shard);
    }
}

/// The field that says that a shard has jobs of a queue besides.
pub(super) fn guest(queue: &QueueName, shard: Shard) -> String {
    format!("g:{queue}:{}", shard.0)
}

/// The field with a queue's lists.
pub(super) fn lists(queue: &QueueName) -> String {
    format!("w:{queue}")
}

/// `since=shard,shard;since=…`
fn write(lists: &[(i64, Vec<Shard>)]) -> String {
    let list = |(since, shards): &(i64, Vec<Shard>)| {
        let shards: Vec<String> = shards.iter().map(|shard| shard.0.to_string()).collect();
        format!("{since}={}", shards.join(","))
    };
    lists.iter().map(list).collect::<Vec<_>>().join(";")
}

fn read(text: &str, shards: u16) -> Vec<(i64, Vec<Shard>)> {
    let list = |part: &str| {
        let (since, list) = part.split_once('=')?;
        let list: Option<Vec<Shard>> =
            list.split(',').map(|shard| shard.parse().ok().filter(|shard| *shard < shards).map(Shard)).collect();
        Some((since.parse().ok()?, list.filter(|list| !list.is_empty())?))
    };
    text.split(';').filter_map(list).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> QueueName {
        text.parse().expect("a name")
    }

    fn made_at(ms: u64, n: u64) -> Uuid {
        uuid::Builder::from_unix_timestamp_millis(ms, &[(n >> 8) as u8, n as u8, 3, 4, 5, 6, 7, 8, n as u8, 9])
            .into_uuid()
    }

    #[test]
    fn a_queue_has_one_shard_until_it_is_widened() {
        let placing = Placing::new(16);
        let (mail, home) = (name("mail"), placing.home(&name("mail")));
        assert_eq!(placing.shards_of(&mail), [home]);
        assert_eq!(placing.place(&mail, made_at(5, 1), None), home);
        let text = placing.widened(&mail, 4, 1_000);
        placing.load([(lists(&mail), text)].into_iter());
        assert_eq!((placing.shards_of(&mail).len(), placing.width(&mail)), (4, 4));
        let old: Vec<Shard> = (0..50).map(|n| placing.place(&mail, made_at(999, n), None)).collect();
        assert!(old.iter().all(|shard| *shard == home), "ids from before keep their place");
        let mut new: Vec<Shard> = (0..50).map(|n| placing.place(&mail, made_at(1_000, n), None)).collect();
        new.sort_unstable();
        new.dedup();
        assert_eq!(new.len(), 4, "spread over all");
        assert_eq!(
            placing.place(&mail, Uuid::from_u128(77), None),
            home,
            "a proposal that does not say when it was made"
        );
        // Narrowing places nothing new, but goes on claiming.
        let text = placing.widened(&mail, 1, 2_000);
        placing.load([(lists(&mail), text)].into_iter());
        assert_eq!(placing.place(&mail, made_at(3_000, 7), None), home);
        assert_eq!(placing.shards_of(&mail).len(), 4);
    }

    #[test]
    fn a_stamp_does_not_move_a_proposal() {
        let placing = Placing::new(16);
        let mail = name("mail");
        placing.load([(lists(&mail), placing.widened(&mail, 16, 0))].into_iter());
        let proposal = made_at(5, 1);
        let shard = placing.place(&mail, proposal, None);
        let stamped = crate::model::ids::JobId::stamp(proposal, shard);
        assert_eq!(placing.place(&mail, Uuid::from_bytes(*stamped.as_bytes()), None), shard);
    }

    #[test]
    fn guests_are_claimed_too() {
        let placing = Placing::new(16);
        let mail = name("a:b");
        placing.load([(guest(&mail, Shard(3)), "1".to_owned()), ("w:bad name".to_owned(), "x".to_owned())].into_iter());
        assert!(placing.shards_of(&mail).contains(&Shard(3)));
    }
}
