//! What a pod's container comes to for the runtime.

use super::*;
use crate::images::ImageConfig;
use crate::seams::SandboxPaths;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};

fn built(container: Value, config: ImageConfig) -> Result<ContainerSpec, String> {
    // Tests run beside each other: each call has a directory of its own.
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("edged-spec-{}-{call}", std::process::id()));
    let mut all = json!({ "name": "app", "image": "app:1" });
    for (key, value) in container.as_object().unwrap() {
        all[key.as_str()] = value.clone();
    }
    let pod = json!({ "metadata": { "name": "web", "namespace": "ns", "uid": "u" }, "spec": {
        "containers": [all],
        "volumes": [{ "name": "cm", "configMap": { "name": "x" } }, { "name": "d" }] } });
    let pod = Desired::new(serde_json::from_value(pod).unwrap());
    let image = Image {
        id: "sha256:1".into(),
        reference: "app:1".into(),
        digest: None,
        layers: vec!["/l1".into()],
        config,
    };
    let network = PodNetwork {
        namespaces: SandboxPaths { net: None, ipc: "/ipc".into(), uts: None },
        ip: None,
    };
    let none = BTreeMap::new();
    let fields = Fields { pod: &pod, node: "n", host_ips: &[], pod_ips: &[], allocatable: &none };
    let volumes = ["cm", "d"].map(|n| (n.to_owned(), PathBuf::from(format!("/v/{n}"))));
    let spec = build(Start {
        pod: &pod,
        container: &pod.main()[0],
        id: "id".into(),
        attempt: 2,
        spec_hash: "h".into(),
        image: &image,
        volumes: &BTreeMap::from(volumes),
        network: &network,
        fields: &fields,
        material: &Material::new(),
        services: &BTreeMap::from([("S".to_owned(), "1".to_owned())]),
        files: vec![Mount { source: "/h".into(), target: "/etc/hosts".into(), read_only: false }],
        pod_dir: &dir,
        log_dir: Path::new("/log/app"),
        memory_bytes: 1 << 30,
    });
    let _ = fs::remove_dir_all(dir);
    spec
}

fn config(entrypoint: &[&str], cmd: &[&str], user: &str) -> ImageConfig {
    let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
    ImageConfig {
        entrypoint: list(entrypoint),
        cmd: list(cmd),
        env: vec!["PATH=/bin".into(), "A=image".into()],
        user: user.into(),
        working_dir: "/w".into(),
        stop_signal: None,
        volumes: vec![],
    }
}

#[test]
fn command_and_args_override_the_image() {
    let cases = [
        (json!({}), vec!["ep", "cmd"]),
        (json!({ "args": ["x"] }), vec!["ep", "x"]),
        (json!({ "command": ["c"] }), vec!["c"]),
        (
            json!({ "command": ["c"], "args": ["$(V)"], "env": [{ "name": "V", "value": "v" }] }),
            vec!["c", "v"],
        ),
    ];
    for (container, want) in cases {
        assert_eq!(built(container, config(&["ep"], &["cmd"], "")).unwrap().args, want);
    }
    assert!(built(json!({}), config(&[], &[], "")).unwrap_err().contains("no command"));
}

#[test]
fn environment_and_mounts() {
    let spec = built(
        json!({ "env": [{ "name": "A", "value": "own" }], "volumeMounts": [
            { "name": "cm", "mountPath": "/etc/x/y" }, { "name": "d", "mountPath": "/d" }] }),
        config(&["ep"], &[], ""),
    )
    .unwrap();
    assert_eq!(spec.env, ["HOSTNAME=web", "PATH=/bin", "A=image", "S=1", "A=own"]);
    let seen: Vec<_> = spec.mounts.iter().map(|m| (m.target.as_str(), m.read_only)).collect();
    let want =
        [("/d", false), ("/etc/hosts", false), ("/dev/termination-log", false), ("/etc/x/y", true)];
    assert_eq!(seen, want);
    assert_eq!(spec.log_path, Path::new("/log/app/2.log"));
    assert_eq!(spec.cwd, "/w");
}

#[test]
fn what_is_missing_is_named() {
    let cases = [
        (
            json!({ "env": [{ "name": "A", "valueFrom":
                { "secretKeyRef": { "name": "s", "key": "k" } } }] }),
            "secret \"s\" not found",
        ),
        (json!({ "volumeMounts": [{ "name": "z", "mountPath": "/z" }] }), "volume \"z\" not found"),
        (json!({ "securityContext": { "runAsNonRoot": true } }), "image will run as root"),
        (
            json!({ "securityContext": { "runAsNonRoot": true, "runAsUser": 0 } }),
            "runAsUser breaks non-root policy",
        ),
    ];
    for (container, want) in cases {
        let error = built(container, config(&["ep"], &[], "")).unwrap_err();
        assert!(error.contains(want), "{error}");
    }
    let named = json!({ "securityContext": { "runAsNonRoot": true } });
    assert!(built(named.clone(), config(&["ep"], &[], "www")).unwrap_err().contains("(www)"));
    assert!(built(named, config(&["ep"], &[], "1000:1000")).is_ok());
}
