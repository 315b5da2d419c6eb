//! The observed side: everything the agent knows about one pod on its board. It is plain data;
//! [`super::reduce`] is the only place that changes it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::back_off::CrashBackOff;

/// A job that the agent does for the pod as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Task {
    /// Not begun.
    #[default]
    Idle,
    /// Under way.
    Busy,
    /// Done and standing.
    Done,
    /// The last try failed.
    Failed {
        /// What went wrong.
        message: String,
        /// When.
        at_ms: i64,
    },
}

/// The pod's namespaces and address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Whether it stands.
    pub task: Task,
    /// True while it is being taken down.
    pub removing: bool,
}

/// Whether a container's image is at hand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ImageState {
    /// Nobody looked since the container last started.
    #[default]
    Unknown,
    /// Being looked up or pulled.
    Busy,
    /// At hand.
    Ready,
    /// Not to be had.
    Failed {
        /// Kubernetes' reason: `ErrImagePull`, `InvalidImageName`, `ErrImageNeverPull` …
        reason: String,
        /// What went wrong.
        message: String,
        /// When.
        at_ms: i64,
    },
}

/// How far a failed start got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFailure {
    /// Its environment or mounts could not be worked out.
    Config,
    /// The runtime could not make it.
    Create,
    /// It was made, but its program could not be run.
    Run,
}

/// Why a container is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The pod was deleted.
    Deleted,
    /// The pod has finished, failed or outlived its deadline.
    Finished,
    /// The liveness probe failed.
    Liveness,
    /// The startup probe failed.
    Startup,
    /// The container's part of the spec has changed.
    Changed,
    /// The postStart hook failed.
    PostStart,
    /// The sandbox that it runs in is gone.
    SandboxGone,
}

/// A stop under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopping {
    /// Why.
    pub reason: StopReason,
    /// Since when.
    pub since_ms: i64,
    /// Seconds of grace.
    pub grace_s: i64,
    /// The preStop hook.
    pub hook: Task,
    /// When the stop signal was sent.
    pub signalled_ms: Option<i64>,
    /// When the last kill was sent.
    pub killed_ms: Option<i64>,
}

/// Where one run of a container stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// Its first process lives.
    Running,
    /// It has ended.
    Ended {
        /// Exit code, 128 + n for signal n.
        code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
        /// When.
        finished_ms: i64,
        /// Killed for want of memory.
        oom_killed: bool,
        /// Why it could not start, when that is what happened.
        start_error: Option<String>,
        /// What it left in its termination message file.
        message: Option<String>,
    },
}

/// One run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The runtime's id.
    pub id: String,
    /// Restart count at its start.
    pub attempt: u32,
    /// Hash of the spec that it was started with.
    pub spec_hash: String,
    /// Image as the spec named it.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// Unix milliseconds; 0 when it never ran.
    pub started_ms: i64,
    /// Where it stands.
    pub state: RunState,
    /// True when the sandbox that it ran in is gone: it counts, but it does not vouch for the pod.
    pub stale: bool,
    /// True when its remains are still on the board.
    pub kept: bool,
    /// Why it was stopped, if it was.
    pub stopped: Option<StopReason>,
}

impl Run {
    /// True while it runs.
    pub fn running(&self) -> bool {
        self.state == RunState::Running
    }

    /// True while it runs in a sandbox that is gone: no probe and no Service can reach it.
    pub fn stranded(&self) -> bool {
        self.running() && self.stale
    }

    /// Exit code and end, once it has ended.
    pub fn end(&self) -> Option<(i32, i64)> {
        match &self.state {
            RunState::Running => None,
            RunState::Ended { code, finished_ms, .. } => Some((*code, *finished_ms)),
        }
    }
}

/// The three probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Holds the others back until it succeeds once.
    Startup,
    /// Failing it restarts the container.
    Liveness,
    /// Failing it takes the container out of service.
    Readiness,
}

impl ProbeKind {
    /// All of them.
    pub const ALL: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];

    /// As events name it.
    pub fn title(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
        }
    }
}

/// What a probe has found since its container started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeState {
    /// Past its threshold: succeeded or failed. `None` before either.
    pub result: Option<bool>,
    /// Successes in a row.
    pub successes: u32,
    /// Failures in a row.
    pub failures: u32,
    /// When it was last begun.
    pub last_ms: Option<i64>,
    /// True while one is under way.
    pub busy: bool,
}

/// One container of the pod, as it stands on the board.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// Its runs, oldest first; two at most.
    pub runs: Vec<Run>,
    /// Ids of older runs whose remains are still on the board.
    pub spare: Vec<String>,
    /// Its image.
    pub image: ImageState,
    /// Failed pulls in a row.
    pub pull_failures: u32,
    /// What the last failed pull said: reason and message.
    pub pull_error: Option<(String, String)>,
    /// True while it is being started.
    pub starting: bool,
    /// The last start that left no run behind: how, why and when.
    pub start_failed: Option<(StartFailure, String, i64)>,
    /// The postStart hook of the current run.
    pub post_start: Task,
    /// The stop under way.
    pub stopping: Option<Stopping>,
    /// Crash back-off.
    pub back_off: Option<CrashBackOff>,
    /// Probes of the current run.
    pub probes: BTreeMap<ProbeKind, ProbeState>,
    /// Restart count reported before this agent knew of any run.
    pub earlier_attempts: Option<u32>,
}

impl Seen {
    /// The newest run.
    pub fn last(&self) -> Option<&Run> {
        self.runs.last()
    }

    /// The current run, if it runs.
    pub fn running(&self) -> Option<&Run> {
        self.last().filter(|run| run.running())
    }

    /// The number that the next run gets.
    pub fn next_attempt(&self) -> u32 {
        match self.last() {
            Some(run) => run.attempt + 1,
            None => self.earlier_attempts.map_or(0, |n| n + 1),
        }
    }
}

/// Why a pod is failed by its board, whatever its containers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `Evicted`, `DeadlineExceeded` …
    pub reason: String,
    /// In a sentence.
    pub message: String,
}

/// All that is known about a pod on this board.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObservedPod {
    /// When the agent first saw the pod.
    pub start_time_ms: Option<i64>,
    /// The board's addresses.
    pub host_ips: Vec<String>,
    /// The pod's addresses; kept when the sandbox goes.
    pub ips: Vec<String>,
    /// Namespaces and network.
    pub sandbox: Sandbox,
    /// Failures in a row to make the namespaces.
    pub sandbox_failures: u32,
    /// Volumes.
    pub volumes: Task,
    /// Failures in a row to set volumes up.
    pub volume_failures: u32,
    /// True when an earlier agent left volumes of this pod: they are to be taken down at its end,
    /// even if it ends before they are set up again.
    pub volumes_left: bool,
    /// True while volumes are being taken down.
    pub unmounting: bool,
    /// Containers by name, of either sort.
    pub containers: BTreeMap<String, Seen>,
    /// A verdict of the board: evicted, refused.
    pub verdict: Option<Verdict>,
    /// Since when the pod is being stopped for good.
    pub terminating_ms: Option<i64>,
    /// True when the object is gone from the API: nobody to report to.
    pub orphan: bool,
    /// The delete that ends the pod in the API.
    pub api_delete: Task,
    /// The status last reported, or the one that the API had first.
    pub reported: Value,
}

impl ObservedPod {
    /// The container's record, or nothing known.
    pub fn seen(&self, name: &str) -> Option<&Seen> {
        self.containers.get(name)
    }

    /// True while any container runs or is being started.
    pub fn any_running(&self) -> bool {
        self.containers.values().any(|seen| seen.running().is_some() || seen.starting)
    }
}
