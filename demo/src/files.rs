//! The files of the demo, and what a direct computation says of them.
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Larger files are left out: this is a demo.
const BYTES_MOST: u64 = 4 << 20;
/// Folders that are not the user's own work.
const SKIPPED: [&str; 6] = [".git", ".tools", "target", "node_modules", "jobwire-data", "__pycache__"];

/// Regular, readable, non-empty files below `root`, sorted.
pub fn below(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && !SKIPPED.iter().any(|name| entry.file_name() == *name) {
                folders.push(entry.path());
            } else if kind.is_file() && (1..=BYTES_MOST).contains(&entry.metadata()?.len()) {
                found.push(entry.path());
            }
        }
    }
    found.retain(|path| path.to_str().is_some_and(|text| !text.contains('\n')) && fs::File::open(path).is_ok());
    found.sort();
    Ok(found)
}

/// One file in twenty fails once, on purpose: by its name, as the Python worker decides it.
pub fn is_unlucky(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
    crc32fast::hash(name).is_multiple_of(20)
}

/// Its last two components, for people.
pub fn short(path: &Path) -> String {
    let mut parts: Vec<_> = path.components().rev().take(2).map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.reverse();
    parts.join("/")
}

/// Lines, words, and Shannon entropy in bits per byte.
pub fn statistics(path: &Path) -> io::Result<(u64, u64, f64)> {
    let content = fs::read(path)?;
    let mut counts = [0u64; 256];
    content.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    // What Python's bytes.split() takes for white space.
    let space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let words = content.split(space).filter(|word| !word.is_empty()).count() as u64;
    let share = |count: u64| count as f64 / content.len() as f64;
    let entropy = counts.iter().filter(|count| **count > 0).map(|count| -share(*count) * share(*count).log2()).sum();
    Ok((counts[usize::from(b'\n')], words, entropy))
}
