//! The other programs, and a room to use them in.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// True when the test can't run here, having said so.
pub(crate) fn skipped(test: &str, programs: &[&str]) -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED {test}: it needs root");
        return true;
    }
    let missing: Vec<_> = programs.iter().filter(|program| !installed(program)).collect();
    if !missing.is_empty() {
        eprintln!("SKIPPED {test}: not installed: {missing:?} (tests/setup.sh test)");
    }
    !missing.is_empty()
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Runs a program to its end; its output. Panics with what it said if it fails.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// Runs a shell script in a directory.
pub(crate) fn shell(dir: &Path, script: &str) {
    let command = format!("set -eu; cd '{}'; {script}", dir.display());
    run("sh", &["-c", &command]);
}

/// A directory with everything mounted below it; both go with the value.
pub(crate) struct Room(PathBuf);

impl Room {
    pub(crate) fn new(name: &str) -> Room {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = format!("edge-image-tools-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(dir);
        std::fs::create_dir_all(&path).unwrap();
        Room(path.canonicalize().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    /// Mounts layers as the runtime does, to be looked at.
    pub(crate) fn overlay(&self, name: &str, layers: &[PathBuf]) -> PathBuf {
        let target = self.path(name);
        std::fs::create_dir_all(&target).unwrap();
        let empty = self.path("empty");
        std::fs::create_dir_all(&empty).unwrap();
        let mut lower: Vec<&str> = layers.iter().rev().map(|l| l.to_str().unwrap()).collect();
        if lower.len() == 1 {
            lower.push(empty.to_str().unwrap());
        }
        let options = format!("ro,lowerdir={}", lower.join(":"));
        run("mount", &["-t", "overlay", "-o", &options, "none", target.to_str().unwrap()]);
        target
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let inside = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let ours = inside.filter(|path| path.starts_with(self.0.to_str().unwrap()));
        for mount in ours.collect::<Vec<_>>().into_iter().rev() {
            drop(Command::new("umount").args(["-l", mount]).status());
        }
        drop(Command::new("rm").args(["-rf", self.0.to_str().unwrap()]).status());
    }
}
