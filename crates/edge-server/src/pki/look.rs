//! What a certificate says, for those who have no reader of their own: the agent, which judges when
//! its own is due, and the board that is about to join.

use super::key::{KeyHash, pin};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::collections::BTreeSet;
use std::net::IpAddr;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The facts of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFacts {
    /// The common name.
    pub user: String,
    /// The first organization.
    pub group: Option<String>,
    /// DNS names and addresses.
    pub names: BTreeSet<String>,
    /// Seconds since 1970 before which it is not valid.
    pub not_before: i64,
    /// Seconds since 1970 after which it is not valid.
    pub not_after: i64,
    /// Its key.
    pub key: KeyHash,
    /// Its key as a token pins it, if it is an authority's.
    pub pin: String,
    /// Whether it may sign others.
    pub authority: bool,
}

impl CertFacts {
    /// Reads the first certificate of a PEM text.
    pub fn read(pem: &str) -> Option<CertFacts> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        CertFacts::read_der(&der)
    }

    /// Reads a certificate in DER.
    pub fn read_der(der: &[u8]) -> Option<CertFacts> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let validity = cert.validity();
        let group = cert.subject().iter_organization().next();
        let spki = cert.public_key().raw;
        Some(CertFacts {
            user: cert.subject().iter_common_name().next()?.as_str().ok()?.to_owned(),
            group: group.and_then(|o| o.as_str().ok()).map(str::to_owned),
            names: names_of(&cert),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            key: KeyHash::of(spki),
            pin: pin(spki),
            authority: cert.is_ca(),
        })
    }
}

pub(super) fn names_of(cert: &X509Certificate<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if let Ok(Some(extension)) = cert.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.insert((*name).to_owned()),
                GeneralName::IPAddress([a, b, c, d]) => {
                    names.insert(IpAddr::from([*a, *b, *c, *d]).to_string())
                }
                GeneralName::IPAddress(bytes) => <[u8; 16]>::try_from(*bytes)
                    .is_ok_and(|bytes| names.insert(IpAddr::from(bytes).to_string())),
                _ => false,
            };
        }
    }
    names
}
