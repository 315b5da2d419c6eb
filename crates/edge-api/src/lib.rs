//! The Kubernetes nouns, pure: kinds and their registry, metadata, selectors, quantities, defaults,
//! validation, patches and table rows. Objects are raw JSON, so that what a client sent, left out
//! or emptied stays apart; nothing here reads a clock, a file, a socket or chance.

pub use k8s_openapi as k8s;

/// An API object as it goes on the wire. Kubernetes' rules are applied to it in place.
pub type Object = serde_json::Value;

pub mod backup;
pub mod defaults;
pub mod field;
pub mod int_or_string;
pub mod keys;
pub mod kinds;
pub mod meta;
pub mod names;
pub mod patch;
pub mod pod;
pub mod quantity;
pub mod release;
pub mod schema;
pub mod selector;
pub mod status;
pub mod strategy;
pub mod table;
pub mod time;
mod validate;
