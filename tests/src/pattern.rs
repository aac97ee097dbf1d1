//! Variables and expectations. An expectation names what matters; everything else may be as it is.
use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What a case has bound so far.
pub type Vars = BTreeMap<String, Value>;

/// Fills variables in: `"${name}"` alone takes the variable's value and type, inside a longer string its text. In an
/// array `{"$repeat": 3, "item": …}` becomes three items, in which `${i}` counts from 0. `{"$text": 9}` becomes a text of
/// nine characters.
pub fn fill(template: &Value, vars: &Vars) -> Result<Value, String> {
    match template {
        Value::String(text) => match lone(text) {
            Some(name) => vars.get(name).cloned().ok_or_else(|| format!("${{{name}}} is not bound yet")),
            None => Ok(Value::String(interpolate(text, vars)?)),
        },
        Value::Array(items) => {
            let mut filled = Vec::with_capacity(items.len());
            for item in items {
                match item.get("$repeat").and_then(Value::as_u64) {
                    Some(times) => {
                        let mut vars = vars.clone();
                        for i in 0..times {
                            vars.insert("i".to_owned(), i.into());
                            filled.push(fill(&item["item"], &vars)?);
                        }
                    }
                    None => filled.push(fill(item, vars)?),
                }
            }
            Ok(Value::Array(filled))
        }
        Value::Object(object) if object.contains_key("$text") => {
            Ok("x".repeat(object["$text"].as_u64().unwrap_or_default() as usize).into())
        }
        Value::Object(object) => {
            let filled = object.iter().map(|(key, value)| Ok((interpolate(key, vars)?, fill(value, vars)?)));
            Ok(Value::Object(filled.collect::<Result<_, String>>()?))
        }
        other => Ok(other.clone()),
    }
}

fn lone(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    (!name.contains("${")).then_some(name)
}

fn interpolate(text: &str, vars: &Vars) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or_else(|| format!("{text:?} has an open ${{"))?;
        let value = vars.get(name).ok_or_else(|| format!("${{{name}}} is not bound yet"))?;
        out += before;
        match value {
            Value::String(value) => out += value,
            other => out += &other.to_string(),
        }
        rest = after;
    }
    Ok(out + rest)
}

/// Whether `actual` is as `expected`; binds the variables of `expected` that are free. Nothing is bound when it is not.
///
/// Objects: every key named must match. Arrays: every item named must match an item of its own, in any order. Numbers
/// equal their text, `"1.5s"` equals `"1.500s"`. A free `"${name}"` matches anything but nothing. An object of `$…` keys is a test: see [`test`].
pub fn matches(expected: &Value, actual: &Value, vars: &mut Vars) -> bool {
    let mut tried = vars.clone();
    let fits = fits(expected, actual, &mut tried);
    if fits {
        *vars = tried;
    }
    fits
}

fn fits(expected: &Value, actual: &Value, vars: &mut Vars) -> bool {
    match expected {
        Value::String(text) => match lone(text) {
            Some(name) if !vars.contains_key(name) => {
                let something = !matches!(actual, Value::Null) && actual != "" && actual != 0;
                if something {
                    vars.insert(name.to_owned(), actual.clone());
                }
                something
            }
            _ => fill(expected, vars).is_ok_and(|filled| same(&filled, actual)),
        },
        Value::Object(object) if object.keys().any(|key| key.starts_with('$') && !key.starts_with("${")) => {
            object.iter().all(|(key, wanted)| test(key, wanted, actual, vars))
        }
        Value::Object(object) => {
            actual.is_object()
                && object.iter().all(|(key, wanted)| {
                    interpolate(key, vars).is_ok_and(|key| fits(wanted, &actual[key.as_str()], vars))
                })
        }
        Value::Array(items) => match actual {
            Value::Array(found) => assign(items, found, vars).is_some(),
            _ => false,
        },
        other => same(other, actual),
    }
}

fn same(expected: &Value, actual: &Value) -> bool {
    let text = |value: &Value| match value {
        Value::Number(number) => Some(number.as_f64().map_or_else(|| number.to_string(), |n| n.to_string())),
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    let duration = |value: &Value| value.as_str()?.strip_suffix('s')?.parse::<f64>().ok();
    expected == actual
        || (text(expected).is_some() && text(expected) == text(actual))
        || (duration(expected).is_some() && duration(expected) == duration(actual))
}

/// Finds for every item of `expected` an item of `actual` of its own; answers their positions. An `expected` item
/// `{"$repeat": n, "item": …}` stands for n of them.
pub fn assign(expected: &[Value], actual: &[Value], vars: &mut Vars) -> Option<Vec<usize>> {
    let mut wanted = Vec::new();
    for item in expected {
        match item.get("$repeat").and_then(Value::as_u64) {
            Some(times) => (0..times).for_each(|_| wanted.push(&item["item"])),
            None => wanted.push(item),
        }
    }
    if wanted.len() > actual.len() {
        return None;
    }
    let mut taken = vec![false; actual.len()];
    let mut places = Vec::with_capacity(wanted.len());
    place(&wanted, actual, &mut taken, &mut places, vars).then_some(places)
}

fn place(wanted: &[&Value], actual: &[Value], taken: &mut [bool], places: &mut Vec<usize>, vars: &mut Vars) -> bool {
    let Some((first, rest)) = wanted.split_first() else { return true };
    for at in 0..actual.len() {
        if taken[at] {
            continue;
        }
        let mut tried = vars.clone();
        if !fits(first, &actual[at], &mut tried) {
            continue;
        }
        taken[at] = true;
        places.push(at);
        if place(rest, actual, taken, places, &mut tried) {
            *vars = tried;
            return true;
        }
        taken[at] = false;
        places.pop();
    }
    false
}

/// The tests that an expectation can make.
///
/// * `$gte`, `$lte`: a number, or a duration such as `"1.5s"`;
/// * `$not`: does not match this;
/// * `$only`: an array with these items and no others;
/// * `$length`: of an array or a text;
/// * `$contains`: a text inside a text;
/// * `$uuid`: a UUID of this version;
/// * `$set`: false = absent, null or empty; true = anything else.
pub fn test(name: &str, wanted: &Value, actual: &Value, vars: &mut Vars) -> bool {
    let Ok(filled) = fill(wanted, vars).or_else(|error| if name == "$only" { Ok(wanted.clone()) } else { Err(error) })
    else {
        return false;
    };
    let length = || match actual {
        Value::Array(items) => items.len(),
        Value::Object(object) => object.len(),
        Value::String(text) => text.len(),
        Value::Null => 0,
        _ => 1,
    };
    match name {
        "$gte" => quantity(actual).zip(quantity(&filled)).is_some_and(|(actual, wanted)| actual >= wanted),
        "$lte" => quantity(actual).zip(quantity(&filled)).is_some_and(|(actual, wanted)| actual <= wanted),
        "$not" => !matches(&filled, actual, &mut vars.clone()),
        "$only" => {
            let (Value::Array(wanted), Value::Array(found)) = (wanted, actual) else { return false };
            assign(wanted, found, vars).is_some_and(|places| places.len() == found.len())
        }
        "$length" => filled.as_u64() == Some(length() as u64),
        "$contains" => actual.as_str().zip(filled.as_str()).is_some_and(|(text, part)| text.contains(part)),
        "$uuid" => {
            let uuid = actual.as_str().and_then(|text| uuid::Uuid::parse_str(text).ok());
            uuid.is_some_and(|uuid| Some(uuid.get_version_num() as u64) == filled.as_u64())
        }
        "$set" => filled.as_bool() == Some(length() > 0),
        _ => false,
    }
}

fn quantity(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.strip_suffix('s').unwrap_or(text).parse().ok(),
        _ => None,
    }
}

/// `over` laid over `base`: keys of `over` win, objects are merged.
pub fn merge(base: &Value, over: &Value) -> Value {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            let mut merged: Map<String, Value> = base.clone();
            for (key, value) in over {
                let value = merged.get(key).map_or_else(|| value.clone(), |base| merge(base, value));
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        (_, over) => over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bound(expected: Value, actual: Value) -> Option<Vars> {
        let mut vars = Vars::from([("known".to_owned(), json!("k"))]);
        matches(&expected, &actual, &mut vars).then_some(vars)
    }

    #[test]
    fn expectations_are_subsets_in_any_order() {
        assert!(bound(json!({"a": 1}), json!({"a": "1", "b": 2})).is_some());
        assert!(bound(json!({"a": 1}), json!({"b": 2})).is_none());
        assert!(bound(json!("1.5s"), json!("1.500s")).is_some());
        assert!(bound(json!("1.5s"), json!("1.51s")).is_none());
        assert!(bound(json!([2, 1]), json!([1, 3, 2])).is_some());
        assert!(bound(json!([1, 1]), json!([1, 2])).is_none());
        assert!(bound(json!([{"$repeat": 2, "item": 1}]), json!([1])).is_none());
        assert!(bound(json!("x${known}"), json!("xk")).is_some());
        assert!(bound(json!({"${known}": 1}), json!({"k": 1})).is_some());
        assert!(bound(json!("${known}"), json!("other")).is_none());
    }

    #[test]
    fn free_variables_are_bound_and_found_again() {
        let vars = bound(json!([{"t": "${t}", "n": 2}]), json!([{"t": "a", "n": 1}, {"t": "b", "n": 2}]));
        assert_eq!(vars.expect("a match")["t"], "b");
        // The first choice for ${a} does not lead on; the second does.
        let vars = bound(json!([{"t": "${a}"}, {"u": "${a}"}]), json!([{"t": 1, "u": 2}, {"t": 3, "u": 4}]));
        assert!(vars.is_none());
        let vars = bound(json!([{"t": "${a}"}, {"u": "${a}"}]), json!([{"t": 9}, {"t": 5}, {"u": 5}]));
        assert_eq!(vars.expect("a match")["a"], 5);
        assert!(bound(json!({"t": "${t}"}), json!({"t": ""})).is_none());
    }

    #[test]
    fn tests_test() {
        for (expected, yes, no) in [
            (json!({"$gte": 2}), json!(2), json!(1)),
            (json!({"$gte": "1s", "$lte": "2s"}), json!("1.5s"), json!("2.5s")),
            (json!({"$not": "a"}), json!("b"), json!("a")),
            (json!({"$only": [1, 2]}), json!([2, 1]), json!([1, 2, 3])),
            (json!({"$length": 2}), json!([1, 2]), json!([])),
            (json!({"$contains": "b"}), json!("abc"), json!("ac")),
            (json!({"$uuid": 4}), json!("936da01f-9abd-4d9d-80c7-02af85c822a8"), json!("x")),
            (json!({"$set": true}), json!("x"), json!(null)),
            (json!({"$set": false}), json!([]), json!("x")),
        ] {
            assert!(bound(expected.clone(), yes).is_some(), "{expected}");
            assert!(bound(expected.clone(), no).is_none(), "{expected}");
        }
        assert!(bound(json!({"$unheard": 1}), json!(1)).is_none());
    }

    #[test]
    fn templates_are_filled() {
        let vars = Vars::from([("n".to_owned(), json!(3)), ("s".to_owned(), json!("x"))]);
        let template = json!({"a": "${n}", "b": "${s}-${n}", "c": [{"$repeat": 2, "item": "${i}"}]});
        assert_eq!(fill(&template, &vars), Ok(json!({"a": 3, "b": "x-3", "c": [0, 1]})));
        assert!(fill(&json!("${free}"), &vars).is_err());
        assert_eq!(merge(&json!({"a": {"b": 1, "c": 1}}), &json!({"a": {"b": 2}})), json!({"a": {"b": 2, "c": 1}}));
    }
}
