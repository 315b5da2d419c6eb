//! Certificates by the name that a client asks for. They change while the proxy runs: who connects
//! next gets the new one.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use edge_api::Object;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The name in the certificate that stands in for a missing one.
const STAND_IN: &str = "edged-ingress.invalid";

/// A certificate with its key, ready to be shown.
#[derive(Debug, Clone)]
pub struct Certificate(Arc<CertifiedKey>);

/// Why a Secret is no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateError {
    /// A field is missing, or is not base64.
    Missing(&'static str),
    /// `tls.crt` holds no certificate in PEM.
    Chain(String),
    /// `tls.key` holds no private key in PEM.
    Key(String),
    /// The two do not belong together, or are of no kind that we know.
    Pair(String),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateError::Missing(field) => write!(out, "it has no {field}"),
            CertificateError::Chain(why) => write!(out, "tls.crt is no certificate: {why}"),
            CertificateError::Key(why) => write!(out, "tls.key is no private key: {why}"),
            CertificateError::Pair(why) => {
                write!(out, "tls.key is not the key of tls.crt: {why}")
            }
        }
    }
}

impl std::error::Error for CertificateError {}

impl Certificate {
    /// Reads a Secret of type `kubernetes.io/tls`.
    pub fn read(secret: &Object) -> Result<Certificate, CertificateError> {
        let (chain, key) = (field(secret, "tls.crt")?, field(secret, "tls.key")?);
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain)
            .collect::<Result<_, _>>()
            .map_err(|error| CertificateError::Chain(error.to_string()))?;
        if chain.is_empty() {
            return Err(CertificateError::Chain("it is empty".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|error| CertificateError::Key(error.to_string()))?;
        Certificate::new(chain, key)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Certificate, CertificateError> {
        let provider = edge_client::tls::provider();
        let pair = CertifiedKey::from_der(chain, key, &provider);
        pair.map(|pair| Certificate(Arc::new(pair)))
            .map_err(|error| CertificateError::Pair(error.to_string()))
    }

    /// One that nobody signed.
    fn stand_in() -> io::Result<Certificate> {
        let made = rcgen::generate_simple_self_signed([STAND_IN.to_owned()]);
        let made = made.map_err(io::Error::other)?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let key = key.map_err(io::Error::other)?;
        Certificate::new(vec![made.cert.der().clone()], key).map_err(io::Error::other)
    }
}

fn field(secret: &Object, name: &'static str) -> Result<Vec<u8>, CertificateError> {
    let text = secret["data"][name].as_str().filter(|text| !text.is_empty());
    let text = text.ok_or(CertificateError::Missing(name))?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(text);
    decoded.map_err(|_| CertificateError::Missing(name))
}

/// The certificates of the moment.
#[derive(Debug)]
pub(super) struct Certificates {
    known: RwLock<BTreeMap<String, Certificate>>,
    stand_in: Certificate,
}

impl Certificates {
    /// None yet, but for one that nobody signed.
    pub(super) fn new() -> io::Result<Arc<Certificates>> {
        let stand_in = Certificate::stand_in()?;
        Ok(Arc::new(Certificates { known: RwLock::default(), stand_in }))
    }

    /// Takes new ones in the place of all.
    pub(super) fn set(&self, certificates: impl IntoIterator<Item = (String, Certificate)>) {
        let fresh = certificates.into_iter().collect();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    /// What makes TLS out of connections: HTTP/2 where the client has it.
    pub(super) fn acceptor(self: &Arc<Certificates>) -> io::Result<TlsAcceptor> {
        let builder = ServerConfig::builder_with_provider(edge_client::tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    fn of(&self, name: &str) -> Arc<CertifiedKey> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let parent = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let found = known
            .get(name)
            .filter(|_| !name.is_empty())
            .or_else(|| known.get(&parent?))
            .or_else(|| known.get(""));
        found.unwrap_or(&self.stand_in).0.clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.of(&hello.server_name().unwrap_or_default().to_ascii_lowercase()))
    }
}
