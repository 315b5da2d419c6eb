//! Taking a backup in, piece by piece, on the only server of a cluster that has nothing in it.
//! Until the last step nothing changes but files beside; with it no more is written, and the server
//! is to start again.

use super::sum::Sha256;
use super::{PIECE_BYTES, Room, install};
use crate::api::read_object;
use crate::http::{Reply, json};
use edge_api::backup::{ARRIVING, End, Reader, STAGED, Wish};
use edge_api::status::{Reason, Status};
use edge_api::{keys, meta};
use edge_core::backup::is_own;
use edge_store::ListOptions;
use serde_json::json as value;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Entries of a page when it is looked whether the cluster is empty.
const PAGE: usize = 256;

fn refuse(why: impl Into<String>) -> Status {
    Status::new(Reason::Conflict, why.into())
}

impl Room {
    fn arriving(&self) -> PathBuf {
        self.data_dir.join(ARRIVING)
    }

    /// Before anything is sent: whether it could be taken. `bytes` are to come, if that is told.
    pub(super) async fn begin(&self, bytes: Option<u64>) -> Result<Reply, Status> {
        let _turn = self.taking.lock().await;
        self.is_open()?;
        if self.data_dir.join(STAGED).exists() {
            return Err(refuse(
                "a backup is becoming this server's cluster: wait until it answers",
            ));
        }
        let (path, dir) = (self.arriving(), self.data_dir.clone());
        blocking(move || {
            make(&path)?;
            has_room(&dir, bytes).inspect_err(|_| leave(&path))
        })
        .await?;
        Ok(json(200, value!({ "pieceBytes": PIECE_BYTES }).to_string()))
    }

    /// The next bytes.
    pub(super) async fn piece(&self, at: u64, bytes: &[u8]) -> Result<Reply, Status> {
        let _turn = self.taking.lock().await;
        let (path, bytes) = (self.arriving(), bytes.to_vec());
        blocking(move || append(&path, at, &bytes)).await?;
        Ok(json(200, "{}"))
    }

    /// All is there: it becomes the cluster, if it is whole and there is still nothing to lose.
    pub(super) async fn end(&self, boards_lost: bool) -> Result<Reply, Status> {
        let _turn = self.taking.lock().await;
        self.is_open()?;
        let path = self.arriving();
        let end = blocking(move || judge(&path)).await?;
        self.api.inner.freeze(true).await;
        let staged = match self.is_open() {
            Ok(()) => {
                let (dir, wish) = (self.data_dir.clone(), Wish { boards_lost, replaces: true });
                blocking(move || install::stage(&dir, &wish).map_err(kept)).await
            }
            Err(status) => Err(status),
        };
        if let Err(status) = staged {
            self.api.inner.freeze(false).await;
            return Err(status);
        }
        tracing::info!("a backup as of revision {} becomes this cluster", end.revision);
        self.api.inner.restart.notify_one();
        let answer = value!({ "objects": end.objects, "revision": end.revision });
        Ok(json(200, answer.to_string()))
    }

    /// Whether nothing would be lost.
    fn is_open(&self) -> Result<(), Status> {
        let standing = self.api.inner.leadership.standing();
        let others: Vec<_> = standing.members.all().filter(|info| info.id != standing.me).collect();
        if let Some(other) = others.first() {
            return Err(refuse(format!(
                "the cluster is not empty, it has the server {}: restore into a new one, on one \
                 board",
                other.name
            )));
        }
        match self.somebodys()? {
            Some(found) => Err(refuse(format!(
                "the cluster is not empty, it has {found}: restore into a new one"
            ))),
            None => Ok(()),
        }
    }

    /// The first object that somebody has made in this cluster.
    fn somebodys(&self) -> Result<Option<String>, Status> {
        let mut after = None;
        loop {
            let options = ListOptions { after, limit: PAGE, at: None };
            let listing = self.api.store().list("", options).map_err(Status::internal)?;
            for entry in &listing.entries {
                let Some(kind) = keys::kind_of(&entry.key) else { continue };
                let object = read_object(&entry.value)?;
                if !is_own(kind, &object, &self.api.inner.name) {
                    let (space, name) = (meta::namespace(&object), meta::name(&object));
                    let at = if space.is_empty() { String::new() } else { format!(" in {space}") };
                    return Ok(Some(format!("{}/{name}{at}", kind.singular)));
                }
            }
            after = listing.entries.last().map(|entry| entry.key.to_string());
            if !listing.more {
                return Ok(None);
            }
        }
    }
}

/// What could not be kept, which a full disk is most often.
fn kept(error: io::Error) -> Status {
    Status::new(Reason::InternalError, format!("keep the backup on the server: {error}"))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(Status::internal)?
}

/// Whether the disk takes what is to come, and beside it the store that is made of it.
fn has_room(dir: &Path, bytes: Option<u64>) -> Result<(), Status> {
    let needs = bytes.map_or(0, |bytes| bytes.saturating_add(edge_store::restore_needs(bytes)));
    match edge_store::free_bytes(dir).filter(|free| *free < needs) {
        Some(free) => Err(refuse(install::room_words(dir, needs, free))),
        None => Ok(()),
    }
}

/// Nobody can use half of it, and it takes room.
fn leave(path: &Path) {
    drop(path.parent().map(fs::remove_dir_all));
}

/// An empty file, in place of whatever an earlier attempt left.
fn make(path: &Path) -> Result<(), Status> {
    let made = || -> io::Result<()> {
        if let Some(dir) = path.parent() {
            match fs::remove_dir_all(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => fs::create_dir(dir)?,
            }
        }
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.sync_all()
    };
    made().map_err(kept)
}

fn append(path: &Path, at: u64, bytes: &[u8]) -> Result<(), Status> {
    let mut file =
        OpenOptions::new().append(true).open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => refuse("no restore has begun here"),
            _ => kept(error),
        })?;
    let length = file.metadata().map_err(kept)?.len();
    if length != at {
        let why = format!("byte {at} was sent where {length} is next: somebody else restores too");
        return Err(refuse(why));
    }
    file.write_all(bytes).map_err(|error| {
        leave(path);
        kept(error)
    })
}

/// Whether what came is whole, and on the disk.
fn judge(path: &Path) -> Result<End, Status> {
    let file = File::open(path).map_err(|_| refuse("no restore has begun here"))?;
    file.sync_all().map_err(kept)?;
    let read = || {
        let mut reader = Reader::begin(BufReader::new(&file), Sha256::default())?;
        reader.head.is_for(env!("CARGO_PKG_VERSION"))?;
        reader.finish(|_| {})
    };
    read().map_err(|error| Status::bad_request(format!("the backup that was sent: {error}")))
}
