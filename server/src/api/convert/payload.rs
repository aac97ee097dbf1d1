//! Bodies: how they are spelled, and JSON written out for people.
use bytes::Bytes;
use jobwire_proto::v1::{self, payload::Body};
use prost::Message as _;
use prost_types::{ListValue, Struct, Value, value::Kind};

use super::{Ctx, Parsed};
use crate::{
    api::status::{ApiError, Reason},
    model::job::{BodyKind, Payload},
};

/// A media type or encoding.
const TYPE_BYTES: usize = 256;
/// Deeper JSON goes out as text: protobuf readers stop at 100 messages, and each level takes two.
const JSON_DEPTH: usize = 32;
/// JSON that would grow beyond this as a structure goes out as text.
const JSON_BYTES: usize = 1 << 20;

/// Reads a payload of at most `most` bytes. `None` when nothing was sent. `json` is refused unless `ctx` is that of a
/// unary call.
pub fn payload(ctx: Ctx<'_>, field: &str, value: Option<v1::Payload>, most: usize) -> Parsed<Option<Payload>> {
    let Some(v1::Payload { body, content_type, content_encoding }) = value else { return Ok(None) };
    read(ctx, body, content_type, content_encoding, most).map_err(|error| error.within(field))
}

fn read(
    ctx: Ctx<'_>,
    body: Option<Body>,
    content_type: String,
    content_encoding: String,
    most: usize,
) -> Parsed<Option<Payload>> {
    for (field, value) in [("content_type", &content_type), ("content_encoding", &content_encoding)] {
        if value.len() > TYPE_BYTES || value.chars().any(char::is_control) {
            return Err(ApiError::field(field, format!("must be at most {TYPE_BYTES} printable bytes")));
        }
    }
    let encoded = !content_encoding.is_empty();
    let (kind, bytes) = match body {
        None if content_type.is_empty() && !encoded => return Ok(None),
        None => return Err(ApiError::field("", "has a type but no body; set text, data or json")),
        Some(Body::Text(_) | Body::Json(_)) if encoded => {
            return Err(ApiError::field("content_encoding", "goes with data only"));
        }
        Some(Body::Text(text)) => {
            let kind = if content_type.is_empty() || is_text(&content_type) { BodyKind::Text } else { BodyKind::Data };
            (kind, Bytes::from(text))
        }
        Some(Body::Json(_)) if !ctx.strict => {
            return Err(ApiError::field("json", "is for unary calls; send text on streams"));
        }
        Some(Body::Json(_)) if !content_type.is_empty() && !is_json(&content_type) => {
            return Err(ApiError::field("content_type", "is not JSON, but the body is"));
        }
        Some(Body::Json(value)) => (BodyKind::Text, Bytes::from(compact(&value)?)),
        Some(Body::Data(bytes)) if !encoded && is_text(&content_type) => {
            if std::str::from_utf8(&bytes).is_err() {
                let message = format!("{content_type} must be UTF-8; send another content_type");
                return Err(ApiError::new(Reason::PayloadNotUtf8, message).at("data"));
            }
            (BodyKind::Text, bytes)
        }
        Some(Body::Data(bytes)) => (BodyKind::Data, bytes),
    };
    if bytes.len() > most {
        return Err(ApiError::field("", format!("is {} bytes; at most {most} are allowed", bytes.len())));
    }
    Ok(Some(Payload { kind, bytes, content_type, content_encoding }))
}

fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence == "application/json" || essence.ends_with("+json")
}

fn is_text(content_type: &str) -> bool {
    is_json(content_type) || essence(content_type).starts_with("text/")
}

/// Exactly as stored.
pub fn raw(payload: Payload) -> v1::Payload {
    let Payload { kind, bytes, content_type, content_encoding } = payload;
    let body = match kind {
        BodyKind::Data => Body::Data(bytes),
        // Checked on arrival; a damaged record still shows its bytes.
        BodyKind::Text => match String::from_utf8(bytes.into()) {
            Ok(text) => Body::Text(text),
            Err(error) => Body::Data(error.into_bytes().into()),
        },
    };
    v1::Payload { body: Some(body), content_type, content_encoding }
}

/// How bodies leave in unary answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Json,
    Raw,
    Omit,
}

impl Format {
    pub fn parse(ctx: Ctx<'_>, value: i32) -> Parsed<Self> {
        super::choice(ctx, "payload_format", value, |format| match format {
            v1::PayloadFormat::Unspecified | v1::PayloadFormat::Json => Self::Json,
            v1::PayloadFormat::Raw => Self::Raw,
            v1::PayloadFormat::Omit => Self::Omit,
        })
    }

    pub fn write(self, payload: Payload) -> v1::Payload {
        self.rewrite(raw(payload))
    }

    /// The same for a payload that was stored as the contract's message.
    pub fn rewrite(self, mut payload: v1::Payload) -> v1::Payload {
        match (self, &payload.body) {
            (Self::Omit, _) => payload.body = None,
            (Self::Json, Some(Body::Text(text)))
                if payload.content_type.is_empty() || is_json(&payload.content_type) =>
            {
                if let Some(value) = structured(text) {
                    payload.body = Some(Body::Json(value));
                }
            }
            (Self::Json | Self::Raw, _) => {}
        }
        payload
    }
}

/// Compact JSON text of a value that came as a structure.
fn compact(value: &Value) -> Parsed<String> {
    let json = to_json(value).ok_or_else(|| ApiError::field("json", "JSON has no NaN and no infinity"))?;
    Ok(json.to_string())
}

fn to_json(value: &Value) -> Option<serde_json::Value> {
    /// Doubles up to here are whole numbers without loss.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    Some(match &value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(yes)) => (*yes).into(),
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() <= EXACT => (*number as i64).into(),
        Some(Kind::NumberValue(number)) => serde_json::Number::from_f64(*number)?.into(),
        Some(Kind::StringValue(text)) => text.as_str().into(),
        Some(Kind::ListValue(list)) => list.values.iter().map(to_json).collect::<Option<Vec<_>>>()?.into(),
        Some(Kind::StructValue(object)) => object
            .fields
            .iter()
            .map(|(key, value)| Some((key.clone(), to_json(value)?)))
            .collect::<Option<serde_json::Map<_, _>>>()?
            .into(),
    })
}

/// JSON text as a structure, unless that would lose something: a number beyond doubles, too deep, too large.
fn structured(text: &str) -> Option<Value> {
    let value = from_json(serde_json::from_str(text).ok()?, JSON_DEPTH)?;
    (value.encoded_len() <= JSON_BYTES).then_some(value)
}

fn from_json(json: serde_json::Value, depth: usize) -> Option<Value> {
    use serde_json::Value as Json;
    let inner = depth.checked_sub(1)?;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(yes) => Kind::BoolValue(yes),
        Json::Number(number) => {
            let double = number.as_f64()?;
            let exact = match (number.as_i64(), number.as_u64()) {
                (Some(whole), _) => double as i128 == i128::from(whole),
                (_, Some(whole)) => double as i128 == i128::from(whole),
                (None, None) => true,
            };
            Kind::NumberValue(exact.then_some(double)?)
        }
        Json::String(text) => Kind::StringValue(text),
        Json::Array(list) => Kind::ListValue(ListValue {
            values: list.into_iter().map(|value| from_json(value, inner)).collect::<Option<_>>()?,
        }),
        Json::Object(object) => Kind::StructValue(Struct {
            fields: object
                .into_iter()
                .map(|(key, value)| Some((key, from_json(value, inner)?)))
                .collect::<Option<_>>()?,
        }),
    };
    Some(Value { kind: Some(kind) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limits::Limits;

    fn take(strict: bool, body: Body, content_type: &str, encoding: &str) -> Parsed<Option<Payload>> {
        let ctx = Ctx { limits: &Limits::default(), now_ms: 0, strict };
        let value =
            v1::Payload { body: Some(body), content_type: content_type.into(), content_encoding: encoding.into() };
        payload(ctx, "payload", Some(value), 16)
    }

    fn taken(body: Body, content_type: &str) -> Payload {
        take(true, body, content_type, "").expect("valid").expect("a body")
    }

    fn error(strict: bool, body: Body, content_type: &str, encoding: &str) -> String {
        take(strict, body, content_type, encoding).expect_err("refused").to_string()
    }

    fn data(bytes: &'static [u8]) -> Body {
        Body::Data(Bytes::from_static(bytes))
    }

    #[test]
    fn text_is_text_whatever_the_producer_used() {
        assert_eq!(taken(data(b"{}"), "application/json; charset=utf-8").kind, BodyKind::Text);
        assert_eq!(taken(data(b"{}"), "application/vnd.x+json").kind, BodyKind::Text);
        assert_eq!(taken(data(b"a"), "text/csv").kind, BodyKind::Text);
        assert_eq!(taken(data(b"a"), "").kind, BodyKind::Data);
        assert_eq!(taken(Body::Text("{}".into()), "").kind, BodyKind::Text);
        assert_eq!(taken(Body::Text("a".into()), "application/x-thing").kind, BodyKind::Data);
    }

    #[test]
    fn refusals_name_the_field() {
        assert!(error(true, data(b"\xff"), "text/plain", "").starts_with("PAYLOAD_NOT_UTF8: payload.data"));
        assert!(error(true, Body::Text("a".into()), "", "zstd").starts_with("INVALID_FIELD: payload.content_encoding"));
        assert!(error(false, Body::Json(Value::default()), "", "").starts_with("INVALID_FIELD: payload.json"));
        assert!(
            error(true, Body::Text("12345678901234567".into()), "", "").starts_with("INVALID_FIELD: payload: is 17")
        );
        let nan = Value { kind: Some(Kind::NumberValue(f64::NAN)) };
        assert!(error(true, Body::Json(nan), "", "").starts_with("INVALID_FIELD: payload.json"));
    }

    #[test]
    fn json_is_written_down_compactly_and_comes_back() {
        let text = r#"{"a":[1,2.5,null,true,"x"]}"#;
        let value = structured(text).expect("JSON");
        assert_eq!(compact(&value).expect("finite"), text);
    }

    #[test]
    fn json_that_would_lose_something_stays_text() {
        for text in ["9007199254740993", &format!("{}{}", "[".repeat(40), "]".repeat(40)), "{", ""] {
            assert!(structured(text).is_none(), "{text}");
        }
        let payload = v1::Payload { body: Some(Body::Text("{".into())), ..Default::default() };
        assert_eq!(Format::Json.rewrite(payload.clone()), payload);
        assert_eq!(Format::Omit.rewrite(payload).body, None);
    }
}
