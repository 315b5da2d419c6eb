//! minisign's public keys and signature files (<https://jedisct1.github.io/minisign/>), so that
//! people sign with a tool that they can get anywhere. Only the form that hashes the file first is
//! taken, which is that tool's own default. The curve's arithmetic is the caller's.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Bytes of a signature file, at most.
const MOST_BYTES: usize = 4096;

const UNTRUSTED: &str = "untrusted comment: ";
const TRUSTED: &str = "trusted comment: ";

/// A key that signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    id: [u8; 8],
    key: [u8; 32],
}

/// What a `.minisig` file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    id: [u8; 8],
    signature: [u8; 64],
    comment: String,
    comment_signature: [u8; 64],
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureError {
    /// Not a public key of minisign.
    Key(String),
    /// Not a signature file of minisign.
    File,
    /// Made the old way, over the whole file.
    Legacy,
    /// Made by a key that this board does not know.
    Unknown(String),
    /// Made for another file, or changed.
    Wrong,
    /// The comment that it vouches for was changed.
    Comment,
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignatureError::Key(text) => {
                write!(f, "{text:?} is no public key of minisign (the second line of minisign.pub)")
            }
            SignatureError::File => f.write_str("it is no signature file of minisign"),
            SignatureError::Legacy => f.write_str(
                "it was made with minisign's -l: sign again without it (minisign -Sm edged)",
            ),
            SignatureError::Unknown(id) => {
                write!(f, "it was made with key {id}, which is none of this board's upgrade-keys")
            }
            SignatureError::Wrong => f.write_str("it was not made for this file, or was changed"),
            SignatureError::Comment => f.write_str("its trusted comment was changed"),
        }
    }
}

impl std::error::Error for SignatureError {}

fn decode<const N: usize>(line: &str) -> Option<[u8; N]> {
    STANDARD.decode(line.trim()).ok()?.try_into().ok()
}

/// A key's id as minisign prints it.
fn shown(id: [u8; 8]) -> String {
    format!("{:016X}", u64::from_le_bytes(id))
}

impl PublicKey {
    /// Reads a key: one line of base64, or the whole of `minisign.pub`.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<PublicKey, SignatureError> {
        let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let read = || {
            let bytes: [u8; 42] = decode(line)?;
            let (head, key) = bytes.split_at(10);
            let id = head.strip_prefix(b"Ed")?.try_into().ok()?;
            Some(PublicKey { id, key: key.try_into().ok()? })
        };
        read().ok_or_else(|| SignatureError::Key(line.trim().chars().take(64).collect()))
    }
}

impl Signature {
    /// Reads a `.minisig` file.
    ///
    /// # Errors
    /// When it is none, or of the old form.
    pub fn parse(text: &str) -> Result<Signature, SignatureError> {
        let mut lines = text.lines();
        let mut read = || {
            lines.next()?.strip_prefix(UNTRUSTED)?;
            let bytes: [u8; 74] = decode(lines.next()?)?;
            let comment = lines.next()?.strip_prefix(TRUSTED)?.to_owned();
            Some((bytes, comment, decode(lines.next()?)?))
        };
        let short = text.len() <= MOST_BYTES;
        let (bytes, comment, comment_signature) =
            short.then(&mut read).flatten().ok_or(SignatureError::File)?;
        let rest = match bytes.split_at(2) {
            (b"ED", rest) => rest,
            (b"Ed", _) => return Err(SignatureError::Legacy),
            _ => return Err(SignatureError::File),
        };
        let (id, signature) = rest.split_at(8);
        Ok(Signature {
            id: id.try_into().map_err(|_| SignatureError::File)?,
            signature: signature.try_into().map_err(|_| SignatureError::File)?,
            comment,
            comment_signature,
        })
    }

    /// Whether one of `keys` signed the file with this BLAKE2b hash; `ed25519` verifies one
    /// signature: key, message, signature.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn verify(
        &self,
        keys: &[PublicKey],
        hash: &[u8; 64],
        ed25519: impl Fn(&[u8; 32], &[u8], &[u8; 64]) -> bool,
    ) -> Result<(), SignatureError> {
        let key = keys.iter().find(|key| key.id == self.id);
        let key = key.ok_or_else(|| SignatureError::Unknown(shown(self.id)))?;
        if !ed25519(&key.key, hash, &self.signature) {
            return Err(SignatureError::Wrong);
        }
        let said = [&self.signature[..], self.comment.as_bytes()].concat();
        match ed25519(&key.key, &said, &self.comment_signature) {
            true => Ok(()),
            false => Err(SignatureError::Comment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "RWSezrqtCvZEzAZGfE/HWhiFHRbVt8GKqytAC2NHUnRyxjHmGkWcLwpN";
    const FILE: &str = "untrusted comment: signature from minisign secret key\n\
        RUSezrqtCvZEzKbuzQ/BAoy8C9FnVjW9b5ds4MHG/qAx6ubCv8L67rxGyJVEwtHTlJW/m57nq/dRjiwJxJSuVK0\
        OBpbQMhLfkww=\n\
        trusted comment: edged 0.2.0 arm64\n\
        bjPuuvmeGiDjcBARdX9GRmBpczwrWv70nlTuf124Wx4wqubtqUJaN9KazzU6gfUKs1WSwAhhfYJhfCvYSzUADg==\n";

    #[test]
    fn keys_and_files_are_read() {
        let key = PublicKey::parse(KEY).unwrap();
        assert_eq!(shown(key.id), "CC44F60AADBACE9E");
        let file = format!("untrusted comment: minisign public key\n{KEY}\n");
        assert_eq!(PublicKey::parse(&file), Ok(key.clone()));
        let signature = Signature::parse(FILE).unwrap();
        assert_eq!((signature.id, signature.comment.as_str()), (key.id, "edged 0.2.0 arm64"));
        // What is asked of the curve: the hash first, then what the comment is bound to.
        let good = signature.verify(&[key], &[7; 64], |_, message, _| {
            message == [7; 64] || message.ends_with(b"edged 0.2.0 arm64")
        });
        assert_eq!(good, Ok(()));
    }

    #[test]
    fn what_does_not_count_says_why() {
        assert!(matches!(PublicKey::parse("abc"), Err(SignatureError::Key(_))));
        assert!(matches!(PublicKey::parse(""), Err(SignatureError::Key(_))));
        assert_eq!(Signature::parse("hello\n"), Err(SignatureError::File));
        assert_eq!(Signature::parse(&FILE[..FILE.len() - 20]), Err(SignatureError::File));
        let old = FILE.replacen("RUSe", "RWSe", 1);
        assert_eq!(Signature::parse(&old), Err(SignatureError::Legacy));
        let signature = Signature::parse(FILE).unwrap();
        let unknown = SignatureError::Unknown("CC44F60AADBACE9E".into());
        assert_eq!(signature.verify(&[], &[0; 64], |_, _, _| true), Err(unknown));
        let keys = [PublicKey::parse(KEY).unwrap()];
        let wrong = signature.verify(&keys, &[0; 64], |_, _, _| false);
        assert_eq!(wrong, Err(SignatureError::Wrong));
        let comment = signature.verify(&keys, &[0; 64], |_, message, _| message == [0; 64]);
        assert_eq!(comment, Err(SignatureError::Comment));
    }
}
