//! The HTTP client that agents and `edgectl` share: credentials, a small pool of TLS
//! connections, failover between servers, retry, list and watch.
//!
//! It exists so that an agent has one way to the API, over HTTPS, wherever the server runs; and
//! it stays small, because it lives in the same process as everything else on a board.

pub mod body;
mod call;
pub mod clock;
pub mod config;
mod connect;
mod error;
pub mod exec;
pub mod forward;
mod http_client;
mod kubeconfig;
mod params;
mod pause;
pub mod query;
mod refusal;
pub mod spdy;
mod switch;
pub mod tls;
mod trust;
mod typed;
mod watch;
pub mod watcher;
pub mod websocket;

pub use body::Body;
pub use call::{Answer, Call};
pub use config::{Config, ConfigError};
pub use edge_api::patch::PatchType;
pub use error::Error;
pub use http_client::{Client, Patience};
pub use kubeconfig::{ContextSummary, Kubeconfig};
pub use params::{
    DeleteParams, FieldValidation, List, ListParams, Propagation, WatchParams, WriteParams,
};
pub use refusal::Refusals;
pub use watch::{WatchEvent, WatchStream};
pub use watcher::Watcher;
pub use websocket::WebSocket;

#[cfg(test)]
mod tests;
