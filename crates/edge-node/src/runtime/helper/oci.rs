//! The OCI runtime specification of a container: what containerd would write for the same pod,
//! with the limits left out, since the cgroup is made and limited before libcontainer sees it.

use std::path::Path;

use serde_json::{Value, json};

use super::users::User;
use crate::runtime::cgroup::Layout;
use crate::runtime::files::Request;
use crate::seams::{ContainerSpec, Mount};

/// Where programs are looked for in an image that does not say.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whatever `edged` itself runs with.
const UMASK: u32 = 0o022;

/// Hidden from containers that are not privileged.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Not to be written by containers that are not privileged.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Entries of `/dev` that a privileged container gets of its own, not the board's.
const OWN_DEVICES: [&str; 8] = ["pts", "shm", "fd", "mqueue", "console", "ptmx", "tty", "stdin"];

/// The whole specification.
pub(super) fn config(request: &Request, user: &User) -> Value {
    let spec = &request.spec;
    let privileged = spec.security.privileged;
    let mut linux = json!({
        "namespaces": namespaces(request),
        "cgroupsPath": request.cgroup,
    });
    if !privileged {
        linux["maskedPaths"] = json!(MASKED);
        linux["readonlyPaths"] = json!(READ_ONLY);
    }
    if !spec.security.sysctls.is_empty() {
        linux["sysctl"] = json!(spec.security.sysctls);
    }
    if privileged {
        linux["devices"] = Value::Array(devices(Path::new("/dev")));
    }
    json!({
        "ociVersion": "1.0.2",
        "process": process(spec, user, &spec.args, &[], spec.tty),
        "root": { "path": request.rootfs, "readonly": spec.security.read_only_root },
        "mounts": mounts(request),
        "linux": linux,
    })
}

/// The process of a container or of a command in it. No capabilities: the launcher sees to them.
pub(super) fn process(
    spec: &ContainerSpec,
    user: &User,
    args: &[String],
    extra: &[String],
    tty: bool,
) -> Value {
    let mut env = vec![PATH.to_owned(), format!("HOME={}", user.home)];
    if tty {
        env.push("TERM=xterm".into());
    }
    env.extend(spec.env.iter().chain(extra).cloned());
    json!({
        "terminal": tty,
        "user": {
            "uid": user.uid, "gid": user.gid, "additionalGids": user.groups, "umask": UMASK
        },
        "args": args,
        "env": env,
        "cwd": spec.cwd,
        "noNewPrivileges": !spec.security.allow_privilege_escalation && !spec.security.privileged,
    })
}

fn namespaces(request: &Request) -> Vec<Value> {
    let given = &request.spec.namespaces;
    let mut all = vec![json!({ "type": "mount" }), json!({ "type": "ipc", "path": given.ipc })];
    if let Some(net) = &given.net {
        all.push(json!({ "type": "network", "path": net }));
    }
    if let Some(uts) = &given.uts {
        all.push(json!({ "type": "uts", "path": uts }));
    }
    if !request.spec.host_pid {
        all.push(json!({ "type": "pid" }));
    }
    if matches!(request.layout, Layout::V2 { .. }) && !request.spec.security.privileged {
        all.push(json!({ "type": "cgroup" }));
    }
    all
}

fn mounts(request: &Request) -> Vec<Value> {
    let spec = &request.spec;
    let rw = if spec.security.privileged { "rw" } else { "ro" };
    let fs = |target: &str, kind: &str, options: &[&str]| {
        let source = kind;
        json!({ "destination": target, "type": kind, "source": source, "options": options })
    };
    let mut all = vec![
        fs("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        fs("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        fs(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        fs("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        fs("/sys", "sysfs", &["nosuid", "noexec", "nodev", rw]),
        bind(&request.shm, "/dev/shm", &["rbind", "nosuid", "noexec", "nodev"]),
    ];
    match &request.layout {
        Layout::V1(_) => {
            let options = ["rbind", "nosuid", "noexec", "nodev", rw];
            all.push(bind(&request.skeleton, "/sys/fs/cgroup", &options));
            for (name, dir) in request.layout.shown(&request.cgroup) {
                all.push(bind(&dir, &format!("/sys/fs/cgroup/{name}"), &options));
            }
        }
        Layout::V2 { .. } => {
            all.push(fs("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", rw]));
        }
    }
    // What the pod mounts takes the place of a default mount there.
    all.retain(|m| !spec.mounts.iter().any(|own| m["destination"] == *own.target));
    let mut own: Vec<&Mount> = spec.mounts.iter().collect();
    own.sort_by_key(|m| Path::new(&m.target).components().count());
    all.extend(own.into_iter().map(|m| {
        bind(&m.source, &m.target, &["rbind", "rprivate", if m.read_only { "ro" } else { "rw" }])
    }));
    all
}

fn bind(source: &Path, target: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": "bind", "source": source, "options": options })
}

/// Every device node below `dir`, for a privileged container.
fn devices(dir: &Path) -> Vec<Value> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        let Ok(data) = std::fs::symlink_metadata(&path) else { continue };
        let kind = data.file_type();
        let name = entry.file_name();
        if OWN_DEVICES.iter().any(|own| name == **own) {
            continue;
        }
        if kind.is_dir() {
            found.extend(devices(&path));
        } else if kind.is_char_device() || kind.is_block_device() {
            found.push(json!({
                "path": path,
                "type": if kind.is_block_device() { "b" } else { "c" },
                "major": libc::major(data.rdev()),
                "minor": libc::minor(data.rdev()),
                "fileMode": data.mode() & 0o7777,
                "uid": data.uid(),
                "gid": data.gid(),
            }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::tests::{sample, sample_request};

    fn user() -> User {
        User { uid: 0, gid: 0, groups: vec![0], home: "/root".into() }
    }

    #[test]
    fn a_pods_mount_takes_the_place_of_the_default_and_parents_come_first() {
        let mut spec = sample("a");
        for target in ["/a/b/c", "/dev/shm", "/a"] {
            let source = "/tmp".into();
            spec.mounts.push(Mount { source, target: target.into(), read_only: target == "/a" });
        }
        let config = config(&sample_request(spec), &user());
        let targets: Vec<&str> = config["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["destination"].as_str().unwrap())
            .filter(|t| t.starts_with("/a") || *t == "/dev/shm")
            .collect();
        assert_eq!(targets, ["/a", "/dev/shm", "/a/b/c"]);
    }

    #[test]
    fn a_privileged_container_has_nothing_hidden() {
        let mut spec = sample("a");
        let plain = config(&sample_request(spec.clone()), &user());
        assert!(plain["linux"]["maskedPaths"].is_array());
        assert_eq!(plain["process"]["noNewPrivileges"], true);
        spec.security.privileged = true;
        let privileged = config(&sample_request(spec), &user());
        assert!(privileged["linux"]["maskedPaths"].is_null());
        assert_eq!(privileged["process"]["noNewPrivileges"], false);
    }

    #[test]
    fn libcontainer_reads_the_specification_and_sets_no_limits_of_its_own() {
        let config = config(&sample_request(sample("a")), &user());
        let spec: oci_spec::runtime::Spec = serde_json::from_value(config).unwrap();
        let linux = spec.linux().as_ref().unwrap();
        assert!(linux.resources().is_none());
        assert!(spec.process().as_ref().unwrap().capabilities().is_none());
    }
}
