//! Every decision that edged makes, as pure functions of what is known: no clock, no chance, no
//! effects. Time enters as milliseconds, chance as a seed, the world as a view.

pub mod backup;
pub mod clock;
pub mod consensus;
pub mod controllers;
pub mod dns;
pub mod doctor;
pub mod image_gc;
pub mod image_source;
pub mod ingress;
pub mod liveness;
pub mod plan;
pub mod pod;
pub mod podnet;
pub mod policy;
pub mod porch;
pub mod proxy;
pub mod rbac;
pub mod scheduler;
pub mod upgrade;
pub mod view;
pub mod workload;
