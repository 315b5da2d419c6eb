//! TCP probes: a container is well when it accepts a connection.

use std::time::Duration;

use edge_api::k8s::api::core::v1::TCPSocketAction;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Outcome, Target, authority, host, port};

pub(super) fn address(target: &Target<'_>, action: &TCPSocketAction) -> Result<String, String> {
    let host = host(target, action.host.as_deref())?;
    Ok(authority(&host, port(target, &action.port)?))
}

pub(super) async fn ask(address: &str, limit: Duration) -> Outcome {
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(error)) => {
            let words = super::http::plain(&error);
            Outcome::Failure(format!("dial tcp {address}: connect: {words}"))
        }
        Err(_) => Outcome::Failure(format!("dial tcp {address}: i/o timeout")),
    }
}
