//! Turning revoked keys away while they still knock: for those who take connections elsewhere than
//! the API does, and are made before it is known which keys count.

use super::trust::Trust;
use crate::pki::CertFacts;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// Lets everybody pass until it is told which keys count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<OnceLock<watch::Receiver<Arc<Trust>>>>);

impl Gate {
    /// From now on, only keys that count pass.
    pub(crate) fn guard(&self, trust: watch::Receiver<Arc<Trust>>) {
        // It is told once, when the server starts.
        let _ = self.0.set(trust);
    }

    /// Puts the gate behind a verifier.
    pub(crate) fn behind(&self, inner: Arc<dyn ClientCertVerifier>) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Gated { inner, gate: self.clone() })
    }

    fn refuses(&self, der: &[u8]) -> bool {
        let (Some(trust), Some(facts)) = (self.0.get(), CertFacts::read_der(der)) else {
            return false;
        };
        let node = facts.user.strip_prefix("system:node:");
        trust.borrow().refusal(&facts.key, node).is_some()
    }
}

#[derive(Debug)]
struct Gated {
    inner: Arc<dyn ClientCertVerifier>,
    gate: Gate,
}

impl ClientCertVerifier for Gated {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        match self.gate.refuses(end_entity) {
            true => Err(Error::InvalidCertificate(CertificateError::Revoked)),
            false => Ok(verified),
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
