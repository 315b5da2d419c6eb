//! A backup becomes the cluster of this board: before a server opens anything, what was put aside
//! for it is made into a store and keys. The new store is built beside the old one; a kill at any
//! moment leaves the backup in its place, and the next start does it again.

use super::sum::Sha256;
use crate::api::Unstamped;
use crate::pki::{ClusterSecrets, PkiError, from_hex, write_atomically};
use edge_api::backup::{ARRIVING, End, Head, ReadError, Reader, STAGED, WISH, Wish};
use edge_core::backup::{Fate, Lost, fate, is_judged};
use edge_store::{Revision, SnapshotError};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

/// The store that is being made, in the directory of what was put aside.
const FRESH: &str = "restore/store";

/// What a board has of a cluster that it joined: the one that a backup makes is its own.
const JOINED: [&str; 6] = [
    "cluster.json",
    "pki/cluster.json",
    "pki/beat.key",
    "pki/leader.key",
    "pki/board-server.crt",
    "pki/node.crt",
];

/// What a server became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// What the backup said of the cluster.
    pub head: Head,
    /// The revision that the backup was of.
    pub of: Revision,
    /// The one that the cluster goes on from.
    pub revision: Revision,
}

/// Why it did not become that; one line, which names what to do.
#[derive(Debug)]
pub enum InstallError {
    /// The backup is not what was put aside.
    Backup(PathBuf, ReadError),
    /// There is a cluster already, which nobody has found to be empty.
    Used(PathBuf),
    /// The disk has no room for the store.
    Room {
        /// The data directory.
        dir: PathBuf,
        /// Bytes that it takes, about.
        needs: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The store could not be made of it.
    Store(SnapshotError),
    /// The keys could not be written.
    Pki(PkiError),
    /// A file or directory.
    Io(&'static str, PathBuf, io::Error),
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InstallError::Backup(path, error) => write!(
                f,
                "restore {}: {error}; to start without it, remove {}",
                path.display(),
                path.parent().unwrap_or(path).display()
            ),
            InstallError::Used(dir) => write!(
                f,
                "restore: {} holds a cluster already, which would be lost: to keep that, remove \
                 {}; to restore, use an empty --data-dir",
                dir.display(),
                dir.join("restore").display()
            ),
            InstallError::Room { dir, needs, free } => write!(
                f,
                "restore: {}; to start without it, remove {}",
                room_words(dir, *needs, *free),
                dir.join("restore").display()
            ),
            InstallError::Store(error) => write!(f, "restore: {error}"),
            InstallError::Pki(error) => write!(f, "restore: {error}"),
            InstallError::Io(doing, path, error) => {
                write!(f, "restore: {doing} {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for InstallError {}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    move |error| InstallError::Io(doing, path.to_owned(), error)
}

/// How a disk is told that has no room.
pub(super) fn room_words(dir: &Path, needs: u64, free: u64) -> String {
    let mb = |bytes: u64| bytes.div_ceil(1_000_000);
    format!(
        "the disk of {} has no room for the backup, which takes {} MB, and {} MB are free: make \
         room there, or restore on another board",
        dir.display(),
        mb(needs),
        free / 1_000_000
    )
}

/// Whether a backup waits to become the cluster of this data directory. What was left of one that
/// never came whole is removed.
pub fn is_pending(data_dir: &Path) -> bool {
    let staged = data_dir.join(STAGED);
    if staged.exists() {
        return true;
    }
    // That it can't be removed hurts nobody: the next attempt begins with an empty one as well.
    let _ = fs::remove_dir_all(data_dir.join("restore"));
    false
}

/// Puts what has arrived, whole and on the disk, in the place where the next start finds it.
pub(super) fn stage(data_dir: &Path, wish: &Wish) -> io::Result<()> {
    let text = serde_json::to_vec(wish).map_err(io::Error::other)?;
    write_atomically(&data_dir.join(WISH), &text, 0o600)?;
    let staged = data_dir.join(STAGED);
    fs::rename(data_dir.join(ARRIVING), &staged)?;
    sync_dir_of(&staged)
}

fn sync_dir_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Makes the waiting backup the cluster of this data directory, on the board `name`.
///
/// # Errors
/// Nothing is lost then: the backup is still there, and so is what it would have replaced, unless
/// that had nothing in it.
pub fn install(data_dir: &Path, name: &str) -> Result<Installed, InstallError> {
    let staged = data_dir.join(STAGED);
    let broken = |error| InstallError::Backup(staged.clone(), error);
    // What an attempt of before has left takes no room from this one.
    remove(&data_dir.join(FRESH))?;
    let bytes = fs::metadata(&staged).map_err(io("read", &staged))?.len();
    let needs = edge_store::restore_needs(bytes);
    if let Some(free) = edge_store::free_bytes(data_dir).filter(|free| *free < needs) {
        return Err(InstallError::Room { dir: data_dir.to_owned(), needs, free });
    }
    let (head, end) = look(&staged).map_err(broken)?;
    let wish = wish(data_dir)?;
    let has = |file: &str| data_dir.join(file).exists();
    let used = ["store", "pki/ca.key", "cluster.json", "pki/cluster.json"].into_iter().any(has);
    if used && !wish.replaces {
        return Err(InstallError::Used(data_dir.to_owned()));
    }
    let revision = build(data_dir, &staged, name, &wish)?;
    // From here on the old one is not whole, and the next start may go on without asking.
    let text = serde_json::to_vec(&Wish { replaces: true, ..wish }).unwrap_or_default();
    let path = data_dir.join(WISH);
    write_atomically(&path, &text, 0o600).map_err(io("write", &path))?;
    for name in JOINED {
        let path = data_dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(InstallError::Io("remove", path, error));
            }
            _ => {}
        }
    }
    keys(data_dir, &head)?;
    let (fresh, store) = (data_dir.join(FRESH), data_dir.join("store"));
    remove(&store)?;
    fs::rename(&fresh, &store).map_err(io("make", &store))?;
    sync_dir_of(&store).map_err(io("keep", &store))?;
    fs::remove_file(&staged).map_err(io("remove", &staged))?;
    sync_dir_of(&staged).map_err(io("keep", &staged))?;
    remove(&data_dir.join("restore"))?;
    Ok(Installed { head, of: end.revision, revision })
}

fn open(staged: &Path) -> Result<Reader<BufReader<File>, Sha256>, ReadError> {
    let reader = Reader::begin(BufReader::new(File::open(staged)?), Sha256::default())?;
    reader.head.is_for(env!("CARGO_PKG_VERSION"))?;
    Ok(reader)
}

/// Reads all of it once, before anything is made of it.
fn look(staged: &Path) -> Result<(Head, End), ReadError> {
    let mut reader = open(staged)?;
    let end = reader.finish(|_| {})?;
    Ok((reader.head, end))
}

fn wish(data_dir: &Path) -> Result<Wish, InstallError> {
    let path = data_dir.join(WISH);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| InstallError::Io("read", path, io::Error::other(error))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Wish::default()),
        Err(error) => Err(InstallError::Io("read", path, error)),
    }
}

/// Makes the store beside the one that is there.
fn build(
    data_dir: &Path,
    staged: &Path,
    name: &str,
    wish: &Wish,
) -> Result<Revision, InstallError> {
    let fresh = data_dir.join(FRESH);
    let broken = |error| InstallError::Backup(staged.to_owned(), error);
    let mut reader = open(staged).map_err(broken)?;
    let servers = reader.head.servers.iter().map(|server| server.name.clone());
    let lost = match wish.boards_lost {
        true => Lost::All,
        false => Lost::Named(servers.chain([name.to_owned()]).collect()),
    };
    let mut change = |key: &str, later, value| judge(&lost, key, later, value);
    let built = edge_store::restore_later(&fresh, &mut reader, &mut change);
    // A service manager tries again and again: what did not come to its end fills no disk
    // meanwhile.
    built.map_err(InstallError::Store).inspect_err(|_| {
        let _ = remove(&fresh);
    })
}

/// What becomes of what stands under a key.
fn judge(lost: &Lost, key: &str, later: Revision, value: Vec<u8>) -> edge_store::Fate {
    let kept = edge_store::Fate::Kept;
    if !is_judged(key) {
        return kept(value);
    }
    let Ok(object) = serde_json::from_slice(&value) else { return kept(value) };
    match fate(key, object, lost) {
        Fate::Kept => kept(value),
        Fate::Gone => edge_store::Fate::Gone,
        Fate::Changed(object) => match Unstamped::write(&object) {
            Ok(written) => edge_store::Fate::Changed(written.at(later).to_vec()),
            Err(_) => kept(value),
        },
    }
}

/// Makes the cluster's keys this server's, and its ranges. The board's own key stays its own.
fn keys(data_dir: &Path, head: &Head) -> Result<(), InstallError> {
    let staged = || data_dir.join(STAGED);
    let secret = from_hex(&head.secret).ok_or_else(|| {
        let broken = edge_api::backup::Broken::Damaged("the cluster's secret");
        InstallError::Backup(staged(), broken.into())
    })?;
    let secrets = ClusterSecrets { id: head.cluster.clone(), secret };
    secrets.write(data_dir).map_err(InstallError::Pki)?;
    let ranges = serde_json::json!({
        "clusterCidr": head.cluster_cidr,
        "serviceCidr": head.service_cidr,
        "clusterDomain": head.cluster_domain,
    });
    for (name, text, mode) in [
        ("pki/ca.key", &head.ca_key, 0o600),
        ("pki/ca.crt", &head.ca, 0o644),
        ("ranges.json", &format!("{ranges:#}\n"), 0o644),
    ] {
        let path = data_dir.join(name);
        write_atomically(&path, text.as_bytes(), mode).map_err(io("write", &path))?;
    }
    Ok(())
}

fn remove(dir: &Path) -> Result<(), InstallError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(InstallError::Io("remove", dir.to_owned(), error))
        }
        _ => Ok(()),
    }
}
