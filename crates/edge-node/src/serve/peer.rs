//! Who may call: a certificate signed by the cluster's authority is not enough, since every board
//! and every user has one. Those who may do everything in the cluster, the API server first, may
//! call for everything; the other boards may read images, which is all that they need.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The group that may do everything.
const MASTERS: &str = "system:masters";
/// Boards, and the servers among them.
const BOARDS: [&str; 2] = ["system:nodes", "edged:servers"];

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// Everything.
    Master,
    /// Read images by digest, and what public names stand for.
    Board,
    /// Nothing.
    Stranger,
}

/// What the owner of this certificate may do.
pub(super) fn caller(certificates: Option<&[CertificateDer<'_>]>) -> Caller {
    let Some(first) = certificates.and_then(<[_]>::first) else { return Caller::Stranger };
    let Ok((_, certificate)) = X509Certificate::from_der(first) else { return Caller::Stranger };
    let groups: Vec<&str> =
        certificate.subject().iter_organization().filter_map(|group| group.as_str().ok()).collect();
    match () {
        () if groups.contains(&MASTERS) => Caller::Master,
        () if BOARDS.iter().any(|board| groups.contains(board)) => Caller::Board,
        () => Caller::Stranger,
    }
}
