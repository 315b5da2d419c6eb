//! One process at a time has a store's directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::OpenError;

/// Holds the directory until it is dropped; the kernel drops it for a process that dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes `<dir>/lock`, or says who has it.
    pub(crate) fn take(dir: &Path) -> Result<Lock, OpenError> {
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(OpenError::io("opening", &path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let written = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
                // The number only helps a person; a full disk must not keep the store shut.
                if let Err(error) = written.and_then(|_| writeln!(file, "{}", std::process::id())) {
                    tracing::warn!("store: noting our process in {}: {error}", path.display());
                }
                Ok(Lock { _file: file })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let pid = match file.read_to_string(&mut text) {
                    Ok(_) => text.trim().parse().ok(),
                    Err(_) => None,
                };
                Err(OpenError::Locked { path: dir.to_owned(), pid })
            }
            Err((_, errno)) => {
                Err(OpenError::Io { operation: "locking", path, source: errno.into() })
            }
        }
    }
}
