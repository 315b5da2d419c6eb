//! `edged cleanup`: stops what runs on this board and takes away what edged made outside its
//! data directory: containers, namespaces, links, rules, mounts, cgroups.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use edge_node::cleanup::{self, CleanupError};
use edge_node::doctor::REFUSED;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::config::Config;
use crate::wire::{self, WireError, failed};

/// What the board was last told to run, in its data directory.
const LEDGER: &str = "ledger";
/// In a directory of edged's of which something could not be removed.
const UNFINISHED: &str = "removal-unfinished";

/// Removes everything of ours that lives in the kernel, and with `data` the data directory.
///
/// # Errors
/// Names the first thing that could not be removed; the rest has been tried all the same.
pub(crate) fn run(config: &Config, data: bool) -> Result<(), WireError> {
    let cleaned = wire::runtime()?.block_on(cleanup::board(&board(config)));
    let cleaned = cleaned.map_err(|e| failed("cleanup", e));
    let data = if data { remove(&config.data_dir) } else { Ok(()) };
    let run = remove(&config.run_dir);
    cleaned.and(data).and(run)
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
    ours(data, &["store/log", LEDGER, "pki/board.key", UNFINISHED])?;
    ours(run, &["net.lock", "rootfs", REFUSED, UNFINISHED])?;
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

/// Removes a directory. One that is a mount point or a link stays, empty; what is mounted beneath
/// it stays with all that is in it, and is named.
fn remove(dir: &Path) -> Result<(), WireError> {
    let about = |error| failed(&format!("remove {}", dir.display()), error);
    let real = match dir.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        real => real.map_err(about)?,
    };
    let mounts = cleanup::mounts_beneath(&real).map_err(about)?;
    empty(&real, &mounts).inspect_err(|_| {
        // By which the next try knows the directory for edged's, whatever is gone already.
        let _ = File::create(real.join(UNFINISHED));
    })?;
    match std::fs::remove_dir(dir) {
        Err(error)
            if !matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ResourceBusy | ErrorKind::NotADirectory
            ) =>
        {
            Err(about(error))
        }
        _ => Ok(()),
    }
}

/// Removes what is in a directory, but for `mounts`; gives the first error, after all was tried.
fn empty(dir: &Path, mounts: &[PathBuf]) -> Result<(), WireError> {
    let about = |path: &Path, error| Err(failed(&format!("remove {}", path.display()), error));
    let mut result = Ok(());
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return about(dir, error),
    };
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => return result.and(about(dir, error)),
        };
        result = result.and(if mounts.contains(&path) {
            let what = "another file system is mounted there, and stays as it is: unmount it";
            Err(failed(&format!("remove {}", path.display()), what))
        } else if mounts.iter().any(|mount| mount.starts_with(&path)) {
            empty(&path, mounts)
        } else {
            let is_dir = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
            let removed = match is_dir {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            removed.or_else(|error| about(&path, error))
        });
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::mount::MsFlags;

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

    #[test]
    fn what_is_mounted_beneath_stays_and_all_else_goes() {
        let dir = std::env::temp_dir().join(format!("edged-mounts-{}", std::process::id()));
        let old_disk = dir.join("images/disk");
        for sub in ["images/disk/theirs", "images/ours", "store", "pki"] {
            std::fs::create_dir_all(dir.join(sub)).unwrap();
        }
        std::fs::write(dir.join("pki/board.key"), "").unwrap();
        std::os::unix::fs::symlink("/", dir.join("link")).unwrap();
        let told = empty(&dir, std::slice::from_ref(&old_disk)).unwrap_err().to_string();
        assert!(told.contains("images/disk: another file system is mounted"), "{told}");
        assert!(old_disk.join("theirs").exists());
        let left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(left, [dir.join("images")]);
        assert!(!dir.join("images/ours").exists());
        remove(&dir).unwrap();
    }

    #[test]
    fn an_error_keeps_nothing_else() {
        let dir = std::env::temp_dir().join(format!("edged-busy-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("images")).unwrap();
        std::fs::create_dir_all(dir.join("pki")).unwrap();
        std::fs::create_dir_all(dir.join("aaa")).unwrap();
        let none = None::<&str>;
        let mounted =
            nix::mount::mount(none, &dir.join("images"), Some("tmpfs"), MsFlags::empty(), none);
        if let Err(error) = mounted {
            return eprintln!("SKIPPED: mounting a tmpfs: {error}");
        }
        let blind = empty(&dir, &[]).unwrap_err().to_string();
        let left = std::fs::read_dir(&dir).unwrap().count();
        std::fs::create_dir_all(dir.join("pki")).unwrap();
        let seen = remove(&dir).unwrap_err().to_string();
        let pki = dir.join("pki").exists();
        let again = ours(&dir, &["pki/board.key", UNFINISHED]);
        nix::mount::umount(&dir.join("images")).unwrap();
        remove(&dir).unwrap();
        assert!(blind.contains("images: ") && left == 1, "{blind}: {left} left");
        assert!(seen.contains("images: another file system") && !pki, "{seen}");
        assert!(again.is_ok() && !dir.exists(), "what is left is known for edged's");
    }
}
