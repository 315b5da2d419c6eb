//! Tokens of a pod's ServiceAccount in its projected volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use edge_api::k8s::api::core::v1::{PodSpec, ServiceAccountTokenProjection};

use super::Scene;
use super::atomic::{File, Files, is_safe};

/// Seconds that a token is asked for when a volume says nothing.
const USUAL: i64 = 3600;
/// The file's mode where the pod says whose its files are.
const OWNERS: u32 = 0o600;

/// A token that a volume wants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenWanted {
    /// For whom; empty for the API itself.
    pub audience: String,
    /// For how many seconds.
    pub seconds: i64,
}

impl TokenWanted {
    fn of(source: &ServiceAccountTokenProjection) -> TokenWanted {
        TokenWanted {
            audience: source.audience.clone().unwrap_or_default(),
            seconds: source.expiration_seconds.unwrap_or(USUAL),
        }
    }
}

/// A token, which shows itself to nobody who prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token.
    pub fn new(token: &str) -> Token {
        Token(token.to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Tokens by what they were asked for.
pub type Tokens = BTreeMap<TokenWanted, Token>;

/// The tokens that a pod's volumes want.
pub fn tokens(spec: &PodSpec) -> Vec<TokenWanted> {
    let volumes = spec.volumes.iter().flatten();
    let sources = volumes.filter_map(|v| v.projected.as_ref()).flat_map(|p| p.sources.iter());
    let wanted = sources.flatten().filter_map(|source| source.service_account_token.as_ref());
    wanted.map(TokenWanted::of).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Adds the file of a token. One that could not be had stays as it stands in `dir`, if it does: a
/// board that is cut off keeps its pods running with what they have.
pub(super) fn add(
    source: &ServiceAccountTokenProjection,
    dir: &Path,
    mode: u32,
    scene: &Scene<'_>,
    files: &mut Files,
) {
    let content = match scene.tokens.get(&TokenWanted::of(source)) {
        Some(Token(token)) => Some(token.clone().into_bytes()),
        None if is_safe(&source.path) => std::fs::read(dir.join(&source.path)).ok(),
        None => None,
    };
    let Some(content) = content else { return };
    let owner = user(scene.spec);
    // As in Kubernetes: whoever the pod runs as can read it, and nobody else in the pod.
    let mode = if owner.is_some() || scene.fs_group().is_some() { OWNERS } else { mode };
    files.insert(source.path.clone(), File { content, mode, owner });
}

/// The user that all containers of a pod run as, if they say so and agree.
fn user(spec: &PodSpec) -> Option<u32> {
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mut users = containers.map(|container| {
        container.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod)
    });
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(spec: Value) -> PodSpec {
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn each_token_is_asked_for_once() {
        let token = |source: Value| json!({ "serviceAccountToken": source });
        let spec = spec(json!({ "containers": [], "volumes": [
            { "name": "a", "projected": { "sources": [
                token(json!({ "path": "t" })), token(json!({ "path": "u" })),
                { "configMap": { "name": "x" } } ] } },
            { "name": "b", "projected": { "sources": [
                token(json!({ "path": "v", "audience": "vault", "expirationSeconds": 600 })) ] } },
        ] }));
        let wanted = |audience: &str, seconds| TokenWanted { audience: audience.into(), seconds };
        assert_eq!(tokens(&spec), [wanted("", 3600), wanted("vault", 600)]);
        assert!(!format!("{:?}", Token::new("secret")).contains("secret"));
    }

    #[test]
    fn a_file_belongs_to_a_user_on_whom_all_agree() {
        let of = |pod: Value, one: Value, two: Value| {
            let context = |user: Value| json!({ "runAsUser": user });
            user(&spec(json!({ "securityContext": context(pod), "containers": [
                { "name": "a", "securityContext": context(one) },
                { "name": "b", "securityContext": context(two) } ] })))
        };
        let none = Value::Null;
        assert_eq!(of(json!(7), none.clone(), none.clone()), Some(7));
        assert_eq!(of(json!(7), json!(8), json!(8)), Some(8));
        assert_eq!(of(json!(7), json!(8), none.clone()), None);
        assert_eq!(of(none.clone(), json!(8), none.clone()), None);
        assert_eq!(of(none.clone(), none.clone(), none), None);
    }
}
