//! Tokens that continue a list: the revision it is read at and the key it has reached. Clients
//! treat them as opaque; ours are Kubernetes' shape so that tools which peek find what they expect.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edge_api::status::Status;
use edge_store::Revision;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: Revision,
    start: String,
}

const VERSION: &str = "meta.k8s.io/v1";

/// Makes the token that continues after `key` at `revision`.
pub(crate) fn encode(revision: Revision, key: &str) -> String {
    let token = Token { v: VERSION.to_owned(), rv: revision, start: format!("{key}\0") };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

/// Reads a token: the revision, and the key after which to go on. The key must be below `prefix`.
pub(crate) fn decode(token: &str, prefix: &str) -> Result<(Revision, String), Status> {
    let invalid = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
    let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('='));
    let bytes = bytes.map_err(|_| invalid("it is not base64"))?;
    let token: Token = serde_json::from_slice(&bytes).map_err(|_| invalid("it is not a token"))?;
    if token.v != VERSION || token.rv == 0 {
        return Err(invalid("server does not recognize this encoded version"));
    }
    let key = token.start.strip_suffix('\0').ok_or_else(|| invalid("it has no start"))?;
    if !key.starts_with(prefix) {
        return Err(invalid("it is for another list"));
    }
    Ok((token.rv, key.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_forgeries_do_not() {
        let token = encode(7, "pods/default/a");
        assert_eq!(decode(&token, "pods/default/").unwrap(), (7, "pods/default/a".to_owned()));
        assert!(decode(&token, "secrets/").is_err());
        assert!(decode("???", "pods/").is_err());
        assert!(decode("e30", "pods/").is_err());
    }
}
