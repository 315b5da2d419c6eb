//! The rows of `networking.k8s.io`.

use super::{PLAIN, READ_WRITE, sub};
use crate::kinds::Kind;
use crate::kinds::rules::{self, Rules};
use crate::{defaults, strategy, table, validate};

/// `Ingress`
pub static INGRESS: &Kind = &Kind {
    group: "networking.k8s.io",
    kind: "Ingress",
    schema: "networking.v1.Ingress",
    list_kind: "IngressList",
    plural: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    subresources: &[sub("status", "networking.k8s.io", "v1", "Ingress", READ_WRITE)],
    counts_generation: true,
    rules: Rules {
        create: strategy::create_service,
        validate: validate::ingress,
        validate_status: validate::ingress_status,
        ..rules::PLAIN
    },
    table: table::INGRESS,
    ..PLAIN
};

/// `IngressClass`
pub static INGRESS_CLASS: &Kind = &Kind {
    group: "networking.k8s.io",
    kind: "IngressClass",
    schema: "networking.v1.IngressClass",
    list_kind: "IngressClassList",
    plural: "ingressclasses",
    singular: "ingressclass",
    namespaced: false,
    counts_generation: true,
    rules: Rules {
        default: defaults::ingress_class,
        validate: validate::ingress_class,
        ..rules::PLAIN
    },
    table: table::INGRESS_CLASS,
    ..PLAIN
};
