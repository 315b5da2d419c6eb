//! The registry: every kind of object is one row, and discovery, paths, keys, selectors, checks
//! and tables all come from it. A new kind is a new row, not a new set of handlers.

use serde_json::Value;

use crate::table::Table;
use crate::{Object, keys};

mod access;
mod reviews;
mod rows;
mod rules;

pub use rows::{
    CONFIG_MAP, DEPLOYMENT, ENDPOINT_SLICE, ENDPOINTS, EVENT, INGRESS, INGRESS_CLASS, LEASE,
    NAMESPACE, NETWORK_POLICY, NODE, POD, REPLICA_SET, SECRET, SERVICE, SERVICE_ACCOUNT,
};

pub use access::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING};
pub use reviews::{
    LOCAL_SUBJECT_ACCESS_REVIEW, SELF_SUBJECT_ACCESS_REVIEW, SELF_SUBJECT_REVIEW,
    SELF_SUBJECT_RULES_REVIEW, SUBJECT_ACCESS_REVIEW, TOKEN_REQUEST, TOKEN_REVIEW, review, reviews,
    served,
};
pub use rules::{Decoded, Rules, Strictness, decode_type};

/// One kind of object.
#[derive(Debug)]
pub struct Kind {
    /// `apps`; empty for the core group
    pub group: &'static str,
    /// `v1`
    pub version: &'static str,
    /// `Deployment`
    pub kind: &'static str,
    /// `DeploymentList`
    pub list_kind: &'static str,
    /// `deployments`
    pub plural: &'static str,
    /// `deployment`
    pub singular: &'static str,
    /// `deploy`
    pub short_names: &'static [&'static str],
    /// `all`
    pub categories: &'static [&'static str],
    /// whether objects live in a namespace
    pub namespaced: bool,
    /// `status`, `scale`, `log`, …
    pub subresources: &'static [Subresource],
    /// whether `metadata.generation` counts changes of the spec
    pub counts_generation: bool,
    /// the type in the schema's table: `apps.v1.Deployment`
    pub schema: &'static str,
    /// fields that a field selector may name, besides `metadata.name` and `metadata.namespace`
    pub selectable: &'static [&'static str],
    /// the functions of this row
    pub rules: Rules,
    /// the columns of this row's table
    pub table: Table,
}

/// A path below an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subresource {
    /// `status`
    pub name: &'static str,
    /// the group of the objects it takes and gives
    pub group: &'static str,
    /// their version
    pub version: &'static str,
    /// their kind: `Deployment`, `Scale`, `Binding`
    pub kind: &'static str,
    /// what can be done with it
    pub verbs: &'static [&'static str],
}

/// What can be done with every kind, as discovery lists it.
pub const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Every kind, by group and plural.
pub fn all() -> &'static [&'static Kind] {
    rows::ALL
}

/// The kind behind a URL: `apps`, `deployments`.
pub fn by_resource(group: &str, plural: &str) -> Option<&'static Kind> {
    rows::ALL.iter().find(|kind| kind.group == group && kind.plural == plural).copied()
}

/// The kind of an object: `apps`, `v1`, `Deployment`.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    let same = |row: &&&Kind| row.group == group && row.version == version && row.kind == kind;
    rows::ALL.iter().find(same).copied()
}

/// The kind that an object says it is.
pub fn of(object: &Object) -> Option<&'static Kind> {
    let (group, version) = split_api_version(object["apiVersion"].as_str()?);
    by_kind(group, version, object["kind"].as_str()?)
}

/// `apps/v1` is (`apps`, `v1`), and `v1` is (``, `v1`).
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// The kind a person means: plural, singular, short name or kind in any case, with the group or the
/// version and group behind a dot: `deploy`, `deployments.apps`, `deployments.v1.apps`.
pub fn by_name(name: &str) -> Option<&'static Kind> {
    let lower = name.to_ascii_lowercase();
    let (word, rest) = lower.split_once('.').unwrap_or((&lower, ""));
    rows::ALL.iter().copied().find(|kind| {
        let named = kind.plural == word
            || kind.singular == word
            || kind.short_names.contains(&word)
            || kind.kind.eq_ignore_ascii_case(word);
        let versioned = rest.strip_prefix(kind.version).and_then(|rest| rest.strip_prefix('.'));
        named && (rest.is_empty() || rest == kind.group || versioned == Some(kind.group))
    })
}

/// The kinds of a category, such as `all`.
pub fn by_category(category: &str) -> impl Iterator<Item = &'static Kind> {
    rows::ALL.iter().copied().filter(move |kind| kind.categories.contains(&category))
}

impl PartialEq for Kind {
    fn eq(&self, other: &Kind) -> bool {
        self.group == other.group && self.plural == other.plural
    }
}

impl Eq for Kind {}

impl Kind {
    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `deployments.apps`, or `pods` for the core group.
    pub fn resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_string()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// `Deployment.apps`, or `Pod` for the core group.
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() {
            self.kind.to_string()
        } else {
            format!("{}.{}", self.kind, self.group)
        }
    }

    /// The store key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        keys::key(self, namespace, name)
    }

    /// The store prefix of all objects, or of those in a namespace.
    pub fn key_prefix(&self, namespace: Option<&str>) -> String {
        keys::prefix(self, namespace)
    }

    /// The URL path of the collection (no name), an object or a subresource. An empty namespace is
    /// all namespaces.
    pub fn path(&self, namespace: &str, name: Option<&str>, sub: Option<&str>) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if self.namespaced && !namespace.is_empty() {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        for part in [Some(self.plural), name, sub].into_iter().flatten() {
            path.push('/');
            path.push_str(part);
        }
        path
    }

    /// A subresource by name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Whether `status` is written apart from the rest.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Whether a field selector may name this field.
    pub fn selects(&self, path: &str) -> bool {
        path == "metadata.name"
            || (path == "metadata.namespace" && self.namespaced)
            || self.selectable.contains(&path)
    }

    /// The value of a field for a field selector; `None` when the kind cannot be selected by it or
    /// the object does not have it.
    pub fn field(&self, object: &Object, path: &str) -> Option<String> {
        if !self.selects(path) {
            return None;
        }
        let path = match path {
            "status.podIPs" => "status.podIP",
            "source" | "reportingComponent" => return source(object),
            path => path,
        };
        let default = match path {
            "spec.unschedulable" | "spec.hostNetwork" => Some("false".to_string()),
            "status.replicas" => Some("0".to_string()),
            _ => None,
        };
        let found = path.split('.').fold(object, |value, step| &value[step]);
        match found {
            Value::Null => default,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

/// An event's source: the old field, or the newer one.
fn source(event: &Object) -> Option<String> {
    let old = event["source"]["component"].as_str().filter(|text| !text.is_empty());
    old.or(event["reportingComponent"].as_str()).map(str::to_string)
}

#[cfg(test)]
mod garbage_tests;
#[cfg(test)]
mod tests;
