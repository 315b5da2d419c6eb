//! One pod's worker: gather, plan, do, report, wait. Each pod has its own, so that a slow one holds
//! up nobody; all that takes time runs beside the worker and comes back as a [`Done`].

mod act;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_api::k8s::api::core::v1::Pod;
use edge_api::{Object, meta};
use edge_core::clock::TOLERANCE_MS;
use edge_core::pod::{Desired, Observation, ObservedPod, RunState, plan, status};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::board::{Board, PodView};
use super::clock::now_ms;
use super::effects::{Done, Job};
use super::report::Reporter;
use super::telling::{self, Lasting};
use super::{gather, host_ports};
use crate::seams::{Exit, PodNetwork};

/// Messages that may wait for a worker.
pub(crate) const INBOX: usize = 64;
/// A pod whose plan changes so often in a row without waiting is stuck in a loop: slow it down.
const ROUNDS: usize = 64;
const ROUND_PAUSE: Duration = Duration::from_millis(200);

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// The pod as the API has it now.
    Desired(Box<Object>),
    /// The pod is gone from the API.
    Gone,
    /// One of its containers has ended.
    Exited(Exit),
    /// A ConfigMap or Secret that it shows has changed.
    SourceChanged,
    /// Images have come to the board.
    ImagesChanged,
}

/// How the ledger stands with the pod.
#[derive(Debug, PartialEq, Eq)]
enum Recording {
    Idle,
    Busy,
    /// The pod has changed since the write under way began.
    Again,
}

/// A worker's state.
pub(crate) struct Worker {
    board: Arc<Board>,
    raw: Arc<Object>,
    pod: Arc<Desired>,
    observed: ObservedPod,
    network: Option<PodNetwork>,
    volumes: Arc<BTreeMap<String, PathBuf>>,
    inbox: mpsc::Receiver<Message>,
    jobs: JoinSet<Done>,
    /// Removals that nothing waits for until the pod is gone.
    removals: JoinSet<Done>,
    /// The write of the pod into the ledger that is under way, and whether another is due.
    recording: Recording,
    unrecorded: Lasting,
    reporter: Reporter,
    /// Ends that were told before their starts.
    early: Vec<Exit>,
}

/// Reads a pod; what our types can't hold can't run here.
pub(crate) fn desired(object: &Object) -> Result<Desired, String> {
    let pod: Pod = serde_json::from_value(object.clone()).map_err(|error| {
        format!("read pod {}/{}: {error}", meta::namespace(object), meta::name(object))
    })?;
    Ok(Desired::new(pod))
}

impl Worker {
    /// A worker for a pod as the API (or the ledger) has it.
    pub(crate) fn new(
        board: Arc<Board>,
        raw: Object,
        pod: Desired,
        inbox: mpsc::Receiver<Message>,
    ) -> Worker {
        let (observed, network) = gather::observe(&board, &pod, &raw);
        let from_api = !meta::resource_version(&raw).is_empty();
        let reporter = Reporter::new(from_api.then(|| raw["status"].clone()));
        let mut worker = Worker {
            board,
            raw: Arc::new(raw),
            pod: Arc::new(pod),
            observed,
            network,
            volumes: Arc::default(),
            inbox,
            jobs: JoinSet::new(),
            removals: JoinSet::new(),
            recording: Recording::Idle,
            unrecorded: Lasting::default(),
            reporter,
            early: Vec::new(),
        };
        worker.show();
        worker.record();
        worker
    }

    /// Shows the pod to those who ask the agent about it.
    fn show(&self) {
        let status = Arc::new(self.observed.reported.clone());
        let view = PodView { object: self.raw.clone(), status };
        self.board.show(self.pod.uid(), Some(view));
    }

    /// Works until the pod is gone.
    pub(crate) async fn run(mut self) {
        let mut rounds = 0;
        let mut read = (now_ms(), Instant::now());
        loop {
            let now = self.look_at_the_clock(&mut read);
            let plan = plan(&self.pod, &self.observed, now);
            let mut busy = false;
            for action in plan.actions {
                busy |= self.begin(action, now);
            }
            self.report(now);
            if plan.done {
                break;
            }
            // What has begun changes what comes next, and when.
            rounds = if busy { rounds + 1 } else { 0 };
            if rounds > ROUNDS {
                tracing::warn!("pod {} changes too fast; slowed down", self.pod.label());
                tokio::time::sleep(ROUND_PAUSE).await;
            } else if busy {
                continue;
            }
            self.wait(plan.wake_at_ms).await;
        }
        while self.removals.join_next().await.is_some() {}
        while self.recording != Recording::Idle {
            match self.jobs.join_next().await {
                Some(done) => self.take(done),
                None => break,
            }
        }
        self.jobs.shutdown().await;
        self.clear_away().await;
    }

    /// Reads the clock, and sees to what was waited for if it has jumped since `before`.
    fn look_at_the_clock(&mut self, before: &mut (i64, Instant)) -> i64 {
        let read = (now_ms(), Instant::now());
        let passed = read.1.duration_since(before.1).as_millis();
        let jumped = read.0 - before.0 - i64::try_from(passed).unwrap_or(i64::MAX);
        if jumped.abs() > TOLERANCE_MS {
            self.observed.clock_moved(jumped, read.0);
            self.reporter.clock_moved(jumped);
        }
        *before = read;
        read.0
    }

    /// The pod is gone: nothing of it stays on the board.
    async fn clear_away(self) {
        self.board.sources.release(self.pod.uid());
        self.board.tokens.release(self.pod.uid());
        self.board.show(self.pod.uid(), None);
        if host_ports::wants(&self.pod) {
            self.board.ports_changed.notify_one();
        }
        let uid = self.pod.uid().to_owned();
        if let Err(error) = self.board.ledger.remove_pod(&uid) {
            tracing::warn!("drop pod {} from the ledger: {error}", self.pod.label());
        }
        let logs = self.board.log_dir(self.pod.namespace(), self.pod.name(), &uid);
        let _ = tokio::fs::remove_dir_all(&logs).await;
        self.board.routes().retain(|_, pod| *pod != uid);
    }

    async fn wait(&mut self, wake_at_ms: Option<i64>) {
        let wake_at_ms = wake_at_ms.into_iter().chain(self.reporter.retry_at_ms()).min();
        let alarm = async {
            match wake_at_ms {
                Some(at) => {
                    let left = u64::try_from(at - now_ms()).unwrap_or(0);
                    // Never a spin, should the clock be set back in between.
                    tokio::time::sleep(Duration::from_millis(left.max(1))).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = self.inbox.recv() => match message {
                Some(message) => self.hear(message),
                None => std::future::pending().await,
            },
            Some(done) = self.jobs.join_next() => self.take(done),
            Some(_) = self.removals.join_next() => {}
            () = alarm => {}
        }
        // Whatever else is there by now, so that one plan answers it all.
        while let Ok(message) = self.inbox.try_recv() {
            self.hear(message);
        }
        while let Some(done) = self.jobs.try_join_next() {
            self.take(done);
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Desired(object) => self.desire(*object),
            Message::Gone => {
                self.observed.orphan = true;
                self.observed.terminating_ms.get_or_insert(now_ms());
            }
            Message::Exited(exit) => self.exited(exit),
            Message::SourceChanged => {
                let job = self.job();
                self.jobs.spawn(job.refresh_volumes());
                self.observed.retry_now();
            }
            Message::ImagesChanged => {
                for container in self.pod.all() {
                    let image = container.image.as_deref().unwrap_or_default();
                    if self.board.images.find(image).is_some() {
                        self.observed.retry_image(&container.name);
                    }
                }
            }
        }
    }

    fn desire(&mut self, object: Object) {
        let pod = match desired(&object) {
            Ok(pod) => pod,
            Err(error) => return tracing::warn!("{error}"),
        };
        let meta_changed = ["labels", "annotations"]
            .iter()
            .any(|key| self.raw["metadata"].get(key) != object["metadata"].get(key));
        self.reporter.meet(&object);
        gather::adopt_foreign_conditions(&mut self.observed.reported, &object["status"]);
        gather::adopt_foreign_conditions(self.reporter.acked(), &object["status"]);
        self.raw = Arc::new(object);
        self.pod = Arc::new(pod);
        if self.pod.deleted() {
            self.observed.terminating_ms.get_or_insert(now_ms());
        }
        self.record();
        self.show();
        if meta_changed {
            let job = self.job();
            self.jobs.spawn(job.refresh_volumes());
        }
    }

    /// Writes the pod into the ledger, if that has news. One write at a time, so that the last one
    /// wins.
    fn record(&mut self) {
        if self.recording != Recording::Idle {
            self.recording = Recording::Again;
            return;
        }
        self.recording = Recording::Busy;
        let (ledger, raw) = (self.board.ledger.clone(), self.raw.clone());
        self.jobs.spawn_blocking(move || {
            Done::Recorded(ledger.put_pod(&raw).map_err(|error| error.to_string()))
        });
    }

    fn job(&self) -> Job {
        Job {
            board: self.board.clone(),
            pod: self.pod.clone(),
            ips: self.observed.ips.clone(),
            network: self.network.clone(),
            volumes: self.volumes.clone(),
        }
    }

    fn report(&mut self, now: i64) {
        if self.observed.orphan || self.observed.api_delete != edge_core::pod::Task::Idle {
            return;
        }
        let status = status(&self.pod, &self.observed, now);
        if status != self.observed.reported {
            let before = &self.observed.reported;
            telling::waiting(&self.board, &self.pod, before, &status);
            let moved = ["podIP", "phase"].iter().any(|key| before[*key] != status[*key]);
            let finished = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
            if finished && self.raw["status"]["phase"] != status["phase"] {
                Arc::make_mut(&mut self.raw)["status"] = status.clone();
                self.record();
            }
            self.observed.reported = status;
            self.show();
            if moved && host_ports::wants(&self.pod) {
                self.board.ports_changed.notify_one();
            }
        }
        let status = &self.observed.reported;
        if let Some(patch) = self.reporter.report(&self.board, &self.pod, status, now) {
            self.jobs.spawn(patch);
        }
    }

    fn exited(&mut self, exit: Exit) {
        let known = self.observed.containers.iter().find_map(|(name, seen)| {
            let run = seen.runs.iter().find(|run| run.id == exit.id)?;
            Some((name.clone(), run.attempt))
        });
        let Some((container, attempt)) = known else {
            self.early.push(exit);
            return;
        };
        let message =
            gather::termination_message(&self.board, &self.pod, &container, attempt, &exit);
        let state = RunState::Ended {
            code: exit.code,
            signal: exit.signal,
            finished_ms: exit.finished_at_ms,
            oom_killed: exit.oom_killed,
            start_error: None,
            message,
        };
        self.observed.apply(Observation::Exited { id: exit.id, state }, now_ms());
    }

    fn take(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = now_ms();
        match done {
            Ok(Done::Seen(observation)) => {
                if observation == Observation::SandboxGone {
                    self.network = None;
                }
                self.observed.apply(observation, now);
                for exit in std::mem::take(&mut self.early) {
                    self.exited(exit);
                }
            }
            Ok(Done::Network(network)) => {
                let own = network.ip.map(|ip| vec![ip.to_string()]);
                let ips = own.unwrap_or_else(|| self.board.host_ips());
                self.network = Some(network);
                self.observed.apply(Observation::SandboxReady { ips }, now);
            }
            Ok(Done::Volumes(volumes)) => {
                self.volumes = Arc::new(volumes);
                self.observed.apply(Observation::VolumesReady, now);
            }
            Ok(Done::Reported(result)) => self.reporter.reported(result, now),
            Ok(Done::Recorded(outcome)) => {
                if let Some(error) = self.unrecorded.news(outcome.err()) {
                    let name = self.pod.label();
                    tracing::warn!("record pod {name} in the ledger: {error}");
                }
                let again = self.recording == Recording::Again;
                self.recording = Recording::Idle;
                if again {
                    self.record();
                }
            }
            Ok(Done::Nothing) => {}
            Err(error) => tracing::error!("a job of pod {} broke off: {error}", self.pod.label()),
        }
    }
}
