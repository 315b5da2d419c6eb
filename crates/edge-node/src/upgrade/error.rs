//! Why a program was not taken: one line that names what to do, and nothing has changed.

use std::fmt;
use std::io;
use std::path::PathBuf;

use edge_api::release::{Arch, LookError, Version};
use edge_core::upgrade::{Refusal, SignatureError};

/// Why an upgrade was refused or failed before anything was changed.
#[derive(Debug)]
pub enum UpgradeError {
    /// Another upgrade is being brought to this board.
    Busy,
    /// The request lacks something, or says what can't be.
    Request(&'static str),
    /// More bytes than a program has.
    TooLarge {
        /// What was said or came.
        bytes: u64,
        /// What is taken at most.
        most: u64,
    },
    /// The disk is too full.
    NoRoom {
        /// What it takes.
        needs: u64,
        /// What is free.
        free: u64,
    },
    /// What came ended early or went on.
    Length {
        /// What was said.
        said: u64,
        /// What came.
        came: u64,
    },
    /// What came is not what was sent.
    Digest,
    /// The sender went away.
    Broken(String),
    /// It is no edged, or not all of one.
    File(LookError),
    /// It is for another machine.
    Arch {
        /// Its machine.
        its: String,
        /// The board's.
        own: Arch,
    },
    /// It runs already.
    Same(Version),
    /// The rules of versions and trials.
    Refused(Refusal),
    /// Its signature does not count.
    Signature(SignatureError),
    /// It has none, and this board wants one.
    Unsigned,
    /// It has one, or none, and this board knows no keys; nobody said that this is meant.
    NoKeys,
    /// The disk or the kernel refused.
    Io {
        /// What was done.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl UpgradeError {
    pub(super) fn io(operation: &'static str, path: PathBuf, source: io::Error) -> UpgradeError {
        UpgradeError::Io { operation, path, source }
    }
}

/// Whole mebibytes, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpgradeError::Busy => f.write_str("another upgrade is being brought to this board"),
            UpgradeError::Request(what) => f.write_str(what),
            UpgradeError::TooLarge { bytes, most } => {
                write!(f, "the file has {} MiB, edged at most {}", mib(*bytes), mib(*most))
            }
            UpgradeError::NoRoom { needs, free } => write!(
                f,
                "the board's disk has {} MiB free and this takes {}: remove something first",
                free >> 20,
                mib(*needs)
            ),
            UpgradeError::Length { said, came } => {
                write!(f, "{came} bytes came of {said}: send it again")
            }
            UpgradeError::Digest => f.write_str("what came is not what was sent: send it again"),
            UpgradeError::Broken(why) => write!(f, "the file broke off: {why}: send it again"),
            UpgradeError::File(error) => write!(f, "the file is not taken: {error}"),
            UpgradeError::Arch { its, own } => {
                write!(f, "the file is for {its} and this board is {own}")
            }
            UpgradeError::Same(version) => write!(f, "{version} runs here already"),
            UpgradeError::Refused(refusal) => refusal.fmt(f),
            UpgradeError::Signature(error) => write!(f, "the signature does not count: {error}"),
            UpgradeError::Unsigned => f.write_str(
                "the file has no signature and this board has upgrade-keys: bring its .minisig",
            ),
            UpgradeError::NoKeys => f.write_str(
                "this board has no upgrade-keys, so nothing says whose file this is: set them in \
                 its /etc/edged/config.yaml, or say --allow-unsigned",
            ),
            UpgradeError::Io { operation, path, source } => {
                write!(f, "{operation} {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for UpgradeError {}
