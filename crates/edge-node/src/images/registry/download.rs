//! Downloads one blob to a file: verified by size and digest, tried again with back-off, and from
//! where it stopped when the registry can. As long as bytes keep coming it doesn't give up.

use super::super::ImageStore;
use super::super::digest::{Digest, Hasher};
use super::super::disk::Blob;
use super::super::error::ImageError;
use super::super::manifest::Descriptor;
use super::super::progress::{Progress, Step};
use super::super::share::Seen;
use super::super::unpack::Limits;
use super::session::Session;
use super::wire::broken;
use http::StatusCode;
use http::header::CONTENT_RANGE;
use http_body_util::BodyExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

/// Progress is told each time so many bytes have come.
const TELL_EVERY: u64 = 1 << 20;
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A blob whose bytes are wrong is fetched anew so many times: a broken proxy may have bad days.
const CORRUPT_MAX: u32 = 1;

struct Download<'a> {
    session: &'a Session,
    descriptor: &'a Descriptor,
    progress: &'a Progress,
    file: File,
    path: &'a Path,
    hasher: Hasher,
    done: u64,
    told: u64,
    /// Tells other boards that read along how far it is.
    seen: watch::Sender<Seen>,
}

/// Fetches a blob into `ingest`.
pub(super) async fn download(
    session: &Session,
    descriptor: &Descriptor,
    store: &ImageStore,
    progress: &Progress,
) -> Result<Blob, ImageError> {
    let what = format!("layer {}", descriptor.digest);
    let ingest = &store.0.ingest;
    let free = Limits::of_disk(ingest.dir())
        .map_err(|e| ImageError::file("examine the disk of", ingest.dir(), &e))?;
    if descriptor.size > free.bytes {
        let (size, free) = (descriptor.size, free.bytes);
        let detail = format!("it has {size} bytes, the disk {free} to give");
        return Err(ImageError::Full { what: format!("download {what}"), detail });
    }
    let temporary = Arc::new(ingest.file());
    let path = temporary.path().to_path_buf();
    let file = File::create(&path).await.map_err(|e| ImageError::file("create", &path, &e))?;
    let seen = store.arriving(&descriptor.digest, &temporary, descriptor.size);
    let mut work = Download {
        session,
        descriptor,
        progress,
        file,
        path: &path,
        hasher: Hasher::new(),
        done: 0,
        told: 0,
        seen,
    };
    work.run(&what).await?;
    work.seen.send_replace(Seen { written: work.done, whole: true });
    drop(work);
    Ok(temporary)
}

impl Download<'_> {
    async fn run(&mut self, what: &str) -> Result<(), ImageError> {
        let timing = &self.session.wire.timing;
        let (mut failures, mut corrupt) = (0, 0);
        loop {
            let before = self.done;
            let error = match self.attempt(what).await {
                Ok(()) => match self.verify(what).await {
                    Ok(()) => return Ok(()),
                    Err(error) => {
                        corrupt += 1;
                        if corrupt > CORRUPT_MAX {
                            return Err(error);
                        }
                        self.restart().await?;
                        error
                    }
                },
                Err(error) if error.transient() => error,
                Err(error) => return Err(error),
            };
            failures = if self.done > before { 1 } else { failures + 1 };
            if failures >= timing.attempts {
                return Err(error);
            }
            let layer = self.descriptor.digest.clone();
            self.progress.tell(Step::Retrying { layer, why: error.to_string() });
            let wait = timing.backoff.saturating_mul(1 << (failures - 1).min(10));
            tokio::time::sleep(wait.min(BACKOFF_MAX)).await;
        }
    }

    /// One request, until it ends or breaks.
    async fn attempt(&mut self, what: &str) -> Result<(), ImageError> {
        let host = self.session.endpoint.authority.clone();
        let size = self.descriptor.size;
        if size > 0 && self.done == size {
            return Ok(());
        }
        let answer = self.session.blob(&self.descriptor.digest, self.done).await?;
        if self.done > 0 {
            let start = format!("bytes {}-", self.done);
            let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
            let resumed = answer.status() == StatusCode::PARTIAL_CONTENT
                && range.is_some_and(|range| range.starts_with(&start));
            if !resumed {
                self.restart().await?;
                if answer.status() != StatusCode::OK {
                    return Err(ImageError::registry(host, what, "it resumes elsewhere"));
                }
            }
        }
        let mut body = answer.into_body();
        loop {
            let frame = timeout(self.session.wire.timing.read, body.frame())
                .await
                .map_err(|_| ImageError::registry(&host, what, "no byte came for too long"))?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|e| ImageError::registry(&host, what, broken(&e)))?;
            let Some(data) = frame.data_ref() else { continue };
            self.done += data.len() as u64;
            if size > 0 && self.done > size {
                let detail = format!("it is longer than the {size} bytes announced");
                return Err(ImageError::Corrupt { what: what.to_string(), detail });
            }
            self.hasher.update(data);
            self.file.write_all(data).await.map_err(|e| self.broke("write", &e))?;
            self.tell().await?;
        }
        if self.done < size {
            let detail = format!("it ended after {} of {size} bytes", self.done);
            return Err(ImageError::registry(host, what, detail));
        }
        Ok(())
    }

    async fn tell(&mut self) -> Result<(), ImageError> {
        if self.done - self.told >= TELL_EVERY || self.done == self.descriptor.size {
            self.told = self.done;
            self.file.flush().await.map_err(|e| self.broke("write", &e))?;
            self.seen.send_replace(Seen { written: self.done, whole: false });
            self.progress.tell(Step::Downloading {
                layer: self.descriptor.digest.clone(),
                done: self.done,
                total: self.descriptor.size,
            });
        }
        Ok(())
    }

    /// Complete; is it what was asked for?
    async fn verify(&mut self, what: &str) -> Result<(), ImageError> {
        self.file.flush().await.map_err(|e| self.broke("write", &e))?;
        let found: Digest = std::mem::replace(&mut self.hasher, Hasher::new()).finish();
        if found == self.descriptor.digest {
            return Ok(());
        }
        Err(ImageError::Corrupt {
            what: format!("{what} from {}", self.session.endpoint.authority),
            detail: format!("digest mismatch: what came has {found}"),
        })
    }

    async fn restart(&mut self) -> Result<(), ImageError> {
        self.hasher = Hasher::new();
        // Who reads along hears that this file is not to be.
        self.seen = watch::channel(Seen::default()).0;
        (self.done, self.told) = (0, 0);
        self.file.flush().await.map_err(|e| self.broke("write", &e))?;
        self.file.set_len(0).await.map_err(|e| self.broke("truncate", &e))?;
        self.file.rewind().await.map(drop).map_err(|e| self.broke("rewind", &e))
    }

    fn broke(&self, verb: &str, error: &std::io::Error) -> ImageError {
        ImageError::file(verb, self.path, error)
    }
}
