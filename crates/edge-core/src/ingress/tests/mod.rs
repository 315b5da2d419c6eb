//! Which request goes where, and what is said of what can't be had.

mod reads;
mod status;

use edge_api::Object;
use serde_json::{Value, json};

use super::*;

pub(super) fn path(path: &str, kind: &str, service: &str) -> Value {
    json!({"path": path, "pathType": kind,
           "backend": {"service": {"name": service, "port": {"number": 80}}}})
}

/// An Ingress made in second `age` of the year, with rules of (host, paths).
pub(super) fn ingress(name: &str, age: u32, rules: &[(&str, Vec<Value>)]) -> Object {
    let rules: Vec<Value> = rules
        .iter()
        .map(|(host, paths)| match host.is_empty() {
            true => json!({"http": {"paths": paths}}),
            false => json!({"host": host, "http": {"paths": paths}}),
        })
        .collect();
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
           "metadata": {"name": name, "namespace": "a", "uid": name,
                        "creationTimestamp": format!("2026-01-01T00:00:{age:02}Z")},
           "spec": {"rules": rules}})
}

pub(super) fn service(name: &str) -> Object {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "a"},
           "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP"},
                              {"name": "rpc", "port": 90, "appProtocol": "grpc"},
                              {"name": "time", "port": 123, "protocol": "UDP"}]}})
}

fn slice(service: &str, endpoints: &[(&str, Value)]) -> Object {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(ip, conditions)| json!({"addresses": [ip], "conditions": conditions}))
        .collect();
    json!({"metadata": {"namespace": "a", "labels": {"kubernetes.io/service-name": service}},
           "ports": [{"name": "rpc", "port": 9090, "protocol": "TCP"},
                     {"name": "http", "port": 8080, "protocol": "TCP"}],
           "endpoints": endpoints})
}

fn table(ingresses: &[Object], services: &[&str]) -> Table {
    let services: Vec<Object> = services.iter().map(|name| service(name)).collect();
    Table::gather(ingresses, &services, [])
}

/// The Service that a request goes to.
fn goes(table: &Table, host: &str, path: &str) -> String {
    match table.find(host, path) {
        None => "nowhere".to_owned(),
        Some(Found { backend: None, .. }) => "503".to_owned(),
        Some(Found { backend: Some(backend), .. }) => {
            backend.name.trim_start_matches("a/").trim_end_matches(":80").to_owned()
        }
    }
}

/// The table of examples of Kubernetes' own page about Ingress, and then some.
#[test]
fn paths_match_as_kubernetes_says() {
    let cases: &[(&str, &[&str], &str, bool)] = &[
        ("Prefix", &["/"], "/any/path", true),
        ("Exact", &["/foo"], "/foo", true),
        ("Exact", &["/foo"], "/bar", false),
        ("Exact", &["/foo"], "/foo/", false),
        ("Exact", &["/foo/"], "/foo", false),
        ("Prefix", &["/foo"], "/foo", true),
        ("Prefix", &["/foo"], "/foo/", true),
        ("Prefix", &["/foo/"], "/foo", true),
        ("Prefix", &["/foo/"], "/foo/", true),
        ("Prefix", &["/aaa/bb"], "/aaa/bbb", false),
        ("Prefix", &["/aaa/bbb"], "/aaa/bbb", true),
        ("Prefix", &["/aaa/bbb/"], "/aaa/bbb", true),
        ("Prefix", &["/aaa/bbb"], "/aaa/bbb/", true),
        ("Prefix", &["/aaa/bbb"], "/aaa/bbb/ccc", true),
        ("Prefix", &["/aaa/bbb"], "/aaa/bbbxyz", false),
        ("Prefix", &["/", "/aaa"], "/aaa/ccc", true),
        ("Prefix", &["/aaa"], "/ccc", false),
        ("Prefix", &["/Foo"], "/foo", false),
        ("ImplementationSpecific", &[""], "/x", true),
        ("ImplementationSpecific", &["/a"], "/a/x", true),
        ("Prefix", &["/a/b/c/d"], "/a/b/c", false),
        ("Prefix", &["/ä"], "/ä/b", true),
    ];
    for (kind, paths, request, want) in cases {
        let paths: Vec<Value> = paths.iter().map(|p| path(p, kind, "web")).collect();
        let table = table(&[ingress("i", 1, &[("x.y", paths.clone())])], &["web"]);
        assert_eq!(goes(&table, "x.y", request) == "web", *want, "{kind} {paths:?} {request}");
    }
    let many = vec![
        path("/", "Prefix", "root"),
        path("/a", "Prefix", "a"),
        path("/a/b", "Prefix", "ab"),
        path("/a/b", "Exact", "exact"),
    ];
    let table = table(&[ingress("i", 1, &[("", many)])], &["root", "a", "ab", "exact"]);
    for (request, want) in [
        ("/", "root"),
        ("/ab", "root"),
        ("/a", "a"),
        ("/a/c/b", "a"),
        ("/a/b", "exact"),
        ("/a/b/", "ab"),
        ("/a/b/c/d", "ab"),
        ("*", "root"),
    ] {
        assert_eq!(goes(&table, "any.host", request), want, "{request}");
    }
}

#[test]
fn a_host_comes_before_its_wildcard_and_this_before_every_host() {
    let one = |service: &str| vec![path("/", "Prefix", service)];
    let mut only = ingress("only", 2, &[("b.d.org", vec![path("/x", "Exact", "x")])]);
    only["spec"]["defaultBackend"] = json!({"service": {"name": "rest", "port": {"number": 80}}});
    let first = ingress(
        "first",
        1,
        &[
            ("a.b.org", one("own")),
            ("*.b.org", one("wild")),
            ("*.d.org", vec![]),
            ("e.org", vec![]),
        ],
    );
    let mut every = ingress("every", 3, &[("", vec![path("/every", "Prefix", "every")])]);
    every["metadata"]["namespace"] = json!("a");
    let table = table(&[every, only, first], &["own", "wild", "x", "rest", "every"]);
    for (host, request, want) in [
        ("a.b.org", "/", "own"),
        ("c.b.org", "/", "wild"),
        ("b.org", "/", "rest"),
        ("x.c.b.org", "/", "rest"),
        ("a.b.org", "/every", "own"),
        ("b.d.org", "/x", "x"),
        ("b.d.org", "/y", "rest"),
        ("b.d.org", "/every/z", "every"),
        ("", "/every", "every"),
        ("", "/", "rest"),
    ] {
        assert_eq!(goes(&table, host, request), want, "{host}{request}");
    }
    assert!(table.problems.is_empty(), "{:?}", table.problems);
}

#[test]
fn the_older_ingress_has_a_path_that_two_want() {
    let newer = ingress("newer", 2, &[("h.org", vec![path("/a/", "Prefix", "new")])]);
    let older = ingress("older", 1, &[("h.org", vec![path("/a", "Prefix", "old")])]);
    let exact = ingress("exact", 3, &[("h.org", vec![path("/a", "Exact", "new")])]);
    let table = table(&[newer.clone(), older, exact], &["new", "old"]);
    assert_eq!(goes(&table, "h.org", "/a/b"), "old");
    assert_eq!(goes(&table, "h.org", "/a"), "new");
    let [problem] = &table.problems[..] else { panic!("{:?}", table.problems) };
    assert_eq!((problem.name.as_str(), problem.reason), ("newer", "PathTaken"));
    assert!(problem.message.contains("\"/a/\" (Prefix) of h.org"), "{}", problem.message);
    assert!(problem.message.contains("a/older"), "{}", problem.message);
}

#[test]
fn what_is_not_there_is_said_and_answered_with_503() {
    let mut bad = ingress("bad", 1, &[("h.org", vec![path("/none", "Exact", "none")])]);
    let mut port = path("/port", "Exact", "web");
    port["backend"]["service"]["port"] = json!({"name": "admin"});
    let mut udp = path("/udp", "Exact", "web");
    udp["backend"]["service"]["port"] = json!({"number": 123});
    let resource = json!({"path": "/r", "pathType": "Exact",
                          "backend": {"resource": {"kind": "Bucket", "name": "b"}}});
    let out = path("/out", "Exact", "out");
    bad["spec"]["rules"][0]["http"]["paths"] =
        json!([path("/none", "Exact", "none"), port, udp, resource, out]);
    let mut outside = service("out");
    outside["spec"]["type"] = json!("ExternalName");
    let table = Table::gather([&bad], [&service("web"), &outside], []);
    let reasons: Vec<&str> = table.problems.iter().map(|p| p.reason).collect();
    let want = [
        "ServiceNotFound",
        "PortNotFound",
        "PortNotFound",
        "BackendUnsupported",
        "BackendUnsupported",
    ];
    assert_eq!(reasons, want);
    for request in ["/none", "/port", "/udp", "/r", "/out"] {
        assert_eq!(goes(&table, "h.org", request), "503", "{request}");
    }
}

#[test]
fn targets_are_ready_ones_or_else_those_that_end() {
    let mut with = ingress("i", 1, &[("h.org", vec![path("/", "Prefix", "web")])]);
    let mut rpc = path("/rpc", "Prefix", "web");
    rpc["backend"]["service"]["port"] = json!({"name": "rpc"});
    with["spec"]["rules"][0]["http"]["paths"].as_array_mut().unwrap().push(rpc);
    let yes = json!({"ready": true});
    let no = json!({"ready": false});
    let ending = json!({"ready": false, "serving": true, "terminating": true});
    let targets = |endpoints: &[(&str, Value)]| {
        let table = Table::gather([&with], [&service("web")], [&slice("web", endpoints)]);
        let found = table.find("h.org", "/").and_then(|found| found.backend.cloned()).unwrap();
        let rpc = table.find("h.org", "/rpc").and_then(|found| found.backend.cloned()).unwrap();
        assert_eq!((found.protocol, rpc.protocol), (Protocol::Http1, Protocol::Http2));
        assert_eq!(rpc.targets.len(), found.targets.len());
        found.targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let both = [("10.0.0.2", yes.clone()), ("10.0.0.1", yes.clone()), ("10.0.0.2", yes.clone())];
    assert_eq!(targets(&both), "10.0.0.1:8080 10.0.0.2:8080");
    let one = [("10.0.0.1", no.clone()), ("10.0.0.2", yes), ("10.0.0.3", ending.clone())];
    assert_eq!(targets(&one), "10.0.0.2:8080");
    assert_eq!(targets(&[("10.0.0.1", no), ("fd00::3", ending)]), "[fd00::3]:8080");
    assert_eq!(targets(&[]), "");
}

#[test]
fn certificates_and_redirects() {
    let root = || vec![path("/", "Prefix", "web")];
    let mut first =
        ingress("first", 1, &[("a.org", root()), ("x.b.org", root()), ("c.org", root())]);
    first["spec"]["tls"] = json!([{"hosts": ["a.org", "*.b.org"], "secretName": "one"}]);
    let mut second = ingress("second", 2, &[("d.org", root())]);
    second["spec"]["tls"] =
        json!([{"secretName": "two"}, {"hosts": ["a.org"], "secretName": "two"}]);
    let mut plain = ingress("plain", 3, &[("e.org", root())]);
    plain["spec"]["tls"] = json!([{"hosts": ["e.org"]}]);
    plain["metadata"]["annotations"] = json!({SSL_REDIRECT: "false", BACKEND_TIMEOUT: "300s"});
    let table = table(&[first, second, plain], &["web"]);
    let redirect = |host: &str| table.find(host, "/").map(|found| found.route.redirect);
    assert_eq!(redirect("a.org"), Some(true));
    assert_eq!(redirect("x.b.org"), Some(true));
    assert_eq!(redirect("c.org"), Some(false));
    assert_eq!(redirect("d.org"), Some(true));
    assert_eq!(redirect("e.org"), Some(false));
    let seconds = |host: &str| table.find(host, "/").map(|found| found.route.timeout_seconds);
    assert_eq!((seconds("a.org"), seconds("e.org")), (Some(BACKEND_SECONDS), Some(300)));
    let named: Vec<String> =
        table.certificates.iter().map(|(host, (_, name))| format!("{host}={name}")).collect();
    assert_eq!(named, ["=two", "*.b.org=one", "a.org=one", "d.org=two"]);
    let [problem] = &table.problems[..] else { panic!("{:?}", table.problems) };
    assert_eq!((problem.name.as_str(), problem.reason), ("second", "CertificateTaken"));
    assert!(problem.message.ends_with("a.org is that of Ingress a/first"), "{}", problem.message);
}

#[test]
fn classes_tell_whose_an_ingress_is() {
    let of = |class: Option<&str>| {
        let mut made = ingress("i", 1, &[]);
        made["spec"]["ingressClassName"] = json!(class);
        made
    };
    let class = |name: &str, controller: &str, default: &str| {
        json!({"metadata": {"name": name, "annotations": {DEFAULT: default},
                            "creationTimestamp": "2026-01-01T00:00:00Z"},
               "spec": {"controller": controller}})
    };
    let none = Classes::default();
    assert!(none.ours(&of(None)) && none.ours(&of(Some("edged"))));
    assert!(!none.ours(&of(Some("nginx"))));
    let mut old = of(None);
    old["metadata"]["annotations"] = json!({ANNOTATION: "nginx"});
    assert!(!none.ours(&old));
    let all = [
        built_in(),
        class("nginx", "k8s.io/ingress-nginx", "true"),
        class("more", CONTROLLER, "false"),
    ];
    let known = Classes::gather(&all);
    assert!(known.ours(&of(None)) && known.ours(&of(Some("more"))));
    assert!(!known.ours(&of(Some("nginx"))));
    assert_eq!(default_of(&all), Some("nginx"), "it is newer");
    let off = Classes::gather([&class("edged", CONTROLLER, "false")]);
    assert!(!off.ours(&of(None)) && off.ours(&of(Some("edged"))));
    let theirs = Classes::gather([&class("edged", "x.y/z", "true")]);
    assert!(!theirs.ours(&of(None)) && !theirs.ours(&of(Some("edged"))));
    assert_eq!(default_of(&[class("a", "x.y/z", "false")]), None);
}
