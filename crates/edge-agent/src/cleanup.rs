//! `edged cleanup`: stops what runs on this board and takes away what edged made outside its
//! data directory: containers, namespaces, links, rules, mounts, cgroups.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use edge_node::cleanup::{self, CleanupError};
use edge_node::doctor::REFUSED;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::config::Config;
use crate::wire::{self, WireError, failed};

/// What the board was last told to run, in its data directory.
const LEDGER: &str = "ledger";

/// Removes everything of ours that lives in the kernel, and with `data` the data directory.
///
/// # Errors
/// Names what could not be removed; the rest has been tried all the same.
pub(crate) fn run(config: &Config, data: bool) -> Result<(), WireError> {
    let cleaned = wire::runtime()?.block_on(cleanup::board(&board(config)));
    cleaned.map_err(|e| failed("cleanup", e))?;
    if data {
        remove(&config.data_dir)?;
    }
    remove(&config.run_dir)
}

/// Stops what an agent started here earlier, on a board that is to run no pods from now on, and
/// forgets it: others will run those pods. `config` has the cluster's ranges. False when a
/// container would not stop; what else could not be taken away is said, and tried again at the
/// next start.
///
/// # Errors
/// When it must not be tried: without root, in a directory that is not edged's or is in use.
pub(crate) async fn retire(config: &Config) -> Result<bool, WireError> {
    let ledger = config.data_dir.join(LEDGER);
    if !ledger.exists() {
        return Ok(true);
    }
    if !nix::unistd::geteuid().is_root() {
        let what = "this board ran pods, and stopping them needs root: use sudo this once";
        return Err(failed("no-agent", what));
    }
    ours(&config.run_dir, &["net.lock", "rootfs", REFUSED])?;
    idle("cleanup", &config.run_dir, "net.lock")?;
    tracing::info!("this board runs no pods any more: stopping those that it ran");
    // A server's state matters more than what is left of its pods.
    let cleaned = cleanup::board(&board(config)).await;
    let stopped = !matches!(cleaned, Err(CleanupError::Runtime(_)));
    let removed = cleaned.map_err(|error| failed("clean up after this board's pods", error));
    if let Err(error) =
        removed.and_then(|()| remove(&config.run_dir)).and_then(|()| remove(&ledger))
    {
        tracing::warn!("{error}; it is tried again when this server starts the next time");
    }
    Ok(stopped)
}

fn board(config: &Config) -> cleanup::CleanupConfig {
    cleanup::CleanupConfig {
        data_dir: config.data_dir.clone(),
        run_dir: config.run_dir.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
        pod_cidr: wire::pod_cidr(&config.ranges.cluster_cidr),
        cluster_cidr: config.ranges.cluster_cidr.clone(),
        service_cidr: config.ranges.service_cidr.clone(),
        node_ip: config.node_ip,
    }
}

/// Refuses without root, and refuses directories on which an edged runs, and those that are not
/// edged's: nobody is asked before they are emptied, and a slip in `--data-dir` must not cost a
/// board its files.
///
/// # Errors
/// Names the directory and what to do.
pub(crate) fn check(config: &Config) -> Result<(), WireError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(failed("cleanup", "needs root: use sudo"));
    }
    let (data, run) = (&config.data_dir, &config.run_dir);
    ours(data, &["store/log", LEDGER, "pki/board.key"])?;
    ours(run, &["net.lock", "rootfs", REFUSED])?;
    idle("cleanup", data, "store/lock")?;
    idle("cleanup", run, "net.lock")
}

fn ours(dir: &Path, signs: &[&str]) -> Result<(), WireError> {
    let empty = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => return Err(failed(&format!("cleanup: read {}", dir.display()), error)),
    };
    if empty || signs.iter().any(|sign| dir.join(sign).exists()) {
        return Ok(());
    }
    let what = format!("{} has none of edged's files ({})", dir.display(), signs.join(", "));
    Err(failed("cleanup", format!("{what}: is it the right directory? Nothing was removed")))
}

/// An edged that runs holds a lock in each of its directories.
///
/// # Errors
/// When one runs there.
pub(crate) fn idle(operation: &str, dir: &Path, lock: &str) -> Result<(), WireError> {
    let Ok(file) = File::open(dir.join(lock)) else { return Ok(()) };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Err((_, Errno::EWOULDBLOCK)) => {
            let what = format!("an edged runs on {}: stop it first", dir.display());
            Err(failed(operation, what))
        }
        _ => Ok(()),
    }
}

/// Removes a directory; one that is a mount point stays, empty.
fn remove(dir: &Path) -> Result<(), WireError> {
    match empty(dir).and_then(|()| std::fs::remove_dir(dir)) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ResourceBusy) => {
            Err(failed(&format!("remove {}", dir.display()), error))
        }
        _ => Ok(()),
    }
}

fn empty(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_ours_that_nobody_uses() {
        let dir = std::env::temp_dir().join(format!("edged-cleanup-{}", std::process::id()));
        assert!(ours(&dir, &["net.lock"]).is_ok(), "not there");
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        let told = ours(&dir, &["net.lock"]).unwrap_err().to_string();
        assert!(told.contains("Nothing was removed"), "{told}");
        std::fs::write(dir.join("net.lock"), "").unwrap();
        assert!(ours(&dir, &["net.lock"]).is_ok());
        assert!(idle("cleanup", &dir, "net.lock").is_ok());
        let held =
            Flock::lock(File::open(dir.join("net.lock")).unwrap(), FlockArg::LockExclusiveNonblock);
        let told = idle("cleanup", &dir, "net.lock").unwrap_err().to_string();
        assert!(told.contains("stop it first"), "{told}");
        drop(held);
        remove(&dir).unwrap();
        assert!(!dir.exists());
    }
}
