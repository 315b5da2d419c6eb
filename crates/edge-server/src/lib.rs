//! The API server: HTTPS in front, one pipeline for all kinds behind it, the store underneath.
//! The rooms:
//!
//! - `http`: connections, paths, negotiation, and answers in every form;
//! - `auth`: who asks, and whether they may; `tokens`: what ServiceAccounts prove themselves with;
//! - `api`: the pipeline that every read and write goes through, from HTTP and in process alike;
//! - `admission`: checks and additions that look at other objects;
//! - `discovery`: what there is to talk to, generated from the registry of kinds;
//! - `driver`: the leader's loop, which runs the controllers and the scheduler of `edge-core`;
//! - `lead`: who leads, writes passed on to it, and what runs on the leader alone;
//! - `images`: which board holds which image, and what pushed names mean;
//! - `proxy`: the way to the boards' agents;
//! - `join`: how boards come, renew and go, and the cluster's servers;
//! - `backup`: the cluster as one stream, and a cluster out of one;
//! - `pki`: keys, certificates and the administrator's kubeconfig.

mod admission;
mod api;
mod auth;
pub mod backup;
mod boot;
pub mod clock;
mod config;
mod discovery;
mod driver;
mod health;
mod http;
mod images;
pub mod join;
mod lead;
mod metrics;
pub mod pki;
mod proxy;
mod server;
mod tied;
mod tls;
mod tokens;
mod verify;
mod yearly;

pub use api::{
    Api, At, DeleteOptions, Deleted, FieldValidation, ListOptions, Page, Patch, Place, Propagation,
    WatchItem, WatchOptions, Watching, WriteOptions, Written,
};
pub use auth::{Identity, SERVERS};
pub use config::{Config, ConfigError, NodeSettings, Range};
pub use driver::Beats;
pub use edge_store::Founding;
pub use http::{ProgramAnswer, Programs};
pub use lead::{Courier, Inlet, Outside};
pub use pki::{AgentCredentials, PkiError};
pub use server::{Linked, Server, StartError};
pub use tls::BusTls;
