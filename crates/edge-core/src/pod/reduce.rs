//! How the observed side changes: an action begins ([`ObservedPod::begin`]), something happens
//! ([`ObservedPod::apply`]). Keeping both here lets tests play whole lives of pods without a board.

use super::back_off::CrashBackOff;
use super::observed::{
    ImageState, ObservedPod, ProbeKind, ProbeState, Run, RunState, Seen, StartFailure, Stopping,
    Task,
};
use super::plan::Action;

/// Runs remembered per container: the current one and the one before it.
const RUNS_KEPT: usize = 2;
/// Exit code of a container whose program could not be run.
const START_ERROR_CODE: i32 = 128;

/// Something that happened on the board.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// The pod's namespaces stand.
    SandboxReady {
        /// Its addresses.
        ips: Vec<String>,
    },
    /// They could not be made.
    SandboxFailed(String),
    /// They are gone.
    SandboxGone,
    /// All volumes are set up.
    VolumesReady,
    /// One could not be.
    VolumesFailed(String),
    /// They are gone.
    VolumesGone,
    /// The container's image is at hand.
    ImageReady(String),
    /// It could not be had.
    ImageFailed {
        /// Which container.
        container: String,
        /// Kubernetes' reason.
        reason: String,
        /// What went wrong.
        message: String,
    },
    /// A container has started.
    Started {
        /// Which.
        container: String,
        /// Its run.
        run: Run,
    },
    /// A container could not be started.
    StartFailed {
        /// Which.
        container: String,
        /// How far it got.
        how: StartFailure,
        /// What went wrong.
        message: String,
        /// The run that it would have been.
        run: Run,
    },
    /// The postStart hook has ended.
    PostStartDone {
        /// Which container.
        container: String,
        /// The run.
        id: String,
        /// Whether it went well.
        ok: bool,
    },
    /// The preStop hook has ended, well or not.
    PreStopDone {
        /// Which container.
        container: String,
    },
    /// A run has ended.
    Exited {
        /// The runtime's id.
        id: String,
        /// How it ended.
        state: RunState,
    },
    /// A probe has answered.
    Probed {
        /// Which container.
        container: String,
        /// The run that was probed.
        id: String,
        /// Which probe.
        kind: ProbeKind,
        /// Whether it succeeded; `None` when it could not be tried.
        ok: Option<bool>,
        /// Successes in a row that make it succeed.
        success_threshold: u32,
        /// Failures in a row that make it fail.
        failure_threshold: u32,
    },
    /// The API has deleted the pod, or could not.
    ApiDeleted(Result<(), String>),
}

fn failed(message: String, now_ms: i64) -> Task {
    Task::Failed { message, at_ms: now_ms }
}

impl ObservedPod {
    fn at(&mut self, container: &str) -> &mut Seen {
        if !self.containers.contains_key(container) {
            self.containers.insert(container.to_owned(), Seen::default());
        }
        self.containers.get_mut(container).expect("invariant: inserted above")
    }

    fn run_mut(&mut self, id: &str) -> Option<(&mut Seen, usize)> {
        self.containers.values_mut().find_map(|seen| {
            let index = seen.runs.iter().position(|run| run.id == id)?;
            Some((seen, index))
        })
    }

    /// Marks an action as begun, so that the next plan does not ask for it again.
    pub fn begin(&mut self, action: &Action, now_ms: i64) {
        match action {
            Action::CreateSandbox => busy(&mut self.sandbox.task),
            Action::MountVolumes => busy(&mut self.volumes),
            Action::EnsureImage { container, .. } => {
                self.at(container).image = ImageState::Busy;
            }
            Action::Start { container, .. } => {
                self.at(container).starting = true;
            }
            Action::PostStart { container, .. } => self.at(container).post_start = Task::Busy,
            Action::Stop { container, reason, grace_s, hook, .. } => {
                let hook = if *hook { Task::Idle } else { Task::Done };
                self.at(container).stopping = Some(Stopping {
                    reason: *reason,
                    since_ms: now_ms,
                    grace_s: *grace_s,
                    hook,
                    signalled_ms: None,
                    killed_ms: None,
                });
            }
            Action::PreStop { container, .. } => {
                self.stopping(container, |s| s.hook = Task::Busy);
            }
            Action::Terminate { container, .. } => self.stopping(container, |s| {
                s.hook = Task::Done;
                s.signalled_ms = Some(now_ms);
            }),
            Action::Kill { container, .. } => self.stopping(container, |s| {
                s.hook = Task::Done;
                s.killed_ms = Some(now_ms);
            }),
            Action::Probe { container, probe, .. } => {
                let state = self.at(container).probes.entry(*probe).or_default();
                state.busy = true;
                state.last_ms = Some(now_ms);
            }
            Action::Forget { id, .. } => {
                self.forget(id);
            }
            Action::RemoveSandbox => self.sandbox.removing = true,
            Action::UnmountVolumes => self.unmounting = true,
            Action::DeleteFromApi => busy(&mut self.api_delete),
        }
    }

    fn stopping(&mut self, container: &str, change: impl FnOnce(&mut Stopping)) {
        if let Some(stopping) = self.at(container).stopping.as_mut() {
            change(stopping);
        }
    }

    /// Takes in what happened.
    pub fn apply(&mut self, observation: Observation, now_ms: i64) {
        use Observation as O;
        match observation {
            O::SandboxReady { ips } => {
                self.sandbox.task = Task::Done;
                self.sandbox_failures = 0;
                self.ips = ips;
            }
            O::SandboxFailed(message) => {
                self.sandbox.task = failed(message, now_ms);
                self.sandbox_failures += 1;
            }
            O::SandboxGone => {
                self.sandbox = Default::default();
                self.sandbox_failures = 0;
            }
            O::VolumesReady => {
                self.volumes = Task::Done;
                self.volume_failures = 0;
            }
            O::VolumesFailed(message) => {
                self.volumes = failed(message, now_ms);
                self.volume_failures += 1;
            }
            O::VolumesGone => {
                self.volumes = Task::Idle;
                self.volumes_left = false;
                self.unmounting = false;
            }
            O::ImageReady(container) => {
                let seen = self.at(&container);
                seen.image = ImageState::Ready;
                seen.pull_failures = 0;
                seen.pull_error = None;
            }
            O::ImageFailed { container, reason, message } => {
                self.at(&container).pull_failed(reason, message, now_ms);
            }
            O::Started { container, run } => self.at(&container).started(run),
            O::StartFailed { container, how, message, run } => {
                self.at(&container).start_failed(how, message, run, now_ms);
            }
            O::PostStartDone { container, id, ok } => {
                let seen = self.at(&container);
                if seen.running().is_some_and(|run| run.id == id) {
                    seen.post_start = if ok { Task::Done } else { failed(String::new(), now_ms) };
                }
            }
            O::PreStopDone { container } => self.stopping(&container, |s| s.hook = Task::Done),
            O::Exited { id, state } => self.exited(&id, state),
            O::Probed { container, id, kind, ok, success_threshold, failure_threshold } => {
                let seen = self.at(&container);
                if seen.running().is_some_and(|run| run.id == id) {
                    let state = seen.probes.entry(kind).or_default();
                    state.answered(ok, success_threshold, failure_threshold);
                }
            }
            O::ApiDeleted(Ok(())) => self.api_delete = Task::Done,
            O::ApiDeleted(Err(message)) => {
                self.api_delete = failed(message, now_ms);
            }
        }
    }

    fn exited(&mut self, id: &str, state: RunState) {
        let Some((seen, index)) = self.run_mut(id) else { return };
        let newest = index + 1 == seen.runs.len();
        let stopped = seen.stopping.as_ref().map(|s| s.reason);
        let run = &mut seen.runs[index];
        if !run.running() {
            return;
        }
        run.state = state;
        if newest {
            run.stopped = stopped;
            seen.stopping = None;
            seen.probes.clear();
            seen.post_start = Task::Idle;
        }
    }

    fn forget(&mut self, id: &str) {
        for seen in self.containers.values_mut() {
            seen.spare.retain(|spare| spare != id);
            for run in seen.runs.iter_mut().filter(|run| run.id == id) {
                run.kept = false;
            }
        }
    }

    /// The sandbox fell (the board was restarted): runs that were there count as old.
    pub fn sandbox_lost(&mut self) {
        self.sandbox = Default::default();
        for run in self.containers.values_mut().flat_map(|seen| seen.runs.iter_mut()) {
            run.stale = true;
        }
    }
}

fn busy(task: &mut Task) {
    *task = Task::Busy;
}

impl Seen {
    fn pull_failed(&mut self, reason: String, message: String, now_ms: i64) {
        self.pull_failures += 1;
        self.pull_error = Some((reason.clone(), message.clone()));
        self.image = ImageState::Failed { reason, message, at_ms: now_ms };
    }

    /// A restart of an ended run raises the back-off for the next one.
    fn count_restart(&mut self) {
        if let Some((_, ended)) = self.last().filter(|run| !run.stale).and_then(Run::end) {
            self.back_off = Some(CrashBackOff::next(self.back_off, ended));
        }
    }

    fn push(&mut self, run: Run) {
        self.count_restart();
        self.starting = false;
        self.start_failed = None;
        self.image = ImageState::Unknown;
        self.stopping = None;
        self.probes.clear();
        self.post_start = Task::Idle;
        self.runs.retain(|old| old.id != run.id);
        self.runs.push(run);
        let spare = self.runs.len().saturating_sub(RUNS_KEPT);
        self.spare.extend(self.runs.drain(..spare).filter(|run| run.kept).map(|run| run.id));
    }

    fn started(&mut self, run: Run) {
        self.push(run);
    }

    fn start_failed(&mut self, how: StartFailure, message: String, mut run: Run, now_ms: i64) {
        self.starting = false;
        match how {
            StartFailure::Config | StartFailure::Create => {
                self.start_failed = Some((how, message, now_ms));
                self.image = ImageState::Unknown;
            }
            StartFailure::Run => {
                run.started_ms = 0;
                run.state = RunState::Ended {
                    code: START_ERROR_CODE,
                    signal: None,
                    finished_ms: now_ms,
                    oom_killed: false,
                    start_error: Some(message),
                    message: None,
                };
                self.push(run);
            }
        }
    }
}

impl ProbeState {
    fn answered(&mut self, ok: Option<bool>, success_threshold: u32, failure_threshold: u32) {
        self.busy = false;
        match ok {
            None => {}
            Some(true) => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                if self.successes >= success_threshold {
                    self.result = Some(true);
                }
            }
            Some(false) => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                if self.failures >= failure_threshold {
                    self.result = Some(false);
                }
            }
        }
    }
}

impl ObservedPod {
    /// Tries failed volumes and starts again at once: what they lacked may be there now.
    pub fn retry_now(&mut self) {
        if let Task::Failed { .. } = self.volumes {
            self.volumes = Task::Idle;
        }
        for seen in self.containers.values_mut() {
            seen.start_failed = None;
        }
    }

    /// Looks for a container's image again at once: it has come to the board.
    pub fn retry_image(&mut self, container: &str) {
        if let Some(seen) = self.containers.get_mut(container)
            && let ImageState::Failed { .. } = seen.image
        {
            seen.image = ImageState::Unknown;
        }
    }
}
