//! Who may write what, by example.

use super::*;
use crate::kinds;

fn stamp() -> Stamp {
    Stamp { uid: "u-1".into(), now: "2025-01-31T10:20:30Z".into(), random: 7 }
}

#[test]
fn new_objects_are_stamped() {
    let mut pod = json!({"metadata": {"generateName": "web-", "uid": "mine", "generation": 9,
                                      "managedFields": [], "deletionTimestamp": "x"},
                         "spec": {"containers": []}, "status": {"phase": "Running"}});
    kinds::POD.prepare_create(&mut pod, &stamp()).expect("prepared");
    assert_eq!(meta::name(&pod).len(), "web-".len() + 5);
    assert_eq!((meta::uid(&pod), meta::generation(&pod)), ("u-1", 1));
    assert_eq!(meta::creation_timestamp(&pod), "2025-01-31T10:20:30Z");
    assert!(!meta::is_deleting(&pod));
    assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));

    let mut deployment = json!({"metadata": {"name": "x"}, "status": {"replicas": 3}});
    kinds::DEPLOYMENT.prepare_create(&mut deployment, &stamp()).expect("prepared");
    assert_eq!(deployment["status"], json!({}));

    let mut namespace = json!({"metadata": {"name": "x", "namespace": "y"}});
    kinds::NAMESPACE.prepare_create(&mut namespace, &stamp()).expect("prepared");
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(meta::namespace(&namespace), "");

    let mut old = json!({"metadata": {"name": "x", "resourceVersion": "5"}});
    let error = kinds::POD.prepare_create(&mut old, &stamp()).expect_err("refused");
    assert_eq!(error.message, "resourceVersion should not be set on objects to be created");
}

#[test]
fn updates_keep_status_and_count_generations() {
    let old = json!({"metadata": {"name": "x", "uid": "u", "generation": 3, "resourceVersion": "9",
                                  "creationTimestamp": "t"},
                     "spec": {"replicas": 1}, "status": {"replicas": 1}});
    for (new, generation) in [
        (json!({"metadata": {"name": "x"}, "spec": {"replicas": 1}}), 3),
        (json!({"metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {"replicas": 1}}), 3),
        (json!({"metadata": {"name": "x", "annotations": {"a": "b"}}, "spec": {"replicas": 1}}), 4),
        (
            json!({"metadata": {"name": "x", "generation": 99}, "spec": {"replicas": 2},
                "status": {"replicas": 77}}),
            4,
        ),
    ] {
        let mut new = new;
        kinds::DEPLOYMENT.prepare_update(&mut new, &old);
        assert_eq!(meta::generation(&new), generation, "{new}");
        assert_eq!(new["status"], old["status"]);
        assert_eq!((meta::uid(&new), meta::creation_timestamp(&new)), ("u", "t"));
    }
    // Kinds without a status path are written whole.
    let mut map = json!({"metadata": {"name": "x"}, "data": {"a": "b"}});
    kinds::CONFIG_MAP.prepare_update(&mut map, &json!({"metadata": {"name": "x", "uid": "u"}}));
    assert_eq!(map["data"], json!({"a": "b"}));
    assert_eq!(map["metadata"].get("generation"), None);
}

#[test]
fn status_updates_keep_the_rest() {
    let old = json!({"metadata": {"name": "x", "labels": {"a": "1"}, "generation": 3},
                     "spec": {"replicas": 1}, "status": {}});
    let mut new = json!({"metadata": {"name": "x", "labels": {"a": "2"},
                                      "annotations": {"by": "me"}},
                         "spec": {"replicas": 5}, "status": {"replicas": 1}});
    kinds::DEPLOYMENT.prepare_status_update(&mut new, &old);
    assert_eq!(
        new,
        json!({"metadata": {"name": "x", "labels": {"a": "1"}, "annotations": {"by": "me"},
                            "generation": 3},
               "spec": {"replicas": 1}, "status": {"replicas": 1}})
    );
}
