//! What the run directory says of each pod's network: one small file per pod, written before
//! anything is made and again when all of it stands. After a crash the files tell which
//! pods are whole, and whose leftovers have to go.

use super::error::NetError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

const FILE: &str = "network";
const LAST: &str = "last-address";
/// How the board's ends of the pods' interface pairs begin.
pub(super) const PAIR_PREFIX: &str = "edv";

/// One pod's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// True once namespaces, interfaces and addresses stand.
    pub(super) ready: bool,
    /// True for a pod on the board's own network.
    pub(super) host_network: bool,
    /// Its address, if it has one of its own.
    pub(super) ip: Option<Ipv4Addr>,
}

/// The name of the board's end of a pod's interface pair.
pub(super) fn pair_name(uid: &str) -> String {
    let digest = Sha256::digest(uid.as_bytes());
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{PAIR_PREFIX}{hex}")
}

/// Refuses a uid that could not be a directory's name.
pub(super) fn check_uid(uid: &str) -> Result<(), NetError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good =
        !uid.is_empty() && uid.len() <= 128 && !uid.starts_with('.') && uid.chars().all(allowed);
    if good { Ok(()) } else { Err(NetError::BadUid { uid: uid.to_owned() }) }
}

/// The files of all pods.
#[derive(Debug)]
pub(super) struct Records {
    pods: PathBuf,
    last: PathBuf,
}

impl Records {
    /// Below a run directory, which is made when missing.
    pub(super) fn open(run_dir: &Path) -> Result<Records, NetError> {
        let records = Records { pods: run_dir.join("pods"), last: run_dir.join(LAST) };
        std::fs::create_dir_all(&records.pods)
            .map_err(NetError::file("create the directory", &records.pods))?;
        // What a crash left half written.
        let _ = std::fs::remove_file(beside(&records.last));
        Ok(records)
    }

    /// A pod's directory.
    pub(super) fn directory(&self, uid: &str) -> PathBuf {
        self.pods.join(uid)
    }

    /// Writes a pod's record, whole or not at all.
    pub(super) fn write(&self, uid: &str, record: &Record) -> Result<(), NetError> {
        let directory = self.directory(uid);
        std::fs::create_dir_all(&directory)
            .map_err(NetError::file("create the directory", &directory))?;
        let text = serde_json::to_vec(record)
            .expect("invariant: a record of plain values can always be written as JSON");
        replace(&directory.join(FILE), &text)
    }

    /// Every pod that has a directory, with its record if it can be read.
    pub(super) fn list(&self) -> Result<Vec<(String, Option<Record>)>, NetError> {
        let failed = NetError::file("list", &self.pods);
        let entries = match std::fs::read_dir(&self.pods) {
            Ok(entries) => entries,
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let Ok(uid) = entry.file_name().into_string() else { continue };
            if check_uid(&uid).is_err() {
                continue;
            }
            let text = std::fs::read(entry.path().join(FILE)).unwrap_or_default();
            found.push((uid, serde_json::from_slice(&text).ok()));
        }
        Ok(found)
    }

    /// A pod's record, if it stands; nothing is made.
    pub(super) fn of(run_dir: &Path, uid: &str) -> Option<Record> {
        check_uid(uid).ok()?;
        let text = std::fs::read(run_dir.join("pods").join(uid).join(FILE)).ok()?;
        serde_json::from_slice(&text).ok().filter(|record: &Record| record.ready)
    }

    /// Removes a pod's record, and its directory unless others keep files in it.
    pub(super) fn remove(&self, uid: &str) -> Result<(), NetError> {
        let directory = self.directory(uid);
        let record = directory.join(FILE);
        for path in [beside(&record), record] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(NetError::file("remove", &path)(error));
                }
                _ => {}
            }
        }
        match std::fs::remove_dir(&directory) {
            Err(error)
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) =>
            {
                Err(NetError::file("remove", &directory)(error))
            }
            _ => Ok(()),
        }
    }

    /// The address that was given out last.
    pub(super) fn last_address(&self) -> Option<Ipv4Addr> {
        std::fs::read_to_string(&self.last).ok()?.trim().parse().ok()
    }

    /// Remembers the address that was given out last.
    pub(super) fn set_last_address(&self, address: Ipv4Addr) -> Result<(), NetError> {
        replace(&self.last, address.to_string().as_bytes())
    }

    /// Removes what isn't any pod's.
    pub(super) fn remove_all(&self) {
        let _ = std::fs::remove_file(&self.last);
        let _ = std::fs::remove_dir(&self.pods);
    }
}

/// Where a file's new content is written first.
fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Puts a new file in place of an old one. The run directory ends with the board's uptime, so
/// nothing is synced.
fn replace(path: &Path, content: &[u8]) -> Result<(), NetError> {
    let new = beside(path);
    std::fs::write(&new, content).map_err(NetError::file("write", &new))?;
    std::fs::rename(&new, path).map_err(NetError::file("replace", path))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn uids_that_lead_elsewhere_are_refused() {
        for bad in ["", ".", "..", "a/b", "../x", "a b", "\u{e9}"] {
            assert!(check_uid(bad).is_err(), "{bad:?}");
        }
        assert!(check_uid("0b7ac6a4-52f0-4b8a-9a3c-1f0a5f1f4b11").is_ok());
    }

    #[test]
    fn a_pod_that_stands_has_its_address_without_an_agent() {
        let dir = std::env::temp_dir().join(format!("edged-records-{}", std::process::id()));
        let records = Records::open(&dir).unwrap();
        let ip = Some(Ipv4Addr::new(10, 42, 0, 7));
        for (uid, ready, host_network, ip) in
            [("a", true, false, ip), ("b", false, false, ip), ("c", true, true, None)]
        {
            records.write(uid, &Record { ready, host_network, ip }).unwrap();
        }
        let board = "192.0.2.1".parse().unwrap();
        let found = ["a", "b", "c", "..", "d"].map(|uid| super::super::address(&dir, uid, board));
        assert_eq!(found, [ip.map(IpAddr::V4), None, Some(board), None, None]);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn pair_names_fit_the_kernel() {
        let name = pair_name("0b7ac6a4-52f0-4b8a-9a3c-1f0a5f1f4b11");
        assert_eq!(name.len(), 15);
        assert_ne!(name, pair_name("another"));
    }
}
