//! What one fairness key of a queue has, as the scripts keep it: `lua/strands.lua` says what is where.
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use redis::{Pipeline, Value};

use super::{Core, layout::hex, value};
use crate::{
    model::{ids::Shard, op::FairKey},
    store::{StoreError, slot::Reader},
};

/// Strands read at a time.
const AT_ONCE: usize = 500;

/// Where a strand waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    Away,
    /// In the ring.
    Ring,
    /// Until a lease of its own ends, or until a time.
    Back,
    Idle,
}

/// The jobs of one fairness key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strand {
    pub seat: Seat,
    pub ready: i64,
    pub running: i64,
}

impl Strand {
    /// `None` = it does not decode.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let seat = match from.byte()? {
            0 => Seat::Away,
            1 => Seat::Ring,
            2 | 3 => Seat::Back,
            4 => Seat::Idle,
            _ => return None,
        };
        Some(Self { seat, ready: from.u32()?.into(), running: from.u32()?.into() })
    }

    /// Whether it stands where it says, and has a place if it has jobs to hand out.
    pub fn is_placed(&self, fair: FairKey, places: &Places) -> bool {
        match self.seat {
            // Whatever it has READY may have expired.
            Seat::Away | Seat::Idle => !places.ring.contains(&fair) && !places.back.contains(&fair),
            Seat::Ring => places.ring.contains(&fair),
            Seat::Back => places.back.contains(&fair),
        }
    }
}

/// Where the strands of a queue are waited for.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub ring: HashSet<FairKey>,
    pub back: HashSet<FairKey>,
}

impl Core {
    /// The strands of a queue; `None` = its jobs are not kept apart.
    pub(super) async fn strands(
        &self,
        shard: Shard,
        queue: u32,
    ) -> Result<Option<HashMap<FairKey, Strand>>, StoreError> {
        let mut strands = HashMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut pipe = Pipeline::new();
            pipe.cmd("HEXISTS").arg(self.layout.key(shard, "ko")).arg(hex(queue));
            let key = self.layout.key(shard, format_args!("k:{}", hex(queue)));
            pipe.cmd("HSCAN").arg(key).arg(&cursor).arg("COUNT").arg(AT_ONCE);
            let answers = self.run(shard, pipe).await?;
            if value::int(&answers[0])? == 0 {
                return Ok(None);
            }
            let [next, found] = value::list(&answers[1])? else { return Err(value::unexpected(&answers[1])) };
            for (fair, packed) in super::docs::pairs(found)? {
                let strand = Strand::read(&value::bytes(packed)?).ok_or_else(|| value::unexpected(packed))?;
                strands.insert(fair_key(fair)?, strand);
            }
            cursor = value::text(next)?;
            if cursor == "0" {
                return Ok(Some(strands));
            }
        }
    }

    /// As they are at one moment, or nearly: whoever decides on them looks again.
    pub(super) async fn places(&self, shard: Shard, queue: u32) -> Result<Places, StoreError> {
        let mut pipe = Pipeline::new();
        pipe.cmd("LRANGE").arg(self.layout.key(shard, format_args!("kr:{}", hex(queue)))).arg(0).arg(-1);
        pipe.cmd("ZRANGE").arg(self.layout.key(shard, format_args!("kp:{}", hex(queue)))).arg(0).arg(-1);
        let answers = self.run(shard, pipe).await?;
        let keys = |answer: &Value| value::list(answer)?.iter().map(fair_key).collect::<Result<_, StoreError>>();
        Ok(Places { ring: keys(&answers[0])?, back: keys(&answers[1])? })
    }

    /// How often this hint stands in the READY list of a fairness key.
    pub(super) async fn times_in_line(&self, shard: Shard, line: &[u8], hint: &[u8]) -> Result<usize, StoreError> {
        let mut pipe = Pipeline::new();
        let key = [self.layout.key(shard, "").as_bytes(), line].concat();
        pipe.cmd("LPOS").arg(key).arg(hint).arg("COUNT").arg(0);
        Ok(value::list(&self.run(shard, pipe).await?[0])?.len())
    }
}

/// A fairness key as the scripts write it.
pub(super) fn fair_key(value: &Value) -> Result<FairKey, StoreError> {
    let bytes: Bytes = value::bytes(value)?;
    match bytes.as_ref() {
        [] => Ok(0),
        bytes => bytes.try_into().map(FairKey::from_be_bytes).map_err(|_| value::unexpected(value)),
    }
}

/// A fairness key as people see it.
pub(super) fn called(fair: FairKey) -> String {
    if fair == 0 { "jobs without a fairness key".to_owned() } else { format!("fairness key {fair:016x} (a hash)") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::layout::fair_bytes;

    #[test]
    fn a_strand_reads_as_the_scripts_pack_it() {
        let packed = [3, 7, 0, 0, 0, 2, 1, 0, 0, 5, 0, 1, 0, 0];
        assert_eq!(Strand::read(&packed), Some(Strand { seat: Seat::Back, ready: 7, running: 258 }));
        assert_eq!(Strand::read(&packed[..8]), None);
        assert_eq!(Strand::read(&[9; 14]), None);
        assert_eq!(fair_key(&Value::BulkString(fair_bytes(258).to_vec())).expect("it is one"), 258);
        assert_eq!(fair_key(&Value::BulkString(Vec::new())).expect("it is none"), 0);
    }
}
