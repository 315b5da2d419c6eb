//! A board that is switched off or restarted in order, in the kubelet's words (`nodeshutdown`): its
//! last word makes its Node not ready at once. Unlike there, that drives no pod out: with
//! tolerations of 0 s, each restart of a board would move all that it brings back.

use edge_api::{Object, time};
use serde_json::{Value, json};

use crate::workload::condition;

/// What the Node of such a board says of it.
const REASON: &str = "KubeletNotReady";
const MESSAGE: &str = "node is shutting down";

/// The condition that a board leaves behind as it goes off.
pub fn off_condition(now_ms: i64) -> Value {
    let now = time::format(now_ms);
    json!({
        "type": "Ready",
        "status": "False",
        "reason": REASON,
        "message": MESSAGE,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    })
}

/// Whether a Node is that of a board which went off in order, and is neither back nor lost.
pub fn goes_off(node: &Object) -> bool {
    let said = |c: &Value| c["reason"] == REASON && c["message"] == MESSAGE;
    condition(node, "Ready").is_some_and(|c| c["status"] == "False" && said(c))
}
