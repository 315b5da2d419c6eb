//! Watches: what comes first, in which order, as which event, and how they end.

use std::time::Duration;

use edge_client::{Client, body};
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Lab, MAPS, config_map};

/// Events that are told and not yet looked at; more wait in the connection.
const EVENTS: usize = 64;

/// The lines of a watch.
struct Lines(mpsc::Receiver<Value>);

impl Lines {
    async fn open(client: &Client, path: &str) -> Lines {
        let mut request = Request::new(body::empty());
        *request.uri_mut() = path.parse().unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let (sender, receiver) = mpsc::channel(EVENTS);
        tokio::spawn(async move {
            let mut incoming = response.into_body();
            let mut rest: Vec<u8> = Vec::new();
            while let Some(Ok(frame)) = incoming.frame().await {
                rest.extend_from_slice(frame.data_ref().map_or(&[], |data| data.as_ref()));
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let event: Value = serde_json::from_slice(&line).unwrap();
                    // Every namespace has this one.
                    if event["object"]["metadata"]["name"] == "kube-root-ca.crt" {
                        continue;
                    }
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
            }
        });
        Lines(receiver)
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        let next = tokio::time::timeout(Duration::from_secs(10), self.0.recv());
        next.await.expect("an event within ten seconds")
    }

    /// Type and name of the next event.
    async fn brief(&mut self) -> (String, String) {
        let event = self.next().await.expect("the watch goes on");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

fn pair(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[tokio::test]
async fn changes_come_in_order() {
    let lab = Lab::start().await;
    lab.create(MAPS, &config_map("a", "1")).await;
    let mut fresh = Lines::open(&lab.client, &format!("{MAPS}?watch=true")).await;
    assert_eq!(fresh.brief().await, pair("ADDED", "a"));
    let list = lab.get(MAPS).await.json();
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{MAPS}?watch=1&resourceVersion={revision}");
    let mut after = Lines::open(&lab.client, &path).await;
    let mut zero = Lines::open(&lab.client, &format!("{MAPS}?watch=true&resourceVersion=0")).await;
    assert_eq!(zero.brief().await, pair("ADDED", "a"));
    lab.create(MAPS, &config_map("b", "1")).await;
    lab.send("PUT", &format!("{MAPS}/b"), &config_map("b", "2")).await;
    lab.ask("DELETE", &format!("{MAPS}/a"), &[], "").await;
    for watch in [&mut fresh, &mut after, &mut zero] {
        assert_eq!(watch.brief().await, pair("ADDED", "b"));
        assert_eq!(watch.brief().await, pair("MODIFIED", "b"));
        let event = watch.next().await.unwrap();
        assert_eq!(
            (&event["type"], &event["object"]["data"]["key"]),
            (&json!("DELETED"), &json!("1"))
        );
        let current = lab.server.api().store().revision().to_string();
        assert_eq!(event["object"]["metadata"]["resourceVersion"], current);
    }
    // A watch from the past tells it again.
    let mut past = Lines::open(&lab.client, &path).await;
    assert_eq!(past.brief().await, pair("ADDED", "b"));
    lab.end().await;
}

#[tokio::test]
async fn a_selectors_watcher_sees_objects_come_and_go() {
    let lab = Lab::start().await;
    let path = format!("{MAPS}?watch=true&labelSelector=app%3Dweb");
    let mut watch = Lines::open(&lab.client, &path).await;
    let mut map = config_map("a", "1");
    lab.create(MAPS, &map).await;
    map["metadata"]["labels"] = json!({"app": "web"});
    lab.send("PUT", &format!("{MAPS}/a"), &map).await;
    assert_eq!(watch.brief().await, pair("ADDED", "a"));
    map["metadata"]["labels"] = json!({"app": "db"});
    let gone = lab.send("PUT", &format!("{MAPS}/a"), &map).await.json();
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["metadata"]["labels"]["app"], "web");
    let revision = &event["object"]["metadata"]["resourceVersion"];
    assert_eq!(*revision, gone["metadata"]["resourceVersion"]);
    lab.end().await;
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let lab = Lab::start().await;
    lab.create(MAPS, &config_map("a", "1")).await;
    let path = format!(
        "{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
         &allowWatchBookmarks=true"
    );
    let mut watch = Lines::open(&lab.client, &path).await;
    assert_eq!(watch.brief().await, pair("ADDED", "a"));
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "BOOKMARK");
    assert_eq!(event["object"]["kind"], "ConfigMap");
    assert_eq!(event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let refused = lab.get(&format!("{MAPS}?watch=true&sendInitialEvents=true")).await;
    assert_eq!(refused.code, 400);
    lab.end().await;
}

#[tokio::test]
async fn watches_end() {
    let lab = Lab::start().await;
    let path = format!("{MAPS}?watch=true&timeoutSeconds=1");
    let mut watch = Lines::open(&lab.client, &path).await;
    assert_eq!(watch.next().await, None);
    // From before the history: one ERROR event that says so.
    lab.create(MAPS, &config_map("a", "1")).await;
    let store = lab.server.api().store();
    store.compact(store.revision());
    let mut watch = Lines::open(&lab.client, &format!("{MAPS}?watch=true&resourceVersion=1")).await;
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(event["object"]["reason"], "Expired");
    assert_eq!(watch.next().await, None);
    // At the server's end, and quickly.
    let mut watch = Lines::open(&lab.client, &format!("{MAPS}?watch=true")).await;
    watch.next().await.unwrap();
    let began = std::time::Instant::now();
    let dir = lab.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(watch.next().await, None);
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn tables_can_be_watched() {
    let lab = Lab::start().await;
    let mut request = Request::new(body::empty());
    *request.uri_mut() = format!("{MAPS}?watch=true").parse().unwrap();
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    request.headers_mut().insert("accept", accept.parse().unwrap());
    let mut incoming = lab.client.request(request).await.unwrap().into_body();
    lab.create(MAPS, &config_map("a", "1")).await;
    let frame = incoming.frame().await.unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8_lossy(&frame).into_owned();
    assert!(text.contains("{\"type\":\"ADDED\",\"object\":"), "{text}");
    drop(incoming);
    lab.end().await;
}
