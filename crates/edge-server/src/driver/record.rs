//! Writes controllers' events for people to read. Beside the rounds, because nobody waits for an
//! event; bounded, because an event that is lost under load loses no decision.

use edge_api::{Object, kinds, meta, time};
use edge_core::plan::Action;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::api::{Api, WriteOptions, now_ms};
use crate::auth::Identity;

/// Events that may wait to be written.
const WAITING: usize = 1024;

/// Where events are handed in.
pub(super) struct Recorder {
    queue: mpsc::Sender<Action>,
}

impl Recorder {
    /// Starts the writer; it ends when the recorder is dropped.
    pub(super) fn start(api: Api) -> Recorder {
        let (queue, mut waiting) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            while let Some(action) = waiting.recv().await {
                write(&api, action).await;
            }
        });
        Recorder { queue }
    }

    /// Queues an event.
    pub(super) fn record(&self, action: Action) {
        if let Err(error) = self.queue.try_send(action) {
            tracing::debug!("an event is dropped: {error}");
        }
    }
}

async fn write(api: &Api, action: Action) {
    let Action::Event { about, level, reason, message, source } = action else { return };
    let now = now_ms();
    let object = event(&about, level, reason, &message, source, now, api.random());
    let namespace = meta::namespace(&object).to_owned();
    let who = Identity::system(source);
    let options = WriteOptions::default();
    if let Err(error) = api.create(&who, kinds::EVENT, &namespace, object, &options).await {
        // Its namespace may be going, and then nobody will ask for it.
        tracing::debug!("write event {reason}: {}", error.message);
    }
}

fn event(
    about: &Object,
    level: &str,
    reason: &str,
    message: &str,
    source: &str,
    now: i64,
    random: u64,
) -> Object {
    let namespace = match meta::namespace(about) {
        "" => "default",
        namespace => namespace,
    };
    let mut involved = json!({"apiVersion": about["apiVersion"], "kind": about["kind"]});
    for field in ["namespace", "name", "uid", "resourceVersion"] {
        if let Some(value) = about["metadata"].get(field) {
            involved[field] = value.clone();
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{}.{random:016x}", meta::name(about)),
            "namespace": namespace,
        },
        "involvedObject": involved,
        "reason": reason,
        "message": message,
        "source": {"component": source},
        "type": level,
        "count": 1,
        "firstTimestamp": time::format(now),
        "lastTimestamp": time::format(now),
        "eventTime": Value::Null,
        "reportingComponent": source,
        "reportingInstance": "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_wide_objects_event_is_in_default() {
        let node =
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "u"}});
        let event = event(&node, "Normal", "Starting", "text", "kubelet", 0, 7);
        assert_eq!(meta::namespace(&event), "default");
        assert_eq!(event["involvedObject"]["kind"], "Node");
        assert_eq!(meta::name(&event), "n1.0000000000000007");
    }
}
