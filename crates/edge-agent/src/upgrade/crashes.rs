//! A program that has passed its trial is watched until it has run for long: how often it ended
//! without being told to is counted at its starts. Here is said that it was told to, and that it
//! has run for long.

use std::sync::OnceLock;
use std::time::Duration;

use edge_core::upgrade::{State, WATCH_S};
use edge_node::upgrade::Home;

use crate::version;

/// Where it is kept, if this process is watched.
static WATCHED: OnceLock<Home> = OnceLock::new();

/// Watches this process, until it has run for long.
pub(super) fn watch(home: Home) {
    let home = WATCHED.get_or_init(|| home);
    let clock = std::thread::Builder::new().name("watch".into()).spawn(move || {
        std::thread::sleep(Duration::from_secs(WATCH_S));
        keep(home, State::trust);
        tracing::info!("edged {} has run for {} minutes", version::own(), WATCH_S / 60);
    });
    if let Err(error) = clock {
        tracing::error!("start the clock of what is watched: {error}");
    }
}

/// Notes that this process is about to end because somebody wants it to.
pub(crate) fn told_to_end() {
    if let Some(home) = WATCHED.get() {
        keep(home, State::told_to_end);
    }
}

fn keep(home: &Home, change: impl FnOnce(&mut State) -> bool) {
    if let Err(error) = home.change(change) {
        tracing::error!("write {}: {error}", home.file().display());
    }
}
