//! Which pods a drain takes off, which it leaves, and which it may not touch: the rules and the
//! words of `kubectl` (`pkg/drain/filters.go`).

use super::Drain;
use crate::fault::Fault;
use edge_api::{Object, meta};
use edge_client::{Call, Client};
use std::collections::BTreeMap;

const DAEMON_SET_FATAL: &str = "DaemonSet-managed Pods (use --ignore-daemonsets to ignore)";
const DAEMON_SET_WARNING: &str = "ignoring DaemonSet-managed Pods";
const LOCAL_FATAL: &str = "Pods with local storage (use --delete-emptydir-data to override)";
const LOCAL_WARNING: &str = "deleting Pods with local storage";
const UNMANAGED_FATAL: &str =
    "cannot delete Pods that declare no controller (use --force to override)";
const UNMANAGED_WARNING: &str = "deleting Pods that declare no controller";

/// The annotation of pods that come from a file on the board.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Seconds from a pod's deletion timestamp until now; `None` for one that is not being deleted.
pub(super) fn overdue(pod: &Object) -> Option<i64> {
    let since = edge_api::time::parse(meta::deletion_timestamp(pod)?)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((i64::try_from(now.as_millis()).ok()? - since) / 1000)
}

fn is_daemons(pod: &Object) -> bool {
    meta::controller(pod).is_some_and(|owner| owner.kind == "DaemonSet")
}

fn is_finished(pod: &Object) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// Why the DaemonSet that a pod belongs to can't be read, if it can't: whether it is gone, and
/// what the server said.
pub(super) async fn lost_owner(
    client: &Client,
    pod: &Object,
) -> Result<Option<(bool, String)>, Fault> {
    if !is_daemons(pod) || is_finished(pod) {
        return Ok(None);
    }
    let name = meta::controller(pod).map(|owner| owner.name).unwrap_or_default();
    let path = format!("/apis/apps/v1/namespaces/{}/daemonsets/{name}", meta::namespace(pod));
    match client.call(&Call::get(path.as_str())).await {
        Ok(_) => Ok(None),
        Err(error) => Ok(Some((error.is_not_found(), error.to_string()))),
    }
}

/// The pods of a board, sorted.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// Those that go.
    pub(super) pods: Vec<Object>,
    warned: BTreeMap<String, Vec<String>>,
    refused: BTreeMap<String, Vec<String>>,
}

impl Choice {
    /// Sorts one pod in.
    pub(super) fn take(&mut self, args: &Drain, pod: Object, owner: Option<(bool, String)>) {
        let shown = format!("{}/{}", meta::namespace(&pod), meta::name(&pod));
        let patience = args.skip_wait_for_delete_timeout;
        if patience > 0 && overdue(&pod).is_some_and(|seconds| seconds > patience) {
            return;
        }
        let finished = is_finished(&pod);
        // The last warning is the one that is told.
        let mut warning = None;
        if is_daemons(&pod) && !finished {
            match owner {
                Some((true, said)) if args.force => warning = Some(said),
                Some((_, said)) => return self.refuse(said, shown),
                None if args.ignore_daemonsets => {
                    return self.warn(DAEMON_SET_WARNING.to_owned(), shown);
                }
                None => return self.refuse(DAEMON_SET_FATAL.to_owned(), shown),
            }
        }
        if meta::annotation(&pod, MIRROR).is_some() {
            return;
        }
        let volumes = pod["spec"]["volumes"].as_array();
        let local = volumes.is_some_and(|v| v.iter().any(|v| v["emptyDir"].is_object()));
        if local && !finished {
            if !args.delete_emptydir_data {
                return self.refuse(LOCAL_FATAL.to_owned(), shown);
            }
            warning = Some(LOCAL_WARNING.to_owned());
        }
        if meta::controller(&pod).is_none() && !finished {
            if !args.force {
                return self.refuse(UNMANAGED_FATAL.to_owned(), shown);
            }
            warning = Some(UNMANAGED_WARNING.to_owned());
        }
        if let Some(warning) = warning {
            self.warn(warning, shown);
        }
        self.pods.push(pod);
    }

    fn warn(&mut self, why: String, pod: String) {
        self.warned.entry(why).or_default().push(pod);
    }

    fn refuse(&mut self, why: String, pod: String) {
        self.refused.entry(why).or_default().push(pod);
    }

    /// What to tell beforehand; empty when there is nothing to tell.
    pub(super) fn warnings(&self) -> String {
        let parts = self.warned.iter().map(|(why, pods)| format!("{why}: {}", pods.join(", ")));
        parts.collect::<Vec<_>>().join("; ")
    }

    /// Why the drain may not begin, if it may not.
    pub(super) fn refusal(&self) -> Option<String> {
        let parts: Vec<String> = self
            .refused
            .iter()
            .map(|(why, pods)| {
                let told = why.to_lowercase().starts_with("cannot delete");
                let lead = if told { "" } else { "cannot delete " };
                format!("{lead}{why}: {}", pods.join(", "))
            })
            .collect();
        match parts.as_slice() {
            [] => None,
            [only] => Some(only.clone()),
            several => Some(format!("[{}]", several.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::{Value, json};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        drain: Drain,
    }

    fn choice(flags: &str, pod: &Value, owner: Option<(bool, String)>) -> Choice {
        let words = format!("drain n1 {flags}");
        let line = Line::parse_from(words.split_whitespace());
        let mut choice = Choice::default();
        choice.take(&line.drain, pod.clone(), owner);
        choice
    }

    fn pod(owner: &str, volumes: Value, phase: &str) -> Value {
        let mut pod = json!({"metadata": {"namespace": "a", "name": "p"},
            "spec": {"volumes": volumes}, "status": {"phase": phase}});
        if !owner.is_empty() {
            pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": owner,
                "name": "o", "uid": "o", "controller": true}]);
        }
        pod
    }

    #[test]
    fn the_rules_are_kubectls() {
        let none = || json!([]);
        let local = || json!([{"name": "v", "emptyDir": {}}]);
        let daemon = || pod("DaemonSet", none(), "Running");
        let bare = || pod("", none(), "Running");
        let kept = || pod("ReplicaSet", local(), "Running");
        // (flags, pod, taken, warning, refusal)
        let cases = [
            ("", pod("ReplicaSet", none(), "Running"), true, "", ""),
            (
                "",
                bare(),
                false,
                "",
                "cannot delete Pods that declare no controller (use --force to override): a/p",
            ),
            ("--force", bare(), true, "deleting Pods that declare no controller: a/p", ""),
            (
                "",
                daemon(),
                false,
                "",
                "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): a/p",
            ),
            ("--ignore-daemonsets", daemon(), false, "ignoring DaemonSet-managed Pods: a/p", ""),
            (
                "",
                kept(),
                false,
                "",
                "cannot delete Pods with local storage (use --delete-emptydir-data to override): \
              a/p",
            ),
            ("--delete-emptydir-data", kept(), true, "deleting Pods with local storage: a/p", ""),
            ("--delete-local-data", kept(), true, "deleting Pods with local storage: a/p", ""),
            ("", pod("", local(), "Succeeded"), true, "", ""),
            ("", pod("DaemonSet", none(), "Failed"), true, "", ""),
        ];
        for (flags, pod, taken, warning, refusal) in cases {
            let choice = choice(flags, &pod, None);
            assert_eq!(choice.pods.len() == 1, taken, "{flags} {pod}");
            assert_eq!(choice.warnings(), warning, "{flags} {pod}");
            assert_eq!(choice.refusal().unwrap_or_default(), refusal, "{flags} {pod}");
        }
    }

    #[test]
    fn orphans_of_a_daemon_set_go_by_force_only() {
        let pod = pod("DaemonSet", json!([]), "Running");
        let gone = || Some((true, "daemonsets.apps \"o\" not found".to_owned()));
        assert!(choice("--ignore-daemonsets", &pod, gone()).refusal().is_some());
        let forced = choice("--force", &pod, gone());
        assert_eq!(forced.pods.len(), 1);
        assert_eq!(forced.warnings(), "daemonsets.apps \"o\" not found: a/p");
    }

    #[test]
    fn mirror_and_overdue_pods_are_passed_by() {
        let mut mirror = pod("", json!([]), "Running");
        meta::set_annotation(&mut mirror, MIRROR, "x");
        let mut overdue = pod("", json!([]), "Running");
        meta::set(&mut overdue, "deletionTimestamp", "2020-01-01T00:00:00Z");
        for (flags, pod) in [("", mirror), ("--skip-wait-for-delete-timeout=5", overdue)] {
            let choice = choice(flags, &pod, None);
            assert!(choice.pods.is_empty() && choice.refusal().is_none(), "{flags}");
        }
    }
}
