//! What the board last knew of Services, their endpoints and the other boards, on disk: a board
//! that boots with no server in reach sends traffic and answers for names as it did before. Written
//! when that has changed, seldom, and never because time passed: `docs/adr/0026-recall.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_api::Object;
use ring::digest::{SHA256, digest};
use tokio::time::Instant;

use super::ledger::write_atomic;

/// A change waits so long for others: a rollout is many.
const SETTLE: Duration = Duration::from_secs(3);
/// Bytes a second that are written in the long run, whatever changes how often.
const PACE: i64 = 512;
/// Bytes that may be written beyond that after a quiet time.
const BURST: i64 = 256 * 1024;
/// What a write costs beside its bytes: the file's last block, its entry and the file system's
/// own notes, about.
const OVERHEAD: i64 = 12 * 1024;
/// A write that failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(60);
/// How long servers may take for their first answer, before the disk stands in for them. Less than
/// pods wait, which are given variables of Services.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1500);

/// How much may be written: filled by time, emptied by writes.
#[derive(Debug)]
struct Purse {
    bytes: i64,
    at: Instant,
}

impl Purse {
    /// Takes what a write of so many bytes costs; or says how long that has to wait.
    fn take(&mut self, bytes: usize, now: Instant) -> Result<(), Duration> {
        let seconds = now.saturating_duration_since(self.at).as_secs();
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        self.bytes = self.bytes.saturating_add(seconds.saturating_mul(PACE)).min(BURST);
        self.at += Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let cost = i64::try_from(bytes).unwrap_or(i64::MAX).saturating_add(OVERHEAD);
        // What is larger than the purse is paid off afterwards.
        let missing = cost.min(BURST) - self.bytes;
        if missing > 0 {
            let seconds = u64::try_from(missing / PACE + 1).unwrap_or(1);
            return Err(Duration::from_secs(seconds));
        }
        self.bytes -= cost;
        Ok(())
    }
}

/// One file of it: objects, one a line.
#[derive(Debug)]
pub(crate) struct Recall {
    path: PathBuf,
    /// What the file holds, as far as is known.
    kept: Option<[u8; 32]>,
    /// What was said of a file that can't be written.
    said: String,
    due: Option<Instant>,
    purse: Purse,
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

impl Recall {
    /// The file of this name in the ledger of a board.
    pub(crate) fn new(data_dir: &Path, name: &str) -> Recall {
        Recall {
            path: data_dir.join("ledger").join(name),
            kept: None,
            said: String::new(),
            due: None,
            purse: Purse { bytes: BURST, at: Instant::now() },
        }
    }

    /// What the file holds. A line that can't be read is left out, with a warning.
    pub(crate) fn load(&mut self) -> Vec<Object> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::warn!("read {}: {error}", self.path.display());
                return Vec::new();
            }
        };
        self.kept = Some(hash(&bytes));
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        let lines = lines.into_iter().filter(|line| !line.is_empty());
        let read = lines.map(serde_json::from_slice).collect::<Vec<Result<Object, _>>>();
        if let Some(error) = read.iter().find_map(|line| line.as_ref().err()) {
            tracing::warn!("{} is damaged, and used in part: {error}", self.path.display());
        }
        read.into_iter().flatten().collect()
    }

    /// There may be something to write.
    pub(crate) fn changed(&mut self) {
        self.due.get_or_insert(Instant::now() + SETTLE);
    }

    /// Waits until it is time to write.
    pub(crate) async fn due(&self) {
        match self.due {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Writes these objects, if the file holds others and enough time has passed.
    pub(crate) async fn save(&mut self, objects: impl Iterator<Item = Object>) {
        let mut bytes = Vec::new();
        for object in objects {
            bytes.extend_from_slice(object.to_string().as_bytes());
            bytes.push(b'\n');
        }
        self.due = None;
        let hash = hash(&bytes);
        if self.kept == Some(hash) {
            return;
        }
        let now = Instant::now();
        if let Err(wait) = self.purse.take(bytes.len(), now) {
            self.due = Some(now + wait);
            return;
        }
        let (path, length) = (self.path.clone(), bytes.len());
        let wrote = tokio::task::spawn_blocking(move || write_atomic(&path, &bytes)).await;
        match wrote.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => {
                tracing::debug!("{} holds {length} bytes", self.path.display());
                self.kept = Some(hash);
                self.said.clear();
            }
            Err(error) => {
                // Once: a full disk is full for long.
                let why = format!("write {}: {error}", self.path.display());
                if self.said != why {
                    tracing::warn!("{why}; tried again every 60 s");
                    self.said = why;
                }
                self.due = Some(now + RETRY);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(recall: &Recall) -> bool {
        std::fs::remove_file(&recall.path).is_ok()
    }

    #[tokio::test]
    async fn written_when_changed_and_read_back() {
        let dir = std::env::temp_dir().join(format!("edged-recall-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("ledger")).unwrap();
        let mut recall = Recall::new(&dir, "things");
        assert_eq!(recall.load(), Vec::<Object>::new());
        let things = || [json!({"a": 1}), json!({"b": "two\n"})].into_iter();
        recall.save(things()).await;
        assert_eq!(recall.load(), things().collect::<Vec<_>>());
        assert!(written(&recall));
        recall.save(things()).await;
        assert!(!written(&recall), "nothing has changed");
        recall.save(things().take(1)).await;
        let mut again = Recall::new(&dir, "things");
        assert_eq!(again.load().len(), 1);
        std::fs::write(&again.path, "{\"a\":1}\n{\"b\":").unwrap();
        assert_eq!(again.load(), vec![json!({"a": 1})], "what can be read of it");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_changes_all_the_time_is_written_seldom() {
        let start = Instant::now();
        let mut purse = Purse { bytes: BURST, at: start };
        let (mut now, mut bytes, mut writes) = (start, 0, 0);
        // A day with a change of 20 kB every 3 s.
        while now < start + Duration::from_secs(86_400) {
            if purse.take(20_000, now).is_ok() {
                bytes += 20_000 + OVERHEAD;
                writes += 1;
            }
            now += SETTLE;
        }
        assert!(bytes <= BURST + 86_400 * PACE, "{bytes}");
        assert!((1_300..1_500).contains(&writes), "{writes}");
        // Seven changes after a quiet hour are all written.
        now += Duration::from_secs(3600);
        assert!((0..7).all(|n| purse.take(20_000, now + SETTLE * n).is_ok()));
        // A file larger than the purse has its turn as well, and is paid for afterwards.
        now += Duration::from_secs(3600);
        assert!(purse.take(1_000_000, now).is_ok());
        assert!(purse.take(1_000_000, now).is_err_and(|wait| wait.as_secs() > 1900));
    }
}
