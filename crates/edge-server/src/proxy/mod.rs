//! The way to the boards' agents: logs, exec, attach, port-forward and `nodes/proxy` are passed on
//! to the agent of the board in question, over mutual TLS, streaming in both directions.

mod locate;
mod tunnel;

use crate::api::Api;
use crate::config::Config;
use crate::http::{Query, Reply, ReplyBody, Target};
use crate::join::Gate;
use crate::pki::{Authority, PkiError};
use crate::tls;
use edge_api::status::{Reason, Status};
use edge_core::clock::ClusterClock;
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::header::{TE, TRAILER, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use locate::Destination;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long it may take to reach an agent.
const DIAL: Duration = Duration::from_secs(10);
/// Upgraded connections (exec, attach, port-forward) that may be open at once.
const TUNNELS: usize = 256;

/// How often the certificate is looked at that agents are called with, by whoever calls one next.
const RENEWAL: u64 = 24 * 60 * 60;

/// What agents are called with, and when it was last looked at, in seconds since 1970.
type Shown = (Arc<ClientConfig>, u64);

/// The way to the agents.
pub(crate) struct Agents {
    authority: Arc<Authority>,
    clock: ClusterClock,
    gate: Gate,
    shown: Mutex<Shown>,
    default_port: u16,
    tunnels: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

/// The certificate that the authority keeps for this server, as agents are shown it.
fn shown(
    authority: &Authority,
    clock: &ClusterClock,
    gate: &Gate,
) -> Result<Arc<ClientConfig>, PkiError> {
    let (user, group) = ("kube-apiserver-kubelet-client", Some("system:masters"));
    let leaf = authority.kept_leaf("agent-client", user, group, &BTreeSet::new())?;
    tls::calling(authority.ca_der(), &leaf, clock, gate)
}

impl Agents {
    /// Calls agents with a certificate that the authority keeps for this server.
    pub(crate) fn new(
        authority: &Arc<Authority>,
        config: &Config,
        gate: &Gate,
        stop: watch::Receiver<bool>,
    ) -> Result<Agents, PkiError> {
        let clock = config.cluster.clock.clone();
        // The time is told at any moment: what was judged before that is looked at again.
        let judged = clock.now_secs();
        let shown = Mutex::new((shown(authority, &clock, gate)?, judged));
        Ok(Agents {
            authority: authority.clone(),
            clock,
            gate: gate.clone(),
            shown,
            default_port: config.agent_port,
            tunnels: Arc::new(Semaphore::new(TUNNELS)),
            stop,
        })
    }

    /// What agents are shown today: it lives a year, and this process may live longer.
    fn tls(&self) -> Arc<ClientConfig> {
        let now = self.clock.now_secs();
        let mut held = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if now.abs_diff(held.1) >= RENEWAL {
            match shown(&self.authority, &self.clock, &self.gate) {
                Ok(next) => *held = (next, now),
                Err(error) => tracing::warn!("renew the certificate for agents: {error}"),
            }
        }
        held.0.clone()
    }

    /// Passes a request on to the agent that it is for, and the answer back.
    pub(crate) async fn pass(
        &self,
        api: &Api,
        target: &Target,
        query: &Query,
        mut request: Request<Incoming>,
    ) -> Result<Reply, Status> {
        let Some(to) = locate::destination(api, target, query, self.default_port)? else {
            // The log of a pod that has no board yet is empty.
            return Ok(crate::http::text(200, ""));
        };
        let method = request.method().clone();
        let stream = self.dial(&to).await.map_err(|why| unreachable(&method, &to, &why))?;
        let upgrading = request.headers().contains_key(UPGRADE);
        let client_side = upgrading.then(|| hyper::upgrade::on(&mut request));
        let request = forward(&to, request, upgrading)?;
        let broken = |error: hyper::Error| unreachable(&method, &to, &error.to_string());
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!("connection to an agent: {error}");
            }
        });
        let mut response = sender.send_request(request).await.map_err(broken)?;
        if let (StatusCode::SWITCHING_PROTOCOLS, Some(client_side)) =
            (response.status(), client_side)
        {
            let permit = self.tunnels.clone().try_acquire_owned().map_err(|_| {
                Status::too_many_requests("too many exec and port-forward sessions are open", 5)
            })?;
            let agent_side = hyper::upgrade::on(&mut response);
            tunnel::open(client_side, agent_side, permit, self.stop.clone());
        }
        Ok(backward(response))
    }

    async fn dial(&self, to: &Destination) -> Result<TlsStream<TcpStream>, String> {
        let address = format!("{}:{}", to.host(), to.port);
        let dialled = async {
            let tcp = TcpStream::connect((to.address, to.port))
                .await
                .map_err(|error| format!("dial tcp {address}: connect: {}", words(&error)))?;
            let _ = tcp.set_nodelay(true);
            let name = ServerName::try_from(to.node.clone())
                .unwrap_or(ServerName::IpAddress(to.address.into()));
            let connector = TlsConnector::from(self.tls());
            connector.connect(name, tcp).await.map_err(|error| format!("tls: {error}"))
        };
        tokio::time::timeout(DIAL, dialled)
            .await
            .unwrap_or_else(|_| Err(format!("dial tcp {address}: i/o timeout")))
    }
}

/// An error of the system, in the words that people know from Go programs.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        _ => error.to_string(),
    }
}

fn unreachable(method: &http::Method, to: &Destination, why: &str) -> Status {
    let verb = match method.as_str() {
        "GET" => "Get",
        "POST" => "Post",
        "PUT" => "Put",
        "DELETE" => "Delete",
        other => other,
    };
    let message = format!("{verb} \"https://{}:{}{}\": {why}", to.host(), to.port, to.path);
    Status::new(Reason::ServiceUnavailable, message)
}

/// Headers that belong to one connection and are not passed on.
fn drop_hop_headers(headers: &mut HeaderMap) {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE]
    {
        headers.remove(name);
    }
}

/// The request as the agent gets it.
fn forward(
    to: &Destination,
    request: Request<Incoming>,
    upgrading: bool,
) -> Result<Request<Incoming>, Status> {
    let (mut head, body) = request.into_parts();
    let upgrade = head.headers.get(UPGRADE).cloned();
    drop_hop_headers(&mut head.headers);
    head.headers.remove(AUTHORIZATION);
    if let (true, Some(upgrade)) = (upgrading, upgrade) {
        head.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        head.headers.insert(UPGRADE, upgrade);
    }
    let host = format!("{}:{}", to.host(), to.port);
    let host = HeaderValue::from_str(&host).map_err(Status::internal)?;
    head.headers.insert(HOST, host);
    head.uri = to.path.parse::<Uri>().map_err(|error| {
        Status::bad_request(format!("the path {:?} cannot be passed on: {error}", to.path))
    })?;
    head.version = http::Version::HTTP_11;
    Ok(Request::from_parts(head, body))
}

/// The answer as the client gets it.
fn backward(response: Response<Incoming>) -> Reply {
    let (mut head, body) = response.into_parts();
    let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
    let upgrade = head.headers.get(UPGRADE).cloned();
    drop_hop_headers(&mut head.headers);
    if let (true, Some(upgrade)) = (switching, upgrade) {
        head.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        head.headers.insert(UPGRADE, upgrade);
        return Response::from_parts(head, ReplyBody::of(""));
    }
    Response::from_parts(head, ReplyBody::Passed(body))
}
