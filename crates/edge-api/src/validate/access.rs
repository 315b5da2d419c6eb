//! Roles and their bindings: rules that can mean something, and references that stay.

use serde_json::Value;

use super::{list, needs, text};
use crate::Object;
use crate::field::{Errors, Path};
use crate::names;

const GROUP: &str = "rbac.authorization.k8s.io";

/// `Role`
pub(crate) fn role(object: &Object, _: Option<&Object>, errors: &mut Errors) {
    rules(object, true, errors);
}

/// `ClusterRole`
pub(crate) fn cluster_role(object: &Object, _: Option<&Object>, errors: &mut Errors) {
    rules(object, false, errors);
    let aggregation = &object["aggregationRule"];
    if aggregation.is_object() && list(&aggregation["clusterRoleSelectors"]).is_empty() {
        let at = Path::new("aggregationRule");
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.required(&at.child("clusterRoleSelectors"), detail);
    }
}

fn rules(object: &Object, namespaced: bool, errors: &mut Errors) {
    let all = Path::new("rules");
    for (index, rule) in list(&object["rules"]).iter().enumerate() {
        let at = all.index(index);
        if list(&rule["verbs"]).is_empty() {
            errors.required(&at.child("verbs"), "verbs must contain at least one value");
        }
        let of = |field: &str| list(&rule[field]);
        if !of("nonResourceURLs").is_empty() {
            let urls = rule["nonResourceURLs"].clone();
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.invalid(&at.child("nonResourceURLs"), urls, detail);
            } else if !of("apiGroups").is_empty()
                || !of("resources").is_empty()
                || !of("resourceNames").is_empty()
            {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(&at.child("nonResourceURLs"), urls, detail);
            }
            continue;
        }
        if of("apiGroups").is_empty() {
            let detail = "resource rules must supply at least one api group";
            errors.required(&at.child("apiGroups"), detail);
        }
        if of("resources").is_empty() {
            let detail = "resource rules must supply at least one resource";
            errors.required(&at.child("resources"), detail);
        }
    }
}

/// `RoleBinding`
pub(crate) fn role_binding(object: &Object, old: Option<&Object>, errors: &mut Errors) {
    binding(object, old, &["Role", "ClusterRole"], errors);
}

/// `ClusterRoleBinding`
pub(crate) fn cluster_role_binding(object: &Object, old: Option<&Object>, errors: &mut Errors) {
    binding(object, old, &["ClusterRole"], errors);
}

fn binding(object: &Object, old: Option<&Object>, roles: &[&str], errors: &mut Errors) {
    let at = Path::new("roleRef");
    let reference = &object["roleRef"];
    if text(&reference["apiGroup"]) != GROUP {
        errors.not_supported(&at.child("apiGroup"), text(&reference["apiGroup"]), &[GROUP]);
    }
    if !roles.contains(&text(&reference["kind"])) {
        errors.not_supported(&at.child("kind"), text(&reference["kind"]), roles);
    }
    if needs(errors, &at.child("name"), &reference["name"]) {
        let name = text(&reference["name"]);
        errors.each(&at.child("name"), name, names::path_segment(name));
    }
    if old.is_some_and(|old| old["roleRef"] != *reference) {
        errors.invalid(&at, reference.clone(), "cannot change roleRef");
    }
    let all = Path::new("subjects");
    for (index, entry) in list(&object["subjects"]).iter().enumerate() {
        subject(entry, roles.len() > 1, &all.index(index), errors);
    }
}

fn subject(entry: &Value, namespaced: bool, at: &Path<'_>, errors: &mut Errors) {
    let group = text(&entry["apiGroup"]);
    let named = needs(errors, &at.child("name"), &entry["name"]);
    match text(&entry["kind"]) {
        "ServiceAccount" => {
            let name = text(&entry["name"]);
            if named {
                errors.each(&at.child("name"), name, names::dns1123_subdomain(name));
            }
            if !group.is_empty() {
                errors.not_supported(&at.child("apiGroup"), group, &[""]);
            }
            if !namespaced {
                needs(errors, &at.child("namespace"), &entry["namespace"]);
            }
        }
        "User" | "Group" if group != GROUP => {
            errors.not_supported(&at.child("apiGroup"), group, &[GROUP]);
        }
        "User" | "Group" => {}
        other => {
            errors.not_supported(&at.child("kind"), other, &["ServiceAccount", "User", "Group"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::kinds;
    use serde_json::json;

    fn wrong(kind: &kinds::Kind, mut object: serde_json::Value) -> Vec<String> {
        object["metadata"] = json!({"name": "system:x"});
        if kind.namespaced {
            object["metadata"]["namespace"] = json!("ns");
        }
        kind.default(&mut object);
        kind.validate(&object, None).iter().map(|error| error.to_string()).collect()
    }

    #[test]
    fn rules_must_mean_something() {
        let good = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
        let url = json!({"nonResourceURLs": ["/x"], "verbs": ["get"]});
        assert_eq!(wrong(kinds::ROLE, json!({"rules": [good]})), [""; 0]);
        assert_eq!(wrong(kinds::CLUSTER_ROLE, json!({"rules": [good, url]})), [""; 0]);
        assert!(wrong(kinds::ROLE, json!({"rules": [url]}))[0].contains("namespaced rules"));
        let bad = wrong(kinds::ROLE, json!({"rules": [{}]}));
        assert_eq!(bad.len(), 3, "{bad:?}");
    }

    #[test]
    fn bindings_name_a_role_and_whom_it_is_for() {
        let to = |kind: &str, subject: serde_json::Value| {
            json!({
                "roleRef": {"kind": kind, "name": "view"},
                "subjects": [subject],
            })
        };
        let account = json!({"kind": "ServiceAccount", "name": "a"});
        let user = json!({"kind": "User", "name": "Anna"});
        for kind in ["Role", "ClusterRole"] {
            assert_eq!(wrong(kinds::ROLE_BINDING, to(kind, account.clone())), [""; 0]);
        }
        assert_eq!(wrong(kinds::CLUSTER_ROLE_BINDING, to("ClusterRole", user)), [""; 0]);
        let bad = wrong(kinds::CLUSTER_ROLE_BINDING, to("Role", account));
        assert_eq!(bad.len(), 2, "{bad:?}");
        assert!(bad[0].contains("roleRef.kind") && bad[1].contains("subjects[0].namespace"));
    }
}
