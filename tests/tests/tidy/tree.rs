//! The files of the repository: hand-written ones only.
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Directories that hold what tools have made: build results, installed packages, generated code.
const MADE: [&str; 7] = ["target", "node_modules", "dist", "gen", "__pycache__", "jobwire-data", "bench-results"];
/// Generated Python; its name alone does not tell.
const MADE_PYTHON: &str = "sdk-python/src/jobwire/v1";

/// The directory of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_owned()
}

/// A file: its path from the root, with slashes, and its text.
#[derive(Clone, Debug)]
pub struct Source {
    pub path: String,
    pub text: String,
}

/// Every hand-written file below `dir` (from the root; "" = all) with one of the extensions, by path.
pub fn sources(dir: &str, extensions: &[&str]) -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    visit(&root.join(dir), &root, extensions, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn visit(dir: &Path, root: &Path, extensions: &[&str], found: &mut Vec<Source>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("cannot read {}: {error}", dir.display()));
    for entry in entries {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        let relative = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
        if path.is_dir() {
            let made = MADE.contains(&&*name) || relative == MADE_PYTHON || name.ends_with(".egg-info");
            if !made && !name.starts_with('.') && !path.is_symlink() {
                visit(&path, root, extensions, found);
            }
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)) {
            // A file that another process has just removed is not ours to judge.
            if let Ok(text) = fs::read_to_string(&path) {
                found.push(Source { path: relative, text });
            }
        }
    }
}
