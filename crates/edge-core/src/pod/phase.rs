//! The phase of a pod, worked out from its containers as the kubelet's `getPhase` does.

use edge_api::k8s::api::core::v1::Container;

use super::containers::{should_restart, started};
use super::desired::{Desired, RestartPolicy};
use super::observed::{ObservedPod, Run};

/// A pod's phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not all containers have started.
    Pending,
    /// Under way.
    Running,
    /// Every container ended with 0.
    Succeeded,
    /// Every container ended, not all with 0.
    Failed,
}

impl Phase {
    /// As the API writes it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
        }
    }
}

#[derive(Default)]
struct Count {
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
}

/// The phase that the containers make.
pub(super) fn of(desired: &Desired, observed: &ObservedPod) -> Phase {
    match desired.pod.status.as_ref().and_then(|s| s.phase.as_deref()) {
        Some("Succeeded") => return Phase::Succeeded,
        Some("Failed") => return Phase::Failed,
        _ => {}
    }
    let mut pending_init = false;
    for container in desired.init() {
        match init_state(desired, observed, container) {
            Init::Done => {}
            Init::Pending => pending_init = true,
            Init::FailedForGood => return Phase::Failed,
        }
    }
    let count = count_main(desired, observed);
    let never_ran = count.running == 0 && count.stopped == 0;
    if (pending_init && never_ran) || count.waiting > 0 {
        return Phase::Pending;
    }
    if count.running > 0 {
        return Phase::Running;
    }
    if count.stopped == 0 {
        return Phase::Pending;
    }
    let all_well = count.stopped == count.succeeded;
    let leaving = desired.deleted() || observed.orphan;
    match desired.restart_policy() {
        _ if leaving && all_well => Phase::Succeeded,
        _ if leaving => Phase::Failed,
        RestartPolicy::Always => Phase::Running,
        _ if all_well => Phase::Succeeded,
        RestartPolicy::Never if restarting(desired, observed) => Phase::Running,
        RestartPolicy::Never => Phase::Failed,
        RestartPolicy::OnFailure => Phase::Running,
    }
}

/// A container that was stopped because its spec changed comes back whatever the policy.
fn restarting(desired: &Desired, observed: &ObservedPod) -> bool {
    desired
        .main()
        .iter()
        .any(|c| observed.seen(&c.name).is_some_and(|seen| should_restart(desired, c, seen)))
}

enum Init {
    Done,
    Pending,
    FailedForGood,
}

fn init_state(desired: &Desired, observed: &ObservedPod, container: &Container) -> Init {
    let Some(seen) = observed.seen(&container.name) else {
        return Init::Pending;
    };
    if desired.is_sidecar(container) {
        return if started(container, seen) { Init::Done } else { Init::Pending };
    }
    match seen.last().and_then(Run::end) {
        Some((0, _)) => Init::Done,
        Some(_) if desired.restart_policy() == RestartPolicy::Never => Init::FailedForGood,
        _ => Init::Pending,
    }
}

fn count_main(desired: &Desired, observed: &ObservedPod) -> Count {
    let mut count = Count::default();
    for container in desired.main() {
        let last = observed.seen(&container.name).and_then(|seen| seen.last());
        match last.map(|run| (run.running(), run.end())) {
            None => count.waiting += 1,
            Some((true, _)) => count.running += 1,
            Some((false, end)) => {
                count.stopped += 1;
                count.succeeded += usize::from(matches!(end, Some((0, _))));
            }
        }
    }
    count
}
