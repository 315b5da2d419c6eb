//! The HTTP edge: connections, paths, negotiation, bodies. What a request means to the cluster is
//! decided in `api`; here it is only read and answered.

mod body;
mod encode;
mod guest;
mod io;
mod listen;
mod negotiate;
mod objects;
mod outline;
mod parameters;
mod program;
mod protobuf;
mod query;
mod reply;
mod request;
mod reviews;
mod route;
mod serve;
mod subresources;
mod table;
mod watching;

pub(crate) use body::ReplyBody;
pub(crate) use listen::{bind, run};
pub(crate) use negotiate::{BodyType, Form, discovery_form};
pub use program::{ProgramAnswer, Programs};
pub(crate) use query::Query;
pub(crate) use reply::{Reply, json, reply as answer, reply_typed, status as failure, text};
pub(crate) use route::{Route, Target};
pub(crate) use serve::Front;
