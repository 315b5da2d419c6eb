//! The serving certificate of a process that runs for years: it is replaced in place when it has
//! used up two thirds of its life, and open connections notice nothing.

use super::authority::{Authority, Leaf};
use super::error::PkiError;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// The certificate that new connections are answered with.
pub(crate) struct Renewing {
    names: BTreeSet<String>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Renewing {
    /// Takes the kept serving certificate, or a new one for these names.
    pub(crate) fn new(authority: &Authority, names: BTreeSet<String>) -> Result<Self, PkiError> {
        let current = RwLock::new(Arc::new(certified(&leaf(authority, &names)?)?));
        Ok(Renewing { names, current })
    }

    /// Looks whether the certificate is due, and replaces it if so.
    pub(crate) fn renew(&self, authority: &Authority) -> Result<(), PkiError> {
        let next = Arc::new(certified(&leaf(authority, &self.names)?)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}

fn leaf(authority: &Authority, names: &BTreeSet<String>) -> Result<Leaf, PkiError> {
    authority.kept_leaf("server", "kube-apiserver", None, names)
}

impl ResolvesServerCert for Renewing {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl fmt::Debug for Renewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewing").field("names", &self.names).finish_non_exhaustive()
    }
}

fn certified(leaf: &Leaf) -> Result<CertifiedKey, PkiError> {
    let fail = |reason: String| PkiError::Issue { subject: "this server".to_owned(), reason };
    let cert = CertificateDer::from_pem_slice(leaf.cert_pem.as_bytes())
        .map_err(|e| fail(e.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).map_err(|e| fail(e.to_string()))?;
    let key =
        rustls::crypto::ring::sign::any_supported_type(&key).map_err(|e| fail(e.to_string()))?;
    Ok(CertifiedKey::new(vec![cert], key))
}
