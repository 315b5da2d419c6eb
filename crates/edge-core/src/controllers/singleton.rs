//! Pods of which there must never be two: annotated `edged.dev/singleton: "true"`. One that cannot
//! be seen may still run, so nothing takes its place until it is known to have ended, its board is
//! declared out of service or removed, or a person forces it.

use edge_api::{Object, meta};

/// The annotation, on a pod or a pod template.
pub const ANNOTATION: &str = "edged.dev/singleton";

/// Whether a pod, or an object with a pod's metadata, is one.
pub fn is_singleton(pod: &Object) -> bool {
    meta::annotation(pod, ANNOTATION) == Some("true")
}

/// Whether a workload's pod template makes singletons.
pub fn makes_singletons(workload: &Object) -> bool {
    is_singleton(&workload["spec"]["template"])
}
