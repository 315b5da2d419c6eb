//! From a request to its answer: who asks, what for, whether they may, and then the handler. Every
//! request ends in an answer and is counted, whatever went wrong.

use super::body::ReplyBody;
use super::io::Patience;
use super::query::Query;
use super::reply::{self, Reply};
use super::route::{self, Route, Target};
use super::{objects, parameters, program, request, reviews, subresources};
use crate::api::Api;
use crate::auth::{self, Ask, Identity};
use crate::backup::{self, Room};
use crate::images::{self, Images};
use crate::join::{self, Desk};
use crate::lead::{self, Channel, Courier, Passed, Turn};
use crate::proxy::Agents;
use crate::tokens::Tokens;
use crate::{discovery, health, metrics};
use bytes::Bytes;
use edge_api::status::{Reason, Status};
use http::{HeaderMap, Method, Request};
use hyper::body::Incoming;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// The client of one connection.
#[derive(Clone)]
pub(crate) struct Peer {
    /// Who it is.
    pub(crate) identity: Identity,
    /// Whether another server of the cluster passes its requests on.
    pub(crate) forwarded: bool,
    /// Whether the connection may stall.
    pub(crate) patience: Patience,
    /// Told when the client has proven who it is by a token.
    pub(crate) proven: Arc<Notify>,
    /// Turns true when the server ends.
    pub(crate) stop: watch::Receiver<bool>,
}

/// What all connections share.
pub(crate) struct Front {
    /// The pipeline.
    pub(crate) api: Api,
    /// The ways to the other servers.
    pub(crate) servers: Arc<Channel>,
    /// What carries messages to the other servers.
    pub(crate) courier: Arc<dyn Courier>,
    /// The way to the boards' agents.
    pub(crate) agents: Agents,
    /// What can be discovered; it never changes while the server runs.
    pub(crate) discovery: discovery::Documents,
    /// Where boards join.
    pub(crate) desk: Desk,
    /// Which boards hold which images.
    pub(crate) images: Images,
    /// What knows the program that runs here.
    pub(crate) programs: Option<Arc<dyn program::Programs>>,
    /// Who ServiceAccounts are.
    pub(crate) tokens: Tokens,
    /// Where the whole cluster is handed out and taken in.
    pub(crate) room: Room,
}

/// A request to a resource, taken apart.
pub(super) struct Call {
    pub(super) peer: Arc<Peer>,
    pub(super) target: Target,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) query: Query,
}

impl Front {
    /// Answers a request.
    pub(crate) async fn answer(&self, peer: Arc<Peer>, request: Request<Incoming>) -> Reply {
        let counted = metrics::Request::begin(&self.api.inner.metrics);
        let mut label = metrics::Label::default();
        let response = match self.dispatch(peer, request, &mut label).await {
            Ok(response) => response,
            Err(status) => reply::status(&status),
        };
        counted.end(label, response.status().as_u16());
        response
    }

    async fn dispatch(
        &self,
        peer: Arc<Peer>,
        request: Request<Incoming>,
        label: &mut metrics::Label,
    ) -> Result<Reply, Status> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let mut peer = speaker(peer, request.headers());
        let target = match route::route(request.uri().path()) {
            Route::Resource(target) => target,
            Route::Edged(path) => return self.edged(&peer, &path, &query, request).await,
            other => {
                if !other.is_open() {
                    peer = self.prove(peer, request.headers()).await?;
                }
                return self.plain(&peer, &other, &request, &query);
            }
        };
        peer = self.prove(peer, request.headers()).await?;
        let verb = route::verb(request.method(), &target, &query)
            .ok_or_else(Status::method_not_allowed)?;
        *label = metrics::Label { verb, resource: target.kind.plural, sub: target.sub.clone() };
        let fields = match verb {
            "list" | "watch" | "deletecollection" => query.get("fieldSelector"),
            _ => None,
        };
        let ask = Ask { verb, target: &target, fields };
        if target.kind.is_review() {
            self.authorize(&peer.identity, &ask).await?;
            return reviews::answer(self, &peer.identity, &target, request).await;
        }
        if matches!(target.sub.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy") {
            self.authorize(&peer.identity, &ask).await?;
            if upgrades(&target) {
                // Beyond what `nodes/proxy` allows: a board's program is all of the board.
                let (who, path) = (&peer.identity, "/edged/v1/upgrade");
                auth::authorize_path(&self.api, who, request.method(), path)?;
            }
            peer.patience.grant();
            return self.agents.pass(&self.api, &target, &query, request).await;
        }
        let (api, request) = if request.method().is_safe() {
            if verb == "watch" && !self.api.inner.leadership.led().await {
                return Err(self.api.inner.leadership.nobody("watch"));
            }
            if parameters::wants_latest(&query, self.api.store().revision()) {
                self.api.inner.leadership.barrier(&self.api).await?;
            }
            (self.api.clone(), request.map(|_| Bytes::new()))
        } else {
            // Whoever showed nothing may do nothing: its body is not even read.
            if peer.identity.in_group("system:unauthenticated") {
                auth::authorize(&self.api, &peer.identity, &ask)?;
            }
            match self.lead(&peer, request).await? {
                (Turn::Here(term), request) => (self.api.at(term), request),
                (Turn::Answered(reply), _) => return Ok(reply),
            }
        };
        self.authorize(&peer.identity, &ask).await?;
        let (head, body) = request.into_parts();
        let call = Call { peer, target, method: head.method, headers: head.headers, query };
        match call.target.sub.as_str() {
            "token" => subresources::token(&self.tokens, &call, &body),
            "scale" | "binding" | "eviction" => subresources::handle(&api, call, body).await,
            _ => objects::handle(&api, call, body).await,
        }
    }

    /// Whoever shows a token in place of a certificate is who the token says; and whoever may
    /// speak as somebody else does so if they want.
    async fn prove(&self, peer: Arc<Peer>, headers: &HeaderMap) -> Result<Arc<Peer>, Status> {
        if peer.forwarded {
            return Ok(peer);
        }
        let peer = self.proven(peer, headers).await?;
        Ok(match auth::impersonated(&self.api, &peer.identity, headers)? {
            Some(identity) => Arc::new(Peer { identity, ..(*peer).clone() }),
            None => peer,
        })
    }

    async fn proven(&self, peer: Arc<Peer>, headers: &HeaderMap) -> Result<Arc<Peer>, Status> {
        let anonymous = peer.identity.in_group("system:unauthenticated");
        if let Some(why) = &peer.identity.over {
            return Err(Status::new(Reason::Unauthorized, why.clone()));
        }
        if !anonymous || peer.identity.key.is_some() {
            return Ok(peer);
        }
        let Some(value) = headers.get(http::header::AUTHORIZATION) else { return Ok(peer) };
        let value = value.to_str().unwrap_or_default().trim();
        let (scheme, token) = value.split_once(' ').unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Status::unauthorized());
        }
        let identity = self.tokens.authenticate(token.trim()).await?;
        peer.proven.notify_one();
        Ok(Arc::new(Peer { identity, ..(*peer).clone() }))
    }

    /// Reads a request that changes something, and finds the server whose turn it is.
    async fn lead(
        &self,
        peer: &Peer,
        request: Request<Incoming>,
    ) -> Result<(Turn, Request<Bytes>), Status> {
        let (head, body) = request.into_parts();
        let body = request::whole(body).await?;
        let turn = self.turn(peer, &Passed::new(&head, &body)).await?;
        Ok((turn, Request::from_parts(head, body)))
    }

    /// The server whose turn it is to answer, or the answer of that one.
    async fn turn(&self, peer: &Peer, passed: &Passed) -> Result<Turn, Status> {
        let leadership = &self.api.inner.leadership;
        lead::pass(leadership, &self.servers, &peer.identity, passed, peer.forwarded).await
    }

    /// What a board may do depends on what is bound to it, and what others may on their roles,
    /// which this server may learn a moment after they did: a refusal counts once it is the latest
    /// that was looked at.
    async fn authorize(&self, who: &Identity, ask: &Ask<'_>) -> Result<(), Status> {
        match auth::authorize(&self.api, who, ask) {
            Err(_)
                if who.in_group("system:authenticated") && !self.api.inner.leadership.leads() =>
            {
                self.api.inner.leadership.barrier(&self.api).await?;
                auth::authorize(&self.api, who, ask)
            }
            judged => judged,
        }
    }

    /// What boards and servers ask each other.
    async fn edged(
        &self,
        peer: &Arc<Peer>,
        path: &str,
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<Reply, Status> {
        if let Some(what) = program::asked(path) {
            let peer = self.prove(peer.clone(), request.headers()).await?;
            return self.program(&peer, what, request).await;
        }
        let (head, body) = request.into_parts();
        if (head.method.as_str(), path) == ("GET", "snapshot") {
            return lead::hand_out(self.api.store(), &peer.identity);
        }
        if Room::has(path) {
            let peer = self.prove(peer.clone(), &head.headers).await?;
            let (who, method) = (&peer.identity, &head.method);
            let ask = backup::Ask { who, method, path, query };
            self.room.allow(&ask)?;
            let body = request::small(body, Room::limit(path)).await?;
            return self.room.answer(&ask, body).await;
        }
        let of_images = path.strip_prefix("images");
        if let Some(path) = of_images.filter(|path| path.is_empty() || path.starts_with('/')) {
            let body = request::small(body, images::REQUEST_BYTES).await?;
            // What boards hold and do is in the memory of the leader.
            if images::is_for_leader(path) {
                let passed = Passed::new(&head, &body);
                if let Turn::Answered(reply) = self.turn(peer, &passed).await? {
                    return Ok(reply);
                }
            }
            let (who, method) = (&peer.identity, &head.method);
            return self.images.answer(&images::Ask { who, method, path, query, body }).await;
        }
        let body = request::small(body, join::REQUEST_BYTES).await?;
        // Who is away is known to the leader alone.
        let there = path == "servers" && self.api.inner.leadership.elsewhere();
        if Desk::changes(&head.method, path) || there {
            let passed = Passed::new(&head, &body);
            if let Turn::Answered(reply) = self.turn(peer, &passed).await? {
                return Ok(reply);
            }
        }
        let ask = join::Ask { who: &peer.identity, method: &head.method, path, body };
        self.desk.answer(&ask).await
    }

    /// The paths that are not resources.
    fn plain(
        &self,
        peer: &Arc<Peer>,
        route: &Route,
        request: &Request<Incoming>,
        query: &Query,
    ) -> Result<Reply, Status> {
        let path = request.uri().path();
        if !route.is_open() {
            auth::authorize_path(&self.api, &peer.identity, request.method(), path)?;
        }
        if matches!(route, Route::Unknown) {
            return Err(Status::no_such_path());
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Status::method_not_allowed());
        }
        let headers = request.headers();
        match route {
            Route::Health => Ok(health::answer(&self.api, &*self.courier, path, query)),
            Route::Version => Ok(reply::json(200, discovery::version())),
            Route::OpenId => Ok(reply::json(200, self.tokens.openid().to_string())),
            Route::KeySet => Ok(reply::json(200, self.tokens.key_set()?.to_string())),
            Route::Metrics => Ok(reply::reply(
                200,
                "text/plain; version=0.0.4; charset=utf-8",
                ReplyBody::of(metrics::render(&self.api) + &self.courier.metrics()),
            )),
            other => self.discovery.answer(other, headers, query),
        }
    }
}

/// Whether a request is about the program that a board runs.
fn upgrades(target: &Target) -> bool {
    target.rest == "upgrade" || target.rest.starts_with("upgrade/")
}

/// Whoever a server of this cluster passes a request on for; else the client itself.
fn speaker(peer: Arc<Peer>, headers: &HeaderMap) -> Arc<Peer> {
    match peer.identity.speaking(headers) {
        Some(identity) => Arc::new(Peer { identity, forwarded: true, ..(*peer).clone() }),
        None => peer,
    }
}
