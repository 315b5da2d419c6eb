//! The rows of the registry: one for each kind.

use super::access::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING};
use super::rules::{self, Rules};
use super::{Kind, Subresource};
use crate::{defaults, names, strategy, table, validate};

mod network;

pub use network::{INGRESS, INGRESS_CLASS};

const READ_WRITE: &[&str] = &["get", "patch", "update"];

const fn sub(
    name: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource { name, group, version, kind, verbs }
}

/// What most kinds are: in a namespace of the core group, without more.
pub(super) const PLAIN: Kind = Kind {
    group: "",
    version: "v1",
    kind: "",
    list_kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    subresources: &[],
    counts_generation: false,
    schema: "",
    selectable: &[],
    rules: rules::PLAIN,
    table: table::PLAIN,
};

/// `ConfigMap`
pub static CONFIG_MAP: &Kind = &Kind {
    kind: "ConfigMap",
    schema: "core.v1.ConfigMap",
    list_kind: "ConfigMapList",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    table: table::CONFIG_MAP,
    rules: Rules { validate: validate::config_map, ..rules::PLAIN },
    ..PLAIN
};

/// `Endpoints`
pub static ENDPOINTS: &Kind = &Kind {
    kind: "Endpoints",
    schema: "core.v1.Endpoints",
    list_kind: "EndpointsList",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    rules: Rules { default: defaults::endpoints, validate: validate::endpoints, ..rules::PLAIN },
    table: table::ENDPOINTS,
    ..PLAIN
};

/// `Event` of the core group
pub static EVENT: &Kind = &Kind {
    kind: "Event",
    schema: "core.v1.Event",
    list_kind: "EventList",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    selectable: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    table: table::EVENT,
    rules: Rules { validate: validate::event, ..rules::PLAIN },
    ..PLAIN
};

/// `Namespace`
pub static NAMESPACE: &Kind = &Kind {
    kind: "Namespace",
    schema: "core.v1.Namespace",
    list_kind: "NamespaceList",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    subresources: &[
        sub("finalize", "", "v1", "Namespace", &["update"]),
        sub("status", "", "v1", "Namespace", READ_WRITE),
    ],
    selectable: &["status.phase"],
    rules: Rules {
        default: defaults::namespace,
        create: strategy::create_namespace,
        update: strategy::update_namespace,
        name: names::dns1123_label,
        validate: validate::namespace,
        ..rules::PLAIN
    },
    table: table::NAMESPACE,
    ..PLAIN
};

/// `Node`
pub static NODE: &Kind = &Kind {
    kind: "Node",
    schema: "core.v1.Node",
    list_kind: "NodeList",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    namespaced: false,
    subresources: &[
        sub("proxy", "", "v1", "NodeProxyOptions", &["create", "delete", "get", "patch", "update"]),
        sub("status", "", "v1", "Node", READ_WRITE),
    ],
    selectable: &["spec.unschedulable"],
    rules: Rules {
        default: defaults::node,
        validate: validate::node,
        validate_status: validate::node_status,
        ..rules::PLAIN
    },
    table: table::NODE,
    ..PLAIN
};

/// `Pod`
pub static POD: &Kind = &Kind {
    kind: "Pod",
    schema: "core.v1.Pod",
    list_kind: "PodList",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    subresources: &[
        sub("attach", "", "v1", "PodAttachOptions", &["create", "get"]),
        sub("binding", "", "v1", "Binding", &["create"]),
        sub("eviction", "policy", "v1", "Eviction", &["create"]),
        sub("exec", "", "v1", "PodExecOptions", &["create", "get"]),
        sub("log", "", "v1", "Pod", &["get"]),
        sub("portforward", "", "v1", "PodPortForwardOptions", &["create", "get"]),
        sub("status", "", "v1", "Pod", READ_WRITE),
    ],
    counts_generation: true,
    selectable: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ],
    rules: Rules {
        default: defaults::pod,
        create: strategy::create_pod,
        validate: validate::pod,
        ..rules::PLAIN
    },
    table: table::POD,
    ..PLAIN
};

/// `Secret`
pub static SECRET: &Kind = &Kind {
    kind: "Secret",
    schema: "core.v1.Secret",
    list_kind: "SecretList",
    plural: "secrets",
    singular: "secret",
    selectable: &["type"],
    rules: Rules { default: defaults::secret, validate: validate::secret, ..rules::PLAIN },
    table: table::SECRET,
    ..PLAIN
};

/// `ServiceAccount`
pub static SERVICE_ACCOUNT: &Kind = &Kind {
    kind: "ServiceAccount",
    schema: "core.v1.ServiceAccount",
    list_kind: "ServiceAccountList",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    subresources: &[sub("token", "authentication.k8s.io", "v1", "TokenRequest", &["create"])],
    table: table::SERVICE_ACCOUNT,
    ..PLAIN
};

/// `Service`
pub static SERVICE: &Kind = &Kind {
    kind: "Service",
    schema: "core.v1.Service",
    list_kind: "ServiceList",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[sub("status", "", "v1", "Service", READ_WRITE)],
    selectable: &["spec.clusterIP", "spec.type"],
    rules: Rules {
        default: defaults::service,
        create: strategy::create_service,
        name: names::dns1035_label,
        validate: validate::service,
        ..rules::PLAIN
    },
    table: table::SERVICE,
    ..PLAIN
};

/// `Deployment`
pub static DEPLOYMENT: &Kind = &Kind {
    group: "apps",
    kind: "Deployment",
    schema: "apps.v1.Deployment",
    list_kind: "DeploymentList",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    subresources: &[
        sub("scale", "autoscaling", "v1", "Scale", READ_WRITE),
        sub("status", "apps", "v1", "Deployment", READ_WRITE),
    ],
    counts_generation: true,
    rules: Rules {
        default: defaults::deployment,
        create: strategy::clear_status,
        changed: strategy::deployment_changed,
        status_keeps: &["labels", "ownerReferences"],
        validate: validate::deployment,
        validate_status: validate::workload_status,
        ..rules::PLAIN
    },
    table: table::DEPLOYMENT,
    ..PLAIN
};

/// `ReplicaSet`
pub static REPLICA_SET: &Kind = &Kind {
    group: "apps",
    kind: "ReplicaSet",
    schema: "apps.v1.ReplicaSet",
    list_kind: "ReplicaSetList",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    subresources: &[
        sub("scale", "autoscaling", "v1", "Scale", READ_WRITE),
        sub("status", "apps", "v1", "ReplicaSet", READ_WRITE),
    ],
    counts_generation: true,
    selectable: &["status.replicas"],
    rules: Rules {
        default: defaults::replica_set,
        create: strategy::clear_status,
        changed: strategy::spec_changed,
        status_keeps: &["labels", "ownerReferences"],
        validate: validate::replica_set,
        validate_status: validate::workload_status,
        ..rules::PLAIN
    },
    table: table::REPLICA_SET,
    ..PLAIN
};

/// `Lease`
pub static LEASE: &Kind = &Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    schema: "coordination.v1.Lease",
    list_kind: "LeaseList",
    plural: "leases",
    singular: "lease",
    table: table::LEASE,
    rules: Rules { validate: validate::lease, ..rules::PLAIN },
    ..PLAIN
};

/// `EndpointSlice`
pub static ENDPOINT_SLICE: &Kind = &Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    schema: "discovery.v1.EndpointSlice",
    list_kind: "EndpointSliceList",
    plural: "endpointslices",
    singular: "endpointslice",
    counts_generation: true,
    rules: Rules {
        default: defaults::endpoint_slice,
        changed: strategy::slice_changed,
        validate: validate::endpoint_slice,
        ..rules::PLAIN
    },
    table: table::ENDPOINT_SLICE,
    ..PLAIN
};

/// `NetworkPolicy`
pub static NETWORK_POLICY: &Kind = &Kind {
    group: "networking.k8s.io",
    kind: "NetworkPolicy",
    schema: "networking.v1.NetworkPolicy",
    list_kind: "NetworkPolicyList",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short_names: &["netpol"],
    counts_generation: true,
    rules: Rules {
        default: defaults::network_policy,
        validate: validate::network_policy,
        ..rules::PLAIN
    },
    table: table::NETWORK_POLICY,
    ..PLAIN
};

/// Every kind, by group and plural. The core group comes first: `kinds::by_name("events")` is the
/// core one.
pub(super) static ALL: &[&Kind] = &[
    CONFIG_MAP,
    ENDPOINTS,
    EVENT,
    NAMESPACE,
    NODE,
    POD,
    SECRET,
    SERVICE_ACCOUNT,
    SERVICE,
    DEPLOYMENT,
    REPLICA_SET,
    LEASE,
    ENDPOINT_SLICE,
    INGRESS,
    INGRESS_CLASS,
    NETWORK_POLICY,
    CLUSTER_ROLE_BINDING,
    CLUSTER_ROLE,
    ROLE_BINDING,
    ROLE,
];
