//! Stops a board's pods in order before the board goes off: ordinary pods first, critical ones
//! after them, each with its grace, cut to what a board has before it is switched off. What the
//! kubelet's graceful node shutdown does; no edged runs meanwhile. Afterwards it is as if the power
//! had been cut: no end is noted, and the next boot starts all of them again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use edge_api::Object;
use edge_core::pod::Desired;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::agent::{desired, signal_number, stored_pods};
use crate::images::{ImageStore, ImagesConfig};
use crate::runtime::{Runtime, RuntimeConfig, RuntimeError};
use crate::seams::{ContainerRecord, ContainerState, Exit};

/// Priority from which on a pod is critical: that of the class `system-cluster-critical`.
const CRITICAL: i32 = 2_000_000_000;
/// How long the kernel may take to end what was killed.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// How long pods may take at most.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Ordinary ones, all together.
    pub ordinary: Duration,
    /// Critical ones, after them.
    pub critical: Duration,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Pods that ran.
    pub pods: usize,
    /// Those of them that did not end by themselves in time.
    pub killed: usize,
}

/// A pod that runs.
struct Running {
    pod: Option<Desired>,
    /// Each container, and the signal that asks it to end.
    containers: Vec<(ContainerRecord, i32)>,
}

/// Stops all pods of the board.
///
/// # Errors
/// When what runs can't be found out. A container that can't be stopped is said, and left.
pub async fn stop(config: RuntimeConfig, bounds: Bounds) -> Result<Stopped, RuntimeError> {
    let begun = std::fs::read_dir(config.run_dir.join("containers"));
    if begun.map_or(true, |mut names| names.next().is_none()) {
        // Nothing was started in this boot, and nothing is to be made for it now.
        return Ok(Stopped::default());
    }
    let data_dir = config.data_dir.clone();
    let (runtime, exits) = Runtime::new(config)?;
    let ends = count(exits);
    let (critical, ordinary): (Vec<_>, Vec<_>) =
        running(&runtime, &data_dir)?.into_iter().partition(Running::is_critical);
    let mut stopped = Stopped { pods: critical.len() + ordinary.len(), killed: 0 };
    for (pods, limit) in [(ordinary, bounds.ordinary), (critical, bounds.critical)] {
        let last = Instant::now() + limit;
        let mut stops = JoinSet::new();
        for pod in pods {
            stops.spawn(pod.stop(runtime.clone(), ends.clone(), last));
        }
        while let Some(killed) = stops.join_next().await {
            stopped.killed += usize::from(killed.unwrap_or(true));
        }
    }
    Ok(stopped)
}

/// Counts ends of containers, for those who wait for one.
fn count(mut exits: mpsc::Receiver<Exit>) -> watch::Receiver<u64> {
    let (ended, ends) = watch::channel(0);
    tokio::spawn(async move {
        while exits.recv().await.is_some() {
            ended.send_modify(|n| *n += 1);
        }
    });
    ends
}

/// The pods that run, with what the ledger knows of them.
fn running(runtime: &Runtime, data_dir: &Path) -> Result<Vec<Running>, RuntimeError> {
    let stored: Vec<Object> = stored_pods(data_dir);
    let known = stored.iter().filter_map(|object| desired(object).ok());
    let mut known: BTreeMap<String, Desired> =
        known.map(|pod| (pod.uid().to_owned(), pod)).collect();
    let images = ImageStore::open(&data_dir.join("images"), ImagesConfig::default()).ok();
    let mut pods: BTreeMap<String, Running> = BTreeMap::new();
    for record in runtime.list()? {
        if let ContainerState::Running { .. } = record.state {
            let uid = record.pod_uid.clone();
            let pod = pods
                .entry(uid.clone())
                .or_insert_with(|| Running { pod: known.remove(&uid), containers: Vec::new() });
            let signal = pod.signal(&record, images.as_ref());
            pod.containers.push((record, signal));
        }
    }
    Ok(pods.into_values().collect())
}

impl Running {
    fn is_critical(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| pod.spec().priority.unwrap_or(0) >= CRITICAL)
    }

    /// The stop signal: the pod's, else the image's, else SIGTERM.
    fn signal(&self, record: &ContainerRecord, images: Option<&ImageStore>) -> i32 {
        let container = self.pod.as_ref().and_then(|pod| pod.container(&record.name));
        let own = container.and_then(|c| c.lifecycle.as_ref()?.stop_signal.clone());
        let of_image = || images?.find(&record.image)?.config.stop_signal;
        own.or_else(of_image).and_then(|name| signal_number(&name)).unwrap_or(libc::SIGTERM)
    }

    /// Asks the containers to end, sidecars after the others, and kills those that have not by the
    /// end of their grace, or `last`. True when one had to be.
    async fn stop(self, runtime: Runtime, mut ends: watch::Receiver<u64>, last: Instant) -> bool {
        let grace = self.pod.as_ref().map_or(30, Desired::grace_s);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let until = (Instant::now() + grace).min(last);
        let side = |(record, _): &&(ContainerRecord, i32)| {
            let pod = self.pod.as_ref();
            pod.is_some_and(|pod| pod.container(&record.name).is_some_and(|c| pod.is_sidecar(c)))
        };
        let (sidecars, ordinary): (Vec<_>, Vec<_>) = self.containers.iter().partition(side);
        for wave in [ordinary, sidecars] {
            if !grace.is_zero() {
                for (record, signal) in &wave {
                    // One that has ended meanwhile needs none.
                    let _ = runtime.signal(&record.id, *signal);
                }
            }
            let ids: Vec<&str> = wave.iter().map(|(record, _)| record.id.as_str()).collect();
            let _ = timeout_at(until, all_ended(&runtime, &ids, &mut ends)).await;
        }
        let ids: Vec<&str> = self.containers.iter().map(|(c, _)| c.id.as_str()).collect();
        let left: Vec<&&str> = ids.iter().filter(|id| runs(&runtime, id)).collect();
        for id in &left {
            if let Err(error) = runtime.kill(id).await {
                tracing::warn!("kill container {id}: {error}");
            }
        }
        let gone = Instant::now() + AFTER_KILL;
        let _ = timeout_at(gone, all_ended(&runtime, &ids, &mut ends)).await;
        for id in &ids {
            if let Err(error) = runtime.forget_end(id) {
                tracing::warn!("container {id}: {error}: its end is taken for its own");
            }
        }
        !left.is_empty()
    }
}

fn runs(runtime: &Runtime, id: &str) -> bool {
    let all = runtime.list().unwrap_or_default();
    all.iter().any(|c| c.id == id && matches!(c.state, ContainerState::Running { .. }))
}

async fn all_ended(runtime: &Runtime, ids: &[&str], ends: &mut watch::Receiver<u64>) {
    while ids.iter().any(|id| runs(runtime, id)) {
        if ends.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
