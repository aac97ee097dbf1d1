//! Just enough of Rust: code without comments, strings and tests, and the paths that it names.
use std::collections::BTreeSet;

/// The code with comments and the insides of literals blanked; every line stays where it was.
pub fn bare(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if source[at..].starts_with("//") => at + source[at..].find('\n').unwrap_or(source.len() - at),
            b'/' if source[at..].starts_with("/*") => end_of_comment(source, at),
            b'"' => end_of_string(bytes, at),
            b'r' if !part_of_word(bytes, at) => match raw_string(source, at) {
                Some(end) => end,
                None => at,
            },
            b'\'' => end_of_char(source, at),
            _ => at,
        };
        if end > at {
            out.extend(source[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            let c = source[at..].chars().next().expect("not at the end");
            out.push(c);
            at += c.len_utf8();
        }
    }
    out
}

fn part_of_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn end_of_comment(source: &str, at: usize) -> usize {
    let (mut depth, mut end) = (0, at);
    loop {
        let rest = &source[end..];
        if rest.starts_with("/*") {
            (depth, end) = (depth + 1, end + 2);
        } else if rest.starts_with("*/") {
            (depth, end) = (depth - 1, end + 2);
            if depth == 0 {
                return end;
            }
        } else {
            match rest.chars().next() {
                Some(c) => end += c.len_utf8(),
                None => return end,
            }
        }
    }
}

fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while end < bytes.len() {
        match bytes[end] {
            b'\\' => end += 2,
            b'"' => return end + 1,
            _ => end += 1,
        }
    }
    bytes.len()
}

fn raw_string(source: &str, at: usize) -> Option<usize> {
    let hashes = source[at + 1..].bytes().take_while(|b| *b == b'#').count();
    let open = at + 1 + hashes;
    if source.as_bytes().get(open) != Some(&b'"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    Some(source[open + 1..].find(&close).map_or(source.len(), |found| open + 1 + found + close.len()))
}

/// The end of a character literal, or `at` for a lifetime.
fn end_of_char(source: &str, at: usize) -> usize {
    let mut chars = source[at + 1..].char_indices();
    match chars.next() {
        Some((_, '\\')) => {
            let quote = source[at + 3..].find('\'').map_or(source.len(), |found| at + 3 + found + 1);
            quote.min(source.len())
        }
        Some(_) => match chars.next() {
            Some((second, '\'')) => at + 1 + second + 1,
            _ => at,
        },
        None => at,
    }
}

/// `bare` code without the items under `#[cfg(test)]`.
pub fn without_tests(bare: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(bare.len());
    let mut rest = bare;
    while let Some(found) = rest.find(MARK) {
        out.push_str(&rest[..found]);
        let item = &rest[found + MARK.len()..];
        let end = match item.find([';', '{']) {
            Some(at) if item.as_bytes()[at] == b'{' => at + end_of_block(&item[at..]),
            Some(at) => at + 1,
            None => item.len(),
        };
        rest = &item[end..];
    }
    out + rest
}

fn end_of_block(block: &str) -> usize {
    let mut depth = 0;
    for (at, c) in block.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    block.len()
}

/// Every path that `bare` code names: those of `use` trees, spread out, and those of two segments or more elsewhere.
pub fn paths(bare: &str) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for statement in statements(bare, "use") {
        spread(&[], statement, &mut found);
    }
    inline(bare, &mut found);
    found
}

/// The text between a keyword and the next semicolon.
fn statements<'a>(bare: &'a str, keyword: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (at, _) in bare.match_indices(keyword) {
        let rest = &bare[at + keyword.len()..];
        if !part_of_word(bare.as_bytes(), at)
            && rest.starts_with(char::is_whitespace)
            && let Some(end) = rest.find(';')
        {
            found.push(&rest[..end]);
        }
    }
    found
}

fn spread(before: &[String], tree: &str, found: &mut BTreeSet<Vec<String>>) {
    let tree = tree.trim();
    let (head, group) = match tree.find('{') {
        Some(open) => (&tree[..open], Some(&tree[open + 1..tree.rfind('}').unwrap_or(tree.len())])),
        None => (tree.split(" as ").next().unwrap_or(tree), None),
    };
    let mut path = before.to_vec();
    path.extend(head.split("::").map(str::trim).filter(|segment| !segment.is_empty()).map(str::to_owned));
    let Some(group) = group else {
        if !path.is_empty() {
            found.insert(path);
        }
        return;
    };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                spread(&path, &group[start..at], found);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !group[start..].trim().is_empty() {
        spread(&path, &group[start..], found);
    }
}

fn inline(bare: &str, found: &mut BTreeSet<Vec<String>>) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut path: Vec<String> = Vec::new();
    let mut rest = bare;
    // Whether what came before continues a path that is not of interest: `>::name`, `.name`.
    let mut continued = false;
    while let Some(c) = rest.chars().next() {
        if is_word(c) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            path.push(rest[..end].to_owned());
            rest = &rest[end..];
            if let Some(after) = rest.strip_prefix("::") {
                rest = after;
                continue;
            }
            if path.len() > 1 && !continued {
                found.insert(std::mem::take(&mut path));
            }
            path.clear();
            continued = false;
        } else {
            if path.len() > 1 && !continued {
                found.insert(std::mem::take(&mut path));
            }
            path.clear();
            continued = c == '.' || (c == ':' && rest.starts_with("::"));
            rest = &rest[if rest.starts_with("::") { 2 } else { c.len_utf8() }..];
        }
    }
}

/// The module that a file of a crate holds: `src/a/b.rs` is `[a, b]`, the root of the crate is empty.
pub fn module_of(path_in_src: &str) -> Vec<String> {
    let stem = path_in_src.strip_suffix(".rs").unwrap_or(path_in_src);
    match stem {
        "lib" | "main" => Vec::new(),
        _ => stem.split('/').filter(|segment| *segment != "mod").map(str::to_owned).collect(),
    }
}

/// Where a path leads: into this crate, from the root of it, or out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Inside(Vec<String>),
    Elsewhere,
}

/// Follows `crate`, `self` and `super` from a module.
pub fn resolve(path: &[String], module: &[String]) -> Target {
    let (mut base, mut at) = match path[0].as_str() {
        "crate" => (Vec::new(), 1),
        "self" => (module.to_vec(), 1),
        "super" => (module.to_vec(), 0),
        _ => return Target::Elsewhere,
    };
    while path.get(at).is_some_and(|segment| segment == "super") {
        base.pop();
        at += 1;
    }
    base.extend_from_slice(&path[at..]);
    Target::Inside(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(source: &str) -> Vec<String> {
        paths(&without_tests(&bare(source))).into_iter().map(|path| path.join("::")).collect()
    }

    #[test]
    fn use_trees_are_spread_out() {
        let source = "use a::{b::{C, d}, e::F as G};\npub(crate) use crate::h;\nuse super::{\n    i,\n    j::*,\n};";
        let expected = ["a::b::C", "a::b::d", "a::e::F", "b", "crate::h", "super::i", "super::j::*"];
        for path in expected.iter().filter(|path| **path != "b") {
            assert!(named(source).contains(&(*path).to_owned()), "{path} of {:?}", named(source));
        }
    }

    #[test]
    fn paths_in_the_middle_of_code_count() {
        let found = named("fn f() { let x: Vec<rusqlite::Row> = tokio::spawn(y.z()).await; <A as B>::c::d(); }");
        assert_eq!(found, ["rusqlite::Row", "tokio::spawn"]);
    }

    #[test]
    fn comments_strings_and_tests_do_not() {
        let source = "// use a::b;\n/* c::d /* e::f */ g::h */\nconst X: &str = \"i::j \\\" k::l\"; // m::n\n\
                      const Y: &str = r#\"o::p \"q::r\"#; const Z: char = '\"'; fn f<'a>(x: &'a str) { s::t(x, '\\'') }\n\
                      #[cfg(test)]\nmod tests {\n use u::v; fn g() { w::x() } }\n#[cfg(test)]\nmod more;\nuse y::z;";
        assert_eq!(named(source), ["s::t", "y::z"]);
        assert_eq!(bare(source).lines().count(), source.lines().count());
    }

    #[test]
    fn relative_paths_are_followed() {
        let at = |path: &str, module: &str| {
            let split = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
            resolve(&split(path), &split(module))
        };
        let inside = |path: &str| Target::Inside(path.split("::").map(str::to_owned).collect());
        assert_eq!(at("crate::store::memory::X", "engine"), inside("store::memory::X"));
        assert_eq!(at("super::super::store", "engine::session::open"), inside("engine::store"));
        assert_eq!(at("self::tick::X", "engine::session"), inside("engine::session::tick::X"));
        assert_eq!(at("tokio::spawn", "engine"), Target::Elsewhere);
    }

    #[test]
    fn files_are_modules() {
        assert_eq!(module_of("store/memory/slot.rs"), ["store", "memory", "slot"]);
        assert_eq!(module_of("engine.rs"), ["engine"]);
        assert!(module_of("lib.rs").is_empty());
    }
}
