//! Keeps the board's Node in the API: made when missing, patched when the board has changed.

use std::sync::Arc;
use std::time::Duration;

use edge_api::Object;
use edge_api::kinds::NODE;
use edge_client::{Error, PatchType, WriteParams};
use serde_json::{Value, json};

use super::board::Board;
use super::clock::now_ms;
use super::events::Grade::{Normal, Warning};
use super::events::Subject;
use super::node::{Identity, Pressure, labels, object, status};

/// How often the board is looked at. Nothing is sent unless something changed.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// A registration that failed is tried again after this long, and then after twice as long …
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// … up to this.
const RETRY_LAST: Duration = Duration::from_secs(15);

/// Runs for as long as the agent does.
pub(crate) async fn run(board: Arc<Board>, identity: Identity) {
    let mut pause = RETRY_FIRST;
    let mut known = None;
    loop {
        let result = match known.take() {
            None => register(&board, &identity).await,
            Some(node) => refresh(&board, &identity, node).await,
        };
        match result {
            Ok(node) => {
                pause = RETRY_FIRST;
                known = Some(node);
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = board.node_changed.notified() => {}
                }
            }
            Err(error) => {
                tracing::debug!("register node {}: {error}", identity.name);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_LAST);
            }
        }
    }
}

/// Makes the Node, or brings the one that is there up to date.
async fn register(board: &Board, identity: &Identity) -> Result<Object, Error> {
    let params = WriteParams::default();
    let node = match board.client.get(NODE, "", &identity.name).await {
        Ok(node) => adopt(board, identity, node).await?,
        Err(error) if error.is_not_found() => {
            let made = board.client.create(NODE, "", &object(identity), &params).await?;
            say(board, identity, &made);
            made
        }
        Err(error) => return Err(error),
    };
    refresh(board, identity, node).await
}

/// An earlier Node of this board keeps what others gave it; our labels are made right.
async fn adopt(board: &Board, identity: &Identity, node: Object) -> Result<Object, Error> {
    let wanted = labels(identity);
    let has = &node["metadata"]["labels"];
    let missing: serde_json::Map<String, Value> = wanted
        .into_iter()
        .filter(|(key, value)| has[key] != value.as_str())
        .map(|(key, value)| (key, Value::String(value)))
        .collect();
    let mut patch = json!({});
    if !missing.is_empty() {
        patch["metadata"]["labels"] = Value::Object(missing);
    }
    if node["spec"]["podCIDR"].as_str().is_none_or(str::is_empty) {
        patch["spec"] = json!({ "podCIDR": identity.pod_cidr, "podCIDRs": [identity.pod_cidr] });
    }
    if patch == json!({}) {
        return Ok(node);
    }
    let params = WriteParams::default();
    board.client.patch(NODE, "", &identity.name, None, PatchType::Merge, &patch, &params).await
}

/// Reports the status if it is not what the Node says already.
async fn refresh(board: &Board, identity: &Identity, mut node: Object) -> Result<Object, Error> {
    let pressure = Pressure::gather(&board.data_dir);
    let images = board.images.list();
    let before = &node["status"];
    let now = now_ms();
    let wanted = status(&board.facts, identity, pressure, &images, before, now);
    let mut changed = serde_json::Map::new();
    for (key, value) in wanted.as_object().into_iter().flatten() {
        if before.get(key) != Some(value) {
            changed.insert(key.clone(), value.clone());
        }
    }
    if changed.is_empty() {
        return Ok(node);
    }
    let patch = json!({ "status": changed });
    let kind = PatchType::Merge;
    let params = WriteParams::default();
    board.client.patch(NODE, "", &identity.name, Some("status"), kind, &patch, &params).await?;
    for (key, value) in changed {
        node["status"][key] = value;
    }
    Ok(node)
}

/// Tells that the board has come.
fn say(board: &Board, identity: &Identity, node: &Object) {
    let about = Subject {
        kind: "Node",
        namespace: String::new(),
        name: identity.name.clone(),
        uid: edge_api::meta::uid(node).to_owned(),
        field_path: None,
    };
    board.events.say(&about, Normal, "Starting", "Starting kubelet.");
    if let Some(problem) = &identity.memory_problem {
        board.events.say(&about, Warning, "MemoryCgroupMissing", problem.clone());
    }
}
