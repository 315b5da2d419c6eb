//! Building the path and query of a request, with everything escaped that has to be.

use edge_api::kinds::Kind;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but the unreserved characters of RFC 3986.
const ESCAPE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Escapes one path segment or query value.
pub fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPE).to_string()
}

/// A query string under construction.
#[derive(Debug, Clone, Default)]
pub struct Query {
    text: String,
}

impl Query {
    /// An empty query.
    pub fn new() -> Query {
        Query::default()
    }

    /// Adds `name=value`.
    pub fn add(&mut self, name: &str, value: &str) -> &mut Query {
        if !self.text.is_empty() {
            self.text.push('&');
        }
        self.text.push_str(&escape(name));
        self.text.push('=');
        self.text.push_str(&escape(value));
        self
    }

    /// Adds `name=value` when there is a value.
    pub fn add_some(&mut self, name: &str, value: Option<&str>) -> &mut Query {
        if let Some(value) = value {
            self.add(name, value);
        }
        self
    }

    /// `path?query`, or `path` alone when nothing was added.
    pub fn on(&self, path: &str) -> String {
        if self.text.is_empty() { path.to_string() } else { format!("{path}?{}", self.text) }
    }
}

/// The path of a collection, an object or a subresource. An empty `namespace` means all of them
/// (or that the kind has none), an empty `name` the collection.
pub fn object_path(
    group: &str,
    version: &str,
    plural: &str,
    namespace: &str,
    name: &str,
    sub: Option<&str>,
) -> String {
    let mut path = match group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    if !namespace.is_empty() {
        path.push_str("/namespaces/");
        path.push_str(&escape(namespace));
    }
    path.push('/');
    path.push_str(plural);
    if !name.is_empty() {
        path.push('/');
        path.push_str(&escape(name));
    }
    if let Some(sub) = sub {
        path.push('/');
        path.push_str(sub);
    }
    path
}

/// [`object_path`] for a registered kind; the namespace is dropped where the kind has none.
pub fn kind_path(kind: &Kind, namespace: &str, name: &str, sub: Option<&str>) -> String {
    let namespace = if kind.namespaced { namespace } else { "" };
    object_path(kind.group, kind.version, kind.plural, namespace, name, sub)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_escaped() {
        assert_eq!(
            object_path("apps", "v1", "deployments", "a b", "x/y", Some("status")),
            "/apis/apps/v1/namespaces/a%20b/deployments/x%2Fy/status"
        );
        assert_eq!(object_path("", "v1", "nodes", "", "", None), "/api/v1/nodes");
        let mut query = Query::new();
        query.add("labelSelector", "app=web,tier!=db").add_some("limit", None);
        assert_eq!(query.on("/x"), "/x?labelSelector=app%3Dweb%2Ctier%21%3Ddb");
        assert_eq!(Query::new().on("/x"), "/x");
    }
}
