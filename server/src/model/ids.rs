//! Identifiers: job ids with their shard stamped in, lease tokens, checked names.
use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A place in the store, 0 to 4,095. Stores that are not spread have one, number 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard(pub u16);

/// A job's id: a UUID whose 12 `rand_a` bits name the shard that keeps the job.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId([u8; 16]);

impl JobId {
    /// The id that a proposal becomes in `shard`. The same proposal gives the same id. A proposal that is not version 7
    /// becomes version 8.
    pub fn stamp(proposal: Uuid, shard: Shard) -> Self {
        let version = if proposal.get_version_num() == 7 { 0x70 } else { 0x80 };
        let mut bytes = proposal.into_bytes();
        bytes[6] = version | ((shard.0 >> 8) as u8 & 0x0f);
        bytes[7] = shard.0 as u8;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// Where the job is kept.
    pub fn shard(self) -> Shard {
        Shard(u16::from(self.0[6] & 0x0f) << 8 | u16::from(self.0[7]))
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for JobId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Uuid::try_parse(text)?.into_bytes()))
    }
}

/// Names one loan of one job. A capability: never logged, never part of a record that leaves the server.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken {
    pub job: JobId,
    /// 64 random bits drawn at the claim; the fence compares them.
    pub secret: u64,
}

/// A lease token that does not decode.
#[derive(Debug, thiserror::Error)]
#[error("not a lease token")]
pub struct BadToken;

impl LeaseToken {
    /// 32 characters: base64url of the id and the secret.
    pub fn encode(&self) -> String {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(self.job.as_bytes());
        bytes[16..].copy_from_slice(&self.secret.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

impl FromStr for LeaseToken {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let mut bytes = [0; 24];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(24) => {}
            _ => return Err(BadToken),
        }
        let (id, secret) = bytes.split_at(16);
        Ok(Self {
            job: JobId(id.try_into().expect("16 of 24 bytes")),
            secret: u64::from_be_bytes(secret.try_into().expect("8 of 24 bytes")),
        })
    }
}

impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseToken({}, …)", self.job)
    }
}

/// A queue, a type, a node, a schedule: `[A-Za-z0-9_.:/-]{1,128}`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name(Arc<str>);

pub type QueueName = Name;
pub type TypeName = Name;

/// A name that is empty, too long or has other characters than it may.
#[derive(Debug, thiserror::Error)]
#[error("must match [A-Za-z0-9_.:/-]{{1,128}}")]
pub struct BadName;

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether every byte of `text` may stand in a name and its length is 1 to 128.
    pub fn is_valid(text: &str) -> bool {
        (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'/' | b'-'))
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if Self::is_valid(text) { Ok(Self(text.into())) } else { Err(BadName) }
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An exact name, or a prefix ending in `*`, as workers write their types and queues.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pattern {
    Exact(Name),
    Prefix(String),
}

impl Pattern {
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.as_str() == name,
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }
}

impl FromStr for Pattern {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        match text.strip_suffix('*') {
            Some("") => Ok(Self::Prefix(String::new())),
            Some(prefix) if Name::is_valid(prefix) => Ok(Self::Prefix(prefix.to_owned())),
            Some(_) => Err(BadName),
            None => text.parse().map(Self::Exact),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_keeps_the_proposal_and_carries_the_shard() {
        let proposal = Uuid::now_v7();
        let id = JobId::stamp(proposal, Shard(0xabc));
        assert_eq!(id.shard(), Shard(0xabc));
        assert_eq!(id, JobId::stamp(proposal, Shard(0xabc)));
        assert_eq!(Uuid::from_bytes(*id.as_bytes()).get_version_num(), 7);
        assert_eq!(id.to_string().parse::<JobId>().expect("an id reads back"), id);
    }

    #[test]
    fn another_version_becomes_8() {
        let id = JobId::stamp(Uuid::new_v4(), Shard(3));
        assert_eq!(Uuid::from_bytes(*id.as_bytes()).get_version_num(), 8);
        assert_eq!(id.shard(), Shard(3));
    }

    #[test]
    fn a_token_reads_back_and_rubbish_does_not() {
        let token = LeaseToken { job: JobId::stamp(Uuid::now_v7(), Shard(0)), secret: u64::MAX - 5 };
        let text = token.encode();
        assert_eq!(text.len(), 32);
        assert_eq!(text.parse::<LeaseToken>().expect("a token reads back"), token);
        for bad in ["", "x", "ünïcödé", &text[..31], &format!("{text}A"), &"!".repeat(32)] {
            assert!(bad.parse::<LeaseToken>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_patterns() {
        assert!("mail.send:v2/x-y_z".parse::<Name>().is_ok());
        for bad in ["", "a b", "ä", &"x".repeat(129)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        assert!("mail*".parse::<Pattern>().expect("a prefix").matches("mail.send"));
        assert!(!"mail".parse::<Pattern>().expect("a name").matches("mail.send"));
        assert!("*".parse::<Pattern>().expect("any").matches("x"));
        assert!("a*b".parse::<Pattern>().is_err());
    }
}
