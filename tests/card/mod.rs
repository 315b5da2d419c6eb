//! The card image on whole boards: `qemu-system-aarch64` without hardware help, with UEFI, a disk
//! that is the card, and a network card that ends in a network namespace of this machine. A person
//! sits in that namespace: all that is done to a board is done as people do it, by `edged.yaml` on
//! the boot partition, by SSH with the key that stands there, and by `edgectl` from beside it.
//!
//! A boot takes half a minute or more, so CI runs `pods` alone: `tests/run.sh card` installs what
//! is missing, makes the image and runs all. See `docs/card.md`.

mod board;
#[cfg(test)]
mod boards;
mod image;
#[cfg(test)]
mod pages;
mod person;
#[cfg(test)]
mod pods;
#[cfg(test)]
mod small;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest that anything may take on a board that has no hardware help, and shares its machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(900);
/// How long a line rests that is tried again and again.
const REST: Duration = Duration::from_millis(500);

/// Whether boards with cards are asked for. Nobody waits minutes for them who did not ask.
#[cfg(test)]
pub(crate) fn asked() -> bool {
    if std::env::var_os("EDGED_CARD").is_some() {
        return crate::lab::can_run();
    }
    eprintln!("SKIPPED: boards with cards take minutes; `tests/run.sh card` runs them");
    false
}

/// A directory for one test.
pub(super) struct Place(pub(super) PathBuf);

impl Place {
    pub(super) fn new(what: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("edged-card-{}-{what}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        Place(dir)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The steps of a story, each with the time that it took.
pub(super) struct Steps {
    begin: Instant,
    last: Instant,
}

impl Steps {
    pub(super) fn new() -> Steps {
        let now = Instant::now();
        Steps { begin: now, last: now }
    }

    /// A step has been done.
    pub(super) fn done(&mut self, what: &str) {
        let now = Instant::now();
        let (all, one) = (now - self.begin, now - self.last);
        println!("{:7.1} s  (+{:6.1} s)  {what}", all.as_secs_f64(), one.as_secs_f64());
        self.last = now;
    }
}

/// Asks until `ask` gives a value; fails with what it said last.
#[track_caller]
pub(super) fn patient<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(value) => return value,
            Err(why) => assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}: {why}"),
        }
        std::thread::sleep(REST);
    }
}
