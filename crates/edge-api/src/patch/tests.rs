//! Patches, with the cases of Kubernetes' documentation of each type.

use super::*;
use crate::kinds;
use serde_json::json;

#[test]
fn media_types() {
    for how in PatchType::ALL {
        assert_eq!(PatchType::from_content_type(how.content_type()), Some(how));
    }
    let with_charset = "application/merge-patch+json; charset=utf-8";
    assert_eq!(PatchType::from_content_type(with_charset), Some(PatchType::Merge));
    assert_eq!(PatchType::from_content_type("application/json"), None);
}

#[test]
fn json_patches() {
    let current = json!({"metadata": {"labels": {"a": "1"}}, "list": [1, 2]});
    let patch = json!([{"op": "test", "path": "/metadata/labels/a", "value": "1"},
                       {"op": "replace", "path": "/metadata/labels/a", "value": "2"},
                       {"op": "add", "path": "/list/-", "value": 3},
                       {"op": "remove", "path": "/list/0"}]);
    let patched = json_patch(&current, &patch).expect("applies");
    assert_eq!(patched, json!({"metadata": {"labels": {"a": "2"}}, "list": [2, 3]}));
    for (patch, code) in [
        (json!([{"op": "test", "path": "/list/0", "value": 9}]), 422),
        (json!([{"op": "remove", "path": "/nope"}]), 422),
        (json!([{"op": "what", "path": "/list"}]), 400),
        (json!({"op": "remove"}), 400),
    ] {
        let status = json_patch(&current, &patch).expect_err("refused");
        assert_eq!(status.code, code, "{patch}: {status}");
    }
}

#[test]
fn merge_patches() {
    // The examples of RFC 7386.
    for (target, patch, want) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ] {
        let mut target = target;
        merge_patch(&mut target, &patch);
        assert_eq!(target, want);
    }
    let error = apply(kinds::POD, PatchType::Merge, &json!({}), &json!([])).expect_err("list");
    assert_eq!(error.code, 400);
}

fn merged(current: &Value, patch: &Value) -> Value {
    strategic_merge(kinds::POD, current, patch).expect("applies")
}

#[test]
fn strategic_lists_merge_by_key() {
    let current = json!({"spec": {"containers": [{"name": "a", "image": "a:1"},
                                                 {"name": "b", "image": "b:1"}]}});
    let names = |object: &Value| -> Vec<String> {
        let list = object["spec"]["containers"].as_array().expect("a list");
        list.iter().map(|item| format!("{}={}", item["name"], item["image"])).collect()
    };
    for (patch, want) in [
        (json!([{"name": "b", "image": "b:2"}]), vec!["a=a:1", "b=b:2"]),
        // What a patch adds comes first, as Kubernetes has it.
        (json!([{"name": "c", "image": "c:1"}]), vec!["c=c:1", "a=a:1", "b=b:1"]),
        (json!([{"name": "a", "$patch": "delete"}]), vec!["b=b:1"]),
        (json!([{"$patch": "replace"}, {"name": "z", "image": "z:1"}]), vec!["z=z:1"]),
    ] {
        let got = merged(&current, &json!({"spec": {"containers": patch}}));
        let want: Vec<String> = want
            .into_iter()
            .filter_map(|text| text.split_once('='))
            .map(|(name, image)| format!("\"{name}\"=\"{image}\""))
            .collect();
        assert_eq!(names(&got), want, "{patch}");
    }
    let nameless = json!({"spec": {"containers": [{"image": "x"}]}});
    assert_eq!(strategic_merge(kinds::POD, &current, &nameless).expect_err("no key").code, 422);
}

#[test]
fn strategic_directives() {
    let current = json!({
        "metadata": {"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}},
        "spec": {"containers": [{"name": "a", "env": [{"name": "K", "value": "v"}]},
                                {"name": "b"}],
                 "volumes": [{"name": "v", "emptyDir": {}}],
                 "tolerations": [{"key": "a"}], "nodeSelector": {"a": "b"}}});
    for (patch, path, want) in [
        (
            json!({"metadata": {"finalizers": ["c"]}}),
            "/metadata/finalizers",
            json!(["c", "a", "b"]),
        ),
        (
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
            "/metadata/finalizers",
            json!(["b"]),
        ),
        (
            json!({"metadata": {"$setElementOrder/finalizers": ["b", "a", "c"],
                                "finalizers": ["c"]}}),
            "/metadata/finalizers",
            json!(["b", "a", "c"]),
        ),
        (json!({"metadata": {"labels": {"x": null}}}), "/metadata/labels", json!({"y": "2"})),
        (
            json!({"metadata": {"labels": {"$patch": "replace", "z": "3"}}}),
            "/metadata/labels",
            json!({"z": "3"}),
        ),
        (json!({"spec": {"nodeSelector": {"$patch": "delete"}}}), "/spec/nodeSelector", json!({})),
        (
            json!({"spec": {"tolerations": [{"key": "z"}]}}),
            "/spec/tolerations",
            json!([{"key": "z"}]),
        ),
        (
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "configMap"],
                                         "configMap": {"name": "c"}}]}}),
            "/spec/volumes",
            json!([{"name": "v", "configMap": {"name": "c"}}]),
        ),
        (
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
            "/spec/containers",
            json!([{"name": "b"}, {"name": "a", "env": [{"name": "K", "value": "v"}]}]),
        ),
        (
            json!({"spec": {"containers": [{"name": "a", "env": [{"name": "K", "value": "w"},
                                                                 {"name": "L"}]}]}}),
            "/spec/containers/0/env",
            json!([{"name": "K", "value": "w"}, {"name": "L"}]),
        ),
        (
            json!({"spec": {"initContainers": [{"name": "i", "image": null}]}}),
            "/spec/initContainers",
            json!([{"name": "i"}]),
        ),
    ] {
        assert_eq!(merged(&current, &patch).pointer(path), Some(&want), "{patch}");
    }
    let bad = json!({"spec": {"nodeSelector": {"$patch": "explode"}}});
    assert_eq!(strategic_merge(kinds::POD, &current, &bad).expect_err("unknown").code, 422);
}

#[test]
fn three_ways_meet() {
    let deployment = |replicas: Value, containers: Value| {
        let template = json!({"spec": {"containers": containers}});
        json!({"spec": {"replicas": replicas, "template": template}})
    };
    let original = deployment(
        json!(3),
        json!([{"name": "a", "image": "a:1", "args": ["x"]},
                                               {"name": "old", "image": "o"}]),
    );
    // Somebody scaled it, and a sidecar was injected.
    let current = deployment(
        json!(5),
        json!([{"name": "a", "image": "a:1", "args": ["x"],
        "imagePullPolicy": "Always"}, {"name": "old", "image": "o"}, {"name": "injected"}]),
    );
    let modified = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "new", "image": "n"}, {"name": "a", "image": "a:2"}]}}}});
    let patch = three_way(kinds::DEPLOYMENT, &original, &modified, &current);
    assert_eq!(
        patch,
        json!({"spec": {"replicas": null, "template": {"spec": {
            "$setElementOrder/containers": [{"name": "new"}, {"name": "a"}],
            "containers": [{"name": "new", "image": "n"},
                           {"name": "a", "image": "a:2", "args": null},
                           {"name": "old", "$patch": "delete"}]}}}})
    );
    let after = strategic_merge(kinds::DEPLOYMENT, &current, &patch).expect("applies");
    let containers = &after["spec"]["template"]["spec"]["containers"];
    let names: Vec<&str> =
        containers.as_array().expect("list").iter().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!(names, ["new", "a", "injected"]);
    assert_eq!(containers[1], json!({"name": "a", "image": "a:2", "imagePullPolicy": "Always"}));
    // Applied again, there is nothing to do.
    assert_eq!(three_way(kinds::DEPLOYMENT, &modified, &modified, &after), json!({}));
}

#[test]
fn three_ways_retain_and_remove() {
    let live = json!({"spec": {"strategy": {"type": "RollingUpdate",
                                            "rollingUpdate": {"maxSurge": "25%"}}}});
    let wanted = json!({"spec": {"strategy": {"type": "Recreate"}}});
    let patch = three_way(kinds::DEPLOYMENT, &Value::Null, &wanted, &live);
    assert_eq!(patch, json!({"spec": {"strategy": {"type": "Recreate", "$retainKeys": ["type"]}}}));
    let after = strategic_merge(kinds::DEPLOYMENT, &live, &patch).expect("applies");
    assert_eq!(after, wanted);

    let before = json!({"metadata": {"labels": {"a": "1", "b": "2"}, "finalizers": ["x", "y"]}});
    let after = json!({"metadata": {"labels": {"a": "1"}, "finalizers": ["y"]}});
    assert_eq!(
        diff(kinds::POD, &before, &after),
        json!({"metadata": {"labels": {"b": null}, "$setElementOrder/finalizers": ["y"],
                            "$deleteFromPrimitiveList/finalizers": ["x"]}})
    );
    assert_eq!(
        three_way_merge(&before, &after, &before),
        json!({"metadata": {"labels": {"b": null}, "finalizers": ["y"]}})
    );
}
