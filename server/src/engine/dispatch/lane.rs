//! A queue as the dispatcher sees it: who serves it, and which of its shards may have jobs.
use hashbrown::HashMap;

use super::Key;
use crate::model::ids::{Shard, TypeName};

#[derive(Default)]
pub struct Lane {
    pub members: Vec<Key>,
    pub hints: Hints,
    pub claiming: bool,
    /// A wake came while a claim was under way.
    pub woken: bool,
    pub picked: u64,
    pub turn: usize,
    pub unhandled: HashMap<TypeName, (u64, i64)>,
    /// Claims that failed one after the other.
    pub failures: u32,
    /// The last claim failed: no other before the pause is over.
    pub pausing: bool,
}

/// Which shards of a queue may have jobs. A shard that has no hint was proved empty by a claim, so the next push to it
/// raises a wake.
#[derive(Default)]
pub struct Hints {
    shards: Vec<(Shard, bool)>,
    next: usize,
}

impl Hints {
    /// Every shard of the queue may have jobs; new ones take their turn after those known.
    pub fn raise(&mut self, shards: Vec<Shard>) {
        for shard in shards {
            self.set(shard, true);
        }
    }

    /// What a claim, or a wake, has shown of one shard.
    pub fn set(&mut self, shard: Shard, may_have_jobs: bool) {
        match self.shards.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, hint)) => *hint = may_have_jobs,
            None => self.shards.push((shard, may_have_jobs)),
        }
    }

    /// Some shard may have jobs.
    pub fn any(&self) -> bool {
        self.shards.iter().any(|(_, hint)| *hint)
    }

    /// The shard to claim from: of those that may have jobs and are `open` the one whose turn it is, so that none starves.
    pub fn next(&self, open: impl Fn(Shard) -> bool) -> Option<Shard> {
        let (before, from) = self.shards.split_at(self.next.min(self.shards.len()));
        from.iter().chain(before).find(|(shard, hint)| *hint && open(*shard)).map(|(shard, _)| *shard)
    }

    /// A claim goes to this shard: the turn is with the one after it.
    pub fn taken(&mut self, shard: Shard) {
        self.next = self.shards.iter().position(|(known, _)| *known == shard).map_or(0, |index| index + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_take_turns_and_empty_ones_are_left_out() {
        let turn = |hints: &mut Hints, closed: Option<Shard>| {
            let shard = hints.next(|shard| Some(shard) != closed)?;
            hints.taken(shard);
            Some(shard)
        };
        let mut hints = Hints::default();
        assert!(!hints.any());
        assert_eq!(turn(&mut hints, None), None);
        hints.raise(vec![Shard(4), Shard(1), Shard(7)]);
        let turns: Vec<_> = (0..4).filter_map(|_| turn(&mut hints, None)).collect();
        assert_eq!(turns, [Shard(4), Shard(1), Shard(7), Shard(4)]);
        hints.set(Shard(1), false);
        assert_eq!(turn(&mut hints, None), Some(Shard(7)));
        assert_eq!(turn(&mut hints, Some(Shard(4))), Some(Shard(7)), "4 is not open");
        hints.raise(vec![Shard(1), Shard(9)]);
        assert_eq!(turn(&mut hints, None), Some(Shard(9)), "the queue has become wider");
        for shard in [1, 4, 7, 9] {
            hints.set(Shard(shard), false);
        }
        assert!(!hints.any());
    }
}
