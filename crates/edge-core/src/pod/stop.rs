//! Stopping containers, step by step: hook, signal, grace, kill. Ordinary containers go first
//! and together; sidecars follow one by one, last first, as Kubernetes has it.

use edge_api::k8s::api::core::v1::Container;

use super::desired::{Desired, pre_stop, probe};
use super::observed::{ObservedPod, ProbeKind, Run, Seen, StopReason, Stopping, Task};
use super::plan::{Action, Plan};

/// A container whose hook used up the grace still gets this long after its signal.
const MINIMUM_GRACE_MS: i64 = 2_000;
/// A kill that had no effect is sent again after this long.
const KILL_AGAIN_MS: i64 = 10_000;
/// Where a board goes off, nobody waits any longer than this for the kernel to end what was killed.
const AFTER_KILL_MS: i64 = 5_000;
/// Grace of a pod that is gone from the API already.
const ORPHAN_GRACE_S: i64 = 1;

/// The grace that a stop for `reason` gives.
fn grace_s(
    desired: &Desired,
    container: &Container,
    observed: &ObservedPod,
    why: StopReason,
) -> i64 {
    let of_probe = match why {
        StopReason::Liveness => probe(container, ProbeKind::Liveness),
        StopReason::Startup => probe(container, ProbeKind::Startup),
        _ => None,
    };
    let grace = of_probe.and_then(|p| p.termination_grace_period_seconds);
    let grace = grace.unwrap_or_else(|| desired.grace_s());
    if observed.orphan { grace.max(ORPHAN_GRACE_S) } else { grace }
}

/// Begins to stop one running container, with at most `cap_s` seconds of grace.
pub(super) fn begin_stop(
    desired: &Desired,
    observed: &ObservedPod,
    container: &Container,
    run: &Run,
    reason: StopReason,
    cap_s: i64,
    plan: &mut Plan,
) {
    plan.act(Action::Stop {
        container: container.name.clone(),
        id: run.id.clone(),
        reason,
        grace_s: grace_s(desired, container, observed, reason).min(cap_s),
        hook: pre_stop(container).is_some(),
    });
}

fn running<'a>(observed: &'a ObservedPod, container: &Container) -> Option<(&'a Seen, &'a Run)> {
    let seen = observed.seen(&container.name)?;
    Some((seen, seen.running()?))
}

/// Stops everything that runs, ordinary containers before sidecars.
pub(super) fn stop_all(
    desired: &Desired,
    observed: &ObservedPod,
    reason: StopReason,
    now_ms: i64,
    plan: &mut Plan,
) {
    let begin = |container: &Container, cap_s: i64, plan: &mut Plan| {
        if let Some((seen, run)) = running(observed, container)
            && seen.stopping.is_none()
        {
            begin_stop(desired, observed, container, run, reason, cap_s, plan);
        }
    };
    let ordinary: Vec<&Container> = desired.all().filter(|c| !desired.is_sidecar(c)).collect();
    let mut left = ordinary.iter().any(|c| running(observed, c).is_some());
    for container in ordinary {
        begin(container, i64::MAX, plan);
    }
    let deadline = observed.terminating_ms.map(|since| since + desired.grace_s() * 1000);
    let overdue = deadline.is_some_and(|at| now_ms >= at);
    if left && let Some(at) = deadline.filter(|at| now_ms < *at) {
        plan.wake(at);
    }
    // Sidecars get what is left of the pod's grace.
    let rest_s = deadline.map_or(i64::MAX, |at| (at - now_ms).max(MINIMUM_GRACE_MS) / 1000);
    for container in desired.init().iter().rev().filter(|c| desired.is_sidecar(c)) {
        if running(observed, container).is_some() && (!left || overdue) {
            begin(container, rest_s, plan);
            left = true;
        }
    }
    // Containers that are gone from the spec can only be left-overs.
    for (name, seen) in &observed.containers {
        if let Some(run) = seen.running()
            && seen.stopping.is_none()
            && desired.container(name).is_none()
        {
            let (container, id) = (name.clone(), run.id.clone());
            plan.act(Action::Stop { container, id, reason, grace_s: 0, hook: false });
        }
    }
}

/// What to do next for a pod whose board goes off: its containers stop as at a deletion, and all
/// else is left as it is. Done when nothing runs any more that a kill could end.
pub fn plan_off(desired: &Desired, observed: &ObservedPod, now_ms: i64) -> Plan {
    let mut plan = Plan { done: true, ..Plan::default() };
    stop_all(desired, observed, StopReason::Deleted, now_ms, &mut plan);
    plan_stops(desired, observed, now_ms, &mut plan);
    for seen in observed.containers.values().filter(|seen| seen.running().is_some()) {
        let killed = seen.stopping.as_ref().and_then(|stopping| stopping.killed_ms);
        let given_up = killed.map(|at| at + AFTER_KILL_MS);
        if given_up.is_none_or(|at| now_ms < at) {
            plan.done = false;
        }
        if let Some(at) = given_up.filter(|at| now_ms < *at) {
            plan.wake(at);
        }
    }
    plan
}

/// How long a container may take to end after its preStop hook, in milliseconds: what the hook has
/// left of its grace, and a moment in any case; as the kubelet has it
/// (`minimumGracePeriodInSeconds`).
pub(super) fn after_hook_ms(grace_ms: i64, hook_ms: i64) -> i64 {
    (grace_ms - hook_ms).max(MINIMUM_GRACE_MS.min(grace_ms))
}

/// The next step of every stop under way.
pub(super) fn plan_stops(desired: &Desired, observed: &ObservedPod, now_ms: i64, plan: &mut Plan) {
    for (name, seen) in &observed.containers {
        if let (Some(run), Some(stopping)) = (seen.running(), &seen.stopping) {
            let shorter = desired.deleted().then(|| desired.grace_s());
            step(name, run, stopping, shorter, now_ms, plan);
        }
    }
}

/// `cap_s` is the grace of a deletion that came after the stop had begun; it can only shorten it.
fn step(name: &str, run: &Run, stop: &Stopping, cap_s: Option<i64>, now_ms: i64, plan: &mut Plan) {
    let (container, id) = (name.to_owned(), run.id.clone());
    if let Some(killed) = stop.killed_ms {
        if now_ms >= killed + KILL_AGAIN_MS {
            plan.act(Action::Kill { container, id });
        } else {
            plan.wake(killed + KILL_AGAIN_MS);
        }
        return;
    }
    let grace_ms = stop.grace_s.min(cap_s.unwrap_or(i64::MAX)) * 1000;
    let deadline = stop.since_ms + grace_ms;
    let Some(signalled) = stop.signalled_ms else {
        match stop.hook {
            Task::Idle if now_ms < deadline => {
                let timeout_ms = deadline - now_ms;
                plan.act(Action::PreStop { container, id, timeout_ms });
            }
            Task::Busy if now_ms < deadline => plan.wake(deadline),
            _ if grace_ms == 0 => plan.act(Action::Kill { container, id }),
            _ => plan.act(Action::Terminate { container, id }),
        }
        return;
    };
    let kill_at = signalled + after_hook_ms(grace_ms, signalled - stop.since_ms);
    if now_ms >= kill_at {
        plan.act(Action::Kill { container, id });
    } else {
        plan.wake(kill_at);
    }
}
