//! The roles and bindings that every cluster has, as Kubernetes ships them, for the kinds that make
//! sense here; and what a role that is made of others (`aggregationRule`) consists of.

use edge_api::selector::LabelSelector;
use edge_api::{Object, meta};
use serde_json::{Value, json};

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const ALL: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const CREATE: &[&str] = &["create"];

/// Verbs, group, resources separated by blanks.
type Line = (&'static [&'static str], &'static str, &'static str);

const VIEW: &[Line] = &[
    (
        READ,
        "",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods \
         replicationcontrollers replicationcontrollers/scale serviceaccounts services \
         services/status",
    ),
    (
        READ,
        "",
        "bindings events limitranges namespaces/status pods/log pods/status \
         replicationcontrollers/status resourcequotas resourcequotas/status",
    ),
    (READ, "", "namespaces"),
    (READ, "discovery.k8s.io", "endpointslices"),
    (
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale \
         deployments/status replicasets replicasets/scale replicasets/status statefulsets \
         statefulsets/scale statefulsets/status",
    ),
    (READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    (READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    (READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    (READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
];

const EDIT: &[Line] = &[
    (READ, "", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    (&["impersonate"], "", "serviceaccounts"),
    (WRITE, "", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    (CREATE, "", "pods/eviction"),
    (
        WRITE,
        "",
        "configmaps events persistentvolumeclaims replicationcontrollers \
         replicationcontrollers/scale secrets serviceaccounts services services/proxy",
    ),
    (CREATE, "", "serviceaccounts/token"),
    (
        WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets \
         replicasets/scale statefulsets statefulsets/scale",
    ),
    (WRITE, "autoscaling", "horizontalpodautoscalers"),
    (WRITE, "batch", "cronjobs jobs"),
    (WRITE, "policy", "poddisruptionbudgets"),
    (WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    (ALL, "coordination.k8s.io", "leases"),
];

const ADMIN: &[Line] = &[
    (CREATE, "authorization.k8s.io", "localsubjectaccessreviews"),
    (ALL, "rbac.authorization.k8s.io", "rolebindings roles"),
];

const BASIC: &[Line] = &[
    (CREATE, "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
    (CREATE, "authentication.k8s.io", "selfsubjectreviews"),
];

const DELEGATOR: &[Line] = &[
    (CREATE, "authentication.k8s.io", "tokenreviews"),
    (CREATE, "authorization.k8s.io", "subjectaccessreviews"),
];

const DISCOVERY: &str = "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz \
                         /version /version/";
const PUBLIC: &str = "/healthz /livez /readyz /version /version/";
const ISSUER: &str = "/.well-known/openid-configuration /.well-known/openid-configuration/ \
                      /openid/v1/jwks /openid/v1/jwks/";
const MONITORING: &str = "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz \
                          /readyz/*";

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn rules(lines: &[Line]) -> Vec<Value> {
    let rule = |(verbs, group, resources): &Line| {
        json!({
            "apiGroups": [group],
            "resources": words(resources),
            "verbs": verbs,
        })
    };
    lines.iter().map(rule).collect()
}

fn paths(text: &str) -> Vec<Value> {
    vec![json!({ "nonResourceURLs": words(text), "verbs": ["get"] })]
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "true" },
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
    })
}

fn role(name: &str, rules: Vec<Value>) -> Object {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": metadata(name),
        "rules": rules,
    })
}

fn label(to: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{to}")
}

/// The ClusterRoles of every cluster, whole from the first moment.
pub fn cluster_roles() -> Vec<Object> {
    let every = json!({ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] });
    let anywhere = json!({ "nonResourceURLs": ["*"], "verbs": ["*"] });
    let mut all = vec![
        role("cluster-admin", vec![every, anywhere]),
        role("system:discovery", paths(DISCOVERY)),
        role("system:public-info-viewer", paths(PUBLIC)),
        role("system:service-account-issuer-discovery", paths(ISSUER)),
        role("system:monitoring", paths(MONITORING)),
        role("system:basic-user", rules(BASIC)),
        role("system:auth-delegator", rules(DELEGATOR)),
    ];
    for (name, lines, up) in
        [("admin", ADMIN, None), ("edit", EDIT, Some("admin")), ("view", VIEW, Some("edit"))]
    {
        let mut part = role(&format!("system:aggregate-to-{name}"), rules(lines));
        meta::set_label(&mut part, &label(name), "true");
        all.push(part);
        let mut whole = role(name, Vec::new());
        whole["aggregationRule"] =
            json!({ "clusterRoleSelectors": [{ "matchLabels": { label(name): "true" } }] });
        if let Some(up) = up {
            meta::set_label(&mut whole, &label(up), "true");
        }
        all.push(whole);
    }
    // From the inside out: view is part of edit, and edit of admin.
    for name in ["view", "edit", "admin"] {
        let parts = all.clone();
        for whole in all.iter_mut().filter(|role| meta::name(role) == name) {
            whole["rules"] = json!(aggregated(whole, parts.iter()));
        }
    }
    all
}

/// The ClusterRoleBindings of every cluster.
pub fn cluster_role_bindings() -> Vec<Object> {
    let known = "system:authenticated";
    let all: [(&str, &[&str]); 6] = [
        ("cluster-admin", &["system:masters"]),
        ("system:basic-user", &[known]),
        ("system:discovery", &[known]),
        ("system:monitoring", &["system:monitoring"]),
        ("system:public-info-viewer", &[known, "system:unauthenticated"]),
        ("system:service-account-issuer-discovery", &["system:serviceaccounts"]),
    ];
    let group = "rbac.authorization.k8s.io";
    let binding = |(name, groups): (&str, &[&str])| {
        let subject = |name: &&str| json!({ "apiGroup": group, "kind": "Group", "name": name });
        json!({
            "apiVersion": format!("{group}/v1"),
            "kind": "ClusterRoleBinding",
            "metadata": metadata(name),
            "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": name },
            "subjects": groups.iter().map(subject).collect::<Vec<_>>(),
        })
    };
    all.into_iter().map(binding).collect()
}

/// The rules that a ClusterRole made of others has, in the order of their names; `None` for one
/// that is not.
pub fn aggregated<'a>(role: &Object, all: impl Iterator<Item = &'a Object>) -> Option<Vec<Value>> {
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array()?;
    let selectors: Vec<LabelSelector> =
        selectors.iter().filter_map(|one| LabelSelector::from_object(one).ok()).collect();
    let mut parts: Vec<&Object> = all
        .filter(|other| meta::name(other) != meta::name(role))
        .filter(|other| selectors.iter().any(|selector| selector.matches(other)))
        .collect();
    parts.sort_by_key(|part| meta::name(part));
    let mut rules: Vec<Value> = Vec::new();
    for rule in parts.iter().flat_map(|part| part["rules"].as_array().into_iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    Some(rules)
}
