//! Names of queues and types as numbers of 4 bytes. A number is a hash of the name, so that it is the same on every server
//! and after a loss; `nm` keeps who has it, and a name whose number is another's takes the next one.
use hashbrown::HashMap;
use parking_lot::RwLock;
use xxhash_rust::xxh3::xxh3_64;

use crate::model::ids::{Name, Shard};

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Of {
    Queue,
    Type,
}

impl Of {
    const fn letter(self) -> char {
        match self {
            Self::Queue => 'q',
            Self::Type => 'k',
        }
    }
}

/// The names that this server has met, per shard.
#[derive(Debug, Default)]
pub(super) struct Names {
    shards: RwLock<HashMap<Shard, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    numbers: HashMap<(Of, Name), u32>,
    names: HashMap<(Of, u32), Name>,
    /// Numbers that others have.
    taken: HashMap<(Of, Name), u32>,
}

impl Names {
    pub fn number(&self, shard: Shard, of: Of, name: &Name) -> u32 {
        // A pair of references would save the clone; it is a reference count.
        let key = (of, name.clone());
        if let Some(number) = self.shards.read().get(&shard).and_then(|known| known.numbers.get(&key)) {
            return *number;
        }
        let mut shards = self.shards.write();
        let known = shards.entry(shard).or_default();
        let number = hash(of, name).wrapping_add(known.taken.get(&key).copied().unwrap_or(0));
        known.numbers.insert(key, number);
        known.names.insert((of, number), name.clone());
        number
    }

    pub fn name(&self, shard: Shard, of: Of, number: u32) -> Option<Name> {
        self.shards.read().get(&shard)?.names.get(&(of, number)).cloned()
    }

    /// The number is another name's in this shard: the next one is tried.
    pub fn is_taken(&self, shard: Shard, of: Of, number: u32) {
        let mut shards = self.shards.write();
        let known = shards.entry(shard).or_default();
        if let Some(name) = known.names.remove(&(of, number)) {
            known.numbers.remove(&(of, name.clone()));
            *known.taken.entry((of, name)).or_default() += 1;
        }
    }

    /// Forgets all: the data is other than it was.
    pub fn clear(&self) {
        self.shards.write().clear();
    }

    /// An entry of `nm`: the number in hexadecimal, and `q` or `k` with the name. Gives the name if it is a queue's.
    pub fn learn(&self, shard: Shard, number: &str, value: &str) -> Option<Name> {
        let (of, number) = field(number)?;
        let name: Name = value.get(1..)?.parse().ok()?;
        let mut shards = self.shards.write();
        let known = shards.entry(shard).or_default();
        known.names.insert((of, number), name.clone());
        known.numbers.insert((of, name.clone()), number);
        (of == Of::Queue).then_some(name)
    }
}

/// What a field of `nm` says.
pub(super) fn field(text: &str) -> Option<(Of, u32)> {
    let (of, digits) = match text.strip_prefix('k') {
        Some(digits) => (Of::Type, digits),
        None => (Of::Queue, text),
    };
    u32::from_str_radix(digits, 16).ok().map(|number| (of, number))
}

/// Field and value of an entry of `nm`. Types have fields of their own, so that a type may have a queue's number.
pub(super) fn entry(of: Of, number: u32, name: &Name) -> [String; 2] {
    [field_of(of, number), format!("{}{name}", of.letter())]
}

pub(super) fn field_of(of: Of, number: u32) -> String {
    match of {
        Of::Queue => format!("{number:08x}"),
        Of::Type => format!("k{number:08x}"),
    }
}

/// Whether the number can be this name's: it is its hash, or one that it took because others had those before.
pub(super) fn may_be(of: Of, number: u32, name: &Name) -> bool {
    number.wrapping_sub(hash(of, name)) < 16
}

fn hash(of: Of, name: &Name) -> u32 {
    (xxh3_64(name.as_str().as_bytes())
        >> match of {
            Of::Queue => 0,
            Of::Type => 32,
        }) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_taken_gives_way_to_the_next() {
        let names = Names::default();
        let name: Name = "mail".parse().expect("a name");
        let first = names.number(Shard(0), Of::Queue, &name);
        assert_eq!(first, names.number(Shard(0), Of::Queue, &name));
        assert_eq!(names.name(Shard(0), Of::Queue, first), Some(name.clone()));
        names.is_taken(Shard(0), Of::Queue, first);
        let second = names.number(Shard(0), Of::Queue, &name);
        assert_eq!(second, first.wrapping_add(1));
        assert_eq!(first, names.number(Shard(1), Of::Queue, &name), "another shard");
        let [field, value] = entry(Of::Queue, second, &name);
        let others = Names::default();
        assert_eq!(others.learn(Shard(0), &field, &value), Some(name.clone()));
        assert_eq!(others.number(Shard(0), Of::Queue, &name), second);
    }
}
