//! A job's record as it lies in `m`: little-endian, two formats. Format 1 (43 bytes) is a job that was never leased and has
//! nothing out of the ordinary, so that millions of waiting jobs stay small; format 2 is every other. `lua/common.lua` names
//! the fields; a claim writes format 2 by itself.
//!
//! I24: a format byte in front, so that a server meets a newer record with a refusal.
use bytes::{BufMut, Bytes, BytesMut};
use redis::Value;
use serde::{Deserialize, Serialize};

use super::value;
use crate::{
    model::{
        ids::JobId,
        job::CancelRequest,
        op::{FairKey, KeyHash},
        state::State,
    },
    store::{
        StoreError,
        slot::{Extra, Reader, Slot, Stamp, flag},
    },
};

const FRESH: u8 = 1;
const FULL: u8 = 2;
const FRESH_BYTES: usize = 43;
const FULL_BYTES: usize = 85;

/// A record that does not decode.
#[derive(Debug, thiserror::Error)]
#[error("the record of job {0} is damaged, or of a newer format")]
pub(super) struct Damaged(pub JobId);

/// What few jobs have, as postcard at the end of format 2.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Rest {
    cancel: Option<CancelRequest>,
}

/// The serial of the job's hint: only the hint that carries it stands for the job. Kept in `row`, which is the store's own.
pub(super) fn hint(slot: &Slot) -> u16 {
    slot.row.get() as u16
}

/// A hint as it lies in a list: the job and the serial.
pub(super) fn read_hint(hint: &Value) -> Result<(JobId, u16), StoreError> {
    let bytes = value::bytes(hint)?;
    let serial = bytes.get(16..18).map_or(0, |serial| u16::from_le_bytes([serial[0], serial[1]]));
    Ok((value::id(hint)?, serial))
}

/// The same for the job in this slot.
pub(super) fn write_hint(slot: &Slot) -> Vec<u8> {
    [slot.id.as_bytes().as_slice(), &hint(slot).to_le_bytes()].concat()
}

pub(super) fn next_hint(slot: &mut Slot) {
    slot.row = Stamp::new(i64::from(hint(slot).wrapping_add(1)));
}

pub(super) fn encode(slot: &Slot) -> Bytes {
    let purge = if slot.state.is_terminal() { slot.until } else { Stamp::default() };
    let rest = Rest { cancel: slot.cancel().cloned() };
    let fresh = slot.delivery == 0
        && slot.failures == 0
        && slot.crashes() == 0
        && slot.expire_ms() == 0
        && slot.start == Stamp::default()
        && slot.finish == Stamp::default()
        && purge == Stamp::default()
        && slot.token == 0
        && !slot.has_key()
        && !slot.has(flag::KEYED)
        && !slot.has(flag::DEADLINE)
        && !slot.has(flag::WATCHED)
        && rest == Rest::default();
    let mut out = BytesMut::with_capacity(if fresh { FRESH_BYTES } else { FULL_BYTES + 16 });
    out.put_u8(if fresh { FRESH } else { FULL });
    out.put_u8(slot.state as u8);
    out.put_u8(slot.level() as u8);
    out.put_u16_le(slot.flags);
    out.put_u16_le(hint(slot));
    out.put_u32_le(slot.queue);
    out.put_u32_le(slot.kind);
    out.put_u32_le(slot.version);
    out.put_u32_le(slot.body_bytes);
    out.put_slice(&slot.create.bytes());
    out.put_slice(&slot.ready.bytes());
    out.put_u64_le(slot.content);
    if !fresh {
        // What a claim looks at: with a deadline, whichever is earlier. Both stand behind, then.
        let expiry = if slot.has(flag::DEADLINE) { slot.expiry().unwrap_or(0) } else { slot.expire_ms() };
        out.put_slice(&Stamp::new(expiry).bytes());
        out.put_u32_le(slot.failures);
        out.put_u16_le(slot.crashes().try_into().unwrap_or(u16::MAX));
        out.put_u32_le(slot.delivery);
        out.put_slice(&slot.start.bytes());
        out.put_slice(&slot.finish.bytes());
        out.put_slice(&purge.bytes());
        out.put_u64_le(slot.token);
        if slot.has_key() {
            out.extend_from_slice(&slot.extra.as_ref().map_or_else(KeyHash::default, |extra| extra.unique));
        }
        if slot.has(flag::KEYED) {
            out.put_u64(slot.fair);
        }
        if let Some(deadline) = slot.deadline() {
            out.put_slice(&Stamp::new(slot.expire_ms()).bytes());
            out.put_slice(&Stamp::new(deadline).bytes());
        }
        if slot.has(flag::WATCHED) {
            out.put_u16_le(slot.owners().len() as u16);
            slot.owners().iter().for_each(|owner| out.put_slice(owner.as_bytes()));
        }
        if rest != Rest::default() {
            out.extend_from_slice(&postcard::to_stdvec(&rest).expect("plain data always encodes"));
        }
    }
    out.freeze()
}

pub(super) fn decode(id: JobId, bytes: &[u8]) -> Result<Slot, Damaged> {
    fields(id, bytes).ok_or(Damaged(id))
}

fn fields(id: JobId, bytes: &[u8]) -> Option<Slot> {
    let mut from = Reader(bytes);
    let [format, state, level] = from.take::<3>()?;
    let state = State::ALL.into_iter().find(|known| *known as u8 == state)?;
    let mut slot = Slot {
        id,
        state,
        priority: 4 - i8::try_from(level).ok().filter(|level| *level <= 8)?,
        flags: from.u16()?,
        row: Stamp::new(i64::from(from.u16()?)),
        queue: from.u32()?,
        kind: from.u32()?,
        version: from.u32()?,
        body_bytes: from.u32()?,
        create: from.stamp()?,
        ready: from.stamp()?,
        content: from.u64()?,
        ..Slot::free()
    };
    if format == FULL {
        let mut expire_ms = from.stamp()?.get();
        slot.failures = from.u32()?;
        let crashes = u32::from(from.u16()?);
        slot.delivery = from.u32()?;
        slot.start = from.stamp()?;
        slot.finish = from.stamp()?;
        slot.until = from.stamp()?;
        slot.token = from.u64()?;
        let unique = if slot.has_key() { from.take()? } else { KeyHash::default() };
        slot.fair = if slot.has(flag::KEYED) { FairKey::from_be_bytes(from.take()?) } else { 0 };
        let mut deadline_ms = 0;
        if slot.has(flag::DEADLINE) {
            expire_ms = from.stamp()?.get();
            deadline_ms = from.stamp()?.get();
        }
        let owners = if slot.has(flag::WATCHED) { owners(&mut from)? } else { Vec::new() };
        let rest: Rest = if from.0.is_empty() { Rest::default() } else { postcard::from_bytes(from.0).ok()? };
        let extra = Extra { crashes, expire_ms, deadline_ms, cancel: rest.cancel, unique, owners, ..Extra::default() };
        slot.extra = (slot.has_key() || extra != Extra::default()).then(|| Box::new(extra));
    } else if format != FRESH || !from.0.is_empty() {
        return None;
    }
    (!slot.has(flag::FREE)).then_some(slot)
}

fn owners(from: &mut Reader<'_>) -> Option<Vec<JobId>> {
    (0..from.u16()?).map(|_| from.take().map(JobId::from_bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Slot {
        Slot {
            id: JobId::from_bytes([7; 16]),
            row: Stamp::new(513),
            content: u64::MAX - 1,
            create: Stamp::new(1_764_000_000_000),
            ready: Stamp::new(1_764_000_000_001),
            queue: 0xdead_beef,
            kind: 9,
            version: 1,
            body_bytes: 300,
            priority: -4,
            flags: 0,
            ..Slot::free()
        }
    }

    #[test]
    fn records_read_back_and_waiting_ones_are_small() {
        let slot = fresh();
        let bytes = encode(&slot);
        assert_eq!(bytes.len(), FRESH_BYTES);
        assert_eq!(format!("{:?}", decode(slot.id, &bytes).expect("it was just written")), format!("{slot:?}"));

        let cancel = CancelRequest { reason: "enough".to_owned(), request_ms: 1, deadline_ms: Some(2) };
        let full = Slot {
            state: State::Dead,
            flags: flag::LEASED | flag::SETTLED | flag::KEYED,
            fair: 0x0102_0304_0506_0708,
            token: 0x0102_0304_0506_0708,
            failures: 3,
            delivery: 4,
            start: Stamp::new(5),
            finish: Stamp::new(6),
            until: Stamp::new(7),
            extra: Some(Box::new(Extra { crashes: 2, expire_ms: 8, cancel: Some(cancel), ..Extra::default() })),
            ..fresh()
        };
        let bytes = encode(&full);
        assert_eq!(format!("{:?}", decode(full.id, &bytes).expect("it was just written")), format!("{full:?}"));
    }

    #[test]
    fn a_deadline_stands_behind_and_what_comes_first_in_front() {
        let with = |expire_ms, flags| Slot {
            flags: flags | flag::DEADLINE | flag::UNIQUE,
            extra: Some(Box::new(Extra { expire_ms, deadline_ms: 70, unique: [5; 16], ..Extra::default() })),
            ..fresh()
        };
        for (slot, first) in [(with(0, 0), 70), (with(60, 0), 60), (with(80, 0), 70), (with(60, flag::BEGUN), 70)] {
            let bytes = encode(&slot);
            assert_eq!(Stamp::new(first).bytes(), bytes[FRESH_BYTES..FRESH_BYTES + 6], "what a claim looks at");
            assert_eq!(format!("{:?}", decode(slot.id, &bytes).expect("it was just written")), format!("{slot:?}"));
        }
    }

    /// The formats as they lie in stores that are out there.
    #[test]
    fn the_formats_stay() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let waiting = "0103080000\
                       0102efbeadde09000000010000002c01000000e897b69a0101e897b69a01feffffffffffffff";
        assert_eq!(hex(&encode(&fresh())), waiting);
        let leased = Slot { delivery: 1, token: 1, ..fresh() };
        assert_eq!(
            hex(&encode(&leased)),
            format!("02{}{}01000000{}0100000000000000", &waiting[2..], "0".repeat(24), "0".repeat(36))
        );
        let extra = Extra { unique: [9; 16], ..Extra::default() };
        let flags = flag::UNIQUE | flag::KEYED;
        let keyed = Slot { flags, fair: 258, extra: Some(Box::new(extra)), ..fresh() };
        let bytes = hex(&encode(&keyed));
        assert_eq!(&bytes[..10], "0203080014");
        assert_eq!(&bytes[170..], format!("{}0000000000000102", "09".repeat(16)));
    }

    #[test]
    fn what_is_cut_or_unknown_is_refused() {
        let id = JobId::from_bytes([7; 16]);
        let bytes = encode(&Slot { delivery: 1, ..fresh() });
        for length in 0..bytes.len() {
            assert!(decode(id, &bytes[..length]).is_err(), "{length} bytes");
        }
        for (at, byte) in [(0, 0), (0, 3), (1, 0), (1, 11), (2, 9)] {
            let mut bad = bytes.to_vec();
            bad[at] = byte;
            assert!(decode(id, &bad).is_err(), "byte {at} = {byte}");
        }
    }
}
