//! Making a certificate: for a key that is made with it, or for one that a board has proven.

use super::authority::Leaf;
use super::error::PkiError;
use super::key::{KeyHash, PublicKey};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// Which ends of a connection a certificate is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Uses {
    Client,
    Server,
    Both,
}

/// Who a leaf speaks for and what it may be used for.
pub(super) struct Subject<'a> {
    pub(super) user: &'a str,
    pub(super) group: Option<&'a str>,
    /// The board that made it for a use of its own: it counts for as long as that board does.
    pub(super) board: Option<&'a KeyHash>,
    /// DNS names and addresses; empty for a client's certificate.
    pub(super) names: &'a BTreeSet<String>,
    pub(super) uses: Uses,
}

type Ca = Issuer<'static, KeyPair>;

/// A leaf with a key of its own.
pub(super) fn fresh(
    ca: &Ca,
    subject: &Subject<'_>,
    seconds: u64,
    now: Duration,
) -> Result<Leaf, PkiError> {
    let fail = |e: rcgen::Error| PkiError::issue(subject.user, e);
    let key = KeyPair::generate().map_err(fail)?;
    let cert = params(subject, seconds, now)?.signed_by(&key, ca).map_err(fail)?;
    Ok(Leaf { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
}

/// A certificate for a key that somebody else holds, in PEM.
pub(super) fn of_key(
    ca: &Ca,
    key: &PublicKey,
    subject: &Subject<'_>,
    seconds: u64,
    now: Duration,
) -> Result<String, PkiError> {
    let signed = params(subject, seconds, now)?.signed_by(key, ca);
    signed.map(|cert| cert.pem()).map_err(|e| PkiError::issue(subject.user, e))
}

fn params(
    subject: &Subject<'_>,
    seconds: u64,
    now: Duration,
) -> Result<CertificateParams, PkiError> {
    let fail = |e: rcgen::Error| PkiError::issue(subject.user, e);
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, subject.user);
    if let Some(group) = subject.group {
        name.push(DnType::OrganizationName, group);
    }
    if let Some(board) = subject.board {
        name.push(DnType::OrganizationalUnitName, board.as_str());
    }
    params.distinguished_name = name;
    live_for(&mut params, seconds, now);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    for name in subject.names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName(name.as_str().try_into().map_err(fail)?),
        });
    }
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    params.extended_key_usages = match subject.uses {
        Uses::Client => vec![ClientAuth],
        Uses::Server => vec![ServerAuth],
        Uses::Both => vec![ClientAuth, ServerAuth],
    };
    Ok(params)
}

/// Leaves and authorities begin in 2020, so that a board whose clock is behind accepts them.
pub(super) fn live_for(params: &mut CertificateParams, seconds: u64, now: Duration) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(seconds);
}
