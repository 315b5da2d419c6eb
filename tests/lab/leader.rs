//! Who leads, as anybody may ask: the Lease that the leading board holds.

use std::time::Duration;

use edge_api::kinds;
use edge_client::Client;

use super::board::Board;
use super::cluster::Cluster;
use super::load::{clients, runtime};
use crate::board::command::until;

/// The name of the leader as this server has it; with it, how often it has changed.
pub(crate) async fn ask(client: &Client) -> Option<(String, u64)> {
    let lease = client.get(kinds::LEASE, "kube-system", "edged-leader");
    let lease = tokio::time::timeout(Duration::from_secs(1), lease).await.ok()?.ok()?;
    let holder = lease["spec"]["holderIdentity"].as_str().filter(|name| !name.is_empty())?;
    let changes = lease["spec"]["leaseTransitions"].as_u64().unwrap_or(0);
    Some((holder.to_owned(), changes))
}

impl Cluster {
    /// What each server says about the leader, in their order.
    pub(crate) fn opinions(&self) -> Vec<Option<(String, u64)>> {
        let clients = clients(self);
        self.person.within(|| {
            runtime().block_on(async {
                let asked: Vec<_> = clients
                    .into_iter()
                    .map(|client| tokio::spawn(async move { ask(&client).await }))
                    .collect();
                let mut answers = Vec::new();
                for one in asked {
                    answers.push(one.await.expect("an answer or none"));
                }
                answers
            })
        })
    }

    /// The board that leads, as most servers that answer see it; `None` when none answers.
    pub(crate) fn leader(&self) -> Option<&Board> {
        let opinions: Vec<String> =
            self.opinions().into_iter().flatten().map(|(name, _)| name).collect();
        let votes = |name: &str| opinions.iter().filter(|other| *other == name).count();
        let name = opinions.iter().max_by_key(|name| votes(name))?;
        self.boards.iter().find(|board| board.name == *name)
    }

    /// Waits until all servers name the same leader, and gives it.
    #[track_caller]
    pub(crate) fn wait_leader(&self) -> &Board {
        until("all servers name one leader", || {
            let opinions = self.opinions();
            let first = opinions.first().cloned().flatten().map(|(name, _)| name);
            let agreed = opinions
                .iter()
                .all(|opinion| opinion.as_ref().map(|(name, _)| name) == first.as_ref());
            let board = self.boards.iter().find(|board| Some(&board.name) == first.as_ref());
            board.filter(|_| agreed).ok_or_else(|| format!("{opinions:?}"))
        })
    }
}
