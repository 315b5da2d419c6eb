//! Servers that have moved: when none is where it was, the LAN is asked where this cluster's
//! servers are now. An answer counts once a server there has proven itself, as always.

use std::time::Duration;

use edge_client::Call;
use edge_server::join::{Finder, ServersAnswer};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::Live;

/// How often it is looked whether any server is where it was.
const LOOK: Duration = Duration::from_secs(10);
/// How long one may take to take a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Looks in vain before the LAN is asked: a restart is no move.
const MISSES: u32 = 2;

impl Live {
    /// Waits until the servers are found elsewhere than they were, and keeps where.
    pub(crate) async fn servers_moved(&self) {
        let (mut misses, mut finder) = (0, Finder::default());
        loop {
            sleep(LOOK).await;
            if self.reaches_any().await {
                misses = 0;
                continue;
            }
            misses += 1;
            if misses >= MISSES && self.found_elsewhere(&mut finder).await {
                return;
            }
        }
    }

    /// Whether a server takes connections where it was.
    async fn reaches_any(&self) -> bool {
        let places: Vec<String> = self.api().servers;
        for place in places {
            let address = place.trim_start_matches("https://").to_owned();
            if matches!(timeout(CONNECT, TcpStream::connect(address)).await, Ok(Ok(_))) {
                return true;
            }
        }
        false
    }

    async fn found_elsewhere(&self, finder: &mut Finder) -> bool {
        let found = finder.find(self.address()).await.unwrap_or_default();
        for url in found {
            let call = Call::get("/edged/v1/servers");
            match self.ask_at::<ServersAnswer>(vec![url.clone()], &call).await {
                Ok(answer) => match self.know(answer.servers) {
                    Ok(changed) => return changed,
                    Err(error) => tracing::warn!("keep the list of servers: {error}"),
                },
                Err(error) => {
                    // A board that was off for long may ask for another certificate, no more; the
                    // answer says where servers are.
                    let Err(refused) = self.renew_at(vec![url.clone()], true).await else {
                        return true;
                    };
                    tracing::debug!("{url} is not one of ours: {error}; {refused}");
                }
            }
        }
        false
    }
}
