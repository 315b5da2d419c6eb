//! Events about pods and this board. The same event again is counted, not repeated, and an object
//! that has too much to say is muted for a while, as Kubernetes' own recorder does.

use std::collections::{BTreeMap, VecDeque};

use edge_api::kinds::{self, EVENT, Kind};
use edge_api::{Object, time};
use edge_client::{Client, PatchType, WriteParams};
use serde_json::json;
use tokio::sync::mpsc;

use super::clock::now_ms;

/// Events waiting to be sent; more are dropped, for an event must never hold anybody up.
const QUEUE: usize = 256;
/// Events remembered, to count repetitions.
const REMEMBERED: usize = 512;
/// An object may say so much at once …
const BURST: i64 = 25;
/// … and one thing more after each of these.
const REFILL_MS: i64 = 300_000;

/// How grave an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grade {
    /// As expected.
    Normal,
    /// Worth a look.
    Warning,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) kind: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// `spec.containers{app}`, when it is about one container.
    pub(crate) field_path: Option<String>,
}

impl Subject {
    /// A board itself. Where the Node's uid is not at hand, its name stands for it, as the kubelet
    /// does.
    pub(crate) fn node(name: &str, uid: &str) -> Subject {
        let (name, uid) = (name.to_owned(), uid.to_owned());
        Subject { kind: "Node", namespace: String::new(), name, uid, field_path: None }
    }
}

#[derive(Debug)]
struct Said {
    subject: Subject,
    grade: Grade,
    reason: &'static str,
    message: String,
    at_ms: i64,
}

/// Where events are put; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<Said>,
}

impl Events {
    /// Starts the recorder for the board called `node`.
    pub(crate) fn start(client: Client, node: String) -> Events {
        let (queue, inbox) = mpsc::channel(QUEUE);
        tokio::spawn(record(client, node, inbox));
        Events { queue }
    }

    /// Records an event, sometime soon.
    pub(crate) fn say(
        &self,
        subject: &Subject,
        grade: Grade,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let said = Said {
            subject: subject.clone(),
            grade,
            reason,
            message: message.into(),
            at_ms: now_ms(),
        };
        tracing::debug!(reason, name = %said.subject.name, "{}", said.message);
        if self.queue.try_send(said).is_err() {
            tracing::debug!("event dropped: too many are waiting");
        }
    }
}

type Key = (String, String, &'static str, String);

#[derive(Default)]
struct Memory {
    /// Name in the API and count of each recent event.
    known: BTreeMap<Key, (String, i64)>,
    order: VecDeque<Key>,
    /// What each object may still say, and since when.
    budget: BTreeMap<String, (i64, i64)>,
}

impl Memory {
    /// Whether the object may speak now; takes one from its budget.
    fn may_speak(&mut self, uid: &str, now: i64) -> bool {
        let (left, since) = self.budget.entry(uid.to_owned()).or_insert((BURST, now));
        // A clock that was set back must not mute anybody for years.
        *since = (*since).min(now);
        let refill = (now - *since) / REFILL_MS;
        if refill > 0 {
            *left = (*left + refill).min(BURST);
            *since += refill * REFILL_MS;
        }
        if *left <= 0 {
            return false;
        }
        *left -= 1;
        if self.budget.len() > REMEMBERED {
            self.budget.retain(|_, (left, since)| *left < BURST && now - *since < REFILL_MS);
        }
        true
    }

    fn remember(&mut self, key: Key, name: String) {
        self.order.push_back(key.clone());
        self.known.insert(key, (name, 1));
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

async fn record(client: Client, node: String, mut inbox: mpsc::Receiver<Said>) {
    let mut memory = Memory::default();
    let mut sequence: u32 = 0;
    while let Some(said) = inbox.recv().await {
        if !memory.may_speak(&said.subject.uid, said.at_ms) {
            continue;
        }
        sequence = sequence.wrapping_add(1);
        if let Err(error) = send(&client, &node, &mut memory, said, sequence).await {
            tracing::debug!("record an event: {error}");
        }
    }
}

async fn send(
    client: &Client,
    node: &str,
    memory: &mut Memory,
    said: Said,
    sequence: u32,
) -> Result<(), edge_client::Error> {
    let path = said.subject.field_path.clone().unwrap_or_default();
    let key = (said.subject.uid.clone(), path, said.reason, said.message.clone());
    let namespace = match said.subject.namespace.as_str() {
        "" => "default".to_owned(),
        other => other.to_owned(),
    };
    let params = WriteParams::default();
    if let Some((name, count)) = memory.known.get_mut(&key) {
        *count += 1;
        let patch = json!({ "count": count, "lastTimestamp": time::format(said.at_ms) });
        let kind = PatchType::Merge;
        match client.patch(EVENT, &namespace, name, None, kind, &patch, &params).await {
            Err(error) if error.is_not_found() => {
                memory.known.remove(&key);
                memory.order.retain(|old| *old != key);
            }
            other => return other.map(drop),
        }
    }
    let name = format!("{}.{:x}{sequence:04x}", said.subject.name, said.at_ms);
    let event = object(&said, node, &namespace, &name);
    client.create(EVENT, &namespace, &event, &params).await?;
    memory.remember(key, name);
    Ok(())
}

fn object(said: &Said, node: &str, namespace: &str, name: &str) -> Object {
    let subject = &said.subject;
    let mut involved = json!({
        "kind": subject.kind, "name": subject.name, "uid": subject.uid,
        "apiVersion": kinds::by_name(subject.kind).map_or("v1".to_owned(), Kind::api_version),
    });
    if !subject.namespace.is_empty() {
        involved["namespace"] = json!(subject.namespace);
    }
    if let Some(path) = &subject.field_path {
        involved["fieldPath"] = json!(path);
    }
    let at = time::format(said.at_ms);
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": namespace },
        "involvedObject": involved,
        "reason": said.reason,
        "message": said.message,
        "source": { "component": "kubelet", "host": node },
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
        "type": match said.grade { Grade::Normal => "Normal", Grade::Warning => "Warning" },
        "eventTime": null,
        "reportingComponent": "kubelet",
        "reportingInstance": node,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_talkative_object_is_muted_and_let_back_in() {
        let mut memory = Memory::default();
        let spoken = (0..100).filter(|i| memory.may_speak("u", *i)).count();
        assert_eq!(spoken, 25);
        assert!(memory.may_speak("other", 100));
        assert!(!memory.may_speak("u", 299_999));
        assert!(memory.may_speak("u", 300_001));
        assert!(!memory.may_speak("u", 300_002));
        // The clock was years ahead, and is set right.
        let ahead = 2_000_000_000_000;
        assert_eq!((0..100).filter(|i| memory.may_speak("v", ahead + i)).count(), 25);
        assert!(!memory.may_speak("v", 300_000));
        assert!(memory.may_speak("v", 600_000));
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = Memory::default();
        for n in 0..REMEMBERED + 10 {
            memory.remember((n.to_string(), String::new(), "r", String::new()), "x".into());
        }
        assert_eq!(memory.known.len(), REMEMBERED);
        assert_eq!(memory.order.len(), REMEMBERED);
    }
}
