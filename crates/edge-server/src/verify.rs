//! Whose certificate a client shows, as TLS asks for it: the library's verifier, and what we add to
//! its judgement. Signatures are the library's alone.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::fmt::Debug;
use std::sync::Arc;

/// What is added to a verifier's judgement.
pub(crate) trait Judge: Debug + Send + Sync {
    /// Judges a client's certificate; `verify` is the verifier's own judgement at a moment.
    fn judge(
        &self,
        cert: &CertificateDer<'_>,
        now: UnixTime,
        verify: &dyn Fn(UnixTime) -> Result<ClientCertVerified, Error>,
    ) -> Result<ClientCertVerified, Error>;
}

/// A verifier behind a judge.
#[derive(Debug)]
pub(crate) struct Judged<J> {
    inner: Arc<dyn ClientCertVerifier>,
    judge: J,
}

impl<J: Judge + 'static> Judged<J> {
    /// Puts `judge` before a verifier.
    pub(crate) fn before(
        inner: Arc<dyn ClientCertVerifier>,
        judge: J,
    ) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Judged { inner, judge })
    }
}

impl<J: Judge> ClientCertVerifier for Judged<J> {
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
        let verify = |at| self.inner.verify_client_cert(end_entity, intermediates, at);
        self.judge.judge(end_entity, now, &verify)
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
