//! Who may call: a certificate signed by the cluster's authority is not enough, since every board
//! and every user has one. Only those who may do everything in the cluster, the API server first,
//! may call an agent.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The group that may do everything.
const MASTERS: &str = "system:masters";

/// True for a certificate that belongs to the group.
pub(super) fn may_call(certificates: Option<&[CertificateDer<'_>]>) -> bool {
    let Some(first) = certificates.and_then(<[_]>::first) else { return false };
    let Ok((_, certificate)) = X509Certificate::from_der(first) else { return false };
    let mut groups = certificate.subject().iter_organization();
    groups.any(|group| group.as_str() == Ok(MASTERS))
}
