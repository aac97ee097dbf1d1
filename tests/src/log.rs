//! What a process writes to its standard error, kept and judged.
use std::{
    io::{BufRead as _, BufReader, Read},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

/// Lines of a process, in the order written. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Reads `source` to its end, on a thread.
    pub fn follow(&self, source: impl Read + Send + 'static) {
        let lines = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                lines.0.lock().expect("no panic in between").push(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }

    /// Everything so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no panic in between").clone()
    }

    /// Whether a line contains `text`.
    pub fn contains(&self, text: &str) -> bool {
        self.0.lock().expect("no panic in between").iter().any(|line| line.contains(text))
    }

    /// Lines that nobody should see: WARN, ERROR, and what is no log event at all, such as a panic. Not those that
    /// contain one of `allowed`.
    pub fn bad(&self, allowed: &[String]) -> Vec<String> {
        let lines = self.0.lock().expect("no panic in between");
        let bad = lines.iter().filter(|line| !line.is_empty() && !harmless(line));
        bad.filter(|line| !allowed.iter().any(|text| line.contains(text))).cloned().collect()
    }
}

fn harmless(line: &str) -> bool {
    let event: Value = serde_json::from_str(line).unwrap_or_default();
    matches!(event["level"].as_str(), Some("TRACE" | "DEBUG" | "INFO"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::{LONG, wait_for};

    #[test]
    fn warnings_and_panics_are_bad_and_the_rest_is_not() {
        let log = Log::default();
        log.follow(&b"{\"level\":\"INFO\"}\n{\"level\":\"WARN\",\"message\":\"odd\"}\nthread 'main' panicked\n"[..]);
        wait_for("three lines", LONG, || log.lines().len() == 3);
        assert_eq!(log.bad(&[]).len(), 2);
        assert_eq!(log.bad(&["odd".to_owned()]), ["thread 'main' panicked"]);
        assert!(log.contains("panicked") && !log.contains("absent"));
    }
}
