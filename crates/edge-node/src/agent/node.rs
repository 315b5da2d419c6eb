//! This board as a Node: what it is, what it can give, how it feels. Written when that changes
//! only; whether the board lives is not told here.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use edge_api::{Object, time};
use edge_core::doctor::{self, Condition};
use serde_json::{Value, json};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::images::ImageSummary;

/// Pods that a board takes at most.
const PODS: u32 = 110;
/// Memory kept for the system, as the kubelet's default eviction threshold has it.
const RESERVED_MEMORY: u64 = 100 << 20;
/// The board is short of memory below this.
const MEMORY_LOW: u64 = 100 << 20;
/// The board is short of disk when less than this part of it, in hundredths, is free …
const DISK_LOW: u64 = 10;
/// … and less than this. A tenth of a large disk is plenty for a board.
const DISK_PLENTY: u64 = 2 << 30;
/// The board is short of process ids when less than this part of them, in hundredths, is free.
const PIDS_LOW: u64 = 5;
/// What a person is told of a disk that nothing can be written to.
const READ_ONLY: &str = "the disk of the data directory is read-only: its pods run on, and none \
    can be started; look for errors of the card or disk in dmesg";
/// Images that a Node lists, the largest ones.
const IMAGES: usize = 50;

/// What a board is; does not change while it is up.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) cpus: u64,
    pub(crate) memory: u64,
    pub(crate) disk: u64,
    machine_id: String,
    system_uuid: String,
    boot_id: String,
    kernel: String,
    os_image: String,
}

/// How a board feels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    /// Nothing can be written at all; then `disk` is true as well.
    pub(crate) read_only: bool,
    pub(crate) pids: bool,
}

/// What the Node object says besides.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) version: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) pod_cidr: String,
    /// Why memory limits don't hold, when they don't.
    pub(crate) memory_problem: Option<String>,
    /// Why some pods can't be reached from here, when that is so.
    pub(crate) network_problem: Option<String>,
    /// What else is wrong with the board, and stays so.
    pub(crate) conditions: Vec<Condition>,
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

#[allow(clippy::useless_conversion, reason = "the fields are narrower on 32-bit boards")]
pub(crate) fn disk_size(dir: &Path) -> Option<(u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(dir).ok()?;
    let unit = u64::from(stat.fragment_size());
    Some((u64::from(stat.blocks()) * unit, u64::from(stat.blocks_available()) * unit))
}

/// What a card becomes at its end, and a file system after an error.
fn is_read_only(dir: &Path) -> bool {
    let stat = nix::sys::statvfs::statvfs(dir);
    stat.is_ok_and(|stat| stat.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY))
}

impl Facts {
    /// Looks at the board.
    pub(crate) fn gather(data_dir: &Path) -> Facts {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(kinds);
        let machine_id = line("/etc/machine-id");
        let uuid = line("/sys/class/dmi/id/product_uuid");
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let pretty = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
        Facts {
            cpus: u64::try_from(system.cpus().len().max(1)).unwrap_or(1),
            memory: system.total_memory(),
            disk: disk_size(data_dir).map_or(0, |(size, _)| size),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel: line("/proc/sys/kernel/osrelease"),
            os_image: pretty.map_or("Linux".into(), |name| name.trim_matches('"').to_owned()),
        }
    }

    /// The kernel's boot id.
    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// What pods may share, by resource.
    pub(crate) fn allocatable(&self) -> BTreeMap<String, String> {
        resources(self.cpus, self.memory.saturating_sub(RESERVED_MEMORY), self.disk / 10 * 9)
    }

    fn capacity(&self) -> BTreeMap<String, String> {
        resources(self.cpus, self.memory, self.disk)
    }
}

fn resources(cpus: u64, memory: u64, disk: u64) -> BTreeMap<String, String> {
    let entries = [
        ("cpu", cpus.to_string()),
        ("memory", format!("{}Ki", memory >> 10)),
        ("ephemeral-storage", format!("{}Ki", disk >> 10)),
        ("pods", PODS.to_string()),
    ];
    entries.into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect()
}

impl Pressure {
    /// Looks at the board.
    pub(crate) fn gather(data_dir: &Path) -> Pressure {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let available = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
        let kib = available.and_then(|v| v.trim().trim_end_matches(" kB").parse::<u64>().ok());
        let load = line("/proc/loadavg");
        let tasks = load.split(' ').nth(3).and_then(|v| v.split('/').nth(1)?.parse::<u64>().ok());
        let most = line("/proc/sys/kernel/pid_max").parse::<u64>().ok();
        let read_only = is_read_only(data_dir);
        let low = |(size, free)| free < DISK_PLENTY.min(size / 100 * DISK_LOW);
        Pressure {
            memory: kib.is_some_and(|kib| kib << 10 < MEMORY_LOW),
            disk: read_only || disk_size(data_dir).is_some_and(low),
            read_only,
            pids: match (tasks, most) {
                (Some(tasks), Some(most)) => most.saturating_sub(tasks) < most * PIDS_LOW / 100,
                _ => false,
            },
        }
    }
}

/// The machine's architecture as Go names it, which is how images and labels have it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// The labels that every Node has, and the board's own.
pub(crate) fn labels(identity: &Identity) -> BTreeMap<String, String> {
    let mut out = identity.labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", identity.name.as_str()),
        ("kubernetes.io/arch", architecture()),
        ("kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
    ] {
        out.insert(key.to_owned(), value.to_owned());
    }
    out
}

/// The Node as it is first created.
pub(crate) fn object(identity: &Identity) -> Object {
    let mut spec = json!({});
    if !identity.pod_cidr.is_empty() {
        spec["podCIDR"] = json!(identity.pod_cidr);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": identity.name, "labels": labels(identity) },
        "spec": spec,
    })
}

/// Conditions that this board answers for.
const OUR_CONDITIONS: &[&str] = &[
    "Ready",
    "MemoryPressure",
    "DiskPressure",
    "PIDPressure",
    "MemoryLimitsUnenforced",
    "PodNetworkIncomplete",
];

struct Feeling {
    kind: &'static str,
    on: bool,
    yes: (&'static str, String),
    no: (&'static str, String),
}

fn feelings(pressure: Pressure, identity: &Identity) -> Vec<Feeling> {
    let feel = |kind, on, yes: (&'static str, &str), no: (&'static str, &str)| Feeling {
        kind,
        on,
        yes: (yes.0, yes.1.to_owned()),
        no: (no.0, no.1.to_owned()),
    };
    let mut out = vec![
        feel(
            "MemoryPressure",
            pressure.memory,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        feel(
            "DiskPressure",
            pressure.disk,
            match pressure.read_only {
                false => ("KubeletHasDiskPressure", "kubelet has disk pressure"),
                true => ("DiskIsReadOnly", READ_ONLY),
            },
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        feel(
            "PIDPressure",
            pressure.pids,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
    ];
    let problems = [
        ("MemoryLimitsUnenforced", "MemoryCgroupMissing", &identity.memory_problem),
        // Not Kubernetes' NetworkUnavailable, which would keep every new pod from the board.
        ("PodNetworkIncomplete", "PodsOutOfReach", &identity.network_problem),
    ];
    for (kind, reason, problem) in problems {
        if let Some(problem) = problem {
            out.push(feel(kind, true, (reason, problem), ("", "")));
        }
    }
    for Condition { kind, reason, message } in &identity.conditions {
        out.push(feel(kind, true, (reason, message), ("", "")));
    }
    let ready = ("KubeletReady", "kubelet is posting ready status");
    out.push(feel("Ready", true, ready, ("KubeletNotReady", "")));
    out
}

fn condition(feeling: Feeling, before: &[Value], now_ms: i64) -> Value {
    let status = if feeling.on { "True" } else { "False" };
    let (reason, message) = if feeling.on { feeling.yes } else { feeling.no };
    let old = before.iter().find(|c| c["type"] == feeling.kind && c["status"] == status);
    let now = time::format(now_ms);
    let since = |key: &str| old.and_then(|c| c[key].as_str()).unwrap_or(&now).to_owned();
    json!({
        "type": feeling.kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since("lastTransitionTime"),
        "lastHeartbeatTime": since("lastHeartbeatTime"),
    })
}

fn image_list(images: &[ImageSummary]) -> Value {
    let mut images: Vec<&ImageSummary> = images.iter().collect();
    images.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.id.cmp(&b.id)));
    let listed = images.into_iter().take(IMAGES).map(|image| {
        let names: Vec<&String> = image.digests.iter().chain(&image.tags).collect();
        json!({ "names": names, "sizeBytes": image.bytes })
    });
    Value::Array(listed.collect())
}

/// What an earlier process of this board has found wrong with it, as its Node says.
pub(crate) fn remembered(status: &Value) -> Vec<Condition> {
    let listed = status["conditions"].as_array().into_iter().flatten();
    let on = listed.filter(|c| c["status"] == "True");
    let word = |c: &Value, key: &str| c[key].as_str().unwrap_or_default().to_owned();
    on.filter_map(|c| doctor::condition(&word(c, "type"), word(c, "message"))).collect()
}

/// The Node's status. `before` is the one that the API has.
pub(crate) fn status(
    facts: &Facts,
    identity: &Identity,
    pressure: Pressure,
    images: &[ImageSummary],
    before: &Value,
    now_ms: i64,
) -> Value {
    let none = Vec::new();
    let old = before["conditions"].as_array().unwrap_or(&none);
    let mut conditions: Vec<Value> = feelings(pressure, identity)
        .into_iter()
        .map(|feeling| condition(feeling, old, now_ms))
        .collect();
    // What others say of the board stays.
    let ours = || OUR_CONDITIONS.iter().chain(&doctor::CONDITIONS);
    let foreign = |c: &&Value| !ours().any(|kind| c["type"] == *kind);
    conditions.extend(old.iter().filter(foreign).cloned());
    json!({
        "addresses": [
            { "type": "InternalIP", "address": identity.ip.to_string() },
            { "type": "Hostname", "address": identity.name },
        ],
        "allocatable": facts.allocatable(),
        "capacity": facts.capacity(),
        "conditions": conditions,
        "daemonEndpoints": { "kubeletEndpoint": { "Port": identity.port } },
        "images": image_list(images),
        "nodeInfo": {
            "architecture": architecture(),
            "bootID": facts.boot_id,
            "containerRuntimeVersion": format!("edged://{}", own_version(&identity.version)),
            "kernelVersion": facts.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": kubelet_version(&identity.version),
            "machineID": facts.machine_id,
            "operatingSystem": "linux",
            "osImage": facts.os_image,
            "systemUUID": facts.system_uuid,
        },
    })
}

/// The Kubernetes release whose kubelet this is like, and ours.
fn kubelet_version(version: &str) -> String {
    if version.starts_with('v') { version.to_owned() } else { format!("v1.33.0+edged-{version}") }
}

/// Our own part of `v1.33.0+edged.0.1.0`.
fn own_version(version: &str) -> &str {
    version.rsplit_once("edged.").map_or(version, |(_, own)| own)
}

#[cfg(test)]
mod tests;
