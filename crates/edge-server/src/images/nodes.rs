//! What the Nodes say of themselves: where an agent is reached, and which board takes a push.

use crate::api::{Api, ListOptions, Place};
use edge_api::status::{Reason, Status};
use edge_api::{Object, kinds};
use edge_core::liveness::Standing;
use std::net::IpAddr;

/// Address and port of a board's agent, if it has told them.
pub(super) fn reach(api: &Api, node: &str, default_port: u16) -> Option<(IpAddr, u16)> {
    let object = api.object(Place::new(kinds::NODE, "", node)).ok()?;
    let status = &object["status"];
    let mut addresses = status["addresses"].as_array()?.iter();
    let internal = addresses.find(|address| address["type"] == "InternalIP")?;
    let address = internal["address"].as_str()?.parse().ok()?;
    let told = status["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = told.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    Some((address, port.unwrap_or(default_port)))
}

/// The board that a push goes to: this server's own if it runs an agent, else, of those that are
/// ready, the one with the most free disk as its beats have it.
pub(super) fn target(api: &Api) -> Result<String, Status> {
    let page = api.list(kinds::NODE, "", &ListOptions::default())?;
    let nodes: Vec<Object> = page
        .entries
        .iter()
        .filter_map(|entry| serde_json::from_slice(&entry.value).ok())
        .filter(ready)
        .collect();
    let name = |node: &Object| edge_api::meta::name(node).to_owned();
    let free = |name: &str| {
        let beat = api.beats().of(name).filter(|it| it.standing == Standing::Alive)?.beat?;
        Some(beat.usage.disk.saturating_sub(beat.usage.disk_used))
    };
    let own = nodes.iter().map(name).find(|name| *name == api.inner.name);
    let best = nodes.iter().map(name).max_by_key(|name| free(name).unwrap_or(0));
    own.or(best).ok_or_else(|| {
        let message = "no board is ready to take an image: see `edgectl get nodes`";
        Status::new(Reason::ServiceUnavailable, message)
    })
}

fn ready(node: &Object) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}
