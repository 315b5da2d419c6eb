//! The desired side: a typed pod with its defaults filled in, so that the rest of the plan
//! asks questions ("is this a sidecar?") instead of unpacking options.

use edge_api::k8s::api::core::v1::{Container, Lifecycle, LifecycleHandler, Pod, PodSpec, Probe};

use super::observed::ProbeKind;

/// `restartPolicy` of a pod, or of a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever the exit code.
    Always,
    /// After a non-zero exit only.
    OnFailure,
    /// Never again.
    Never,
}

/// `imagePullPolicy`, with Kubernetes' default for the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Ask the registry at every start.
    Always,
    /// Pull only what the board lacks.
    IfNotPresent,
    /// Use what the board has, or fail.
    Never,
}

/// A pod that shall run on this board.
#[derive(Debug, Clone)]
pub struct Desired {
    /// The typed object.
    pub pod: Pod,
    spec: PodSpec,
}

/// `terminationGracePeriodSeconds` when the pod says nothing.
const DEFAULT_GRACE_S: i64 = 30;

impl Desired {
    /// Wraps a pod.
    pub fn new(mut pod: Pod) -> Desired {
        let spec = pod.spec.take().unwrap_or_default();
        Desired { pod, spec }
    }

    /// The pod's spec.
    pub fn spec(&self) -> &PodSpec {
        &self.spec
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The pod as Kubernetes' messages name it: `name_namespace(uid)`.
    pub fn label(&self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }

    /// True for a pod as the API has it; one out of the ledger has no revision.
    pub fn is_from_api(&self) -> bool {
        self.pod.metadata.resource_version.as_deref().is_some_and(|version| !version.is_empty())
    }

    /// True once the API wants the pod gone.
    pub fn deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// True when the API has the pod as finished: it never runs again.
    pub fn finished(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|s| s.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// Seconds between the stop signal and the kill.
    pub fn grace_s(&self) -> i64 {
        let spec = self.spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_S);
        self.pod.metadata.deletion_grace_period_seconds.unwrap_or(spec).max(0)
    }

    /// Cuts that to what there is for it.
    pub fn cut_grace(&mut self, most_s: i64) {
        let cut = self.grace_s().min(most_s);
        self.pod.metadata.deletion_grace_period_seconds = Some(cut);
    }

    /// The pod's restart policy.
    pub fn restart_policy(&self) -> RestartPolicy {
        match self.spec.restart_policy.as_deref() {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        }
    }

    /// Init containers in order, sidecars among them.
    pub fn init(&self) -> &[Container] {
        self.spec.init_containers.as_deref().unwrap_or_default()
    }

    /// The ordinary containers.
    pub fn main(&self) -> &[Container] {
        &self.spec.containers
    }

    /// All containers, init first.
    pub fn all(&self) -> impl Iterator<Item = &Container> {
        self.init().iter().chain(self.main())
    }

    /// The container called `name`, of either sort.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.all().find(|c| c.name == name)
    }

    /// True for an init container that keeps running beside the others.
    pub fn is_sidecar(&self, container: &Container) -> bool {
        container.restart_policy.as_deref() == Some("Always")
            && self.init().iter().any(|c| c.name == container.name)
    }

    /// The restart policy that holds for one ordinary container or sidecar.
    pub fn policy_of(&self, container: &Container) -> RestartPolicy {
        if self.is_sidecar(container) { RestartPolicy::Always } else { self.restart_policy() }
    }

    /// `hostNetwork`.
    pub fn host_network(&self) -> bool {
        self.spec.host_network.unwrap_or(false)
    }
}

/// The pull policy of a container: what it says, else `Always` for `:latest` and untagged images.
pub(super) fn pull_policy(container: &Container) -> PullPolicy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        Some("Never") => PullPolicy::Never,
        _ => {
            let image = container.image.as_deref().unwrap_or_default();
            let last = image.rsplit('/').next().unwrap_or_default();
            let latest = !last.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
            if latest { PullPolicy::Always } else { PullPolicy::IfNotPresent }
        }
    }
}

/// The probe of one kind.
pub fn probe(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
    }
}

fn hook(
    container: &Container,
    pick: fn(&Lifecycle) -> Option<&LifecycleHandler>,
) -> Option<&LifecycleHandler> {
    container.lifecycle.as_ref().and_then(pick)
}

/// `lifecycle.preStop`.
pub fn pre_stop(container: &Container) -> Option<&LifecycleHandler> {
    hook(container, |l| l.pre_stop.as_ref())
}

/// `lifecycle.postStart`.
pub fn post_start(container: &Container) -> Option<&LifecycleHandler> {
    hook(container, |l| l.post_start.as_ref())
}

/// What makes a running container outdated when it changes: its name and its image, as in
/// Kubernetes, so that a new default in the API never restarts anybody's pods.
pub fn container_hash(container: &Container) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let image = container.image.as_deref().unwrap_or_default();
    for byte in container.name.bytes().chain([0]).chain(image.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_image(image: &str) -> Container {
        Container { name: "a".into(), image: Some(image.into()), ..Container::default() }
    }

    #[test]
    fn pull_policy_follows_the_tag() {
        let cases = [
            ("nginx", PullPolicy::Always),
            ("nginx:latest", PullPolicy::Always),
            ("nginx:1.27", PullPolicy::IfNotPresent),
            ("reg:5000/nginx", PullPolicy::Always),
            ("reg:5000/nginx:1", PullPolicy::IfNotPresent),
            ("nginx@sha256:00", PullPolicy::IfNotPresent),
        ];
        for (image, want) in cases {
            assert_eq!(pull_policy(&with_image(image)), want, "{image}");
        }
    }

    #[test]
    fn hash_sees_the_image_only() {
        let a = with_image("x:1");
        let mut b = a.clone();
        b.working_dir = Some("/".into());
        assert_eq!(container_hash(&a), container_hash(&b));
        assert_ne!(container_hash(&a), container_hash(&with_image("x:2")));
    }
}
