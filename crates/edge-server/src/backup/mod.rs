//! The whole cluster as one stream, and a cluster out of one: `/edged/v1/backup` and
//! `/edged/v1/restore/…`, for whoever may do everything. What is handed out holds the cluster's
//! keys. What is brought back is put aside and becomes the cluster when the server starts again,
//! before anything of the old one is opened. See `docs/adr/0036-backups.md`.

mod give;
mod install;
mod sum;
mod take;

pub use install::{InstallError, Installed, install, is_pending};

use crate::api::Api;
use crate::auth::{self, Identity};
use crate::config::{Config, ConfigError};
use crate::http::{Query, Reply};
use crate::pki::Authority;
use crate::server::Server;
use bytes::Bytes;
use edge_api::backup::Head;
use edge_api::status::Status;
use http::Method;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore};

/// Bytes of one piece of a backup that comes back.
const PIECE_BYTES: usize = 1 << 20;

/// What a request about backups is.
pub(crate) struct Ask<'a> {
    pub(crate) who: &'a Identity,
    pub(crate) method: &'a Method,
    /// Beneath `/edged/v1/`.
    pub(crate) path: &'a str,
    pub(crate) query: &'a Query,
}

/// Hands out and takes in.
pub(crate) struct Room {
    api: Api,
    authority: Arc<Authority>,
    data_dir: PathBuf,
    /// What every backup of this cluster says, but for what changes.
    head: Head,
    /// One at a time is handed out: each keeps what it reads from being cleaned up.
    giving: Arc<Semaphore>,
    /// One step at a time.
    taking: Mutex<()>,
}

impl Room {
    /// The room of this server.
    pub(crate) fn new(
        api: Api,
        authority: Arc<Authority>,
        config: &Config,
    ) -> Result<Room, ConfigError> {
        let head = Head {
            edged: env!("CARGO_PKG_VERSION").to_owned(),
            server: config.name.clone(),
            cluster_cidr: config.pods()?.to_string(),
            service_cidr: config.services()?.to_string(),
            cluster_domain: config.cluster_domain.clone(),
            ..Head::default()
        };
        Ok(Room {
            api,
            authority,
            data_dir: config.data_dir.clone(),
            head,
            giving: Arc::new(Semaphore::new(1)),
            taking: Mutex::default(),
        })
    }

    /// Whether a path beneath `/edged/v1/` is one of this room's.
    pub(crate) fn has(path: &str) -> bool {
        path == "backup" || path.starts_with("restore/")
    }

    /// Bytes that the body of a request may have.
    pub(crate) fn limit(path: &str) -> usize {
        if path == "restore/piece" { PIECE_BYTES } else { 0 }
    }

    /// Whether somebody may ask this: before the body is read.
    pub(crate) fn allow(&self, ask: &Ask<'_>) -> Result<(), Status> {
        let path = format!("/edged/v1/{}", ask.path);
        // A backup has the cluster's keys: whoever may merely look at all paths is not to have
        // them.
        auth::authorize_path(&self.api, ask.who, &Method::POST, &path)?;
        match (ask.method.as_str(), ask.path) {
            ("GET", "backup") | ("POST", "restore/begin" | "restore/piece" | "restore/end") => {
                Ok(())
            }
            (_, "backup" | "restore/begin" | "restore/piece" | "restore/end") => {
                Err(Status::method_not_allowed())
            }
            _ => Err(Status::no_such_path()),
        }
    }

    /// Answers what was allowed.
    pub(crate) async fn answer(&self, ask: &Ask<'_>, body: Bytes) -> Result<Reply, Status> {
        let flag = |name: &str| ask.query.get(name).is_some_and(|value| value == "true");
        match ask.path {
            "backup" => self.give().await,
            "restore/begin" => {
                self.begin(ask.query.get("bytes").and_then(|bytes| bytes.parse().ok())).await
            }
            "restore/piece" => {
                let at = ask.query.get("at").and_then(|at| at.parse().ok());
                let at = at.ok_or_else(|| Status::bad_request("at: want a number of bytes"))?;
                self.piece(at, &body).await
            }
            _ => self.end(flag("boardsLost")).await,
        }
    }
}

impl Server {
    /// Waits until a backup is to become this server's cluster: it has to start again for that.
    pub async fn restored(&self) {
        self.api().inner.restart.notified().await;
    }
}
