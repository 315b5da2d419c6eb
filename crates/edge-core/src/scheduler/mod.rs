//! Which board a pod runs on: filter the boards that can, score those, take the best
//! (`pkg/scheduler`): by what pods request against what boards report, never by guesses.

mod filter;
mod resources;
mod score;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use edge_api::{Object, kinds, meta, time};
use serde_json::json;

use crate::plan::{Action, MOST_ACTIONS, Plan};
use crate::view::{Round, View};
use crate::workload::{condition, is_finished};
use resources::Board;

/// The scheduler's name, in `spec.schedulerName` and in events.
pub const NAME: &str = "default-scheduler";

/// Binds every pod that waits and fits somewhere; says of the others why they don't.
pub fn plan(view: &View, round: &Round) -> Plan {
    let mut plan = Plan::default();
    let mut waiting: Vec<&Object> =
        view.list(kinds::POD).map(AsRef::as_ref).filter(|pod| waits(pod)).collect();
    if waiting.is_empty() {
        return plan;
    }
    // Higher priority first, then first come, first served.
    waiting.sort_by_key(|pod| {
        let priority = pod["spec"]["priority"].as_i64().unwrap_or(0);
        (std::cmp::Reverse(priority), meta::created_ms(pod), meta::name(pod).to_owned())
    });
    let mut boards = boards(view);
    for pod in waiting.into_iter().take(MOST_ACTIONS) {
        place(pod, &mut boards, round, &mut plan);
    }
    plan
}

/// A pod that this scheduler has yet to place.
fn waits(pod: &Object) -> bool {
    let spec = &pod["spec"];
    let bound = spec["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let ours = spec["schedulerName"].as_str().unwrap_or(NAME) == NAME;
    let gated = spec["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
    !bound && ours && !gated && !is_finished(pod) && !meta::is_deleting(pod)
}

/// The boards with what runs on them already counted.
fn boards(view: &View) -> Vec<Board<'_>> {
    let mut boards: BTreeMap<&str, Board<'_>> = BTreeMap::new();
    for node in view.list(kinds::NODE) {
        let name = meta::name(node);
        boards.insert(name, Board::new(node, view.standing(name)));
    }
    for pod in view.list(kinds::POD).filter(|pod| !is_finished(pod)) {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if let Some(board) = boards.get_mut(node) {
            board.add(pod);
        }
    }
    boards.into_values().collect()
}

fn place<'a>(pod: &'a Object, boards: &mut [Board<'a>], round: &Round, plan: &mut Plan) {
    let wants = resources::requests(pod);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut fits = Vec::new();
    for (at, board) in boards.iter().enumerate() {
        match filter::reasons(pod, &wants, board) {
            none if none.is_empty() => fits.push(at),
            some => some.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1),
        }
    }
    let best = fits.into_iter().max_by_key(|at| {
        let board = &boards[*at];
        (score::score(pod, &wants, board), tie(round.seed, meta::uid(pod), board.name()))
    });
    let Some(at) = best else {
        say_unschedulable(pod, boards.len(), &reasons, round, plan);
        return;
    };
    let node = boards[at].name().to_owned();
    boards[at].add(pod);
    let (namespace, name) = (meta::namespace(pod), meta::name(pod));
    let text = format!("Successfully assigned {namespace}/{name} to {node}");
    plan.push(Action::Bind {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: meta::uid(pod).to_owned(),
        node,
    });
    plan.push(Action::event(NAME, pod, "Scheduled", text));
}

/// A number that spreads equals: the same for the same seed, pod and board.
fn tie(seed: u64, pod: &str, board: &str) -> u64 {
    let mut hash = seed ^ 0xcbf2_9ce4_8422_2325;
    for byte in pod.bytes().chain([0]).chain(board.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

/// `0/3 nodes are available: 1 Insufficient memory, 2 node(s) had …`, on the pod and as an event,
/// once for each different answer.
fn say_unschedulable(
    pod: &Object,
    boards: usize,
    reasons: &BTreeMap<String, usize>,
    round: &Round,
    plan: &mut Plan,
) {
    let mut parts: Vec<String> = reasons.iter().map(|(why, n)| format!("{n} {why}")).collect();
    parts.sort();
    let message = if boards == 0 {
        "no nodes available to schedule pods".to_owned()
    } else {
        format!("0/{boards} nodes are available: {}.", parts.join(", "))
    };
    if condition(pod, "PodScheduled").is_some_and(|c| c["message"] == message.as_str()) {
        return;
    }
    let mut changed = pod.clone();
    let since = condition(pod, "PodScheduled").filter(|c| c["status"] == "False");
    let since = since.map(|c| c["lastTransitionTime"].clone());
    let entry = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastProbeTime": null,
        "lastTransitionTime": since.unwrap_or_else(|| json!(time::format(round.now_ms))),
    });
    let mut list = changed["status"]["conditions"].as_array().cloned().unwrap_or_default();
    list.retain(|c| c["type"] != "PodScheduled");
    list.push(entry);
    changed["status"]["conditions"] = json!(list);
    plan.push(Action::status(kinds::POD, changed));
    plan.push(Action::warning(NAME, pod, "FailedScheduling", message));
}
