//! Keeps containers that are not privileged from devices. The rules stand once, on the group
//! that their groups are made in: version 1 hands its list down to each new child, and on
//! version 2 a program on a group covers all below it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::Layout;
use crate::runtime::error::RuntimeError;

/// Character devices that every container may use: `(major, minor)`, no minor for all.
const ALLOWED: [(u32, Option<u32>); 9] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(1)), // console
    (5, Some(2)), // ptmx
    (136, None),  // terminals
];

/// Puts the rules on `group`, unless they stand. False when the kernel can't: then nothing in a
/// container may be let make device nodes.
pub(in crate::runtime) fn restrict_devices(
    layout: &Layout,
    group: &Path,
) -> Result<bool, RuntimeError> {
    let Some(dir) = layout.dir("devices", group) else { return Ok(false) };
    match layout {
        Layout::V1(_) => restrict_v1(&dir).map(|()| true),
        Layout::V2 { .. } => {
            restrict_v2(&dir).map_err(|e| RuntimeError::io("filter devices of", &dir, e))
        }
    }
}

fn restrict_v1(dir: &Path) -> Result<(), RuntimeError> {
    let list = dir.join("devices.list");
    let stands = fs::read_to_string(&list).map_err(|e| RuntimeError::io("read", &list, e))?;
    if !stands.starts_with("a ") {
        return Ok(());
    }
    let deny = dir.join("devices.deny");
    fs::write(&deny, "a").map_err(|e| RuntimeError::io("write", &deny, e))?;
    let allow = dir.join("devices.allow");
    let mut rules = vec!["c *:* m".to_owned(), "b *:* m".to_owned()];
    rules.extend(ALLOWED.iter().map(|(major, minor)| {
        format!("c {major}:{} rwm", minor.map_or_else(|| "*".into(), |m| m.to_string()))
    }));
    for rule in rules {
        fs::write(&allow, &rule).map_err(|e| RuntimeError::io("write", &allow, e))?;
    }
    Ok(())
}

/// One instruction of the kernel's virtual machine.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Insn {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// `linux/bpf.h`, which libc does not carry.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_QUERY: libc::c_long = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
/// In the low half of `access_type`; the access itself is in the high half, 1 being mknod.
const DEVICE_CHAR: i32 = 2;
const ACCESS_MKNOD: i32 = 1;

const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb7;
const JUMP_IF_NOT: u8 = 0x55;
const EXIT: u8 = 0x95;

const fn insn(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Insn {
    Insn { code, registers: to | from << 4, offset, immediate }
}

/// The rules as a program: answers 1 for what is allowed.
fn program() -> Vec<Insn> {
    let mut code = vec![
        insn(LOAD_WORD, 2, 1, 0, 0),
        insn(COPY, 3, 2, 0, 0),
        insn(AND, 2, 0, 0, 0xffff),
        insn(SHIFT_RIGHT, 3, 0, 0, 16),
        insn(LOAD_WORD, 4, 1, 4, 0),
        insn(LOAD_WORD, 5, 1, 8, 0),
        // A node may be made of any device, for archives to unpack; it just can't be opened.
        insn(JUMP_IF_NOT, 3, 0, 2, ACCESS_MKNOD),
        insn(SET, 0, 0, 0, 1),
        insn(EXIT, 0, 0, 0, 0),
        insn(JUMP_IF_NOT, 2, 0, 0, DEVICE_CHAR),
    ];
    let not_char = code.len() - 1;
    for (major, minor) in ALLOWED {
        let rest = if minor.is_some() { 3 } else { 2 };
        code.push(insn(JUMP_IF_NOT, 4, 0, rest, major as i32));
        if let Some(minor) = minor {
            code.push(insn(JUMP_IF_NOT, 5, 0, 2, minor as i32));
        }
        code.push(insn(SET, 0, 0, 0, 1));
        code.push(insn(EXIT, 0, 0, 0, 0));
    }
    code[not_char].offset = (code.len() - 1 - not_char) as i16;
    code.push(insn(SET, 0, 0, 0, 0));
    code.push(insn(EXIT, 0, 0, 0, 0));
    code
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    kind: u32,
    count: u32,
    code: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// Calls bpf(2).
///
/// SAFETY: `attr` must be of the structure that the command takes, and its pointers valid.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the structure is passed with its size; the rest is the caller's promise.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut T, size_of::<T>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as i32) }
}

/// Loads and attaches the program. False when the kernel was built without such programs.
fn restrict_v2(dir: &Path) -> io::Result<bool> {
    let group = fs::File::open(dir)?;
    let target = group.as_raw_fd() as u32;
    let mut query = QueryAttr { target, kind: ATTACH_CGROUP_DEVICE, ..QueryAttr::default() };
    // SAFETY: the query has no pointers set.
    if unsafe { bpf(BPF_PROG_QUERY, &mut query) }.is_ok() && query.count > 0 {
        return Ok(true);
    }
    let Ok(program) = load() else { return Ok(false) };
    let mut attach = AttachAttr {
        target,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the structure has no pointers.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attach) }.map(|_| true)
}

fn load() -> io::Result<OwnedFd> {
    let code = program();
    let mut load = LoadAttr {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: code.len() as u32,
        code: code.as_ptr() as u64,
        licence: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttr::default()
    };
    // SAFETY: code and licence outlive the call, and the count is that of the code.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut load)? };
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would, for one access.
    fn run(kind: i32, access: i32, major: i32, minor: i32) -> i32 {
        let context = [kind | access << 16, major, minor];
        let (code, mut r, mut at) = (program(), [0i32; 11], 0usize);
        loop {
            let i = code[at];
            let (to, from) = ((i.registers & 15) as usize, (i.registers >> 4) as usize);
            match i.code {
                LOAD_WORD => r[to] = context[i.offset as usize / 4],
                COPY => r[to] = r[from],
                AND => r[to] &= i.immediate,
                SHIFT_RIGHT => r[to] = ((r[to] as u32) >> i.immediate) as i32,
                SET => r[to] = i.immediate,
                JUMP_IF_NOT if r[to] != i.immediate => at = at.wrapping_add(i.offset as usize),
                JUMP_IF_NOT => {}
                _ => return r[0],
            }
            at += 1;
        }
    }

    #[test]
    fn the_program_allows_what_the_list_of_version_1_allows() {
        let (block, open) = (1, 2 | 4);
        assert_eq!(run(DEVICE_CHAR, open, 1, 3), 1, "null");
        assert_eq!(run(DEVICE_CHAR, open, 136, 7), 1, "a terminal");
        assert_eq!(run(DEVICE_CHAR, open, 1, 1), 0, "mem");
        assert_eq!(run(block, open, 8, 0), 0, "a disk");
        assert_eq!(run(block, open, 1, 3), 0, "a block device of null's number");
        assert_eq!(run(block, ACCESS_MKNOD, 8, 0), 1, "a disk's node, unopened");
    }

    #[test]
    fn the_kernel_takes_the_program() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        match load() {
            Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => eprintln!("SKIPPED: no bpf(2)"),
            loaded => drop(loaded.unwrap()),
        }
    }
}
