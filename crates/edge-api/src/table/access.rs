//! Rows of roles and of their bindings.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, Table, age, list, name, or, text, wide};
use crate::{Object, meta};

const ROLE_COLUMNS: &[Column] = &[NAME, text("Created At", "When it was made.")];

/// The table of Roles and ClusterRoles.
pub(crate) const ROLE: Table = Table { columns: ROLE_COLUMNS, cells: role };

fn role(object: &Object, _: Timestamp) -> Vec<Value> {
    vec![name(object), json!(meta::creation_timestamp(object))]
}

const BINDING_COLUMNS: &[Column] = &[
    NAME,
    text("Role", "The role that it gives."),
    AGE,
    wide("Users", "The users who have it."),
    wide("Groups", "The groups that have it."),
    wide("ServiceAccounts", "The ServiceAccounts that have it."),
];

/// The table of RoleBindings and ClusterRoleBindings.
pub(crate) const ROLE_BINDING: Table = Table { columns: BINDING_COLUMNS, cells: binding };

fn binding(object: &Object, now: Timestamp) -> Vec<Value> {
    let role = &object["roleRef"];
    let of = |kind: &str| {
        let all = list(&object["subjects"]).iter().filter(|entry| entry["kind"] == kind);
        let names = all.map(|entry| match or(&entry["namespace"], "") {
            "" => or(&entry["name"], "").to_owned(),
            namespace => format!("{namespace}/{}", or(&entry["name"], "")),
        });
        json!(names.collect::<Vec<_>>().join(", "))
    };
    vec![
        name(object),
        json!(format!("{}/{}", or(&role["kind"], ""), or(&role["name"], ""))),
        age(object, now),
        of("User"),
        of("Group"),
        of("ServiceAccount"),
    ]
}
