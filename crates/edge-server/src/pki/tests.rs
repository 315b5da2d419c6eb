//! Keys and certificates across restarts, changes of address, and damage.

use super::PkiError;
use super::authority::Authority;
use edge_core::clock::{ClusterClock, Reading};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const YEAR_MS: i64 = 365 * 24 * 60 * 60 * 1000;

/// The authority of a directory, by this machine's clock.
fn open(dir: &Path) -> Result<Authority, PkiError> {
    Authority::open(dir, ClusterClock::new(0, crate::clock::read))
}

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("edge-pki-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn leaves_are_kept_until_something_changes() {
    let dir = Dir::new("kept");
    let authority = open(&dir.0).unwrap();
    let leaf = |authority: &Authority, list: &[&str]| {
        authority.kept_leaf("server", "kube-apiserver", None, &names(list)).unwrap().cert_pem
    };
    let first = leaf(&authority, &["localhost", "10.0.0.5"]);
    let again = open(&dir.0).unwrap();
    assert_eq!(again.ca_pem(), authority.ca_pem());
    assert_eq!(leaf(&again, &["localhost", "10.0.0.5"]), first);
    assert_eq!(leaf(&again, &["localhost"]), first, "fewer names need no new certificate");
    let moved = leaf(&again, &["localhost", "10.0.0.6"]);
    assert_ne!(moved, first, "a new address needs one");
    // Another's key beside our certificate is no good.
    std::fs::copy(dir.0.join("pki/ca.key"), dir.0.join("pki/server.key")).unwrap();
    assert_ne!(leaf(&again, &["localhost", "10.0.0.6"]), moved);
}

#[test]
fn leaves_of_another_authority_are_replaced() {
    let (ours, theirs) = (Dir::new("ours"), Dir::new("theirs"));
    let none = BTreeSet::new();
    let first = open(&ours.0).unwrap();
    let leaf = first.kept_leaf("admin", "a", Some("g"), &none).unwrap();
    open(&theirs.0).unwrap();
    for file in ["ca.crt", "ca.key"] {
        let (from, to) = (theirs.0.join("pki").join(file), ours.0.join("pki").join(file));
        std::fs::copy(from, to).unwrap();
    }
    let second = open(&ours.0).unwrap();
    let next = second.kept_leaf("admin", "a", Some("g"), &none).unwrap();
    assert_ne!(leaf.cert_pem, next.cert_pem);
    let other = second.kept_leaf("admin", "a", Some("h"), &none).unwrap();
    assert_ne!(next.cert_pem, other.cert_pem, "another group is another certificate");
}

#[test]
fn damage_is_named_and_nothing_is_overwritten() {
    let dir = Dir::new("damaged");
    open(&dir.0).unwrap();
    let (cert, key) = (dir.0.join("pki/ca.crt"), dir.0.join("pki/ca.key"));
    let (good_cert, good_key) = (std::fs::read(&cert).unwrap(), std::fs::read(&key).unwrap());
    let words = |expected: &str| {
        let error = open(&dir.0).err().expect("refused").to_string();
        assert!(error.contains(expected) && error.contains("is damaged"), "{error}");
    };
    std::fs::write(&cert, "torn").unwrap();
    words("ca.crt");
    std::fs::write(&cert, &good_cert).unwrap();
    std::fs::write(&key, "torn").unwrap();
    words("ca.key");
    std::fs::remove_file(&key).unwrap();
    words("the authority's key is missing");
    let other = Dir::new("damaged-other");
    open(&other.0).unwrap();
    std::fs::copy(other.0.join("pki/ca.key"), &key).unwrap();
    words("it does not belong to ca.crt");
    std::fs::write(&key, &good_key).unwrap();
    open(&dir.0).unwrap();
}

#[test]
fn a_lost_certificate_is_made_again_from_its_key() {
    let dir = Dir::new("lost");
    let first = open(&dir.0).unwrap();
    let leaf = first.kept_leaf("admin", "a", None, &BTreeSet::new()).unwrap();
    let (cert, key) = (dir.0.join("pki/ca.crt"), dir.0.join("pki/ca.key"));
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&cert).unwrap();
    let again = open(&dir.0).unwrap();
    assert_eq!(std::fs::read(&key).unwrap(), kept, "the key is as it was");
    let pin = |pem: &str| super::CertFacts::read(pem).unwrap().pin;
    assert_eq!(pin(again.ca_pem()), pin(first.ca_pem()), "tokens still name it");
    let same = again.kept_leaf("admin", "a", None, &BTreeSet::new()).unwrap();
    assert_eq!(same.cert_pem, leaf.cert_pem, "what it issued still counts");
    std::fs::remove_file(&cert).unwrap();
    std::fs::write(&key, "torn").unwrap();
    let why = open(&dir.0).err().expect("refused").to_string();
    assert!(why.contains("ca.key is damaged"), "{why}");
}

#[test]
fn an_authority_near_its_end_gets_another_certificate() {
    let dir = Dir::new("ending");
    let first = open(&dir.0).unwrap();
    let leaf = first.kept_leaf("admin", "a", None, &BTreeSet::new()).unwrap();
    // The same authority, as it was made almost ten years ago.
    let key = rcgen::KeyPair::from_pem(&first.key_pem()).unwrap();
    let name = super::CertFacts::read(first.ca_pem()).unwrap().user;
    let mut params = super::authority::authority_params(&name, 0);
    let now = std::time::Duration::from_millis(crate::clock::wall_ms().unsigned_abs());
    super::leaf::live_for(&mut params, 100 * 24 * 60 * 60, now);
    let old = params.self_signed(&key).unwrap().pem();
    std::fs::write(dir.0.join("pki/ca.crt"), &old).unwrap();
    let again = open(&dir.0).unwrap();
    let facts = |pem: &str| super::CertFacts::read(pem).unwrap();
    let (was, is) = (facts(&old), facts(again.ca_pem()));
    assert_eq!((&was.pin, &was.user), (&is.pin, &is.user), "tokens and certificates still name it");
    assert!(is.not_after > was.not_after + 9 * 365 * 24 * 60 * 60, "{was:?} {is:?}");
    let same = again.kept_leaf("admin", "a", None, &BTreeSet::new()).unwrap();
    assert_eq!(same.cert_pem, leaf.cert_pem, "what it issued still counts");
    let kept = std::fs::read_to_string(dir.0.join("pki/ca.crt")).unwrap();
    assert_eq!(open(&dir.0).unwrap().ca_pem(), kept, "and it is made once");
}

/// A server that was off for a year, whose own clock stood still meanwhile, and which the others
/// have told the time: what it shows is due by theirs.
#[test]
fn what_is_due_is_due_by_the_clusters_clock() {
    let dir = Dir::new("cluster-clock");
    let stands = Reading { synchronised: false, ..crate::clock::read() };
    let clock = ClusterClock::new(0, move || stands);
    let authority = Authority::open(&dir.0, clock.clone()).unwrap();
    let leaf = || authority.kept_leaf("admin", "a", None, &BTreeSet::new()).unwrap().cert_pem;
    let first = leaf();
    assert_eq!(leaf(), first);
    clock.tell(stands.wall_ms + YEAR_MS);
    let next = leaf();
    assert_ne!(next, first, "the board's own clock is believed");
    let end = super::CertFacts::read(&next).unwrap().not_after;
    assert_eq!(end, (stands.wall_ms + 2 * YEAR_MS) / 1000);
    assert_eq!(leaf(), next, "once is enough");
    // The authority's own, nine years later; another start is at the cluster's time as well.
    clock.tell(stands.wall_ms + 9 * YEAR_MS);
    let again = Authority::open(&dir.0, clock).unwrap();
    assert_ne!(again.ca_pem(), authority.ca_pem());
}

#[test]
fn whoever_comes_too_late_is_told_what_to_do() {
    let dir = Dir::new("late");
    let authority = open(&dir.0).unwrap();
    let leaf = authority.kept_leaf("admin", "somebody", Some("g"), &BTreeSet::new()).unwrap();
    let der = rustls_pki_types::pem::PemObject::from_pem_slice(leaf.cert_pem.as_bytes());
    let der: rustls_pki_types::CertificateDer<'_> = der.unwrap();
    let end = super::CertFacts::read(&leaf.cert_pem).unwrap().not_after.unsigned_abs();
    let who = |now| crate::auth::Identity::from_certificate(&der, now).unwrap();
    assert_eq!((who(end).user.as_str(), who(end).over), ("somebody", None));
    let late = who(end + 1);
    assert!(!late.in_group("g") && late.in_group("system:unauthenticated"));
    let words = late.over.unwrap();
    assert!(words.starts_with("the certificate of \"somebody\" ended at 20"), "{words}");
    assert!(words.contains("admin.kubeconfig"), "{words}");
}

#[test]
fn agents_get_names_and_addresses() {
    let dir = Dir::new("agent");
    let authority = open(&dir.0).unwrap();
    let ips = ["10.0.0.5".parse().unwrap()];
    let first = authority.agent("board-1", &ips).unwrap();
    let again = authority.agent("board-1", &ips).unwrap();
    assert_eq!(first.client_cert_pem, again.client_cert_pem);
    assert_eq!(first.serving_cert_pem, again.serving_cert_pem);
    let der = rustls_pki_types::pem::PemObject::from_pem_slice(first.client_cert_pem.as_bytes());
    let der: rustls_pki_types::CertificateDer<'_> = der.unwrap();
    let identity = crate::auth::Identity::from_certificate(&der, 1_800_000_000).unwrap();
    assert_eq!(identity.node(), Some("board-1"));
    assert!(!identity.in_group("system:masters"));
}
