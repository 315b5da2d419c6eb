//! The digest over a backup.

use edge_api::backup::Sum;
use ring::digest;

/// SHA-256 by ring.
#[derive(Clone)]
pub(super) struct Sha256(digest::Context);

impl Default for Sha256 {
    fn default() -> Sha256 {
        Sha256(digest::Context::new(&digest::SHA256))
    }
}

impl Sum for Sha256 {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn hex(&self) -> String {
        crate::pki::hex(self.0.clone().finish().as_ref())
    }
}
