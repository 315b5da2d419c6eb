//! The board's private key for tunnels: made here, kept in a file that root alone reads, told to
//! nobody but the kernel, which answers with the public one. It goes with the board's identity: a
//! board that joins again, with another key of its own, makes another one here as well.

use super::super::error::NetError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Below the data directory.
const DIRECTORY: &str = "pki";
const FILE: &str = "wireguard.key";
/// The same while it is written.
const FRESH: &str = "wireguard.key.new";
/// The key that the board is known by in its cluster.
const IDENTITY: &str = "board.key";

/// The private key, made if there is none that belongs to the board as it is now.
pub(super) fn own(data_dir: &Path) -> Result<[u8; 32], NetError> {
    let directory = data_dir.join(DIRECTORY);
    let identity = directory.join(IDENTITY);
    let whose = match std::fs::read(&identity) {
        Ok(key) => key,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(NetError::file("read", &identity)(error)),
    };
    let whose: String = Sha256::digest(whose).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = directory.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            if let Some(key) = parse(&text, &whose) {
                return Ok(key);
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(NetError::file("read", &path)(error)),
    }
    let key = generate()?;
    keep(&directory, &format!("{} {whose}\n", STANDARD.encode(key)))
        .map_err(NetError::file("write", &path))?;
    Ok(key)
}

/// Removes the private key, and what is left of one that was being written.
pub(super) fn forget(data_dir: &Path) -> Result<(), NetError> {
    for name in [FILE, FRESH] {
        let path = data_dir.join(DIRECTORY).join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(NetError::file("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn parse(text: &str, whose: &str) -> Option<[u8; 32]> {
    let (key, owner) = text.trim().split_once(' ')?;
    let key = <[u8; 32]>::try_from(STANDARD.decode(key).ok()?).ok()?;
    (owner == whose).then_some(key)
}

/// Chance, with the bits set that Curve25519 wants set: the kernel would set them as well, and we
/// could not tell whether it has our key.
fn generate() -> Result<[u8; 32], NetError> {
    let mut key = [0; 32];
    SystemRandom::new()
        .fill(&mut key)
        .map_err(|_| NetError::kernel("make", "a key for tunnels")(nix::errno::Errno::EIO))?;
    key[0] &= 0b1111_1000;
    key[31] = (key[31] & 0b0111_1111) | 0b0100_0000;
    Ok(key)
}

/// Writes the file whole or not at all, over power cuts as well.
fn keep(directory: &Path, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let (path, fresh) = (directory.join(FILE), directory.join(FRESH));
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, &path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_stays_as_long_as_the_board_is_who_it_is() {
        let dir = std::env::temp_dir().join(format!("edged-wireguard-{}", std::process::id()));
        let first = own(&dir).unwrap();
        assert_eq!(own(&dir).unwrap(), first);
        assert!(first[0] & 7 == 0 && first[31] >> 6 == 1);
        let path = dir.join("pki/wireguard.key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(dir.join("pki/board.key"), "another identity").unwrap();
        let second = own(&dir).unwrap();
        assert_ne!(second, first, "it joined again");
        assert_eq!(own(&dir).unwrap(), second);
        std::fs::write(&path, "cut short by a power cut").unwrap();
        assert_ne!(own(&dir).unwrap(), second);
        forget(&dir).unwrap();
        assert!(!path.exists() && dir.join("pki/board.key").exists());
        forget(&dir).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
