//! Stops a board's pods in order before the board goes off: ordinary pods first, critical ones
//! after them, each with its preStop hooks and its grace, cut to what a board has before it is
//! switched off. What the kubelet's graceful node shutdown does; no edged runs meanwhile.
//! Afterwards it is as if the power had been cut: no end is noted, and the next boot starts all of
//! them again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edge_api::Object;
use edge_api::k8s::api::core::v1::{Container, Pod, PodSpec};
use edge_core::pod::{
    Action, Desired, Observation, ObservedPod, Run, RunState, Seen, plan_off, pre_stop,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::agent::{desired, signal_number, stored_pods};
use crate::images::{ImageStore, ImagesConfig};
use crate::net;
use crate::probes::{self, Target};
use crate::runtime::{Runtime, RuntimeConfig, RuntimeError};
use crate::seams::{ContainerRecord, ContainerState, Exit};

/// Priority from which on a pod is critical: that of the class `system-cluster-critical`.
const CRITICAL: i32 = 2_000_000_000;
/// A pod that nothing is awaited for is looked at again after this long.
const LOOK: Duration = Duration::from_secs(1);

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
    pod: Arc<Desired>,
    observed: ObservedPod,
    /// Its address, for hooks that ask it.
    ip: Option<IpAddr>,
    /// What asks each container to end, by the container's id.
    signals: BTreeMap<String, i32>,
    /// Something of it had to be killed.
    killed: bool,
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
        let mut stops = JoinSet::new();
        for pod in pods {
            stops.spawn(pod.stop(runtime.clone(), ends.clone(), limit));
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
    let mut pods: BTreeMap<String, Vec<ContainerRecord>> = BTreeMap::new();
    for record in runtime.list()? {
        if let ContainerState::Running { .. } = record.state {
            pods.entry(record.pod_uid.clone()).or_default().push(record);
        }
    }
    let of = |(uid, records): (String, Vec<ContainerRecord>)| {
        let pod = known.remove(&uid).unwrap_or_else(|| unknown(&uid, &records));
        Running::new(pod, records, ip(&uid), images.as_ref())
    };
    Ok(pods.into_iter().map(of).collect())
}

/// A pod that the ledger has lost: its containers are told to end, and have the usual grace.
fn unknown(uid: &str, records: &[ContainerRecord]) -> Desired {
    let container =
        |record: &ContainerRecord| Container { name: record.name.clone(), ..Container::default() };
    let containers = records.iter().map(container).collect();
    let mut pod =
        Pod { spec: Some(PodSpec { containers, ..PodSpec::default() }), ..Pod::default() };
    pod.metadata.uid = Some(uid.to_owned());
    Desired::new(pod)
}

/// The stop signal: the pod's, else the image's, else SIGTERM.
fn signal(pod: &Desired, record: &ContainerRecord, images: Option<&ImageStore>) -> i32 {
    let container = pod.container(&record.name);
    let own = container.and_then(|c| c.lifecycle.as_ref()?.stop_signal.clone());
    let of_image = || images?.find(&record.image)?.config.stop_signal;
    own.or_else(of_image).and_then(|name| signal_number(&name)).unwrap_or(libc::SIGTERM)
}

/// The run that a record is of.
fn run(record: ContainerRecord) -> Run {
    Run {
        id: record.id,
        attempt: record.attempt,
        spec_hash: record.spec_hash,
        image: record.image,
        image_id: record.image_id,
        started_ms: 0,
        state: RunState::Running,
        stale: false,
        kept: true,
        stopped: None,
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Running {
    fn new(
        pod: Desired,
        records: Vec<ContainerRecord>,
        ip: Option<IpAddr>,
        images: Option<&ImageStore>,
    ) -> Running {
        let mut observed = ObservedPod::default();
        let mut signals = BTreeMap::new();
        for record in records {
            signals.insert(record.id.clone(), signal(&pod, &record, images));
            let name = record.name.clone();
            let seen = Seen { runs: vec![run(record)], ..Seen::default() };
            observed.containers.insert(name, seen);
        }
        Running { pod: Arc::new(pod), observed, ip, signals, killed: false }
    }

    fn is_critical(&self) -> bool {
        self.pod.spec().priority.unwrap_or(0) >= CRITICAL
    }

    /// Ends the containers as at a deletion, with at most `limit` of grace. True when one had to be
    /// killed.
    async fn stop(
        mut self,
        runtime: Runtime,
        mut ends: watch::Receiver<u64>,
        limit: Duration,
    ) -> bool {
        let began = Instant::now();
        Arc::make_mut(&mut self.pod).cut_grace(millis(limit) / 1000);
        self.observed.terminating_ms = Some(0);
        let mut hooks = JoinSet::new();
        loop {
            ends.borrow_and_update();
            let now = millis(began.elapsed());
            self.look(&runtime, now);
            let plan = plan_off(&self.pod, &self.observed, now);
            if plan.done {
                break;
            }
            let idle = plan.actions.is_empty();
            for action in plan.actions {
                self.observed.begin(&action, now);
                self.carry_out(action, &runtime, &mut hooks).await;
            }
            if !idle {
                continue;
            }
            let at = |ms: i64| began + Duration::from_millis(u64::try_from(ms).unwrap_or(0));
            let wake = plan.wake_at_ms.map_or_else(|| Instant::now() + LOOK, at);
            tokio::select! {
                Ok(()) = ends.changed() => {}
                Some(done) = hooks.join_next() => if let Ok(container) = done {
                    let now = millis(began.elapsed());
                    self.observed.apply(Observation::PreStopDone { container }, now);
                },
                () = sleep_until(wake) => {}
            }
        }
        self.forget_ends(&runtime);
        self.killed
    }

    /// Takes in which containers have ended.
    fn look(&mut self, runtime: &Runtime, now_ms: i64) {
        let Ok(all) = runtime.list() else { return };
        let runs = all.into_iter().filter(|c| matches!(c.state, ContainerState::Running { .. }));
        let runs: BTreeSet<String> = runs.map(|record| record.id).collect();
        let ended: Vec<String> = (self.observed.containers.values())
            .filter_map(|seen| seen.running().map(|run| run.id.clone()))
            .filter(|id| !runs.contains(id))
            .collect();
        for id in ended {
            // How it ended is nobody's business: it starts again at the next boot.
            let state = RunState::Ended {
                code: 0,
                signal: None,
                finished_ms: now_ms,
                oom_killed: false,
                start_error: None,
                message: None,
            };
            self.observed.apply(Observation::Exited { id, state }, now_ms);
        }
    }

    async fn carry_out(&mut self, action: Action, runtime: &Runtime, hooks: &mut JoinSet<String>) {
        match action {
            Action::PreStop { container, id, timeout_ms } => {
                let limit = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
                let (pod, ip) = (self.pod.clone(), self.ip);
                hooks.spawn(hook(pod, ip, runtime.clone(), container, id, limit));
            }
            Action::Terminate { id, .. } => {
                let signal = self.signals.get(&id).copied().unwrap_or(libc::SIGTERM);
                // One that has ended meanwhile needs none.
                let _ = runtime.signal(&id, signal);
            }
            Action::Kill { id, .. } => {
                self.killed = true;
                if let Err(error) = runtime.kill(&id).await {
                    tracing::warn!("kill container {id}: {error}");
                }
            }
            _ => {}
        }
    }

    /// Sees to it that no end counts.
    fn forget_ends(&self, runtime: &Runtime) {
        for id in self.signals.keys() {
            if let Err(error) = runtime.forget_end(id) {
                tracing::warn!("container {id}: {error}: its end is taken for its own");
            }
        }
    }
}

/// Runs the preStop hook of a container, and gives back whose it was.
async fn hook(
    pod: Arc<Desired>,
    ip: Option<IpAddr>,
    runtime: Runtime,
    name: String,
    id: String,
    limit: Duration,
) -> String {
    if let Some(container) = pod.container(&name)
        && let Some(hook) = pre_stop(container)
    {
        let target = Target { runtime: &runtime, id: &id, container, ip };
        if let Err(message) = probes::hook(&target, hook, limit).await {
            tracing::warn!("preStop hook of {name} of {}: {message}", pod.label());
        }
    }
    name
}
