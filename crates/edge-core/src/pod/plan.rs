//! The plan for one pod: what to do next and when to look again. Three lives are told apart here: a
//! pod that shall run, one that has finished, and one that the API wants gone.

use super::back_off::{sandbox_delay_ms, volume_delay_ms};
use super::containers::plan_running;
use super::desired::{Desired, PullPolicy};
use super::observed::{ObservedPod, ProbeKind, Run, Seen, StopReason, Task, Verdict};
use super::phase::{self, Phase};
use super::status::next_change;
use super::stop::plan_stops;

/// Delay before the API is asked again to drop a pod that has ended.
const API_DELETE_RETRY_MS: i64 = 2_000;

/// One thing to do for a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the pod's namespaces and network.
    CreateSandbox,
    /// Set up all volumes.
    MountVolumes,
    /// Look the image up, or pull it, as the policy says.
    EnsureImage {
        /// For which container.
        container: String,
        /// The reference.
        image: String,
        /// The policy.
        policy: PullPolicy,
    },
    /// Create and start a container.
    Start {
        /// Which.
        container: String,
        /// Its restart count.
        attempt: u32,
        /// Hash to start it under.
        spec_hash: String,
    },
    /// Run the postStart hook.
    PostStart {
        /// Which container.
        container: String,
        /// Its run.
        id: String,
    },
    /// Begin to stop a container: to be told in an event; the steps follow.
    Stop {
        /// Which container.
        container: String,
        /// Its run.
        id: String,
        /// Why.
        reason: StopReason,
        /// Seconds of grace.
        grace_s: i64,
        /// Whether it has a preStop hook to run.
        hook: bool,
    },
    /// Run the preStop hook.
    PreStop {
        /// Which container.
        container: String,
        /// Its run.
        id: String,
        /// Give it up after so long.
        timeout_ms: i64,
    },
    /// Send the stop signal.
    Terminate {
        /// Which container.
        container: String,
        /// Its run.
        id: String,
    },
    /// Kill all that is left of it.
    Kill {
        /// Which container.
        container: String,
        /// Its run.
        id: String,
    },
    /// Probe a container.
    Probe {
        /// Which container.
        container: String,
        /// Its run.
        id: String,
        /// Which probe.
        probe: ProbeKind,
    },
    /// Remove the remains of a run that ended.
    Forget {
        /// Its container.
        container: String,
        /// The run.
        id: String,
    },
    /// Take the pod's namespaces and network down.
    RemoveSandbox,
    /// Take volumes down.
    UnmountVolumes,
    /// Report the last status, then delete the pod in the API with no grace.
    DeleteFromApi,
}

/// What to do now, and when to plan again though nothing happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be begun, in order.
    pub actions: Vec<Action>,
    /// Unix milliseconds.
    pub wake_at_ms: Option<i64>,
    /// True when the pod has left the board and the API: its worker may end.
    pub done: bool,
}

impl Plan {
    /// Adds an action.
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Asks to be planned again at `at_ms`, or sooner.
    pub(super) fn wake(&mut self, at_ms: i64) {
        self.wake_at_ms = Some(self.wake_at_ms.map_or(at_ms, |old| old.min(at_ms)));
    }
}

/// Why the board fails this pod, if it does: its own verdict or the pod's deadline.
pub fn verdict(desired: &Desired, observed: &ObservedPod, now_ms: i64) -> Option<Verdict> {
    if observed.verdict.is_some() {
        return observed.verdict.clone();
    }
    let deadline = deadline_ms(desired, observed)?;
    (now_ms >= deadline && !desired.finished()).then(|| Verdict {
        reason: "DeadlineExceeded".into(),
        message: "Pod was active on the node longer than the specified deadline".into(),
    })
}

fn deadline_ms(desired: &Desired, observed: &ObservedPod) -> Option<i64> {
    let seconds = desired.spec().active_deadline_seconds?;
    Some(observed.start_time_ms? + seconds * 1000)
}

/// What to do next for a pod.
pub fn plan(desired: &Desired, observed: &ObservedPod, now_ms: i64) -> Plan {
    let mut plan = Plan::default();
    let failed = verdict(desired, observed, now_ms).is_some();
    if desired.deleted() || observed.orphan {
        leave(desired, observed, now_ms, &mut plan);
    } else if failed || desired.finished() || phase::of(desired, observed).is_terminal() {
        finish(desired, observed, now_ms, &mut plan);
    } else {
        run(desired, observed, now_ms, &mut plan);
    }
    if let Some(at) = next_change(observed, now_ms) {
        plan.wake(at);
    }
    plan
}

/// A pod that shall run.
fn run(desired: &Desired, observed: &ObservedPod, now_ms: i64, plan: &mut Plan) {
    if let Some(deadline) = deadline_ms(desired, observed) {
        plan.wake(deadline);
    }
    let stranded = |seen: &Seen| seen.runs.iter().any(Run::stranded);
    if observed.containers.values().any(stranded) {
        super::stop::stop_all(desired, observed, StopReason::SandboxGone, now_ms, plan);
        return plan_stops(desired, observed, now_ms, plan);
    }
    let sandbox = stand(
        &observed.sandbox.task,
        sandbox_delay_ms(observed.sandbox_failures),
        Action::CreateSandbox,
        now_ms,
        plan,
    );
    let volumes = stand(
        &observed.volumes,
        volume_delay_ms(observed.volume_failures),
        Action::MountVolumes,
        now_ms,
        plan,
    );
    plan_running(desired, observed, sandbox && volumes, now_ms, plan);
    plan_stops(desired, observed, now_ms, plan);
}

/// Makes sure that a job of the whole pod is done; tells whether it is.
fn stand(task: &Task, delay_ms: i64, action: Action, now_ms: i64, plan: &mut Plan) -> bool {
    match task {
        Task::Done => return true,
        Task::Busy => {}
        Task::Idle => plan.act(action),
        Task::Failed { at_ms, .. } if now_ms >= at_ms + delay_ms => plan.act(action),
        Task::Failed { at_ms, .. } => plan.wake(at_ms + delay_ms),
    }
    false
}

/// A pod that has finished: nothing runs again, its dead containers stay for `logs`.
fn finish(desired: &Desired, observed: &ObservedPod, now_ms: i64, plan: &mut Plan) {
    super::stop::stop_all(desired, observed, StopReason::Finished, now_ms, plan);
    plan_stops(desired, observed, now_ms, plan);
    if !observed.any_running() {
        take_down(observed, plan);
    }
}

/// Takes sandbox and volumes down; true when both are gone.
fn take_down(observed: &ObservedPod, plan: &mut Plan) -> bool {
    if observed.sandbox.task == Task::Done && !observed.sandbox.removing {
        plan.act(Action::RemoveSandbox);
    }
    let mounted = match observed.volumes {
        Task::Done | Task::Failed { .. } => true,
        Task::Idle => observed.volumes_left,
        Task::Busy => false,
    };
    if mounted && !observed.unmounting {
        plan.act(Action::UnmountVolumes);
    }
    matches!(observed.sandbox.task, Task::Idle | Task::Failed { .. })
        && observed.volumes == Task::Idle
        && !observed.volumes_left
}

/// A pod that the API wants gone: stop it, take it down, report, delete.
fn leave(desired: &Desired, observed: &ObservedPod, now_ms: i64, plan: &mut Plan) {
    super::stop::stop_all(desired, observed, StopReason::Deleted, now_ms, plan);
    plan_stops(desired, observed, now_ms, plan);
    if observed.any_running() || !plan.actions.is_empty() {
        return;
    }
    for (container, seen) in &observed.containers {
        let ids = seen.runs.iter().filter(|run| run.kept).map(|run| &run.id).chain(&seen.spare);
        for id in ids {
            plan.act(Action::Forget { container: container.clone(), id: id.clone() });
        }
    }
    if !take_down(observed, plan) || !plan.actions.is_empty() {
        return;
    }
    match &observed.api_delete {
        _ if observed.orphan => plan.done = true,
        Task::Idle => plan.act(Action::DeleteFromApi),
        Task::Failed { at_ms, .. } if now_ms >= at_ms + API_DELETE_RETRY_MS => {
            plan.act(Action::DeleteFromApi);
        }
        Task::Failed { at_ms, .. } => plan.wake(at_ms + API_DELETE_RETRY_MS),
        Task::Busy => {}
        Task::Done => plan.done = true,
    }
}

impl Phase {
    fn is_terminal(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }
}
