//! What a path means: a resource with its namespace, name and subresource, or one of the few
//! paths that are not resources.

use super::query::Query;
use edge_api::kinds::{self, Kind};
use http::Method;
use percent_encoding::percent_decode_str;

/// A resource that a request is about.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The kind's row in the registry.
    pub(crate) kind: &'static Kind,
    /// The namespace, empty for cluster-wide kinds and for requests over all namespaces.
    pub(crate) namespace: String,
    /// The object's name; empty for collections.
    pub(crate) name: String,
    /// The subresource; empty for the object itself.
    pub(crate) sub: String,
    /// What follows the subresource, as in `nodes/n/proxy/healthz`, still escaped.
    pub(crate) rest: String,
}

/// What a path means.
#[derive(Debug)]
pub(crate) enum Route {
    /// `/livez`, `/readyz`, `/healthz`, with a check's name behind it or not.
    Health,
    /// `/version`
    Version,
    /// `/metrics`
    Metrics,
    /// `/`
    Root,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/<group>`
    Group(String),
    /// `/api/v1`, `/apis/<group>/<version>`
    Resources(String, String),
    /// `/openapi/v2`
    OpenApiV2,
    /// `/openapi/v3` or, with a group's path behind it, one document.
    OpenApiV3(String),
    /// `/.well-known/openid-configuration`
    OpenId,
    /// `/openid/v1/jwks`
    KeySet,
    /// `/edged/v1/…`, without that.
    Edged(String),
    /// A resource.
    Resource(Target),
    /// Nothing that this server serves.
    Unknown,
}

impl Route {
    /// Whether anybody may ask, known or not.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Route::Health | Route::Version)
    }
}

/// Reads a path; escapes are decoded within each segment.
pub(crate) fn route(path: &str) -> Route {
    let raw: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    let segments: Vec<String> =
        raw.iter().map(|s| percent_decode_str(s).decode_utf8_lossy().into_owned()).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        [] => Route::Root,
        ["livez" | "readyz" | "healthz", ..] => Route::Health,
        ["version"] => Route::Version,
        ["metrics"] => Route::Metrics,
        ["openapi", "v2"] => Route::OpenApiV2,
        ["openapi", "v3", rest @ ..] => Route::OpenApiV3(rest.join("/")),
        [".well-known", "openid-configuration"] => Route::OpenId,
        ["openid", "v1", "jwks"] => Route::KeySet,
        ["edged", "v1", rest @ ..] => Route::Edged(rest.join("/")),
        ["api"] => Route::CoreVersions,
        ["api", "v1"] => Route::Resources(String::new(), "v1".to_owned()),
        ["api", "v1", rest @ ..] => resource("", "v1", rest, &raw[2..]),
        ["apis"] => Route::Groups,
        ["apis", group] => Route::Group((*group).to_owned()),
        ["apis", group, version] => Route::Resources((*group).to_owned(), (*version).to_owned()),
        ["apis", group, version, rest @ ..] => resource(group, version, rest, &raw[3..]),
        _ => Route::Unknown,
    }
}

fn resource(group: &str, version: &str, rest: &[&str], raw: &[&str]) -> Route {
    let (namespace, rest, raw) = match rest {
        // `namespaces/x/status` is a Namespace's subresource; `namespaces/x/pods` is not.
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => ("", rest, raw),
        ["namespaces", namespace, tail @ ..] if !tail.is_empty() => (*namespace, tail, &raw[2..]),
        _ => ("", rest, raw),
    };
    let Some((plural, rest)) = rest.split_first() else { return Route::Unknown };
    let kind = kinds::by_resource(group, plural).or_else(|| kinds::review(group, plural));
    let Some(kind) = kind.filter(|kind| kind.version == version) else {
        return Route::Unknown;
    };
    let (name, sub, tail) = match rest {
        [] => ("", "", 0),
        [name] => (*name, "", 0),
        [name, sub, tail @ ..] => (*name, *sub, tail.len()),
    };
    let misplaced = (kind.namespaced && namespace.is_empty() && !name.is_empty())
        || (!kind.namespaced && !namespace.is_empty())
        || (tail > 0 && sub != "proxy");
    if misplaced || (!sub.is_empty() && !has_subresource(kind, sub)) {
        return Route::Unknown;
    }
    Route::Resource(Target {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        sub: sub.to_owned(),
        rest: raw[raw.len() - tail..].join("/"),
    })
}

/// Whether a kind's row lists this subresource.
pub(crate) fn has_subresource(kind: &Kind, sub: &str) -> bool {
    kind.subresources.iter().any(|s| s.name == sub)
}

/// The verb of a request, in the words that authorization rules use.
pub(crate) fn verb(method: &Method, target: &Target, query: &Query) -> Option<&'static str> {
    let watching = query.flag("watch").unwrap_or(false);
    if target.kind.is_review() {
        return (method == Method::POST && target.name.is_empty()).then_some("create");
    }
    let connects = matches!(target.sub.as_str(), "exec" | "attach" | "portforward" | "proxy");
    // Into a pod leads one permission, whichever way the client comes (WebSockets begin with GET).
    let enters = matches!(target.sub.as_str(), "exec" | "attach" | "portforward");
    Some(match (method.as_str(), target.name.is_empty()) {
        ("GET", false) if enters => "create",
        ("GET" | "HEAD", true) if watching => "watch",
        ("GET" | "HEAD", true) => "list",
        ("GET" | "HEAD", false) => "get",
        ("POST", false) if target.sub.is_empty() => return None,
        ("POST", _) => "create",
        ("PUT", false) => "update",
        ("PATCH", false) => "patch",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) if target.sub.is_empty() || connects => "delete",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Option<(String, String)> {
        match route(path) {
            Route::Resource(t) => {
                let kind = t.kind.kind;
                Some((kind.to_owned(), [t.namespace, t.name, t.sub, t.rest].join("|")))
            }
            _ => None,
        }
    }

    #[test]
    fn paths_name_resources() {
        for (path, kind, parts) in [
            ("/api/v1/pods", "Pod", "|||"),
            ("/api/v1/namespaces/a/pods", "Pod", "a|||"),
            ("/api/v1/namespaces/a/pods/b/log", "Pod", "a|b|log|"),
            ("/api/v1/namespaces", "Namespace", "|||"),
            ("/api/v1/namespaces/a", "Namespace", "|a||"),
            ("/api/v1/namespaces/a/status", "Namespace", "|a|status|"),
            ("/api/v1/namespaces/a/finalize", "Namespace", "|a|finalize|"),
            ("/api/v1/nodes/n/proxy/logs/a%20b/", "Node", "|n|proxy|logs/a%20b"),
            ("/apis/apps/v1/namespaces/a/deployments/b/scale", "Deployment", "a|b|scale|"),
        ] {
            assert_eq!(target(path), Some((kind.to_owned(), parts.to_owned())), "{path}");
        }
        for path in [
            "/api/v1/namespaces/a/nodes",
            "/api/v1/pods/b",
            "/api/v1/namespaces/a/pods/b/scale",
            "/api/v1/namespaces/a/pods/b/log/c",
            "/apis/apps/v2/deployments",
            "/apis/apps/v1/pods",
        ] {
            assert_eq!(target(path), None, "{path}");
        }
    }

    #[test]
    fn verbs_follow_methods() {
        let verb_of = |method: &str, path: &str, query: &str| {
            let Route::Resource(target) = route(path) else { panic!("{path}") };
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            verb(&method, &target, &Query::parse(query))
        };
        let pods = "/api/v1/namespaces/a/pods";
        assert_eq!(verb_of("GET", pods, ""), Some("list"));
        assert_eq!(verb_of("GET", pods, "watch=1"), Some("watch"));
        assert_eq!(verb_of("DELETE", pods, ""), Some("deletecollection"));
        assert_eq!(verb_of("POST", pods, ""), Some("create"));
        assert_eq!(verb_of("PUT", pods, ""), None);
        assert_eq!(verb_of("GET", &format!("{pods}/b"), ""), Some("get"));
        assert_eq!(verb_of("POST", &format!("{pods}/b"), ""), None);
        assert_eq!(verb_of("POST", &format!("{pods}/b/exec"), ""), Some("create"));
        for method in ["GET", "POST"] {
            let verb = verb_of(method, &format!("{pods}/b/portforward"), "");
            assert_eq!(verb, Some("create"));
        }
        assert_eq!(verb_of("DELETE", &format!("{pods}/b/status"), ""), None);
        assert_eq!(verb_of("DELETE", "/api/v1/nodes/n/proxy/x", ""), Some("delete"));
    }
}
