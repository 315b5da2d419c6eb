//! Taking a board's key out of trust, for good: it is put on the list that every server follows.

use super::desk::Desk;
use super::nodeless::noted;
use super::trust::{KEY_ANNOTATION, REVOKED};
use crate::api::{Place, WriteOptions};
use crate::auth::Identity;
use crate::pki::KeyHash;
use edge_api::status::{Reason, Status};
use edge_api::{Object, kinds, meta};
use edge_core::podnet::tunnel;
use serde_json::json;

/// `POST /edged/v1/nodes/<name>/revoke`; gives the key that is revoked now.
pub(super) async fn revoke(desk: &Desk, name: &str) -> Result<Object, Status> {
    let key = match (desk.api.object(Place::new(kinds::NODE, "", name)), noted(&desk.api, name)?) {
        (Ok(node), _) => meta::annotation(&node, KEY_ANNOTATION).and_then(KeyHash::parse),
        (Err(status), Some(key)) if status.is_not_found() => Some(key),
        (Err(status), _) => return Err(status),
    };
    let Some(key) = key else {
        let why = format!("node {name:?} has no key of its own: it never joined with a token");
        return Err(Status::new(Reason::Conflict, why));
    };
    let id = key.member_id().to_string();
    if key == desk.own_key || desk.membership.list().into_iter().any(|server| server.id == id) {
        // The others would go on asking it for its vote and sending it all that is stored.
        let why = format!(
            "{name} is one of the cluster's servers: take it out with `edgectl server remove \
             {name}` first, then revoke it"
        );
        return Err(Status::new(Reason::Conflict, why));
    }
    let who = Identity::system("edged-join");
    let options = WriteOptions::default();
    let place = Place::new(kinds::CONFIG_MAP, REVOKED.0, REVOKED.1);
    loop {
        let outcome = match desk.api.object(place) {
            Ok(mut map) => {
                map["data"][key.as_str()] = json!(name);
                desk.api.update(&who, place, map, &options).await
            }
            Err(status) if status.is_not_found() => {
                let map = json!({
                    "metadata": { "name": REVOKED.1, "namespace": REVOKED.0 },
                    "data": { key.as_str(): name },
                });
                desk.api.create(&who, kinds::CONFIG_MAP, REVOKED.0, map, &options).await
            }
            Err(status) => return Err(status),
        };
        match outcome {
            Ok(_) => break,
            // Somebody else revoked a key at the same moment.
            Err(status) if status.code == 409 => {}
            Err(status) => return Err(status),
        }
    }
    end_tunnels(desk, &who, name).await?;
    tracing::info!("revoked the key of {name}");
    Ok(json!({ "name": name, "key": key.as_str() }))
}

/// Takes the board's key for tunnels off its Node, which ends everybody's tunnel to it: it can't
/// say that key again.
async fn end_tunnels(desk: &Desk, who: &Identity, name: &str) -> Result<(), Status> {
    let place = Place::new(kinds::NODE, "", name);
    loop {
        let mut node = match desk.api.object(place) {
            Err(status) if status.is_not_found() => return Ok(()),
            node => node?,
        };
        let said = node["metadata"]["annotations"].as_object_mut();
        if said.and_then(|said| said.remove(tunnel::KEY_ANNOTATION)).is_none() {
            return Ok(());
        }
        match desk.api.update(who, place, node, &WriteOptions::default()).await {
            Err(status) if status.code == 409 => {}
            outcome => return outcome.map(|_| ()),
        }
    }
}
