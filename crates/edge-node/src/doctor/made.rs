//! What repairs have left in the board's files, and what those are without it: for who takes
//! edged off a board.

use std::fs;
use std::path::{Path, PathBuf};

use super::fix::{AWAKE, BACKUP, MANAGER, MODULES, SETTINGS, WIFI_FILE, WITH_RULES};
use super::kernel::{CMDLINES, NEEDED};

/// Kernel settings that repairs set.
const SET: [&str; 2] = ["fs.inotify.max_user_instances = ", "fs.inotify.max_user_watches = "];

/// A file with lines that a repair wrote.
#[derive(Debug, PartialEq, Eq)]
pub struct Made {
    /// Where it is, from the root.
    pub path: String,
    /// What stays of it: the lines of others. Empty when it is to go.
    pub rest: String,
}

/// The files that hold what repairs have written for each boot of the board at `root`.
#[must_use]
pub fn made(root: &Path) -> Vec<Made> {
    let module = |line: &str| NEEDED.contains(&line) || WITH_RULES.contains(&line);
    let setting = |line: &str| SET.iter().any(|start| line.starts_with(start));
    let awake = |line: &str| AWAKE.lines().any(|own| own == line);
    let wifi = format!("{MANAGER}/{WIFI_FILE}");
    let all = [
        without(root, MODULES, &module),
        without(root, SETTINGS, &setting),
        without(root, &wifi, &awake),
    ];
    all.into_iter().flatten().collect()
}

fn without(root: &Path, path: &str, ours: &dyn Fn(&str) -> bool) -> Option<Made> {
    let text = fs::read_to_string(root.join(path)).ok()?;
    let others = text.split_inclusive('\n').filter(|line| !ours(line.trim_end()));
    let rest: String = others.collect();
    (rest != text).then(|| Made { path: path.to_owned(), rest })
}

/// The kernel's command line where a repair has added words to it, and the copy of what it was.
/// These are not for anybody to take back unasked: a board must boot.
#[must_use]
pub fn cmdline(root: &Path) -> Option<(PathBuf, PathBuf)> {
    CMDLINES.iter().find_map(|path| {
        let kept = format!("{path}.{BACKUP}");
        root.join(kept.trim_start_matches('/')).exists().then(|| (path.into(), kept.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_of_the_package_takes_the_same_lines() {
        let script = include_str!("../../../../systemd/deb/postrm");
        let words: Vec<&str> = script.split(['|', '\'']).collect();
        for module in NEEDED.iter().chain(&WITH_RULES) {
            assert!(words.contains(module), "{module}");
        }
        let settings = SET.map(|start| start.trim_start_matches("fs.inotify.max_user_"));
        assert_eq!(settings, ["instances = ", "watches = "]);
        assert!(script.contains("'fs\\.inotify\\.max_user_(instances|watches) = .*'"));
        for line in AWAKE.lines() {
            let quoted = line.replace('[', "\\[").replace(']', "\\]").replace('.', "\\.");
            assert!(words.contains(&quoted.as_str()), "{quoted}");
        }
    }
}
