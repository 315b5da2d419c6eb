//! Loads images from an archive, with no registry: OCI layouts and what `docker save` writes, plain
//! or compressed. The archive is a stream, so its blobs go to `ingest/` as they come, and are put
//! together when it ends.

mod layout;

use super::decompress::Decompressor;
use super::digest::{Digest, HashingReader};
use super::disk::{Blob, Ingest};
use super::error::{ImageError, unsmuggle};
use super::install::blocking;
use super::progress::{Progress, Step};
use super::tarstream::{Entry, Kind, TarReader};
use super::unpack::Limits;
use super::{ImageStore, unpack};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

pub(super) const WHAT: &str = "image archive";
/// Chunks under way from the network to the disk.
const PIPE_CAPACITY: usize = 8;
const PIPE_CHUNK: usize = 64 * 1024;
/// An archive with more files is none of images.
const FILES_MAX: usize = 20_000;
/// No more than this is read after the end of the archive.
const TRAILER_MAX: u64 = 16 << 20;
/// Progress is told each time so many bytes have come.
const TELL_EVERY: u64 = 8 << 20;

/// A file of the archive, on disk.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) blob: Blob,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// All files of an archive, by path, and its links.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) files: BTreeMap<String, Stored>,
    pub(super) links: BTreeMap<String, String>,
}

impl ImageStore {
    /// Loads all images of an archive that are for this board, and returns their names; of images
    /// without a name, their ids.
    pub async fn load(
        &self,
        reader: impl AsyncRead + Send + Unpin,
        progress: &Progress,
    ) -> Result<Vec<String>, ImageError> {
        self.load_as(reader, true, progress).await
    }

    /// The same, but takes the content only, whatever the archive calls it; returns ids.
    pub(super) async fn load_unnamed(
        &self,
        reader: impl AsyncRead + Send + Unpin,
        progress: &Progress,
    ) -> Result<Vec<String>, ImageError> {
        self.load_as(reader, false, progress).await
    }

    async fn load_as(
        &self,
        reader: impl AsyncRead + Send + Unpin,
        named: bool,
        progress: &Progress,
    ) -> Result<Vec<String>, ImageError> {
        let _turn = self.0.turns.take("load".into()).await;
        let contents = self.receive(reader, progress).await?;
        let board = self.0.config.platform.clone();
        let found = blocking("read an archive", move || layout::images(contents, &board)).await?;
        let mut loaded = Vec::new();
        for mut image in found {
            if !named {
                image.candidate.names.clear();
            }
            let fetch = |number: usize| {
                let blob = image.layers.get(number).cloned();
                let label = image.candidate.label.clone();
                async move {
                    blob.unwrap_or_else(|| {
                        Err(ImageError::malformed(WHAT, format!("{label} has too few layers")))
                    })
                }
            };
            let installed = self.install(&image.candidate, fetch, progress).await?;
            if image.candidate.names.is_empty() {
                loaded.push(installed.id);
            } else {
                loaded.extend(image.candidate.names);
            }
        }
        Ok(loaded)
    }

    /// Pumps the stream to a thread that takes it apart.
    async fn receive(
        &self,
        mut reader: impl AsyncRead + Send + Unpin,
        progress: &Progress,
    ) -> Result<Contents, ImageError> {
        let (sender, receiver) = mpsc::channel(PIPE_CAPACITY);
        let (store, told) = (self.clone(), progress.clone());
        let work = tokio::spawn(blocking("read an archive", move || {
            let pipe = Pipe { receiver, chunk: Bytes::new(), done: 0, told: 0, progress: told };
            collect(pipe, &store.0.ingest)
        }));
        let mut buffer = vec![0; PIPE_CHUNK];
        let failed = loop {
            match reader.read(&mut buffer).await {
                Ok(0) => break None,
                // When the other end has stopped, with an error or at the archive's end, the rest
                // is read all the same: who sends it would miss the answer otherwise.
                Ok(n) => drop(sender.send(Ok(Bytes::copy_from_slice(&buffer[..n]))).await),
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = failed {
            let detail = format!("the transfer broke off: {error}");
            let lost = io::Error::new(io::ErrorKind::UnexpectedEof, detail);
            drop(sender.send(Err(lost)).await);
        }
        drop(sender);
        match work.await {
            Ok(result) => result,
            Err(e) => Err(ImageError::Io { operation: WHAT.into(), detail: e.to_string() }),
        }
    }
}

/// The receiving end: chunks from the network as a blocking reader.
struct Pipe {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
    done: u64,
    told: u64,
    progress: Progress,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(chunk) => self.chunk = chunk?,
            }
        }
        let n = buf.len().min(self.chunk.len());
        buf[..n].copy_from_slice(&self.chunk.split_to(n));
        self.done += n as u64;
        if self.done - self.told >= TELL_EVERY {
            self.told = self.done;
            self.progress.tell(Step::Reading { done: self.done });
        }
        Ok(n)
    }
}

/// Takes the archive apart.
fn collect(source: impl Read, ingest: &Ingest) -> Result<Contents, ImageError> {
    let stream = |e: io::Error| unsmuggle(e, stream_error);
    let mut tar = TarReader::new(Decompressor::new(source).map_err(stream)?);
    let mut contents = Contents::default();
    while let Some(entry) = tar.next().map_err(stream)? {
        let path = unpack::clean_name(&entry.path)
            .map_err(|e| ImageError::malformed(WHAT, format!("{}: {e}", shown(&entry))))?;
        if contents.files.len() + contents.links.len() >= FILES_MAX {
            return Err(ImageError::malformed(WHAT, format!("it has over {FILES_MAX} files")));
        }
        match entry.kind {
            Kind::File => {
                let stored = store(&entry, &path, &mut tar, ingest)?;
                contents.files.insert(path, stored);
            }
            Kind::Symlink | Kind::HardLink => {
                let target = String::from_utf8_lossy(&entry.link).into_owned();
                let from = match (entry.kind, path.rsplit_once('/')) {
                    (Kind::Symlink, Some((parent, _))) => format!("{parent}/{target}"),
                    _ => target,
                };
                let target = unpack::clean_name(from.as_bytes())
                    .map_err(|e| ImageError::malformed(WHAT, format!("{}: {e}", shown(&entry))))?;
                contents.links.insert(path, target);
            }
            _ => {}
        }
    }
    // What follows is padding, or the checksum of the compression.
    io::copy(&mut tar.into_inner().take(TRAILER_MAX), &mut io::sink()).map_err(stream)?;
    Ok(contents)
}

fn shown(entry: &Entry) -> String {
    format!("entry \"{}\"", entry.path.escape_ascii())
}

fn stream_error(error: &io::Error) -> ImageError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            ImageError::malformed(WHAT, error.to_string())
        }
        _ => ImageError::io(format!("read the {WHAT}"), error),
    }
}

/// Writes one file of the archive to disk. Files that are named by their digest must have it.
fn store(
    entry: &Entry,
    path: &str,
    tar: &mut impl Read,
    ingest: &Ingest,
) -> Result<Stored, ImageError> {
    if entry.runs.is_some() {
        return Err(ImageError::malformed(WHAT, format!("{} is sparse", shown(entry))));
    }
    let free = Limits::of_disk(ingest.dir())
        .map_err(|e| ImageError::file("examine the disk of", ingest.dir(), &e))?;
    if entry.size > free.bytes {
        return Err(ImageError::Full {
            what: format!("store {path} of the {WHAT}"),
            detail: format!("it has {} bytes, the disk {} to give", entry.size, free.bytes),
        });
    }
    let temporary = ingest.file();
    let mut file = File::create(temporary.path())
        .map_err(|e| ImageError::file("create", temporary.path(), &e))?;
    let mut hashing = HashingReader::new(tar.take(entry.size));
    io::copy(&mut hashing, &mut file).map_err(|e| unsmuggle(e, stream_error))?;
    let (digest, size) = hashing.finish();
    if size != entry.size {
        return Err(ImageError::malformed(WHAT, format!("it ends in the middle of {path}")));
    }
    if let Some(hex) = path.strip_prefix("blobs/sha256/")
        && hex != digest.hex()
    {
        let detail = format!("its content has digest {digest}");
        return Err(ImageError::Corrupt { what: format!("{path} in the {WHAT}"), detail });
    }
    Ok(Stored { blob: Arc::new(temporary), digest, size })
}
