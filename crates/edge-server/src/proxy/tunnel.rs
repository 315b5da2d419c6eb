//! Upgraded connections: bytes are carried both ways until one side ends or the server does.
//! Whether they are WebSocket or SPDY frames is between the client and the agent.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// Carries bytes between two connections once both have been upgraded.
pub(super) fn open(
    client: OnUpgrade,
    agent: OnUpgrade,
    permit: OwnedSemaphorePermit,
    mut stop: watch::Receiver<bool>,
) {
    tokio::spawn(async move {
        let _permit = permit;
        let carried = async {
            let (client, agent) = match tokio::try_join!(client, agent) {
                Ok(both) => both,
                Err(error) => return tracing::debug!("upgrade of a tunnel: {error}"),
            };
            let (mut client, mut agent) = (TokioIo::new(client), TokioIo::new(agent));
            if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut agent).await {
                tracing::debug!("tunnel to an agent: {error}");
            }
        };
        tokio::select! {
            () = carried => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    });
}
