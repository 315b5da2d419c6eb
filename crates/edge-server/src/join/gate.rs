//! Turning revoked keys away while they still knock: for those who take connections elsewhere than
//! the API does, and are made before it is known which keys count.

use super::trust::Trust;
use crate::pki::CertFacts;
use crate::verify::{Judge, Judged};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
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
        Judged::before(inner, self.clone())
    }

    /// Puts the gate behind the verifier of those whom we call.
    pub(crate) fn called(&self, inner: Arc<dyn ServerCertVerifier>) -> Arc<dyn ServerCertVerifier> {
        Arc::new(Called { inner, gate: self.clone() })
    }

    fn refuses(&self, der: &[u8]) -> bool {
        let (Some(trust), Some(facts)) = (self.0.get(), CertFacts::read_der(der)) else {
            return false;
        };
        let node = facts.user.strip_prefix("system:node:");
        trust.borrow().refusal(&facts.key, node).is_some()
    }
}

impl Judge for Gate {
    fn judge(
        &self,
        cert: &CertificateDer<'_>,
        now: UnixTime,
        verify: &dyn Fn(UnixTime) -> Result<ClientCertVerified, Error>,
    ) -> Result<ClientCertVerified, Error> {
        let verified = verify(now)?;
        match self.refuses(cert) {
            true => Err(Error::InvalidCertificate(CertificateError::Revoked)),
            false => Ok(verified),
        }
    }
}

/// The verifier of those whom we call, and the gate behind it.
#[derive(Debug)]
struct Called {
    inner: Arc<dyn ServerCertVerifier>,
    gate: Gate,
}

impl ServerCertVerifier for Called {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(cert, intermediates, name, ocsp, now)?;
        match self.gate.refuses(cert) {
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
