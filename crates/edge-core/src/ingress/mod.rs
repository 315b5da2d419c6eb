//! Which request goes where, for Ingresses of our class: Ingresses, Services and EndpointSlices
//! in, a [`Table`] out, and in words what of it can't be had. Boards route by the table; the
//! leader shows its problems on the Ingresses ([`plan`]).

mod backend;
mod class;
mod controller;
mod table;
#[cfg(test)]
mod tests;

pub use backend::{Backend, Port, Protocol, Stock};
pub use class::{
    ANNOTATION, CLASS, CONTROLLER, Classes, DEFAULT, built_in, default_of, named, secrets,
};
pub use controller::{SOURCE, plan};
pub use table::{Found, Route, Table};

/// `false`: requests over plain HTTP are answered although there is a certificate.
pub const SSL_REDIRECT: &str = "edged.io/ssl-redirect";
/// Seconds that a backend may be silent.
pub const BACKEND_TIMEOUT: &str = "edged.io/backend-timeout";
/// How long that is without the annotation, in seconds.
pub const BACKEND_SECONDS: u32 = 60;
/// The longest that the annotation may say: a day.
pub const BACKEND_SECONDS_MAX: u32 = 86_400;

/// A Secret: its namespace and its name.
pub type SecretName = (String, String);

/// Something about an Ingress that can't be as it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The Ingress' namespace.
    pub namespace: String,
    /// The Ingress' name.
    pub name: String,
    /// One word, as `kubectl describe` shows it.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}
