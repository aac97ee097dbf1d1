//! Reading answers. What has another shape than it must have is a bug, or a Redis that is none: it is logged and becomes
//! `Unavailable`.
use bytes::Bytes;
use redis::Value;

use super::record::Damaged;
use crate::{model::ids::JobId, store::StoreError};

pub(super) fn unexpected(value: &Value) -> StoreError {
    let mut shape = format!("{value:?}");
    shape.truncate(200);
    tracing::error!(answer = shape, "Redis answered in a shape that was not expected");
    StoreError::Unavailable("Redis gave an answer that makes no sense".to_owned())
}

pub(super) fn damaged(damaged: Damaged) -> StoreError {
    tracing::error!("{damaged}");
    StoreError::Unavailable(damaged.to_string())
}

pub(super) fn bytes(value: &Value) -> Result<Bytes, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(Bytes::copy_from_slice(bytes)),
        Value::SimpleString(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        other => Err(unexpected(other)),
    }
}

/// `None` = there is none.
pub(super) fn maybe(value: &Value) -> Result<Option<Bytes>, StoreError> {
    match value {
        Value::Nil | Value::Boolean(false) => Ok(None),
        value => bytes(value).map(Some),
    }
}

pub(super) fn text(value: &Value) -> Result<String, StoreError> {
    String::from_utf8(bytes(value)?.to_vec()).map_err(|_| unexpected(value))
}

pub(super) fn int(value: &Value) -> Result<i64, StoreError> {
    match value {
        Value::Int(int) => Ok(*int),
        Value::BulkString(_) | Value::SimpleString(_) => text(value)?.parse().map_err(|_| unexpected(value)),
        Value::Nil => Ok(0),
        other => Err(unexpected(other)),
    }
}

/// A score: whole milliseconds or places, so it fits.
pub(super) fn score(value: &Value) -> Result<i64, StoreError> {
    match value {
        Value::Double(score) => Ok(*score as i64),
        value => text(value)?.parse::<f64>().map(|score| score as i64).map_err(|_| unexpected(value)),
    }
}

pub(super) fn list(value: &Value) -> Result<&[Value], StoreError> {
    match value {
        Value::Array(list) | Value::Set(list) => Ok(list),
        Value::Nil => Ok(&[]),
        other => Err(unexpected(other)),
    }
}

pub(super) fn id(value: &Value) -> Result<JobId, StoreError> {
    let bytes = bytes(value)?;
    // A hint has its serial behind the id.
    let bytes: [u8; 16] = bytes.get(..16).and_then(|id| id.try_into().ok()).ok_or_else(|| unexpected(value))?;
    Ok(JobId::from_bytes(bytes))
}

pub(super) fn ids(value: &Value) -> Result<Vec<JobId>, StoreError> {
    list(value)?.iter().map(id).collect()
}
