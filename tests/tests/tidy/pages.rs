//! Just enough of Markdown: headings, tables, code spans, links.

/// The lines outside fenced code, with their numbers from 1.
pub fn prose(page: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (index, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push((index + 1, line));
        }
    }
    lines
}

/// Headings with their level.
pub fn headings(page: &str) -> Vec<(usize, &str)> {
    prose(page)
        .into_iter()
        .filter_map(|(_, line)| {
            let level = line.bytes().take_while(|b| *b == b'#').count();
            let title = line[level..].strip_prefix(' ')?;
            (1..=6).contains(&level).then_some((level, title.trim()))
        })
        .collect()
}

/// What stands between single backticks.
pub fn code_spans(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// The rows of the first table whose header begins with these cells.
pub fn table<'a>(page: &'a str, header: &[&str]) -> Vec<Vec<&'a str>> {
    let mut rows = Vec::new();
    let mut inside = false;
    for (_, line) in prose(page) {
        let cells = cells(line);
        match &cells {
            Some(cells) if inside && !is_rule(cells) => rows.push(cells.clone()),
            Some(cells) if cells.len() >= header.len() && cells[..header.len()] == *header => inside = true,
            None if inside => return rows,
            _ => {}
        }
    }
    rows
}

/// The line of dashes below a header.
fn is_rule(cells: &[&str]) -> bool {
    cells.iter().all(|cell| cell.chars().all(|c| matches!(c, '-' | ':')))
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// Targets of `[text](target)`, with their lines.
pub fn links(page: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in prose(page) {
        let outside = line.split('`').step_by(2);
        for part in outside {
            for (at, _) in part.match_indices("](") {
                if let Some(end) = part[at + 2..].find(')') {
                    found.push((number, &part[at + 2..at + 2 + end]));
                }
            }
        }
    }
    found
}

/// The anchor of a heading, as GitHub makes it.
pub fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# One\n\ntext `a/b.rs` and [x](y.md), `[no](z.md)`\n\n| a | b |\n|---|:-:|\n| `c` | d |\n| | e |\n\n\
                        ```\n# Not a heading\n[no](q.md)\n```\n## Two, of `them`\n#nothing\n";

    #[test]
    fn what_is_fenced_does_not_count() {
        assert_eq!(headings(PAGE), [(1, "One"), (2, "Two, of `them`")]);
        assert_eq!(links(PAGE), [(3, "y.md")]);
    }

    #[test]
    fn tables_have_rows() {
        assert_eq!(table(PAGE, &["a"]), [["`c`", "d"], ["", "e"]]);
        assert!(table(PAGE, &["b"]).is_empty());
    }

    #[test]
    fn spans_and_anchors() {
        assert_eq!(code_spans("x `a` y `b c`."), ["a", "b c"]);
        assert_eq!(anchor("Limits, and what is not there yet"), "limits-and-what-is-not-there-yet");
    }
}
