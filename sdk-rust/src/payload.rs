//! Bodies: JSON in nearly every case, anything else with its media type.

use bytes::Bytes;
use jobwire_proto::v1 as pb;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::errors::Error;

/// A body and the media type that says how to read it. By convention a job's payload is one JSON object, so that every
/// language can read it; a result is any JSON value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Payload {
    body: Option<Body>,
    content_type: String,
    content_encoding: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Body {
    Text(String),
    Data(Bytes),
}

impl Payload {
    /// A JSON body. Fails on what JSON cannot say, such as NaN or maps with keys that are no strings.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        let text = serde_json::to_string(value).map_err(|error| Error::codec("payload", error))?;
        Ok(Self::json_text(text))
    }

    /// A JSON body that is already written down. Not checked.
    pub fn json_text(text: impl Into<String>) -> Self {
        Self { body: Some(Body::Text(text.into())), ..Self::default() }
    }

    /// Bytes with their media type, such as "application/x-protobuf".
    pub fn bytes(data: impl Into<Bytes>, content_type: impl Into<String>) -> Self {
        Self { body: Some(Body::Data(data.into())), content_type: content_type.into(), ..Self::default() }
    }

    /// Names the transformation that was applied to the bytes ("zstd", "aes-256-gcm;kid=7").
    pub fn encoded(mut self, content_encoding: impl Into<String>) -> Self {
        self.content_encoding = content_encoding.into();
        self
    }

    /// The media type; empty means JSON for text and application/octet-stream for bytes.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// The transformation applied, or empty.
    pub fn content_encoding(&self) -> &str {
        &self.content_encoding
    }

    /// Whether there is no body at all.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The body as it is.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.body {
            None => &[],
            Some(Body::Text(text)) => text.as_bytes(),
            Some(Body::Data(data)) => data,
        }
    }

    /// The body, when it is text.
    pub fn as_text(&self) -> Option<&str> {
        match &self.body {
            Some(Body::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Reads a JSON body; no body is read as `null`. Integers stay exact as far as `T` can hold them.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, Error> {
        if !self.content_encoding.is_empty() {
            return Err(Error::codec("payload", format!("encoded as {:?}, decode it first", self.content_encoding)));
        }
        let body = if self.body.is_none() { b"null" } else { self.as_bytes() };
        serde_json::from_slice(body).map_err(|error| Error::codec("payload", error))
    }

    pub(crate) fn into_proto(self) -> pb::Payload {
        pb::Payload {
            body: self.body.map(|body| match body {
                Body::Text(text) => pb::payload::Body::Text(text),
                Body::Data(data) => pb::payload::Body::Data(data),
            }),
            content_type: self.content_type,
            content_encoding: self.content_encoding,
        }
    }

    pub(crate) fn from_proto(payload: pb::Payload) -> Self {
        let body = match payload.body {
            None => None,
            Some(pb::payload::Body::Text(text)) => Some(Body::Text(text)),
            Some(pb::payload::Body::Data(data)) => Some(Body::Data(data)),
            Some(pb::payload::Body::Json(value)) => Some(Body::Text(json_of(&value).to_string())),
        };
        Self { body, content_type: payload.content_type, content_encoding: payload.content_encoding }
    }
}

/// A JSON value as it is.
impl From<serde_json::Value> for Payload {
    fn from(value: serde_json::Value) -> Self {
        Self::json_text(value.to_string())
    }
}

/// A protobuf value as JSON. Whole numbers are written as integers.
pub(crate) fn json_of(value: &prost_types::Value) -> serde_json::Value {
    use prost_types::value::Kind;
    use serde_json::Value as Json;
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() < EXACT_MAX => {
            Json::from(*number as i64)
        }
        Some(Kind::NumberValue(number)) => Json::from(*number),
        Some(Kind::StringValue(text)) => Json::from(text.as_str()),
        Some(Kind::BoolValue(truth)) => Json::from(*truth),
        Some(Kind::StructValue(object)) => struct_to_json(object),
        Some(Kind::ListValue(list)) => Json::Array(list.values.iter().map(json_of).collect()),
    }
}

pub(crate) fn struct_to_json(object: &prost_types::Struct) -> serde_json::Value {
    serde_json::Value::Object(object.fields.iter().map(|(key, value)| (key.clone(), json_of(value))).collect())
}

pub(crate) fn json_to_struct(object: &serde_json::Map<String, serde_json::Value>) -> prost_types::Struct {
    prost_types::Struct { fields: object.iter().map(|(key, value)| (key.clone(), value_of(value))).collect() }
}

fn value_of(json: &serde_json::Value) -> prost_types::Value {
    use prost_types::value::Kind;
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(truth) => Kind::BoolValue(*truth),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => Kind::ListValue(prost_types::ListValue { values: items.iter().map(value_of).collect() }),
        Json::Object(object) => Kind::StructValue(json_to_struct(object)),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn integers_stay_exact() {
        let payload = Payload::json(&json!({"n": 9_007_199_254_740_993_i64})).expect("JSON");
        let back: serde_json::Value = payload.to().expect("JSON");
        assert_eq!(back["n"], json!(9_007_199_254_740_993_i64));
    }

    #[test]
    fn nothing_reads_as_null_and_encoded_bodies_are_refused() {
        assert_eq!(Payload::default().to::<Option<u8>>().expect("null"), None);
        let error = Payload::bytes("x", "").encoded("zstd").to::<u8>().expect_err("encoded");
        assert!(error.to_string().contains("zstd"), "{error}");
    }

    #[test]
    fn objects_survive_protobuf_structs() {
        let object = json!({"k": 1, "list": [true, null, "x", 1.5], "deep": {"a": []}});
        let there = json_to_struct(object.as_object().expect("an object"));
        assert_eq!(struct_to_json(&there), object);
    }

    #[test]
    fn inline_json_is_read_as_text() {
        let value = value_of(&json!({"a": [1]}));
        let payload = pb::Payload { body: Some(pb::payload::Body::Json(value)), ..Default::default() };
        assert_eq!(Payload::from_proto(payload).as_text(), Some(r#"{"a":[1]}"#));
    }
}
