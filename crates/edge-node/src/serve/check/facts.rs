//! What the board knows of itself that explains why something can't be reached.

use std::time::Duration;

use edge_api::status::Status;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::agent::{Board, now_ms};
use crate::serve::reply::{self, Reply};

/// Ports of the cluster on a board's address.
const PORTS: [u16; 3] = [6443, 8883, 10250];
/// How long the board's own port may take to accept.
const OWN: Duration = Duration::from_millis(500);

/// Tells it.
pub(super) async fn tell(board: &Board) -> Result<Reply, Status> {
    let look = board.net.look().await.map_err(Status::internal)?;
    let routes: Vec<Value> =
        look.routes.iter().map(|(to, via)| json!({ "to": to, "via": via })).collect();
    let mut listens = Vec::new();
    for port in PORTS {
        let opened = timeout(OWN, TcpStream::connect((board.ip, port))).await;
        if matches!(opened, Ok(Ok(_))) {
            listens.push(port);
        }
    }
    let resolver = board.resolv.read();
    let upstreams: Vec<&String> = resolver
        .nameservers
        .iter()
        .filter(|ip| board.dns.as_ref().is_none_or(|dns| **ip != dns.server))
        .collect();
    let dns = board.dns.as_ref().map(|dns| {
        json!({ "server": dns.server, "domain": dns.domain, "upstreams": upstreams,
                "port": board.resolv.port })
    });
    Ok(reply::json(
        200,
        &json!({
            "node": board.name, "address": board.ip, "nowMs": now_ms(),
            "mtu": look.mtu, "forwarding": look.forwarding, "routes": routes,
            "drops": look.droppers, "problem": board.network_problem(),
            "listens": listens, "dns": dns,
        }),
    ))
}
