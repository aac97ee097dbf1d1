//! The structure of the repository, held to what ARCHITECTURE.md says of it: layers from the `use` lines, paths and
//! invariants that exist, headers, titles, links, markers, sleeps. It counts no lines.
//!
//! Each rule is a function from texts to complaints, tried on bad texts below before it is let loose on the repository.
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/pages.rs"]
mod pages;
#[path = "tidy/rust.rs"]
mod rust;
#[path = "tidy/snippets.rs"]
mod snippets;
#[path = "tidy/tree.rs"]
mod tree;

use std::{collections::BTreeSet, fs};

use tree::{Source, root, sources};

const CODE: [&str; 7] = ["rs", "py", "ts", "mjs", "sh", "proto", "toml"];

fn page(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[track_caller]
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn layers_are_as_the_architecture_says() {
    let rules = layers::rules(&page("ARCHITECTURE.md")).expect("the table of layers can be read");
    let files = sources("server/src", &["rs"]);
    assert!(files.len() > 100, "only {} files of the server were found", files.len());
    none(layers::complaints(&rules, &files));
}

#[test]
fn crates_depend_on_each_other_as_the_architecture_says() {
    let manifests: Vec<Source> = sources("", &["toml"])
        .into_iter()
        .filter(|file| file.path.ends_with("Cargo.toml") && file.text.contains("[package]"))
        .collect();
    none(layers::crate_complaints(&page("ARCHITECTURE.md"), &manifests));
}

#[test]
fn every_file_of_rust_says_what_it_is() {
    let silent =
        |file: &Source| (!file.text.starts_with("//!")).then(|| format!("{}: does not open with //!", file.path));
    let code = ["server/src", "sdk-rust/src", "tests/src", "tests/tests", "demo/src", "testkit"];
    none(code.iter().flat_map(|dir| sources(dir, &["rs"])).filter_map(|file| silent(&file)).collect());
}

#[test]
fn paths_named_in_the_architecture_exist() {
    let exists = |path: &str| ["", "server/src"].iter().any(|base| root().join(base).join(path).exists());
    for name in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        none(path_complaints(name, &page(name), exists));
    }
}

fn path_complaints(name: &str, page: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in pages::prose(page) {
        for span in pages::code_spans(line).into_iter().filter(|span| looks_like_a_path(span)) {
            if !exists(span) {
                complaints.push(format!("{name}:{number}: {span} is not there"));
            }
        }
    }
    complaints
}

fn looks_like_a_path(span: &str) -> bool {
    let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
    let known = [".rs", ".md", ".toml", ".proto", ".py", ".ts", ".json", ".yaml"].iter().any(|end| span.ends_with(end));
    plain && !span.starts_with('/') && (known || (span.contains('/') && !span.starts_with('-')))
}

#[test]
fn invariants_that_are_held_occur_in_the_code() {
    let mut code = sources("server", &["rs"]);
    code.extend(sources("tests/src", &["rs"]));
    code.extend(sources("tests/tests", &["rs"]).into_iter().filter(|file| !file.path.contains("tidy")));
    none(invariant_complaints(&page("ARCHITECTURE.md"), &code));
}

fn invariant_complaints(page: &str, code: &[Source]) -> Vec<String> {
    let words: BTreeSet<&str> =
        code.iter().flat_map(|file| file.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')).collect();
    let checked: BTreeSet<&str> = code
        .iter()
        .flat_map(|file| file.text.split("check!(").skip(1))
        .filter_map(|rest| rest.split(',').next())
        .map(str::trim)
        .collect();
    let rows = pages::table(page, &["#", "held?"]);
    let mut complaints = Vec::new();
    if rows.is_empty() {
        complaints.push("there is no table of invariants".to_owned());
    }
    for (index, row) in rows.iter().enumerate() {
        let (id, held) = (row[0], row[1]);
        if id != format!("I{}", index + 1) {
            complaints.push(format!("{id} stands in the place of I{}", index + 1));
        }
        match held {
            "held" | "held in part" if !words.contains(id) => {
                complaints.push(format!("{id} occurs nowhere in the code"))
            }
            "held" | "held in part" => {}
            "later" if checked.contains(id) => complaints.push(format!("{id} is checked, and said to come later")),
            "later" => {}
            other => complaints.push(format!("{id}: `{other}` is neither held, held in part nor later")),
        }
    }
    let known: BTreeSet<&str> = rows.iter().map(|row| row[0]).collect();
    let unknown = checked.iter().filter(|id| id.starts_with('I') && !known.contains(*id));
    complaints.extend(unknown.map(|id| format!("check!({id}, …) is not in the table")));
    complaints
}

#[test]
fn every_snippet_is_a_file_that_runs() {
    let read = |path: &str| fs::read_to_string(root().join(path)).ok();
    let shown = |path: &str| path == "README.md" || path.starts_with("docs/") || path.starts_with("sdk-");
    let mut pages = sources("", &["md"]);
    pages.retain(|file| shown(&file.path));
    none(pages.iter().flat_map(|file| snippets::complaints(&file.path, &file.text, read)).collect());
    let examples = ["sdk-python/examples", "sdk-node/examples", "sdk-rust/examples"];
    let files = examples.iter().flat_map(|dir| sources(dir, &["py", "ts", "rs"]));
    none(files.flat_map(|file| snippets::region_complaints(&file.path, &file.text)).collect());
}

#[test]
fn every_page_has_one_title_and_links_that_lead_somewhere() {
    let all = sources("", &["md"]);
    assert!(all.len() > 10, "only {} pages were found", all.len());
    none(
        all.iter().flat_map(title_complaints).chain(all.iter().flat_map(|file| link_complaints(file, &all))).collect(),
    );
}

fn title_complaints(file: &Source) -> Vec<String> {
    let titles = pages::headings(&file.text).iter().filter(|(level, _)| *level == 1).count();
    let mut complaints = Vec::new();
    if titles != 1 {
        complaints.push(format!("{}: {titles} titles of the first level; one is right", file.path));
    }
    if !file.text.starts_with("# ") {
        complaints.push(format!("{}: does not begin with its title", file.path));
    }
    complaints
}

fn link_complaints(file: &Source, all: &[Source]) -> Vec<String> {
    let dir = file.path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let mut complaints = Vec::new();
    for (number, link) in pages::links(&file.text) {
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = if path.is_empty() { file.path.clone() } else { normal(&format!("{dir}/{path}")) };
        if !path.is_empty() && !root().join(&target).exists() {
            complaints.push(format!("{}:{number}: {link} leads nowhere", file.path));
        } else if !anchor.is_empty()
            && let Some(page) = all.iter().find(|page| page.path == target)
            && !pages::headings(&page.text).iter().any(|(_, title)| pages::anchor(title) == anchor)
        {
            complaints.push(format!("{}:{number}: {target} has no heading #{anchor}", file.path));
        }
    }
    complaints
}

fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn guarantees_name_tests_that_exist() {
    let mut tests = sources("", &["rs", "py"]);
    tests.retain(|file| !file.path.contains("tests/tidy"));
    tests.extend(sources("tests/conformance", &["json"]));
    none(test_name_complaints(&page("docs/guarantees.md"), &tests));
}

fn test_name_complaints(page: &str, tests: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut named = 0;
    for (number, line) in pages::prose(page) {
        let plain = |span: &str| span.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        for span in pages::code_spans(line) {
            let there: Box<dyn Fn(&Source) -> bool> = match span.strip_suffix(".json") {
                Some(case) if plain(case) => Box::new(|file| file.path.ends_with(&format!("/{span}"))),
                None if plain(span) && span.matches('_').count() >= 2 => {
                    Box::new(|file| ["fn", "def"].iter().any(|word| file.text.contains(&format!("{word} {span}("))))
                }
                _ => continue,
            };
            named += 1;
            if !tests.iter().any(there) {
                complaints.push(format!("line {number}: there is no test {span}"));
            }
        }
    }
    if named == 0 {
        complaints.push("no test is named".to_owned());
    }
    complaints
}

#[test]
fn nothing_is_left_to_do() {
    let mut all = sources("", &CODE);
    all.extend(sources("", &["md"]));
    none(all.iter().filter(|file| !file.path.contains("tests/tidy")).flat_map(marker_complaints).collect());
}

/// A marker is for work with a reason: `TODO(why)`. Macros that panic for want of code are never right.
fn marker_complaints(file: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for marker in ["TODO", "FIXME", "XXX"] {
            let bare = line.match_indices(marker).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let after = line[at + marker.len()..].chars().next();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                    && !after.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '(')
            });
            if bare {
                complaints.push(format!("{}:{}: {marker} without a reason", file.path, index + 1));
            }
        }
        let gaps = ["todo!(", "unimplemented!(", "#[ignore"];
        for gap in gaps.iter().filter(|gap| file.path.ends_with(".rs") && line.contains(**gap)) {
            complaints.push(format!("{}:{}: {gap} has no place here", file.path, index + 1));
        }
    }
    complaints
}

#[test]
fn tests_wait_for_conditions_and_not_for_time() {
    let dirs = ["tests/src", "tests/tests", "server/tests", "sdk-rust/tests", "testkit"];
    none(dirs.iter().flat_map(|dir| sources(dir, &["rs"])).flat_map(|file| sleep_complaints(&file)).collect());
}

/// A sleep is fine as the pause of a loop that looks again until a deadline. Any other has a comment that says why.
fn sleep_complaints(file: &Source) -> Vec<String> {
    const ABOVE: usize = 14;
    let bare = rust::bare(&file.text);
    let (code, whole): (Vec<&str>, Vec<&str>) = (bare.lines().collect(), file.text.lines().collect());
    let mut complaints = Vec::new();
    for (index, line) in code.iter().enumerate() {
        if !line.contains("sleep(") || line.contains("fn ") {
            continue;
        }
        let looks_again = code[index.saturating_sub(ABOVE)..=index]
            .iter()
            .any(|line| ["loop {", "while ", "deadline"].iter().any(|word| line.contains(word)));
        let explained = (index.saturating_sub(3)..=index).any(|at| whole[at].contains("//"));
        if !looks_again && !explained {
            complaints.push(format!("{}:{}: a sleep that no comment explains", file.path, index + 1));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_path_that_is_gone_is_found() {
        let page = "# T\nsee `src/a.rs`, `b.md`, `/healthz`, `--flag`, `cargo test`, `std::fs`\n```\n`c.rs`\n```\n";
        assert_eq!(path_complaints("P", page, |path| path == "b.md"), ["P:2: src/a.rs is not there"]);
    }

    #[test]
    fn an_invariant_without_code_is_found() {
        let page =
            "| # | held? | x |\n|---|---|---|\n| I1 | held | |\n| I2 | held | |\n| I3 | later | |\n| I5 | maybe | |\n";
        let code =
            [source("a.rs", "check!(I1, true, \"\"); check!(I3, true, \"\"); check!(I9, true, \"\"); // I22 I20")];
        let found = invariant_complaints(page, &code);
        let expected = [
            "I2 occurs nowhere in the code",
            "I3 is checked, and said to come later",
            "I5 stands in the place of I4",
            "I5: `maybe` is neither held, held in part nor later",
            "check!(I9, …) is not in the table",
        ];
        assert_eq!(found, expected);
        assert_eq!(
            invariant_complaints("# no table", &code).first().map(String::as_str),
            Some("there is no table of invariants")
        );
    }

    #[test]
    fn titles_and_links_are_checked() {
        let a = source(
            "docs/a.md",
            "# A\n[up](../b.md#two) [b](#a) [gone](gone.md) [web](https://x.y/z) [deep](../b.md#three)\n",
        );
        let b = source("b.md", "# B\n## Two\n");
        assert!(title_complaints(&b).is_empty());
        assert_eq!(title_complaints(&source("c.md", "text\n# C\n# D\n")).len(), 2);
        let found = link_complaints(&a, &[a.clone(), b]);
        // b.md is not on the disk: its anchor is not looked for.
        assert!(found.contains(&"docs/a.md:2: gone.md leads nowhere".to_owned()), "{found:?}");
        let readme = source("README.md", "# R\n## Two\n");
        let to_readme = source("docs/a.md", "# A\n[x](../README.md#two) [y](../README.md#three)\n");
        assert_eq!(link_complaints(&to_readme, &[readme]), ["docs/a.md:2: README.md has no heading #three"]);
    }

    #[test]
    fn a_test_that_is_gone_is_found() {
        let rust = source("a.rs", "fn it_all_works() {}\nfn it_is_not_there_either() {}");
        let tests = [rust, source("b.py", "def test_one_thing(): pass"), source("c/w1_window.json", "{}")];
        let page =
            "# G\n`it_all_works` `test_one_thing` `lease_ttl` `w1_window.json`\n`it_is_not_there` `w2_fence.json`\n";
        let gone = ["it_is_not_there", "w2_fence.json"].map(|name| format!("line 3: there is no test {name}"));
        assert_eq!(test_name_complaints(page, &tests), gone);
        assert_eq!(test_name_complaints("# G\n", &tests), ["no test is named"]);
    }

    #[test]
    fn markers_need_a_reason() {
        let text = "// TODO: later\n// TODO(why): later\nlet TODO_LIST = 1; // XXXX\n    todo!()\n// FIXME\n";
        let found = marker_complaints(&source("a.rs", text));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(marker_complaints(&source("a.md", "call todo!() never")).is_empty());
    }

    #[test]
    fn a_bare_sleep_is_found() {
        let bad = "fn a() {\n    go();\n\n\n    thread::sleep(SECOND);\n}\n";
        assert_eq!(sleep_complaints(&source("a.rs", bad)), ["a.rs:5: a sleep that no comment explains"]);
        let explained = "fn a() {\n    // The lease runs out by itself.\n    thread::sleep(SECOND);\n}\n";
        let polling = "fn a() {\n    while !done() {\n        thread::sleep(STEP);\n    }\n}\n";
        for fine in [explained, polling, "const X: &str = \"conf.sleep(\";\n"] {
            assert!(sleep_complaints(&source("a.rs", fine)).is_empty(), "{fine}");
        }
    }
}
