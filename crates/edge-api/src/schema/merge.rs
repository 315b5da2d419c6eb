//! How a strategic merge patch treats a field: the `patchStrategy` and `patchMergeKey` tags of
//! Kubernetes' Go types, for the fields that have them.

/// What a strategic merge patch does with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// maps merge, lists are replaced
    Plain,
    /// a list whose items are merged when they agree in this key
    Key(&'static str),
    /// the same, and each item may say which of its fields stay (`$retainKeys`)
    KeyRetain(&'static str),
    /// a list of plain values, merged as a set
    Set,
    /// a map that may say which of its fields stay (`$retainKeys`)
    Retain,
}

impl Merge {
    /// The merge key of a list of objects.
    pub fn key(self) -> Option<&'static str> {
        match self {
            Merge::Key(key) | Merge::KeyRetain(key) => Some(key),
            Merge::Plain | Merge::Set | Merge::Retain => None,
        }
    }

    /// `x-kubernetes-patch-strategy` of an OpenAPI document.
    pub fn strategy(self) -> Option<&'static str> {
        match self {
            Merge::Plain => None,
            Merge::Key(_) | Merge::Set => Some("merge"),
            Merge::KeyRetain(_) => Some("merge,retainKeys"),
            Merge::Retain => Some("retainKeys"),
        }
    }
}

const TAGS: &[(&str, &str, Merge)] = &[
    ("apps.v1.DaemonSetStatus", "conditions", Merge::Key("type")),
    ("apps.v1.DeploymentSpec", "strategy", Merge::Retain),
    ("apps.v1.DeploymentStatus", "conditions", Merge::Key("type")),
    ("apps.v1.ReplicaSetStatus", "conditions", Merge::Key("type")),
    ("apps.v1.StatefulSetStatus", "conditions", Merge::Key("type")),
    ("batch.v1.JobStatus", "conditions", Merge::Key("type")),
    ("core.v1.Container", "env", Merge::Key("name")),
    ("core.v1.Container", "ports", Merge::Key("containerPort")),
    ("core.v1.Container", "volumeDevices", Merge::Key("devicePath")),
    ("core.v1.Container", "volumeMounts", Merge::Key("mountPath")),
    ("core.v1.ContainerStatus", "volumeMounts", Merge::Key("mountPath")),
    ("core.v1.EphemeralContainer", "env", Merge::Key("name")),
    ("core.v1.EphemeralContainer", "ports", Merge::Key("containerPort")),
    ("core.v1.EphemeralContainer", "volumeDevices", Merge::Key("devicePath")),
    ("core.v1.EphemeralContainer", "volumeMounts", Merge::Key("mountPath")),
    ("core.v1.NamespaceStatus", "conditions", Merge::Key("type")),
    ("core.v1.NodeSpec", "podCIDRs", Merge::Set),
    ("core.v1.NodeStatus", "addresses", Merge::Key("type")),
    ("core.v1.NodeStatus", "conditions", Merge::Key("type")),
    ("core.v1.PersistentVolumeClaimStatus", "conditions", Merge::Key("type")),
    ("core.v1.PodSpec", "containers", Merge::Key("name")),
    ("core.v1.PodSpec", "ephemeralContainers", Merge::Key("name")),
    ("core.v1.PodSpec", "hostAliases", Merge::Key("ip")),
    ("core.v1.PodSpec", "imagePullSecrets", Merge::Key("name")),
    ("core.v1.PodSpec", "initContainers", Merge::Key("name")),
    ("core.v1.PodSpec", "resourceClaims", Merge::KeyRetain("name")),
    ("core.v1.PodSpec", "schedulingGates", Merge::Key("name")),
    ("core.v1.PodSpec", "topologySpreadConstraints", Merge::Key("topologyKey")),
    ("core.v1.PodSpec", "volumes", Merge::KeyRetain("name")),
    ("core.v1.PodStatus", "conditions", Merge::Key("type")),
    ("core.v1.PodStatus", "hostIPs", Merge::Key("ip")),
    ("core.v1.PodStatus", "podIPs", Merge::Key("ip")),
    ("core.v1.PodStatus", "resourceClaimStatuses", Merge::KeyRetain("name")),
    ("core.v1.ServiceAccount", "secrets", Merge::Key("name")),
    ("core.v1.ServiceSpec", "ports", Merge::Key("port")),
    ("core.v1.ServiceStatus", "conditions", Merge::Key("type")),
    ("meta.v1.ObjectMeta", "finalizers", Merge::Set),
    ("meta.v1.ObjectMeta", "ownerReferences", Merge::Key("uid")),
];

/// The tag of a field.
pub(super) fn of(definition: &str, field: &str) -> Merge {
    let tag = TAGS.iter().find(|(name, tagged, _)| *name == definition && *tagged == field);
    tag.map_or(Merge::Plain, |(_, _, merge)| *merge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Type, definition};

    #[test]
    fn tags_name_lists_that_have_the_key() {
        for (name, field, merge) in TAGS {
            // Types of kinds that are not in the registry yet are not in the table.
            let Some(found) = definition(name) else { continue };
            let field = found.field(field).unwrap_or_else(|| panic!("{name} has no {field}"));
            let Some(key) = merge.key() else { continue };
            let Type::List(item) = &field.ty else { panic!("{name}.{} is no list", field.name) };
            let Type::Object(item) = **item else { panic!("{name}.{} is plain", field.name) };
            assert!(definition(item).is_some_and(|item| item.field(key).is_some()), "{item} {key}");
        }
    }
}
