//! Which capabilities a container gets, and giving up all others. libcontainer's own step is not
//! used: it drops them before our seccomp filter is installed, which needs one of them where a
//! process may gain privileges.

use std::io;

use crate::seams::Security;

/// By number, from 0 on.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containerd gives every container.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// All capabilities that there are or ever will be.
const ALL: u64 = u64::MAX;

/// An argument of prctl(2) that is not used; the call takes words, whatever their width.
const NONE: libc::c_ulong = 0;

/// Version 3 of the kernel's structure: two halves of 32 bits.
const VERSION: u32 = 0x2008_0522;

/// The bit of a capability, with or without its prefix.
pub(super) fn bit(name: &str) -> Option<u64> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    NAMES.iter().position(|n| *n == name).map(|n| 1 << n)
}

/// The capabilities that a container is to have, as bits. Adding or dropping `ALL` comes first;
/// then the single ones are added, and dropped last, as containerd does it.
pub(super) fn wanted(security: &Security, device_filter: bool) -> u64 {
    if security.privileged {
        return ALL;
    }
    let has_all = |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case("ALL"));
    let bits = |names: &[String]| names.iter().filter_map(|n| bit(n)).fold(0, |a, b| a | b);
    let mut set = DEFAULT.iter().filter_map(|n| bit(n)).fold(0, |a, b| a | b);
    if has_all(&security.add_capabilities) {
        set = ALL;
    }
    if has_all(&security.drop_capabilities) {
        set = 0;
    }
    set = (set | bits(&security.add_capabilities)) & !bits(&security.drop_capabilities);
    if device_filter { set } else { set & !bit("MKNOD").unwrap_or(0) }
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Keeps those of `set` that this process has, for itself and all that it will run.
pub(super) fn keep(set: u64) -> io::Result<()> {
    let header = Header { version: VERSION, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: version 3 takes a header and two halves; both outlive the call.
    if unsafe { libc::syscall(libc::SYS_capget, &raw const header, halves.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    for number in 0..64 as libc::c_ulong {
        if set & (1 << number) == 0 {
            // SAFETY: no memory is passed. A number that the kernel does not know is an error
            // that marks the end of those it does.
            let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, NONE, NONE, NONE) };
            if dropped < 0 && NAMES.len() > number as usize {
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::EINVAL) {
                    return Err(error);
                }
            }
        }
    }
    // SAFETY: no memory is passed. Kernels without ambient capabilities have none to clear.
    unsafe {
        let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
        libc::prctl(libc::PR_CAP_AMBIENT, clear, NONE, NONE, NONE)
    };
    for (half, wanted) in halves.iter_mut().zip([set as u32, (set >> 32) as u32]) {
        half.permitted &= wanted;
        half.effective = half.permitted;
        half.inheritable = 0;
    }
    // SAFETY: as for capget.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(set: u64) -> Vec<&'static str> {
        NAMES.iter().enumerate().filter(|(n, _)| set & (1 << n) != 0).map(|(_, n)| *n).collect()
    }

    fn security(add: &[&str], drop: &[&str]) -> Security {
        Security {
            add_capabilities: add.iter().map(|s| (*s).into()).collect(),
            drop_capabilities: drop.iter().map(|s| (*s).into()).collect(),
            ..Security::default()
        }
    }

    #[test]
    fn adds_and_drops_work_on_containerds_default() {
        let set = |add: &[&str], drop: &[&str]| names(wanted(&security(add, drop), true));
        assert_eq!(set(&[], &[]).len(), DEFAULT.len());
        assert_eq!(set(&[], &["ALL"]), [""; 0]);
        assert_eq!(set(&["NET_BIND_SERVICE"], &["all"]), ["NET_BIND_SERVICE"]);
        assert_eq!(set(&["CAP_NET_ADMIN"], &["ALL"]), ["NET_ADMIN"]);
        assert!(set(&["ALL"], &["SYS_ADMIN"]).len() == NAMES.len() - 1);
        assert!(!set(&[], &["NET_RAW"]).contains(&"NET_RAW"));
    }

    #[test]
    fn without_a_device_filter_nothing_makes_device_nodes() {
        assert_eq!(wanted(&security(&["ALL"], &[]), false) & bit("MKNOD").unwrap(), 0);
        let privileged = Security { privileged: true, ..Security::default() };
        assert_eq!(wanted(&privileged, false), ALL);
    }
}
