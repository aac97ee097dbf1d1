//! Uniqueness keys: a job that holds one has its entry, and an entry without an end has its job.
use super::Look;
use crate::{
    model::{ids::JobId, op::KeyHash},
    store::{StoreError, redis::value},
};

impl Look<'_> {
    /// Walks over all keys that a job holds itself.
    pub(super) async fn held_keys(&mut self) -> Result<(), StoreError> {
        let mut cursor = "0".to_owned();
        loop {
            let (next, found) = self.scan("HSCAN", "u", &cursor).await?;
            let mut held: Vec<(JobId, KeyHash)> = Vec::new();
            for pair in found.chunks_exact(2) {
                let (key, holder) = (value::bytes(&pair[0])?, value::bytes(&pair[1])?);
                // A key that is held for a time has the end behind the id.
                if holder.len() == 16
                    && let Ok(key) = key.as_ref().try_into()
                {
                    held.push((value::id(&pair[1])?, key));
                }
            }
            let ids: Vec<JobId> = held.iter().map(|(id, _)| *id).collect();
            for ((id, key), slot) in held.iter().zip(self.core.slots(self.shard, &ids).await?) {
                if slot.and_then(|slot| slot.held_key()) != Some(*key) {
                    self.strange_key(*id, *key).await?;
                }
            }
            cursor = next;
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    /// A suspicion: a key of a job that does not hold it.
    async fn strange_key(&mut self, id: JobId, key: KeyHash) -> Result<(), StoreError> {
        let full = self.key("u");
        let looked = self.look(id, |pipe| _ = pipe.cmd("HGET").arg(&full).arg(&key)).await?;
        let Some((record, slot, holder)) = looked else { return Ok(()) };
        let holder = value::maybe(&holder)?;
        if holder.as_deref() != Some(id.as_bytes().as_slice())
            || slot.as_ref().and_then(|slot| slot.held_key()) == Some(key)
        {
            return Ok(());
        }
        let state = slot.map_or("not there", |slot| slot.state.name());
        let what = format!("a uniqueness key is kept for {id}, which is {state} and does not hold it");
        let commands = [vec![b"HDEL".to_vec(), b"u".to_vec(), key.to_vec()]];
        let mended = self.mend(id, &record, &commands, "the key is free".to_owned()).await?;
        self.found(what, Some(mended));
        Ok(())
    }

    /// A suspicion: a job that holds a key has no entry.
    pub(super) async fn lacks_key(&mut self, id: JobId, key: KeyHash) -> Result<(), StoreError> {
        let full = self.key("u");
        let looked = self.look(id, |pipe| _ = pipe.cmd("HGET").arg(&full).arg(&key)).await?;
        let Some((record, Some(slot), holder)) = looked else { return Ok(()) };
        let holder = value::maybe(&holder)?;
        if slot.held_key() != Some(key) || holder.as_deref() == Some(id.as_bytes().as_slice()) {
            return Ok(());
        }
        let what = format!("{id} is {} and its uniqueness key is not kept", slot.state.name());
        if holder.is_some() {
            let why = "another job has it: delete one of the two with `jobwire job rm`";
            self.found(what, Some(Err(why.to_owned())));
            return Ok(());
        }
        let commands = [vec![b"HSETNX".to_vec(), b"u".to_vec(), key.to_vec(), id.as_bytes().to_vec()]];
        let mended = self.mend(id, &record, &commands, "the job has it again".to_owned()).await?;
        self.found(what, Some(mended));
        Ok(())
    }
}
