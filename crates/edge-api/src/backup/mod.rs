//! The form of a backup, without IO: what a server streams, what stands in a file, and what is no
//! whole backup. Servers and `edgectl` both read it by this.
//!
//! A *stream* is a row of frames: a letter, the length of its body (four bytes, little-endian), the
//! body. First `H`, the [`Head`] in JSON; then `S`, pieces of the store's own export; last `E`, the
//! [`End`] in JSON, with the SHA-256 of all before it. A *file* is a [`Cover`] and
//! the stream behind it, packed and, if so wished, encrypted.

mod cover;
mod frames;
mod reader;

pub use cover::{COVER_BYTES, Cover, SALT_BYTES};
pub use frames::{BODY_MAX, FRAME_HEAD, Frame, Frames, Letter, frame};
pub use reader::{ReadError, Reader, Sum};

use crate::release::{Skew, Version};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The newest form that this program reads and the one that it writes.
pub const FORM: u8 = 1;

/// Where a backup lies, in a data directory, that a server makes its cluster of at its next start.
pub const STAGED: &str = "restore/backup";
/// Where it grows before.
pub const ARRIVING: &str = "restore/arriving";
/// What is wished of it beside: a [`Wish`] in JSON.
pub const WISH: &str = "restore/wish.json";

/// How a backup is to be brought back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wish {
    /// No board that the backup knows is coming back.
    pub boards_lost: bool,
    /// The state that is there now gives way: somebody has found that nothing is in it.
    pub replaces: bool,
}

/// What a server needs to be the same cluster, beside its objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Head {
    /// The version of edged that made it.
    pub edged: String,
    /// When, in milliseconds since 1970.
    pub made_ms: i64,
    /// The server that made it.
    pub server: String,
    /// All servers of the cluster then.
    pub servers: Vec<Server>,
    /// The cluster's id.
    pub cluster: String,
    /// The cluster's secret, in hex.
    pub secret: String,
    /// The authority's certificate, in PEM.
    pub ca: String,
    /// Its private key, in PEM.
    pub ca_key: String,
    /// The range of pods' addresses.
    pub cluster_cidr: String,
    /// The range of Services' addresses.
    pub service_cidr: String,
    /// The DNS domain.
    pub cluster_domain: String,
}

/// One of the cluster's servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// The URL of its API.
    pub api: String,
}

/// What proves that all was there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// The revision that all of it is as of.
    pub revision: u64,
    /// How many keys the store had.
    pub objects: u64,
    /// The SHA-256 of everything before this frame and of these two numbers, in hex.
    pub sha256: String,
}

impl End {
    /// The end of what was summed up so far.
    pub fn of(mut sum: impl Sum, revision: u64, objects: u64) -> End {
        sum.update(&revision.to_le_bytes());
        sum.update(&objects.to_le_bytes());
        End { revision, objects, sha256: sum.hex() }
    }
}

impl Head {
    /// Whether this program, of version `own`, can make a cluster of it.
    ///
    /// # Errors
    /// When an edged made it that is too new to work with this one, or something is missing.
    pub fn is_for(&self, own: &str) -> Result<(), Broken> {
        let both = Version::parse(&self.edged).zip(Version::parse(own));
        if both.is_some_and(|(made, own)| own.skew(&made) == Skew::TooNew) {
            let (made, own) = (self.edged.clone(), own.to_owned());
            return Err(Broken::NewerEdged { made, own });
        }
        let needed = [&self.cluster, &self.secret, &self.ca, &self.ca_key, &self.cluster_cidr];
        let whole = needed.into_iter().chain([&self.service_cidr, &self.cluster_domain]);
        match whole.into_iter().all(|text| !text.is_empty()) {
            true => Ok(()),
            false => Err(Broken::Damaged("its head lacks something")),
        }
    }
}

/// Why something is no backup that can be used. Each is one line, to stand behind the file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// It never was one.
    Foreign,
    /// It is of a form that is not known yet.
    NewerForm(u8),
    /// A newer edged made it.
    NewerEdged {
        /// The version of who made it.
        made: String,
        /// The version of this program.
        own: String,
    },
    /// It ends before its end.
    Short,
    /// It goes on behind its end.
    Long,
    /// It is not what was written.
    Damaged(&'static str),
    /// It is encrypted, and nobody said with what.
    Locked,
    /// The passphrase does not open it.
    Passphrase,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Foreign => write!(f, "it is no backup of edged"),
            Broken::NewerForm(form) => write!(
                f,
                "it is a backup of form {form}, and this program knows forms up to {FORM}: use a \
                 newer one"
            ),
            Broken::NewerEdged { made, own } => {
                write!(f, "edged {made} made it, and this is {own}: use that or a newer one")
            }
            Broken::Short => write!(f, "it ends too early: a part of it is missing"),
            Broken::Long => write!(f, "something follows its end: it is not as it was written"),
            Broken::Damaged(what) => write!(f, "it is damaged ({what}): use another copy"),
            Broken::Locked => write!(
                f,
                "it is encrypted: give its passphrase in --passphrase-file or \
                 EDGED_BACKUP_PASSPHRASE"
            ),
            Broken::Passphrase => {
                write!(f, "the passphrase is not the one it was encrypted with, or it is damaged")
            }
        }
    }
}

impl std::error::Error for Broken {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_of_a_newer_edged_or_without_its_keys_is_refused() {
        let text = || "x".to_owned();
        let head = Head {
            edged: "0.3.9".to_owned(),
            cluster: text(),
            secret: text(),
            ca: text(),
            ca_key: text(),
            cluster_cidr: text(),
            service_cidr: text(),
            cluster_domain: text(),
            ..Head::default()
        };
        for own in ["0.2.1", "0.3.0", "0.9.0", "1.0.0"] {
            assert_eq!(head.is_for(own), Ok(()), "{own}");
        }
        let newer = head.is_for("0.1.9").unwrap_err();
        assert!(newer.to_string().contains("edged 0.3.9 made it, and this is 0.1.9"), "{newer}");
        let lacks = Head { ca_key: String::new(), ..head };
        assert!(matches!(lacks.is_for("0.2.1"), Err(Broken::Damaged(_))));
    }
}
