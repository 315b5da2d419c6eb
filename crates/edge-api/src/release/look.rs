//! All that a file of edged says of itself, gathered while it goes by in pieces: from a disk, from
//! a network, or out of a packed file.

use std::fmt;

use super::{Arch, Elf, ElfError, HEAD_BYTES, Scan, Version};

/// Bytes that are asked for at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// What a program for a board says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its version.
    pub version: Version,
    /// The machine that it is for.
    pub arch: Arch,
    /// Its length.
    pub bytes: u64,
}

/// Why a file is no edged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookError {
    /// It is no program for a board.
    Elf(ElfError),
    /// It is what a web server says in place of a file.
    Page,
    /// Its end is missing.
    CutOff {
        /// What its head asks for.
        least: u64,
        /// What there is.
        bytes: u64,
    },
    /// It is another program, or two in one file.
    NoVersion,
}

impl fmt::Display for LookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookError::Elf(error) => error.fmt(f),
            LookError::Page => f.write_str("it is a web page, no program: look where it is from"),
            LookError::CutOff { least, bytes } => {
                write!(f, "it is cut off: it has {bytes} bytes and its head asks for {least}")
            }
            LookError::NoVersion => f.write_str("it is not edged, or does not say its version"),
        }
    }
}

impl std::error::Error for LookError {}

/// A file that goes by.
#[derive(Debug, Default)]
pub struct Look {
    head: Vec<u8>,
    scan: Scan,
    bytes: u64,
}

impl Look {
    /// Looks into the next piece.
    pub fn take(&mut self, piece: &[u8]) {
        let room = HEAD_BYTES.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(&piece[..room]);
        self.scan.take(piece);
        self.bytes += piece.len() as u64;
    }

    /// Looks into a whole file: `next` fills a buffer and says how much of it, none at the end;
    /// `also` gets each piece as well.
    ///
    /// # Errors
    /// What `next` says.
    pub fn through<E>(
        mut next: impl FnMut(&mut [u8]) -> Result<usize, E>,
        mut also: impl FnMut(&[u8]),
    ) -> Result<Look, E> {
        let (mut look, mut piece) = (Look::default(), vec![0; PIECE_BYTES]);
        loop {
            let count = next(&mut piece)?.min(PIECE_BYTES);
            if count == 0 {
                return Ok(look);
            }
            look.take(&piece[..count]);
            also(&piece[..count]);
        }
    }

    /// How much has gone by.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How the file begins: 4096 bytes at most.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// What the file says, now that all of it has gone by.
    ///
    /// # Errors
    /// Why it is no edged.
    pub fn found(self) -> Result<Found, LookError> {
        let elf = Elf::read(&self.head).map_err(|error| match is_page(&self.head) {
            true => LookError::Page,
            false => LookError::Elf(error),
        })?;
        let (least, bytes) = (elf.least_bytes, self.bytes);
        if bytes < least {
            return Err(LookError::CutOff { least, bytes });
        }
        let version = self.scan.version().ok_or(LookError::NoVersion)?;
        Ok(Found { version, arch: elf.arch, bytes })
    }
}

/// Whether this is how a page of HTML begins.
fn is_page(head: &[u8]) -> bool {
    let begin = head.trim_ascii_start();
    let starts =
        |word: &[u8]| begin.get(..word.len()).is_some_and(|b| b.eq_ignore_ascii_case(word));
    starts(b"<!doctype html") || starts(b"<html")
}

#[cfg(test)]
mod tests {
    use super::super::mark;
    use super::*;

    /// A head without tables, and a mark.
    fn program() -> Vec<u8> {
        let mut file = vec![0; 200];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (file[16], file[18]) = (2, 183);
        file.extend(mark("0.2.0"));
        file.extend([7; PIECE_BYTES]);
        file
    }

    fn found(file: &[u8]) -> Result<Found, LookError> {
        let mut rest = file;
        let next = |piece: &mut [u8]| {
            let count = rest.len().min(piece.len()).min(999);
            piece[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            Ok::<_, ()>(count)
        };
        let mut also = Vec::new();
        let look = Look::through(next, |piece| also.extend_from_slice(piece)).unwrap();
        assert_eq!((also.as_slice(), look.bytes()), (file, file.len() as u64));
        look.found()
    }

    #[test]
    fn a_file_says_what_it_is() {
        let file = program();
        let is = Found {
            version: Version::parse("0.2.0").unwrap(),
            arch: "arm64",
            bytes: file.len() as u64,
        };
        assert_eq!(found(&file), Ok(is));
        assert_eq!(Look::through(|_| Err::<usize, _>(5), |_| ()).unwrap_err(), 5);
    }

    #[test]
    fn what_is_no_edged_says_why() {
        assert_eq!(found(b""), Err(LookError::Elf(ElfError::NotElf)));
        assert_eq!(found(&program()[..200]), Err(LookError::NoVersion));
        let mut cut = program();
        cut[40..48].copy_from_slice(&(1u64 << 20).to_le_bytes());
        let (least, bytes) = (1 << 20, cut.len() as u64);
        assert_eq!(found(&cut), Err(LookError::CutOff { least, bytes }));
        for page in ["\n<!DOCTYPE html><p>404", "<HTML>"] {
            assert_eq!(found(page.as_bytes()), Err(LookError::Page), "{page}");
        }
    }
}
