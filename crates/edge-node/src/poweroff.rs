//! Stops a board's pods in order before the board goes off: ordinary pods first, critical ones
//! after them, each with its preStop hooks and its grace, cut to what a board has before it is
//! switched off. What the kubelet's graceful node shutdown does; no edged runs meanwhile.
//! Afterwards it is as if the power had been cut: no end is noted, and the next boot starts all of
//! them again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edge_api::Object;
use edge_core::pod::{Desired, after_hook_ms, pre_stop};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::agent::{desired, signal_number, stored_pods};
use crate::images::{ImageStore, ImagesConfig};
use crate::net;
use crate::probes::{self, Target};
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
    /// Its address, for hooks that ask it.
    ip: Option<IpAddr>,
    /// Each container, and the signal that asks it to end.
    containers: Vec<(ContainerRecord, i32)>,
}

/// Stops all pods of the board, whose address is `node_ip`.
///
/// # Errors
/// When what runs can't be found out. A container that can't be stopped is said, and left.
pub async fn stop(
    config: RuntimeConfig,
    node_ip: IpAddr,
    bounds: Bounds,
) -> Result<Stopped, RuntimeError> {
    let begun = std::fs::read_dir(config.run_dir.join("containers"));
    if begun.map_or(true, |mut names| names.next().is_none()) {
        // Nothing was started in this boot, and nothing is to be made for it now.
        return Ok(Stopped::default());
    }
    let (data_dir, run_dir) = (config.data_dir.clone(), config.run_dir.clone());
    let (runtime, exits) = Runtime::new(config)?;
    let ends = count(exits);
    let ip = |uid: &str| net::address(&run_dir, uid, node_ip);
    let (critical, ordinary): (Vec<_>, Vec<_>) =
        running(&runtime, &data_dir, &ip)?.into_iter().partition(Running::is_critical);
    let mut stopped = Stopped { pods: critical.len() + ordinary.len(), killed: 0 };
    for (pods, limit) in [(ordinary, bounds.ordinary), (critical, bounds.critical)] {
        let last = Instant::now() + limit;
        let mut stops = JoinSet::new();
        for pod in pods {
            stops.spawn(Arc::new(pod).stop(runtime.clone(), ends.clone(), last));
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
fn running(
    runtime: &Runtime,
    data_dir: &Path,
    ip: &dyn Fn(&str) -> Option<IpAddr>,
) -> Result<Vec<Running>, RuntimeError> {
    let stored: Vec<Object> = stored_pods(data_dir);
    let known = stored.iter().filter_map(|object| desired(object).ok());
    let mut known: BTreeMap<String, Desired> =
        known.map(|pod| (pod.uid().to_owned(), pod)).collect();
    let images = ImageStore::open(&data_dir.join("images"), ImagesConfig::default()).ok();
    let mut pods: BTreeMap<String, Running> = BTreeMap::new();
    for record in runtime.list()? {
        if let ContainerState::Running { .. } = record.state {
            let uid = record.pod_uid.clone();
            let pod = pods.entry(uid.clone()).or_insert_with(|| Running {
                pod: known.remove(&uid),
                ip: ip(&uid),
                containers: Vec::new(),
            });
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

    /// Ends the containers, sidecars after the others, and kills those that have not by the end of
    /// their grace, or `last`. True when one had to be.
    async fn stop(
        self: Arc<Self>,
        runtime: Runtime,
        ends: watch::Receiver<u64>,
        last: Instant,
    ) -> bool {
        let grace = self.pod.as_ref().map_or(30, Desired::grace_s);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let until = (Instant::now() + grace).min(last);
        let side = |at: &usize| {
            let pod = self.pod.as_ref();
            let name = &self.containers[*at].0.name;
            pod.is_some_and(|pod| pod.container(name).is_some_and(|c| pod.is_sidecar(c)))
        };
        let (sidecars, ordinary): (Vec<_>, Vec<_>) = (0..self.containers.len()).partition(side);
        for wave in [ordinary, sidecars] {
            let mut stops = JoinSet::new();
            for at in wave {
                let (pod, runtime, ends) = (self.clone(), runtime.clone(), ends.clone());
                stops.spawn(async move { pod.end(at, &runtime, ends, grace, until).await });
            }
            while stops.join_next().await.is_some() {}
        }
        self.kill(&runtime, ends).await
    }

    /// Asks one container to end after its preStop hook, and waits for that as long as it may take.
    async fn end(
        &self,
        at: usize,
        runtime: &Runtime,
        mut ends: watch::Receiver<u64>,
        grace: Duration,
        until: Instant,
    ) {
        let (record, signal) = &self.containers[at];
        let began = Instant::now();
        let bound = grace.min(until.saturating_duration_since(began));
        let container = self.pod.as_ref().and_then(|pod| pod.container(&record.name));
        let ids = [record.id.as_str()];
        if !bound.is_zero()
            && let Some(container) = container
            && let Some(hook) = pre_stop(container)
        {
            let target = Target { runtime, id: &record.id, container, ip: self.ip };
            // A container that ends meanwhile needs its hook no more.
            let ran = tokio::select! {
                ran = probes::hook(&target, hook, bound) => ran,
                () = all_ended(runtime, &ids, &mut ends) => Ok(()),
            };
            if let Err(message) = ran {
                let pod = self.pod.as_ref().map(Desired::label).unwrap_or_default();
                tracing::warn!("preStop hook of {} of {pod}: {message}", record.name);
            }
        }
        if !grace.is_zero() {
            // One that has ended meanwhile needs none.
            let _ = runtime.signal(&record.id, *signal);
        }
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let left = after_hook_ms(ms(bound), ms(began.elapsed()));
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        let _ = timeout_at(Instant::now() + left, all_ended(runtime, &ids, &mut ends)).await;
    }

    /// Kills what still runs, and sees to it that no end counts. True when something ran.
    async fn kill(&self, runtime: &Runtime, mut ends: watch::Receiver<u64>) -> bool {
        let ids: Vec<&str> = self.containers.iter().map(|(c, _)| c.id.as_str()).collect();
        let left: Vec<&&str> = ids.iter().filter(|id| runs(runtime, id)).collect();
        for id in &left {
            if let Err(error) = runtime.kill(id).await {
                tracing::warn!("kill container {id}: {error}");
            }
        }
        let gone = Instant::now() + AFTER_KILL;
        let _ = timeout_at(gone, all_ended(runtime, &ids, &mut ends)).await;
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
