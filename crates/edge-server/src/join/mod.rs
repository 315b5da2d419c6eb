//! Boards join, renew and leave: tokens, certificates for keys that boards have proven, the list of
//! revoked keys, and the servers of the cluster, over HTTP under `/edged/v1`. Decisions and their
//! reasons are in `docs/adr/0012-joining.md`.

mod admit;
mod desk;
mod dns;
mod gate;
mod lan;
mod membership;
mod names;
mod nodeless;
mod renew;
mod revoke;
mod token;
mod trust;
mod words;

pub(crate) use desk::{Ask, Desk, REQUEST_BYTES};
pub(crate) use gate::Gate;
pub use lan::Finder;
pub(crate) use lan::announce;
pub use membership::{Changing, Cluster, Derive, Membership, MembershipError};
pub use names::POD_CIDR_BITS;
pub(crate) use nodeless::{is_nodeless, without_node};
pub use token::{Remembered, Role, TOKEN_NAMESPACE, TOKEN_PREFIX, TOKEN_TYPE, Token, TokenError};
pub use trust::{KEY_ANNOTATION, REVOKED, Trust};
pub(crate) use trust::{begin, follow};
pub use words::{
    JoinAnswer, JoinRequest, MemberAnswer, PROTOCOL, RENEWS_ITSELF, RenewAnswer, RenewRequest,
    ServerInfo, ServersAnswer, TimeAnswer, differs, even_warning,
};
