//! A joining token: what is printed, what is kept of it, and every way in which one can be wrong.
//!
//! The text is `edged1.<pin>.<id>.<secret>`. The pin is the hash of the authority's key, so that
//! the board knows its cluster before it trusts anything; the id names the Secret that remembers
//! the token; the secret is known to whoever was given the token, and only its hash is kept.

use crate::pki::hex;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edge_api::{Object, time};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use std::fmt;

/// What every token begins with; another number is another format.
const FORMAT: &str = "edged1";
const PIN_CHARS: usize = 43;
const ID_CHARS: usize = 8;
const SECRET_CHARS: usize = 22;

/// Where tokens are kept.
pub const TOKEN_NAMESPACE: &str = "kube-system";
/// What the names of their Secrets begin with.
pub const TOKEN_PREFIX: &str = "bootstrap-token-";
/// The type of their Secrets.
pub const TOKEN_TYPE: &str = "edged.dev/join-token";

/// What a board joins as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Leads, stores, answers; and runs pods unless it is told not to.
    Server,
    /// Runs pods.
    Agent,
}

impl Role {
    /// `server` or `agent`
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Agent => "agent",
        }
    }

    /// Reads what [`Role::as_str`] writes.
    pub fn parse(text: &str) -> Option<Role> {
        match text {
            "server" => Some(Role::Server),
            "agent" => Some(Role::Agent),
            _ => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A token as it is printed and typed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the authority's public key, base64url.
    pub pin: String,
    /// 8 hex digits.
    pub id: String,
    secret: String,
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is of another format, or not a token at all.
    Foreign,
    /// Its end is missing.
    Truncated,
    /// It is damaged, or something was added.
    Damaged,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            TokenError::Foreign => "it does not begin with \"edged1.\"",
            TokenError::Truncated => "its end is missing: copy the whole line",
            TokenError::Damaged => "it is damaged: copy the whole line, and nothing else",
        };
        write!(f, "not a joining token of `edged token create`: {what}")
    }
}

impl std::error::Error for TokenError {}

impl Token {
    /// A new token for the cluster with this pin.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn create(pin: &str) -> Result<Token, ring::error::Unspecified> {
        let random = SystemRandom::new();
        let (mut id, mut secret) = ([0; ID_CHARS / 2], [0; 16]);
        random.fill(&mut id)?;
        random.fill(&mut secret)?;
        let secret = URL_SAFE_NO_PAD.encode(secret);
        Ok(Token { pin: pin.to_owned(), id: hex(&id), secret })
    }

    /// Reads a token.
    ///
    /// # Errors
    /// Says what is wrong with it, without repeating it.
    pub fn parse(text: &str) -> Result<Token, TokenError> {
        let mut parts = text.trim().split('.');
        match parts.next() {
            Some(FORMAT) => {}
            Some(start) if !start.is_empty() && FORMAT.starts_with(start) => {
                return Err(TokenError::Truncated);
            }
            _ => return Err(TokenError::Foreign),
        }
        let mut part = |chars: usize| match parts.next() {
            None => Err(TokenError::Truncated),
            Some(part) if part.len() < chars => Err(TokenError::Truncated),
            Some(part) if part.len() > chars => Err(TokenError::Damaged),
            Some(part) => Ok(part),
        };
        let (pin, id, secret) = (part(PIN_CHARS)?, part(ID_CHARS)?, part(SECRET_CHARS)?);
        let whole = |text: &str| {
            text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let id_good = id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if parts.next().is_some() || !whole(pin) || !id_good || !whole(secret) {
            return Err(TokenError::Damaged);
        }
        Ok(Token { pin: pin.to_owned(), id: id.to_owned(), secret: secret.to_owned() })
    }

    /// The name of the Secret that remembers the token.
    pub fn secret_name(&self) -> String {
        format!("{TOKEN_PREFIX}{}", self.id)
    }

    /// What is kept of the secret; 128 random bits need no slow hash.
    pub fn hash(&self) -> String {
        hex(digest(&SHA256, self.secret.as_bytes()).as_ref())
    }

    /// The Secret that remembers the token until `expires_ms`.
    pub fn object(&self, role: Role, expires_ms: i64) -> Object {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": self.secret_name(), "namespace": TOKEN_NAMESPACE },
            "type": TOKEN_TYPE,
            "stringData": {
                "hash": self.hash(),
                "role": role.as_str(),
                "expiration": time::format(expires_ms),
            },
        })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORMAT}.{}.{}.{}", self.pin, self.id, self.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a Secret remembers of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The token's id.
    pub id: String,
    /// Hash of its secret.
    pub hash: String,
    /// What it lets a board join as.
    pub role: Role,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: i64,
    /// The key that has used it.
    pub used_by: Option<String>,
    /// The board that has used it.
    pub board: Option<String>,
}

impl Remembered {
    /// Reads a Secret; `None` when it is not a token's.
    pub fn read(secret: &Object) -> Option<Remembered> {
        let name = secret["metadata"]["name"].as_str()?;
        if secret["type"] != TOKEN_TYPE {
            return None;
        }
        let entry = |key: &str| {
            let encoded = secret["data"][key].as_str()?;
            let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
            String::from_utf8(bytes).ok()
        };
        Some(Remembered {
            id: name.strip_prefix(TOKEN_PREFIX)?.to_owned(),
            hash: entry("hash")?,
            role: Role::parse(&entry("role")?)?,
            expires_ms: time::parse(&entry("expiration")?)?,
            used_by: entry("used-by"),
            board: entry("board"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_printing_and_nothing_else_passes() {
        let token = Token::create(&"p".repeat(PIN_CHARS)).unwrap();
        let text = token.to_string();
        assert_eq!(Token::parse(&format!(" {text}\n")), Ok(token.clone()));
        for end in 0..text.len() {
            let error = Token::parse(&text[..end]).unwrap_err();
            let wanted = if end == 0 { TokenError::Foreign } else { TokenError::Truncated };
            assert_eq!(error, wanted, "{end}");
        }
        assert_eq!(Token::parse("K10abc::server:xyz"), Err(TokenError::Foreign));
        assert_eq!(Token::parse(&format!("{text}x")), Err(TokenError::Damaged));
        assert_eq!(Token::parse(&format!("{text}.x")), Err(TokenError::Damaged));
        assert_eq!(Token::parse(&text.replace("pp.", "p/.")), Err(TokenError::Damaged));
        let line = TokenError::Truncated.to_string();
        assert!(!line.contains('\n') && !format!("{token:?}").contains(&token.secret));
    }

    #[test]
    fn a_secret_remembers_no_secret() {
        let token = Token::create(&"p".repeat(PIN_CHARS)).unwrap();
        let object = token.object(Role::Agent, 1_800_000_000_000);
        assert!(!object.to_string().contains(&token.secret));
        assert_eq!(object["stringData"]["hash"], token.hash());
        assert_eq!(Remembered::read(&object), None, "what is stored has data, not stringData");
    }
}
