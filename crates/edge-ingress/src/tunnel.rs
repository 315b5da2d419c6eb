//! Connections that have changed their protocol (WebSocket): bytes are carried both ways until one
//! side ends, both are silent for too long, or the proxy ends.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::body::Progress;
use super::endpoint::Lease;
use super::limits::TUNNEL_SILENCE;
use super::patient::Patient;

/// Carries bytes once both sides have changed.
pub(super) fn open(
    client: OnUpgrade,
    endpoint: OnUpgrade,
    lease: Lease,
    permit: OwnedSemaphorePermit,
    mut stop: watch::Receiver<bool>,
) {
    tokio::spawn(async move {
        let _held = (lease, permit);
        let progress = Progress::new();
        let carried = async {
            let (client, endpoint) = match tokio::try_join!(client, endpoint) {
                Ok(both) => both,
                Err(error) => return tracing::debug!("change of protocols: {error}"),
            };
            let mut client = Patient::watched(TokioIo::new(client), progress.clone());
            let mut endpoint = Patient::watched(TokioIo::new(endpoint), progress.clone());
            if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut endpoint).await {
                tracing::trace!("tunnel to an endpoint: {error}");
            }
        };
        tokio::select! {
            () = carried => {}
            () = progress.silent(TUNNEL_SILENCE) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    });
}
