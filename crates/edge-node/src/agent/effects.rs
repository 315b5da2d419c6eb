//! Carries out what a plan asks for. Each effect takes what it needs by value, so that it runs
//! beside the worker; what came of it goes back as a [`Done`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edge_core::pod::{Desired, Observation, ProbeKind, Run, RunState, StartFailure, probe};
use ring::digest::{SHA256, digest};

use super::board::{Board, subject};
use super::clock::now_ms;
use super::events::Grade::{Normal, Warning};
use super::files;
use super::spec::{Start, build, env_references};
use crate::fields::Fields;
use crate::probes::{self, Outcome, Target};
use crate::runtime::RuntimeError;
use crate::seams::PodNetwork;

/// What came of an effect.
#[derive(Debug)]
pub(crate) enum Done {
    /// Something to take into the observed side.
    Seen(Observation),
    /// The pod's network stands.
    Network(PodNetwork),
    /// The pod's volumes stand, by name.
    Volumes(BTreeMap<String, PathBuf>),
    /// A status was reported, or could not be; with whether trying again makes sense.
    Reported(Result<Box<edge_api::Object>, bool>),
    /// The pod has been written into the ledger, or why not.
    Recorded(Result<(), String>),
    /// Nothing to tell.
    Nothing,
}

/// What an effect on a pod goes by.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) board: Arc<Board>,
    pub(crate) pod: Arc<Desired>,
    pub(crate) ips: Vec<String>,
    pub(crate) network: Option<PodNetwork>,
    pub(crate) volumes: Arc<BTreeMap<String, PathBuf>>,
}

/// A container id: unique on the board, told by nothing but itself.
fn container_id(uid: &str, name: &str, attempt: u32) -> String {
    let text = format!("{uid}/{name}/{attempt}/{}", now_ms());
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

impl Job {
    pub(super) fn say_pod(
        &self,
        grade: super::events::Grade,
        reason: &'static str,
        message: String,
    ) {
        self.board.events.say(&subject(&self.pod, None), grade, reason, message);
    }

    pub(crate) fn say(
        &self,
        container: &str,
        grade: super::events::Grade,
        reason: &'static str,
        message: String,
    ) {
        self.board.events.say(&subject(&self.pod, Some(container)), grade, reason, message);
    }

    pub(super) fn host_ips(&self) -> Vec<String> {
        self.board.host_ips()
    }

    fn pod_ip(&self) -> Option<IpAddr> {
        if self.pod.host_network() {
            return Some(self.board.ip);
        }
        self.network.as_ref().and_then(|network| network.ip)
    }

    pub(crate) async fn create_sandbox(self) -> Done {
        let hostname = files::hostname(&self.pod);
        let made = self.board.net.create_pod(self.pod.uid(), &hostname, self.pod.host_network());
        match made.await {
            Ok(network) => {
                self.board.pods_made.notify_one();
                Done::Network(network)
            }
            Err(error) => {
                let message = format!("Failed to create pod sandbox: {error}");
                self.say_pod(Warning, "FailedCreatePodSandBox", message.clone());
                Done::Seen(Observation::SandboxFailed(message))
            }
        }
    }

    pub(crate) async fn remove_sandbox(self) -> Done {
        loop {
            match self.board.net.remove_pod(self.pod.uid()).await {
                Ok(()) => return Done::Seen(Observation::SandboxGone),
                Err(error) => {
                    tracing::warn!("remove the network of {}: {error}", self.pod.label());
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    pub(crate) async fn start(self, container: String, attempt: u32, spec_hash: String) -> Done {
        let id = container_id(self.pod.uid(), &container, attempt);
        let image = self.pod.container(&container).and_then(|c| c.image.clone());
        let mut run = Run {
            id: id.clone(),
            attempt,
            spec_hash: spec_hash.clone(),
            image: image.unwrap_or_default(),
            image_id: String::new(),
            started_ms: 0,
            state: RunState::Running,
            stale: false,
            kept: true,
            stopped: None,
        };
        self.board.routes().insert(id.clone(), self.pod.uid().to_owned());
        match self.try_start(&container, &mut run).await {
            Ok(()) => {
                self.say(&container, Normal, "Created", format!("Created container: {container}"));
                self.say(&container, Normal, "Started", format!("Started container {container}"));
                Done::Seen(Observation::Started { container, run })
            }
            Err((how, message)) => {
                self.board.routes().remove(&id);
                if how == StartFailure::Run {
                    let text = format!("Created container: {container}");
                    self.say(&container, Normal, "Created", text);
                }
                self.say(&container, Warning, "Failed", format!("Error: {message}"));
                run.kept = false;
                Done::Seen(Observation::StartFailed { container, how, message, run })
            }
        }
    }

    async fn try_start(&self, name: &str, run: &mut Run) -> Result<(), (StartFailure, String)> {
        let config = |message: String| (StartFailure::Config, message);
        let container = self.pod.container(name);
        let container = container.ok_or_else(|| config(format!("container {name} not found")))?;
        let image = self.board.images.find(&run.image).ok_or_else(|| {
            (StartFailure::Create, format!("image {} is no longer on this board", run.image))
        })?;
        run.image_id = image.image_id();
        let network = self.network.as_ref().ok_or_else(|| config("no sandbox".into()))?;
        let material = self.material(env_references(container)).await.map_err(config)?;
        let links = self.pod.spec().enable_service_links.unwrap_or(true);
        let services = self.board.service_env(self.pod.namespace(), links);
        let (host_ips, pod_dir) = (self.host_ips(), self.board.pod_dir(self.pod.uid()));
        let domain = &self.board.cluster_domain;
        let dns = self.board.dns.as_ref();
        let (etc, resolv) = (pod_dir.join("etc"), &self.board.resolv);
        let files = files::write(&etc, &self.pod, &self.ips, domain, dns, resolv);
        let (files, left_out) = files.map_err(config)?;
        for text in left_out {
            self.board.events.say(&subject(&self.pod, None), Warning, "DNSConfigForming", text);
        }
        let fields = Fields {
            pod: &self.pod,
            node: &self.board.name,
            host_ips: &host_ips,
            pod_ips: &self.ips,
            allocatable: &self.board.allocatable,
        };
        let logs = self.board.log_dir(self.pod.namespace(), self.pod.name(), self.pod.uid());
        let spec = build(Start {
            pod: &self.pod,
            container,
            id: run.id.clone(),
            attempt: run.attempt,
            spec_hash: run.spec_hash.clone(),
            image: &image,
            volumes: &self.volumes,
            network,
            fields: &fields,
            material: &material,
            services: &services,
            files,
            pod_dir: &pod_dir,
            log_dir: &logs.join(name),
            memory_bytes: self.board.facts.memory,
        });
        let spec = spec.map_err(config)?;
        let started = self.board.runtime.start(&spec).await.map_err(|error| {
            let how = match &error {
                RuntimeError::Config { .. } => StartFailure::Config,
                RuntimeError::Start { .. } => StartFailure::Run,
                _ => StartFailure::Create,
            };
            (how, error.message())
        })?;
        run.started_ms = started.started_at_ms;
        Ok(())
    }

    fn target<'a>(&'a self, container: &str, id: &'a str) -> Option<Target<'a>> {
        let container = self.pod.container(container)?;
        Some(Target { runtime: &self.board.runtime, id, container, ip: self.pod_ip() })
    }

    pub(crate) async fn probe(self, container: String, id: String, kind: ProbeKind) -> Done {
        let target = self.target(&container, &id);
        let wanted = self.pod.container(&container).and_then(|c| probe(c, kind));
        let (Some(target), Some(wanted)) = (target, wanted) else { return Done::Nothing };
        let outcome = match probes::ask_of(wanted) {
            Some(ask) => probes::ask(&target, ask, probes::timeout_of(wanted)).await,
            None => Outcome::Success,
        };
        let ok = match &outcome {
            Outcome::Success => Some(true),
            Outcome::Failure(message) => {
                let text = format!("{} probe failed: {message}", kind.title());
                self.say(&container, Warning, "Unhealthy", text);
                Some(false)
            }
            Outcome::Unknown(message) => {
                let text = format!("{} probe errored: {message}", kind.title());
                self.say(&container, Warning, "ProbeWarning", text);
                None
            }
        };
        let count = |n: Option<i32>, default: u32| n.map_or(default, |n| n.max(1).unsigned_abs());
        let success_threshold = count(wanted.success_threshold, 1);
        let failure_threshold = count(wanted.failure_threshold, 3);
        Done::Seen(Observation::Probed {
            container,
            id,
            kind,
            ok,
            success_threshold,
            failure_threshold,
        })
    }

    pub(crate) async fn post_start(self, container: String, id: String) -> Done {
        let hook = self.pod.container(&container).and_then(edge_core::pod::post_start);
        let ran = match (hook, self.target(&container, &id)) {
            (Some(hook), Some(target)) => probes::hook(&target, hook, HOOK_LIMIT).await,
            _ => Ok(()),
        };
        if let Err(message) = &ran {
            let text = format!("PostStartHook failed: {message}");
            self.say(&container, Warning, "FailedPostStartHook", text);
        }
        Done::Seen(Observation::PostStartDone { container, id, ok: ran.is_ok() })
    }

    pub(crate) async fn pre_stop(self, container: String, id: String, timeout_ms: i64) -> Done {
        let hook = self.pod.container(&container).and_then(edge_core::pod::pre_stop);
        let limit = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        let ran = match (hook, self.target(&container, &id)) {
            (Some(hook), Some(target)) => probes::hook(&target, hook, limit).await,
            _ => Ok(()),
        };
        if let Err(message) = ran {
            let text = format!("PreStopHook failed: {message}");
            self.say(&container, Warning, "FailedPreStopHook", text);
        }
        Done::Seen(Observation::PreStopDone { container })
    }

    pub(crate) async fn forget(self, id: String) -> Done {
        let all = self.board.runtime.list().unwrap_or_default();
        if let Err(error) = self.board.runtime.remove(&id).await {
            tracing::warn!("remove a container of {}: {error}", self.pod.label());
        }
        self.board.routes().remove(&id);
        if let Some(record) = all.into_iter().find(|record| record.id == id) {
            let pod_dir = self.board.pod_dir(self.pod.uid()).join("containers");
            let (ns, name, uid) = (self.pod.namespace(), self.pod.name(), self.pod.uid());
            let logs = self.board.log_dir(ns, name, uid);
            for dir in [logs.join(&record.name), pod_dir.join(&record.name)] {
                remove_attempts(&dir, record.attempt);
            }
        }
        Done::Nothing
    }

    pub(crate) async fn kill(self, id: String) -> Done {
        if let Err(error) = self.board.runtime.kill(&id).await {
            tracing::warn!("kill a container of {}: {error}", self.pod.label());
        }
        Done::Nothing
    }
}

/// Removes the files of runs up to `last`: `3.log`, `3.log.20250101-000000`, `3.message`.
fn remove_attempts(dir: &Path, last: u32) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_string_lossy().split('.').next().and_then(|n| n.parse::<u32>().ok());
        if number.is_some_and(|number| number <= last) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// A taking-down that failed is tried again after this long.
pub(super) const RETRY: Duration = Duration::from_secs(5);
/// A postStart hook has no limit in Kubernetes; this one keeps a stuck one from living for ever.
const HOOK_LIMIT: Duration = Duration::from_secs(3600);
