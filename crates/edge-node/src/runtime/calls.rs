//! System calls of `edged doctor` that no library of ours offers.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use edge_core::doctor::{INFO_BYTES, entries_bytes};

/// Whether the kernel's clock follows a source of time (adjtimex(2)); `None` when it doesn't say.
pub(crate) fn clock_is_synchronised() -> Option<bool> {
    // SAFETY: a zeroed timex is valid, and asks for nothing to be changed.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the structure outlives the call.
    let state = unsafe { libc::adjtimex(&mut timex) };
    (state >= 0).then_some(timex.status & libc::STA_UNSYNC == 0)
}

/// The filter table of the older iptables: what the kernel says of it and all of it
/// (`linux/netfilter_ipv4/ip_tables.h`).
///
/// # Errors
/// When this is not root, or the table has changed in between.
pub(crate) fn legacy_filter() -> io::Result<(Vec<u8>, Vec<u8>)> {
    const GET_INFO: libc::c_int = 64;
    const GET_ENTRIES: libc::c_int = 65;
    // Where the size of the rules is written, behind the table's name.
    const SIZE: std::ops::Range<usize> = 32..36;
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed.
    let socket = unsafe { libc::socket(libc::AF_INET, kind, libc::IPPROTO_RAW) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let ask = |what: libc::c_int, bytes: &mut [u8]| {
        bytes[..6].copy_from_slice(b"filter");
        let mut length = libc::socklen_t::try_from(bytes.len()).unwrap_or(libc::socklen_t::MAX);
        let place = bytes.as_mut_ptr().cast();
        // SAFETY: the kernel writes no more than `length` bytes, which the slice has.
        match unsafe {
            libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, what, place, &mut length)
        } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    let mut info = vec![0; INFO_BYTES];
    ask(GET_INFO, &mut info)?;
    let (length, size) = entries_bytes(&info).ok_or(io::ErrorKind::InvalidData)?;
    let mut all = vec![0; length];
    all[SIZE].copy_from_slice(&size.to_ne_bytes());
    ask(GET_ENTRIES, &mut all)?;
    Ok((info, all))
}

/// Stops swapping to a file or device; takes as long as it takes to read back what is there.
///
/// # Errors
/// When the kernel refuses: it is no swap, there is too little memory, or this is not root.
pub(crate) fn swap_off(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is a C string that outlives the call.
    match unsafe { libc::swapoff(path.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
