//! Defaults of IngressClasses. An Ingress has none: which class it gets is the server's to say.

use super::{fill, some};
use crate::Object;

/// `IngressClass`: parameters are the cluster's unless a namespace is named.
pub(crate) fn ingress_class(class: &mut Object) {
    let Some(spec) = some(class, "spec") else { return };
    if let Some(parameters) = some(spec, "parameters") {
        fill(parameters, "scope", "Cluster");
    }
}
