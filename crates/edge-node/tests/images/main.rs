//! Images made, kept and served by the programs that people use (umoci, skopeo, podman and Debian's
//! docker-registry), against our store: what we mount must be what they mount. Needs root.

#![allow(clippy::unwrap_used, clippy::panic)]

mod crash;
mod full;
mod registry;
mod tools;
mod tree;
mod trees;
mod webserver;
