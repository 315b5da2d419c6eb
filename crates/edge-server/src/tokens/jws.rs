//! Signed tokens as they travel: compact JWS (RFC 7515) with ES256 and nothing else. The key is
//! chosen by its id among those that the cluster has; what a token says of other algorithms, or of
//! headers that must be understood, is refused before anything of it is believed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Bytes of a token at most; ours have less than 2 KiB.
const TOKEN_BYTES: usize = 16 * 1024;

/// What stands before the point of a P-256 key in its DER form (SPKI, RFC 5480).
const SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why a token is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forged {
    /// It has not the shape of a signed token.
    Shape,
    /// It is signed in another way, or wants something understood that is not.
    Header,
    /// It names a key that the cluster does not have.
    Key,
    /// The signature is not the key's.
    Signature,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    crit: Option<Value>,
}

/// What the cluster keeps of its keys.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Private keys (PKCS#8, base64): the first one signs, all of them count.
    keys: Vec<String>,
}

struct Key {
    pair: EcdsaKeyPair,
    id: String,
}

/// The keys that tokens of this cluster are signed with.
pub(crate) struct Ring {
    keys: Vec<Key>,
}

impl Ring {
    /// A new key, in the form that is kept.
    pub(crate) fn found() -> Result<Vec<u8>, String> {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let made = made.map_err(|_| "the system gives no random bytes".to_owned())?;
        let keys = vec![base64::engine::general_purpose::STANDARD.encode(made.as_ref())];
        serde_json::to_vec(&Kept { keys }).map_err(|error| error.to_string())
    }

    /// Reads what is kept.
    pub(crate) fn read(kept: &[u8]) -> Result<Ring, String> {
        // Nothing of what is wrong with it is repeated: it is a secret.
        let kept: Kept = serde_json::from_slice(kept).map_err(|_| "it is damaged".to_owned())?;
        let read = |text: &String| {
            let der = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, &der, &SystemRandom::new()).ok()?;
            let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, &spki(&pair)));
            Some(Key { pair, id })
        };
        let keys: Option<Vec<Key>> = kept.keys.iter().map(read).collect();
        match keys {
            Some(keys) if !keys.is_empty() => Ok(Ring { keys }),
            _ => Err("it holds no key".to_owned()),
        }
    }

    /// Signs claims.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> Result<String, String> {
        let key = self.keys.first().ok_or("there is no key")?;
        let header = Header { alg: "ES256".to_owned(), kid: key.id.clone(), crit: None };
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let header = serde_json::to_vec(&header).map_err(|error| error.to_string())?;
        let claims = serde_json::to_vec(claims).map_err(|error| error.to_string())?;
        let text = format!("{}.{}", encode(&header), encode(&claims));
        let signature = key.pair.sign(&SystemRandom::new(), text.as_bytes());
        let signature = signature.map_err(|_| "the system gives no random bytes")?;
        Ok(format!("{text}.{}", encode(signature.as_ref())))
    }

    /// The claims of a token that one of the keys has signed, as JSON.
    pub(crate) fn open(&self, token: &str) -> Result<Vec<u8>, Forged> {
        if token.len() > TOKEN_BYTES {
            return Err(Forged::Shape);
        }
        let (text, signature) = token.rsplit_once('.').ok_or(Forged::Shape)?;
        let (header, claims) = text.split_once('.').ok_or(Forged::Shape)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Forged::Shape);
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| Forged::Header)?;
        if header.alg != "ES256" || header.crit.is_some() {
            return Err(Forged::Header);
        }
        let key = self.keys.iter().find(|key| key.id == header.kid).ok_or(Forged::Key)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key().as_ref())
            .verify(text.as_bytes(), &decode(signature)?)
            .map_err(|_| Forged::Signature)?;
        decode(claims)
    }

    /// The public halves, as a JSON Web Key Set.
    pub(crate) fn public(&self) -> Value {
        let keys = self.keys.iter().map(|key| {
            // An uncompressed point: 4, then both coordinates.
            let point = key.pair.public_key().as_ref();
            let part = |from: usize| URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
            json!({ "use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": "ES256",
                    "x": part(1), "y": part(33) })
        });
        json!({ "keys": keys.collect::<Vec<_>>() })
    }
}

fn spki(pair: &EcdsaKeyPair) -> Vec<u8> {
    [&SPKI, pair.public_key().as_ref()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Ring {
        Ring::read(&Ring::found().unwrap()).unwrap()
    }

    fn recode(token: &str, part: usize, change: impl FnOnce(&mut Value)) -> String {
        let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        let bytes = URL_SAFE_NO_PAD.decode(&parts[part]).unwrap();
        let mut value = serde_json::from_slice(&bytes).unwrap();
        change(&mut value);
        parts[part] = URL_SAFE_NO_PAD.encode(value.to_string());
        parts.join(".")
    }

    #[test]
    fn what_was_signed_comes_back_and_nothing_else_does() {
        let ring = ring();
        let token = ring.sign(&json!({ "sub": "a" })).unwrap();
        assert_eq!(ring.open(&token).unwrap(), br#"{"sub":"a"}"#);
        let other = super::tests::ring();
        assert_eq!(other.open(&token), Err(Forged::Key));
        // The other cluster's key under our key's name.
        let ours = ring.keys[0].id.clone();
        let named = other.sign(&json!({ "sub": "a" })).unwrap();
        let named = recode(&named, 0, |header| header["kid"] = json!(ours));
        assert_eq!(ring.open(&named), Err(Forged::Signature));
        let changed = recode(&token, 1, |claims| claims["sub"] = json!("b"));
        assert_eq!(ring.open(&changed), Err(Forged::Signature));
    }

    #[test]
    fn headers_choose_nothing() {
        let ring = ring();
        let token = ring.sign(&json!({ "sub": "a" })).unwrap();
        for alg in ["none", "None", "HS256", "RS256", "ES384", "es256", ""] {
            let changed = recode(&token, 0, |header| header["alg"] = json!(alg));
            assert_eq!(ring.open(&changed), Err(Forged::Header), "{alg}");
            let (text, _) = changed.rsplit_once('.').unwrap();
            assert_eq!(ring.open(&format!("{text}.")), Err(Forged::Header), "{alg}");
        }
        let crit = recode(&token, 0, |header| header["crit"] = json!(["exp"]));
        assert_eq!(ring.open(&crit), Err(Forged::Header));
        let no_id = recode(&token, 0, |header| {
            header.as_object_mut().unwrap().remove("kid");
        });
        assert_eq!(ring.open(&no_id), Err(Forged::Header));
        let long = format!("{token}{}", "A".repeat(TOKEN_BYTES));
        for bad in ["", ".", "..", "a.b", "a.b.c.d", &token.replace('.', ""), &long] {
            assert!(ring.open(bad).is_err(), "{bad:.20}");
        }
        let (text, signature) = token.rsplit_once('.').unwrap();
        for end in [format!("{signature}=="), String::new(), signature[..80].to_owned()] {
            assert!(ring.open(&format!("{text}.{end}")).is_err());
        }
    }

    #[test]
    fn older_keys_go_on_counting() {
        let kept = |bytes: &[u8]| serde_json::from_slice::<Kept>(bytes).unwrap().keys;
        let (old, new) = (Ring::found().unwrap(), Ring::found().unwrap());
        let both = Kept { keys: [kept(&new), kept(&old)].concat() };
        let both = Ring::read(&serde_json::to_vec(&both).unwrap()).unwrap();
        let token = Ring::read(&old).unwrap().sign(&json!({})).unwrap();
        assert!(both.open(&token).is_ok());
        let set = both.public();
        assert_eq!(set["keys"].as_array().unwrap().len(), 2);
        assert!(!set.to_string().contains("\"d\""), "no private part");
        assert!(Ring::read(b"{\"keys\":[]}").is_err() && Ring::read(b"x").is_err());
    }
}
