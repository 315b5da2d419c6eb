//! What a file begins with: that it is a backup, of which form, and how what follows is kept.

use super::{Broken, FORM};

const MAGIC: &[u8; 7] = b"edgebak";
/// What follows is packed (zlib, RFC 1950).
const PACKED: u8 = 1;
/// What follows is encrypted.
const SEALED: u8 = 2;

/// Random bytes that make each file's key another.
pub const SALT_BYTES: usize = 16;
/// Bytes of a cover before what only encrypted files have.
pub const COVER_BYTES: usize = MAGIC.len() + 2;
/// More than this would be made to keep a board busy, and not to be opened.
const ROUNDS_MAX: u32 = 10_000_000;

/// A file's first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cover {
    /// Of an encrypted one, the salt and the rounds that its key is derived with.
    pub lock: Option<([u8; SALT_BYTES], u32)>,
}

impl Cover {
    /// The bytes.
    pub fn write(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(FORM);
        match &self.lock {
            None => out.push(PACKED),
            Some((salt, rounds)) => {
                out.push(PACKED | SEALED);
                out.extend_from_slice(salt);
                out.extend_from_slice(&rounds.to_le_bytes());
            }
        }
        out
    }

    /// How many more bytes of a cover there are behind the first [`COVER_BYTES`].
    ///
    /// # Errors
    /// When they are of no backup, or of one of a form that is not known.
    pub fn rest(bytes: &[u8]) -> Result<usize, Broken> {
        let behind = bytes.strip_prefix(MAGIC).ok_or(Broken::Foreign)?;
        match behind {
            [FORM, PACKED] => Ok(0),
            [FORM, flags] if *flags == PACKED | SEALED => Ok(SALT_BYTES + 4),
            [form, ..] if *form > FORM => Err(Broken::NewerForm(*form)),
            _ => Err(Broken::Damaged("its first bytes")),
        }
    }

    /// Reads a whole cover, as long as [`Cover::rest`] said.
    ///
    /// # Errors
    /// As there, and when its numbers can't be.
    pub fn read(bytes: &[u8]) -> Result<Cover, Broken> {
        let (first, lock) = bytes.split_at_checked(COVER_BYTES).ok_or(Broken::Short)?;
        if lock.len() != Cover::rest(first)? {
            return Err(Broken::Short);
        }
        if lock.is_empty() {
            return Ok(Cover { lock: None });
        }
        let wrong = Broken::Damaged("how its key is made");
        let both = lock.first_chunk::<SALT_BYTES>().zip(lock.last_chunk::<4>());
        let (salt, rounds) = both.ok_or(wrong.clone())?;
        match u32::from_le_bytes(*rounds) {
            rounds @ 1..=ROUNDS_MAX => Ok(Cover { lock: Some((*salt, rounds)) }),
            _ => Err(wrong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cover_is_read_as_it_was_written_and_nothing_else_is() {
        for lock in [None, Some(([7; SALT_BYTES], 600_000))] {
            let cover = Cover { lock };
            let bytes = cover.write();
            assert_eq!(Cover::rest(&bytes[..COVER_BYTES]), Ok(bytes.len() - COVER_BYTES));
            assert_eq!(Cover::read(&bytes), Ok(cover));
            for cut in 0..bytes.len() {
                assert_eq!(Cover::read(&bytes[..cut]), Err(Broken::Short), "{cut}");
            }
        }
        assert_eq!(Cover::rest(b"apiVersi"), Err(Broken::Foreign));
        assert_eq!(Cover::rest(b"edgebak\x02\x01"), Err(Broken::NewerForm(2)));
        assert!(matches!(Cover::rest(b"edgebak\x01\x41"), Err(Broken::Damaged(_))));
        assert!(matches!(Cover::rest(b"edgebak\x00\x01"), Err(Broken::Damaged(_))));
        for rounds in [0, u32::MAX] {
            let bytes = Cover { lock: Some(([7; SALT_BYTES], rounds)) }.write();
            assert!(matches!(Cover::read(&bytes), Err(Broken::Damaged(_))), "{rounds}");
        }
    }
}
