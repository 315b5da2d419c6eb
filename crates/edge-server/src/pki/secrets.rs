//! What only servers of one cluster know and share: the cluster's id, and the secret that the keys
//! of the bus are derived from.

use super::disk;
use super::error::PkiError;
use super::key::hex;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::path::Path;

/// A cluster's id and secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecrets {
    /// 16 hex digits.
    pub id: String,
    /// 32 random bytes, known to servers only.
    pub secret: [u8; 32],
}

impl fmt::Debug for ClusterSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSecrets").field("id", &self.id).finish_non_exhaustive()
    }
}

impl ClusterSecrets {
    /// Reads `<data-dir>/pki/cluster.id` and `cluster.key`; founds a cluster when there are none,
    /// and there is no store yet.
    ///
    /// # Errors
    /// When the files cannot be read or written, are damaged, or are gone.
    pub fn open(data_dir: &Path) -> Result<ClusterSecrets, PkiError> {
        if let Some(kept) = ClusterSecrets::read(data_dir)? {
            return Ok(kept);
        }
        super::expect_whole(data_dir)?;
        let random = SystemRandom::new();
        let (mut id, mut secret) = ([0; 8], [0; 32]);
        let fault = |_| PkiError::issue("the cluster's secret", "the system gives no random bytes");
        random.fill(&mut id).map_err(fault)?;
        random.fill(&mut secret).map_err(fault)?;
        let made = ClusterSecrets { id: hex(&id), secret };
        made.write(data_dir)?;
        Ok(made)
    }

    /// Reads them if they are there.
    ///
    /// # Errors
    /// When the files cannot be read or are damaged.
    pub fn read(data_dir: &Path) -> Result<Option<ClusterSecrets>, PkiError> {
        let dir = data_dir.join("pki");
        let (id_path, key_path) = (dir.join("cluster.id"), dir.join("cluster.key"));
        let read = |path: &Path| {
            disk::read_if_present(path)
                .map(|text| text.map(|text| text.trim().to_owned()))
                .map_err(|e| PkiError::io("read", path, e))
        };
        let damaged = |path: &Path, reason: &str| PkiError::Damaged {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        // The key is written last: an id without one is a start that was cut off.
        let (Some(id), Some(key)) = (read(&id_path)?, read(&key_path)?) else { return Ok(None) };
        if id.len() != 16 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(damaged(&id_path, "it holds no cluster id"));
        }
        let secret = from_hex(&key).ok_or_else(|| damaged(&key_path, "it holds no secret"))?;
        Ok(Some(ClusterSecrets { id, secret }))
    }

    /// Writes both files.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn write(&self, data_dir: &Path) -> Result<(), PkiError> {
        let dir = data_dir.join("pki");
        disk::private_dir(&dir).map_err(|e| PkiError::io("create", &dir, e))?;
        let key = format!("{}\n", hex(&self.secret));
        for (name, text, mode) in
            [("cluster.id", format!("{}\n", self.id), 0o644), ("cluster.key", key, 0o600)]
        {
            let path = dir.join(name);
            disk::write_atomically(&path, text.as_bytes(), mode)
                .map_err(|e| PkiError::io("write", &path, e))?;
        }
        Ok(())
    }
}

/// 32 bytes in hex.
pub fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// 32 bytes as hex.
pub fn to_hex(bytes: &[u8; 32]) -> String {
    hex(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_founded_once() {
        let dir = std::env::temp_dir().join(format!("edge-secrets-{}", std::process::id()));
        assert_eq!(ClusterSecrets::read(&dir).unwrap(), None);
        let first = ClusterSecrets::open(&dir).unwrap();
        assert_eq!(ClusterSecrets::open(&dir).unwrap(), first);
        assert_eq!(from_hex(&to_hex(&first.secret)), Some(first.secret));
        assert!(!format!("{first:?}").contains("secret:"));
        std::fs::write(dir.join("pki/cluster.key"), "torn").unwrap();
        let why = ClusterSecrets::read(&dir).unwrap_err().to_string();
        assert!(why.contains("cluster.key is damaged"), "{why}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_a_server_was_begun_with_is_not_made_again() {
        let dir = std::env::temp_dir().join(format!("edge-begun-{}", std::process::id()));
        let first = ClusterSecrets::open(&dir).unwrap();
        crate::pki::BoardKey::open(&dir).unwrap();
        let clock = crate::join::Cluster::default().clock;
        crate::pki::Authority::open(&dir, clock).unwrap();
        crate::pki::expect_whole(&dir).unwrap();
        std::fs::write(dir.join(crate::pki::BEGUN), "").unwrap();
        crate::pki::expect_whole(&dir).unwrap();
        let words = [
            ("board.key", "empty /"),
            ("ca.key", "from the same place of another server"),
            ("cluster.id", "from the same place of another server"),
            ("cluster.key", "from the same place of another server"),
        ];
        for (name, advice) in words {
            let (path, aside) = (dir.join("pki").join(name), dir.join("aside"));
            std::fs::rename(&path, &aside).unwrap();
            let why = crate::pki::expect_whole(&dir).unwrap_err().to_string();
            assert!(why.contains(&format!("{name} is missing")), "{why}");
            assert!(why.contains(advice) && !why.contains('\n'), "{why}");
            if name.starts_with("cluster") {
                assert!(ClusterSecrets::open(&dir).is_err());
            }
            assert!(!path.exists(), "nothing is made in its place");
            std::fs::rename(&aside, &path).unwrap();
        }
        assert_eq!(ClusterSecrets::open(&dir).unwrap(), first);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
