//! What the containers of a pod that shall run need next: whose turn it is, images, starts and
//! restarts.

use edge_api::k8s::api::core::v1::Container;

use super::back_off::{CrashBackOff, pull_delay_ms};
use super::desired::{Desired, RestartPolicy, container_hash, post_start, probe, pull_policy};
use super::observed::{
    ImageState, ObservedPod, ProbeKind, Run, Seen, StartFailure, StopReason, Task,
};
use super::plan::{Action, Plan};
use super::probes::plan_probes;
use super::stop::begin_stop;

/// A container whose environment or mounts can't be worked out is tried again after this long.
const CONFIG_RETRY_MS: i64 = 10_000;
/// `ErrImagePull` is shown this long before it turns into `ImagePullBackOff`.
pub(super) const FRESH_FAILURE_MS: i64 = 3_000;

/// What an init container means for those after it.
enum Turn {
    /// Done, or a sidecar that is up: the next may go.
    Passed,
    /// Not yet.
    Waits,
}

/// True once any ordinary container has run in the sandbox that stands: init is over.
pub(super) fn initialized(desired: &Desired, observed: &ObservedPod) -> bool {
    let ran = |c: &Container| {
        let runs = observed.seen(&c.name).map(|seen| seen.runs.as_slice()).unwrap_or_default();
        runs.iter().any(|run| !run.stale)
    };
    desired.main().iter().any(ran)
}

/// Plans all containers; `ready` says that sandbox and volumes stand.
pub(super) fn plan_running(
    desired: &Desired,
    observed: &ObservedPod,
    ready: bool,
    now_ms: i64,
    plan: &mut Plan,
) {
    let over = initialized(desired, observed);
    let mut step = Step { desired, observed, ready, now_ms, plan };
    let mut waits = false;
    for container in desired.init() {
        if desired.is_sidecar(container) {
            if !waits || over {
                waits |= matches!(step.sidecar(container), Turn::Waits);
            }
        } else if !over && !waits {
            waits = matches!(step.init(container), Turn::Waits);
        }
    }
    if !waits || over {
        for container in desired.main() {
            step.main(container);
        }
    }
    for container in desired.all() {
        step.tidy(container);
    }
}

struct Step<'a> {
    desired: &'a Desired,
    observed: &'a ObservedPod,
    ready: bool,
    now_ms: i64,
    plan: &'a mut Plan,
}

/// True once the startup probe, if any, has succeeded and the postStart hook is over.
pub(super) fn started(container: &Container, seen: &Seen) -> bool {
    let hook = post_start(container).is_none() || seen.post_start == Task::Done;
    let state = seen.probes.get(&ProbeKind::Startup);
    let begun = probe(container, ProbeKind::Startup).is_none()
        || state.is_some_and(|s| s.result == Some(true));
    seen.running().is_some() && hook && begun
}

impl Step<'_> {
    fn seen(&self, container: &Container) -> Seen {
        self.observed.seen(&container.name).cloned().unwrap_or_default()
    }

    fn init(&mut self, container: &Container) -> Turn {
        let seen = self.seen(container);
        match seen.last().filter(|run| !run.stale).and_then(Run::end) {
            Some((0, _)) => return Turn::Passed,
            Some(_) if self.desired.restart_policy() == RestartPolicy::Never => {}
            _ if seen.running().is_some() => self.hooks(container, &seen),
            _ => self.start(container, &seen),
        }
        Turn::Waits
    }

    fn sidecar(&mut self, container: &Container) -> Turn {
        let seen = self.seen(container);
        if seen.running().is_some() {
            self.supervise(container, &seen);
        } else {
            self.start(container, &seen);
        }
        if started(container, &seen) { Turn::Passed } else { Turn::Waits }
    }

    fn main(&mut self, container: &Container) {
        let seen = self.seen(container);
        if seen.running().is_some() {
            self.supervise(container, &seen);
        } else if should_restart(self.desired, container, &seen) {
            self.start(container, &seen);
        }
    }

    /// Watches over a running container: outdated, failing its probes, due for a hook or a probe.
    fn supervise(&mut self, container: &Container, seen: &Seen) {
        let Some(run) = seen.running() else { return };
        if seen.stopping.is_some() {
            return;
        }
        let failed = |kind| seen.probes.get(&kind).is_some_and(|s| s.result == Some(false));
        let reason = if run.spec_hash != container_hash(container) {
            Some(StopReason::Changed)
        } else if matches!(seen.post_start, Task::Failed { .. }) {
            Some(StopReason::PostStart)
        } else if failed(ProbeKind::Startup) {
            Some(StopReason::Startup)
        } else if failed(ProbeKind::Liveness) {
            Some(StopReason::Liveness)
        } else {
            None
        };
        if let Some(reason) = reason {
            let cap = i64::MAX;
            begin_stop(self.desired, self.observed, container, run, reason, cap, self.plan);
            return;
        }
        self.hooks(container, seen);
        plan_probes(container, seen, run, self.now_ms, self.plan);
    }

    fn hooks(&mut self, container: &Container, seen: &Seen) {
        let Some(run) = seen.running() else { return };
        if post_start(container).is_some() && seen.post_start == Task::Idle {
            let (container, id) = (container.name.clone(), run.id.clone());
            self.plan.act(Action::PostStart { container, id });
        }
    }

    /// Starts a container that has none running, when its back-off is over and its image at hand.
    fn start(&mut self, container: &Container, seen: &Seen) {
        if seen.starting {
            return;
        }
        if let Some(until) = held_until(seen)
            && self.now_ms < until
        {
            return self.plan.wake(until);
        }
        if self.image(container, seen) && self.ready {
            self.plan.act(Action::Start {
                container: container.name.clone(),
                attempt: seen.next_attempt(),
                spec_hash: container_hash(container),
            });
        }
    }

    /// Sees to the image; true when it is at hand.
    fn image(&mut self, container: &Container, seen: &Seen) -> bool {
        match &seen.image {
            ImageState::Ready => return true,
            ImageState::Busy => return false,
            ImageState::Unknown => {}
            ImageState::Failed { at_ms, .. } => {
                let until = at_ms + pull_delay_ms(seen.pull_failures);
                if self.now_ms < until {
                    // Looked at again in between, to show the back-off.
                    let fresh = at_ms + FRESH_FAILURE_MS;
                    self.plan.wake(if self.now_ms < fresh { fresh } else { until });
                    return false;
                }
            }
        }
        self.plan.act(Action::EnsureImage {
            container: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            policy: pull_policy(container),
        });
        false
    }

    /// Drops the remains of runs that nobody can ask for any more: all ended ones but the newest.
    fn tidy(&mut self, container: &Container) {
        let seen = self.seen(container);
        let mut ended: Vec<&Run> = seen.runs.iter().filter(|r| !r.running() && r.kept).collect();
        ended.pop();
        for id in ended.into_iter().map(|run| &run.id).chain(&seen.spare) {
            let (container, id) = (container.name.clone(), id.clone());
            self.plan.act(Action::Forget { container, id });
        }
    }
}

/// Until when a container may not start: crash back-off, or the retry of a start that left no run.
pub(super) fn held_until(seen: &Seen) -> Option<i64> {
    if let Some((how, _, at_ms)) = &seen.start_failed {
        let delay = match how {
            StartFailure::Config | StartFailure::Create => CONFIG_RETRY_MS,
            StartFailure::Run => 0,
        };
        return Some(at_ms + delay);
    }
    let run = seen.last().filter(|run| !run.stale)?;
    let (_, ended) = run.end()?;
    if run.stopped == Some(StopReason::Changed) {
        return None;
    }
    CrashBackOff::until(seen.back_off, ended)
}

/// Whether a container with no run under way shall run (again).
pub(super) fn should_restart(desired: &Desired, container: &Container, seen: &Seen) -> bool {
    let Some(run) = seen.last() else {
        return true;
    };
    let Some((code, _)) = run.end() else {
        return false;
    };
    if run.stopped == Some(StopReason::Changed) {
        return true;
    }
    match desired.policy_of(container) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    }
}
