//! Where boards join: the paths under `/edged/v1`, who may take each, and what all of them need.

use super::membership::{Cluster, Derive, Lone, Membership, MembershipError};
use super::nodeless::without_node;
use super::trust::Trust;
use super::words::{self, MemberAnswer, PROTOCOL, ServerInfo, ServersAnswer, TimeAnswer};
use super::{admit, renew, revoke};
use crate::api::Api;
use crate::auth::{Identity, SERVERS};
use crate::config::Config;
use crate::http::{Reply, json, text};
use crate::pki::{Authority, BoardKey, ClusterSecrets, KeyHash, PkiError};
use bytes::Bytes;
use edge_api::status::{Reason, Status};
use edge_core::clock::ClusterClock;
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// Bytes of a request to join at most.
pub(crate) const REQUEST_BYTES: usize = 64 * 1024;

/// What the handlers share.
pub(crate) struct Desk {
    pub(super) api: Api,
    pub(super) authority: Arc<Authority>,
    pub(super) secrets: ClusterSecrets,
    pub(super) derive: Option<Derive>,
    pub(super) clock: ClusterClock,
    pub(super) membership: Arc<dyn Membership>,
    pub(super) trust: watch::Receiver<Arc<Trust>>,
    pub(super) config: Config,
    /// The key of the board that this is.
    pub(super) own_key: KeyHash,
    /// One board joins at a time, so that none gets another's addresses.
    pub(super) joining: tokio::sync::Mutex<()>,
}

/// A request under `/edged/v1`.
pub(crate) struct Ask<'a> {
    /// Who asks.
    pub(crate) who: &'a Identity,
    /// How.
    pub(crate) method: &'a Method,
    /// What follows `/edged/v1/`.
    pub(crate) path: &'a str,
    /// The body.
    pub(crate) body: Bytes,
}

impl Desk {
    /// Opens the desk of a server that serves on `port`.
    pub(crate) fn open(
        api: Api,
        authority: Arc<Authority>,
        config: &Config,
        port: u16,
        trust: watch::Receiver<Arc<Trust>>,
    ) -> Result<Desk, PkiError> {
        let Cluster { clock, membership, derive, broker_port, brokers, .. } =
            config.cluster.clone();
        let key = BoardKey::open(&config.data_dir)?;
        let membership = membership.unwrap_or_else(|| {
            let at = |port| SocketAddr::new(config.advertised(), port);
            Arc::new(Lone(ServerInfo {
                id: key.hash().member_id().to_string(),
                name: config.name.clone(),
                api: format!("https://{}", at(port)),
                broker: match brokers.is_empty() {
                    true => at(broker_port).to_string(),
                    false => String::new(),
                },
                voter: true,
                leader: true,
                away: false,
            }))
        });
        Ok(Desk {
            api,
            authority,
            secrets: ClusterSecrets::open(&config.data_dir)?,
            derive,
            clock,
            membership,
            trust,
            config: config.clone(),
            own_key: key.hash(),
            joining: tokio::sync::Mutex::default(),
        })
    }

    /// The cluster's time, in seconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now_secs()
    }

    /// Why a client's key does not count any more, if that is so.
    pub(crate) fn refusal(&self, who: &Identity) -> Option<String> {
        self.trust.borrow().refuses(who)
    }

    /// Answers boards that look for servers on the LAN, until dropped.
    pub(crate) fn announce(&self, port: u16) -> impl Future<Output = ()> + use<> {
        let (name, cluster) = (self.config.name.clone(), self.secrets.id.clone());
        let reached = self.config.reachable().filter(|_| !self.config.listen.ip().is_loopback());
        async move {
            if let Some(ip) = reached {
                super::announce(name, cluster, SocketAddr::new(ip, port)).await;
            }
        }
    }

    /// Waits until a client's key does not count any more; gives the reason.
    pub(crate) fn distrust(&self, who: Identity) -> impl Future<Output = String> + use<> {
        let mut trust = self.trust.clone();
        async move {
            loop {
                let refusal = trust.borrow_and_update().refuses(&who);
                match refusal {
                    Some(why) => return why,
                    None if who.key.is_none() => std::future::pending().await,
                    None if trust.changed().await.is_err() => std::future::pending().await,
                    None => {}
                }
            }
        }
    }

    /// Whether this request changes something, and so is for the leader to answer.
    pub(crate) fn changes(method: &Method, path: &str) -> bool {
        *method != Method::GET && path != "renew"
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, ask: &Ask<'_>) -> Result<Reply, Status> {
        let parts: Vec<&str> = ask.path.split('/').filter(|part| !part.is_empty()).collect();
        match (ask.method.as_str(), parts.as_slice()) {
            ("GET", ["ca"]) => Ok(text(200, self.authority.ca_pem().to_owned())),
            ("GET", ["time"]) => write(&self.time()),
            ("POST", ["join"]) => write(&admit::join(self, read(&ask.body)?).await?),
            ("POST", ["renew"]) => write(&renew::renew(self, ask.who, read(&ask.body)?)?),
            ("GET", ["servers"]) => {
                let known = ask.who.in_group("system:authenticated");
                allow(known, ask)?;
                write(&self.servers())
            }
            ("DELETE", ["servers", name]) => {
                master(ask)?;
                self.membership.remove(name).await.map_err(status)?;
                write(&self.servers())
            }
            ("POST", ["servers", "transfer"]) => {
                master(ask)?;
                let to = (!ask.body.is_empty()).then(|| read::<Transfer>(&ask.body)).transpose()?;
                let to = to.map(|transfer| transfer.to).filter(|name| !name.is_empty());
                self.membership.transfer(to.as_deref()).await.map_err(status)?;
                write(&self.servers())
            }
            ("POST", ["servers", "update"]) => {
                let server: ServerInfo = read(&ask.body)?;
                let own =
                    ask.who.key.as_ref().is_some_and(|k| k.member_id().to_string() == server.id);
                allow(ask.who.in_group(SERVERS) && own, ask)?;
                self.membership.update(server).await.map_err(status)?;
                write(&self.servers())
            }
            ("POST", ["servers", "member"]) => {
                allow(ask.who.in_group(SERVERS), ask)?;
                // The leader answers, and only once it is certain that it still leads.
                self.api.inner.leadership.barrier(&self.api).await?;
                let id = ask.who.key.as_ref().map(|key| key.member_id().to_string());
                let member = self.membership.list().into_iter().any(|s| Some(s.id) == id);
                write(&MemberAnswer { member })
            }
            ("POST", ["servers", "nodeless"]) => {
                let name = ask.who.user.strip_prefix("system:server:").unwrap_or_default();
                let server = |key: &KeyHash| {
                    let id = key.member_id().to_string();
                    self.membership.list().iter().any(|s| s.name == name && s.id == id)
                };
                let key = ask.who.key.as_ref().filter(|key| server(key));
                allow(ask.who.in_group(SERVERS) && key.is_some(), ask)?;
                if let Some(key) = key {
                    without_node(&self.api, name, key, |_| false).await?;
                }
                write(&self.servers())
            }
            ("POST", ["servers", "leave"]) => {
                let name = ask.who.user.strip_prefix("system:server:").unwrap_or_default();
                allow(ask.who.in_group(SERVERS) && !name.is_empty(), ask)?;
                self.membership.remove(name).await.map_err(status)?;
                write(&self.servers())
            }
            ("POST", ["nodes", name, "revoke"]) => {
                master(ask)?;
                write(&revoke::revoke(self, name).await?)
            }
            (_, ["ca" | "time" | "join" | "renew" | "servers", ..]) => {
                Err(Status::method_not_allowed())
            }
            _ => Err(Status::no_such_path()),
        }
    }

    fn time(&self) -> TimeAnswer {
        TimeAnswer {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: self.secrets.id.clone(),
            time_ms: self.clock.now_ms(),
            state_bytes: self.api.store().state_bytes(),
        }
    }

    fn servers(&self) -> ServersAnswer {
        let servers = self.membership.list();
        let voters = servers.iter().filter(|server| server.voter).count();
        let led = servers.iter().any(|server| server.leader);
        let warning = match led {
            true => words::even_warning(voters).unwrap_or_default(),
            false => self.api.inner.leadership.trouble().unwrap_or_else(|| {
                "no server leads, as far as this one knows: a majority of them must be up and \
                 reach each other"
                    .to_owned()
            }),
        };
        ServersAnswer { warning, servers }
    }

    /// The bus's key for one use, in hex; empty without a bus.
    pub(super) fn derived(&self, label: &str) -> String {
        let key = self.derive.map(|derive| derive(&self.secrets.secret, label));
        key.as_ref().map(crate::pki::to_hex).unwrap_or_default()
    }
}

#[derive(serde::Deserialize)]
struct Transfer {
    #[serde(default)]
    to: String,
}

fn master(ask: &Ask<'_>) -> Result<(), Status> {
    allow(ask.who.in_group("system:masters"), ask)
}

fn allow(allowed: bool, ask: &Ask<'_>) -> Result<(), Status> {
    if allowed {
        return Ok(());
    }
    let verb = ask.method.as_str().to_lowercase();
    let path = format!("/edged/v1/{}", ask.path);
    let message = format!("forbidden: User {:?} cannot {verb} path {path:?}", ask.who.user);
    Err(Status::new(Reason::Forbidden, message))
}

/// What a membership's refusal is to a client.
pub(super) fn status(error: MembershipError) -> Status {
    let reason = match &error {
        MembershipError::Unknown(_) => Reason::NotFound,
        MembershipError::Busy(_) => Reason::ServiceUnavailable,
        MembershipError::Lone | MembershipError::Refused(_) => Reason::Conflict,
    };
    let mut status = Status::new(reason, error.to_string());
    if matches!(error, MembershipError::Busy(_)) {
        // Clients that keep Kubernetes' manners ask again by themselves.
        status.details = Some(Box::new(edge_api::status::Details {
            retry_after_seconds: Some(1),
            ..Default::default()
        }));
    }
    status
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Status> {
    serde_json::from_slice(body)
        .map_err(|error| Status::bad_request(format!("read the request's body: {error}")))
}

fn write(answer: &impl Serialize) -> Result<Reply, Status> {
    Ok(json(200, serde_json::to_vec(answer).map_err(Status::internal)?))
}
