//! Results of other nodes that belong into the input of a job, by the header `jobwire-bind`. Pure. The rules are in
//! docs/sdk-protocol.md, the cases of all languages in tests/conformance/bind.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub(crate) const HEADER: &str = "jobwire-bind";
/// Behind a key: the results of all aliases that name it, as a list.
pub(crate) const LIST: &str = "[]";

/// The input: a payload with the results, by their aliases, where the header says. An error where they do not fit.
pub(crate) fn bound(payload: Value, header: &str, results: &[(String, Value)]) -> Result<Value, String> {
    let bind: BTreeMap<String, String> =
        serde_json::from_str(header).map_err(|_| format!("{HEADER} is no JSON object of texts"))?;
    let mut input = payload;
    for (alias, key) in &bind {
        let (key, value) = match key.strip_suffix(LIST) {
            Some(name) => {
                let of = |(from, _): &&(String, Value)| bind.get(from) == Some(key);
                (name, Value::Array(results.iter().filter(of).map(|(_, value)| value.clone()).collect()))
            }
            None => {
                let found = results.iter().find(|(from, _)| from == alias);
                let (_, value) = found.ok_or_else(|| format!("{HEADER}: the result of {alias:?} did not come"))?;
                (key.as_str(), value.clone())
            }
        };
        input = if key.is_empty() { merged(value, input)? } else { with(input, key, value)? };
    }
    Ok(input)
}

fn with(input: Value, key: &str, value: Value) -> Result<Value, String> {
    let mut object = match input {
        Value::Object(object) => object,
        Value::Null => Map::new(),
        _ => return Err(format!("{HEADER}: the result for {key:?} has no place in an input that is no object")),
    };
    object.insert(key.to_owned(), value);
    Ok(Value::Object(object))
}

/// A result as the input itself; keys that were given win.
fn merged(result: Value, given: Value) -> Result<Value, String> {
    match (result, given) {
        (result, Value::Null) => Ok(result),
        (result, Value::Object(given)) if given.is_empty() => Ok(result),
        (Value::Object(mut result), Value::Object(given)) => {
            result.extend(given);
            Ok(Value::Object(result))
        }
        _ => Err(format!(
            "{HEADER}: a result that is no object cannot be the input beside what was given: bind it to a key"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cases_of_all_languages_hold() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/conformance/bind/results.json");
        let file: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("the cases")).expect("JSON");
        let cases = file["cases"].as_array().expect("cases");
        assert!(cases.len() > 10);
        for case in cases {
            let dependencies = case["dependencies"].as_array().expect("dependencies");
            let result = |one: &Value| (one["alias"].as_str().expect("an alias").to_owned(), one["result"].clone());
            let results: Vec<_> = dependencies.iter().map(result).collect();
            let payload = case["payload"].clone();
            let input = match case.get("bind") {
                Some(bind) => bound(payload, &bind.to_string(), &results),
                None => Ok(payload),
            };
            if case["refused"] == true {
                assert!(input.is_err(), "{case}");
            } else {
                assert_eq!(input.as_ref(), Ok(&case["input"]), "{case}");
            }
        }
    }

    #[test]
    fn a_header_that_says_nothing_is_refused() {
        assert!(bound(Value::Null, "[1]", &[]).is_err());
        assert!(bound(Value::Null, "{\"a\":1}", &[]).is_err());
    }
}
