//! Where things are: the hash tags of the shards, and the names of keys.
//!
//! A tag is `{<prefix>.<shard>~<salt>}`; the salt is searched so that the shards are spread evenly over the slots of a
//! cluster, whatever the prefix. All keys of a shard begin with its tag, so every script touches one slot.
use super::conn::{SLOTS, slot_of};
use bytes::Bytes;

use crate::model::{ids::Shard, op::FairKey, state::State};

/// Shards of a store outside of a cluster.
pub(super) const SHARDS: u16 = 16;
/// Shards per master of a cluster.
pub(super) const SHARDS_PER_MASTER: u16 = 8;
/// More than so many shards no id can name.
pub(super) const MOST_SHARDS: u16 = 4_096;

/// The tags of a store.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    tags: Vec<String>,
}

/// The key of what concerns the store as a whole: its format, its number of shards, its epoch, configured queues.
pub(super) fn root(prefix: &str) -> String {
    format!("{{{prefix}.store}}")
}

impl Layout {
    pub fn new(prefix: &str, shards: u16) -> Self {
        Self { tags: (0..shards).map(|shard| tag(prefix, shard, shards)).collect() }
    }

    pub fn shards(&self) -> u16 {
        self.tags.len() as u16
    }

    pub fn all(&self) -> impl Iterator<Item = Shard> + use<> {
        (0..self.shards()).map(Shard)
    }

    pub fn has(&self, shard: Shard) -> bool {
        shard.0 < self.shards()
    }

    /// The only key that scripts are given.
    pub fn tag(&self, shard: Shard) -> &str {
        &self.tags[usize::from(shard.0)]
    }

    pub fn key(&self, shard: Shard, name: impl std::fmt::Display) -> String {
        format!("{}:{name}", self.tag(shard))
    }

    /// Where wakes are published.
    pub fn channel(&self, shard: Shard) -> Vec<u8> {
        self.key(shard, "w").into_bytes()
    }

    /// The shard whose wakes come through this channel.
    pub fn shard_of_channel(&self, channel: &[u8]) -> Option<Shard> {
        let tag = channel.strip_suffix(b":w")?;
        self.tags.iter().position(|known| known.as_bytes() == tag).map(|shard| Shard(shard as u16))
    }
}

fn tag(prefix: &str, shard: u16, shards: u16) -> String {
    let range = |n: u16| u32::from(n) * u32::from(SLOTS) / u32::from(shards);
    let wanted = range(shard)..range(shard + 1);
    let salted = (0..).map(|salt: u32| format!("{{{prefix}.{shard}~{salt}}}"));
    salted.into_iter().find(|tag| wanted.contains(&u32::from(slot_of(tag.as_bytes())))).expect("some salt hits")
}

/// A queue in key names: its number as 8 hexadecimal digits.
pub(super) fn hex(queue: u32) -> String {
    format!("{queue:08x}")
}

/// The READY list of one priority.
pub(super) fn line(queue: u32, level: usize) -> String {
    format!("q:{queue:08x}:{level}")
}

/// The READY list of one priority and one fairness key.
pub(super) fn strand_line(queue: u32, level: usize, fair: FairKey) -> Bytes {
    [line(queue, level).as_bytes(), &fair_bytes(fair)].concat().into()
}

/// READY jobs of one priority by arrival, in a queue whose jobs are kept apart by fairness key.
pub(super) fn listed(queue: u32, level: usize) -> String {
    format!("kz:{queue:08x}:{level}")
}

/// A fairness key as the scripts know it: nothing stands for none.
pub(super) fn fair_bytes(fair: FairKey) -> Bytes {
    if fair == 0 { Bytes::new() } else { Bytes::copy_from_slice(&fair.to_be_bytes()) }
}

/// The list by time of a state other than READY and RUNNING.
pub(super) fn by_time(queue: u32, state: State) -> String {
    format!("s:{queue:08x}:{}", state as u8)
}

/// Scores of lists by time: the millisecond above, arrival below it.
pub(super) const TIES: i64 = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_lies_in_its_range_of_slots() {
        for shards in [1, 16, 24] {
            let layout = Layout::new("jobwire", shards);
            for shard in layout.all() {
                let slot = u32::from(slot_of(layout.tag(shard).as_bytes()));
                assert_eq!(slot * u32::from(shards) / u32::from(SLOTS), u32::from(shard.0), "{}", layout.tag(shard));
                assert_eq!(slot_of(layout.key(shard, "m").as_bytes()), slot as u16);
                assert_eq!(layout.shard_of_channel(&layout.channel(shard)), Some(shard));
            }
        }
        assert_eq!(Layout::new("jobwire", 16).tag(Shard(3)), Layout::new("jobwire", 16).tag(Shard(3)));
    }
}
