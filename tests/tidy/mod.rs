//! The house rules as tests: who may import whom, how long a room may grow, where `unsafe`
//! and blocking things may stand. A rule that is only written down is not kept.

mod layers;
mod source;
mod text;

use std::path::{Path, PathBuf};

/// The checkout that the tests were built from.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("invariant: tests/ is in it").into()
}

/// Every Rust file of the project, sorted, as (path from the root, text).
pub(crate) fn rust_files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for top in ["crates", "tests", "images"] {
        walk(&root().join(top), &mut found);
    }
    found.sort();
    found
}

fn walk(dir: &Path, found: &mut Vec<(String, String)>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "target") {
                walk(&path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file can be read");
            let shown = path.strip_prefix(root()).expect("invariant: walked from the root");
            found.push((shown.display().to_string(), text));
        }
    }
}

/// Fails with every offence at once, one a line.
pub(crate) fn none(what: &str, offences: Vec<String>) {
    assert!(offences.is_empty(), "{what}:\n  {}", offences.join("\n  "));
}
