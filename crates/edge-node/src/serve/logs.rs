//! `/containerLogs`: streams a container's log, following it for as long as the container runs.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use edge_api::status::Status;
use edge_api::time;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::find;
use super::query::Query;
use super::read_log::{Log, Wanted};
use super::reply::{self, Reply};
use crate::agent::{Board, now_ms};
use crate::runtime::Stream;
use crate::seams::ContainerRecord;

/// What a request asks for.
fn wanted(query: &Query) -> Result<Wanted, String> {
    let since_ms = match (query.number("sinceSeconds")?, query.get("sinceTime")) {
        (Some(seconds), _) => {
            Some(now_ms() - i64::try_from(seconds).unwrap_or(i64::MAX / 2000) * 1000)
        }
        (None, Some(text)) => {
            let parsed = time::parse(text);
            Some(parsed.ok_or_else(|| format!("sinceTime: \"{text}\" is not an RFC 3339 time"))?)
        }
        (None, None) => None,
    };
    let stream = match query.get("stream") {
        None | Some("" | "All") => None,
        Some("Stdout") => Some("stdout"),
        Some("Stderr") => Some("stderr"),
        Some(other) => return Err(format!("stream: \"{other}\" is not All, Stdout or Stderr")),
    };
    Ok(Wanted {
        tail: query.number("tailLines")?,
        since_ms,
        timestamps: query.flag("timestamps", "timestamps"),
        limit: query.number("limitBytes")?,
        stream,
    })
}

/// The live log file of a run.
pub(super) fn path(board: &Board, run: &ContainerRecord, pod: &crate::agent::PodView) -> PathBuf {
    let dir = board.log_dir(pod.namespace(), pod.name(), pod.uid());
    dir.join(&run.name).join(format!("{}.log", run.attempt))
}

/// Answers a request for a log.
pub(super) fn serve(
    board: &Arc<Board>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Result<Reply, Status> {
    let wanted = wanted(query).map_err(Status::bad_request)?;
    let pod = find::pod(board, namespace, pod)?;
    let run = find::for_log(board, &pod, container, query.flag("previous", "previous"))?;
    let live = path(board, &run, &pod);
    let follow = query.flag("follow", "follow");
    let (out, reply) = reply::stream("text/plain");
    let board = board.clone();
    tokio::spawn(async move {
        if let Err(error) = copy(&board, &run, &live, wanted, follow, &out).await {
            tracing::debug!("read the log {}: {error}", live.display());
        }
    });
    Ok(reply)
}

/// Copies a log to a client.
pub(super) async fn copy(
    board: &Board,
    run: &ContainerRecord,
    live: &Path,
    wanted: Wanted,
    follow: bool,
    out: &mpsc::Sender<Bytes>,
) -> std::io::Result<()> {
    let mut exits = board.exits.subscribe();
    let mut changes = if follow { Changes::of(live)? } else { None };
    let mut log = Log::open(live, wanted)?;
    loop {
        // Asked before the last read, so that nothing written before the end is missed.
        let ended = !follow || !still_runs(board, &run.id);
        while let Some(bytes) = log.read()? {
            if !bytes.is_empty() && out.send(bytes.into()).await.is_err() {
                return Ok(());
            }
            if log.full() {
                return Ok(());
            }
        }
        if ended {
            return Ok(());
        }
        tokio::select! {
            () = out.closed() => return Ok(()),
            _ = exits.changed() => {}
            () = Changes::wait(changes.as_mut()) => {}
        }
    }
}

fn still_runs(board: &Board, id: &str) -> bool {
    let all = board.runtime.list().unwrap_or_default();
    all.iter().any(|run| run.id == id && find::lives(run))
}

/// News about files in a directory.
struct Changes(Stream);

impl Changes {
    /// Of the directory that `live` is in.
    fn of(live: &Path) -> std::io::Result<Option<Changes>> {
        let Some(dir) = live.parent() else { return Ok(None) };
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let flags =
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        inotify.add_watch(dir, flags)?;
        Ok(Some(Changes(Stream::new(inotify.as_fd().try_clone_to_owned()?)?)))
    }

    /// Waits for the next changes; which they are does not matter.
    async fn wait(changes: Option<&mut Changes>) {
        let Some(Changes(stream)) = changes else { return std::future::pending().await };
        let mut buffer = [0; 4096];
        if stream.read(&mut buffer).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
