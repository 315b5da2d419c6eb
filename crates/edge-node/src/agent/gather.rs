//! What a board knows about a pod when its worker begins: containers that an earlier agent left
//! running, or that a power cut ended; and what is read from a container's remains later.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use edge_api::{Object, time};
use edge_core::pod::{
    Desired, ObservedPod, ProbeKind, ProbeState, Run, RunState, Sandbox, Seen, Task,
};
use serde_json::Value;

use super::board::Board;
use super::clock::now_ms;
use super::spec::termination_file;
use crate::seams::{ContainerRecord, ContainerState, Exit, PodNetwork};

/// Most of a termination message that is reported.
const MESSAGE: usize = 4096;
/// Most of a log that stands in for one.
const LOG_BYTES: usize = 2048;
const LOG_LINES: usize = 80;
/// Conditions that the agent itself reports.
const OWN: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// The observed side as the board has it, and the pod's network if it stands.
pub(crate) fn observe(
    board: &Board,
    pod: &Desired,
    raw: &Object,
) -> (ObservedPod, Option<PodNetwork>) {
    let network = board.net.find_pod(pod.uid());
    let status = &raw["status"];
    let mut observed = ObservedPod {
        start_time_ms: status["startTime"].as_str().and_then(time::parse).or(Some(now_ms())),
        host_ips: board.host_ips(),
        reported: status.clone(),
        terminating_ms: pod.deleted().then(now_ms),
        volumes_left: board.pod_dir(pod.uid()).exists(),
        ..ObservedPod::default()
    };
    let records = board.runtime.list().unwrap_or_else(|error| {
        tracing::warn!("list containers: {error}");
        Vec::new()
    });
    let mut records: Vec<ContainerRecord> =
        records.into_iter().filter(|record| record.pod_uid == pod.uid()).collect();
    records.sort_by_key(|record| record.attempt);
    for record in records {
        board.routes().insert(record.id.clone(), pod.uid().to_owned());
        let run = run_of(board, pod, &record);
        observed.containers.entry(record.name).or_default().runs.push(run);
    }
    for seen in observed.containers.values_mut() {
        keep_two(seen);
    }
    match &network {
        Some(network) => {
            observed.sandbox = Sandbox { task: Task::Done, removing: false };
            observed.ips = network.ip.map_or_else(|| board.host_ips(), |ip| vec![ip.to_string()]);
        }
        None => observed.sandbox_lost(),
    }
    remember(&mut observed, status);
    observed.not_after(now_ms());
    (observed, network)
}

fn keep_two(seen: &mut Seen) {
    let spare = seen.runs.len().saturating_sub(2);
    seen.spare = seen.runs.drain(..spare).map(|run| run.id).collect();
}

fn run_of(board: &Board, pod: &Desired, record: &ContainerRecord) -> Run {
    let (started_ms, state) = match &record.state {
        ContainerState::Running { started_at_ms, .. } => (*started_at_ms, RunState::Running),
        ContainerState::Exited(exit) => {
            let message = termination_message(board, pod, &record.name, record.attempt, exit);
            let state = RunState::Ended {
                code: exit.code,
                signal: exit.signal,
                finished_ms: exit.finished_at_ms,
                oom_killed: exit.oom_killed,
                start_error: None,
                message,
            };
            (exit.started_at_ms, state)
        }
    };
    Run {
        id: record.id.clone(),
        attempt: record.attempt,
        spec_hash: record.spec_hash.clone(),
        image: record.image.clone(),
        image_id: record.image_id.clone(),
        started_ms,
        state,
        stale: false,
        kept: true,
        stopped: None,
    }
}

/// Takes over what an earlier agent reported and nothing else remembers: restart counts, and
/// whether containers that still run had started and were ready.
fn remember(observed: &mut ObservedPod, status: &Value) {
    for key in ["initContainerStatuses", "containerStatuses"] {
        for old in status[key].as_array().into_iter().flatten() {
            let Some(name) = old["name"].as_str() else { continue };
            let seen = observed.containers.entry(name.to_owned()).or_default();
            let ran = old["containerID"].is_string() || old["lastState"]["terminated"].is_object();
            if ran && seen.runs.is_empty() {
                let count = old["restartCount"].as_u64().unwrap_or(0);
                seen.earlier_attempts = u32::try_from(count).ok();
            }
            let Some(run) = seen.running() else { continue };
            let same = old["containerID"].as_str().is_some_and(|id| id.ends_with(&run.id));
            let good = ProbeState { result: Some(true), ..ProbeState::default() };
            if same && old["started"] == true {
                seen.post_start = Task::Done;
                seen.probes.insert(ProbeKind::Startup, good.clone());
            }
            if same && old["ready"] == true {
                seen.probes.insert(ProbeKind::Readiness, good);
            }
        }
    }
}

/// Conditions that others have set are kept up to date; ours are ours.
pub(crate) fn adopt_foreign_conditions(ours: &mut Value, status: &Value) {
    let foreign = |c: &&Value| c["type"].as_str().is_some_and(|kind| !OWN.contains(&kind));
    let list = |v: &Value| v["conditions"].as_array().cloned().unwrap_or_default();
    let mut merged: Vec<Value> = list(ours);
    merged.retain(|c| !foreign(&c));
    merged.extend(list(status).iter().filter(foreign).cloned());
    if !merged.is_empty() && ours.is_object() {
        ours["conditions"] = Value::Array(merged);
    }
}

/// Whether one of our own conditions stands otherwise than we said.
pub(crate) fn says_otherwise(ours: &Value, status: &Value) -> bool {
    let stands = |v: &Value, kind: &str| {
        let list = v["conditions"].as_array().into_iter().flatten();
        list.into_iter().find(|c| c["type"] == kind).map(|c| c["status"].clone())
    };
    OWN.iter().any(|kind| stands(ours, kind) != stands(status, kind))
}

/// A container's last words: its termination message file, or the end of its log if it asks for
/// that.
pub(crate) fn termination_message(
    board: &Board,
    pod: &Desired,
    name: &str,
    attempt: u32,
    exit: &Exit,
) -> Option<String> {
    let file = termination_file(&board.pod_dir(pod.uid()), name, attempt);
    let words = read_start(&file, MESSAGE).filter(|text| !text.is_empty());
    if words.is_some() {
        return words;
    }
    let policy = pod.container(name).and_then(|c| c.termination_message_policy.as_deref());
    if policy != Some("FallbackToLogsOnError") || exit.code == 0 {
        return None;
    }
    let logs = board.log_dir(pod.namespace(), pod.name(), pod.uid());
    let text = read_end(&logs.join(name).join(format!("{attempt}.log")), LOG_BYTES * 2)?;
    Some(log_tail(&text))
}

fn read_start(path: &Path, limit: usize) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit as u64).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_end(path: &Path, limit: usize) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(limit as u64))).ok()?;
    let mut bytes = Vec::new();
    file.take(limit as u64).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a log in CRI format, without their stamps.
fn log_tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    let mut out: String = lines[from..].iter().map(|line| format!("{line}\n")).collect();
    if out.len() > LOG_BYTES {
        let cut = out.len() - LOG_BYTES;
        let at = (cut..out.len()).find(|at| out.is_char_boundary(*at)).unwrap_or(out.len());
        out.drain(..at);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_log_stands_in_for_the_message() {
        let text = "t stdout F one\nt stderr F two words\nbroken\n";
        assert_eq!(log_tail(text), "one\ntwo words\n");
        let long: String = (0..200).map(|n| format!("t stdout F {n:040}\n")).collect();
        let tail = log_tail(&long);
        assert!(tail.len() <= LOG_BYTES && tail.ends_with("199\n"));
    }

    #[test]
    fn foreign_conditions_are_adopted() {
        let mut ours = json!({ "conditions": [
            { "type": "Ready", "status": "True" }, { "type": "x/y", "status": "False" }] });
        let api = json!({ "conditions": [
            { "type": "Ready", "status": "False" }, { "type": "x/y", "status": "True" }] });
        adopt_foreign_conditions(&mut ours, &api);
        assert_eq!(
            ours["conditions"],
            json!([{ "type": "Ready", "status": "True" }, { "type": "x/y", "status": "True" }])
        );
    }

    #[test]
    fn readiness_survives_the_agent() {
        let run = Run {
            id: "abc".into(),
            attempt: 0,
            spec_hash: String::new(),
            image: String::new(),
            image_id: String::new(),
            started_ms: 0,
            state: RunState::Running,
            stale: false,
            kept: true,
            stopped: None,
        };
        let mut observed = ObservedPod::default();
        observed.containers.entry("a".into()).or_default().runs.push(run);
        let status = json!({ "containerStatuses": [
            { "name": "a", "containerID": "edged://abc", "ready": true, "started": true,
              "restartCount": 0 },
            { "name": "b", "containerID": "edged://gone", "restartCount": 3 }] });
        remember(&mut observed, &status);
        let a = &observed.containers["a"];
        assert_eq!(a.probes[&ProbeKind::Readiness].result, Some(true));
        assert_eq!(a.post_start, Task::Done);
        assert_eq!(observed.containers["b"].earlier_attempts, Some(3));
    }
}
