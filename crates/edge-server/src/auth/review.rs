//! Reviews of permissions: what would be answered if somebody asked. `kubectl auth can-i`, and
//! programs that ask the API whether their own callers may.

use super::identity::Identity;
use super::{Ask, node, rbac};
use crate::api::Api;
use crate::http::Target;
use edge_api::Object;
use edge_api::kinds;
use edge_api::status::Status;
use edge_core::rbac::What;
use serde_json::{Value, json};

/// The status of an access review or a rules review by `who`.
pub(crate) fn review(
    api: &Api,
    who: &Identity,
    target: &Target,
    review: &Object,
) -> Result<Value, Status> {
    let kind = target.kind;
    if kind == kinds::SELF_SUBJECT_RULES_REVIEW {
        return show_rules(api, who, &review["spec"]);
    }
    let local = kind == kinds::LOCAL_SUBJECT_ACCESS_REVIEW;
    if local && review["spec"]["resourceAttributes"]["namespace"] != *target.namespace {
        let why = "spec.resourceAttributes.namespace must match the namespace of the path";
        return Err(Status::bad_request(why));
    }
    let spec = &review["spec"];
    let of = match kind == kinds::SELF_SUBJECT_ACCESS_REVIEW {
        true => None,
        false => Some(other(spec)?),
    };
    let allowed = decide(api, of.as_ref().unwrap_or(who), &what(spec)?);
    Ok(json!({ "allowed": allowed }))
}

/// Whom a review is about.
fn other(spec: &Value) -> Result<Identity, Status> {
    let list = spec["groups"].as_array().into_iter().flatten();
    let groups: Vec<String> = list.filter_map(|g| g.as_str().map(str::to_owned)).collect();
    let user = spec["user"].as_str().unwrap_or_default();
    if user.is_empty() && groups.is_empty() {
        return Err(Status::bad_request("spec.user: at least one of user or group is required"));
    }
    let uid = spec["uid"].as_str().unwrap_or_default().to_owned();
    Ok(Identity::account(user.to_owned(), groups, uid, Default::default()))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn what(spec: &Value) -> Result<What<'_>, Status> {
    let (of, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    match (of.is_object(), path.is_object()) {
        (true, false) => Ok(What::Resource {
            verb: text(of, "verb"),
            group: text(of, "group"),
            resource: text(of, "resource"),
            sub: text(of, "subresource"),
            namespace: text(of, "namespace"),
            name: text(of, "name"),
        }),
        (false, true) => Ok(What::Path { verb: text(path, "verb"), path: text(path, "path") }),
        _ => Err(Status::bad_request(
            "spec: exactly one of resourceAttributes and nonResourceAttributes must be specified",
        )),
    }
}

fn decide(api: &Api, who: &Identity, what: &What<'_>) -> bool {
    rbac::allows(api, who, what) || who.node().is_some_and(|board| as_node(api, board, what))
}

/// What a board's agent may do, it may by no role.
fn as_node(api: &Api, board: &str, what: &What<'_>) -> bool {
    const VERBS: [&str; 8] =
        ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let What::Resource { verb, group, resource, sub, namespace, name } = what else {
        return false;
    };
    let kind = kinds::by_resource(group, resource);
    let verb = VERBS.into_iter().find(|known| known == verb);
    let (Some(kind), Some(verb)) = (kind, verb) else { return false };
    let target = Target {
        kind,
        namespace: (*namespace).to_owned(),
        name: (*name).to_owned(),
        sub: (*sub).to_owned(),
        rest: String::new(),
    };
    node::allows(api, board, &Ask { verb, target: &target, fields: None }).is_ok()
}

/// `SelfSubjectRulesReview`
fn show_rules(api: &Api, who: &Identity, spec: &Value) -> Result<Value, Status> {
    let namespace = text(spec, "namespace");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (resources, paths): (Vec<_>, Vec<_>) =
        rbac::rules(api, who, namespace).into_iter().partition(|rule| rule.names_resources());
    let show =
        |rules: Vec<edge_core::rbac::Rule>| rules.iter().map(|r| r.show()).collect::<Value>();
    Ok(json!({
        "resourceRules": show(resources),
        "nonResourceRules": show(paths),
        "incomplete": who.node().is_some(),
    }))
}
