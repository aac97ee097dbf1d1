//! Messages as JSON: any method and any message of the contract, without generated code, so that cases can also say what
//! no generated code can: unknown fields, unknown enum values, broken frames.
use std::sync::LazyLock;

use bytes::{Buf as _, BufMut as _, Bytes};
use jobwire_proto::DESCRIPTOR_SET;
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, ReflectMessage as _, SerializeOptions,
    Value as Field,
};
use serde_json::Value;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTOR_SET).expect("the contract's descriptors are sound"));

/// Key of a JSON object whose value, hexadecimal, is appended to the encoded message: fields that this revision of the
/// contract does not know.
pub const UNKNOWN: &str = "@unknown";

/// The method `Service/Method` of package `jobwire.v1`.
pub fn method(name: &str) -> Result<MethodDescriptor, String> {
    let unknown = || format!("there is no method {name}");
    let (service, method) = name.split_once('/').ok_or_else(unknown)?;
    let service = POOL.get_service_by_name(&format!("jobwire.v1.{service}")).ok_or_else(unknown)?;
    service.methods().find(|found| found.name() == method).ok_or_else(unknown)
}

/// A message of package `jobwire.v1`.
pub fn message(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(&format!("jobwire.v1.{name}")).expect("the caller names a message of the contract")
}

/// Encodes protobuf JSON. Names that the message does not have are errors.
pub fn encode(descriptor: MessageDescriptor, json: &Value) -> Result<Bytes, String> {
    let mut plain = json.clone();
    let mut extra = Vec::new();
    take_unknown(&mut plain, &mut Vec::new(), &mut extra)?;
    let name = descriptor.full_name().to_owned();
    let mut message = DynamicMessage::deserialize(descriptor, plain).map_err(|error| format!("{name}: {error}"))?;
    for (path, bytes) in extra {
        at_path(&mut message, &path).merge(bytes.as_slice()).map_err(|error| format!("{UNKNOWN}: {error}"))?;
    }
    Ok(message.encode_to_vec().into())
}

/// Decodes into protobuf JSON. `full`: every field that has no presence is there, with its default too.
pub fn decode(descriptor: MessageDescriptor, bytes: Bytes, full: bool) -> Result<Value, String> {
    let message = DynamicMessage::decode(descriptor, bytes).map_err(|error| error.to_string())?;
    let options = SerializeOptions::new().skip_default_fields(!full).stringify_64_bit_integers(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| error.to_string())
}

#[derive(Clone, Debug)]
enum Hop {
    Name(String),
    Index(usize),
}

fn take_unknown(json: &mut Value, path: &mut Vec<Hop>, out: &mut Vec<(Vec<Hop>, Vec<u8>)>) -> Result<(), String> {
    match json {
        Value::Object(object) => {
            if let Some(hex) = object.remove(UNKNOWN) {
                out.push((path.clone(), bytes_of(hex.as_str().unwrap_or_default())?));
            }
            for (name, value) in object {
                path.push(Hop::Name(name.clone()));
                take_unknown(value, path, out)?;
                path.pop();
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(Hop::Index(index));
                take_unknown(item, path, out)?;
                path.pop();
            }
        }
        _ => {}
    }
    Ok(())
}

fn bytes_of(hex: &str) -> Result<Vec<u8>, String> {
    let bad = || format!("{UNKNOWN}: {hex:?} is not hexadecimal");
    if hex.is_empty() || !hex.is_ascii() || !hex.len().is_multiple_of(2) {
        return Err(bad());
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| bad())).collect()
}

/// The message at the end of `path`, which came from JSON that this message was made from.
fn at_path<'a>(message: &'a mut DynamicMessage, path: &[Hop]) -> &'a mut DynamicMessage {
    let Some((Hop::Name(name), rest)) = path.split_first() else { return message };
    let field =
        message.descriptor().get_field_by_json_name(name).or_else(|| message.descriptor().get_field_by_name(name));
    let value = message.get_field_mut(&field.expect("the field was just set"));
    match (value, rest) {
        (Field::List(items), [Hop::Index(index), rest @ ..]) => {
            at_path(items[*index].as_message_mut().expect("only messages have unknown fields"), rest)
        }
        (value, rest) => at_path(value.as_message_mut().expect("only messages have unknown fields"), rest),
    }
}

/// Messages as the bytes they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_becomes_a_message_and_comes_back() {
        let frame = json!({"seq": 2, "outcomes": [{"leaseToken": "t", "succeeded": {}}], "state": 99});
        let bytes = encode(message("StreamJobsRequest"), &frame).expect("a frame");
        let back = decode(message("StreamJobsRequest"), bytes, false).expect("a frame");
        assert_eq!((&back["seq"], &back["state"]), (&json!(2), &json!(99)));
        assert!(encode(message("StreamJobsRequest"), &json!({"sequence": 2})).is_err());
    }

    #[test]
    fn unknown_fields_reach_the_wire_at_any_depth() {
        let frame = json!({"outcomes": [{"leaseToken": "t", "@unknown": "fa0601"}], "@unknown": "f8071e"});
        // Field 111 is a length-delimited one of one byte, which is missing.
        assert!(encode(message("StreamJobsRequest"), &frame).is_err());
        let frame = json!({"outcomes": [{"leaseToken": "t", "@unknown": "fa060141"}], "@unknown": "f8071e"});
        let bytes = encode(message("StreamJobsRequest"), &frame).expect("a frame");
        assert_eq!(&bytes[..], b"\x12\x07\x0a\x01t\xfa\x06\x01A\xf8\x07\x1e");
    }

    #[test]
    fn methods_are_found_by_name() {
        assert_eq!(method("JobService/Enqueue").expect("it exists").input().name(), "EnqueueRequest");
        assert!(method("JobService/Dequeue").is_err());
        assert!(method("Nonsense").is_err());
    }
}
