//! placeholder

pub use k8s_openapi as k8s;
