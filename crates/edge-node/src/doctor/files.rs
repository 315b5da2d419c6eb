//! Small files beneath the board's root.

use std::fs;
use std::path::{Path, PathBuf};

/// The root that files are read beneath.
pub(crate) struct Files<'a>(pub(crate) &'a Path);

impl Files<'_> {
    /// Where an absolute or relative path is.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// All of a file.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        String::from_utf8(fs::read(self.at(path)).ok()?).ok()
    }

    /// A file of one line, without its end.
    pub(super) fn line(&self, path: &str) -> Option<String> {
        self.text(path).map(|text| text.trim().to_owned())
    }

    /// A file of one number.
    pub(super) fn number<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.line(path)?.parse().ok()
    }

    /// The names in a directory, sorted; none when it isn't there.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}
