//! Finds the container that a request names, among the pods that run here.

use edge_api::kinds::POD;
use edge_api::status::Status;
use serde_json::Value;

use crate::agent::{Board, PodView};
use crate::seams::{ContainerRecord, ContainerState};

/// The pod of that name; the newest, should an old one of that name still be ending.
pub(super) fn pod(board: &Board, namespace: &str, name: &str) -> Result<PodView, Status> {
    let found = board.pod_views();
    let mut named = found.into_iter().filter(|pod| pod.is(namespace, name));
    named.next_back().ok_or_else(|| Status::not_found(POD, name))
}

fn is_part(pod: &PodView, container: &str) -> bool {
    let lists = ["initContainers", "containers"];
    let all = lists.iter().filter_map(|key| pod.object["spec"][*key].as_array()).flatten();
    all.into_iter().any(|c| c["name"] == container)
}

/// Runs of a container that are still on the board, oldest first.
pub(super) fn runs(
    board: &Board,
    pod: &PodView,
    container: &str,
) -> Result<Vec<ContainerRecord>, Status> {
    if !is_part(pod, container) {
        let text = format!("container {container} is not valid for pod {}", pod.name());
        return Err(Status::bad_request(text));
    }
    let all = board.runtime.list().map_err(Status::internal)?;
    let mut runs: Vec<ContainerRecord> =
        all.into_iter().filter(|r| r.pod_uid == pod.uid() && r.name == container).collect();
    runs.sort_by_key(|run| run.attempt);
    Ok(runs)
}

/// True while the first process of a run lives.
pub(super) fn lives(run: &ContainerRecord) -> bool {
    matches!(run.state, ContainerState::Running { .. })
}

/// The run whose log is wanted.
pub(super) fn for_log(
    board: &Board,
    pod: &PodView,
    container: &str,
    previous: bool,
) -> Result<ContainerRecord, Status> {
    let mut runs = runs(board, pod, container)?;
    if previous {
        let current = runs.last().is_some_and(lives);
        if current {
            runs.pop();
        }
        return runs.pop().ok_or_else(|| {
            let name = pod.name();
            let text = format!(
                "previous terminated container \"{container}\" in pod \"{name}\" not found"
            );
            Status::bad_request(text)
        });
    }
    runs.pop().ok_or_else(|| not_started(pod, container))
}

/// The run to execute a command in.
pub(super) fn running(
    board: &Board,
    pod: &PodView,
    container: &str,
) -> Result<ContainerRecord, Status> {
    let run = runs(board, pod, container)?.pop().filter(lives);
    run.ok_or_else(|| Status::internal(format!("container not found (\"{container}\")")))
}

fn not_started(pod: &PodView, container: &str) -> Status {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let mut all = lists.iter().filter_map(|key| pod.status[*key].as_array()).flatten();
    let status = all.find(|c| c["name"] == container);
    let waiting = status.map_or(&Value::Null, |c| &c["state"]["waiting"]);
    let name = pod.name();
    let why = match waiting["reason"].as_str() {
        Some(reason @ ("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName")) => {
            let stage = if reason == "ErrImagePull" {
                "image can't be pulled"
            } else {
                "trying and failing to pull image"
            };
            stage.to_owned()
        }
        Some(reason) => reason.to_owned(),
        None => "ContainerCreating".to_owned(),
    };
    let text = format!("container \"{container}\" in pod \"{name}\" is waiting to start: {why}");
    Status::bad_request(text)
}
