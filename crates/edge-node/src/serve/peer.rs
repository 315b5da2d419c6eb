//! Who may call: a certificate signed by the cluster's authority is not enough, since every board
//! and every user has one, and its key may have been revoked since. Those who may do everything in
//! the cluster, the API server first, may call for everything; the other boards may read images,
//! which is all that they need.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::trust::{Claim, KeyHash};

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

/// What the owner of this certificate may do as long as its key counts, and what says whether it
/// does.
pub(super) fn caller(certificates: Option<&[CertificateDer<'_>]>) -> (Caller, Option<Claim>) {
    let Some(first) = certificates.and_then(<[_]>::first) else { return (Caller::Stranger, None) };
    let Ok((_, certificate)) = X509Certificate::from_der(first) else {
        return (Caller::Stranger, None);
    };
    let subject = certificate.subject();
    let groups: Vec<&str> =
        subject.iter_organization().filter_map(|group| group.as_str().ok()).collect();
    let caller = match () {
        () if groups.contains(&MASTERS) => Caller::Master,
        () if BOARDS.iter().any(|board| groups.contains(board)) => Caller::Board,
        () => Caller::Stranger,
    };
    let unit = subject.iter_organizational_unit().next();
    let user = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
    let board = user.and_then(|user| user.strip_prefix("system:node:"));
    let claim = Claim {
        key: KeyHash::of(certificate.public_key().raw),
        by: unit.and_then(|unit| KeyHash::parse(unit.as_str().ok()?)),
        board: board.filter(|_| groups.contains(&BOARDS[0])).map(str::to_owned),
    };
    (caller, Some(claim))
}
