//! The rows of access control: roles, and who has them.

use super::Kind;
use super::rows::PLAIN;
use super::rules::{self, Rules};
use crate::{defaults, names, table, validate};

const GROUP: &str = "rbac.authorization.k8s.io";

const ROLES: Rules = Rules { name: names::path_segment, validate: validate::role, ..rules::PLAIN };
const BINDINGS: Rules = Rules {
    name: names::path_segment,
    default: defaults::role_binding,
    validate: validate::role_binding,
    ..rules::PLAIN
};

/// `ClusterRole`
pub static CLUSTER_ROLE: &Kind = &Kind {
    group: GROUP,
    kind: "ClusterRole",
    schema: "rbac.v1.ClusterRole",
    list_kind: "ClusterRoleList",
    plural: "clusterroles",
    singular: "clusterrole",
    namespaced: false,
    rules: Rules { validate: validate::cluster_role, ..ROLES },
    table: table::ROLE,
    ..PLAIN
};

/// `ClusterRoleBinding`
pub static CLUSTER_ROLE_BINDING: &Kind = &Kind {
    group: GROUP,
    kind: "ClusterRoleBinding",
    schema: "rbac.v1.ClusterRoleBinding",
    list_kind: "ClusterRoleBindingList",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    namespaced: false,
    rules: Rules { validate: validate::cluster_role_binding, ..BINDINGS },
    table: table::ROLE_BINDING,
    ..PLAIN
};

/// `RoleBinding`
pub static ROLE_BINDING: &Kind = &Kind {
    group: GROUP,
    kind: "RoleBinding",
    schema: "rbac.v1.RoleBinding",
    list_kind: "RoleBindingList",
    plural: "rolebindings",
    singular: "rolebinding",
    rules: BINDINGS,
    table: table::ROLE_BINDING,
    ..PLAIN
};

/// `Role`
pub static ROLE: &Kind = &Kind {
    group: GROUP,
    kind: "Role",
    schema: "rbac.v1.Role",
    list_kind: "RoleList",
    plural: "roles",
    singular: "role",
    rules: ROLES,
    table: table::ROLE,
    ..PLAIN
};
