//! Lets go of the code that only a start needs. It is shared with every other shim and comes back
//! from the page cache when it is called again, so this costs nothing; but as long as it is
//! mapped, each container is charged with its share.

use std::fs::File;
use std::io::Read;
use std::ops::Range;

/// Room for the mappings of a process as small as this.
const ROOM: usize = 8 * 1024;
/// Pages of stack that are left below the frame that frees the rest.
const MARGIN: usize = 2;

/// Unmaps the pages that hold code, and the part of the stack that only the start used.
pub(super) fn trim() {
    if let Some(stack) = trim_code() {
        trim_stack(stack);
    }
}

/// Answers where the stack begins.
fn trim_code() -> Option<usize> {
    let mut text = [0u8; ROOM];
    let mut filled = 0;
    let mut file = File::open("/proc/self/maps").ok()?;
    while let Ok(n @ 1..) = file.read(&mut text[filled..]) {
        filled += n;
    }
    let text = std::str::from_utf8(&text[..filled]).unwrap_or("");
    for code in text.lines().filter_map(code_of) {
        // SAFETY: the pages are a file's, mapped to be executed and not to be written, so
        // they hold nothing that is not in the file: the next access maps them again.
        unsafe { libc::madvise(code.start as *mut _, code.len(), libc::MADV_DONTNEED) };
    }
    let stack = text.lines().find(|l| l.ends_with("[stack]"))?;
    usize::from_str_radix(stack.split_once('-')?.0, 16).ok()
}

/// Frees the stack from its lower end to well below this function's own frame.
#[inline(never)]
fn trim_stack(start: usize) {
    let here = 0u8;
    // SAFETY: no memory is passed.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(0);
    if page == 0 {
        return;
    }
    let end = ((&raw const here).addr() - MARGIN * page) & !(page - 1);
    if end > start {
        // SAFETY: the stack grows down, and all that lives on it is above this frame. The margin
        // has room for the call itself.
        unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_DONTNEED) };
    }
}

/// The addresses in a line of `/proc/<pid>/maps`, if it is of a file's code.
fn code_of(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (addresses, mode) = (fields.next()?, fields.next()?);
    let (start, end) = addresses.split_once('-')?;
    if mode != "r-xp" || !line.contains('/') {
        return None;
    }
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_let_go() {
        let code = "00401000-00c01000 r-xp 00001000 00:2a 77 /edged";
        assert_eq!(code_of(code), Some(0x401000..0xc01000));
        for other in [
            "00400000-00401000 r--p 00000000 00:2a 77 /edged",
            "00c01000-00c02000 rw-p 00000000 00:2a 77 /edged",
            "7ffe7a5f5000-7ffe7a5f7000 r-xp 00000000 00:00 0 [vdso]",
        ] {
            assert_eq!(code_of(other), None, "{other}");
        }
        trim();
    }
}
