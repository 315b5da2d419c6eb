//! What commands read: manifests from files, directories and standard input.

pub(crate) mod manifest;
pub(crate) mod yaml;
