//! JSON in value terms, with integers of any size and every bit of a float: what has to survive the way from a producer
//! to a worker and back. `1`, `1.0` and `1e0` are one value; the order of keys does not count.
use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;

/// A JSON value.
#[derive(Clone, PartialEq, Eq)]
pub enum Exact {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// Decimal digits, with a sign when negative.
    Int(String),
    /// Bits of a number with a fraction or beyond 10^21, where JSON of every language begins to write exponents.
    Float(u64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Exact>),
    /// An object.
    Object(BTreeMap<String, Exact>),
}

impl Exact {
    /// Reads JSON text.
    ///
    /// # Errors
    /// When it is none, when an object has a key twice, or a number no 64-bit float could stand for.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let text = text.trim();
        Ok(match text.as_bytes().first() {
            Some(b'{') => {
                let Entries(entries) = serde_json::from_str(text)?;
                let count = entries.len();
                let object = entries
                    .into_iter()
                    .map(|(key, value)| Ok((key, Self::parse(value.get())?)))
                    .collect::<Result<BTreeMap<_, _>, serde_json::Error>>()?;
                if object.len() != count {
                    return Err(serde_json::Error::custom("a key stands there twice"));
                }
                Self::Object(object)
            }
            Some(b'[') => {
                let items: Vec<Box<RawValue>> = serde_json::from_str(text)?;
                Self::List(items.iter().map(|item| Self::parse(item.get())).collect::<Result<_, _>>()?)
            }
            Some(b'-' | b'0'..=b'9') => {
                let token: Box<RawValue> = serde_json::from_str(text)?;
                number(token.get()).ok_or_else(|| serde_json::Error::custom(format!("{token} is no number")))?
            }
            _ => match serde_json::from_str(text)? {
                serde_json::Value::Null => Self::Null,
                serde_json::Value::Bool(truth) => Self::Bool(truth),
                serde_json::Value::String(text) => Self::Text(text),
                other => return Err(serde_json::Error::custom(format!("{other} was expected to be a scalar"))),
            },
        })
    }

    /// As JSON text.
    pub fn text(&self) -> String {
        self.written(&|digits| digits.to_owned())
    }

    /// As JSON text in which integers that not every reader holds exactly are `{"$big": "DIGITS"}`.
    pub fn marked(&self) -> String {
        self.written(&|digits| match digits.parse::<i64>() {
            Ok(small) if small.unsigned_abs() < 1 << 53 => digits.to_owned(),
            _ => format!(r#"{{"$big":"{digits}"}}"#),
        })
    }

    fn written(&self, int: &impl Fn(&str) -> String) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(truth) => truth.to_string(),
            Self::Int(digits) => int(digits),
            Self::Float(bits) => serde_json::Value::from(f64::from_bits(*bits)).to_string(),
            Self::Text(text) => quoted(text),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(|item| item.written(int)).collect();
                format!("[{}]", items.join(","))
            }
            Self::Object(entries) => {
                let entries: Vec<_> =
                    entries.iter().map(|(key, value)| format!("{}:{}", quoted(key), value.written(int))).collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }
}

impl fmt::Debug for Exact {
    /// JSON, cut where it gets long, and escaped: differences in Unicode are to be seen.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.text().chars().take(2_000).flat_map(char::escape_default).collect();
        out.write_str(&text.replace(r#"\""#, "\""))
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get()).map_err(D::Error::custom)
    }
}

/// Keys and values of an object as they are written.
struct Entries(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Entries;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn number(token: &str) -> Option<Exact> {
    if !token.contains(['.', 'e', 'E']) {
        return Some(Exact::Int(if token == "-0" { "0" } else { token }.to_owned()));
    }
    let value: f64 = token.parse().ok().filter(|value: &f64| value.is_finite())?;
    if value.fract() == 0.0 && value.abs() < 1e21 {
        return number(&format!("{value:.0}"));
    }
    Some(Exact::Float(value.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> Exact {
        Exact::parse(text).expect("JSON")
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        assert_eq!(exact(r#"{"a":1.0,"b":"\u00e9"}"#), exact(r#" { "b" : "é", "a" : 1e0 } "#));
        assert_eq!(exact("[1e300, -0]"), exact("[1E+300, 0]"));
        assert_eq!(exact("100000000000000000000"), exact("1e20"));
    }

    #[test]
    fn what_differs_in_the_last_digit_differs() {
        for (one, other) in [
            ("9007199254740993", "9007199254740992"),
            ("18446744073709551617", "18446744073709551616"),
            ("0.1", "0.10000000000000002"),
            ("\"é\"", "\"e\u{301}\""),
            ("[]", "{}"),
            ("1", "\"1\""),
        ] {
            assert_ne!(exact(one), exact(other));
        }
    }

    #[test]
    fn it_is_written_as_it_was_read_and_big_integers_can_be_marked() {
        let value = exact(r#"{"":[null,true,-9007199254740993,0.1,5e-324],"k":{"n":7}}"#);
        assert_eq!(exact(&value.text()), value);
        assert!(value.marked().contains(r#"{"$big":"-9007199254740993"}"#) && value.marked().contains(r#""n":7"#));
        assert!(Exact::parse(r#"{"a":1,"a":1}"#).is_err());
        assert!(Exact::parse("1e999").is_err());
    }
}
