//! Keys and certificates in the data directory.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use edge_core::doctor::{Certificate, Facts, Secret};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a server can't do without, and what an agent can't.
const SERVERS: [&str; 4] = ["board.key", "ca.key", "cluster.id", "cluster.key"];
const AGENTS: [&str; 3] = ["board.key", "ca.crt", "node.crt"];
/// Permission bits.
const BITS: u32 = 0o7777;

pub(super) fn gather(data_dir: &Path, facts: &mut Facts) {
    let pki = data_dir.join("pki");
    let names = match std::fs::read_dir(&pki) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(_) => {
            let words = format!("keys and certificates in {} (run this as root)", pki.display());
            facts.unseen.push(("keys", words));
            return;
        }
    };
    let needed: &[&str] = if data_dir.join("store").join("log").exists() {
        &SERVERS
    } else if data_dir.join("cluster.json").exists() {
        &AGENTS
    } else {
        &[]
    };
    let missing = needed.iter().filter(|name| !pki.join(name).exists());
    facts.lost = missing.map(|name| pki.join(name).display().to_string()).collect();
    let mut secrets = vec![data_dir.join("admin.kubeconfig")];
    for path in names {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("key") => secrets.push(path),
            Some("crt") => facts.certificates.extend(certificate(&path)),
            _ => {}
        }
    }
    secrets.sort();
    facts.certificates.sort_by(|a, b| a.path.cmp(&b.path));
    facts.secrets = secrets
        .iter()
        .filter_map(|path| {
            let mode = std::fs::metadata(path).ok()?.mode() & BITS;
            Some(Secret { path: path.display().to_string(), mode })
        })
        .collect();
}

fn certificate(path: &Path) -> Option<Certificate> {
    let pem = std::fs::read(path).ok()?;
    let der = CertificateDer::from_pem_slice(&pem).ok()?;
    let (_, parsed) = X509Certificate::from_der(&der).ok()?;
    let ends_ms = parsed.validity().not_after.timestamp().checked_mul(1000)?;
    Some(Certificate { path: path.display().to_string(), ends_ms })
}
