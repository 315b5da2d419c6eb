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

/// A trouble that lasts: it is news once, until it is over or another one.
#[derive(Debug, Default)]
pub(crate) struct Lasting(Option<String>);

impl Lasting {
    /// How the last attempt ended; answers the trouble if that was not known.
    pub(crate) fn news(&mut self, trouble: Option<String>) -> Option<&str> {
        let known = self.0 == trouble;
        self.0 = trouble;
        self.0.as_deref().filter(|_| !known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_that_lasts_is_news_once() {
        let mut lasting = Lasting::default();
        let mut after =
            |trouble: Option<&str>| lasting.news(trouble.map(str::to_owned)).map(str::to_owned);
        assert_eq!(after(None), None);
        assert_eq!(after(Some("no space")).as_deref(), Some("no space"));
        assert_eq!(after(Some("no space")), None);
        assert_eq!(after(Some("read-only")).as_deref(), Some("read-only"));
        assert_eq!(after(None), None);
        assert_eq!(after(Some("read-only")).as_deref(), Some("read-only"), "it came back");
    }
}
