//! Takes one layer from other boards: from where the servers say, going on elsewhere when a board
//! stalls or breaks off, and beginning anew when what came is not what was asked for.

use super::super::ImageStore;
use super::super::digest::{Digest, Hasher};
use super::super::disk::Blob;
use super::super::error::ImageError;
use super::super::manifest::Descriptor;
use super::super::progress::{Progress, Step};
use super::super::share::Seen;
use super::super::unpack::Limits;
use super::{Holder, Lan};
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

/// Sources that are tried for one layer.
const TRIES: usize = 64;
/// Boards that read along are told each time so many bytes have come.
const TELL_EVERY: u64 = 256 * 1024;

/// A layer that is wanted.
#[derive(Debug, Clone)]
pub(in crate::images) struct Wanted {
    /// Of its uncompressed stream.
    pub(in crate::images) diff: Digest,
    /// Its compressed form, if the manifest names one.
    pub(in crate::images) packed: Option<Descriptor>,
}

/// What came of it.
pub(in crate::images) enum Taken {
    /// The layer's stream, checked.
    Blob(Blob),
    /// This board may fetch it from the registry, and tells how that went.
    Uplink,
    /// Nobody has it.
    Nowhere,
}

/// A layer on its way.
struct Partly {
    digest: Digest,
    blob: Blob,
    file: File,
    hasher: Hasher,
    done: u64,
    told: u64,
    length: u64,
    seen: watch::Sender<Seen>,
    /// The boards that gave parts.
    from: BTreeSet<String>,
}

enum Broken {
    /// The source has failed.
    Source(String),
    /// The board here has.
    Here(ImageError),
}

impl Lan {
    /// Where a blob is to be had; `None`: this board may fetch it from the registry.
    async fn want(
        &self,
        digests: &[Digest],
        refused: &BTreeSet<(String, String)>,
        uplink: bool,
    ) -> Result<Option<Holder>, String> {
        let body = json!({ "digests": digests, "refused": refused, "uplink": uplink });
        let answer = self.ask("want", body).await?;
        if answer["uplink"] == true {
            return Ok(None);
        }
        let holder = serde_json::from_value(answer["from"].clone());
        holder.map(Some).map_err(|_| "no board has it".to_owned())
    }
}

impl ImageStore {
    /// Takes a layer from the boards; `uplink` says whether a registry is there as well.
    pub(in crate::images) async fn take_from_lan(
        &self,
        lan: &Lan,
        wanted: &Wanted,
        uplink: bool,
        progress: &Progress,
    ) -> Result<Taken, ImageError> {
        let mut digests = vec![wanted.diff.clone()];
        digests.extend(wanted.packed.iter().map(|packed| packed.digest.clone()));
        let mut refused: BTreeSet<(String, String)> = BTreeSet::new();
        let mut partly: Option<Partly> = None;
        let mut resume = true;
        for _ in 0..TRIES {
            let holder = match lan.want(&digests, &refused, uplink).await {
                Ok(Some(holder)) => holder,
                Ok(None) => return Ok(Taken::Uplink),
                Err(error) => {
                    tracing::debug!(%error, "ask where a layer is");
                    return Ok(Taken::Nowhere);
                }
            };
            let Some(digest) = digests.iter().find(|d| d.as_str() == holder.digest) else {
                return Ok(Taken::Nowhere);
            };
            let begun = partly.take().filter(|begun| resume && begun.digest == *digest);
            let step = Step::From { layer: wanted.diff.clone(), board: holder.node.clone() };
            progress.tell(step);
            let mut work = match begun {
                Some(begun) => begun,
                None => self.begin(digest).await?,
            };
            let size = wanted.packed.as_ref().filter(|p| p.digest == *digest).map(|p| p.size);
            let copied = self.copy(lan, &holder, &mut work, size, progress);
            let refusal = (holder.node.clone(), holder.digest.clone());
            match lan.confirming(digest, copied).await {
                Ok(()) => {
                    let found = std::mem::replace(&mut work.hasher, Hasher::new()).finish();
                    if found == *digest {
                        work.seen.send_replace(Seen { written: work.done, whole: true });
                        return Ok(Taken::Blob(work.blob));
                    }
                    if work.from.len() > 1 {
                        // One of several gave wrong bytes; whoever did will do so alone as well.
                        resume = false;
                    } else {
                        tracing::warn!(board = %holder.node, %digest, %found,
                            "a board gave a wrong layer; it is not asked again for it");
                        refused.insert(refusal);
                    }
                }
                Err(Broken::Source(why)) => {
                    tracing::debug!(board = %holder.node, %digest, why, "take from a board");
                    let layer = wanted.diff.clone();
                    let why = format!("board {}: {why}", holder.node);
                    progress.tell(Step::Retrying { layer, why });
                    refused.insert(refusal);
                    partly = Some(work);
                }
                Err(Broken::Here(error)) => {
                    lan.moved(digest, "failed", None).await;
                    return Err(error);
                }
            }
        }
        Ok(Taken::Nowhere)
    }

    async fn begin(&self, digest: &Digest) -> Result<Partly, ImageError> {
        let blob: Blob = Arc::new(self.0.ingest.file());
        let path = blob.path();
        let file = File::create(path).await.map_err(|e| ImageError::file("create", path, &e))?;
        Ok(Partly {
            digest: digest.clone(),
            file,
            hasher: Hasher::new(),
            done: 0,
            told: 0,
            length: 0,
            seen: watch::channel(Seen::default()).0,
            from: BTreeSet::new(),
            blob,
        })
    }

    /// Copies what is still missing from one board.
    async fn copy(
        &self,
        lan: &Lan,
        holder: &Holder,
        work: &mut Partly,
        size: Option<u64>,
        progress: &Progress,
    ) -> Result<(), Broken> {
        let answer = lan.open(holder, &work.digest, work.done).await.map_err(Broken::Source)?;
        let left = answer.headers().get(CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse().ok());
        let left: u64 = left.ok_or_else(|| Broken::Source("it gives no length".into()))?;
        let length = work.done.saturating_add(left);
        if size.is_some_and(|size| size > 0 && size != length)
            || (work.length > 0 && work.length != length)
        {
            return Err(Broken::Source(format!("it has {length} bytes of it, which is wrong")));
        }
        if work.length == 0 {
            self.room(length).map_err(Broken::Here)?;
            work.length = length;
            work.seen = self.arriving(&work.digest, &work.blob, length);
        }
        work.from.insert(holder.node.clone());
        let here = |e: std::io::Error| Broken::Here(ImageError::io("write a layer", &e));
        work.file.seek(std::io::SeekFrom::Start(work.done)).await.map_err(here)?;
        let mut body = answer.into_body();
        while work.done < length {
            let frame = timeout(lan.stall, body.frame()).await;
            let frame = frame.map_err(|_| Broken::Source("it stalls".into()))?;
            let frame = frame.ok_or_else(|| Broken::Source("it broke off".into()))?;
            let frame = frame.map_err(|error| Broken::Source(error.to_string()))?;
            let Some(data) = frame.data_ref() else { continue };
            if data.len() as u64 > length - work.done {
                return Err(Broken::Source("it sends more than it said".into()));
            }
            work.hasher.update(data);
            work.file.write_all(data).await.map_err(here)?;
            work.done += data.len() as u64;
            if work.done - work.told >= TELL_EVERY || work.done == length {
                work.file.flush().await.map_err(here)?;
                work.told = work.done;
                work.seen.send_replace(Seen { written: work.done, whole: false });
                let layer = work.digest.clone();
                progress.tell(Step::Downloading { layer, done: work.done, total: length });
            }
        }
        work.file.flush().await.map_err(here)
    }

    /// Refuses what the disk can't take.
    fn room(&self, length: u64) -> Result<(), ImageError> {
        let dir = self.0.ingest.dir();
        let free =
            Limits::of_disk(dir).map_err(|e| ImageError::file("examine the disk of", dir, &e))?;
        if length <= free.bytes {
            return Ok(());
        }
        let detail = format!("it has {length} bytes, the disk {} to give", free.bytes);
        Err(ImageError::Full { what: "take a layer from a board".into(), detail })
    }
}
