//! What the process says of itself, on standard error: systemd's journal or a terminal reads it.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;

/// Starts the log at `level`. A second call changes nothing.
pub(crate) fn start(level: LevelFilter) {
    let terminal = std::io::stderr().is_terminal();
    // The journal stamps lines itself; on a terminal the colour of a level helps.
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        .with_target(false)
        .with_max_level(level)
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
}
