//! Who asks, and whether they may: identities come from client certificates and tokens. An
//! administrator may do everything, a board what an agent needs for its own pods, and everybody
//! what roles allow them.

mod authorize;
mod identity;
mod impersonate;
mod node;
mod rbac;
mod review;

pub(crate) use authorize::{Ask, authorize, authorize_path, sees_outlines};
pub use identity::{Identity, SERVERS};
pub(crate) use impersonate::impersonated;
pub(crate) use rbac::{furnish, may_grant};
pub(crate) use review::review;
