//! Which of the boards that fit is best: the one with the most left, evenly used, with few
//! siblings of the pod on it, and the image there already.

use edge_api::{Object, meta};
use serde_json::Value;

use super::filter::term_matches;
use super::resources::{Amounts, Board};
use crate::controllers::taint::tolerates;

/// The best a plug-in can say, as in Kubernetes.
const MOST: i64 = 100;

/// Images smaller than this make no difference (`imagelocality`), in bytes.
const SMALL_IMAGE: i64 = 23 * 1024 * 1024;

/// A container that requests nothing is counted as if it did (`DefaultMilliCPURequest`,
/// `DefaultMemoryRequest`), or all of those would land on one board.
const DEFAULT_CPU_MILLI: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Higher is better. Weights as in Kubernetes' default profile, spreading by owner in place of
/// topology constraints.
pub(super) fn score(pod: &Object, wants: &Amounts, board: &Board<'_>) -> i64 {
    least_allocated(wants, board)
        + balanced(wants, board)
        + image_locality(pod, board)
        + 2 * spread(pod, board)
        + 2 * preferred_affinity(pod, board)
        + 3 * soft_taints(pod, board)
}

/// The share of a resource in use once the pod is there, in percent of what the board has.
fn used(wants: &Amounts, board: &Board<'_>, name: &str, default: i64) -> Option<i64> {
    let have = board.allocatable.get(name).copied().filter(|have| *have > 0)?;
    let want = wants.get(name).copied().unwrap_or(default);
    let quiet = board.pods.iter().filter(|pod| !asks(pod, name)).count();
    let hidden = i64::try_from(quiet).unwrap_or(0).saturating_mul(default);
    let total = board.requested.get(name).copied().unwrap_or(0) + hidden + want;
    Some((total.saturating_mul(MOST) / have).min(MOST))
}

fn asks(pod: &Object, name: &str) -> bool {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    containers.into_iter().any(|c| !c["resources"]["requests"][name].is_null())
}

fn shares(wants: &Amounts, board: &Board<'_>) -> Vec<i64> {
    [("cpu", DEFAULT_CPU_MILLI), ("memory", DEFAULT_MEMORY)]
        .into_iter()
        .filter_map(|(name, default)| used(wants, board, name, default))
        .collect()
}

fn least_allocated(wants: &Amounts, board: &Board<'_>) -> i64 {
    let shares = shares(wants, board);
    let count = i64::try_from(shares.len()).unwrap_or(1).max(1);
    shares.iter().map(|share| MOST - share).sum::<i64>() / count
}

fn balanced(wants: &Amounts, board: &Board<'_>) -> i64 {
    match shares(wants, board)[..] {
        [cpu, memory] => MOST - (cpu - memory).abs() / 2,
        _ => MOST,
    }
}

fn image_locality(pod: &Object, board: &Board<'_>) -> i64 {
    let names: Vec<&Value> = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|container| &container["image"])
        .collect();
    let images = board.node["status"]["images"].as_array().into_iter().flatten();
    let here: i64 = images
        .filter(|image| {
            let known = image["names"].as_array();
            known.is_some_and(|known| known.iter().any(|name| names.contains(&name)))
        })
        .filter_map(|image| image["sizeBytes"].as_i64())
        .sum();
    let most = SMALL_IMAGE * 40;
    (here - SMALL_IMAGE).clamp(0, most) * MOST / most
}

/// Fewer pods of the same owner: a board lost should take few replicas with it.
fn spread(pod: &Object, board: &Board<'_>) -> i64 {
    let Some(owner) = meta::controller(pod) else { return 0 };
    let siblings = board
        .pods
        .iter()
        .filter(|other| meta::controller(other).is_some_and(|o| o.uid == owner.uid))
        .count();
    MOST / (1 + i64::try_from(siblings).unwrap_or(MOST))
}

fn preferred_affinity(pod: &Object, board: &Board<'_>) -> i64 {
    let preferred =
        &pod["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
    let terms = preferred.as_array().into_iter().flatten();
    let (mut got, mut all) = (0, 0);
    for term in terms {
        let weight = term["weight"].as_i64().unwrap_or(1);
        all += weight;
        if term_matches(&term["preference"], board.node) {
            got += weight;
        }
    }
    if all == 0 { 0 } else { got * MOST / all }
}

fn soft_taints(pod: &Object, board: &Board<'_>) -> i64 {
    let taints = board.node["spec"]["taints"].as_array().into_iter().flatten();
    let soft = taints.filter(|taint| taint["effect"] == "PreferNoSchedule");
    let against = soft.filter(|taint| !tolerates(&pod["spec"], taint)).count();
    MOST / (1 + i64::try_from(against).unwrap_or(MOST))
}
