//! Whom to trust: the board's own bundle of certificate authorities, or the one built in where a
//! bare board has none, and what the configuration adds.

use super::super::error::ImageError;
use super::config::RegistryConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS as a registry's configuration wants it. Made for each pull and dropped with it: 150
/// certificates are nothing to hold in an idle board's memory.
pub(super) fn client(config: Option<&RegistryConfig>) -> Result<Arc<ClientConfig>, ImageError> {
    let failed = |detail: String| ImageError::Config { detail };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(format!("TLS can't be set up: {e}")))?;
    if config.is_some_and(|config| config.insecure_skip_verify) {
        let any = Arc::new(Anyone(provider));
        let builder = builder.dangerous().with_custom_certificate_verifier(any);
        return Ok(Arc::new(builder.with_no_client_auth()));
    }
    let mut roots = usual();
    if let Some(path) = config.and_then(|config| config.ca_file.as_ref()) {
        let pem = std::fs::read(path)
            .map_err(|e| failed(format!("read caFile {}: {e}", path.display())))?;
        if add(&mut roots, &pem) == 0 {
            return Err(failed(format!("caFile {} has no certificate", path.display())));
        }
    }
    if let Some(pem) = config.and_then(|config| config.ca_pem.as_ref())
        && add(&mut roots, pem.as_bytes()) == 0
    {
        return Err(failed("caPem has no certificate".into()));
    }
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn usual() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let named = std::env::var("SSL_CERT_FILE").ok();
    for path in named.iter().map(String::as_str).chain(BUNDLES) {
        if let Ok(pem) = std::fs::read(Path::new(path))
            && add(&mut roots, &pem) > 0
        {
            return roots;
        }
    }
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots
}

fn add(roots: &mut RootCertStore, pem: &[u8]) -> usize {
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok)).0
}

/// Takes every certificate, for `insecureSkipVerify`; content is still checked by digest when the
/// reference has one.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
