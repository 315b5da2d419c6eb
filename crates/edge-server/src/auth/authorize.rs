//! Who may do what. Administrators may do all; a board's agent may do what its own pods need; and
//! nobody else may do anything yet, which is said in Kubernetes' words.

use super::identity::{Identity, SERVERS};
use super::node;
use crate::api::Api;
use crate::http::Target;
use edge_api::status::Status;

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
