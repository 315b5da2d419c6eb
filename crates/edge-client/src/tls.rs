//! TLS for both ends, from PEM, on one crypto provider (ring) for the whole tree.

use crate::clock::{Clock, System, Time, Timely};
use crate::config::ConfigError;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::sync::Arc;

/// Sessions kept for resumption: a client talks to a handful of servers.
const SESSIONS: usize = 8;

/// Where systems keep the certificate authorities that they trust.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How a client proves itself and whom it trusts.
#[derive(Clone, Default)]
pub struct ClientTls<'a> {
    /// Who may sign servers' certificates; without it, the machine's own list.
    pub ca_pem: Option<&'a [u8]>,
    /// Our certificate chain.
    pub cert_pem: Option<&'a [u8]>,
    /// Its private key.
    pub key_pem: Option<&'a [u8]>,
    /// Accept any certificate.
    pub insecure: bool,
    /// What time it is; the system's clock when there is none.
    pub clock: Option<Arc<dyn Clock>>,
}

/// What a server does about client certificates.
#[derive(Clone, Copy, Default)]
pub enum ClientAuth<'a> {
    /// Does not ask.
    #[default]
    None,
    /// Asks; who shows one must show one of this authority's.
    Optional(&'a [u8]),
    /// Refuses a client without one of this authority's.
    Required(&'a [u8]),
}

/// The one crypto provider.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A client's side, HTTP/1.1.
pub fn client_config(options: &ClientTls<'_>) -> Result<ClientConfig, ConfigError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| fault("set up TLS", error))?;
    let builder = if options.insecure {
        let algorithms = provider().signature_verification_algorithms;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny { algorithms }))
    } else {
        let roots = match options.ca_pem {
            Some(pem) => roots("read the certificate authority", pem)?,
            None => system_roots()?,
        };
        match &options.clock {
            None => builder.with_root_certificates(roots),
            Some(clock) => builder
                .dangerous()
                .with_custom_certificate_verifier(Timely::new(roots, clock.clone())?),
        }
    };
    let mut config = match (options.cert_pem, options.key_pem) {
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(certificates("read the client certificate", cert)?, {
                private_key("read the client key", key)?
            })
            .map_err(|error| fault("use the client certificate", error))?,
        _ => builder.with_no_client_auth(),
    };
    config.time_provider = match &options.clock {
        Some(clock) => Arc::new(Time(clock.clone())),
        None => Arc::new(System),
    };
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}

/// A server's side, HTTP/1.1.
pub fn server_config(
    cert_pem: &[u8],
    key_pem: &[u8],
    clients: ClientAuth<'_>,
) -> Result<ServerConfig, ConfigError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| fault("set up TLS", error))?;
    let verifier = |pem| -> Result<_, ConfigError> {
        let roots = Arc::new(roots("read the clients' certificate authority", pem)?);
        Ok(WebPkiClientVerifier::builder_with_provider(roots, provider()))
    };
    let built = match clients {
        ClientAuth::None => None,
        ClientAuth::Optional(pem) => Some(verifier(pem)?.allow_unauthenticated().build()),
        ClientAuth::Required(pem) => Some(verifier(pem)?.build()),
    };
    let builder = match built {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(
            verifier.map_err(|error| fault("set up client certificates", error))?,
        ),
    };
    let mut config = builder
        .with_single_cert(
            certificates("read the serving certificate", cert_pem)?,
            private_key("read the serving key", key_pem)?,
        )
        .map_err(|error| fault("use the serving certificate", error))?;
    config.time_provider = Arc::new(System);
    Ok(config)
}

/// [`server_config`] that judges clients' certificates by this clock.
pub fn server_config_at(
    cert_pem: &[u8],
    key_pem: &[u8],
    clients: ClientAuth<'_>,
    clock: Arc<dyn Clock>,
) -> Result<ServerConfig, ConfigError> {
    let mut config = server_config(cert_pem, key_pem, clients)?;
    config.time_provider = Arc::new(Time(clock));
    Ok(config)
}

/// The certificates in a PEM file.
pub fn certificates(
    operation: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(list) if list.is_empty() => Err(fault(operation, "no certificate in the PEM data")),
        Ok(list) => Ok(list),
        Err(error) => Err(fault(operation, error)),
    }
}

/// The private key in a PEM file.
pub fn private_key(
    operation: &'static str,
    pem: &[u8],
) -> Result<PrivateKeyDer<'static>, ConfigError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| fault(operation, error))
}

fn roots(operation: &'static str, pem: &[u8]) -> Result<RootCertStore, ConfigError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(operation, pem)? {
        store.add(certificate).map_err(|error| fault(operation, error))?;
    }
    Ok(store)
}

fn system_roots() -> Result<RootCertStore, ConfigError> {
    const OPERATION: &str = "read the system's certificate authorities";
    let named = std::env::var("SSL_CERT_FILE").ok();
    let candidates = named.iter().map(String::as_str).chain(SYSTEM_ROOTS);
    for path in candidates {
        if let Ok(pem) = std::fs::read(path) {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(certificates(OPERATION, &pem)?);
            return Ok(store);
        }
    }
    Err(fault(OPERATION, "none found; name one with certificate-authority"))
}

pub(crate) fn fault(operation: &'static str, error: impl std::fmt::Display) -> ConfigError {
    ConfigError::Tls { operation, message: error.to_string() }
}

/// The name to verify for a host, or the one that the configuration gives instead.
pub(crate) fn name_for(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.to_string()).ok()
}

/// `insecure-skip-tls-verify`: the handshake is still checked, the certificate is not.
#[derive(Debug)]
struct AcceptAny {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
