//! TLS for both directions: serving clients that may show a certificate of this cluster, and
//! calling agents with a certificate of our own.

use crate::pki::{Leaf, PkiError, Renewing};
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::sync::Arc;

fn roots(ca_der: &[u8]) -> Result<Arc<RootCertStore>, PkiError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca_der.to_vec())).map_err(|e| fail("use the authority", e))?;
    Ok(Arc::new(roots))
}

fn fail(subject: &str, reason: impl fmt::Display) -> PkiError {
    PkiError::Issue { subject: subject.to_owned(), reason: reason.to_string() }
}

/// Serves with `cert`; a client may show a certificate, which must then be of this cluster.
pub(crate) fn serving(ca_der: &[u8], cert: Arc<Renewing>) -> Result<Arc<ServerConfig>, PkiError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca_der)?, provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| fail("verifying clients", e))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| fail("serving", e))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(cert);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Calls agents: they must show a certificate of this cluster, and we show `leaf`.
pub(crate) fn calling(ca_der: &[u8], leaf: &Leaf) -> Result<Arc<ClientConfig>, PkiError> {
    let provider = Arc::new(ring::default_provider());
    let cert = CertificateDer::from_pem_slice(leaf.cert_pem.as_bytes())
        .map_err(|e| fail("calling agents", e))?;
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes())
        .map_err(|e| fail("calling agents", e))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| fail("calling agents", e))?
        .with_root_certificates(roots(ca_der)?)
        .with_client_auth_cert(vec![cert], key)
        .map_err(|e| fail("calling agents", e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
