//! The watcher through a life: list, changes, bookmark, a lost connection, lost history.

use super::*;
use crate::tests::fake::{answer, lines, serve, status};
use edge_api::kinds;
use serde_json::{Value, json};

fn pod(name: &str, revision: &str) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1",
           "metadata": {"name": name, "resourceVersion": revision}})
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

fn list_of(revision: &str, pods: &[Value]) -> Value {
    json!({"kind": "PodList", "metadata": {"resourceVersion": revision}, "items": pods})
}

#[tokio::test]
async fn a_whole_life() {
    let fake = serve(|number, seen| {
        let watch = seen.path.contains("watch=true");
        Some(match number {
            0 => answer(200, &list_of("5", &[pod("a", "3")])),
            1 => lines(
                &[
                    event("ADDED", &pod("b", "6")),
                    event("MODIFIED", &pod("a", "7")),
                    event("BOOKMARK", &json!({"metadata": {"resourceVersion": "9"}})),
                ],
                false,
            ),
            2 => answer(500, &status(500, "InternalError", "hiccup")),
            3 => lines(&[event("DELETED", &pod("b", "10"))], false),
            4 => lines(&[event("ERROR", &status(410, "Expired", "too old"))], true),
            5 => answer(200, &list_of("20", &[])),
            _ => {
                assert!(watch);
                lines(&[], true)
            }
        })
    })
    .await;
    let mut watcher = Watcher::new(fake.client(), kinds::POD, "", WatchParams::default());
    assert_eq!(watcher.next().await, Event::Restarted(vec![pod("a", "3")]));
    assert_eq!(watcher.next().await, Event::Applied(pod("b", "6")));
    assert_eq!(watcher.next().await, Event::Applied(pod("a", "7")));
    assert_eq!(watcher.next().await, Event::Deleted(pod("b", "10")));
    assert_eq!(watcher.next().await, Event::Restarted(vec![]));
    assert_eq!(watcher.failure(), None);
    let silent = tokio::time::timeout(Duration::from_millis(300), watcher.next()).await;
    assert!(silent.is_err());
    let from: Vec<String> = fake
        .paths()
        .iter()
        .map(|path| match path.split_once("resourceVersion=") {
            Some((_, rest)) => rest.split('&').next().unwrap().to_string(),
            None => "list".to_string(),
        })
        .collect();
    // Lost history is read again, but never from a server that has not come as far.
    let again = &fake.paths()[5];
    assert!(again.contains("resourceVersionMatch=NotOlderThan"), "{again}");
    assert_eq!(from, ["list", "5", "9", "9", "10", "10", "20"]);
}

#[tokio::test]
async fn interrupting_next_loses_nothing() {
    let fake = serve(|number, _| {
        Some(match number {
            0 => answer(200, &list_of("1", &[])),
            _ => lines(
                &(2..40).map(|n| event("ADDED", &pod("a", &n.to_string()))).collect::<Vec<_>>(),
                true,
            ),
        })
    })
    .await;
    let mut watcher = Watcher::new(fake.client(), kinds::POD, "default", WatchParams::default());
    let mut seen = Vec::new();
    while seen.len() < 39 {
        let event = tokio::select! {
            biased;
            event = watcher.next() => event,
            () = tokio::task::yield_now() => continue,
        };
        seen.push(event);
    }
    assert_eq!(seen[0], Event::Restarted(vec![]));
    assert_eq!(seen[38], Event::Applied(pod("a", "39")));
    assert_eq!(fake.seen().len(), 2);
}

#[tokio::test]
async fn an_unreachable_server_is_waited_for() {
    let client = crate::tests::fake::client(&["http://127.0.0.1:1".to_string()]);
    let mut watcher = Watcher::new(client, kinds::POD, "", WatchParams::default());
    let waited = tokio::time::timeout(Duration::from_millis(700), watcher.next()).await;
    assert!(waited.is_err());
    assert!(watcher.failure().unwrap().contains("connect to"));
}
