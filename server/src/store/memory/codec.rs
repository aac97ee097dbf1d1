//! How the machine spells its records. Little-endian, a version byte first; a reader refuses what it does not know.
//!
//! `Meta` (version 1), 99 bytes: `version 1 · id 16 · state 1 · priority 1 · flags 2 · queue 4 · type 4 · order 8 · create 6 ·
//! ready 6 · start 6 · finish 6 · purge 6 · token 8 · content 8 · record version 4 · failures 4 · delivery 4 · body bytes 4`,
//! then the hash of the fairness key (8) with its flag, and, for the few jobs that have them, a postcard of (crashes, expiry,
//! cancel request), the hash of the uniqueness key, the deadline and the flows that watch
//! the job.
//!
//! I24: a version byte in front, so that a server meets a newer record with a refusal.
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::store::slot::{Extra, Reader, Slot, Stamp, flag};
use crate::{
    model::{
        ids::JobId,
        job::CancelRequest,
        op::KeyHash,
        queue::{Configured, Pause},
        state::State,
    },
    store::Doc,
};

/// A record that does not decode, or contradicts another one. Says which and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Corrupt(pub String);

const VERSION: u8 = 1;
const META_BYTES: usize = 99;
/// Records are cut from buffers of this size.
const BUFFER: usize = 64 << 10;
/// What lasts longer than a lease: the log's range is found again from the lines themselves.
const KEPT_FLAGS: u16 = !(flag::LOG | flag::FREE);

#[derive(Serialize, Deserialize)]
struct Rare {
    crashes: u32,
    expire_ms: i64,
    cancel: Option<CancelRequest>,
}

/// Writes records into shared buffers: one allocation for hundreds of them.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    buffer: BytesMut,
    scratch: Vec<u8>,
}

impl Encoder {
    pub fn meta(&mut self, slot: &Slot) -> Bytes {
        self.scratch.clear();
        if slot.has(flag::KEYED) {
            self.scratch.put_u64_le(slot.fair);
        }
        if let Some(extra) = slot.extra.as_deref() {
            let rare = Rare { crashes: extra.crashes, expire_ms: extra.expire_ms, cancel: extra.cancel.clone() };
            self.spell(&rare);
            if slot.has_key() {
                self.spell(&extra.unique);
            }
            if slot.has(flag::DEADLINE) {
                self.spell(&extra.deadline_ms);
            }
            if slot.has(flag::WATCHED) {
                self.spell(&extra.owners);
            }
        }
        let mut fixed = [0; META_BYTES];
        let mut out = fixed.as_mut_slice();
        out.put_u8(VERSION);
        out.put_slice(slot.id.as_bytes());
        out.put_u8(slot.state as u8);
        out.put_i8(slot.priority);
        out.put_u16_le(slot.flags & KEPT_FLAGS);
        out.put_u32_le(slot.queue);
        out.put_u32_le(slot.kind);
        out.put_i64_le(slot.order);
        let purge = if slot.state.is_terminal() { slot.until } else { Stamp::default() };
        for stamp in [slot.create, slot.ready, slot.start, slot.finish, purge] {
            out.put_slice(&stamp.bytes());
        }
        out.put_u64_le(slot.token);
        out.put_u64_le(slot.content);
        for number in [slot.version, slot.failures, slot.delivery, slot.body_bytes] {
            out.put_u32_le(number);
        }
        debug_assert!(out.is_empty(), "the layout fills its size");
        self.cut(&fixed)
    }

    /// A side record. Whoever keeps it in memory for long should copy it out of the shared buffer.
    pub fn side<T: Serialize>(&mut self, value: &T) -> Bytes {
        self.scratch.clear();
        self.spell(value);
        self.cut(&[])
    }

    fn spell<T: Serialize>(&mut self, value: &T) {
        let scratch = std::mem::take(&mut self.scratch);
        self.scratch = postcard::to_extend(value, scratch).expect("plain data always encodes");
    }

    /// `head`, then what was spelled.
    fn cut(&mut self, head: &[u8]) -> Bytes {
        let size = head.len() + self.scratch.len();
        if self.buffer.capacity() < size {
            self.buffer = BytesMut::with_capacity(BUFFER.max(size));
        }
        self.buffer.extend_from_slice(head);
        self.buffer.extend_from_slice(&self.scratch);
        self.buffer.split().freeze()
    }
}

/// The slot that a `Meta` record describes.
pub(super) fn read_meta(row: u64, value: &[u8]) -> Result<Slot, Corrupt> {
    if value.first().is_some_and(|version| *version > VERSION) {
        return Err(Corrupt(format!("job record {row} has the newer format {}", value[0])));
    }
    fields(row, value).ok_or_else(|| Corrupt(format!("job record {row} does not decode")))
}

fn fields(row: u64, value: &[u8]) -> Option<Slot> {
    let mut from = Reader(value);
    if from.byte()? != VERSION || row > Stamp::MAX as u64 {
        return None;
    }
    let id = JobId::from_bytes(from.take()?);
    let state = from.byte()?;
    let state = State::ALL.into_iter().find(|known| *known as u8 == state)?;
    let priority = from.byte()? as i8;
    if !(-4..=4).contains(&priority) {
        return None;
    }
    let mut slot = Slot {
        id,
        row: Stamp::new(row as i64),
        state,
        priority,
        flags: from.u16()? & KEPT_FLAGS,
        queue: from.u32()?,
        kind: from.u32()?,
        order: from.u64()? as i64,
        create: from.stamp()?,
        ready: from.stamp()?,
        start: from.stamp()?,
        finish: from.stamp()?,
        until: from.stamp()?,
        token: from.u64()?,
        content: from.u64()?,
        version: from.u32()?,
        failures: from.u32()?,
        delivery: from.u32()?,
        body_bytes: from.u32()?,
        fair: 0,
        extra: None,
    };
    if slot.has(flag::KEYED) {
        slot.fair = from.u64()?;
    }
    if !from.0.is_empty() {
        let (rare, rest): (Rare, &[u8]) = postcard::take_from_bytes(from.0).ok()?;
        let Rare { crashes, expire_ms, cancel } = rare;
        let (unique, rest): (KeyHash, _) = optional(slot.has_key(), rest)?;
        let (deadline_ms, rest) = optional(slot.has(flag::DEADLINE), rest)?;
        let (owners, rest) = optional(slot.has(flag::WATCHED), rest)?;
        if !rest.is_empty() {
            return None;
        }
        let extra = Extra { crashes, expire_ms, deadline_ms, cancel, unique, owners, ..Extra::default() };
        slot.extra = Some(Box::new(extra));
    }
    Some(slot)
}

/// A part that is there if the flag says so.
fn optional<'a, T: Default + Deserialize<'a>>(there: bool, bytes: &'a [u8]) -> Option<(T, &'a [u8])> {
    if there { postcard::take_from_bytes(bytes).ok() } else { Some((T::default(), bytes)) }
}

/// What is kept of a name: its number and, for a queue, its pause and its configuration.
#[derive(Debug, PartialEq)]
pub(super) struct NameRecord {
    pub number: u32,
    pub pause: Option<Pause>,
    pub config: Option<Configured>,
}

impl NameRecord {
    pub fn new(number: u32) -> Self {
        Self { number, pause: None, config: None }
    }
}

pub(super) fn write_name(record: &NameRecord) -> Bytes {
    let spelled = postcard::to_extend(&(record.number, &record.pause), vec![VERSION]);
    let with_config = |bytes| match &record.config {
        None => Ok(bytes),
        Some(config) => postcard::to_extend(config, bytes),
    };
    spelled.and_then(with_config).expect("plain data always encodes").into()
}

pub(super) fn read_name(value: &[u8]) -> Option<NameRecord> {
    let (version, rest) = value.split_first()?;
    if *version != VERSION {
        return None;
    }
    let ((number, pause), rest) = postcard::take_from_bytes(rest).ok()?;
    let config = if rest.is_empty() { None } else { Some(postcard::from_bytes(rest).ok()?) };
    Some(NameRecord { number, pause, config })
}

/// A document that has a time.
const TIMED: u8 = 2;

/// `version byte · document version 8 · value`; with a time the version byte is 2, and 8 bytes of it stand before the value.
pub(super) fn write_doc(doc: &Doc) -> Bytes {
    let mut out = BytesMut::with_capacity(17 + doc.value.len());
    out.put_u8(if doc.due_ms == 0 { VERSION } else { TIMED });
    out.put_u64_le(doc.version);
    if doc.due_ms != 0 {
        out.put_i64_le(doc.due_ms);
    }
    out.put_slice(&doc.value);
    out.freeze()
}

pub(super) fn read_doc(value: &[u8]) -> Option<Doc> {
    let mut from = Reader(value);
    let format = from.byte()?;
    if format != VERSION && format != TIMED {
        return None;
    }
    let version = from.u64()?;
    let due_ms = if format == TIMED { from.u64()? as i64 } else { 0 };
    Some(Doc { version, due_ms, value: Bytes::copy_from_slice(from.0) })
}

/// Keys of named records.
pub(super) mod named {
    pub const QUEUE: &str = "queue/";
    pub const TYPE: &str = "type/";
    pub const DOC: &str = "doc/";
    /// A queue, or a fairness key of it, that is left alone for a time.
    pub const THROTTLE: &str = "throttle/";
    /// A key that is held for a time.
    pub const KEY: &str = "key/";
    /// The highest version of a document that was deleted.
    pub const DOC_VERSION: &str = "docs";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(extra: Option<Extra>) -> Slot {
        Slot {
            id: JobId::from_bytes([0xab; 16]),
            row: Stamp::new(7),
            order: -2,
            token: 0x0102_0304_0506_0708,
            content: u64::MAX,
            fair: 0,
            extra: extra.map(Box::new),
            create: Stamp::new(1_764_000_000_000),
            ready: Stamp::new(1_764_000_000_001),
            start: Stamp::new(1_764_000_000_002),
            finish: Stamp::new(1_764_000_000_003),
            until: Stamp::new(1_764_003_600_003),
            queue: 3,
            kind: 4,
            version: 5,
            failures: 6,
            delivery: 7,
            body_bytes: 8,
            state: State::Dead,
            priority: -4,
            flags: flag::LEASED | flag::SETTLED | flag::OUTCOME,
        }
    }

    fn rare() -> Extra {
        let cancel = CancelRequest { reason: "enough".to_owned(), request_ms: 9, deadline_ms: Some(10) };
        Extra { crashes: 2, expire_ms: 11, cancel: Some(cancel), ..Extra::default() }
    }

    #[test]
    fn a_job_record_reads_back() {
        let mut encoder = Encoder::default();
        for (extra, size) in [(None, META_BYTES), (Some(rare()), META_BYTES + 13)] {
            let slot = slot(extra);
            let bytes = encoder.meta(&slot);
            assert_eq!(bytes.len(), size);
            let read = read_meta(7, &bytes).expect("it was just written");
            assert_eq!(format!("{read:?}"), format!("{slot:?}"));
        }
    }

    #[test]
    fn keys_and_deadlines_read_back() {
        let mut encoder = Encoder::default();
        for flags in [flag::UNIQUE, flag::UNTIL_STARTED, flag::DEADLINE, flag::UNIQUE | flag::DEADLINE] {
            let unique = if flags == flag::DEADLINE { KeyHash::default() } else { [5; 16] };
            let deadline_ms = if flags & flag::DEADLINE == 0 { 0 } else { 70 };
            let slot = Slot { flags, ..slot(Some(Extra { unique, deadline_ms, ..rare() })) };
            let read = read_meta(7, &encoder.meta(&slot)).expect("it was just written");
            assert_eq!(format!("{read:?}"), format!("{slot:?}"));
        }
    }

    /// The format of version 1 as it lies in stores that are out there.
    #[test]
    fn the_format_stays() {
        let bytes = Encoder::default().meta(&slot(Some(rare())));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = concat!(
            "01",
            "abababababababababababababababab",
            "07",
            "fc",
            "2300",
            "03000000",
            "04000000",
            "feffffffffffffff",
            "00e897b69a01",
            "01e897b69a01",
            "02e897b69a01",
            "03e897b69a01",
            "83d6ceb69a01",
            "0807060504030201",
            "ffffffffffffffff",
            "05000000",
            "06000000",
            "07000000",
            "08000000",
            "0216",
            "0106656e6f756768120114",
        );
        assert_eq!(hex, expected);
    }

    #[test]
    fn what_is_cut_or_unknown_is_refused() {
        let whole = Encoder::default().meta(&slot(Some(rare())));
        for length in (0..whole.len()).filter(|length| *length != META_BYTES) {
            assert!(read_meta(7, &whole[..length]).is_err(), "{length} bytes");
        }
        for (at, byte) in [(0, 0), (17, 0), (17, 11), (18, 5)] {
            let mut bad = whole.to_vec();
            bad[at] = byte;
            assert!(read_meta(7, &bad).is_err(), "byte {at} = {byte}");
        }
        let mut newer = whole.to_vec();
        newer[0] = 2;
        assert!(read_meta(7, &newer).expect_err("it is newer").0.contains("newer format 2"));
    }

    #[test]
    fn names_and_documents_read_back() {
        let pause = Pause { reason: "r".to_owned(), actor: "a".to_owned(), pause_ms: 1, resume_ms: Some(2) };
        let record = NameRecord { number: 300, pause: Some(pause), config: None };
        assert_eq!(read_name(&write_name(&record)), Some(record));
        let record =
            NameRecord { config: Some(Configured { version: 3, config: Box::default() }), ..NameRecord::new(7) };
        assert_eq!(read_name(&write_name(&record)), Some(record));
        assert_eq!(read_name(&[9, 1]), None);
        for due_ms in [0, 1_764_000_000_000] {
            let doc = Doc { version: 5, due_ms, value: Bytes::from_static(b"x") };
            assert_eq!(read_doc(&write_doc(&doc)), Some(doc));
        }
        assert_eq!(read_doc(&[1, 2]), None);
        assert_eq!(read_doc(&[2, 1, 0, 0, 0, 0, 0, 0, 0, 9]), None, "its time is cut");
        assert_eq!(read_doc(&[3, 1, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
