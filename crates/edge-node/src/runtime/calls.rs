//! System calls of `edged doctor` that no library of ours offers.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whether the kernel's clock follows a source of time (adjtimex(2)); `None` when it doesn't say.
pub(crate) fn clock_is_synchronised() -> Option<bool> {
    // SAFETY: a zeroed timex is valid, and asks for nothing to be changed.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the structure outlives the call.
    let state = unsafe { libc::adjtimex(&mut timex) };
    (state >= 0).then_some(timex.status & libc::STA_UNSYNC == 0)
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
