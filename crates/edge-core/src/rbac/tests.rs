//! The table of who may do what, with the roles of every cluster and a few more.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::*;

#[derive(Default)]
struct Objects {
    bindings: Vec<Arc<Object>>,
    roles: BTreeMap<(String, String), Arc<Object>>,
}

impl Policy for Objects {
    fn cluster_role_bindings(&self) -> Vec<Arc<Object>> {
        self.role_bindings("")
    }
    fn role_bindings(&self, namespace: &str) -> Vec<Arc<Object>> {
        let of = |binding: &&Arc<Object>| meta::namespace(binding) == namespace;
        self.bindings.iter().filter(of).cloned().collect()
    }
    fn cluster_role(&self, name: &str) -> Option<Arc<Object>> {
        self.role("", name)
    }
    fn role(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.roles.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }
}

impl Objects {
    fn put(&mut self, object: Object) {
        if object["roleRef"].is_null() {
            let name = (meta::namespace(&object).to_owned(), meta::name(&object).to_owned());
            self.roles.insert(name, Arc::new(object));
        } else {
            self.bindings.push(Arc::new(object));
        }
    }

    /// The cluster's own, all of it in order.
    fn usual() -> Objects {
        let mut objects = Objects::default();
        let roles = cluster_roles();
        roles.into_iter().chain(cluster_role_bindings()).for_each(|one| objects.put(one));
        objects
    }

    fn bind(&mut self, namespace: &str, role: (&str, &str), subject: Value) {
        let (kind, name) = role;
        self.put(json!({
            "metadata": { "namespace": namespace, "name": "b" },
            "roleRef": { "kind": kind, "name": name },
            "subjects": [subject],
        }));
    }
}

fn account(namespace: &str, name: &str) -> (String, Vec<String>) {
    let groups = vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
        "system:authenticated".to_owned(),
    ];
    (format!("system:serviceaccount:{namespace}:{name}"), groups)
}

/// `verb group/resource/sub namespace name`, with `-` for nothing.
fn may(objects: &Objects, who: &(String, Vec<String>), ask: &str) -> bool {
    let words: Vec<&str> = ask.split(' ').map(|word| if word == "-" { "" } else { word }).collect();
    let who = Subject { user: &who.0, groups: &who.1 };
    if let [verb, path] = words[..] {
        return allows(objects, &who, &What::Path { verb, path });
    }
    let [verb, resource, namespace, name] = words[..] else { panic!("{ask}") };
    let mut parts = resource.split('/');
    let mut part = || parts.next().unwrap_or_default();
    let (group, resource, sub) = (part(), part(), part());
    allows(objects, &who, &What::Resource { verb, group, resource, sub, namespace, name })
}

#[test]
fn without_bindings_an_account_may_ask_about_itself_and_no_more() {
    let objects = Objects::usual();
    let robot = account("a", "robot");
    for ask in [
        "create authorization.k8s.io/selfsubjectaccessreviews - -",
        "create authentication.k8s.io/selfsubjectreviews - -",
        "get /apis/apps/v1",
        "get /openapi/v3",
        "get /version",
        "get /openid/v1/jwks",
    ] {
        assert!(may(&objects, &robot, ask), "{ask}");
    }
    for ask in [
        "get /pods a x",
        "list /pods a -",
        "list /namespaces - -",
        "create authentication.k8s.io/tokenreviews - -",
        "get /metrics",
        "post /api",
        "get /",
    ] {
        assert!(!may(&objects, &robot, ask), "{ask}");
    }
    let nobody = ("system:anonymous".to_owned(), vec!["system:unauthenticated".to_owned()]);
    assert!(may(&objects, &nobody, "get /version") && !may(&objects, &nobody, "get /api"));
    let master = ("x".to_owned(), vec!["system:masters".to_owned()]);
    assert!(
        may(&objects, &master, "delete foo.io/bars/baz a b") && may(&objects, &master, "put /x")
    );
}

#[test]
fn a_binding_holds_where_it_is() {
    let mut objects = Objects::usual();
    let (robot, other) = (account("a", "robot"), account("b", "robot"));
    // An account of the binding's own namespace needs no namespace.
    objects.bind("a", ("ClusterRole", "view"), json!({"kind": "ServiceAccount", "name": "robot"}));
    for (ask, robots, others) in [
        ("list /pods a -", true, false),
        ("get /pods/log a x", true, false),
        ("list /pods b -", false, false),
        ("list /pods - -", false, false),
        ("list /secrets a -", false, false),
        ("create /pods a -", false, false),
        ("list apps/deployments a -", true, false),
        ("list rbac.authorization.k8s.io/roles a -", false, false),
    ] {
        assert_eq!(may(&objects, &robot, ask), robots, "{ask}");
        assert_eq!(may(&objects, &other, ask), others, "{ask}");
    }
    let group = json!({"kind": "Group", "name": "system:serviceaccounts:b"});
    objects.bind("", ("ClusterRole", "edit"), group);
    for ask in ["list /pods - -", "update /secrets c x", "create /pods/exec b x"] {
        assert!(may(&objects, &other, ask) && !may(&objects, &robot, ask), "{ask}");
    }
    assert!(!may(&objects, &other, "create rbac.authorization.k8s.io/rolebindings b -"));
    objects.bind("b", ("ClusterRole", "admin"), json!({"kind": "User", "name": other.0}));
    assert!(may(&objects, &other, "create rbac.authorization.k8s.io/rolebindings b -"));
}

#[test]
fn rules_say_exactly_what_they_say() {
    let mut objects = Objects::default();
    objects.put(json!({"metadata": {"namespace": "a", "name": "r"}, "rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["one"]},
        {"apiGroups": ["apps"], "resources": ["*/scale"], "verbs": ["*"]},
        {"apiGroups": ["*"], "resources": ["leases"], "verbs": ["get"]},
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
    ]}));
    let robot = account("a", "robot");
    let subject = json!({"kind": "ServiceAccount", "namespace": "a", "name": "robot"});
    objects.bind("a", ("Role", "r"), subject.clone());
    for (ask, allowed) in [
        ("get /pods a one", true),
        ("get /pods a two", false),
        ("list /pods a -", false),
        ("get /pods/log a one", false),
        ("update apps/deployments/scale a x", true),
        ("update apps/deployments a x", false),
        ("get /pods/scale a one", false),
        ("get coordination.k8s.io/leases a x", true),
        ("get /metrics", false),
    ] {
        assert_eq!(may(&objects, &robot, ask), allowed, "{ask}");
    }
    // A Role of another namespace, one that is missing, and a cluster's binding to a Role.
    objects.bind("b", ("Role", "r"), subject.clone());
    objects.bind("", ("Role", "r"), subject.clone());
    objects.bind("b", ("ClusterRole", "none"), subject);
    assert!(!may(&objects, &robot, "get /pods b one") && !may(&objects, &robot, "get /pods - one"));
}

#[test]
fn nobody_gives_away_what_they_have_not() {
    let rule = |verbs: &[&str], group: &str, resources: &[&str], names: &[&str]| {
        Rule::of(&json!({"verbs": verbs, "apiGroups": [group], "resources": resources,
                         "resourceNames": names}))
    };
    let owned = [
        rule(&["get", "list"], "", &["pods", "pods/log"], &[]),
        rule(&["update"], "", &["configmaps"], &["one", "two"]),
        rule(&["*"], "apps", &["*"], &[]),
        Rule::of(&json!({"verbs": ["get"], "nonResourceURLs": ["/api*"]})),
    ];
    for (wanted, within) in [
        (rule(&["get"], "", &["pods"], &[]), true),
        (rule(&["get"], "", &["pods"], &["x"]), true),
        (rule(&["get", "watch"], "", &["pods"], &[]), false),
        (rule(&["*"], "", &["pods"], &[]), false),
        (rule(&["get"], "", &["*"], &[]), false),
        (rule(&["get"], "*", &["pods"], &[]), false),
        (rule(&["update"], "", &["configmaps"], &["one"]), true),
        (rule(&["update"], "", &["configmaps"], &["three"]), false),
        (rule(&["update"], "", &["configmaps"], &[]), false),
        (rule(&["delete"], "apps", &["deployments/scale"], &[]), true),
        (Rule::of(&json!({"verbs": ["get"], "nonResourceURLs": ["/apis/*"]})), true),
        (Rule::of(&json!({"verbs": ["get"], "nonResourceURLs": ["*"]})), false),
    ] {
        let missing = uncovered(&owned, std::slice::from_ref(&wanted));
        assert_eq!(missing.is_empty(), within, "{wanted:?}: {missing:?}");
    }
}
