//! What can go wrong with a board's network, in words that name the operation, the object
//! and what to do about it.

use super::netlink::Refusal;
use nix::errno::Errno;
use std::fmt;
use std::path::{Path, PathBuf};

/// A failed operation on the board's network.
#[derive(Debug)]
pub enum NetError {
    /// A setting can't be used.
    Config {
        /// Which setting.
        setting: &'static str,
        /// What it says.
        value: String,
        /// Why that can't be, and what to write instead.
        reason: String,
    },
    /// The kernel refused a change or a question.
    Kernel {
        /// What was being done: `create the bridge`.
        operation: &'static str,
        /// To what: `edge0`.
        object: String,
        /// Its answer.
        errno: Errno,
    },
    /// A file of ours, or under `/proc`, could not be read or written.
    File {
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// An earlier edged's policies stand, and what they are now is still being learnt.
    NotJudgedYet {
        /// The pod that has to wait.
        address: std::net::Ipv4Addr,
    },
    /// Every address of the board's range is in use.
    NoAddressLeft {
        /// The range.
        range: String,
    },
    /// Another process runs pods on this board's bridge.
    InUse {
        /// Its run directory.
        run_dir: String,
    },
    /// The kernel has no nf_tables.
    NoNfTables {
        /// What it answered.
        errno: Errno,
    },
    /// A pod's uid can't be a file name.
    BadUid {
        /// The uid.
        uid: String,
    },
    /// The thread that makes a pod's namespaces could not be started, or died.
    Thread {
        /// What it was to do.
        operation: &'static str,
    },
}

impl NetError {
    pub(super) fn file<'a>(
        operation: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(std::io::Error) -> NetError + 'a {
        move |source| NetError::File { operation, path: path.to_owned(), source }
    }

    pub(super) fn kernel(
        operation: &'static str,
        object: impl Into<String>,
    ) -> impl FnOnce(Errno) -> NetError {
        let object = object.into();
        move |errno| NetError::Kernel { operation, object, errno }
    }

    pub(super) fn refused(
        operation: &'static str,
        object: impl Into<String>,
    ) -> impl FnOnce(Refusal) -> NetError {
        let object = object.into();
        move |refusal| NetError::Kernel { operation, object, errno: refusal.errno }
    }
}

/// What a person can do about an answer of the kernel.
fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM | Errno::EACCES => "; run edged as root, with CAP_NET_ADMIN and CAP_SYS_ADMIN",
        Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT => {
            "; this kernel lacks the feature, `edged doctor` lists what is needed"
        }
        Errno::ENOMEM | Errno::ENOBUFS => "; the board is short of memory",
        Errno::EMFILE | Errno::ENFILE => "; raise the limit of open files",
        Errno::ENOSPC => "; too many namespaces, see /proc/sys/user/max_net_namespaces",
        _ => "",
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::Config { setting, value, reason } => {
                write!(out, "{setting} {value:?}: {reason}")
            }
            NetError::Kernel { operation, object, errno } => {
                write!(out, "can't {operation} {object}: {}{}", errno.desc(), advice(*errno))
            }
            NetError::File { operation, path, source } => {
                write!(out, "can't {operation} {}: {source}", path.display())
            }
            NetError::NotJudgedYet { address } => write!(
                out,
                "can't keep the pod at {address} from others: the policies are not known yet; \
                 it is tried again by itself"
            ),
            NetError::NoAddressLeft { range } => write!(
                out,
                "no address left for another pod: all of {range} are in use; \
                 run fewer pods on this board or give it a wider range"
            ),
            NetError::InUse { run_dir } => write!(
                out,
                "another edged runs pods on this board (run directory {run_dir}); \
                 stop it, or start this one in a network namespace of its own"
            ),
            NetError::NoNfTables { errno } => write!(
                out,
                "this kernel has no nf_tables ({}), so Services can't work: \
                 load or build in nf_tables, nft_nat, nft_masq, nft_numgen, nft_reject and nft_fib",
                errno.desc()
            ),
            NetError::BadUid { uid } => write!(
                out,
                "pod uid {uid:?} can't be used: only letters, digits, '-', '_' and '.' are allowed"
            ),
            NetError::Thread { operation } => {
                write!(
                    out,
                    "can't {operation}: no thread could do it; the board is short of memory"
                )
            }
        }
    }
}

impl std::error::Error for NetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NetError::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
