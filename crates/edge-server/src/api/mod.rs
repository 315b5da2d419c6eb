//! The one pipeline every write goes through, whoever makes it: decode, default, prepare, admit,
//! validate, stamp, propose. Reads hand out the stored bytes. HTTP handlers and the leader's driver
//! call the same methods; only authentication and authorization are at the HTTP edge.

mod binding;
mod collection;
mod create;
mod delete;
mod events;
mod intake;
mod leases;
mod options;
mod patching;
mod read;
mod scale;
mod token;
mod update;
mod watch;
mod wire;

pub use delete::Deleted;
pub(crate) use delete::returns_object;
pub(crate) use intake::{parse, parse_json, parse_options, peek};
pub(crate) use options::dry_run;
pub use options::{
    At, DeleteOptions, FieldValidation, ListOptions, Propagation, WatchOptions, WriteOptions,
};
pub use patching::Patch;
pub use read::Page;
pub use watch::{WatchItem, Watching};
pub(crate) use wire::{MAX_OBJECT, read as read_object};

use crate::config::{Config, ConfigError, NodeSettings, Range};
use crate::driver::Beats;
use crate::lead::{LeaderLease, Leadership};
use crate::metrics::Metrics;
use crate::pki::Authority;
use bytes::Bytes;
use edge_api::kinds::Kind;
use edge_api::status::{Reason, Status};
use edge_api::{Object, keys, meta};
use edge_core::consensus::Term;
use edge_core::controllers::load_balancer::LanPool;
use edge_store::{Command, Expect, Op, ProposeError, Revision, Store};
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
pub(crate) use wire::Unstamped;

/// The API in this process.
#[derive(Clone)]
pub struct Api {
    pub(crate) inner: Arc<Inner>,
    /// The leadership that writes through this handle belong to: none of them is kept when it
    /// has ended, because what they were decided by may have changed since.
    term: Option<Term>,
}

/// What all handles to the API share.
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) services: Range,
    /// The cluster's authority, in PEM.
    pub(crate) root_ca: Arc<str>,
    /// The range that boards' pod addresses are parts of.
    pub(crate) pods: Range,
    pub(crate) metrics: Metrics,
    /// Who leads.
    pub(crate) leadership: Leadership,
    /// The leader's Lease, which is never logged.
    pub(crate) lease: LeaderLease,
    /// Held for reading while something is created in a namespace, and for writing while one ends,
    /// so that nothing slips into a namespace that is going.
    pub(crate) namespaces: Arc<tokio::sync::RwLock<()>>,
    /// Held while a Service's addresses and ports are chosen and written.
    pub(crate) allocation: Arc<tokio::sync::Mutex<()>>,
    /// This board's name.
    pub(crate) name: String,
    /// How the boards live.
    pub(crate) beats: Arc<Beats>,
    /// What is made of boards that fall silent.
    pub(crate) nodes: NodeSettings,
    /// Addresses of the LAN that Services may have.
    pub(crate) lan_pool: LanPool,
    /// When expired Events were last looked for, in milliseconds.
    pub(crate) swept: std::sync::atomic::AtomicI64,
    /// Whether nothing is written any more, because a backup takes this cluster's place. Whoever
    /// writes holds it for reading.
    frozen: tokio::sync::RwLock<bool>,
    /// Told once a backup is to become the cluster, for which the server starts again.
    pub(crate) restart: tokio::sync::Notify,
    random: SystemRandom,
}

impl Inner {
    /// Lets nothing more be written, once all that is being written has been, or lets it again.
    pub(crate) async fn freeze(&self, frozen: bool) {
        *self.frozen.write().await = frozen;
    }
}

/// The outcome of a create, update or patch.
#[derive(Debug)]
pub struct Written {
    /// The object as it is now.
    pub object: Object,
    /// The same as stored bytes.
    pub bytes: Bytes,
    /// What the caller should be told, such as unknown fields.
    pub warnings: Vec<String>,
}

/// Where an object is, and which part of it is meant.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The kind.
    pub kind: &'static Kind,
    /// The namespace; empty for cluster-wide kinds.
    pub namespace: &'a str,
    /// The name.
    pub name: &'a str,
    /// The subresource; empty for the object itself.
    pub sub: &'a str,
}

impl<'a> Place<'a> {
    /// The object itself.
    pub fn new(kind: &'static Kind, namespace: &'a str, name: &'a str) -> Place<'a> {
        Place { kind, namespace, name, sub: "" }
    }

    /// One of its subresources.
    pub fn subresource(self, sub: &'a str) -> Place<'a> {
        Place { sub, ..self }
    }

    pub(crate) fn key(&self) -> String {
        keys::key(self.kind, self.namespace, self.name)
    }

    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(self.kind, self.name)
    }
}

/// Why a write was not kept.
pub(crate) enum CommitError {
    /// Somebody else was first.
    Conflict,
    /// Anything else.
    Status(Status),
}

impl Api {
    /// The pipeline over an open store.
    pub(crate) fn new(
        store: Store,
        config: &Config,
        authority: &Authority,
    ) -> Result<Api, ConfigError> {
        let leadership = Leadership::new(&store);
        Ok(Api {
            term: None,
            inner: Arc::new(Inner {
                services: config.services()?,
                pods: config.pods()?,
                metrics: Metrics::default(),
                lease: LeaderLease::new(leadership.clone(), lease_uid(authority.ca_der())),
                root_ca: authority.ca_pem().into(),
                leadership,
                namespaces: Arc::default(),
                allocation: Arc::default(),
                name: config.name.clone(),
                beats: Arc::new(Beats::new(config.nodes.liveness)),
                nodes: config.nodes,
                lan_pool: config.cluster.lan_pool.clone(),
                swept: Default::default(),
                frozen: Default::default(),
                restart: Default::default(),
                random: SystemRandom::new(),
                store,
            }),
        })
    }

    /// The store behind the API, for its revision and its watches.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// How the boards live.
    pub fn beats(&self) -> &Arc<Beats> {
        &self.inner.beats
    }

    /// The same API, whose writes are kept only while this server leads in `term`.
    pub(crate) fn at(&self, term: Term) -> Api {
        Api { inner: self.inner.clone(), term: Some(term) }
    }

    /// 64 random bits.
    pub(crate) fn random(&self) -> u64 {
        u64::from_le_bytes(random_bytes(&self.inner.random))
    }

    /// A fresh uid.
    pub(crate) fn uid(&self) -> String {
        uuid(&self.inner.random)
    }

    /// Proposes an object, with whatever must be written together with it.
    pub(crate) async fn commit(
        &self,
        key: String,
        object: &Object,
        expect: Expect,
        mut also: Vec<Op>,
    ) -> Result<(Revision, Bytes), CommitError> {
        let written = Unstamped::write(object).map_err(CommitError::Status)?;
        let (value, at) = written.parts();
        also.insert(0, Op::Put { key, value, stamp: Some(at), expect });
        let revision = self.propose(also).await?;
        Ok((revision, written.at(revision)))
    }

    /// Proposes operations that are kept together or not at all.
    pub(crate) async fn propose(&self, ops: Vec<Op>) -> Result<Revision, CommitError> {
        let frozen = self.inner.frozen.read().await;
        if *frozen {
            let why = "a backup is being restored here: ask again soon";
            return Err(CommitError::Status(Status::unavailable(why)));
        }
        match self.inner.store.propose(Command { ops, term: self.term }).await {
            Ok(applied) => Ok(applied.revision),
            Err(ProposeError::Conflict { .. }) => Err(CommitError::Conflict),
            Err(error @ ProposeError::TooLarge { .. }) => {
                let mut status = Status::too_large(edge_store::VALUE_BYTES_MAX);
                status.message = format!("{}: {error}", status.message);
                Err(CommitError::Status(status))
            }
            Err(error @ ProposeError::Unknown) => {
                let status = Status::new(Reason::Timeout, error.to_string());
                Err(CommitError::Status(status))
            }
            Err(
                error @ (ProposeError::Closed
                | ProposeError::Full { .. }
                | ProposeError::Busy
                | ProposeError::NotLeader { .. }
                | ProposeError::StaleTerm { .. }),
            ) => Err(CommitError::Status(Status::unavailable(error.to_string()))),
            Err(error) => Err(CommitError::Status(Status::internal(error))),
        }
    }
}

/// The outcome of a write that was kept.
pub(crate) fn written(
    mut object: Object,
    revision: Revision,
    bytes: Bytes,
    warnings: Vec<String>,
) -> Written {
    meta::set(&mut object, "resourceVersion", revision.to_string());
    Written { object, bytes, warnings }
}

/// The outcome of a write that was only tried.
pub(crate) fn tried(object: Object, warnings: Vec<String>) -> Result<Written, Status> {
    let bytes = serde_json::to_vec(&object).map_err(Status::internal)?.into();
    Ok(Written { object, bytes, warnings })
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    crate::clock::wall_ms()
}

fn random_bytes<const N: usize>(random: &SystemRandom) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes).expect("invariant: the system's random source does not fail");
    bytes
}

fn uuid(random: &SystemRandom) -> String {
    let mut bytes: [u8; 16] = random_bytes(random);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    written_uuid(bytes)
}

fn written_uuid(mut bytes: [u8; 16]) -> String {
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Name and namespace of the leader's Lease.
pub(crate) const LEADER_LEASE: (&str, &str) = ("kube-system", "edged-leader");

/// Servers of one cluster agree on it without a word.
fn lease_uid(cluster: &[u8]) -> String {
    let text = [b"edged-leader ", cluster].concat();
    let digest = ring::digest::digest(&ring::digest::SHA256, &text);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    // Version 8: made by a rule of our own.
    bytes[6] = bytes[6] & 0x0f | 0x80;
    written_uuid(bytes)
}
