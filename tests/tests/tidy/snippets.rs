//! Code in pages is code that is run: every fence of Python, TypeScript, JavaScript or Rust follows a line
//! `<!-- file: PATH -->` or `<!-- file: PATH#region -->`, and is that file, or that region of it, dedented.
//!
//! A region lies between two comment lines, `[name]` and `[/name]` (`# [name]`, `// [/name]`). These lines are no part
//! of what is shown. Files are run or type-checked by the tests of their own language.
use std::collections::BTreeSet;

const LANGUAGES: [&str; 9] = ["python", "py", "ts", "tsx", "typescript", "js", "javascript", "rust", "rs"];

/// What is wrong with the fences of a page. `read` gives a file of the repository, if there is one.
pub fn complaints(name: &str, page: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    for snippet in snippets(page) {
        let mut complain = |what: String| complaints.push(format!("{name}:{}: {what}", snippet.line));
        match (snippet.source, snippet.code) {
            (None, None) => {}
            (None, Some(_)) => {
                complain("a snippet that is no file; say <!-- file: PATH#region --> before it".to_owned())
            }
            (Some(source), None) => complain(format!("no snippet follows <!-- file: {source} -->")),
            (Some(source), Some(code)) => match shown(source, &read) {
                Err(why) => complain(why),
                Ok(text) if text != code => {
                    let at = text.lines().zip(code.lines()).position(|(one, other)| one != other);
                    let at = at.unwrap_or_else(|| text.lines().count().min(code.lines().count()));
                    let there = text.lines().nth(at).unwrap_or("the end");
                    let here = code.lines().nth(at).unwrap_or("the end");
                    complain(format!("line {} of the snippet is not {source}: there {there:?}, here {here:?}", at + 1));
                }
                Ok(_) => {}
            },
        }
    }
    complaints
}

/// A fence of code, or a marker without one.
struct Snippet<'a> {
    line: usize,
    source: Option<&'a str>,
    code: Option<String>,
}

fn snippets(page: &str) -> Vec<Snippet<'_>> {
    let mut found = Vec::new();
    let mut source: Option<(usize, &str)> = None;
    let mut lines = page.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let text = line.trim_start();
        if let Some(named) = text.strip_prefix("<!-- file: ").and_then(|rest| rest.trim_end().strip_suffix("-->")) {
            orphan(&mut found, source.replace((index + 1, named.trim())));
        } else if let Some(language) = text.strip_prefix("```") {
            let indent = line.len() - text.len();
            let body: Vec<&str> = lines
                .by_ref()
                .map(|(_, line)| line.get(indent..).unwrap_or(line.trim_start()))
                .take_while(|line| !line.starts_with("```"))
                .collect();
            let language = language.split([' ', ',', '{']).next().unwrap_or_default();
            if LANGUAGES.contains(&language) {
                let source = source.take().map(|(_, name)| name);
                found.push(Snippet { line: index + 1, source, code: Some(body.join("\n")) });
            } else {
                orphan(&mut found, source.take());
            }
        } else if !text.is_empty() {
            orphan(&mut found, source.take());
        }
    }
    orphan(&mut found, source);
    found
}

fn orphan<'a>(found: &mut Vec<Snippet<'a>>, source: Option<(usize, &'a str)>) {
    if let Some((line, name)) = source {
        found.push(Snippet { line, source: Some(name), code: None });
    }
}

/// The file, or the region of it, that `source` names.
fn shown(source: &str, read: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let (path, region) = source.split_once('#').map_or((source, None), |(path, region)| (path, Some(region)));
    let file = read(path).ok_or_else(|| format!("{path} is not there"))?;
    let Some(region) = region else {
        let lines: Vec<&str> = file.lines().filter(|line| mark(line).is_none()).collect();
        return Ok(dedented(&lines));
    };
    let (opening, closing) = (region.to_owned(), format!("/{region}"));
    let place = |wanted: &str| file.lines().position(|line| mark(line) == Some(wanted));
    let from = place(&opening).ok_or_else(|| format!("{path} has no region [{region}]"))?;
    let to = place(&closing).filter(|to| *to > from).ok_or_else(|| format!("{path} does not close [{region}]"))?;
    let lines: Vec<&str> = file.lines().take(to).skip(from + 1).filter(|line| mark(line).is_none()).collect();
    Ok(dedented(&lines))
}

/// The name in a comment line that begins or ends a region.
fn mark(line: &str) -> Option<&str> {
    let text = line.trim();
    let comment = text.strip_prefix("// ").or_else(|| text.strip_prefix("# "))?.trim();
    let name = comment.strip_prefix('[')?.strip_suffix(']')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let bare = name.strip_prefix('/').unwrap_or(name);
    (!bare.is_empty() && bare.chars().all(plain)).then_some(name)
}

fn dedented(lines: &[&str]) -> String {
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let least = lines.iter().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    let cut: Vec<&str> = lines.iter().map(|line| line.get(least..).unwrap_or("").trim_end()).collect();
    cut.join("\n").trim_matches('\n').to_owned()
}

/// Regions that are opened twice, or closed without being open, in a file that has any.
pub fn region_complaints(path: &str, text: &str) -> Vec<String> {
    let (mut open, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut complaints = Vec::new();
    for (index, name) in text.lines().enumerate().filter_map(|(index, line)| Some((index, mark(line)?))) {
        let fine = match name.strip_prefix('/') {
            Some(name) => open.remove(name),
            None => open.insert(name) && seen.insert(name),
        };
        if !fine {
            complaints.push(format!("{path}:{}: [{name}] does not fit the regions before it", index + 1));
        }
    }
    complaints.extend(open.into_iter().map(|name| format!("{path}: [{name}] is never closed")));
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "use x;\n\nfn main() {\n    // [call]\n    one(\n        1,\n    );\n    // [/call]\n}\n";

    fn judge(page: &str) -> Vec<String> {
        complaints("p.md", page, |path| (path == "a.rs").then(|| FILE.to_owned()))
    }

    #[test]
    fn a_snippet_is_a_file_or_a_region_of_one() {
        let whole = "<!-- file: a.rs -->\n```rust\nuse x;\n\nfn main() {\n    one(\n        1,\n    );\n}\n```\n";
        let region = "1. So:\n\n   <!-- file: a.rs#call -->\n\n   ```rust\n   one(\n       1,\n   );\n   ```\n";
        for good in [whole, region, "```sh\nmake\n```\n", "no code"] {
            assert_eq!(judge(good), Vec::<String>::new(), "{good}");
        }
    }

    #[test]
    fn what_is_not_a_file_is_told() {
        for (bad, line, why) in [
            ("text\n```rust\none();\n```\n", 2, "no file"),
            ("<!-- file: a.rs#call -->\n```rust\none(2);\n```\n", 2, "line 1"),
            ("<!-- file: a.rs#call -->\n```rust\none(\n    1,\n```\n", 2, "line 3"),
            ("<!-- file: b.rs -->\n```ts\n```\n", 2, "b.rs is not there"),
            ("<!-- file: a.rs#other -->\n```python\nx\n```\n", 2, "no region [other]"),
            ("<!-- file: a.rs -->\nbut first\n```sh\nx\n```\n", 1, "no snippet follows"),
            ("<!-- file: a.rs -->\n", 1, "no snippet follows"),
        ] {
            let complaints = judge(bad);
            assert_eq!(complaints.len(), 1, "{bad}: {complaints:?}");
            assert!(
                complaints[0].starts_with(&format!("p.md:{line}: ")) && complaints[0].contains(why),
                "{complaints:?}"
            );
        }
    }

    #[test]
    fn regions_open_once_and_close() {
        assert_eq!(region_complaints("a.rs", FILE), Vec::<String>::new());
        for bad in ["# [a]", "# [/a]", "# [a]\n# [/a]\n# [a]\n# [/a]", "// [a]\n// [a]\n// [/a]"] {
            assert_eq!(region_complaints("x", bad).len(), 1, "{bad}");
        }
        assert_eq!(mark("#[test]"), None);
        assert_eq!(mark("  # [a b]"), None);
    }
}
