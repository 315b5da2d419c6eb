//! Who asks, and whether they may: identities come from client certificates, administrators may do
//! everything, and boards may do what an agent needs for its own pods.

mod authorize;
mod identity;
mod node;

pub(crate) use authorize::{Ask, authorize, sees_outlines};
pub use identity::{Identity, SERVERS};
