//! Room for what joining brings, tried before anything is asked for: a server that admitted a board
//! waits for it, and the board's token is spent.

use std::fs;
use std::io;
use std::path::Path;

use edge_server::join::Role;
use edge_store::{Disk, DiskFile, RealDisk, SEGMENT_BYTES};

use super::JoinError;

/// Keys, certificates and what is kept of the cluster, and as much again while each is replaced.
const KEYS_BYTES: u64 = 256 * 1024;
/// What the store and the rest of a server's directory take at first, beside log and state.
const SERVER_BYTES: u64 = 4 * 1024 * 1024;
/// The file that takes the room for a moment.
const TRIAL: &str = "joining.room";

/// What a board needs that joins a cluster whose state has so many bytes.
fn needed(role: Role, state_bytes: u64) -> u64 {
    match role {
        Role::Agent => KEYS_BYTES,
        // Log and state of before and after the first snapshot, for a moment both.
        Role::Server => {
            let states = state_bytes.saturating_mul(2);
            KEYS_BYTES + SERVER_BYTES + 2 * SEGMENT_BYTES + states
        }
    }
}

/// Takes the room, has the disk keep it, and lets go of it again.
///
/// # Errors
/// Says how much is needed, where, and that the token still serves.
pub(super) fn check(data_dir: &Path, role: Role, state_bytes: u64) -> Result<(), JoinError> {
    let bytes = needed(role, state_bytes);
    let path = data_dir.join(TRIAL);
    let tried = take(&path, bytes);
    let removed = fs::remove_file(&path);
    tried.and(removed).map_err(|error| JoinError::File {
        operation: "join: make sure of room in",
        path: data_dir.to_owned(),
        reason: format!(
            "{error}: {} KiB are needed there as {role}; nothing was asked for, and the token can \
             still be used",
            bytes / 1024
        ),
    })
}

fn take(path: &Path, bytes: u64) -> io::Result<()> {
    let file: DiskFile = RealDisk.open(path, true)?;
    RealDisk.allocate(&file, bytes)?;
    // What is reserved need not be what can be written.
    let keys = vec![0x5a; usize::try_from(KEYS_BYTES).unwrap_or_default()];
    let mut at = 0;
    while at < keys.len() {
        let written = RealDisk.write_at(&file, &keys[at..], at as u64)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        at += written;
    }
    RealDisk.sync(&file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_is_found_out_before() {
        let dir = std::env::temp_dir().join(format!("edged-room-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        check(&dir, Role::Agent, 0).unwrap();
        check(&dir, Role::Server, 1 << 20).unwrap();
        assert!(needed(Role::Server, 1 << 30) > (2 << 30));
        let why = check(&dir, Role::Server, 1 << 60).unwrap_err().to_string();
        assert!(why.contains("the token can still be used") && !why.contains('\n'), "{why}");
        let left = fs::read_dir(&dir).unwrap().count();
        assert_eq!(left, 0, "nothing stays");
        fs::remove_dir_all(&dir).unwrap();
        assert!(check(&dir, Role::Agent, 0).is_err(), "no directory");
    }
}
