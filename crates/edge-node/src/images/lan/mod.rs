//! Images from the other boards: the servers say which board has what, and what names mean; the
//! boards give it; nothing is used before its digest has been checked here.

mod along;
mod fetch;
mod pull;
#[cfg(test)]
mod tests;

use super::ImageStore;
use super::digest::Digest;
use super::manifest::DOCUMENT_MAX;
use crate::trust::Keys;
use edge_client::{Call, Client, Config, Patience};
use http::header::{HeaderValue, RANGE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

pub(super) use fetch::{Taken, Wanted};

/// A board that sends nothing for so long is left for the next.
const STALL: Duration = Duration::from_secs(5);
/// How long a server may take for an answer; the registry is there as well.
const ANSWER: Duration = Duration::from_secs(4);
/// How often the servers hear that a blob is still on its way; they forget it after three times.
const CONFIRM: Duration = Duration::from_secs(5);
/// How often a server is asked whether it still knows what this board holds.
const ANNOUNCE: Duration = Duration::from_secs(10);
/// How often a board is asked for a blob that it doesn't have yet, and the pause between.
const LOOKS: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Connections to boards that are kept for the next blob.
const PEERS_MAX: usize = 8;

/// The way to the servers and to the other boards.
pub struct Lan {
    api: Client,
    /// What peers are dialled with, but for their addresses.
    base: Config,
    /// The board that servers take this one for when its certificate doesn't say.
    node: String,
    peers: Mutex<BTreeMap<String, Client>>,
    /// Which boards' keys still count.
    keys: Arc<Keys>,
    stall: Duration,
}

/// Where a blob is to be had.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Holder {
    pub(super) node: String,
    address: IpAddr,
    port: u16,
    #[serde(default)]
    pub(super) digest: String,
}

impl fmt::Debug for Lan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lan").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Lan {
    /// Asks servers with `api`, and dials boards with the credentials of `base`.
    pub fn new(node: &str, api: Client, base: Config) -> Lan {
        let peers = Mutex::default();
        Lan { api, base, node: node.to_owned(), peers, keys: Arc::default(), stall: STALL }
    }

    /// Takes nothing from boards whose keys these say were revoked.
    pub(crate) fn trusting(self, keys: Arc<Keys>) -> Lan {
        Lan { keys, ..self }
    }

    fn trusts(&self, holder: &Holder) -> Result<(), String> {
        if self.keys.is_out(&holder.node) { Err("its key was revoked".to_owned()) } else { Ok(()) }
    }

    /// Asks the servers something about images.
    async fn ask(&self, what: &str, mut body: Value) -> Result<Value, String> {
        body["node"] = json!(self.node);
        let call = Call::new(Method::POST, format!("/edged/v1/images/{what}")).json(&body);
        match timeout(ANSWER, self.api.call(&call)).await {
            Ok(Ok(answer)) => Ok(answer.object),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("{what}: no server answered in {} s", ANSWER.as_secs())),
        }
    }

    /// Tells how a blob's way goes; whether it is heard matters little.
    pub(super) async fn moved(&self, digest: &Digest, state: &str, diff: Option<&Digest>) {
        let diff = diff.map(Digest::as_str).unwrap_or_default();
        let body = json!({ "digest": digest, "state": state, "diff": diff });
        if let Err(error) = self.ask("moved", body).await {
            tracing::debug!(%error, "tell the servers of a blob");
        }
    }

    /// Confirms now and then that a blob is on its way, until `work` is done.
    pub(super) async fn confirming<T>(&self, digest: &Digest, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match timeout(CONFIRM, &mut work).await {
                Ok(done) => return done,
                Err(_) => {
                    // The blob must not wait for a server that doesn't answer.
                    tokio::select! {
                        done = &mut work => return done,
                        () = self.moved(digest, "going", None) => {}
                    }
                }
            }
        }
    }

    /// Of the images with these ids, those that this board must keep: names point to them and no
    /// other board has them.
    async fn last_copies(&self, ids: &BTreeSet<String>) -> Result<BTreeSet<String>, String> {
        let answer = self.ask("release", json!({ "ids": ids })).await?;
        serde_json::from_value(answer["keep"].clone()).map_err(|error| error.to_string())
    }

    /// A client of that board alone.
    fn dial(&self, holder: &Holder, answer: Duration) -> Result<Client, String> {
        self.trusts(holder)?;
        let config = Config {
            servers: vec![self.url(holder)],
            server_name: Some(holder.node.clone()),
            ..self.base.clone()
        };
        let patience = Patience { connect: self.stall, answer, attempts: 1, rounds: 1 };
        Client::with_patience(config, patience).map_err(|e| e.to_string())
    }

    fn url(&self, holder: &Holder) -> String {
        let scheme = match self.base.servers.first() {
            Some(url) if url.starts_with("http://") => "http",
            _ => "https",
        };
        format!("{scheme}://{}", std::net::SocketAddr::new(holder.address, holder.port))
    }

    fn client(&self, holder: &Holder) -> Result<Client, String> {
        self.trusts(holder)?;
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{} {}", holder.node, self.url(holder));
        if let Some(client) = peers.get(&key) {
            return Ok(client.clone());
        }
        let client = self.dial(holder, self.stall)?;
        if peers.len() >= PEERS_MAX {
            peers.pop_first();
        }
        peers.insert(key, client.clone());
        Ok(client)
    }

    /// Begins to read a blob of another board at `from`. A board that was told a moment ago where
    /// to take it from may not have begun, and one with many readers may have fewer soon.
    pub(super) async fn open(
        &self,
        holder: &Holder,
        digest: &Digest,
        from: u64,
    ) -> Result<Response<Incoming>, String> {
        let mut looks = 0;
        loop {
            let answer = self.try_open(holder, digest, from).await?;
            looks += 1;
            match answer.status() {
                StatusCode::OK if from == 0 => return Ok(answer),
                StatusCode::PARTIAL_CONTENT if from > 0 => return Ok(answer),
                StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE if looks < LOOKS => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                status => return Err(format!("it answers {status}")),
            }
        }
    }

    async fn try_open(
        &self,
        holder: &Holder,
        digest: &Digest,
        from: u64,
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::new(edge_client::body::empty());
        *request.uri_mut() =
            format!("/images/blob/{digest}").parse().map_err(|_| "not a path".to_owned())?;
        if from > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={from}-"))
        {
            request.headers_mut().insert(RANGE, range);
        }
        let client = self.client(holder)?;
        let answer = timeout(self.stall, client.request(request)).await;
        let answer = answer.map_err(|_| "it doesn't answer".to_owned())?;
        answer.map_err(|error| error.to_string())
    }

    /// A document, from whichever board has it.
    pub(super) async fn document(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        let call = Call::get(format!("/edged/v1/images/holders?digest={digest}"));
        let answer = timeout(ANSWER, self.api.call(&call)).await;
        let answer = answer.map_err(|_| "no server answered".to_owned())?;
        let answer = answer.map_err(|error| error.to_string())?.object;
        let holders: Vec<Holder> =
            serde_json::from_value(answer["holders"].clone()).map_err(|e| e.to_string())?;
        let mut last = "no board has it".to_owned();
        // Boards begin at different holders, so that not all ask the first.
        let start = self.node.bytes().map(usize::from).sum::<usize>() % holders.len().max(1);
        let (before, after) = holders.split_at(start);
        for holder in after.iter().chain(before).filter(|holder| holder.node != self.node) {
            match self.small(holder, digest).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => last = format!("board {}: {error}", holder.node),
            }
        }
        Err(last)
    }

    async fn small(&self, holder: &Holder, digest: &Digest) -> Result<Vec<u8>, String> {
        let answer = self.open(holder, digest, 0).await?;
        let most = usize::try_from(DOCUMENT_MAX).unwrap_or(usize::MAX);
        let body = timeout(self.stall, Limited::new(answer.into_body(), most).collect()).await;
        let body = body.map_err(|_| "it stalls".to_owned())?.map_err(|e| e.to_string())?;
        let bytes = body.to_bytes().to_vec();
        let found = Digest::of(&bytes);
        if found != *digest {
            tracing::warn!(board = %holder.node, %digest, %found, "a board gave a wrong document");
            return Err(format!("what it gave has digest {found}"));
        }
        Ok(bytes)
    }
}

impl ImageStore {
    /// Of the images with these ids, those that this board must keep: names of the cluster point
    /// to them and no other board has them.
    pub async fn last_copies(&self, ids: &BTreeSet<String>) -> Result<BTreeSet<String>, String> {
        match &self.0.config.lan {
            Some(lan) if !ids.is_empty() => lan.last_copies(ids).await,
            _ => Ok(BTreeSet::new()),
        }
    }

    /// Tells the servers what this board holds, whenever that changes or a server doesn't know it.
    /// Runs until dropped.
    pub async fn announce(self) {
        let Some(lan) = self.0.config.lan.clone() else { return };
        let mut changes = self.0.changes.subscribe();
        loop {
            changes.borrow_and_update();
            let digests = self.holds();
            let names: BTreeMap<String, Digest> = self.names().into_iter().collect();
            let text = serde_json::to_vec(&(&digests, &names)).unwrap_or_default();
            let mark = Digest::of(&text).hex()[..16].to_owned();
            let told = match lan.ask("have", json!({ "mark": mark })).await {
                Ok(answer) if answer["known"] == true => Ok(()),
                Ok(_) => {
                    let all = json!({ "mark": mark, "digests": digests, "names": names });
                    lan.ask("have", all).await.map(drop)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = told {
                tracing::debug!(%error, "tell the servers which images are here");
            }
            drop(timeout(ANNOUNCE, changes.changed()).await);
        }
    }
}
