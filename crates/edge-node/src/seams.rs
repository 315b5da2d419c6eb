//! The plain data that crosses between the rooms of this crate: what the agent asks of
//! the runtime, the network and the image store, and what they answer. No behaviour here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// Files that pin a pod's shared namespaces (bind mounts of nsfs), for the runtime to join.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SandboxPaths {
    /// Network namespace; `None` for a pod on the host's network.
    pub net: Option<PathBuf>,
    /// IPC namespace.
    pub ipc: PathBuf,
    /// UTS namespace, its hostname set; `None` for a pod on the host's network.
    pub uts: Option<PathBuf>,
}

/// A pod's network as it stands: its namespaces, and its address unless it uses the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNetwork {
    /// The pinned namespaces.
    pub namespaces: SandboxPaths,
    /// The pod's own address.
    pub ip: Option<IpAddr>,
}

/// One mount of a container, beyond what every container has (`/proc`, `/dev`, `/sys` …).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mount {
    /// File or directory on the board.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: String,
    /// True for a mount that the container can't write to.
    pub read_only: bool,
}

/// Limits of one container, in the units that cgroups take.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Memory limit in bytes; `None` is no limit.
    pub memory_bytes: Option<u64>,
    /// CPU limit in thousandths of a core; `None` is no limit.
    pub cpu_limit_milli: Option<u64>,
    /// CPU request in thousandths of a core: the weight among neighbours.
    pub cpu_request_milli: u64,
    /// Most processes and threads; `None` is no limit.
    pub pids: Option<u64>,
}

/// What `securityContext` of pod and container come to for one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Security {
    /// `privileged: true`: all capabilities, devices and no seccomp filter.
    pub privileged: bool,
    /// Names without `CAP_`, as Kubernetes writes them; `ALL` is every one.
    pub add_capabilities: Vec<String>,
    /// As `add_capabilities`; drops are applied before adds.
    pub drop_capabilities: Vec<String>,
    /// `readOnlyRootFilesystem`.
    pub read_only_root: bool,
    /// False sets no-new-privileges. Kubernetes' default is true.
    pub allow_privilege_escalation: bool,
    /// `runAsUser`; overrides the image's user.
    pub run_as_user: Option<u32>,
    /// `runAsGroup`.
    pub run_as_group: Option<u32>,
    /// `runAsNonRoot`: a start as uid 0 is refused.
    pub run_as_non_root: bool,
    /// `supplementalGroups` and `fsGroup`.
    pub supplemental_groups: Vec<u32>,
    /// True for the `Unconfined` seccomp profile; the default is our runtime's filter.
    pub seccomp_unconfined: bool,
    /// Sysctls of the pod, for its first container to set.
    pub sysctls: BTreeMap<String, String>,
}

/// All that the runtime needs to start one container. The caller has resolved images, volumes,
/// environment and limits; the runtime looks nothing up.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ContainerSpec {
    /// Unique on the board, `[a-z0-9-]{1,64}`.
    pub id: String,
    /// `metadata.uid` of the pod.
    pub pod_uid: String,
    /// `metadata.namespace` of the pod.
    pub pod_namespace: String,
    /// `metadata.name` of the pod.
    pub pod_name: String,
    /// The container's name in the pod.
    pub name: String,
    /// Restart count at this start, from 0.
    pub attempt: u32,
    /// Hash of the container's part of the pod spec.
    pub spec_hash: String,
    /// Image layers as directories, bottom first.
    pub layers: Vec<PathBuf>,
    /// The image as the pod spec names it, and its id, for status.
    pub image: String,
    /// `sha256:…` of the image's configuration.
    pub image_id: String,
    /// Argument vector, never empty.
    pub args: Vec<String>,
    /// `NAME=value`, later ones win.
    pub env: Vec<String>,
    /// Absolute working directory; made when missing.
    pub cwd: String,
    /// `USER` of the image: `name`, `uid`, `name:group` or `uid:gid`; empty for root.
    pub image_user: String,
    /// The pod's namespaces.
    pub namespaces: SandboxPaths,
    /// Volumes and the files every container gets (`/etc/hosts`, `/etc/resolv.conf` …).
    pub mounts: Vec<Mount>,
    /// Resources.
    pub limits: Limits,
    /// Security context.
    pub security: Security,
    /// Host directory-relative log file, CRI format.
    pub log_path: PathBuf,
    /// A log file is rotated when it passes this many bytes.
    pub log_max_bytes: u64,
    /// So many log files are kept, the live one included.
    pub log_max_files: u32,
    /// True gives the container a terminal.
    pub tty: bool,
    /// True keeps standard input open.
    pub stdin: bool,
    /// `hostPID`.
    pub host_pid: bool,
    /// Wanted oom score adjustment; failing to lower it is tolerated.
    pub oom_score_adj: i32,
}

/// The end of a container's init process, as its shim recorded it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exit {
    /// Which container.
    pub id: String,
    /// Exit status; 128 + n when signal n ended it, as shells and Kubernetes have it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Unix milliseconds.
    pub started_at_ms: i64,
    /// Unix milliseconds.
    pub finished_at_ms: i64,
    /// True when the kernel's out-of-memory killer struck in the container's cgroup.
    pub oom_killed: bool,
}

/// Whether a container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Its init process lives.
    Running {
        /// Process id on the board.
        pid: i32,
        /// Unix milliseconds.
        started_at_ms: i64,
    },
    /// Its init process has ended, or the board went down under it.
    Exited(Exit),
}

/// A container as the disk knows it: survives the agent, and its end survives the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRecord {
    /// As [`ContainerSpec::id`].
    pub id: String,
    /// As [`ContainerSpec::pod_uid`].
    pub pod_uid: String,
    /// As [`ContainerSpec::name`].
    pub name: String,
    /// As [`ContainerSpec::attempt`].
    pub attempt: u32,
    /// As [`ContainerSpec::spec_hash`].
    pub spec_hash: String,
    /// As [`ContainerSpec::image`].
    pub image: String,
    /// As [`ContainerSpec::image_id`].
    pub image_id: String,
    /// Where it stands now.
    pub state: ContainerState,
}

/// A container that has just started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Process id of its init on the board.
    pub pid: i32,
    /// Unix milliseconds.
    pub started_at_ms: i64,
}
