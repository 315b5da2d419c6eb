//! Which pods are this board's: follows them in the API, starts a worker for each, passes on what
//! concerns it, and clears away what belongs to none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use edge_api::kinds::POD;
use edge_api::{Object, meta};
use edge_client::watcher::Event;
use edge_client::{WatchParams, Watcher};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::board::Board;
use super::sources;
use super::worker::{INBOX, Message, Worker, desired};
use crate::seams::Exit;

/// How long the API may take for its first answer, before the ledger stands in for it.
const API_PATIENCE: Duration = Duration::from_secs(2);

/// What comes in from outside the API.
pub(crate) struct Feeds {
    /// Ends of containers.
    pub(crate) exits: mpsc::Receiver<Exit>,
    /// Pods that show an object which has changed.
    pub(crate) changed: mpsc::Receiver<String>,
    /// Set when the agent shall end.
    pub(crate) shutdown: watch::Receiver<bool>,
}

struct Pods {
    board: Arc<Board>,
    workers: BTreeMap<String, mpsc::Sender<Message>>,
    running: JoinSet<String>,
    /// Pods that came while their worker was ending.
    again: BTreeMap<String, Object>,
    /// The clearing away of what belongs to no pod.
    sweeping: AbortHandle,
}

/// Runs the board's pods until shutdown; they keep running after it.
pub(crate) async fn run(board: Arc<Board>, mut feeds: Feeds) {
    let params = WatchParams {
        field_selector: Some(format!("spec.nodeName={}", board.name)),
        ..WatchParams::default()
    };
    let mut watcher = Watcher::new(board.client.clone(), POD, "", params);
    let mut pods = Pods {
        board: board.clone(),
        workers: BTreeMap::new(),
        running: JoinSet::new(),
        again: BTreeMap::new(),
        sweeping: tokio::spawn(async {}).abort_handle(),
    };
    // The API knows more than the ledger (what was reported, restart counts), so it is asked first.
    tokio::select! {
        event = watcher.next() => pods.event(event).await,
        () = tokio::time::sleep(API_PATIENCE) => {
            tracing::info!("no server answers: pods are started as the ledger has them");
            for pod in board.ledger.pods() {
                pods.apply(pod).await;
            }
        }
        _ = feeds.shutdown.changed() => return,
    }
    loop {
        tokio::select! {
            event = watcher.next() => pods.event(event).await,
            Some(exit) = feeds.exits.recv() => pods.exited(exit).await,
            Some(uid) = feeds.changed.recv() => pods.tell(&uid, Message::SourceChanged).await,
            () = board.images_changed.notified() => pods.images_changed().await,
            Some(ended) = pods.running.join_next() => pods.ended(ended).await,
            _ = feeds.shutdown.changed() => break,
        }
    }
    pods.sweeping.abort();
    pods.running.abort_all();
}

impl Pods {
    async fn event(&mut self, event: Event) {
        match event {
            Event::Restarted(list) => {
                let known: Vec<String> = self.workers.keys().cloned().collect();
                for uid in known {
                    if !list.iter().any(|pod| meta::uid(pod) == uid) {
                        self.tell(&uid, Message::Gone).await;
                    }
                }
                for pod in list {
                    self.apply(pod).await;
                }
                self.forget_objects();
                self.sweeping.abort();
                self.sweeping =
                    tokio::spawn(super::collect::sweep(self.board.clone())).abort_handle();
            }
            Event::Applied(pod) => self.apply(pod).await,
            Event::Deleted(pod) => {
                let uid = meta::uid(&pod).to_owned();
                self.again.remove(&uid);
                // Its last state says how long it may take to end.
                self.tell(&uid, Message::Desired(Box::new(pod))).await;
                self.tell(&uid, Message::Gone).await;
            }
        }
    }

    /// Drops ConfigMaps and Secrets from the ledger that no pod here uses any more.
    fn forget_objects(&self) {
        let pods = self.board.pod_views();
        let used: BTreeSet<_> = pods.iter().flat_map(|pod| sources::used_by(&pod.object)).collect();
        self.board.ledger.retain_objects(|kind, namespace, name| {
            used.contains(&(kind.into(), namespace.into(), name.into()))
        });
    }

    async fn apply(&mut self, object: Object) {
        let uid = meta::uid(&object).to_owned();
        if uid.is_empty() {
            return;
        }
        if let Some(worker) = self.workers.get(&uid) {
            if let Err(refused) = worker.send(Message::Desired(Box::new(object))).await
                && let Message::Desired(object) = refused.0
            {
                self.again.insert(uid, *object);
            }
            return;
        }
        let pod = match desired(&object) {
            Ok(pod) => pod,
            Err(error) => return tracing::warn!("{error}"),
        };
        let (inbox, messages) = mpsc::channel(INBOX);
        let worker = Worker::new(self.board.clone(), object, pod, messages);
        self.workers.insert(uid.clone(), inbox);
        self.running.spawn(async move {
            worker.run().await;
            uid
        });
    }

    async fn tell(&mut self, uid: &str, message: Message) {
        if let Some(worker) = self.workers.get(uid) {
            // A worker that has ended needs no news.
            let _ = worker.send(message).await;
        }
    }

    async fn exited(&mut self, exit: Exit) {
        let uid = self.board.routes().get(&exit.id).cloned();
        if let Some(uid) = uid {
            self.tell(&uid, Message::Exited(exit)).await;
        }
        self.board.exits.send_modify(|count| *count += 1);
    }

    async fn images_changed(&mut self) {
        self.board.node_changed.notify_one();
        for worker in self.workers.values() {
            let _ = worker.send(Message::ImagesChanged).await;
        }
    }

    async fn ended(&mut self, ended: Result<String, tokio::task::JoinError>) {
        let uid = match ended {
            Ok(uid) => uid,
            Err(error) => return tracing::error!("the worker of a pod broke off: {error}"),
        };
        self.workers.remove(&uid);
        self.forget_objects();
        if let Some(pod) = self.again.remove(&uid) {
            self.apply(pod).await;
        }
    }
}
