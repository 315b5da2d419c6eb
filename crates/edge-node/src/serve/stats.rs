//! What the board and its pods use right now, in the shape of the kubelet's summary.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::find::lives;
use super::reply::{self, Reply};
use crate::agent::{Board, time_now};

/// The summary.
pub(super) fn summary(board: &Board) -> Reply {
    let now = time_now();
    let mut by_pod: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in board.runtime.list().unwrap_or_default().iter().filter(|r| lives(r)) {
        let Some(stats) = board.runtime.stats(&record.id) else { continue };
        by_pod.entry(record.pod_uid.clone()).or_default().push(json!({
            "name": record.name,
            "cpu": { "time": now, "usageCoreNanoSeconds": stats.cpu_nanos },
            "memory": { "time": now, "workingSetBytes": stats.memory_bytes },
        }));
    }
    let sum = |containers: &[Value], part: &str, key: &str| -> u64 {
        containers.iter().filter_map(|c| c[part][key].as_u64()).sum()
    };
    let pods: Vec<Value> = board
        .pod_views()
        .into_iter()
        .filter_map(|pod| {
            let containers = by_pod.remove(pod.uid())?;
            let cpu = sum(&containers, "cpu", "usageCoreNanoSeconds");
            let memory = sum(&containers, "memory", "workingSetBytes");
            Some(json!({
                "podRef": { "name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid() },
                "cpu": { "time": now, "usageCoreNanoSeconds": cpu },
                "memory": { "time": now, "workingSetBytes": memory },
                "containers": containers,
            }))
        })
        .collect();
    reply::json(200, &json!({ "node": { "nodeName": board.name }, "pods": pods }))
}
