//! Which server leads, and what follows from it: writes go to the leader, reads wait until they
//! show every write that was acknowledged before them, and controllers run on the leader alone.

mod belong;
mod channel;
mod forward;
mod inlet;
mod introduce;
mod lease;
mod membership;
mod nodeless;
mod own;
mod peers;
mod reign;
mod roles;
mod snapshot;

use crate::api::Api;
use edge_api::status::{Reason, Status};
use edge_core::consensus::{MemberId, Standing, Term};
use edge_store::{BarrierError, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

pub use belong::Outside;
pub(crate) use belong::belong;
pub(crate) use channel::Channel;
pub(crate) use forward::{Passed, Turn, pass};
pub use inlet::Inlet;
pub(crate) use introduce::introduce;
pub(crate) use lease::LeaderLease;
pub(crate) use membership::Servers;
pub(crate) use nodeless::nodeless;
pub(crate) use own::Own;
pub use peers::Courier;
pub(crate) use peers::Links;
pub(crate) use reign::reign;
pub(crate) use roles::label;
pub(crate) use snapshot::hand_out;

/// How long an election may take before a server without a leader counts as left behind.
const ELECTION: Duration = Duration::from_secs(3);

/// Where writes are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Here, in this term.
    Here(Term),
    /// At another server.
    There {
        /// Its name.
        name: String,
        /// `host:port` of its API.
        address: String,
    },
    /// Here, as soon as what earlier leaders left has been applied.
    Rising,
    /// Nobody is known to lead.
    Nowhere,
}

/// Who leads, as this server knows it.
#[derive(Clone)]
pub(crate) struct Leadership {
    standing: watch::Receiver<Arc<Standing>>,
}

impl Leadership {
    /// Follows what the store says.
    pub(crate) fn new(store: &Store) -> Leadership {
        Leadership { standing: store.standing() }
    }

    /// What is known now.
    pub(crate) fn standing(&self) -> Arc<Standing> {
        self.standing.borrow().clone()
    }

    /// Tells when something changed.
    pub(crate) fn news(&self) -> watch::Receiver<Arc<Standing>> {
        self.standing.clone()
    }

    /// Where writes are made now.
    pub(crate) fn place(&self) -> Place {
        place(&self.standing.borrow())
    }

    /// Whether writes are made here.
    pub(crate) fn leads(&self) -> bool {
        matches!(self.place(), Place::Here(_))
    }

    /// Whether another server is known to lead.
    pub(crate) fn elsewhere(&self) -> bool {
        matches!(self.place(), Place::There { .. })
    }

    /// The leader's name, if one is known.
    pub(crate) fn leader(&self) -> Option<(MemberId, String)> {
        let standing = self.standing.borrow();
        let id = standing.leader?;
        let name = standing.members.info(id).map(|info| info.name.clone());
        Some((id, name.unwrap_or_else(|| format!("{id:016x}"))))
    }

    /// Why nobody leads, if that is this server's own doing.
    pub(crate) fn trouble(&self) -> Option<String> {
        let standing = self.standing.borrow();
        standing.trouble.as_ref().map(|why| format!("this server can't write: {why}"))
    }

    /// Why nobody leads, as far as this server knows.
    pub(crate) fn unled(&self) -> String {
        self.trouble().unwrap_or_else(|| "no server leads".to_owned())
    }

    /// What a client is told that asks a server which nobody leads.
    pub(crate) fn nobody(&self, what: &str) -> Status {
        let why = self.trouble().unwrap_or_else(|| {
            let again = "ask another server, or again soon";
            format!("no server leads, as far as this one knows: {again}")
        });
        Status::unavailable(format!("{what}: {why}"))
    }

    /// Whether a leader is known, waiting for an election that is going on.
    pub(crate) async fn led(&self) -> bool {
        let known = |standing: &Arc<Standing>| standing.leader.is_some();
        let mut news = self.standing.clone();
        matches!(timeout(ELECTION, news.wait_for(known)).await, Ok(Ok(_)))
    }

    /// Waits until no leader has been known for so long that this server may have been left
    /// behind: cut off, or taken out of its cluster. What it shows then stands still.
    pub(crate) async fn abandoned(&self) {
        let mut news = self.standing.clone();
        loop {
            if news.wait_for(|standing| standing.leader.is_none()).await.is_err() {
                return std::future::pending().await;
            }
            if !self.led().await {
                return;
            }
        }
    }

    /// Waits until this server shows every write that was acknowledged before the call.
    pub(crate) async fn barrier(&self, api: &Api) -> Result<(), Status> {
        match api.store().barrier().await {
            Ok(_) => Ok(()),
            Err(BarrierError::Closed) => {
                Err(Status::unavailable("read the latest state: this server is going down"))
            }
            Err(error) => {
                let why = match (error, self.trouble()) {
                    (BarrierError::NoLeader, Some(trouble)) => trouble,
                    _ => format!("{error}; ask again"),
                };
                let message = format!(
                    "read the latest state: {why}, or read what this server has with \
                     resourceVersion=0"
                );
                Err(Status::new(Reason::ServiceUnavailable, message))
            }
        }
    }
}

fn place(standing: &Standing) -> Place {
    match standing.leader {
        Some(id) if id == standing.me && standing.ready => Place::Here(standing.term),
        Some(id) if id == standing.me => Place::Rising,
        Some(id) => match standing.members.info(id) {
            Some(info) => Place::There {
                name: info.name.clone(),
                address: info.api.trim_start_matches("https://").to_owned(),
            },
            None => Place::Nowhere,
        },
        None => Place::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_whose_disk_failed_says_so_and_not_that_nobody_leads() {
        let detail = "syncing the log: Read-only file system (os error 30); check the disk";
        let standing = |trouble: Option<&str>| {
            let trouble = trouble.map(str::to_owned);
            let (_, standing) =
                watch::channel(Arc::new(Standing { trouble, ..Standing::default() }));
            Leadership { standing }
        };
        let told = standing(Some(detail)).nobody("watch");
        assert_eq!(told.reason, Reason::ServiceUnavailable);
        assert_eq!(told.message, format!("watch: this server can't write: {detail}"));
        assert_eq!(standing(Some(detail)).unled(), format!("this server can't write: {detail}"));
        assert!(standing(None).nobody("watch").message.contains("no server leads"));
    }
}
