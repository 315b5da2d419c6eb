//! Letting a board in: its token is looked at, its name is made its own, and it gets certificates
//! for the key that it has proven. Each step can be done again by the same key, so a board that was
//! cut off anywhere joins by asking once more.

use super::desk::{Desk, status};
use super::names;
use super::nodeless::{note, without_node};
use super::token::{Remembered, Role, TOKEN_NAMESPACE, Token};
use super::trust::KEY_ANNOTATION;
use super::words::{self, JoinAnswer, JoinRequest, PROTOCOL, ServerInfo};
use crate::api::{ListOptions, Place, WriteOptions, read_object};
use crate::auth::{Identity, SERVERS};
use crate::pki::{KeyHash, PublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edge_api::status::{Reason, Status};
use edge_api::{Object, kinds, meta, time};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Addresses that a board may name.
const ADDRESSES: usize = 32;

fn refuse(why: impl Into<String>) -> Status {
    Status::new(Reason::Forbidden, why)
}

/// `POST /edged/v1/join`
pub(super) async fn join(desk: &Desk, request: JoinRequest) -> Result<JoinAnswer, Status> {
    if let Some(why) = words::differs("server", request.protocol, &request.version) {
        return Err(Status::bad_request(format!("the board's {why}")));
    }
    let role = Role::parse(&request.role)
        .ok_or_else(|| Status::bad_request(format!("{:?} is no role", request.role)))?;
    let token = Token::parse(&request.token).map_err(|e| refuse(e.to_string()))?;
    let _one_at_a_time = desk.joining.lock().await;
    let remembered = known(desk, &token, role)?;
    let key = PublicKey::proven(&request.csr).map_err(Status::bad_request)?;
    let hash = key.hash();
    usable(&remembered, &hash, &request.name, desk.clock.now_ms())?;
    if desk.trust.borrow().is_revoked(&hash) {
        return Err(refuse(
            "this board's key was revoked: remove its data directory to join with a new one",
        ));
    }
    if let Some(why) = names::unusable(&request.name) {
        return Err(Status::bad_request(why));
    }
    let node = name_is_free(desk, &request.name, &hash)?;
    if let (Role::Server, Some(error)) = (role, desk.membership.closed()) {
        return Err(status(error));
    }
    // From here on something changes; the token first, so that it serves one key only.
    consume(desk, &token, &remembered, &hash, &request.name).await?;
    let pod_cidr = match role == Role::Agent || request.pods {
        true => claim(desk, &request.name, &hash, node).await?,
        false => {
            let is_revoked = |owner: &KeyHash| desk.trust.borrow().is_revoked(owner);
            without_node(&desk.api, &request.name, &hash, is_revoked).await?;
            String::new()
        }
    };
    if role == Role::Server {
        let server = ServerInfo {
            id: hash.member_id().to_string(),
            name: request.name.clone(),
            api: request.api.clone(),
            // Nothing listens there when the cluster has brokers of the user's.
            broker: match desk.config.cluster.brokers.is_empty() {
                true => request.broker.clone(),
                false => String::new(),
            },
            ..ServerInfo::default()
        };
        desk.membership.add(server).await.map_err(status)?;
    }
    tracing::info!("{} joined as {role} with the token {}", request.name, token.id);
    answer(desk, &request, role, &key, pod_cidr)
}

/// The token as it is remembered, if its secret is right and it is for this role.
fn known(desk: &Desk, token: &Token, role: Role) -> Result<Remembered, Status> {
    let id = &token.id;
    let name = token.secret_name();
    let place = Place::new(kinds::SECRET, TOKEN_NAMESPACE, &name);
    let found = match desk.api.object(place) {
        Ok(secret) => Remembered::read(&secret),
        Err(status) if status.is_not_found() => None,
        Err(status) => return Err(status),
    };
    let Some(found) = found else {
        return Err(refuse(format!(
            "the joining token {id} is not known to this cluster: it was deleted or has expired; \
             make another with `edged token create`"
        )));
    };
    // Hashes of random secrets: how long the comparison takes tells nothing of use.
    if found.hash != token.hash() {
        return Err(refuse(format!(
            "the joining token {id} has another secret: copy the whole line that `edged token \
             create` printed"
        )));
    }
    if found.role != role {
        return Err(refuse(format!(
            "the joining token {id} is for joining as {}, not as {role}: make one with `edged \
             token create --{role}`",
            found.role
        )));
    }
    Ok(found)
}

/// Whether the token still serves this key: whoever has used it may ask again for as long as it
/// lives, as the board that it was let in as.
fn usable(token: &Remembered, key: &KeyHash, name: &str, now_ms: i64) -> Result<(), Status> {
    let another = "make another with `edged token create`";
    let id = &token.id;
    if let Some(by) = token.used_by.as_deref().filter(|by| *by != key.as_str()) {
        let board = token.board.as_deref().unwrap_or(by);
        return Err(refuse(format!("the joining token {id} was used by {board}: {another}")));
    }
    if now_ms >= token.expires_ms {
        let when = time::format(token.expires_ms);
        return Err(refuse(format!("the joining token {id} expired at {when}: {another}")));
    }
    match token.board.as_deref() {
        Some(board) if board != name => Err(refuse(format!(
            "the joining token {id} let this board in as {board}: give it that name with --name, \
             or {another}"
        ))),
        _ => Ok(()),
    }
}

/// The Node of this name, if there is one that the key may have.
fn name_is_free(desk: &Desk, name: &str, key: &KeyHash) -> Result<Option<Object>, Status> {
    // A server without an agent has its name and no Node.
    let id = key.member_id().to_string();
    if desk.membership.list().iter().any(|server| server.name == name && server.id != id) {
        let why = format!("the name {name:?} is a server's: give this board another with --name");
        return Err(Status::new(Reason::Conflict, why));
    }
    let node = match desk.api.object(Place::new(kinds::NODE, "", name)) {
        Ok(node) => node,
        Err(status) if status.is_not_found() => return Ok(None),
        Err(status) => return Err(status),
    };
    let owner = meta::annotation(&node, KEY_ANNOTATION).and_then(KeyHash::parse);
    match owner {
        Some(owner) if owner != *key && !desk.trust.borrow().is_revoked(&owner) => {
            Err(Status::new(
                Reason::Conflict,
                format!(
                    "the name {name:?} is taken by another board: give this one another with \
                     --name, or first run `edgectl node revoke {name}` or `edgectl delete node \
                     {name}`"
                ),
            ))
        }
        _ => Ok(Some(node)),
    }
}

/// Makes the token serve this key only. Nobody else can have it after this: the write holds only if
/// the Secret is as it was read.
async fn consume(
    desk: &Desk,
    token: &Token,
    remembered: &Remembered,
    key: &KeyHash,
    board: &str,
) -> Result<(), Status> {
    if remembered.used_by.is_some() {
        return Ok(());
    }
    let name = token.secret_name();
    let place = Place::new(kinds::SECRET, TOKEN_NAMESPACE, &name);
    let mut secret = desk.api.object(place)?;
    if Remembered::read(&secret).as_ref() != Some(remembered) {
        return Err(Status::modified(kinds::SECRET, &name));
    }
    for (entry, text) in [("used-by", key.as_str()), ("board", board)] {
        secret["data"][entry] = json!(STANDARD.encode(text));
    }
    let options = WriteOptions::default();
    desk.api.update(&Identity::system("edged-join"), place, secret, &options).await.map(|_| ())
}

/// Makes the Node this key's; gives the board's part of the pods' addresses.
async fn claim(
    desk: &Desk,
    name: &str,
    key: &KeyHash,
    node: Option<Object>,
) -> Result<String, Status> {
    let who = Identity::system("edged-join");
    let options = WriteOptions::default();
    note(&desk.api, name, None).await?;
    let has = |node: &Object| {
        let part = node["spec"]["podCIDR"].as_str().unwrap_or_default();
        (!part.is_empty()).then(|| part.to_owned())
    };
    let part = match node.as_ref().and_then(has) {
        Some(part) => part,
        None => free_part(desk)?,
    };
    match node {
        None => {
            let node = json!({
                "metadata": { "name": name, "annotations": { KEY_ANNOTATION: key.as_str() } },
                "spec": { "podCIDR": part, "podCIDRs": [part] },
            });
            desk.api.create(&who, kinds::NODE, "", node, &options).await?;
        }
        Some(mut node) => {
            meta::set_annotation(&mut node, KEY_ANNOTATION, key.as_str());
            node["spec"]["podCIDR"] = json!(part);
            node["spec"]["podCIDRs"] = json!([part]);
            desk.api.update(&who, Place::new(kinds::NODE, "", name), node, &options).await?;
        }
    }
    Ok(part)
}

fn free_part(desk: &Desk) -> Result<String, Status> {
    let nodes = desk.api.list(kinds::NODE, "", &ListOptions::default())?;
    let mut taken = BTreeSet::new();
    for entry in nodes.entries {
        let node = read_object(&entry.value)?;
        taken.extend(node["spec"]["podCIDR"].as_str().map(str::to_owned));
    }
    let cluster = &desk.config.cluster_cidr;
    names::free_part(cluster, &taken).ok_or_else(|| {
        Status::new(
            Reason::Conflict,
            format!("no addresses are left for another board's pods in --cluster-cidr {cluster}"),
        )
    })
}

fn answer(
    desk: &Desk,
    request: &JoinRequest,
    role: Role,
    key: &PublicKey,
    pod_cidr: String,
) -> Result<JoinAnswer, Status> {
    let name = &request.name;
    let now = desk.clock.now_secs();
    let own = BTreeSet::from([name.clone()]);
    let issue = |user: &str, group: &str, names: &BTreeSet<String>| {
        desk.authority.board(key, user, group, names, now).map_err(Status::internal)
    };
    let (mut server_cert, mut ca_key, mut secret) = Default::default();
    if role == Role::Server {
        let mut names = own.clone();
        let addresses = request.addresses.iter().take(ADDRESSES);
        names.extend(addresses.filter_map(|a| a.parse::<IpAddr>().ok()).map(|ip| ip.to_string()));
        server_cert = issue(&format!("system:server:{name}"), SERVERS, &names)?;
        ca_key = desk.authority.key_pem();
        secret = crate::pki::to_hex(&desk.secrets.secret);
    }
    let servers = desk.membership.list();
    let voters = servers.len();
    Ok(JoinAnswer {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: desk.secrets.id.clone(),
        name: name.clone(),
        node_cert: issue(&format!("system:node:{name}"), "system:nodes", &own)?,
        server_cert,
        ca: desk.authority.ca_pem().to_owned(),
        ca_key,
        secret,
        beat_key: desk.derived(&format!("beat/{name}")),
        leader_key: desk.derived("leader"),
        cluster_cidr: desk.config.cluster_cidr.clone(),
        service_cidr: desk.config.service_cidr.clone(),
        cluster_domain: desk.config.cluster_domain.clone(),
        pod_cidr,
        warnings: match role {
            Role::Server => words::even_warning(voters).into_iter().collect(),
            Role::Agent => Vec::new(),
        },
        servers,
        brokers: desk.config.cluster.brokers.clone(),
        time_ms: desk.clock.now_ms(),
    })
}
