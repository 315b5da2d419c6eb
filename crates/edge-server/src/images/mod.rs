//! Images of the cluster, under `/edged/v1/images`: which board holds what, where a board takes a
//! blob from, and what the names mean that people have pushed. What boards hold is in memory only:
//! they tell it again whenever a server doesn't know. Names are a ConfigMap.

mod names;
mod nodes;

use crate::api::{Api, now_ms};
use crate::auth::Identity;
use crate::http::{Query, Reply, json};
use bytes::Bytes;
use edge_api::status::{Reason, Status};
use edge_core::image_source::{Held, Meaning, Source, Sources, Want};
use edge_core::liveness::Standing;
use http::Method;
use names::Pushed;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json as value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a board's account of what it holds, at most.
pub(crate) const REQUEST_BYTES: usize = 1 << 20;
/// How long a board waits before it asks again what a name means.
const WAIT_MS: u64 = 300;
/// A question about one blob has no more digests, and no more failures to tell.
const DIGESTS_MAX: usize = 4;
const REFUSED_MAX: usize = 256;

/// Whether the leader answers; which board takes a push is asked of the server at hand.
pub(crate) fn is_for_leader(path: &str) -> bool {
    path != "/target"
}

/// The room.
pub(crate) struct Images {
    api: Api,
    sources: Mutex<Sources>,
    default_port: u16,
}

/// A request under `/edged/v1/images`.
pub(crate) struct Ask<'a> {
    /// Who asks.
    pub(crate) who: &'a Identity,
    /// How.
    pub(crate) method: &'a Method,
    /// What follows `/edged/v1/images`.
    pub(crate) path: &'a str,
    /// The query.
    pub(crate) query: &'a Query,
    /// The body.
    pub(crate) body: Bytes,
}

#[derive(Deserialize)]
struct HaveBody {
    #[serde(default)]
    node: String,
    mark: String,
    digests: Option<BTreeSet<String>>,
    #[serde(default)]
    names: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct WantBody {
    #[serde(default)]
    node: String,
    digests: Vec<String>,
    #[serde(default)]
    refused: Vec<(String, String)>,
    #[serde(default)]
    uplink: bool,
}

#[derive(Deserialize)]
struct MovedBody {
    #[serde(default)]
    node: String,
    digest: String,
    /// `going`, `done` or `failed`.
    state: String,
    #[serde(default)]
    diff: String,
}

#[derive(Deserialize)]
struct ResolveBody {
    #[serde(default)]
    node: String,
    name: String,
    /// Asks only what has been pushed.
    #[serde(default)]
    pushed_only: bool,
}

#[derive(Deserialize)]
struct ReleaseBody {
    #[serde(default)]
    node: String,
    ids: BTreeSet<String>,
}

impl Images {
    /// Agents that don't say otherwise are on `default_port`.
    pub(crate) fn new(api: Api, default_port: u16) -> Images {
        Images { api, sources: Mutex::default(), default_port }
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, ask: &Ask<'_>) -> Result<Reply, Status> {
        let path = ask.path.trim_matches('/');
        let answer = match (ask.method.as_str(), path) {
            ("POST", "have") => self.have(ask)?,
            ("POST", "want") => self.want(ask)?,
            ("POST", "moved") => self.moved(ask)?,
            ("POST", "resolve") => self.resolve(ask)?,
            ("POST", "release") => self.release(ask)?,
            ("GET", "holders") => self.holders(ask)?,
            ("GET", "") => self.list(ask)?,
            ("GET", "target") => {
                master(ask)?;
                value!({ "node": nodes::target(&self.api)? })
            }
            ("POST", "names") => {
                master(ask)?;
                let images: Vec<Pushed> = read(&ask.body)?;
                value!({ "names": names::record(&self.api, ask.who, images).await? })
            }
            ("DELETE", "names") => {
                master(ask)?;
                let name = ask.query.get("name");
                let name = name.ok_or_else(|| Status::bad_request("say ?name=…"))?;
                value!({ "removed": names::remove(&self.api, ask.who, name).await? })
            }
            (_, "have" | "want" | "moved" | "resolve" | "release" | "holders" | "" | "target") => {
                return Err(Status::method_not_allowed());
            }
            _ => return Err(Status::no_such_path()),
        };
        Ok(json(200, answer.to_string()))
    }

    /// A board that no beat has come from yet is believed its Node.
    fn alive(&self, node: &str) -> bool {
        self.api
            .beats()
            .of(node)
            .is_none_or(|liveness| matches!(liveness.standing, Standing::Alive | Standing::Unheard))
    }

    /// A board tells what it holds, or only that it holds what it held.
    fn have(&self, ask: &Ask<'_>) -> Result<Value, Status> {
        let body: HaveBody = read(&ask.body)?;
        let node = board(ask, &body.node)?;
        let Some(digests) = body.digests else {
            return Ok(value!({ "known": self.sources().knows(&node, &body.mark) }));
        };
        self.sources().have(&node, Held { mark: body.mark, digests, names: body.names });
        Ok(value!({ "known": true }))
    }

    fn want(&self, ask: &Ask<'_>) -> Result<Value, Status> {
        let body: WantBody = read(&ask.body)?;
        let node = board(ask, &body.node)?;
        if body.digests.is_empty() || body.digests.len() > DIGESTS_MAX {
            return Err(Status::bad_request(format!("1 to {DIGESTS_MAX} digests of one blob")));
        }
        let mut refused: BTreeSet<(String, String)> =
            body.refused.into_iter().take(REFUSED_MAX).collect();
        // A board that has no address can't be asked, so another is picked.
        for _ in 0..REFUSED_MAX {
            let want = Want {
                node: node.clone(),
                digests: body.digests.clone(),
                refused: refused.clone(),
                uplink: body.uplink,
            };
            let seed = self.api.random();
            let alive = |node: &str| self.alive(node);
            let source = self.sources().want(&want, alive, now_ms(), seed);
            match source {
                Source::Uplink => return Ok(value!({ "uplink": true })),
                Source::Nowhere => return Ok(value!({})),
                Source::Board { node, digest } => {
                    match nodes::reach(&self.api, &node, self.default_port) {
                        Some((address, port)) => {
                            let from = value!({ "node": node, "address": address, "port": port,
                                "digest": digest });
                            return Ok(value!({ "from": from }));
                        }
                        None => refused.insert((node, digest)),
                    };
                }
            }
        }
        Ok(value!({}))
    }

    fn moved(&self, ask: &Ask<'_>) -> Result<Value, Status> {
        let body: MovedBody = read(&ask.body)?;
        let node = board(ask, &body.node)?;
        let mut sources = self.sources();
        match body.state.as_str() {
            "going" => sources.going(&node, &body.digest, now_ms()),
            "done" => sources.ended(&node, &body.digest, Some(&body.diff)),
            "failed" => sources.ended(&node, &body.digest, None),
            other => return Err(Status::bad_request(format!("state {other:?} is unknown"))),
        }
        Ok(value!({}))
    }

    fn resolve(&self, ask: &Ask<'_>) -> Result<Value, Status> {
        let body: ResolveBody = read(&ask.body)?;
        let node = board(ask, &body.node)?;
        if let Some(pushed) = names::find(&self.api, &body.name)? {
            return Ok(value!({ "digest": pushed.digest, "pushed": true }));
        }
        if body.pushed_only {
            return Ok(value!({}));
        }
        let alive = |node: &str| self.alive(node);
        Ok(match self.sources().meaning(&body.name, &node, alive, now_ms()) {
            Meaning::Digest(digest) => value!({ "digest": digest, "pushed": false }),
            Meaning::Ask => value!({}),
            Meaning::Wait => value!({ "wait_ms": WAIT_MS }),
        })
    }

    /// Of the images that a board wants to remove, those that it must keep: names point to them
    /// and nobody else has them.
    fn release(&self, ask: &Ask<'_>) -> Result<Value, Status> {
        let body: ReleaseBody = read(&ask.body)?;
        let node = board(ask, &body.node)?;
        let named: BTreeSet<String> =
            names::all(&self.api)?.into_values().map(|pushed| pushed.id).collect();
        let ids = body.ids.intersection(&named).cloned().collect();
        let alive = |node: &str| self.alive(node);
        let keep = self.sources().release(&node, &ids, alive);
        Ok(value!({ "keep": keep }))
    }

    /// The boards that have a blob, or what a name stands for.
    fn holders(&self, ask: &Ask<'_>) -> Result<Value, Status> {
        allow(ask.who.node().is_some() || is_master(ask), ask)?;
        let digest = match (ask.query.get("digest"), ask.query.get("ref")) {
            (Some(digest), _) => digest.to_owned(),
            (None, Some(name)) => match names::find(&self.api, name)? {
                Some(pushed) => pushed.id,
                None => return Ok(value!({ "holders": [] })),
            },
            (None, None) => return Err(Status::bad_request("say ?digest=… or ?ref=…")),
        };
        Ok(value!({ "holders": self.holding(&digest) }))
    }

    fn holding(&self, digest: &str) -> Vec<Value> {
        let nodes: Vec<String> = self.sources().holders(digest).map(str::to_owned).collect();
        let alive = nodes.into_iter().filter(|node| self.alive(node));
        alive
            .filter_map(|node| {
                let (address, port) = nodes::reach(&self.api, &node, self.default_port)?;
                Some(value!({ "node": node, "address": address, "port": port }))
            })
            .collect()
    }

    fn list(&self, ask: &Ask<'_>) -> Result<Value, Status> {
        master(ask)?;
        let images = names::all(&self.api)?.into_iter().map(|(name, pushed)| {
            let nodes: Vec<Value> =
                self.holding(&pushed.id).into_iter().map(|holder| holder["node"].clone()).collect();
            value!({ "name": name, "digest": pushed.digest, "id": pushed.id,
                "bytes": pushed.bytes, "layers": pushed.layers.len(), "nodes": nodes })
        });
        Ok(value!({ "items": images.collect::<Vec<_>>() }))
    }
}

/// The board that asks: a board speaks for itself, an administrator for any.
fn board(ask: &Ask<'_>, named: &str) -> Result<String, Status> {
    match ask.who.node() {
        Some(node) if named.is_empty() || named == node => Ok(node.to_owned()),
        None if is_master(ask) && !named.is_empty() => Ok(named.to_owned()),
        _ => Err(forbidden(ask)),
    }
}

fn is_master(ask: &Ask<'_>) -> bool {
    ask.who.in_group("system:masters")
}

fn master(ask: &Ask<'_>) -> Result<(), Status> {
    allow(is_master(ask), ask)
}

fn allow(allowed: bool, ask: &Ask<'_>) -> Result<(), Status> {
    if allowed { Ok(()) } else { Err(forbidden(ask)) }
}

fn forbidden(ask: &Ask<'_>) -> Status {
    let verb = ask.method.as_str().to_lowercase();
    let path = format!("/edged/v1/images{}", ask.path);
    let message = format!("forbidden: User {:?} cannot {verb} path {path:?}", ask.who.user);
    Status::new(Reason::Forbidden, message)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Status> {
    serde_json::from_slice(body)
        .map_err(|error| Status::bad_request(format!("read the request's body: {error}")))
}
