//! The administrator's kubeconfig. It is rewritten only when its content changes, so that a start
//! on an unchanged board writes nothing.

use super::authority::Leaf;
use super::disk;
use super::error::PkiError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;

/// Writes `<data-dir>/admin.kubeconfig` for this server and identity, readable by its owner alone.
pub(crate) fn write_admin_kubeconfig(
    data_dir: &Path,
    server: &str,
    ca_pem: &str,
    admin: &Leaf,
) -> Result<(), PkiError> {
    let path = data_dir.join("admin.kubeconfig");
    let text = render(server, ca_pem, admin);
    let present = disk::read_if_present(&path).map_err(|e| PkiError::io("read", &path, e))?;
    if present.as_deref() == Some(text.as_str()) {
        return Ok(());
    }
    disk::write_atomically(&path, text.as_bytes(), 0o600)
        .map_err(|e| PkiError::io("write", &path, e))
}

fn render(server: &str, ca_pem: &str, admin: &Leaf) -> String {
    let ca = STANDARD.encode(ca_pem);
    let cert = STANDARD.encode(&admin.cert_pem);
    let key = STANDARD.encode(&admin.key_pem);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: edged\n  cluster:\n    \
         server: {server}\n    certificate-authority-data: {ca}\nusers:\n- name: admin\n  \
         user:\n    client-certificate-data: {cert}\n    client-key-data: {key}\n\
         contexts:\n- name: edged\n  context:\n    cluster: edged\n    user: admin\n\
         current-context: edged\n"
    )
}
