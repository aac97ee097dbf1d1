//! Which server owns which slot. Outside of a cluster one server owns them all.
use redis::Value;

use crate::store::redis::target::Addr;

/// Slots of a cluster.
pub const SLOTS: u16 = 16_384;

/// The slot of a key: a hash of what stands in its first pair of braces, or of all of it.
pub fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|b| *b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|b| *b == b'}').filter(|length| *length > 0).map(|length| &rest[..length])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, as the cluster specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 },
        )
    })
}

/// Owners of slots, as last heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Map {
    /// Last slot of each range, and its owner, in order. A gap has no owner.
    ranges: Vec<(u16, Option<Addr>)>,
}

impl Map {
    pub(crate) fn single(addr: Addr) -> Self {
        Self { ranges: vec![(SLOTS - 1, Some(addr))] }
    }

    pub(crate) fn owner(&self, slot: u16) -> Option<&Addr> {
        let place = self.ranges.partition_point(|(last, _)| *last < slot);
        self.ranges.get(place).and_then(|(_, addr)| addr.as_ref())
    }

    /// Every owner once.
    pub(crate) fn owners(&self) -> Vec<&Addr> {
        let mut owners: Vec<&Addr> = self.ranges.iter().filter_map(|(_, addr)| addr.as_ref()).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// Reads the answer of CLUSTER SLOTS. `asked` stands for a server that does not know its own name.
    pub(crate) fn read(answer: &Value, asked: &Addr) -> Option<Self> {
        let Value::Array(rows) = answer else { return None };
        let mut ranges = rows.iter().map(|row| read_range(row, asked)).collect::<Option<Vec<_>>>()?;
        ranges.sort_unstable();
        let mut map = Self::default();
        let mut next = 0;
        for (first, last, addr) in ranges {
            if first > next {
                map.ranges.push((first - 1, None));
            }
            map.ranges.push((last, addr));
            next = last.saturating_add(1);
        }
        Some(map)
    }
}

fn read_range(row: &Value, asked: &Addr) -> Option<(u16, u16, Option<Addr>)> {
    let Value::Array(row) = row else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = row.as_slice() else { return None };
    let [host, Value::Int(port), ..] = master.as_slice() else { return None };
    let host = match host {
        Value::BulkString(text) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    };
    let host = match (host.as_str(), asked) {
        // A server that others do not know the way to.
        ("?", _) => None,
        ("", Addr::Tcp { host, .. }) => Some(host.clone()),
        _ => Some(host),
    };
    let addr = host.and_then(|host| Some(Addr::Tcp { host, port: u16::try_from(*port).ok()? }));
    Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, addr))
}

/// Reads `12182 10.0.0.2:6379`, the text of MOVED and ASK. `asked` = who said it.
pub(crate) fn redirection(text: &str, asked: &Addr) -> Option<Addr> {
    let (host, port) = text.split_whitespace().nth(1)?.rsplit_once(':')?;
    let host = match (host, asked) {
        ("", Addr::Tcp { host, .. }) => host.clone(),
        (host, _) => host.to_owned(),
    };
    Some(Addr::Tcp { host, port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(host: &str, port: u16) -> Addr {
        Addr::Tcp { host: host.to_owned(), port }
    }

    fn row(first: i64, last: i64, host: &str, port: i64) -> Value {
        let node = vec![Value::BulkString(host.into()), Value::Int(port), Value::BulkString("id".into())];
        Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(node)])
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(slot_of(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot_of(b"foo{{bar}}zap"), crc16(b"{bar") % SLOTS);
        assert_eq!(slot_of(b"foo{bar}{zap}"), crc16(b"bar") % SLOTS);
    }

    #[test]
    fn every_slot_has_the_owner_that_was_named_and_gaps_have_none() {
        let answer = Value::Array(vec![row(8_000, 9_000, "b", 2), row(0, 5_000, "", 1), row(9_001, 9_001, "?", 3)]);
        let map = Map::read(&answer, &addr("asked", 9)).expect("a map");
        assert_eq!(map.owner(0), Some(&addr("asked", 1)));
        assert_eq!(map.owner(5_000), Some(&addr("asked", 1)));
        assert_eq!(map.owner(5_001), None);
        assert_eq!(map.owner(8_000), Some(&addr("b", 2)));
        assert_eq!((map.owner(9_001), map.owner(9_002)), (None, None));
        assert_eq!(map.owners(), [&addr("asked", 1), &addr("b", 2)]);
        assert_eq!(Map::read(&Value::Nil, &addr("a", 1)), None);

        let single = Map::single(addr("a", 1));
        assert_eq!((single.owner(0), single.owner(SLOTS - 1)), (Some(&addr("a", 1)), Some(&addr("a", 1))));
    }

    #[test]
    fn redirections_name_the_server() {
        let asked = addr("asked", 9);
        assert_eq!(redirection("12182 10.0.0.2:6379", &asked), Some(addr("10.0.0.2", 6379)));
        assert_eq!(redirection("12182 :6379", &asked), Some(addr("asked", 6379)));
        assert_eq!(redirection("12182 fe80::1:6379", &asked), Some(addr("fe80::1", 6379)));
        assert_eq!(redirection("what", &asked), None);
    }
}
