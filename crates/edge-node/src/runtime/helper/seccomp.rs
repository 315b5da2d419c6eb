//! The default seccomp profile, as two filters that the kernel evaluates together: one that names
//! what is allowed and hides the rest, and one that refuses what exists but is dangerous. Two,
//! because a refusal must say "not permitted" for the known and "no such call" for the unknown.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::{caps, syscalls};
use crate::seams::Security;

/// A filter, ready to install.
pub(super) type Program = BpfProgram;

/// Address family of virtual machine sockets, which reach the hypervisor.
const AF_VSOCK: u64 = 40;
/// Execution domains that change nothing: Linux, with 32-bit uname and without randomisation.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff];
/// Flags of clone(2) that make namespaces.
const NEW_NAMESPACE: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
/// seccompiler knows no 32-bit arm. Its programs differ between architectures in one word only,
/// which [`compile`] sets.
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
const ARCH: TargetArch = TargetArch::aarch64;

type Failed = seccompiler::BackendError;

/// The filters of a container, in the order to install them.
pub(super) fn programs(security: &Security, device_filter: bool) -> Result<Vec<Program>, Failed> {
    if security.privileged || security.seccomp_unconfined {
        return Ok(Vec::new());
    }
    let capabilities = caps::wanted(security, device_filter);
    let allowed = syscalls::allowed(capabilities).into_iter().map(|n| (n, Vec::new())).collect();
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    let allow = compile(allowed, missing, SeccompAction::Allow)?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    // Of two filters that both refuse, the kernel takes the word of the one installed last.
    let refuse = compile(refusals(capabilities)?, SeccompAction::Allow, refused)?;
    Ok(vec![allow, refuse])
}

/// A call's number as seccompiler takes it: a C `long` is narrower on 32-bit boards.
#[allow(clippy::unnecessary_cast)]
fn number(call: libc::c_long) -> i64 {
    call as i64
}

fn refusals(capabilities: u64) -> Result<BTreeMap<i64, Vec<SeccompRule>>, Failed> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        syscalls::refused(capabilities).into_iter().map(|n| (n, Vec::new())).collect();
    let argument = |op, value| SeccompCondition::new(0, SeccompCmpArgLen::Dword, op, value);
    let vsock = SeccompRule::new(vec![argument(SeccompCmpOp::Eq, AF_VSOCK)?])?;
    rules.insert(number(libc::SYS_socket), vec![vsock]);
    let strange = PERSONALITIES
        .iter()
        .map(|p| argument(SeccompCmpOp::Ne, *p))
        .collect::<Result<Vec<_>, _>>()?;
    rules.insert(number(libc::SYS_personality), vec![SeccompRule::new(strange)?]);
    let admin = caps::bit("SYS_ADMIN").unwrap_or(0);
    if capabilities & admin == 0 {
        let namespaces = NEW_NAMESPACE
            .iter()
            .map(|flag| {
                let flag = *flag as u32 as u64;
                SeccompRule::new(vec![argument(SeccompCmpOp::MaskedEq(flag), flag)?])
            })
            .collect::<Result<Vec<_>, _>>()?;
        rules.insert(number(libc::SYS_clone), namespaces);
    }
    Ok(rules)
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<Program, Failed> {
    #[cfg_attr(not(target_arch = "arm"), allow(unused_mut))]
    let mut program: Program = SeccompFilter::new(rules, otherwise, matched, ARCH)?.try_into()?;
    #[cfg(target_arch = "arm")]
    {
        /// `AUDIT_ARCH_ARM`, which the second instruction compares.
        const AUDIT_ARCH_ARM: u32 = 0x4000_0028;
        program[1].k = AUDIT_ARCH_ARM;
    }
    Ok(program)
}

/// Installs a filter on this thread, for good. Unlike seccompiler's own, this leaves it to the
/// caller whether the process may gain privileges.
pub(super) fn install(program: &Program) -> io::Result<()> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: seccompiler's instruction has the kernel's layout; the program outlives the call,
    // and the kernel only reads it.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_fits_the_kernels_limit_and_has_no_call_on_both_lists() {
        for security in [
            Security::default(),
            Security { add_capabilities: vec!["ALL".into()], ..Security::default() },
        ] {
            let programs = programs(&security, true).unwrap();
            assert_eq!(programs.len(), 2);
            assert!(programs.iter().map(Vec::len).sum::<usize>() < 4_096);
            let capabilities = caps::wanted(&security, true);
            let refused = syscalls::refused(capabilities);
            assert!(syscalls::allowed(capabilities).iter().all(|n| !refused.contains(n)));
        }
        let open = Security { seccomp_unconfined: true, ..Security::default() };
        assert!(programs(&open, true).unwrap().is_empty());
    }
}
