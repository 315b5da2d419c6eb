//! The time by which servers' certificates are judged, for boards whose own clock may be wrong.

use crate::config::ConfigError;
use crate::tls::{fault, provider};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// Tells the time, as far as it is known.
pub trait Clock: Debug + Send + Sync {
    /// The best guess, in seconds since 1970.
    fn now(&self) -> u64;

    /// What has passed for certain, in seconds since 1970, as long as nothing better than that is
    /// certain; `None` once the cluster has told its time.
    fn unsure_since(&self) -> Option<u64>;
}

/// A [`Clock`] as TLS asks for it.
#[derive(Debug)]
pub(crate) struct Time(pub(crate) Arc<dyn Clock>);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.now())))
    }
}

/// 2026-01-01: whoever runs this program lives after that, in seconds since 1970.
const EARLIEST: u64 = 1_767_225_600;

/// The system's clock, for those who know of none that is better. A board that has not been told
/// the time yet wakes in 1970, where no certificate would be valid.
#[derive(Debug)]
pub(crate) struct System;

impl TimeProvider for System {
    fn current_time(&self) -> Option<UnixTime> {
        Some(set(UnixTime::now()))
    }
}

fn set(now: UnixTime) -> UnixTime {
    now.max(UnixTime::since_unix_epoch(Duration::from_secs(EARLIEST)))
}

/// Judges servers' certificates by a [`Clock`]. While that is unsure, a certificate is in time if
/// there is any moment from the certain one on at which it is.
#[derive(Debug)]
pub(crate) struct Timely {
    inner: Arc<WebPkiServerVerifier>,
    clock: Arc<dyn Clock>,
}

impl Timely {
    pub(crate) fn new(
        roots: RootCertStore,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Timely>, ConfigError> {
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        let inner = built.build().map_err(|error| fault("set up TLS", error))?;
        Ok(Arc::new(Timely { inner, clock }))
    }

    /// The moment to judge at instead, if there is one that does.
    fn instead(&self, error: &CertificateError) -> Option<UnixTime> {
        let since = UnixTime::since_unix_epoch(Duration::from_secs(self.clock.unsure_since()?));
        match error {
            CertificateError::ExpiredContext { not_after, .. } if *not_after >= since => {
                Some(*not_after)
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                Some((*not_before).max(since))
            }
            _ => None,
        }
    }
}

impl ServerCertVerifier for Timely {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judge = |at| self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, at);
        match judge(now) {
            Err(Error::InvalidCertificate(error)) => match self.instead(&error) {
                Some(at) => judge(at),
                None => Err(Error::InvalidCertificate(error)),
            },
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_at_the_earliest() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        assert_eq!(set(at(100)), at(EARLIEST));
        assert_eq!(set(at(EARLIEST + 7)), at(EARLIEST + 7));
        assert!(System.current_time() >= Some(at(EARLIEST)));
    }
}
