//! Store keys: `<plural>[.<group>]/<namespace or empty>/<name>`. One place knows the shape, so that
//! a prefix scan over a kind or a namespace can never pick up a neighbour.

use crate::kinds::{self, Kind};

/// The key of one object: `pods/default/web-1`, `nodes//board-1`, `deployments.apps/default/web`.
pub fn key(kind: &Kind, namespace: &str, name: &str) -> String {
    format!("{}{name}", prefix(kind, Some(namespace)))
}

/// The prefix of all objects of a kind (`None`), or of those in one namespace. Cluster-scoped kinds
/// have the empty namespace.
pub fn prefix(kind: &Kind, namespace: Option<&str>) -> String {
    let resource = kind.resource();
    match namespace {
        None => format!("{resource}/"),
        Some(namespace) => {
            format!("{resource}/{}/", if kind.namespaced { namespace } else { "" })
        }
    }
}

/// A key taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// `pods`, `deployments.apps`
    pub resource: &'a str,
    /// empty for cluster-scoped kinds
    pub namespace: &'a str,
    /// the object's name
    pub name: &'a str,
}

/// Takes a key apart; `None` when it has not the shape of one.
pub fn parse(key: &str) -> Option<Parts<'_>> {
    let mut parts = key.splitn(3, '/');
    let (resource, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    (!resource.is_empty() && !name.is_empty() && !name.contains('/')).then_some(Parts {
        resource,
        namespace,
        name,
    })
}

/// The kind whose objects a key belongs to.
pub fn kind_of(key: &str) -> Option<&'static Kind> {
    let resource = key.split('/').next()?;
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    kinds::by_resource(group, plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_kinds_and_namespaces_apart() {
        assert_eq!(key(kinds::POD, "default", "web-1"), "pods/default/web-1");
        assert_eq!(key(kinds::NODE, "", "board-1"), "nodes//board-1");
        assert_eq!(key(kinds::NODE, "ignored", "board-1"), "nodes//board-1");
        assert_eq!(key(kinds::DEPLOYMENT, "default", "web"), "deployments.apps/default/web");
        assert_eq!(prefix(kinds::POD, None), "pods/");
        assert_eq!(prefix(kinds::POD, Some("a")), "pods/a/");
    }

    #[test]
    fn keys_come_apart_again() {
        let parts = parse("deployments.apps/default/web").expect("a key");
        assert_eq!(
            (parts.resource, parts.namespace, parts.name),
            ("deployments.apps", "default", "web")
        );
        assert_eq!(kind_of("nodes//board-1").map(|kind| kind.kind), Some("Node"));
        assert_eq!(
            kind_of("deployments.apps/default/web").map(|kind| kind.kind),
            Some("Deployment")
        );
        for bad in ["", "pods", "pods/default", "pods/default/", "/default/x", "pods/a/b/c"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
