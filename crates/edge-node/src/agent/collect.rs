//! Clears away what no pod on this board owns any more, and makes room when the disk fills up.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use edge_core::image_gc::Policy;

use super::board::Board;
use super::events::Grade::Warning;
use super::events::Subject;
use crate::images::Collected;
use crate::volumes;

/// With so much free nothing is removed, however large the disk is: what is gone must be pulled
/// again.
const PLENTY: u64 = 4 << 30;
/// How often the disk is looked at; nothing is written unless it is too full.
const IMAGES_EVERY: Duration = Duration::from_secs(300);
/// How often a collection is planned anew because images must stay.
const ROUNDS: usize = 8;

/// Removes containers, networks, volumes and logs of pods that have no worker. Whether one has is
/// asked just before each removal, for pods come while this goes on.
pub(crate) async fn sweep(board: Arc<Board>) {
    let wanted = |uid: &str| board.shows(uid);
    let records = board.runtime.list().unwrap_or_default();
    for record in records.iter().filter(|record| !wanted(&record.pod_uid)) {
        tracing::info!("container {} belongs to no pod of this board; removed", record.id);
        if let Err(error) = board.runtime.kill(&record.id).await {
            tracing::debug!("kill container {}: {error}", record.id);
        }
        if let Err(error) = board.runtime.remove(&record.id).await {
            tracing::warn!("remove container {}: {error}", record.id);
        }
    }
    let used = |uid: &str| wanted(uid) || board.checks().contains_key(uid);
    for uid in board.net.list_pods().into_iter().filter(|uid| !used(uid.as_str())) {
        if let Err(error) = board.net.remove_pod(&uid).await {
            tracing::warn!("remove the network of pod {uid}: {error}");
        }
    }
    let kept = names(&board.data_dir.join("pods"));
    for uid in kept.into_iter().filter(|uid| !wanted(uid)) {
        let dir = board.pod_dir(&uid);
        let task = tokio::task::spawn_blocking(move || volumes::take_down(&dir));
        if let Ok(Err(error)) = task.await {
            tracing::warn!("remove the volumes of pod {uid}: {error}");
        }
    }
    board.ledger.retain_pods(wanted);
    let logs = board.data_dir.join("log/pods");
    for name in names(&logs) {
        let uid = name.rsplit('_').next().unwrap_or_default();
        if !wanted(uid) {
            let _ = tokio::fs::remove_dir_all(logs.join(&name)).await;
        }
    }
}

fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Removes images that nothing uses when the disk fills up, every now and then.
pub(crate) async fn images(board: Arc<Board>) {
    loop {
        tokio::time::sleep(IMAGES_EVERY).await;
        if super::node::disk_size(&board.data_dir).is_none_or(|(_, free)| free > PLENTY) {
            continue;
        }
        let used: BTreeSet<String> = board
            .runtime
            .list()
            .unwrap_or_default()
            .into_iter()
            .flat_map(|record| [record.image, record.image_id])
            .collect();
        let keep = match last_copies(&board, &used).await {
            Ok(keep) => keep,
            Err(error) => {
                tracing::warn!("no images are removed, as no server says which must stay: {error}");
                continue;
            }
        };
        let images = board.images.clone();
        let work = move || images.collect(&used, &keep, &Policy::default());
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(done)) => {
                if !done.removed.is_empty() {
                    tracing::info!("removed {} images, {} bytes", done.removed.len(), done.bytes);
                    board.images_changed.notify_one();
                }
                if done.bytes < done.wanted && !done.kept.is_empty() {
                    say_full(&board, &done);
                }
            }
            Ok(Err(error)) => tracing::warn!("make room on the disk of images: {error}"),
            Err(error) => tracing::warn!("make room on the disk of images: {error}"),
        }
    }
}

/// The images that must stay, since names of the cluster point to them and no other board has
/// them. Asked again with what would go instead, until all that goes may go.
async fn last_copies(board: &Board, used: &BTreeSet<String>) -> Result<BTreeSet<String>, String> {
    let mut keep = BTreeSet::new();
    for _ in 0..ROUNDS {
        let gone = board.images.removable(used, &keep, &Policy::default());
        let gone = gone.map_err(|error| error.to_string())?;
        let stay = board.images.last_copies(&gone).await?;
        if stay.is_empty() {
            return Ok(keep);
        }
        keep.extend(stay);
    }
    Err("too many images are the last of their kind".to_owned())
}

/// Tells that the disk is full of images that only this board has.
fn say_full(board: &Board, done: &Collected) {
    let text = format!(
        "The disk is short of {} bytes, but {} images are the cluster's only copies of what was \
         pushed: remove names with `edgectl image rm`, or bring the images to another board",
        done.wanted - done.bytes,
        done.kept.len()
    );
    let about = Subject::node(&board.name, &board.name);
    board.events.say(&about, Warning, "FreeDiskSpaceFailed", text);
}
