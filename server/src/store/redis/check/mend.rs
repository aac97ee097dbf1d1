//! Changing what was found, only while its record is the one that was looked at.
use bytes::Bytes;
use redis::Value;

use super::Look;
use crate::{
    model::ids::JobId,
    store::{StoreError, redis::scripts::MEND},
};

impl Look<'_> {
    /// Runs the commands (name, key without the shard, arguments) in one step. What was done, or why it was not.
    pub(super) async fn mend(
        &self,
        id: JobId,
        record: &[u8],
        commands: &[Vec<Vec<u8>>],
        done: String,
    ) -> Result<Result<String, String>, StoreError> {
        if !self.mends() {
            return Ok(Ok(done));
        }
        let mut args = self.core.times();
        args.push(Bytes::copy_from_slice(id.as_bytes()));
        args.push(Bytes::copy_from_slice(record));
        for command in commands {
            let [name, key, rest @ ..] = command.as_slice() else { continue };
            args.push(name.clone().into());
            args.push(key.clone().into());
            args.push(rest.len().to_string().into());
            args.extend(rest.iter().cloned().map(Bytes::from));
        }
        Ok(match self.core.eval(self.shard, &MEND, &args).await? {
            Value::Int(1) => Ok(done),
            _ => Err(changed()),
        })
    }
}

/// Why something was left alone.
pub(super) fn changed() -> String {
    "the job has changed meanwhile: check again".to_owned()
}
