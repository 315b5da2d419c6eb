//! A board's programs on its disk: two slots that upgrades fill in turn, and the small file that
//! says which one runs. What follows from it is decided in `edge_core::upgrade`.

mod error;
mod home;
mod receive;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use edge_api::release::{Arch, Found, Look, Version};
use edge_core::upgrade::{LONGEST_S, Own, PublicKey, Slot, State, Target};
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

pub use error::UpgradeError;
pub use home::{Home, life, now, runs_beside};
pub(crate) use receive::Offer;

/// Time for an answer to leave before the program ends.
const FAREWELL: Duration = Duration::from_millis(300);
/// Seconds that it takes a board, after a trial that failed, to be back with what ran before.
const BACK_S: i64 = 30;

/// How upgrades reach this board; the agent's port hands them here.
#[derive(Debug)]
pub struct Upgrades {
    home: Home,
    own: Own,
    /// The package's program, which wins where it is newer.
    base: Option<PathBuf>,
    keys: Vec<PublicKey>,
    /// Turned true when the program is to start again.
    again: watch::Sender<bool>,
    /// One upgrade at a time.
    busy: Mutex<()>,
    /// How long this board may be away, once a trial begins; in milliseconds.
    away_ms: AtomicI64,
    /// Bytes that are free on the disk beneath a directory, where that can be told.
    free: fn(&Path) -> Option<u64>,
}

/// What is to become of a board's upgrades.
#[derive(Debug)]
pub struct Settings {
    /// Where slots and state are.
    pub home: Home,
    /// The program that runs.
    pub own: Own,
    /// The package's program, if it is known and another.
    pub base: Option<PathBuf>,
    /// Whose signatures count. None: only an administrator's word does.
    pub keys: Vec<PublicKey>,
}

impl Upgrades {
    /// The board's upgrades, and what turns true when the program is to start again.
    pub fn new(settings: Settings) -> (Arc<Upgrades>, watch::Receiver<bool>) {
        let Settings { home, own, base, keys } = settings;
        let (again, told) = watch::channel(false);
        let (busy, away_ms) = (Mutex::default(), AtomicI64::new(0));
        let free = receive::disk_free;
        (Arc::new(Upgrades { home, own, base, keys, again, busy, away_ms, free }), told)
    }

    /// What the board has and does, for those who ask.
    pub(crate) fn describe(&self) -> Value {
        let state = self.home.read();
        json!({
            "version": self.own.version.to_string(),
            "place": match self.own.place {
                Target::Base => "base",
                Target::Slot(slot) => slot.name(),
            },
            "arch": architecture(),
            "signed": !self.keys.is_empty(),
            "state": state.json(),
        })
    }

    /// The last program that was given up, as one line.
    pub(crate) fn failure(&self) -> Option<String> {
        let failed = self.home.read().failed?;
        Some(format!("edged {} was given up: {}", failed.version, failed.why))
    }

    /// Puts a slot on trial, and has the program start again once the answer is out.
    pub(crate) fn begin(&self, slot: Slot, deadline_s: u32) -> Result<(), UpgradeError> {
        let Ok(_one) = self.busy.try_lock() else { return Err(UpgradeError::Busy) };
        let mut begun = Ok(());
        let kept = self.home.change(|state| {
            state.runs(self.own.place);
            begun = state.begin(slot, deadline_s);
            begun.is_ok()
        });
        begun.map_err(UpgradeError::Refused)?;
        kept.map_err(|error| UpgradeError::io("write", self.home.file(), error))?;
        let away_ms = (i64::from(deadline_s.min(LONGEST_S)) + BACK_S) * 1000;
        self.away_ms.store(away_ms, Ordering::Relaxed);
        let again = self.again.clone();
        tokio::spawn(async move {
            tokio::time::sleep(FAREWELL).await;
            again.send_replace(true);
        });
        Ok(())
    }

    /// How long others shall wait for this board when it stops, in milliseconds; 0 for as long as
    /// they do for any.
    pub(crate) fn away_ms(&self) -> i64 {
        self.away_ms.load(Ordering::Relaxed)
    }

    /// The base's version, when it is another program than the one that runs.
    fn base_version(&self) -> Option<Version> {
        inspect(self.base.as_deref()?).ok().map(|found| found.version)
    }

    fn state(&self) -> State {
        self.home.read()
    }
}

/// The machine's architecture as Go names it.
pub(crate) fn architecture() -> Arch {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What a file on the disk says of itself.
///
/// # Errors
/// When it cannot be read, or is no file of edged.
fn inspect(path: &Path) -> Result<Found, UpgradeError> {
    use std::io::Read;
    let doing = |error| UpgradeError::io("read", path.to_owned(), error);
    let mut file = std::fs::File::open(path).map_err(doing)?;
    let look = Look::through(|piece| file.read(piece), |_| ()).map_err(doing)?;
    look.found().map_err(UpgradeError::File)
}
