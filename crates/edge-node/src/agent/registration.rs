//! Keeps the board's Node in the API: made when missing, patched when the board has changed, and
//! set right when the cluster has given the board up although it lives.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edge_api::kinds::NODE;
use edge_api::{Object, meta};
use edge_client::watcher::Event;
use edge_client::{Client, Error, PatchType, WatchParams, Watcher, WriteParams};
use edge_core::controllers::node::off_condition;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::board::Board;
use super::clock::now_ms;
use super::error::AgentError;
use super::events::Grade::{Normal, Warning};
use super::events::Subject;
use super::node::{Identity, Pressure, labels, object, remembered, status};
use super::{addresses, announce};

/// How often the board is looked at. Nothing is sent unless something changed.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// A registration that failed is tried again after this long, and then after twice as long …
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// … up to this.
const RETRY_LAST: Duration = Duration::from_secs(15);
/// A board that is called Unknown says at once that it lives. Called so again, it waits this long,
/// and then twice as long: its beats may not arrive, and then it would quarrel for ever …
const INSIST_FIRST: Duration = Duration::from_secs(5);
/// … up to this, after which the quarrel is forgotten.
const INSIST_LAST: Duration = Duration::from_secs(300);
/// How long the board that goes off may be held up for its Node to say so: an answer takes tens of
/// milliseconds where a server leads.
const LAST_WORD: Duration = Duration::from_secs(1);

/// When the board last said that it lives, and how long it waits to say so again.
#[derive(Debug, Default)]
struct Insisting {
    last: Option<Instant>,
    pause: Duration,
}

impl Insisting {
    /// When it may be said; the past means now.
    fn due(&self) -> Option<Instant> {
        self.last.map(|last| last + self.pause)
    }

    fn said(&mut self, now: Instant) {
        let quiet = self.last.is_none_or(|last| now - last > INSIST_LAST);
        self.pause = if quiet { INSIST_FIRST } else { (self.pause * 2).min(INSIST_LAST) };
        self.last = Some(now);
    }
}

/// What is known of the Node.
#[derive(Default)]
struct Known {
    /// Some server has answered.
    heard: bool,
    node: Option<Object>,
    insisting: Insisting,
    /// The log says already that the disk takes nothing more.
    pressed: bool,
}

impl Known {
    /// One line when it begins and one when it ends, whoever can be told of it by then.
    fn press(&mut self, pressure: Pressure, data_dir: &Path) {
        let dir = data_dir.display();
        match (std::mem::replace(&mut self.pressed, pressure.disk), pressure.disk) {
            (false, true) if pressure.read_only => tracing::error!(
                "{dir} is read-only: pods run on, and none can be started; look for errors of the \
                 card or disk in dmesg"
            ),
            (false, true) => tracing::warn!(
                "{dir} is nearly full: pods run on, and new ones go to other boards; make room"
            ),
            (true, false) => tracing::info!("{dir} has room again"),
            _ => {}
        }
    }

    fn take(&mut self, event: Event, name: &str) {
        self.heard = true;
        match event {
            Event::Restarted(list) => {
                self.node = list.into_iter().find(|node| meta::name(node) == name);
            }
            Event::Applied(node) => self.see(node),
            Event::Deleted(gone) => {
                let same = |known: &Object| meta::uid(known) == meta::uid(&gone);
                if self.node.as_ref().is_some_and(same) {
                    self.node = None;
                }
            }
        }
    }

    /// Answers to our own writes and the watch race each other.
    fn see(&mut self, node: Object) {
        let known = self.node.as_ref().map_or(0, meta::revision);
        if meta::revision(&node) >= known {
            self.node = Some(node);
        }
    }
}

/// Runs for as long as the agent does; ends when the board has to begin anew.
pub(crate) async fn run(board: Arc<Board>, identity: Identity) -> Result<(), AgentError> {
    let params = WatchParams {
        field_selector: Some(format!("metadata.name={}", identity.name)),
        ..WatchParams::default()
    };
    let mut watcher = Watcher::new(board.client.clone(), NODE, "", params);
    let mut known = Known::default();
    let (mut pause, mut due) = (RETRY_FIRST, Instant::now() + LOOK_EVERY);
    loop {
        tokio::select! {
            event = watcher.next() => known.take(event, &identity.name),
            () = tokio::time::sleep_until(due) => {}
            () = board.node_changed.notified() => {}
        }
        if !known.heard {
            due = Instant::now() + LOOK_EVERY;
            continue;
        }
        match keep_up(&board, &identity, &mut known).await {
            Ok(next) => (pause, due) = (RETRY_FIRST, next),
            Err(error) => {
                tracing::debug!("register node {}: {error}", identity.name);
                due = Instant::now() + pause;
                pause = (pause * 2).min(RETRY_LAST);
            }
        }
        if let Some(cidr) = known.node.as_ref().and_then(addresses::of)
            && cidr != identity.pod_cidr
        {
            return Err(readdress(&board, &identity, cidr).await);
        }
    }
}

/// The Node of this board, made if it is missing.
pub(crate) async fn claim(client: &Client, identity: &Identity) -> Result<Object, Error> {
    match client.get(NODE, "", &identity.name).await {
        Err(error) if error.is_not_found() => {
            client.create(NODE, "", &object(identity), &WriteParams::default()).await
        }
        Ok(node) if addresses::of(&node).is_none() => {
            // Whoever changes a Node without addresses gives it some.
            let patch = json!({ "spec": { "podCIDR": identity.pod_cidr } });
            let (kind, params) = (PatchType::Merge, WriteParams::default());
            client.patch(NODE, "", &identity.name, None, kind, &patch, &params).await
        }
        other => other,
    }
}

/// Makes the Node what it should be. Says when to look again.
async fn keep_up(board: &Board, identity: &Identity, known: &mut Known) -> Result<Instant, Error> {
    let node = match known.node.take() {
        Some(node) => node,
        None => {
            let made = claim(&board.client, identity).await?;
            say(board, identity, &made);
            made
        }
    };
    known.node = Some(node.clone());
    if let Some(adopted) = adopt(board, identity, &node).await? {
        known.see(adopted);
    }
    refresh(board, identity, known).await
}

/// An earlier Node of this board keeps what others gave it; our labels are made right, and what it
/// says of tunnels.
async fn adopt(board: &Board, identity: &Identity, node: &Object) -> Result<Option<Object>, Error> {
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
    for (key, value) in announce::notes(board).await {
        if meta::annotation(node, key).unwrap_or_default() != value {
            // Nothing to say is no annotation.
            let value = (!value.is_empty()).then_some(value);
            patch["metadata"]["annotations"][key] = json!(value);
        }
    }
    if addresses::of(node).is_none() && !identity.pod_cidr.is_empty() {
        patch["spec"] = json!({ "podCIDR": identity.pod_cidr });
    }
    let has = &node["metadata"]["annotations"];
    let said = board.announcement().map(|announcement| announcement.annotations());
    for (key, wanted) in said.into_iter().flatten() {
        if has[key].as_str() != wanted.as_deref() {
            patch["metadata"]["annotations"][key] = json!(wanted);
        }
    }
    if patch == json!({}) {
        return Ok(None);
    }
    let (kind, params) = (PatchType::Merge, WriteParams::default());
    let name = &identity.name;
    board.client.patch(NODE, "", name, None, kind, &patch, &params).await.map(Some)
}

/// Reports the status if it is not what the Node says already.
async fn refresh(board: &Board, identity: &Identity, known: &mut Known) -> Result<Instant, Error> {
    let now = Instant::now();
    let next = now + LOOK_EVERY;
    let pressure = Pressure::gather(&board.data_dir);
    known.press(pressure, &board.data_dir);
    let Some(node) = &known.node else { return Ok(next) };
    let before = &node["status"];
    let images = board.images.list();
    // Until the board has been looked at, what was found before this process began still holds.
    let conditions = board.conditions().get_or_insert_with(|| remembered(before)).clone();
    let identity =
        Identity { network_problem: board.network_problem(), conditions, ..identity.clone() };
    let wanted = status(&board.facts, &identity, pressure, &images, before, now_ms());
    let mut changed = serde_json::Map::new();
    for (key, value) in wanted.as_object().into_iter().flatten() {
        if before.get(key) != Some(value) {
            changed.insert(key.clone(), value.clone());
        }
    }
    if given_up(before) {
        if let Some(due) = known.insisting.due().filter(|due| *due > now) {
            return Ok(due.min(next));
        }
        known.insisting.said(now);
    }
    if changed.is_empty() {
        return Ok(next);
    }
    let patch = json!({ "status": changed });
    let (kind, params) = (PatchType::Merge, WriteParams::default());
    let name = &identity.name;
    let sub = Some("status");
    let patched = board.client.patch(NODE, "", name, sub, kind, &patch, &params).await?;
    known.see(patched);
    Ok(next)
}

/// The Node says from now on that its board goes off. Where nobody takes that in time, the board's
/// silence tells it later.
pub(crate) async fn go_off(board: &Board) {
    let patch = json!({ "status": { "conditions": [off_condition(now_ms())] } });
    let (kind, params) = (PatchType::Strategic, WriteParams::default());
    let said = board.client.patch(NODE, "", &board.name, Some("status"), kind, &patch, &params);
    match tokio::time::timeout(LAST_WORD, said).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!("say that node {} goes off: {error}", board.name),
        Err(_) => tracing::debug!("say that node {} goes off: no answer in time", board.name),
    }
}

/// Whether the cluster takes the board for lost.
fn given_up(status: &Value) -> bool {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "Unknown")
}

/// Somebody else has the addresses of this board: its Node was removed, and another came. Pods
/// with the old ones would be answered in another's place, so their networks go at once; the next
/// start makes them anew.
async fn readdress(board: &Board, identity: &Identity, cidr: &str) -> AgentError {
    if let Err(source) = addresses::keep(&board.data_dir, cidr) {
        return AgentError::Addresses { path: board.data_dir.join("pod-cidr"), source };
    }
    if let Err(error) = board.net.cleanup().await {
        tracing::warn!("take down the networks of pods with old addresses: {error}");
    }
    AgentError::Readdressed { before: identity.pod_cidr.clone(), now: cidr.to_owned() }
}

/// Tells that the board has come.
fn say(board: &Board, identity: &Identity, node: &Object) {
    let about = Subject::node(&identity.name, meta::uid(node));
    board.events.say(&about, Normal, "Starting", "Starting kubelet.");
    if let Some(problem) = &identity.memory_problem {
        board.events.say(&about, Warning, "MemoryCgroupMissing", problem.clone());
    }
    if let Some(failure) = board.upgrades.as_ref().and_then(|upgrades| upgrades.failure()) {
        board.events.say(&about, Warning, "UpgradeFailed", failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_board_insists_less_and_less() {
        let mut insisting = Insisting::default();
        let mut now = Instant::now();
        assert_eq!(insisting.due(), None);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            insisting.said(now);
            pauses.push(insisting.pause.as_secs());
            now += insisting.pause;
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        insisting.said(now + INSIST_LAST);
        assert_eq!(insisting.pause, INSIST_FIRST, "long ago");
    }

    #[test]
    fn the_newest_node_counts() {
        let node = |uid: &str, revision: u64| {
            json!({"metadata": {"name": "n1", "uid": uid,
                                "resourceVersion": revision.to_string()}})
        };
        let mut known = Known::default();
        known.take(Event::Restarted(vec![node("a", 5)]), "n1");
        known.see(node("a", 9));
        known.take(Event::Applied(node("a", 7)), "n1");
        assert_eq!(known.node.as_ref().map(meta::revision), Some(9));
        known.take(Event::Deleted(node("b", 10)), "n1");
        assert!(known.node.is_some());
        known.take(Event::Deleted(node("a", 11)), "n1");
        assert!(known.node.is_none());
        known.take(Event::Restarted(vec![]), "n1");
        assert!(known.heard && known.node.is_none());
    }
}
