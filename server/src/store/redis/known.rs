//! Records as they were seen last, so that a change of a job in hand needs one call instead of two. Only ever a guess: Redis
//! makes a change only if the guess is right.
use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::Core;
use crate::model::{ids::JobId, state::State};

/// Records in one generation; two are kept, so about 20 MB at most.
const GENERATION: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<JobId, Bytes>,
    old: HashMap<JobId, Bytes>,
}

impl Core {
    /// What is known of these.
    pub(super) fn recall(&self, ids: &[JobId]) -> HashMap<JobId, Option<Bytes>> {
        let known = self.known.0.lock();
        let find =
            |id: &JobId| known.young.get(id).or_else(|| known.old.get(id)).map(|record| (*id, Some(record.clone())));
        ids.iter().filter_map(find).collect()
    }

    /// Jobs in hand.
    pub(super) fn remember(&self, records: Vec<(JobId, Bytes)>) {
        let mut known = self.known.0.lock();
        for (id, record) in records {
            known.young.insert(id, record);
        }
        if known.young.len() > GENERATION {
            known.old = std::mem::take(&mut known.young);
        }
    }

    /// Keeps what was seen of running jobs and forgets the others: nobody will speak of them soon.
    pub(super) fn learn(&self, records: HashMap<JobId, Option<Bytes>>) {
        let running = |record: &Bytes| record.get(1) == Some(&(State::Running as u8));
        let mut known = self.known.0.lock();
        for (id, record) in records {
            match record.filter(running) {
                Some(record) => _ = known.young.insert(id, record),
                None => {
                    known.young.remove(&id);
                    known.old.remove(&id);
                }
            }
        }
    }

    pub(super) fn forget_all(&self) {
        *self.known.0.lock() = Generations::default();
    }
}
