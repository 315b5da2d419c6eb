//! Volumes on a real disk. What needs root (tmpfs, bind mounts) is skipped loudly without it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use edge_core::pod::Desired;
use serde_json::{Value, json};

use super::*;

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("edged-vol-{name}-{}", std::process::id()));
        let _ = take_down(&dir);
        fs::create_dir_all(&dir).unwrap();
        Place(dir)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = take_down(&self.0);
    }
}

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: needs root");
    }
    root
}

fn with_scene<T>(
    dir: &Path,
    spec: Value,
    material: &Material,
    work: impl FnOnce(&Scene<'_>) -> T,
) -> T {
    let pod = json!({ "metadata": { "name": "p", "labels": { "a": "b" } }, "spec": spec });
    let pod = Desired::new(serde_json::from_value(pod).unwrap());
    let none = BTreeMap::new();
    let fields = Fields { pod: &pod, node: "n", host_ips: &[], pod_ips: &[], allocatable: &none };
    let tokens = Tokens::new();
    let (spec, tokens) = (pod.spec(), &tokens);
    work(&Scene { pod_dir: dir, spec, fields: &fields, material, tokens })
}

/// Sets up or refreshes a volume with the token that was handed out for it, if one was.
fn with_token(dir: &Path, context: Value, token: Option<&str>) -> PathBuf {
    let spec = json!({ "securityContext": context, "containers": [{ "name": "c" }],
        "volumes": [{ "name": "v", "projected": { "defaultMode": 420, "sources": [
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } } ] } }] });
    let pod = json!({ "metadata": { "name": "p" }, "spec": spec });
    let pod = Desired::new(serde_json::from_value(pod).unwrap());
    let none = BTreeMap::new();
    let fields = Fields { pod: &pod, node: "n", host_ips: &[], pod_ips: &[], allocatable: &none };
    let wanted = tokens(pod.spec()).into_iter();
    let tokens: Tokens = wanted.filter_map(|wanted| Some((wanted, Token::new(token?)))).collect();
    let (spec, material, tokens) = (pod.spec(), &Material::new(), &tokens);
    let scene = Scene { pod_dir: dir, spec, fields: &fields, material, tokens };
    set_up(&scene).unwrap().remove("v").unwrap()
}

#[test]
fn tokens_change_all_at_once_and_stay_when_no_server_is_there() {
    if !root() {
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let place = Place::new("token");
    let dir = with_token(&place.0, json!({}), None);
    assert!(!dir.join("token").exists(), "a board without a server starts its pods all the same");
    with_token(&place.0, json!({}), Some("one"));
    let read = || fs::read_to_string(dir.join("token")).unwrap();
    let meta = || fs::metadata(dir.join("token")).unwrap();
    assert_eq!((read().as_str(), meta().mode() & 0o777), ("one", 0o644));
    assert!(is_mount_point(&dir).unwrap(), "never on the card");
    with_token(&place.0, json!({}), None);
    assert_eq!(read(), "one");
    let before = fs::read_link(dir.join("..data")).unwrap();
    with_token(&place.0, json!({}), Some("two"));
    assert_eq!(read(), "two");
    assert_ne!(fs::read_link(dir.join("..data")).unwrap(), before);
    let other = Place::new("token-user");
    let dir = with_token(&other.0, json!({ "runAsUser": 7, "fsGroup": 9 }), Some("one"));
    let meta = fs::metadata(dir.join("token")).unwrap();
    assert_eq!((meta.mode() & 0o777, meta.uid(), meta.gid()), (0o640, 7, 9));
}

fn maps(data: Value) -> Material {
    let name = Reference::ConfigMap("cm".into());
    BTreeMap::from([(name, Some(json!({ "data": data })))])
}

fn volume(volume: Value) -> Value {
    json!({ "containers": [], "volumes": [volume] })
}

#[test]
fn binary_data_is_for_files_and_not_for_variables() {
    let name = Reference::ConfigMap("cm".into());
    let map = json!({ "data": { "a": "1" }, "binaryData": { "b": "AAEC" } });
    let found: Vec<_> = text_content(&name, &map).unwrap().into_keys().collect();
    assert_eq!(found, ["a"]);
    let place = Place::new("binary");
    let spec = volume(json!({ "name": "v", "configMap": { "name": "cm" } }));
    let material = BTreeMap::from([(name, Some(map))]);
    let found = with_scene(&place.0, spec, &material, set_up).unwrap();
    assert_eq!(fs::read(found["v"].join("b")).unwrap(), [0, 1, 2]);
}

#[test]
fn config_map_files_swap_at_once() {
    let place = Place::new("cm");
    let spec = volume(json!({ "name": "v", "configMap": { "name": "cm" } }));
    let one = maps(json!({ "a": "1", "b": "2" }));
    assert_eq!(with_scene(&place.0, spec.clone(), &one, refresh), Ok(false), "not set up yet");
    let found = with_scene(&place.0, spec.clone(), &one, set_up).unwrap();
    let dir = &found["v"];
    assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "1");
    assert_eq!(fs::read_link(dir.join("a")).unwrap(), Path::new("..data/a"));
    let mode = fs::metadata(dir.join("a")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o644);
    assert_eq!(with_scene(&place.0, spec.clone(), &one, refresh), Ok(false));
    let two = maps(json!({ "a": "x", "c": "3" }));
    assert_eq!(with_scene(&place.0, spec, &two, refresh), Ok(true));
    assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "x");
    assert!(!dir.join("b").exists() && fs::symlink_metadata(dir.join("b")).is_err());
    assert_eq!(fs::read_to_string(dir.join("c")).unwrap(), "3");
    let left = fs::read_dir(dir).unwrap().count();
    assert_eq!(left, 4, "a, c, ..data and one directory");
}

#[test]
fn items_modes_and_paths() {
    let place = Place::new("items");
    let spec = volume(json!({ "name": "v", "configMap": { "name": "cm", "defaultMode": 256,
        "items": [{ "key": "a", "path": "sub/dir/x" },
            { "key": "a", "path": "y", "mode": 493 }] }}));
    let found = with_scene(&place.0, spec, &maps(json!({ "a": "1" })), set_up).unwrap();
    let dir = &found["v"];
    assert_eq!(fs::read_to_string(dir.join("sub/dir/x")).unwrap(), "1");
    let mode = |p: &str| fs::metadata(dir.join(p)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("sub/dir/x"), mode("y")), (0o400, 0o755));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let place = Place::new("missing");
    let cases = [
        (json!({ "configMap": { "name": "none" } }), "configmap \"none\" not found"),
        (json!({ "secret": { "secretName": "none" } }), "secret \"none\" not found"),
        (
            json!({ "configMap": { "name": "cm", "items": [{ "key": "z", "path": "z" }] } }),
            "references non-existent config key: z",
        ),
        (
            json!({ "configMap": { "name": "cm", "items": [{ "key": "a", "path": "../z" }] } }),
            "must not contain '..'",
        ),
        (
            json!({ "hostPath": { "path": "/etc/passwd", "type": "Directory" } }),
            "is not a directory",
        ),
        (json!({ "nfs": { "server": "s", "path": "/" } }), "(nfs) are not supported"),
        (
            json!({ "projected": { "sources": [
                { "clusterTrustBundle": { "name": "x", "path": "t" } }] } }),
            "clusterTrustBundle is not supported",
        ),
    ];
    for (source, want) in cases {
        let mut one = json!({ "name": "v" });
        one.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        let material = maps(json!({ "a": "1" }));
        let error = with_scene(&place.0, volume(one), &material, set_up).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
        assert!(error.starts_with("MountVolume.SetUp failed for volume \"v\" : "), "{error}");
    }
}

#[test]
fn optional_sources_may_be_missing() {
    let place = Place::new("optional");
    let spec = volume(json!({ "name": "v", "configMap": { "name": "no", "optional": true } }));
    let found = with_scene(&place.0, spec, &Material::new(), set_up).unwrap();
    assert!(found["v"].is_dir());
}

#[test]
fn downward_and_projected() {
    let place = Place::new("projected");
    let spec = volume(json!({ "name": "v", "projected": { "sources": [
        { "configMap": { "name": "cm" } },
        { "downwardAPI": { "items": [
            { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }] } },
    ] } }));
    let found = with_scene(&place.0, spec, &maps(json!({ "a": "1" })), set_up).unwrap();
    assert_eq!(fs::read_to_string(found["v"].join("labels")).unwrap(), "a=\"b\"");
    assert_eq!(fs::read_to_string(found["v"].join("a")).unwrap(), "1");
}

#[test]
fn secrets_stay_off_the_disk_and_leave_no_mount() {
    if !root() {
        return;
    }
    let place = Place::new("secret");
    let spec = volume(json!({ "name": "v", "secret": { "secretName": "s" } }));
    let name = Reference::Secret("s".into());
    let material = BTreeMap::from([(name, Some(json!({ "data": { "k": "aGk=" } })))]);
    let found = with_scene(&place.0, spec, &material, set_up).unwrap();
    assert_eq!(fs::read_to_string(found["v"].join("k")).unwrap(), "hi");
    assert!(is_mount_point(&found["v"]).unwrap());
    take_down(&place.0).unwrap();
    assert!(!place.0.exists());
}

#[test]
fn memory_volumes_are_bounded() {
    if !root() {
        return;
    }
    let place = Place::new("mem");
    let spec =
        volume(json!({ "name": "v", "emptyDir": { "medium": "Memory", "sizeLimit": "64Ki" } }));
    let found = with_scene(&place.0, spec, &Material::new(), set_up).unwrap();
    assert!(fs::write(found["v"].join("big"), vec![0; 128 * 1024]).is_err());
}

#[test]
fn sub_paths_stay_inside() {
    if !root() {
        return;
    }
    let place = Place::new("sub");
    let volume = place.0.join("volumes/v");
    fs::create_dir_all(&volume).unwrap();
    fs::write(volume.join("f"), "in").unwrap();
    symlink("/etc", volume.join("evil")).unwrap();
    let bound = bind_sub_path(&place.0, &volume, "f", "c", 0).unwrap();
    assert_eq!(fs::read_to_string(bound).unwrap(), "in");
    let made = bind_sub_path(&place.0, &volume, "x/y", "c", 1).unwrap();
    assert!(made.is_dir() && volume.join("x/y").is_dir());
    let told = bind_sub_path(&place.0, &volume, "evil/passwd", "c", 2).unwrap_err();
    assert!(told.contains("leads out of the volume"), "{told}");
    assert!(bind_sub_path(&place.0, &volume, "../x", "c", 3).is_err());
    bind_sub_path(&place.0, &volume, "f", "c", 0).unwrap();
}
