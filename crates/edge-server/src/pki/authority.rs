//! The cluster's certificate authority and what it issues. Leaves live a year and are replaced
//! when two thirds of that have passed, when they lack a name, or when another authority made them.

use super::disk;
use super::error::PkiError;
use super::key::{BoardKey, KeyHash, PublicKey};
use super::leaf::{self, Subject, Uses};
use super::look::{CertFacts, names_of};
use edge_core::clock::ClusterClock;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

const DAY: u64 = 24 * 60 * 60;
const CA_LIFETIME: u64 = 3650 * DAY;
const LEAF_LIFETIME: u64 = 365 * DAY;
/// Certificates that go to other boards.
const BOARD_LIFETIME: u64 = 30 * DAY;
/// A board without a clock may wake in 1970; no board is earlier than this program.
const EARLIEST_NOW: u64 = (edge_core::clock::BUILT_MS / 1000) as u64;

/// A certificate with its private key, both in PEM.
#[derive(Clone)]
pub(crate) struct Leaf {
    /// The certificate.
    pub(crate) cert_pem: String,
    /// Its private key (PKCS#8).
    pub(crate) key_pem: String,
}

/// What an agent needs to talk to the API and to be talked to.
#[derive(Clone)]
pub struct AgentCredentials {
    /// The cluster's authority, for both directions.
    pub ca_pem: String,
    /// Client certificate: `CN=system:node:<node>`, `O=system:nodes`.
    pub client_cert_pem: String,
    /// Key of the client certificate.
    pub client_key_pem: String,
    /// Certificate to serve the agent's port with.
    pub serving_cert_pem: String,
    /// Key of the serving certificate.
    pub serving_key_pem: String,
}

/// The cluster's certificate authority.
pub(crate) struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    ca_der: Vec<u8>,
    /// The key of the board that this is.
    board: KeyHash,
    /// The cluster's time: what is due is due by that.
    clock: ClusterClock,
}

impl Authority {
    /// Opens the authority in `<data-dir>/pki`, or makes one there if the directory has none. What
    /// it issued tells the clock what has passed for certain.
    pub(crate) fn open(data_dir: &Path, clock: ClusterClock) -> Result<Authority, PkiError> {
        let dir = data_dir.join("pki");
        disk::private_dir(&dir).map_err(|e| PkiError::io("create", &dir, e))?;
        clock.raise(floor_ms(&dir));
        let (cert_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
        let cert =
            disk::read_if_present(&cert_path).map_err(|e| PkiError::io("read", &cert_path, e))?;
        let key =
            disk::read_if_present(&key_path).map_err(|e| PkiError::io("read", &key_path, e))?;
        let name = authority_name(key.as_deref().unwrap_or_default());
        let board = || BoardKey::open(data_dir).map(|key| key.hash());
        match (cert, key) {
            (Some(cert), Some(key)) => {
                let own = (board()?, clock);
                load_authority(dir, (&cert_path, &key_path), cert, &key, &name, own)
            }
            (None, key) => make_authority(dir, &cert_path, &key_path, key, (board()?, clock)),
            (Some(_), None) => Err(PkiError::Damaged {
                path: key_path,
                reason: "the authority's key is missing".to_owned(),
            }),
        }
    }

    /// The authority's certificate, in PEM.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The authority's certificate, in DER.
    pub(crate) fn ca_der(&self) -> &[u8] {
        &self.ca_der
    }

    /// The authority's private key, in PEM; for servers of this cluster only.
    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }
    /// A certificate of thirty days for a board that has proven its key, for both directions.
    /// `now` is the cluster's time, in seconds since 1970.
    pub(crate) fn board(
        &self,
        key: &PublicKey,
        user: &str,
        group: &str,
        names: &BTreeSet<String>,
        now: u64,
    ) -> Result<String, PkiError> {
        let uses = Uses::Both;
        let subject = Subject { user, group: Some(group), board: None, names, uses };
        let now = Duration::from_secs(now.max(EARLIEST_NOW));
        leaf::of_key(&self.issuer, key, &subject, BOARD_LIFETIME, now)
    }

    /// Credentials for the agent beside this server, with the board's own key. They never leave
    /// this process, so they need no end of their own.
    pub(crate) fn own_agent(
        &self,
        key: &BoardKey,
        node: &str,
        ips: &[IpAddr],
    ) -> Result<AgentCredentials, PkiError> {
        let names = agent_names(node, ips);
        let user = format!("system:node:{node}");
        let group = Some("system:nodes");
        let (names, uses) = (&names, Uses::Both);
        let subject = Subject { user: &user, group, board: None, names, uses };
        let (public, key_pem) = (key.public(), key.pem());
        let cert = leaf::of_key(&self.issuer, &public, &subject, CA_LIFETIME, self.now())?;
        Ok(AgentCredentials {
            ca_pem: self.ca_pem.clone(),
            client_cert_pem: cert.clone(),
            client_key_pem: key_pem.clone(),
            serving_cert_pem: cert,
            serving_key_pem: key_pem,
        })
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.clock.now_secs())
    }

    /// [`Authority::board`] for the board that this is.
    pub(crate) fn own(
        &self,
        key: &BoardKey,
        user: &str,
        group: &str,
        names: &BTreeSet<String>,
        now: u64,
    ) -> Result<String, PkiError> {
        self.board(&key.public(), user, group, names, now)
    }

    /// The leaf kept under this file name, made anew when it is missing or no longer good.
    pub(crate) fn kept_leaf(
        &self,
        file: &str,
        user: &str,
        group: Option<&str>,
        names: &BTreeSet<String>,
    ) -> Result<Leaf, PkiError> {
        let client = names.is_empty();
        let uses = if client { Uses::Client } else { Uses::Server };
        let board = client.then_some(&self.board);
        let subject = Subject { user, group, board, names, uses };
        let cert_path = self.dir.join(format!("{file}.crt"));
        let key_path = self.dir.join(format!("{file}.key"));
        let cert =
            disk::read_if_present(&cert_path).map_err(|e| PkiError::io("read", &cert_path, e))?;
        let key =
            disk::read_if_present(&key_path).map_err(|e| PkiError::io("read", &key_path, e))?;
        if let (Some(cert_pem), Some(key_pem)) = (cert, key)
            && self.still_good(&cert_pem, &key_pem, &subject)
        {
            return Ok(Leaf { cert_pem, key_pem });
        }
        let leaf = leaf::fresh(&self.issuer, &subject, LEAF_LIFETIME, self.now())?;
        // The key goes first: a lone key is replaced at the next start, a lone certificate too.
        disk::write_atomically(&key_path, leaf.key_pem.as_bytes(), 0o600)
            .map_err(|e| PkiError::io("write", &key_path, e))?;
        disk::write_atomically(&cert_path, leaf.cert_pem.as_bytes(), 0o644)
            .map_err(|e| PkiError::io("write", &cert_path, e))?;
        Ok(leaf)
    }

    /// Credentials for the agent of one board.
    pub(crate) fn agent(&self, node: &str, ips: &[IpAddr]) -> Result<AgentCredentials, PkiError> {
        let names = agent_names(node, ips);
        let user = format!("system:node:{node}");
        let safe = node.replace(|c: char| !c.is_ascii_alphanumeric() && !"-.".contains(c), "_");
        let group = Some("system:nodes");
        let client =
            self.kept_leaf(&format!("agent-{safe}-client"), &user, group, &BTreeSet::new())?;
        let serving = self.kept_leaf(&format!("agent-{safe}-serving"), &user, group, &names)?;
        Ok(AgentCredentials {
            ca_pem: self.ca_pem.clone(),
            client_cert_pem: client.cert_pem,
            client_key_pem: client.key_pem,
            serving_cert_pem: serving.cert_pem,
            serving_key_pem: serving.key_pem,
        })
    }

    /// Ours, for this subject, with all these names, its own key, and a third of its life left.
    fn still_good(&self, cert_pem: &str, key_pem: &str, subject: &Subject<'_>) -> bool {
        let Some(der) = der_of(cert_pem) else { return false };
        let Ok((_, cert)) = X509Certificate::from_der(&der) else { return false };
        let Ok((_, ca)) = X509Certificate::from_der(&self.ca_der) else { return false };
        let Ok(key) = KeyPair::from_pem(key_pem) else { return false };
        let user = cert.subject().iter_common_name().next().and_then(|n| n.as_str().ok());
        let group = cert.subject().iter_organization().next().and_then(|n| n.as_str().ok());
        let board = cert.subject().iter_organizational_unit().next().and_then(|n| n.as_str().ok());
        let left = cert.validity().not_after.timestamp() - self.now().as_secs() as i64;
        cert.issuer() == ca.subject()
            && rcgen::PublicKeyData::subject_public_key_info(&key) == cert.public_key().raw
            && user == Some(subject.user)
            && group == subject.group
            && board == subject.board.map(KeyHash::as_str)
            && left > (LEAF_LIFETIME / 3) as i64
            && subject.names.is_subset(&names_of(&cert))
    }
}

fn agent_names(node: &str, ips: &[IpAddr]) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = ips.iter().map(IpAddr::to_string).collect();
    names.extend([node.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()]);
    names
}

/// What has passed for certain, in milliseconds since 1970: a certificate in the directory was
/// issued then. It counts for a board whose clock is not set; the clock of one that is counts.
fn floor_ms(dir: &Path) -> i64 {
    let unset = crate::clock::wall_ms() < edge_core::clock::BUILT_MS;
    if unset { i64::try_from(issued(dir).as_millis()).unwrap_or(0) } else { 0 }
}

/// When the newest certificate that this board keeps was issued.
fn issued(dir: &Path) -> Duration {
    let when = |(file, lifetime): (&str, u64)| {
        let pem = disk::read_if_present(&dir.join(file)).ok()??;
        let end = u64::try_from(CertFacts::read(&pem)?.not_after).ok()?;
        end.checked_sub(lifetime)
    };
    let kept =
        [("ca.crt", CA_LIFETIME), ("server.crt", LEAF_LIFETIME), ("admin.crt", LEAF_LIFETIME)];
    Duration::from_secs(kept.into_iter().filter_map(when).max().unwrap_or_default())
}

fn load_authority(
    dir: PathBuf,
    (cert_path, key_path): (&Path, &Path),
    ca_pem: String,
    key_pem: &str,
    name: &str,
    (board, clock): (KeyHash, ClusterClock),
) -> Result<Authority, PkiError> {
    let damaged = |path: &Path, reason: String| PkiError::Damaged { path: path.to_owned(), reason };
    let ca_der =
        der_of(&ca_pem).ok_or_else(|| damaged(cert_path, "it is not a PEM certificate".into()))?;
    let key = KeyPair::from_pem(key_pem).map_err(|e| damaged(key_path, e.to_string()))?;
    let (_, cert) =
        X509Certificate::from_der(&ca_der).map_err(|e| damaged(cert_path, e.to_string()))?;
    if rcgen::PublicKeyData::subject_public_key_info(&key) != cert.public_key().raw {
        return Err(damaged(key_path, "it does not belong to ca.crt".to_owned()));
    }
    let written = cert.subject().iter_common_name().next().and_then(|n| n.as_str().ok());
    let now = clock.now_secs();
    let params = authority_params(written.unwrap_or(name), now);
    let left = cert.validity().not_after.timestamp() - now as i64;
    let (ca_pem, ca_der) = match left > (CA_LIFETIME / 3) as i64 {
        true => (ca_pem, ca_der),
        false => again(&params, &key, cert_path)?,
    };
    Ok(Authority { dir, issuer: Issuer::new(params, key), ca_pem, ca_der, board, clock })
}

/// The authority's next certificate: its key and its name stay, so that what it issued counts for
/// those who have the old one and for those who have the new one.
fn again(
    params: &CertificateParams,
    key: &KeyPair,
    cert_path: &Path,
) -> Result<(String, Vec<u8>), PkiError> {
    let cert =
        params.self_signed(key).map_err(|e| PkiError::issue("the cluster's authority", e))?;
    disk::write_atomically(cert_path, cert.pem().as_bytes(), 0o644)
        .map_err(|e| PkiError::io("write", cert_path, e))?;
    tracing::info!("the authority's certificate lives for another ten years");
    Ok((cert.pem(), cert.der().to_vec()))
}

/// A key whose certificate is missing, because a first start was cut off or the file was lost, gets
/// another: boards know the authority by its key, so nobody notices.
fn make_authority(
    dir: PathBuf,
    cert_path: &Path,
    key_path: &Path,
    kept: Option<String>,
    (board, clock): (KeyHash, ClusterClock),
) -> Result<Authority, PkiError> {
    let fail = |e: rcgen::Error| PkiError::issue("the cluster's authority", e);
    let key = match &kept {
        Some(pem) => KeyPair::from_pem(pem)
            .map_err(|e| PkiError::Damaged { path: key_path.into(), reason: e.to_string() })?,
        None => KeyPair::generate().map_err(fail)?,
    };
    let key_pem = kept.unwrap_or_else(|| key.serialize_pem());
    let params = authority_params(&authority_name(&key_pem), clock.now_secs());
    let cert = params.self_signed(&key).map_err(fail)?;
    let (ca_pem, ca_der) = (cert.pem(), cert.der().to_vec());
    disk::write_atomically(key_path, key_pem.as_bytes(), 0o600)
        .map_err(|e| PkiError::io("write", key_path, e))?;
    disk::write_atomically(cert_path, ca_pem.as_bytes(), 0o644)
        .map_err(|e| PkiError::io("write", cert_path, e))?;
    Ok(Authority { dir, issuer: Issuer::new(params, key), ca_pem, ca_der, board, clock })
}

/// Two clusters' authorities must not share a name, or clients mistake one for the other.
fn authority_name(key_pem: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, key_pem.as_bytes());
    let short: String = digest.as_ref().iter().take(6).map(|b| format!("{b:02x}")).collect();
    format!("edged-ca-{short}")
}

pub(super) fn authority_params(name: &str, now: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut dn = DistinguishedName::new();
    dn.push(DnType::CommonName, name);
    params.distinguished_name = dn;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    leaf::live_for(&mut params, CA_LIFETIME, Duration::from_secs(now));
    params
}

fn der_of(pem: &str) -> Option<Vec<u8>> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).ok().map(|der| der.to_vec())
}
