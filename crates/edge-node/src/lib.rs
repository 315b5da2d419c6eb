//! The kubelet's effects on one board: images, runtime, shim, networks, volumes, probes.
//! Decisions are made in `edge-core`; this crate carries them out and reports what it sees.

pub mod agent;
pub mod cleanup;
pub mod clock;
pub mod closed;
pub mod dns;
pub mod doctor;
pub mod fields;
pub mod images;
mod mounts;
pub mod net;
pub mod opened;
pub mod poweroff;
pub mod probes;
pub mod runtime;
pub mod seams;
pub mod serve;
pub mod shim;
mod trust;
pub mod upgrade;
pub mod volumes;
