//! Templates as people type them, with what `kubectl` answers.

use super::*;
use serde_json::json;

fn pods() -> Object {
    json!({
        "kind": "List",
        "items": [
            {"metadata": {"name": "a", "labels": {"app": "web", "x.io/y": "dotted"}},
             "spec": {"containers": [{"name": "c", "image": "i:1"}, {"name": "d"}], "n": 3},
             "status": {"podIP": "10.0.0.1",
                        "conditions": [{"type": "Ready", "status": "True"},
                                       {"type": "Initialized", "status": "False"}]}},
            {"metadata": {"name": "b"}, "spec": {"n": 12},
             "status": {"podIP": "10.0.0.2"}},
        ],
    })
}

#[test]
fn templates() {
    let table = [
        ("{.kind}", "List"),
        ("{.items[*].metadata.name}", "a b"),
        (".items[*].metadata.name", "a b"),
        ("items[0].metadata.name", "a"),
        ("{.items[*]['metadata.name']}", ""),
        ("{.items[*]['metadata']['name']}", "a b"),
        (
            "{range .items[*]}{.metadata.name}{\"\\t\"}{.status.podIP}{'\\n'}{end}",
            "a\t10.0.0.1\nb\t10.0.0.2\n",
        ),
        ("{range .items[*]}[{.metadata.name}] {end}", "[a] [b] "),
        ("{range .items[*]}{range .spec.containers[*]}{.name},{end};{end}", "c,d,;;"),
        ("{.items[?(@.metadata.name==\"b\")].status.podIP}", "10.0.0.2"),
        ("{.items[?(@.metadata.name!='b')].status.podIP}", "10.0.0.1"),
        ("{.items[?(@.spec.n>3)].metadata.name}", "b"),
        ("{.items[?(@.spec.n <= 3)].metadata.name}", "a"),
        ("{.items[?(@.spec.containers)].metadata.name}", "a"),
        ("{.items[0].status.conditions[?(@.type=='Ready')].status}", "True"),
        ("{.items[0].metadata.labels.x\\.io/y}", "dotted"),
        ("{.items[0].metadata.labels['x\\.io/y']}", "dotted"),
        ("{.items[0].metadata.labels['x.io/y']}", "dotted"),
        ("{.items[0]['metadata','status'].name}", "a"),
        ("{.items[-1].metadata.name}", "b"),
        ("{.items[-1:].metadata.name}", "b"),
        ("{.items[0:1].metadata.name}", "a"),
        ("{.items[::2].metadata.name}", "a"),
        ("{.items[0,1].metadata.name}", "a b"),
        ("{..podIP}", "10.0.0.1 10.0.0.2"),
        ("{.items[0].spec.containers[*].*}", "i:1 c d"),
        ("{.items[0].metadata.labels}", "{\"app\":\"web\",\"x.io/y\":\"dotted\"}"),
        ("{$.kind} {@.kind}", "List List"),
        ("{.nothing.here}", ""),
        ("n={.items[0].spec.n}!", "n=3!"),
        ("{.items[0].spec.containers[*].name}", "c d"),
        ("{ .kind }", "List"),
    ];
    for (template, wanted) in table {
        let got = Template::parse(template).unwrap().render(&pods()).unwrap();
        assert_eq!(got, wanted, "{template}");
    }
}

#[test]
fn mistakes_are_named() {
    let table = [
        ("{.a", "unclosed action"),
        ("{range .items[*]}{.a}", "{end} is missing"),
        ("{.a}{end}", "end without range"),
        ("{.items[0}", "unterminated array"),
        ("{\"x}", "unterminated quoted"),
        ("{.items[?(@.a==x)]}", "cannot read \"x\""),
        ("{.a[1:2:0]}", "step must be"),
        ("{#}", "unrecognized character"),
    ];
    for (template, wanted) in table {
        let said = Template::parse(template).unwrap_err().to_string();
        assert!(said.contains(wanted), "{template}: {said}");
        assert!(said.starts_with("error: error parsing jsonpath"), "{said}");
    }
    let deep = "{range .x}".repeat(100);
    assert!(Template::parse(&deep).is_err());
    let far = Template::parse("{.items[9].metadata}").unwrap().render(&pods());
    assert!(far.unwrap_err().to_string().contains("out of bounds"));
}
