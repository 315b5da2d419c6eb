//! What Kubernetes shows of one container: waiting, running or terminated, with its words for why.

use edge_api::k8s::api::core::v1::Container;
use serde_json::{Map, Value, json};

use super::back_off::go_duration;
use super::containers::{FRESH_FAILURE_MS, held_until, should_restart, started};
use super::desired::{Desired, RestartPolicy, probe};
use super::observed::{
    ImageState, ObservedPod, ProbeKind, Run, RunState, Seen, StartFailure, StopReason,
};
use super::status::{leaving, time};

/// Scheme of container ids in the API.
const ID_SCHEME: &str = "edged://";
/// An end is shown as it was for so long, before the wait for the restart is shown instead.
const FRESH_END_MS: i64 = 2_000;

/// What the conditions need to know about a container.
pub(super) struct Shown {
    pub(super) status: Value,
    pub(super) ready: bool,
    pub(super) started: bool,
}

/// The `containerStatuses` entry.
pub(super) fn container_status(
    desired: &Desired,
    observed: &ObservedPod,
    container: &Container,
    init: bool,
    now_ms: i64,
) -> Shown {
    let nothing = Seen::default();
    let seen = observed.seen(&container.name).unwrap_or(&nothing);
    let last = seen.last();
    let waiting = waiting(desired, observed, container, seen, init, now_ms);
    let (state, before) = match (&waiting, last) {
        (Some(waiting), _) => (json!({ "waiting": waiting }), last.filter(|run| !run.running())),
        (None, Some(run)) => {
            let before = seen.runs.len().checked_sub(2).map(|index| &seen.runs[index]);
            (run_state(run), before)
        }
        (None, None) => (json!({ "waiting": default_waiting(desired, init) }), None),
    };
    let shown_run = last.filter(|_| waiting.is_none()).or(last);
    let begun = started(container, seen);
    let ready = is_ready(desired, container, seen, init, begun);
    let restarts = last.map_or(seen.earlier_attempts.unwrap_or(0), |run| run.attempt);
    let image = shown_run.map_or(container.image.as_deref().unwrap_or_default(), |r| &r.image);
    let mut out = Map::new();
    if let Some(run) = shown_run {
        out.insert("containerID".into(), json!(format!("{ID_SCHEME}{}", run.id)));
    }
    out.insert("image".into(), json!(image));
    out.insert("imageID".into(), json!(shown_run.map_or("", |run| run.image_id.as_str())));
    out.insert("lastState".into(), before.map_or_else(|| json!({}), run_state));
    out.insert("name".into(), json!(container.name));
    out.insert("ready".into(), json!(ready));
    out.insert("restartCount".into(), json!(restarts));
    out.insert("started".into(), json!(begun));
    out.insert("state".into(), state);
    Shown { status: Value::Object(out), ready, started: begun }
}

fn is_ready(
    desired: &Desired,
    container: &Container,
    seen: &Seen,
    init: bool,
    begun: bool,
) -> bool {
    if init && !desired.is_sidecar(container) {
        return matches!(seen.last().and_then(Run::end), Some((0, _)));
    }
    let readiness = seen.probes.get(&ProbeKind::Readiness).and_then(|state| state.result);
    begun && (probe(container, ProbeKind::Readiness).is_none() || readiness == Some(true))
}

fn run_state(run: &Run) -> Value {
    let RunState::Ended { code, signal, finished_ms, oom_killed, start_error, message } =
        &run.state
    else {
        return json!({ "running": { "startedAt": time(run.started_ms) } });
    };
    let reason = match (oom_killed, start_error, code) {
        (_, Some(_), _) => "StartError",
        (true, _, _) => "OOMKilled",
        (_, _, 0) => "Completed",
        _ => "Error",
    };
    let mut out = Map::new();
    out.insert("containerID".into(), json!(format!("{ID_SCHEME}{}", run.id)));
    out.insert("exitCode".into(), json!(code));
    out.insert("finishedAt".into(), json!(time(*finished_ms)));
    if let Some(message) = start_error.as_ref().or(message.as_ref()).filter(|m| !m.is_empty()) {
        out.insert("message".into(), json!(message));
    }
    out.insert("reason".into(), json!(reason));
    if let Some(signal) = signal {
        out.insert("signal".into(), json!(signal));
    }
    out.insert("startedAt".into(), json!(time(run.started_ms)));
    json!({ "terminated": out })
}

fn default_waiting(desired: &Desired, init: bool) -> Value {
    let initializing = init || !desired.init().is_empty();
    json!({ "reason": if initializing { "PodInitializing" } else { "ContainerCreating" } })
}

fn because(reason: &str, message: &str) -> Option<Value> {
    Some(json!({ "message": message, "reason": reason }))
}

/// The waiting state, when waiting is what the container does; `None` shows its last run.
fn waiting(
    desired: &Desired,
    observed: &ObservedPod,
    container: &Container,
    seen: &Seen,
    init: bool,
    now_ms: i64,
) -> Option<Value> {
    if seen.running().is_some() {
        return None;
    }
    let end = seen.last().and_then(Run::end);
    if end.is_some()
        && (leaving(desired, observed, now_ms) || !restarts(desired, container, seen, init))
    {
        return None;
    }
    if let Some((how, message, _)) = &seen.start_failed {
        let reason = match how {
            StartFailure::Config => "CreateContainerConfigError",
            StartFailure::Create => "CreateContainerError",
            StartFailure::Run => "RunContainerError",
        };
        return because(reason, message);
    }
    if let Some(waiting) = image_waiting(container, seen, now_ms) {
        return Some(waiting);
    }
    let (_, ended) = end?;
    let run = seen.last()?;
    let fresh = now_ms < ended + FRESH_END_MS;
    if let RunState::Ended { start_error: Some(message), .. } = &run.state
        && fresh
    {
        return because("RunContainerError", message);
    }
    let held = held_until(seen).is_some_and(|until| now_ms < until);
    if held && !fresh {
        let delay = seen.back_off.map_or(0, |entry| entry.delay_ms);
        return because("CrashLoopBackOff", &crash_message(desired, container, delay));
    }
    if run.stale { Some(default_waiting(desired, init)) } else { None }
}

fn crash_message(desired: &Desired, container: &Container, delay_ms: i64) -> String {
    format!(
        "back-off {} restarting failed container={} pod={}",
        go_duration(delay_ms),
        container.name,
        desired.label()
    )
}

fn restarts(desired: &Desired, container: &Container, seen: &Seen, init: bool) -> bool {
    if !init || desired.is_sidecar(container) {
        return should_restart(desired, container, seen);
    }
    match seen.last().and_then(Run::end) {
        Some((0, _)) => seen.last().is_some_and(|run| run.stale),
        Some(_) => desired.restart_policy() != RestartPolicy::Never,
        None => true,
    }
}

fn image_waiting(container: &Container, seen: &Seen, now_ms: i64) -> Option<Value> {
    let (reason, message) = seen.pull_error.as_ref()?;
    let at_ms = match &seen.image {
        ImageState::Failed { at_ms, .. } => *at_ms,
        ImageState::Busy => now_ms,
        ImageState::Unknown | ImageState::Ready => return None,
    };
    if reason != "ErrImagePull" || now_ms < at_ms + FRESH_FAILURE_MS {
        let fresh_or_busy = reason != "ErrImagePull" || seen.image != ImageState::Busy;
        if fresh_or_busy {
            return because(reason, message);
        }
    }
    let image = container.image.as_deref().unwrap_or_default();
    let text = format!("Back-off pulling image \"{image}\": ErrImagePull: {message}");
    because("ImagePullBackOff", &text)
}

/// When the shown state changes though nothing happens: a fresh end turns into a back-off.
pub(super) fn changes_at(seen: &Seen, now_ms: i64) -> Option<i64> {
    let (_, ended) = seen.last().and_then(Run::end)?;
    let at = ended + FRESH_END_MS;
    let stopped = seen.last().and_then(|run| run.stopped);
    (now_ms < at && stopped != Some(StopReason::Changed)).then_some(at)
}
