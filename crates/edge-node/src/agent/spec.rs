//! From a container's part of a pod to all that the runtime needs: arguments, environment, mounts.
//! What can't be worked out here is a `CreateContainerConfigError`.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use edge_api::Object;
use edge_api::k8s::api::core::v1::{Container, Volume};
use edge_core::pod::Desired;
use edge_core::pod::env::{Lookup, environment, expand};

use super::security::{limits, oom_score, security};
use crate::fields::Fields;
use crate::images::Image;
use crate::seams::{ContainerSpec, Mount, PodNetwork};
use crate::volumes::{Reference, bind_sub_path, text_content};

/// Where a container leaves its last words, unless the pod says otherwise.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// `PATH` of images that set none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Log files of a container, and the size at which one is full.
const LOG_FILES: u32 = 5;
const LOG_BYTES: u64 = 10 << 20;

/// ConfigMaps and Secrets by reference; a missing one is `None`.
pub(crate) type Material = BTreeMap<Reference, Option<Object>>;

/// What a start goes by, besides the container itself.
pub(crate) struct Start<'a> {
    pub(crate) pod: &'a Desired,
    pub(crate) container: &'a Container,
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) spec_hash: String,
    pub(crate) image: &'a Image,
    pub(crate) volumes: &'a BTreeMap<String, PathBuf>,
    pub(crate) network: &'a PodNetwork,
    pub(crate) fields: &'a Fields<'a>,
    pub(crate) material: &'a Material,
    pub(crate) services: &'a BTreeMap<String, String>,
    /// `/etc/hosts` and its like.
    pub(crate) files: Vec<Mount>,
    pub(crate) pod_dir: &'a Path,
    pub(crate) log_dir: &'a Path,
    pub(crate) memory_bytes: u64,
}

/// The objects that a container's environment needs.
pub(crate) fn env_references(container: &Container) -> Vec<Reference> {
    let mut out = Vec::new();
    for from in container.env_from.iter().flatten() {
        out.extend(from.config_map_ref.iter().map(|r| Reference::ConfigMap(r.name.clone())));
        out.extend(from.secret_ref.iter().map(|r| Reference::Secret(r.name.clone())));
    }
    for source in container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
        let map = source.config_map_key_ref.iter();
        out.extend(map.map(|r| Reference::ConfigMap(r.name.clone())));
        let secret = source.secret_key_ref.iter();
        out.extend(secret.map(|r| Reference::Secret(r.name.clone())));
    }
    out.sort();
    out.dedup();
    out
}

struct Values<'a> {
    start: &'a Start<'a>,
}

impl Values<'_> {
    fn all(&self, reference: &Reference) -> Result<Option<BTreeMap<String, String>>, String> {
        let object = self.start.material.get(reference).and_then(Option::as_ref);
        object.map(|object| text_content(reference, object)).transpose()
    }

    fn key(&self, reference: &Reference, key: &str) -> Result<Option<String>, String> {
        Ok(self.all(reference)?.and_then(|mut all| all.remove(key)))
    }
}

/// A key can't be had from an object that is not there; Kubernetes says which of the two it is.
fn absent(values: &Values<'_>, reference: &Reference) -> bool {
    values.start.material.get(reference).is_none_or(Option::is_none)
}

impl Lookup for Values<'_> {
    fn config_map_key(&self, name: &str, key: &str) -> Result<Option<String>, String> {
        self.key(&Reference::ConfigMap(name.into()), key)
    }
    fn config_map(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, String> {
        self.all(&Reference::ConfigMap(name.into()))
    }
    fn secret_key(&self, name: &str, key: &str) -> Result<Option<String>, String> {
        self.key(&Reference::Secret(name.into()), key)
    }
    fn secret(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, String> {
        self.all(&Reference::Secret(name.into()))
    }
    fn field(&self, path: &str) -> Result<String, String> {
        self.start.fields.field(path)
    }
    fn resource(
        &self,
        container: Option<&str>,
        resource: &str,
        divisor: &str,
    ) -> Result<String, String> {
        let container = container.unwrap_or(&self.start.container.name);
        self.start.fields.resource(container, resource, divisor)
    }
}

/// Names the object when a required one is missing as a whole.
fn check_objects(container: &Container, values: &Values<'_>) -> Result<(), String> {
    for source in container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
        if let Some(key) = source.config_map_key_ref.as_ref().filter(|k| k.optional != Some(true))
            && absent(values, &Reference::ConfigMap(key.name.clone()))
        {
            return Err(format!("configmap \"{}\" not found", key.name));
        }
        if let Some(key) = source.secret_key_ref.as_ref().filter(|k| k.optional != Some(true))
            && absent(values, &Reference::Secret(key.name.clone()))
        {
            return Err(format!("secret \"{}\" not found", key.name));
        }
    }
    Ok(())
}

/// The whole specification.
pub(crate) fn build(start: Start<'_>) -> Result<ContainerSpec, String> {
    refuse_unsupported(&start)?;
    let container = start.container;
    let values = Values { start: &start };
    check_objects(container, &values)?;
    let env = environment(container, start.services, &values)?;
    let known: BTreeMap<&str, &str> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let args = arguments(&start, &known)?;
    let mut mounts = mounts(&start, &known)?;
    let claimed = |target: &str| mounts.iter().any(|m: &Mount| m.target == target);
    let files: Vec<Mount> = start.files.iter().filter(|m| !claimed(&m.target)).cloned().collect();
    mounts.extend(files);
    mounts.push(termination_log(&start)?);
    mounts.sort_by_key(|mount| mount.target.matches('/').count());
    let security = security(start.pod, container)?;
    check_user(&security, start.image, start.pod, container)?;
    let config = &start.image.config;
    let cwd = container.working_dir.as_deref().filter(|d| !d.is_empty());
    let cwd = cwd.or(Some(config.working_dir.as_str()).filter(|d| !d.is_empty())).unwrap_or("/");
    let tty = container.tty.unwrap_or(false);
    let mut namespaces = start.network.namespaces.clone();
    if start.pod.spec().host_ipc == Some(true) {
        namespaces.ipc = PathBuf::from(format!("/proc/{}/ns/ipc", std::process::id()));
    }
    Ok(ContainerSpec {
        id: start.id.clone(),
        pod_uid: start.pod.uid().to_owned(),
        pod_namespace: start.pod.namespace().to_owned(),
        pod_name: start.pod.name().to_owned(),
        name: container.name.clone(),
        attempt: start.attempt,
        spec_hash: start.spec_hash.clone(),
        layers: start.image.layers.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: start.image.image_id(),
        args,
        env: whole_env(&start, &env, tty),
        cwd: cwd.to_owned(),
        image_user: config.user.clone(),
        namespaces,
        mounts,
        limits: limits(container),
        security,
        log_path: start.log_dir.join(format!("{}.log", start.attempt)),
        log_max_bytes: LOG_BYTES,
        log_max_files: LOG_FILES,
        tty,
        stdin: container.stdin.unwrap_or(false),
        host_pid: start.pod.spec().host_pid.unwrap_or(false),
        oom_score_adj: oom_score(start.pod, container, start.memory_bytes),
    })
}

fn refuse_unsupported(start: &Start<'_>) -> Result<(), String> {
    let spec = start.pod.spec();
    let refused = [
        (spec.share_process_namespace == Some(true), "shareProcessNamespace"),
        (spec.host_users == Some(false), "hostUsers: false"),
        (start.container.volume_devices.iter().flatten().next().is_some(), "volumeDevices"),
    ];
    match refused.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(format!("{what} is not supported on this board")),
        None => Ok(()),
    }
}

fn arguments(start: &Start<'_>, known: &BTreeMap<&str, &str>) -> Result<Vec<String>, String> {
    let expanded = |list: &[String]| -> Vec<String> {
        let lookup = |name: &str| known.get(name).map(|value| (*value).to_owned());
        list.iter().map(|text| expand(text, lookup)).collect()
    };
    let command = expanded(start.container.command.as_deref().unwrap_or_default());
    let own = expanded(start.container.args.as_deref().unwrap_or_default());
    let config = &start.image.config;
    let (mut args, rest) = match (command.is_empty(), own.is_empty()) {
        (true, true) => (config.entrypoint.clone(), config.cmd.clone()),
        (true, false) => (config.entrypoint.clone(), own),
        (false, _) => (command, own),
    };
    args.extend(rest);
    if args.is_empty() {
        return Err("no command specified: neither the container nor its image has one".into());
    }
    Ok(args)
}

fn whole_env(start: &Start<'_>, env: &[(String, String)], tty: bool) -> Vec<String> {
    let config = &start.image.config;
    let mut out = Vec::new();
    if !config.env.iter().any(|line| line.starts_with("PATH=")) {
        out.push(format!("PATH={DEFAULT_PATH}"));
    }
    out.push(format!("HOSTNAME={}", super::files::hostname(start.pod)));
    if tty {
        out.push("TERM=xterm".into());
    }
    out.extend(config.env.iter().cloned());
    out.extend(env.iter().map(|(name, value)| format!("{name}={value}")));
    out
}

/// Volumes that a container can't write to whatever its mount says, as in Kubernetes.
fn always_read_only(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

fn mounts(start: &Start<'_>, known: &BTreeMap<&str, &str>) -> Result<Vec<Mount>, String> {
    let mut out = Vec::new();
    for (index, wanted) in start.container.volume_mounts.iter().flatten().enumerate() {
        let root = start
            .volumes
            .get(&wanted.name)
            .ok_or_else(|| format!("volume \"{}\" not found", wanted.name))?;
        let sub = match (&wanted.sub_path, &wanted.sub_path_expr) {
            (Some(sub), _) if !sub.is_empty() => Some(sub.clone()),
            (_, Some(text)) if !text.is_empty() => {
                Some(expand(text, |name| known.get(name).map(|value| (*value).to_owned())))
            }
            _ => None,
        };
        let source = match sub {
            Some(sub) => bind_sub_path(start.pod_dir, root, &sub, &start.container.name, index)?,
            None => root.clone(),
        };
        let volumes = start.pod.spec().volumes.iter().flatten();
        let forced = volumes.into_iter().any(|v| v.name == wanted.name && always_read_only(v));
        let target = match wanted.mount_path.starts_with('/') {
            true => wanted.mount_path.clone(),
            false => format!("/{}", wanted.mount_path),
        };
        out.push(Mount { source, target, read_only: forced || wanted.read_only == Some(true) });
    }
    Ok(out)
}

/// The board's side of a container's termination message file.
pub(crate) fn termination_file(pod_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_dir.join("containers").join(container).join(format!("{attempt}.message"))
}

fn termination_log(start: &Start<'_>) -> Result<Mount, String> {
    let source = termination_file(start.pod_dir, &start.container.name, start.attempt);
    let error = |e: std::io::Error| format!("create {}: {e}", source.display());
    if let Some(dir) = source.parent() {
        fs::create_dir_all(dir).map_err(error)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o666).open(&source).map_err(error)?;
    fs::set_permissions(&source, fs::Permissions::from_mode(0o666)).map_err(error)?;
    let path = start.container.termination_message_path.as_deref();
    let target = path.filter(|p| !p.is_empty()).unwrap_or(TERMINATION_LOG).to_owned();
    Ok(Mount { source, target, read_only: false })
}

/// `runAsNonRoot`, as far as it can be told before the start.
fn check_user(
    security: &crate::seams::Security,
    image: &Image,
    pod: &Desired,
    container: &Container,
) -> Result<(), String> {
    if !security.run_as_non_root {
        return Ok(());
    }
    let suffix = format!("(pod: \"{}\", container: {})", pod.label(), container.name);
    match security.run_as_user {
        Some(0) => return Err(format!("container's runAsUser breaks non-root policy {suffix}")),
        Some(_) => return Ok(()),
        None => {}
    }
    let user = image.config.user.split(':').next().unwrap_or_default();
    match user.parse::<u32>() {
        Ok(0) => {}
        Ok(_) => return Ok(()),
        Err(_) if user.is_empty() || user == "root" => {}
        Err(_) => {
            return Err(format!(
                "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify \
                 user is non-root {suffix}"
            ));
        }
    }
    Err(format!("container has runAsNonRoot and image will run as root {suffix}"))
}

#[cfg(test)]
mod tests;
