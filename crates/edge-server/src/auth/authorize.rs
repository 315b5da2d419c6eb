//! Who may do what. Administrators may do all; a board's agent may do what its own pods need; and
//! everybody may do what a role allows them. What is refused is said in Kubernetes' words.

use super::identity::{Identity, SERVERS};
use super::{node, rbac};
use crate::api::Api;
use crate::http::Target;
use edge_api::status::{Reason, Status};
use edge_core::rbac::What;

/// What somebody asks to do.
pub(crate) struct Ask<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`
    pub(crate) verb: &'static str,
    /// With what.
    pub(crate) target: &'a Target,
    /// The field selector of a list or watch.
    pub(crate) fields: Option<&'a str>,
}

/// Whether somebody sees of a kind's objects only what a policy goes by.
pub(crate) fn sees_outlines(who: &Identity, target: &Target, fields: Option<&str>) -> bool {
    if who.in_group("system:masters") || who.in_group(SERVERS) {
        return false;
    }
    who.node().is_some_and(|board| node::sees_outlines(board, target.kind, fields))
}

/// Answers whether `who` may do what is asked.
pub(crate) fn authorize(api: &Api, who: &Identity, ask: &Ask<'_>) -> Result<(), Status> {
    // A server holds the cluster's keys and state: there is nothing to keep from it.
    if who.in_group("system:masters") || who.in_group(SERVERS) {
        return Ok(());
    }
    let why = match who.node() {
        Some(board) => match node::allows(api, board, ask) {
            Ok(()) => return Ok(()),
            Err(why) => format!(": {why}"),
        },
        None => String::new(),
    };
    let target = ask.target;
    let what = What::Resource {
        verb: ask.verb,
        group: target.kind.group,
        resource: target.kind.plural,
        sub: &target.sub,
        namespace: &target.namespace,
        name: &target.name,
    };
    if rbac::allows(api, who, &what) {
        return Ok(());
    }
    let sub = if target.sub.is_empty() { String::new() } else { format!("/{}", target.sub) };
    let resource = format!("{}{sub}", target.kind.plural);
    let scope = if target.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", target.namespace)
    };
    Err(Status::forbidden(
        target.kind,
        &target.name,
        &format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?} {scope}{why}",
            who.user, ask.verb, target.kind.group
        ),
    ))
}

/// Answers whether `who` may ask for a path that is no resource.
pub(crate) fn authorize_path(
    api: &Api,
    who: &Identity,
    method: &http::Method,
    path: &str,
) -> Result<(), Status> {
    let verb = method.as_str().to_ascii_lowercase();
    let verb = if verb == "head" { "get" } else { &verb };
    if who.in_group(SERVERS) || rbac::allows(api, who, &What::Path { verb, path }) {
        return Ok(());
    }
    let message = format!("forbidden: User {:?} cannot {verb} path {path:?}", who.user);
    Err(Status::new(Reason::Forbidden, message))
}
