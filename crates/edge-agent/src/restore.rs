//! A server that starts with a backup waiting in its data directory becomes that cluster first, and
//! then starts again in this process: its settings are read anew, with the cluster's ranges.

use edge_server::backup::{self, Installed};

use crate::cleanup;
use crate::config::Config;
use crate::wire::{self, WireError, failed};
use crate::{identity, notify};

/// Whether a backup waits. Where another process runs on the directory it is that one's.
pub(crate) fn is_pending(config: &Config) -> bool {
    let alone = cleanup::idle("restore", &config.data_dir, "store/lock").is_ok();
    alone && backup::is_pending(&config.data_dir)
}

/// Makes it the cluster, and starts again; returns only when that fails. A large one takes longer
/// than the service manager waits for a sign of life.
pub(crate) fn run(config: &Config) -> Result<(), WireError> {
    let (data_dir, name) = (config.data_dir.clone(), config.name.clone());
    let done = wire::runtime()?.block_on(async {
        let manager = notify::Manager::meet();
        manager.status("making a backup the cluster");
        tokio::task::spawn_blocking(move || backup::install(&data_dir, &name)).await
    });
    let done = done.map_err(|error| failed("restore", error))?;
    let done = done.map_err(|error| WireError::line(error.to_string()))?;
    let Installed { head, of, revision } = done;
    tracing::info!(
        "restored the cluster {} as {} had it at revision {of}; revisions go on from {revision}",
        head.cluster,
        head.server
    );
    Err(failed("start again", identity::start_again()))
}
