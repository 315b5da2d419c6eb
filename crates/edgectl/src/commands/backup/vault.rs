//! What is encrypted: pieces of 64 KiB, each its length and then its bytes sealed with
//! ChaCha20-Poly1305 (RFC 8439), which boards without AES instructions do fast. The key is
//! PBKDF2-HMAC-SHA256 of the passphrase, which ring has. A piece's nonce is its number and whether
//! it is the last, and the file's cover is bound to each, so that none can be left out, moved,
//! added, or an end taken away (the STREAM construction of Hoang, Reyhanitabar, Rogaway, Vizar).

use edge_api::backup::{Broken, Cover, SALT_BYTES};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use std::io::{self, ErrorKind, Read, Write};
use std::num::NonZeroU32;

/// What OWASP asks of PBKDF2-HMAC-SHA256 (2023).
const ROUNDS: u32 = 600_000;
/// Bytes of a piece before it is sealed, and what sealing adds.
const PIECE: usize = 64 * 1024;
const TAG: usize = 16;
/// The bit of a piece's length that says that it is the last.
const LAST: u32 = 1 << 31;

fn broken(broken: Broken) -> io::Error {
    io::Error::other(broken)
}

/// What a file is encrypted with.
pub(super) type Key = [u8; 32];

/// Makes the key of a file with this cover; meant to take long.
pub(super) fn derive(passphrase: &[u8], cover: &Cover) -> io::Result<Key> {
    let lock = cover.lock.as_ref();
    let rounds = lock.and_then(|(salt, rounds)| Some((salt, NonZeroU32::new(*rounds)?)));
    let (salt, rounds) = rounds.ok_or_else(|| broken(Broken::Damaged("its first bytes")))?;
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase, &mut key);
    Ok(key)
}

/// What seals and opens.
struct Lock {
    key: LessSafeKey,
    cover: Vec<u8>,
    number: u64,
}

impl Lock {
    fn of(key: &Key, cover: &Cover) -> io::Result<Lock> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key);
        let key = key.map_err(|_| io::Error::other("make a key"))?;
        Ok(Lock { key: LessSafeKey::new(key), cover: cover.write(), number: 0 })
    }

    /// The next piece's nonce.
    fn nonce(&mut self, last: bool) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.number.to_le_bytes());
        nonce[11] = u8::from(last);
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Writes an encrypted file.
pub(super) struct Sealer<W> {
    out: W,
    lock: Lock,
    gathered: Vec<u8>,
}

/// A cover with a salt of its own.
pub(super) fn fresh_cover() -> io::Result<Cover> {
    let mut salt = [0; SALT_BYTES];
    let random = SystemRandom::new().fill(&mut salt);
    random.map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(Cover { lock: Some((salt, ROUNDS)) })
}

impl<W: Write> Sealer<W> {
    /// Writes the cover.
    pub(super) fn begin(key: &Key, cover: &Cover, mut out: W) -> io::Result<Sealer<W>> {
        let lock = Lock::of(key, cover)?;
        out.write_all(&lock.cover)?;
        Ok(Sealer { out, lock, gathered: Vec::with_capacity(PIECE + TAG) })
    }

    /// Writes what is left, which is the last piece.
    pub(super) fn end(mut self) -> io::Result<W> {
        self.seal(true)?;
        Ok(self.out)
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let nonce = self.lock.nonce(last);
        let aad = Aad::from(&self.lock.cover);
        let sealed = self.lock.key.seal_in_place_append_tag(nonce, aad, &mut self.gathered);
        sealed.map_err(|_| io::Error::other("encrypt a piece"))?;
        let length = u32::try_from(self.gathered.len()).map_err(io::Error::other)?;
        let length = if last { length | LAST } else { length };
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&self.gathered)?;
        self.gathered.clear();
        Ok(())
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gathered.len() == PIECE {
            self.seal(false)?;
        }
        let taken = bytes.len().min(PIECE - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads what follows a cover, encrypted or not.
pub(super) struct Opener<R> {
    inner: R,
    /// How to open it; none of what is not encrypted.
    lock: Option<Lock>,
    piece: io::Cursor<Vec<u8>>,
    done: bool,
}

impl<R: Read> Opener<R> {
    /// Of a file that is not encrypted.
    pub(super) fn plain(inner: R) -> Opener<R> {
        Opener { inner, lock: None, piece: io::Cursor::default(), done: false }
    }

    /// Of one that is.
    pub(super) fn sealed(cover: &Cover, key: &Key, inner: R) -> io::Result<Opener<R>> {
        let lock = Some(Lock::of(key, cover)?);
        Ok(Opener { inner, lock, piece: io::Cursor::default(), done: false })
    }

    fn exact(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.inner.read_exact(&mut bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => broken(Broken::Short),
            _ => error,
        })?;
        Ok(bytes)
    }

    /// The next piece.
    fn next(&mut self) -> io::Result<()> {
        let length = self.exact(4)?;
        let length = length.iter().rev().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
        let (last, length) = (length & LAST != 0, (length & !LAST) as usize);
        let Some(lock) = &mut self.lock else { return Ok(()) };
        // What does not open at all was most likely closed with another key.
        let wrong = match lock.number {
            0 => Broken::Passphrase,
            _ => Broken::Damaged("a piece that does not open"),
        };
        if !(TAG..=PIECE + TAG).contains(&length) {
            return Err(broken(Broken::Damaged("a piece that can't be")));
        }
        let nonce = lock.nonce(last);
        let mut piece = self.exact(length)?;
        let Some(lock) = &self.lock else { return Ok(()) };
        let opened = lock.key.open_in_place(nonce, Aad::from(&lock.cover), &mut piece);
        let plain = opened.map_err(|_| broken(wrong))?.len();
        piece.truncate(plain);
        self.done = last;
        self.piece = io::Cursor::new(piece);
        match last && self.inner.read(&mut [0])? > 0 {
            true => Err(broken(Broken::Long)),
            false => Ok(()),
        }
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.lock.is_none() {
            return self.inner.read(out);
        }
        loop {
            match self.piece.read(out)? {
                0 if !self.done && !out.is_empty() => self.next()?,
                count => return Ok(count),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a round only, as each derives anew.
    fn cover() -> Cover {
        Cover { lock: Some(([7; SALT_BYTES], 1)) }
    }

    fn sealed(bytes: &[u8]) -> Vec<u8> {
        let key = derive(b"secret", &cover()).unwrap();
        let mut sealer = Sealer::begin(&key, &cover(), Vec::new()).unwrap();
        bytes.chunks(1000).for_each(|piece| sealer.write_all(piece).unwrap());
        sealer.end().unwrap()
    }

    fn opened(file: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, String> {
        let behind = &file[cover().write().len()..];
        let key = derive(passphrase, &cover()).unwrap();
        let mut opener = Opener::sealed(&cover(), &key, behind).unwrap();
        let mut out = Vec::new();
        opener.read_to_end(&mut out).map_err(|error| error.to_string())?;
        Ok(out)
    }

    #[test]
    fn what_was_sealed_is_opened_whole_or_not_at_all() {
        let begin = cover().write().len();
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 100] {
            let bytes = vec![b'x'; size];
            let file = sealed(&bytes);
            assert_eq!(opened(&file, b"secret"), Ok(bytes), "{size}");
            assert!(opened(&file, b"Secret").unwrap_err().contains("passphrase"), "{size}");
            assert!(size < 8 || !file.windows(8).any(|part| part == b"xxxxxxxx"));
            for at in (begin..file.len()).step_by(1 + size / 50) {
                assert!(opened(&file[..at], b"secret").is_err(), "{size} cut at {at}");
                let mut bad = file.clone();
                bad[at] ^= 1;
                assert!(opened(&bad, b"secret").is_err(), "{size} changed at {at}");
            }
            let more = [&file[..], b"x"].concat();
            assert!(opened(&more, b"secret").unwrap_err().contains("follows"));
        }
    }

    #[test]
    fn pieces_that_are_left_out_or_moved_are_noticed() {
        let file = sealed(&vec![b'x'; 2 * PIECE + 5]);
        let begin = cover().write().len();
        let (first, second) = (begin, begin + 4 + PIECE + TAG);
        let third = second + 4 + PIECE + TAG;
        let part = |from: usize, to: usize| file[from..to].to_vec();
        let head = part(0, begin);
        let (one, two, last) = (part(first, second), part(second, third), part(third, file.len()));
        for parts in [[&two, &one, &last], [&one, &last, &last], [&two, &two, &last]] {
            let parts = [&head, parts[0], parts[1], parts[2]];
            let bad: Vec<u8> = parts.into_iter().flatten().copied().collect();
            assert!(opened(&bad, b"secret").is_err());
        }
        let early = [head, one].concat();
        assert!(opened(&early, b"secret").unwrap_err().contains("too early"));
    }
}
