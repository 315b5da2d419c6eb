//! A board's own key: made on the board, kept there, and what the board is known by. Two boards are
//! the same one when they have the same key, whatever their names and addresses are.

use super::disk;
use super::error::PkiError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData};
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use std::fmt;
use std::path::{Path, PathBuf};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

/// Bytes of a certificate request at most; ours have about 300.
const REQUEST_BYTES: usize = 8 * 1024;

/// What a board is known by: SHA-256 of its public key (SPKI, DER), in hex.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyHash(String);

impl KeyHash {
    /// Of a public key in DER.
    pub(crate) fn of(spki: &[u8]) -> KeyHash {
        KeyHash(hex(digest(&SHA256, spki).as_ref()))
    }

    /// Takes the text form, 64 hex digits.
    pub fn parse(text: &str) -> Option<KeyHash> {
        let good = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        good.then(|| KeyHash(text.to_ascii_lowercase()))
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that a server with this key has among its cluster's members: the first eight bytes,
    /// never 0.
    pub fn member_id(&self) -> u64 {
        u64::from_str_radix(&self.0[..16], 16).unwrap_or_default().max(1)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A board's private key, `<data-dir>/pki/board.key`.
pub struct BoardKey {
    pair: KeyPair,
    path: PathBuf,
}

impl BoardKey {
    /// Reads the board's key, or makes one when there is none yet.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds no key.
    pub fn open(data_dir: &Path) -> Result<BoardKey, PkiError> {
        let dir = data_dir.join("pki");
        disk::private_dir(&dir).map_err(|e| PkiError::io("create", &dir, e))?;
        let path = dir.join("board.key");
        let kept = disk::read_if_present(&path).map_err(|e| PkiError::io("read", &path, e))?;
        let pair = match kept {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|e| PkiError::Damaged {
                path: path.clone(),
                reason: format!("it holds no key: {e}"),
            })?,
            None => {
                let pair =
                    KeyPair::generate().map_err(|e| PkiError::issue("this board's key", e))?;
                let key = BoardKey { pair, path };
                key.keep()?;
                return Ok(key);
            }
        };
        Ok(BoardKey { pair, path })
    }

    /// Another key for the same board, which is nowhere kept yet.
    ///
    /// # Errors
    /// When none can be made.
    pub fn another(data_dir: &Path) -> Result<BoardKey, PkiError> {
        let pair = KeyPair::generate().map_err(|e| PkiError::issue("this board's key", e))?;
        Ok(BoardKey { pair, path: data_dir.join("pki/board.key") })
    }

    /// Keeps it in place of the one before.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&self) -> Result<(), PkiError> {
        disk::write_atomically(&self.path, self.pair.serialize_pem().as_bytes(), 0o600)
            .map_err(|e| PkiError::io("write", &self.path, e))
    }

    /// Where it is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the board is known by.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(&self.pair.subject_public_key_info())
    }

    /// The key itself, in PEM (PKCS#8). It must never leave the board.
    pub fn pem(&self) -> String {
        self.pair.serialize_pem()
    }

    /// A request for a certificate, in PEM: proof that this board has the key.
    ///
    /// # Errors
    /// When the request cannot be signed.
    pub fn request(&self, name: &str) -> Result<String, PkiError> {
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, name);
        params.distinguished_name = subject;
        let request = params.serialize_request(&self.pair);
        let pem = request.and_then(|request| request.pem());
        pem.map_err(|e| PkiError::issue(name, e))
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey { point: self.pair.der_bytes().to_vec() }
    }
}

/// A public key whose owner has proven to hold its private half.
pub(crate) struct PublicKey {
    point: Vec<u8>,
}

impl PublicKey {
    /// Reads a certificate request and checks the proof in it. Only the kind of key that boards
    /// make is taken (ECDSA on P-256).
    pub(crate) fn proven(request_pem: &str) -> Result<PublicKey, String> {
        if request_pem.len() > REQUEST_BYTES {
            return Err("the certificate request is too large".to_owned());
        }
        let (_, pem) = x509_parser::pem::parse_x509_pem(request_pem.as_bytes())
            .map_err(|_| "the certificate request is not PEM".to_owned())?;
        let (_, request) = X509CertificationRequest::from_der(&pem.contents)
            .map_err(|_| "the certificate request cannot be read".to_owned())?;
        let info = &request.certification_request_info;
        let spki = &info.subject_pki;
        let key = PublicKey { point: spki.subject_public_key.data.to_vec() };
        if PublicKeyData::subject_public_key_info(&key) != spki.raw {
            return Err("the key is not of the kind that boards make (ECDSA P-256)".to_owned());
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.point)
            .verify(info.raw, &request.signature_value.data)
            .map_err(|_| "the certificate request is not signed by its own key".to_owned())?;
        Ok(key)
    }

    pub(crate) fn hash(&self) -> KeyHash {
        KeyHash::of(&PublicKeyData::subject_public_key_info(self))
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// SHA-256 of an authority's public key, base64url: what a token pins.
pub(crate) fn pin(spki: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, spki))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_proves_its_key_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("edge-key-{}", std::process::id()));
        let key = BoardKey::open(&dir).unwrap();
        assert_eq!(BoardKey::open(&dir).unwrap().hash(), key.hash(), "kept");
        let request = key.request("b").unwrap();
        assert_eq!(PublicKey::proven(&request).unwrap().hash(), key.hash());
        assert_eq!(KeyHash::parse(key.hash().as_str()), Some(key.hash()));
        assert_ne!(key.hash().member_id(), 0);
        let (_, pem) = x509_parser::pem::parse_x509_pem(request.as_bytes()).unwrap();
        let mut forged = pem.contents.clone();
        *forged.last_mut().unwrap() ^= 1;
        let forged = base64::engine::general_purpose::STANDARD.encode(&forged);
        let label = "CERTIFICATE REQUEST";
        let forged = format!("-----BEGIN {label}-----\n{forged}\n-----END {label}-----\n");
        let why = PublicKey::proven(&forged).err().expect("refused");
        assert!(why.contains("not signed by its own key"), "{why}");
        assert!(PublicKey::proven("x").is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
