//! What a client's connections are secured with: made once from its configuration, or handed over
//! anew by whoever renews certificates.

use crate::config::{Config, ConfigError};
use crate::tls;
use std::sync::Arc;
use tokio::sync::watch;

/// How connections are secured: always alike, or as somebody else says now.
pub(crate) enum Tls {
    Fixed(Arc<rustls::ClientConfig>),
    Live(watch::Receiver<Arc<rustls::ClientConfig>>),
}

impl Tls {
    pub(crate) fn of(config: &Config, plain: bool) -> Result<Tls, ConfigError> {
        if let Some(live) = &config.live {
            return Ok(Tls::Live(live.clone()));
        }
        let made = tls::client_config(&tls::ClientTls {
            ca_pem: config.ca_pem.as_deref(),
            cert_pem: config.client_cert_pem.as_deref(),
            key_pem: config.client_key_pem.as_deref(),
            insecure: config.insecure || (plain && config.ca_pem.is_none()),
            clock: config.clock.clone(),
        })?;
        Ok(Tls::Fixed(Arc::new(made)))
    }

    pub(crate) fn now(&self) -> Arc<rustls::ClientConfig> {
        match self {
            Tls::Fixed(config) => config.clone(),
            Tls::Live(config) => config.borrow().clone(),
        }
    }
}
