//! The servers of the cluster, read and changed through the store that they share.

use super::Leadership;
use crate::join::{Changing, Membership, MembershipError, ServerInfo};
use edge_core::consensus::{Change, MemberId, MemberInfo, Members, Refusal};
use edge_store::{ChangeError, Store};
use std::time::Duration;
use tokio::time::timeout;

/// How long a change that is applied may take to be shown.
const SHOWN: Duration = Duration::from_secs(1);

/// The cluster's servers as the store has them.
pub(crate) struct Servers {
    store: Store,
    leadership: Leadership,
}

impl Servers {
    /// The servers that `store` is replicated to.
    pub(crate) fn new(store: Store) -> Servers {
        Servers { leadership: Leadership::new(&store), store }
    }

    fn find(&self, name: &str) -> Result<MemberId, MembershipError> {
        let standing = self.leadership.standing();
        let found = standing.members.by_name(name).map(|info| info.id);
        found.ok_or_else(|| MembershipError::Unknown(name.to_owned()))
    }

    async fn change(&self, change: Change) -> Result<(), MembershipError> {
        let mut news = self.leadership.news();
        match self.store.change(change.clone()).await {
            Ok(()) => {
                // It is applied; what is read of the membership next must show it.
                let shown = news.wait_for(|standing| shows(&standing.members, &change));
                let _ = timeout(SHOWN, shown).await;
                Ok(())
            }
            Err(ChangeError::Refused(Refusal::Nothing)) => Ok(()),
            Err(error) => Err(refused(&error)),
        }
    }
}

impl Membership for Servers {
    fn list(&self) -> Vec<ServerInfo> {
        let standing = self.leadership.standing();
        let server = |info: &MemberInfo| ServerInfo {
            id: info.id.to_string(),
            name: info.name.clone(),
            api: info.api.clone(),
            broker: info.broker.clone(),
            voter: standing.members.voters().contains(&info.id),
            leader: standing.leader == Some(info.id),
            away: standing.progress.get(&info.id).is_some_and(|peer| !peer.active),
        };
        standing.members.all().map(server).collect()
    }

    fn closed(&self) -> Option<MembershipError> {
        let standing = self.leadership.standing();
        let own = standing.members.info(standing.me)?;
        let local = own.api.contains("//127.") || own.api.contains("//[::1]");
        local.then(|| {
            MembershipError::Refused(format!(
                "the server {:?} is known as {} only, where no other board reaches it: start it \
                 with --node-ip ADDRESS",
                own.name, own.api
            ))
        })
    }

    fn add(&self, server: ServerInfo) -> Changing<'_> {
        Box::pin(async move {
            let info = read(server)?;
            let known = self.leadership.standing().members.contains(info.id);
            match known {
                true => self.change(Change::Update { info }).await,
                false => self.change(Change::Add { info, voter: true }).await,
            }
        })
    }

    fn update(&self, server: ServerInfo) -> Changing<'_> {
        Box::pin(async move { self.change(Change::Update { info: read(server)? }).await })
    }

    fn remove(&self, name: &str) -> Changing<'_> {
        let found = self.find(name);
        Box::pin(async move { self.change(Change::Remove { id: found? }).await })
    }

    fn transfer(&self, to: Option<&str>) -> Changing<'_> {
        let to = to.map(|name| self.find(name)).transpose();
        let leader = self.leadership.standing().leader;
        Box::pin(async move {
            let to = to?;
            if to.is_some() && to == leader {
                return Ok(());
            }
            self.store.transfer(to).await.map_err(|error| refused(&error))
        })
    }
}

fn shows(members: &Members, change: &Change) -> bool {
    match change {
        Change::Add { info, .. } | Change::Update { info } => members.info(info.id) == Some(info),
        Change::Remove { id } => !members.contains(*id),
        Change::Promote { id } => members.voters().contains(id),
    }
}

fn read(server: ServerInfo) -> Result<MemberInfo, MembershipError> {
    let id = server
        .id
        .parse()
        .map_err(|_| MembershipError::Refused(format!("{:?} is no server's id", server.id)))?;
    let info = MemberInfo { id, name: server.name, api: server.api, broker: server.broker };
    match info.valid() {
        true => Ok(info),
        false => Err(MembershipError::Refused("a server without a name, or too long".to_owned())),
    }
}

/// What is worth trying again, and what is not.
fn refused(error: &ChangeError) -> MembershipError {
    let words = error.to_string();
    match error {
        ChangeError::Refused(
            Refusal::NotLeader { .. }
            | Refusal::Busy
            | Refusal::Transferring
            | Refusal::ChangePending
            | Refusal::NotCaughtUp,
        )
        | ChangeError::Unknown
        | ChangeError::Closed => MembershipError::Busy(words),
        ChangeError::Refused(_) | ChangeError::Broken { .. } => MembershipError::Refused(words),
    }
}
