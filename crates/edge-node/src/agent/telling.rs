//! The events that follow from a pod's plan and status, in Kubernetes' words.

use edge_core::pod::{Desired, StopReason, waiting_reasons};
use serde_json::Value;

use super::board::{Board, subject};
use super::events::Grade::{Normal, Warning};

/// A container is about to be stopped.
pub(crate) fn stop(board: &Board, pod: &Desired, container: &str, reason: StopReason) {
    let text = match reason {
        StopReason::Deleted | StopReason::Finished => format!("Stopping container {container}"),
        StopReason::Liveness => {
            format!("Container {container} failed liveness probe, will be restarted")
        }
        StopReason::Startup => {
            format!("Container {container} failed startup probe, will be restarted")
        }
        StopReason::Changed => {
            format!("Container {container} definition changed, will be restarted")
        }
        StopReason::SandboxGone => {
            format!("Pod sandbox changed, container {container} will be killed and re-created")
        }
        StopReason::PostStart => format!("FailedPostStartHook: container {container}"),
    };
    board.events.say(&subject(pod, Some(container)), Normal, "Killing", text);
}

/// Events about containers that have just begun to wait for something.
pub(crate) fn waiting(board: &Board, pod: &Desired, before: &Value, status: &Value) {
    let before = waiting_reasons(before);
    for (container, (reason, message)) in waiting_reasons(status) {
        if before.get(&container).is_some_and(|(old, _)| *old == reason) {
            continue;
        }
        let about = subject(pod, Some(&container));
        let events = &board.events;
        match reason.as_str() {
            "CrashLoopBackOff" => {
                let text = format!(
                    "Back-off restarting failed container {container} in pod {}",
                    pod.label()
                );
                events.say(&about, Warning, "BackOff", text);
            }
            "ImagePullBackOff" => {
                let text = message.split(": ErrImagePull").next().unwrap_or_default();
                events.say(&about, Normal, "BackOff", text);
                events.say(&about, Warning, "Failed", "Error: ImagePullBackOff");
            }
            _ => {}
        }
    }
}
