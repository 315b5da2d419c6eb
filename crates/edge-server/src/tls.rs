//! TLS for both directions: serving clients that may show a certificate of this cluster, and
//! calling agents with a certificate of our own.

use crate::clock::Time;
use crate::join::Gate;
use crate::pki::{CertFacts, Leaf, PkiError, Renewing};
use crate::verify::{Judge, Judged};
use edge_core::clock::ClusterClock;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerified;
use rustls::{CertificateError, ClientConfig, Error, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

fn roots(ca_der: &[u8]) -> Result<Arc<RootCertStore>, PkiError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca_der.to_vec())).map_err(|e| fail("use the authority", e))?;
    Ok(Arc::new(roots))
}

fn fail(subject: &str, reason: impl fmt::Display) -> PkiError {
    PkiError::Issue { subject: subject.to_owned(), reason: reason.to_string() }
}

/// Serves with `cert`; a client may show a certificate, which must then be of this cluster. Whether
/// its time is over is looked at with the request: a board whose certificate is may still ask for
/// another.
pub(crate) fn serving(
    ca_der: &[u8],
    cert: Arc<Renewing>,
    clock: ClusterClock,
) -> Result<Arc<ServerConfig>, PkiError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca_der)?, provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| fail("verifying clients", e))?;
    let verifier = Judged::before(verifier, Timeless);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| fail("serving", e))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(cert);
    config.time_provider = Arc::new(Time(clock));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Calls others of this cluster: they must show a certificate of it whose key counts, and we show
/// `leaf`.
pub(crate) fn calling(
    ca_der: &[u8],
    leaf: &Leaf,
    clock: &ClusterClock,
    gate: &Gate,
) -> Result<Arc<ClientConfig>, PkiError> {
    let provider = Arc::new(ring::default_provider());
    let cert = CertificateDer::from_pem_slice(leaf.cert_pem.as_bytes())
        .map_err(|e| fail("calling agents", e))?;
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes())
        .map_err(|e| fail("calling agents", e))?;
    let roots = roots(ca_der)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|e| fail("calling agents", e))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| fail("calling agents", e))?
        .dangerous()
        .with_custom_certificate_verifier(gate.called(verifier))
        .with_client_auth_cert(vec![cert], key)
        .map_err(|e| fail("calling agents", e))?;
    config.time_provider = Arc::new(Time(clock.clone()));
    // A resumed session is not looked at again, and the key may count no more.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// How a server speaks with others over the bus: both ends show a certificate of this cluster.
pub struct BusTls {
    /// For sessions with brokers.
    pub client: Arc<ClientConfig>,
    /// For the broker that this server runs.
    pub server: Arc<ServerConfig>,
}

/// TLS between this server and others with the certificate `leaf`: HTTP's, and the bus's.
pub(crate) fn between_servers(
    ca_der: &[u8],
    leaf: &Leaf,
    clock: &ClusterClock,
    gate: &Gate,
) -> Result<(Arc<ClientConfig>, Arc<BusTls>), PkiError> {
    const WHAT: &str = "speaking with other servers";
    let http = calling(ca_der, leaf, clock, gate)?;
    let mut client = ClientConfig::clone(&http);
    client.alpn_protocols.clear();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca_der)?, provider.clone())
        .build()
        .map_err(|e| fail(WHAT, e))?;
    let cert =
        CertificateDer::from_pem_slice(leaf.cert_pem.as_bytes()).map_err(|e| fail(WHAT, e))?;
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).map_err(|e| fail(WHAT, e))?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| fail(WHAT, e))?
        .with_client_cert_verifier(gate.behind(verifier))
        .with_single_cert(vec![cert], key)
        .map_err(|e| fail(WHAT, e))?;
    server.time_provider = Arc::new(Time(clock.clone()));
    // Whoever resumes a session is not looked at again; sessions here last for days anyway.
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    let bus = BusTls { client: Arc::new(client), server: Arc::new(server) };
    Ok((http, Arc::new(bus)))
}

/// Checks whose a client's certificate is, and leaves its time to others.
#[derive(Debug)]
struct Timeless;

impl Judge for Timeless {
    fn judge(
        &self,
        cert: &CertificateDer<'_>,
        now: UnixTime,
        verify: &dyn Fn(UnixTime) -> Result<ClientCertVerified, Error>,
    ) -> Result<ClientCertVerified, Error> {
        use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
        match verify(now) {
            Err(Error::InvalidCertificate(
                Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
            )) => {
                let end = CertFacts::read_der(cert).map_or(0, |facts| facts.not_after);
                let within = Duration::from_secs(u64::try_from(end).unwrap_or_default());
                verify(UnixTime::since_unix_epoch(within))
            }
            outcome => outcome,
        }
    }
}
