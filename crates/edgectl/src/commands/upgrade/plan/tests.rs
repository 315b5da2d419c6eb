//! Plans of upgrades, from clusters written down here.

use super::super::file::Content;
use super::*;
use serde_json::json;

fn program(arch: &str, version: &str) -> Program {
    Program {
        shown: "f".into(),
        content: Content::Held(bytes::Bytes::new()),
        version: Version::parse(version).unwrap(),
        arch: arch.into(),
        bytes: 1,
        sha256: String::new(),
        signature: None,
    }
}

fn node(name: &str, version: &str, arch: &str, ready: &str) -> Object {
    json!({"metadata": {"name": name}, "status": {
        "nodeInfo": {"kubeletVersion": format!("v1.33.0+edged.{version}"),
                     "architecture": arch},
        "conditions": [{"type": "Ready", "status": ready}]}})
}

fn boards(nodes: &[Object], servers: &Object) -> Boards {
    Boards::read(&json!({"items": nodes}), &json!({"servers": servers}))
}

fn three() -> Object {
    json!([{"name": "s1", "leader": true, "voter": true, "api": "https://1"},
           {"name": "s2", "voter": true, "api": "https://2"},
           {"name": "s3", "voter": true, "api": "https://3"}])
}

fn names(boards: &Boards, programs: &[Program], only: &[String]) -> Vec<String> {
    let steps = steps(boards, programs, only, true).unwrap();
    steps.into_iter().map(|step| step.node).collect()
}

#[test]
fn the_leader_is_last_of_the_servers_and_agents_follow() {
    let all: Vec<Object> =
        ["a1", "s1", "s2", "s3"].iter().map(|name| node(name, "0.1.0", "arm64", "True")).collect();
    let cluster = boards(&all, &three());
    let up = [program("arm64", "0.2.0")];
    assert_eq!(names(&cluster, &up, &[]), ["s2", "s3", "s1", "a1"]);
    let down = [program("arm64", "0.0.9")];
    assert_eq!(names(&cluster, &down, &[]), ["a1", "s2", "s3", "s1"]);
    assert_eq!(names(&cluster, &up, &["s1".into()]), ["s1"]);
    assert_eq!(names(&cluster, &[program("arm64", "0.1.0")], &[]), [""; 0]);
    assert_eq!(cluster.addresses("https://2"), ["https://2", "https://1", "https://3"]);
}

#[test]
fn what_is_done_already_is_left_out() {
    let all = [
        node("s1", "0.1.0", "arm64", "True"),
        node("s2", "0.2.0", "arm64", "True"),
        node("s3", "0.1.0", "arm", "True"),
    ];
    let cluster = boards(&all, &three());
    let both = [program("arm64", "0.2.0"), program("arm", "0.2.0")];
    assert_eq!(names(&cluster, &both, &[]), ["s3", "s1"]);
    let steps = steps(&cluster, &both, &[], false).unwrap();
    assert_eq!((steps[0].program, steps[1].program), (1, 0));
}

#[test]
fn a_board_that_cannot_take_part_stops_it_before_it_begins() {
    let refused = |node: Object, program: Program, word: &str| {
        let line = steps(&boards(&[node], &three()), &[program], &[], false).unwrap_err();
        assert!(line.contains(word), "{line}");
    };
    refused(node("s1", "0.1.0", "arm", "True"), program("arm64", "0.2.0"), "s1 is arm: give");
    refused(node("s1", "0.1.0", "arm", "False"), program("arm", "0.2.0"), "not Ready");
    refused(node("s1", "0.1.0", "arm", "True"), program("arm", "0.3.0"), "too new");
    refused(node("s1", "0.3.0", "arm", "True"), program("arm", "0.1.0"), "too old");
    let older = node("s1", "0.2.1", "arm", "True");
    refused(older, program("arm", "0.2.0"), "older than 0.2.1, which node/s1 runs");
    refused(node("s1", "x", "arm", "True"), program("arm", "0.1.0"), "does not say");
    let only = ["x".to_owned()];
    let nowhere = steps(&boards(&[], &three()), &[program("arm", "0.1.0")], &only, false);
    assert!(nowhere.unwrap_err().contains("no node \"x\""));
}

#[test]
fn boards_that_stay_are_borne_in_mind() {
    let two = json!([{"name": "s1", "leader": true, "voter": true}]);
    let made = |s1: &str, a1: &str, a2: &str| {
        let all = [("s1", s1), ("a1", a1), ("a2", a2)];
        boards(&all.map(|(name, version)| node(name, version, "arm", "True")), &two)
    };
    let of = |cluster: &Boards, new: &str, only: &[&str]| {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        let steps = steps(cluster, &[program("arm", new)], &only, true);
        steps.map(|steps| steps.into_iter().map(|step| step.node).collect::<Vec<_>>())
    };
    let refused = |cluster: &Boards, new: &str, only: &[&str], words: &str| {
        let line = of(cluster, new, only).unwrap_err();
        assert!(line.contains(words) && !line.contains('\n'), "{line}");
    };
    let mixed = made("0.2.0", "0.1.0", "0.2.0");
    refused(&mixed, "0.3.0", &["s1"], "on node/s1 is too far from node/a1 (0.1.0)");
    assert_eq!(of(&mixed, "0.2.0", &[]).unwrap(), ["a1"]);
    assert_eq!(of(&mixed, "0.2.0", &["a1"]).unwrap(), ["a1"]);
    let even = made("0.1.0", "0.1.0", "0.1.0");
    refused(&even, "0.2.0", &["a1"], "node/a1 would be ahead of server/s1 (0.1.0)");
    refused(&even, "0.1.1", &["a1", "a2"], "servers come first");
    assert_eq!(of(&even, "0.1.0+b", &["a1"]).unwrap(), ["a1"], "another build");
    assert_eq!(of(&even, "0.2.0", &["a1", "s1"]).unwrap(), ["s1", "a1"]);
    assert_eq!(of(&even, "0.0.9", &["a1"]).unwrap(), ["a1"]);
    refused(&even, "0.0.9", &["s1"], "node/a1 (0.1.0) would be ahead of server/s1");
    refused(&made("0.1.0", "0.1.0", "0.0.9"), "0.2.0", &["s1"], "too far from node/a2");
}

#[test]
fn the_next_one_waits_for_the_others() {
    let all = |ready| [node("s1", "0.1.0", "arm", "True"), node("a1", "0.1.0", "arm", ready)];
    assert_eq!(boards(&all("False"), &three()).lacks(None), None, "an agent votes on nothing");
    let lacks = boards(&all("False"), &three()).lacks(Some("a1")).unwrap();
    assert!(lacks.contains("a1 is not Ready"), "{lacks}");
    let cases = [
        (json!([{"name": "s1", "voter": true}]), "no server leads"),
        (
            json!([{"name": "s1", "leader": true, "voter": true},
                   {"name": "s2", "voter": true, "away": true}]),
            "s2 is away",
        ),
        (json!([{"name": "s1", "leader": true, "voter": true}, {"name": "s2"}]), "caught up"),
    ];
    for (servers, word) in cases {
        let lacks = boards(&all("True"), &servers).lacks(None).unwrap();
        assert!(lacks.contains(word), "{lacks}");
    }
    assert_eq!(boards(&all("True"), &three()).voters(), 3);
}

#[test]
fn servers_without_agents_are_asked_themselves() {
    let mut cluster = boards(&[node("s1", "0.1.0", "arm", "True")], &three());
    let bare = |name: &str, api: &str| (name.to_owned(), api.to_owned());
    assert_eq!(cluster.bare(), [bare("s2", "https://2"), bare("s3", "https://3")]);
    let program = [program("arm", "0.2.0")];
    assert_eq!(names(&cluster, &program, &[]), ["s1"], "nobody has said what the others run");
    let only = ["s3".to_owned()];
    assert!(steps(&cluster, &program, &only, false).unwrap_err().contains("s3"));
    let version = Version::parse("0.1.0");
    cluster.nodeless = vec![Board { name: "s3".into(), version, arch: "arm".into(), ready: true }];
    let all = steps(&cluster, &program, &[], false).unwrap();
    let told: Vec<_> = all.iter().map(|s| (s.node.as_str(), s.api.as_deref())).collect();
    assert_eq!(told, [("s3", Some("https://3")), ("s1", None)]);
    assert_eq!(names(&cluster, &program, &only), ["s3"]);
}
