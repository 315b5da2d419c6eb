//! Samples that the unit tests of this room share.

use super::cgroup::Layout;
use super::files::Request;
use crate::seams::{ContainerSpec, Limits, SandboxPaths, Security};

/// A small container.
pub(super) fn sample(id: &str) -> ContainerSpec {
    ContainerSpec {
        id: id.into(),
        pod_uid: "uid".into(),
        pod_namespace: "default".into(),
        pod_name: "pod".into(),
        name: "main".into(),
        attempt: 0,
        spec_hash: String::new(),
        layers: vec![],
        image: "image".into(),
        image_id: String::new(),
        args: vec!["/bin/true".into()],
        env: vec![],
        cwd: "/".into(),
        image_user: String::new(),
        namespaces: SandboxPaths { net: None, ipc: "/proc/self/ns/ipc".into(), uts: None },
        mounts: vec![],
        limits: Limits::default(),
        security: Security::default(),
        log_path: "/tmp/0.log".into(),
        log_max_bytes: 0,
        log_max_files: 1,
        tty: false,
        stdin: false,
        host_pid: false,
        oom_score_adj: 0,
    }
}

/// What would be written for it.
pub(super) fn sample_request(spec: ContainerSpec) -> Request {
    Request {
        spec,
        layout: Layout::V2 { mount: "/sys/fs/cgroup".into(), controllers: vec![] },
        cgroup: "/edged/pods/a".into(),
        data: "/data".into(),
        rootfs: "/run/rootfs".into(),
        shm: "/run/shm".into(),
        skeleton: "/run/cgroup".into(),
        device_filter: true,
    }
}
