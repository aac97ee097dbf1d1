//! Who may use whom: the tables of ARCHITECTURE.md, held against the code.
use std::collections::{BTreeMap, BTreeSet};

use crate::{
    pages,
    rust::{self, Target},
    tree::Source,
};

/// One row: what the files of these modules may use of the server, and what of other crates they never touch.
#[derive(Clone, Debug)]
pub struct Rule {
    of: Pattern,
    may: Vec<Pattern>,
    never: Vec<Vec<String>>,
}

/// `a::b` is that module alone, `a::b::*` it and everything below, `*` everything.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    module: Vec<String>,
    below: bool,
}

impl Pattern {
    fn read(text: &str) -> Self {
        let (module, below) = match text.strip_suffix('*') {
            Some(module) => (module.trim_end_matches("::"), true),
            None => (text, false),
        };
        let module = module.split("::").filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
        Self { module, below }
    }

    fn matches(&self, module: &[String]) -> bool {
        if self.below { module.starts_with(&self.module) } else { module == self.module }
    }

    /// How closely it names a module: one that stands for a single file is closer than any that stands for more.
    fn closeness(&self) -> (bool, usize) {
        (!self.below, self.module.len())
    }
}

/// Reads the table of layers.
pub fn rules(page: &str) -> Result<Vec<Rule>, String> {
    let rows = pages::table(page, &["module", "may use", "never"]);
    if rows.is_empty() {
        return Err("there is no table `module | may use | never`".to_owned());
    }
    let rule = |row: Vec<&str>| match (pages::code_spans(row[0]).as_slice(), row.get(1..3)) {
        ([of], Some([may, never])) => Ok(Rule {
            of: Pattern::read(of),
            may: pages::code_spans(may).into_iter().map(Pattern::read).collect(),
            never: pages::code_spans(never)
                .into_iter()
                .map(|path| path.split("::").map(str::to_owned).collect())
                .collect(),
        }),
        _ => Err(format!("a row that cannot be read: {row:?}")),
    };
    rows.into_iter().map(rule).collect()
}

/// What the files of `server/src` do that their rule does not allow.
pub fn complaints(rules: &[Rule], files: &[Source]) -> Vec<String> {
    let in_src = |file: &Source| file.path.trim_start_matches("server/src/").to_owned();
    let modules: BTreeSet<Vec<String>> = files.iter().map(|file| rust::module_of(&in_src(file))).collect();
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| !is_test(&file.path)) {
        let module = rust::module_of(&in_src(file));
        // The roots of the crate have no name of their own in paths.
        let name =
            if module.is_empty() { vec![in_src(file).trim_end_matches(".rs").to_owned()] } else { module.clone() };
        let rule = rules.iter().filter(|rule| rule.of.matches(&name)).max_by_key(|rule| rule.of.closeness());
        let Some(rule) = rule else {
            complaints.push(format!("{}: no row of the table names its module", file.path));
            continue;
        };
        for path in rust::paths(&rust::without_tests(&rust::bare(&file.text))) {
            let said = path.join("::");
            match rust::resolve(&path, &module) {
                Target::Elsewhere => {
                    if let Some(never) = rule.never.iter().find(|never| path.starts_with(never)) {
                        complaints.push(format!(
                            "{}: {said}: {} is never to be used here",
                            file.path,
                            never.join("::")
                        ));
                    }
                }
                Target::Inside(inside) => {
                    let used = longest(&modules, &inside);
                    if !used.is_empty() && used != module && !rule.may.iter().any(|may| may.matches(used)) {
                        complaints.push(format!("{}: {said}: {} may not be used here", file.path, used.join("::")));
                    }
                }
            }
        }
    }
    complaints
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("_tests.rs") || path.contains("/tests/")
}

/// The module that a path leads into; empty for macros, which live at the root.
fn longest<'a>(modules: &BTreeSet<Vec<String>>, path: &'a [String]) -> &'a [String] {
    (0..=path.len()).rev().map(|length| &path[..length]).find(|module| modules.contains(*module)).unwrap_or(&[])
}

/// Dependencies between the crates of the workspace that the table does not allow, and crates that it does not name.
pub fn crate_complaints(page: &str, manifests: &[Source]) -> Vec<String> {
    let rows = pages::table(page, &["crate", "may depend on"]);
    let allowed: BTreeMap<&str, Vec<&str>> = rows
        .iter()
        .filter_map(|row| Some((*pages::code_spans(row[0]).first()?, pages::code_spans(row.get(1)?))))
        .collect();
    let names: BTreeSet<&str> = manifests.iter().filter_map(|manifest| package(&manifest.text)).collect();
    let mut complaints: Vec<String> =
        allowed.keys().filter(|name| !names.contains(*name)).map(|name| format!("there is no crate {name}")).collect();
    for manifest in manifests {
        let Some(name) = package(&manifest.text) else { continue };
        let Some(may) = allowed.get(name) else {
            complaints.push(format!("{}: the table does not name {name}", manifest.path));
            continue;
        };
        let ours = dependencies(&manifest.text).into_iter().filter(|dependency| names.contains(dependency));
        complaints.extend(
            ours.filter(|dependency| !may.contains(dependency))
                .map(|dependency| format!("{}: {name} may not depend on {dependency}", manifest.path)),
        );
    }
    complaints
}

fn package(manifest: &str) -> Option<&str> {
    let section = manifest.split("[package]").nth(1)?;
    section.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
}

fn dependencies(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies]");
        } else if inside && let Some((name, _)) = line.split_once(['.', ' ', '=']) {
            found.push(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# P\n\n| module | may use | never |\n|---|---|---|\n| `model::*` | `model::*` | `tokio` |\n\
        | `engine::*` | `model::*` `store` `engine::*` | `tonic` |\n| `engine::pure` | `model::*` | `tokio` `std::time::SystemTime` |\n\
        | `store::*` | `model::*` `store::*` | |\n| `lib` | `*` | |\n\n\
        | crate | may depend on |\n|---|---|\n| `a` | |\n| `b` | `a` |\n";

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let mut all = vec![source("server/src/lib.rs", "pub mod engine;")];
        all.extend(["model/job", "engine", "engine/task", "store", "store/memory"].iter().filter_map(|name| {
            let path = format!("server/src/{name}.rs");
            files.iter().all(|(other, _)| *other != path).then(|| source(&path, ""))
        }));
        all.extend(files.iter().map(|(path, text)| source(path, text)));
        complaints(&rules(PAGE).expect("a table"), &all)
    }

    #[test]
    fn what_is_allowed_passes() {
        let engine = "use crate::{model::job::Job, store::Store, check};\nuse self::task::X;\nuse tokio::sync;";
        let task = "use super::Engine;\n#[cfg(test)]\nmod tests { use crate::store::memory::Memory; }";
        let files = [("server/src/engine.rs", engine), ("server/src/engine/task.rs", task)];
        assert!(found(&files).is_empty(), "{:?}", found(&files));
    }

    #[test]
    fn a_layer_too_deep_is_found_however_it_is_written() {
        for text in [
            "use crate::store::memory::Memory;",
            "use crate::{model::job::Job, store::{Store, memory::Memory}};",
            "use super::store::memory;",
            "fn f() { crate::store::memory::open() }",
        ] {
            let complaints = found(&[("server/src/engine.rs", text)]);
            assert!(
                complaints.iter().all(|complaint| complaint.contains("store::memory may not be used here")),
                "{text}"
            );
            assert!(!complaints.is_empty(), "{text}");
        }
    }

    #[test]
    fn the_closest_row_counts_and_crates_are_banned() {
        let text =
            "use super::task::X;\nuse std::time::{Duration, SystemTime};\nasync fn f() { tokio::time::sleep(x).await }";
        let complaints = found(&[("server/src/engine/pure.rs", text)]);
        assert_eq!(complaints.len(), 3, "{complaints:?}");
        assert_eq!(found(&[("server/src/engine/task.rs", "use tonic::Status;")]).len(), 1);
    }

    #[test]
    fn a_module_without_a_row_is_found() {
        let complaints = found(&[("server/src/extra.rs", "")]);
        assert_eq!(complaints, ["server/src/extra.rs: no row of the table names its module"]);
        assert!(rules("# no table").is_err());
    }

    #[test]
    fn crates_are_held_to_their_table() {
        let a = source("a/Cargo.toml", "[package]\nname = \"a\"\n[dependencies]\nserde = \"1\"\nb.path = \"../b\"\n");
        let b = source("b/Cargo.toml", "[package]\nname = \"b\"\n[dev-dependencies]\na = { path = \"../a\" }\n");
        let c = source("c/Cargo.toml", "[package]\nname = \"c\"\n");
        assert_eq!(crate_complaints(PAGE, &[a.clone(), b.clone()]), ["a/Cargo.toml: a may not depend on b"]);
        assert_eq!(crate_complaints(PAGE, &[b.clone(), c]).len(), 2);
    }
}
