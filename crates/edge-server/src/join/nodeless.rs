//! Servers that run no pods have no Node: nothing would ever be true of one. What a Node says of
//! other boards' keys stands in a ConfigMap for them, so that a key is known, can be revoked, and
//! gives way to the next of its name all the same.

use super::trust::{KEY_ANNOTATION, SERVER_KEYS};
use crate::api::{Api, DeleteOptions, Place, WriteOptions};
use crate::auth::Identity;
use crate::pki::KeyHash;
use edge_api::status::{Reason, Status};
use edge_api::{kinds, meta};
use serde_json::{Value, json};

/// Whether a server without pods is known as one already.
pub(crate) fn is_nodeless(api: &Api, name: &str, key: &KeyHash) -> Result<bool, Status> {
    let noted = noted(api, name)?;
    match api.object(Place::new(kinds::NODE, "", name)) {
        Err(status) if status.is_not_found() => Ok(noted.as_ref() == Some(key)),
        Err(status) => Err(status),
        Ok(_) => Ok(false),
    }
}

/// Makes a server known as one without pods: its key is noted, and the Node of its board goes, or
/// that of a board whose key was revoked.
///
/// # Errors
/// When the Node is another board's, or it can't be written.
pub(crate) async fn without_node(
    api: &Api,
    name: &str,
    key: &KeyHash,
    is_revoked: impl Fn(&KeyHash) -> bool,
) -> Result<(), Status> {
    let place = Place::new(kinds::NODE, "", name);
    let node = match api.object(place) {
        Ok(node) => Some(node),
        Err(status) if status.is_not_found() => None,
        Err(status) => return Err(status),
    };
    let owner = node.as_ref().and_then(|node| meta::annotation(node, KEY_ANNOTATION));
    if owner.and_then(KeyHash::parse).is_some_and(|owner| owner != *key && !is_revoked(&owner)) {
        let why = format!("the node {name:?} is another board's");
        return Err(Status::new(Reason::Conflict, why));
    }
    note(api, name, Some(key)).await?;
    if node.is_none() {
        return Ok(());
    }
    match api.delete(&who(), place, &DeleteOptions::default()).await {
        Err(status) if !status.is_not_found() => Err(status),
        _ => {
            tracing::info!("{name} runs no pods any more: it has no Node");
            Ok(())
        }
    }
}

/// Notes the key of a server without a Node; none of a board that has one, which says it itself.
pub(super) async fn note(api: &Api, name: &str, key: Option<&KeyHash>) -> Result<(), Status> {
    let place = Place::new(kinds::CONFIG_MAP, SERVER_KEYS.0, SERVER_KEYS.1);
    let options = WriteOptions::default();
    loop {
        let outcome = match api.object(place) {
            Ok(mut map) => {
                let wanted = key.map_or(Value::Null, |key| json!(key.as_str()));
                if map["data"][name] == wanted {
                    return Ok(());
                }
                if !map["data"].is_object() {
                    map["data"] = json!({});
                }
                match key {
                    Some(_) => map["data"][name] = wanted,
                    None => {
                        map["data"].as_object_mut().map(|data| data.remove(name));
                    }
                }
                api.update(&who(), place, map, &options).await
            }
            Err(status) if status.is_not_found() => {
                let Some(key) = key else { return Ok(()) };
                let map = json!({
                    "metadata": { "name": SERVER_KEYS.1, "namespace": SERVER_KEYS.0 },
                    "data": { name: key.as_str() },
                });
                api.create(&who(), kinds::CONFIG_MAP, SERVER_KEYS.0, map, &options).await
            }
            Err(status) => return Err(status),
        };
        match outcome {
            // Somebody else wrote it at the same moment.
            Err(status) if status.code == 409 => {}
            outcome => return outcome.map(|_| ()),
        }
    }
}

/// The key that is noted under a name.
pub(super) fn noted(api: &Api, name: &str) -> Result<Option<KeyHash>, Status> {
    match api.object(Place::new(kinds::CONFIG_MAP, SERVER_KEYS.0, SERVER_KEYS.1)) {
        Ok(map) => Ok(map["data"][name].as_str().and_then(KeyHash::parse)),
        Err(status) if status.is_not_found() => Ok(None),
        Err(status) => Err(status),
    }
}

fn who() -> Identity {
    Identity::system("edged-join")
}
