//! The head of an ELF file (System V ABI, chapters 4 and 5), as much of it as tells whether a
//! program could run here and whether all of it is there.

use std::fmt;

use super::Arch;

/// Bytes from a file's begin that are enough for [`Elf::read`].
pub const HEAD_BYTES: usize = 4096;

const MAGIC: &[u8; 4] = b"\x7fELF";
/// `EI_CLASS`: pointers of 64 bits.
const CLASS_64: u8 = 2;
/// `EI_DATA`: little-endian, as every board is.
const LITTLE: u8 = 1;
/// `ET_EXEC` and `ET_DYN`: what can be started.
const KINDS: [u64; 2] = [2, 3];
/// `e_machine`, the class that goes with it, and its name.
const MACHINES: [(u64, u8, Arch); 3] = [(62, 2, "amd64"), (183, 2, "arm64"), (40, 1, "arm")];

/// What the head of a program says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elf {
    /// The machine that it is for.
    pub arch: Arch,
    /// The file has at least so many bytes, or its end is missing.
    pub least_bytes: u64,
}

/// Why a file is no program for a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElfError {
    /// It does not begin as programs do.
    NotElf,
    /// It is a part of a program, a library of objects or a core dump.
    NoProgram,
    /// It is for another kind of machine than boards are.
    Machine,
    /// Its head is cut off or makes no sense.
    Head,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ElfError::NotElf => "it is no program (it does not begin as an ELF file does)",
            ElfError::NoProgram => "it is an ELF file, but no program",
            ElfError::Machine => "it is for a machine that edged has no build for",
            ElfError::Head => "its ELF head is cut off or damaged",
        })
    }
}

impl std::error::Error for ElfError {}

/// A little-endian number of `size` bytes at `at`.
fn number(bytes: &[u8], at: usize, size: usize) -> Result<u64, ElfError> {
    let field = bytes.get(at..).and_then(|rest| rest.get(..size)).ok_or(ElfError::Head)?;
    Ok(field.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

impl Elf {
    /// Reads the head: the first [`HEAD_BYTES`] of the file, or all of a shorter one.
    ///
    /// # Errors
    /// When it is no program for a board.
    pub fn read(head: &[u8]) -> Result<Elf, ElfError> {
        if head.get(..4) != Some(MAGIC) {
            return Err(ElfError::NotElf);
        }
        let class = *head.get(4).ok_or(ElfError::Head)?;
        if head.get(5) != Some(&LITTLE) {
            return Err(ElfError::Machine);
        }
        let (kind, machine) = (number(head, 16, 2)?, number(head, 18, 2)?);
        let known = MACHINES.iter().find(|(code, size, _)| (*code, *size) == (machine, class));
        let arch = known.ok_or(ElfError::Machine)?.2;
        if !KINDS.contains(&kind) {
            return Err(ElfError::NoProgram);
        }
        // Where the tables are, and the size and count of their rows, differ with the pointers.
        let wide = class == CLASS_64;
        let (word, offset, rows) = if wide { (8, 32, 54) } else { (4, 28, 42) };
        let table = number(head, offset, word)?;
        let (size, count) = (number(head, rows, 2)?, number(head, rows + 2, 2)?);
        let begin = usize::try_from(table).ok().filter(|begin| *begin < HEAD_BYTES);
        let begin = begin.ok_or(ElfError::Head)?;
        let mut least_bytes = table + size * count;
        let (at, length) = if wide { (8, 32) } else { (4, 16) };
        for row in 0..usize::try_from(count).unwrap_or(0) {
            let row = begin + row * usize::try_from(size).unwrap_or(0);
            let end = number(head, row + at, word)?.checked_add(number(head, row + length, word)?);
            least_bytes = least_bytes.max(end.ok_or(ElfError::Head)?);
        }
        let sections = number(head, offset + word, word)?;
        let all = number(head, rows + 4, 2)? * number(head, rows + 6, 2)?;
        let end = sections.checked_add(all).ok_or(ElfError::Head)?;
        Ok(Elf { arch, least_bytes: least_bytes.max(end) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(machine: u16, wide: bool) -> Vec<u8> {
        let mut out = vec![0u8; 200];
        out[..4].copy_from_slice(MAGIC);
        (out[4], out[5]) = (if wide { 2 } else { 1 }, 1);
        out[16] = 2;
        out[18..20].copy_from_slice(&machine.to_le_bytes());
        let (offset, rows, row) = if wide { (32, 54, 64) } else { (28, 42, 52) };
        out[offset] = row;
        (out[rows], out[rows + 2]) = (56, 1);
        let row = usize::from(row);
        let (at, length) = if wide { (8, 32) } else { (4, 16) };
        out[row + at] = 100;
        out[row + length + 1] = 2;
        out
    }

    #[test]
    fn machines_and_lengths() {
        for (machine, wide, arch) in [(62, true, "amd64"), (183, true, "arm64"), (40, false, "arm")]
        {
            assert_eq!(Elf::read(&head(machine, wide)), Ok(Elf { arch, least_bytes: 612 }));
        }
        assert_eq!(Elf::read(&head(8, true)), Err(ElfError::Machine));
        assert_eq!(Elf::read(&head(40, true)), Err(ElfError::Machine), "the wrong class");
    }

    #[test]
    fn what_is_no_program() {
        assert_eq!(Elf::read(b"#!/bin/sh\n"), Err(ElfError::NotElf));
        assert_eq!(Elf::read(b""), Err(ElfError::NotElf));
        let mut object = head(62, true);
        object[16] = 1;
        assert_eq!(Elf::read(&object), Err(ElfError::NoProgram));
    }

    #[test]
    fn nothing_in_a_head_is_believed() {
        let whole = head(183, true);
        for cut in 4..whole.len() {
            // Whatever it says of a cut head, it says it without falling over.
            let _ = Elf::read(&whole[..cut]);
        }
        for at in 4..whole.len() {
            let mut odd = whole.clone();
            odd[at] = 0xff;
            let _ = Elf::read(&odd);
        }
        assert_eq!(Elf::read(&whole[..60]), Err(ElfError::Head));
    }
}
