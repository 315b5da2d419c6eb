//! A conversation with one endpoint about one repository: it answers challenges, keeps the token
//! that it was given, and turns refusals into the errors that people know.

use super::super::digest::Digest;
use super::super::error::ImageError;
use super::super::manifest::{ACCEPT, DOCUMENT_MAX, not_json};
use super::auth::RegistryAuth;
use super::challenge::Challenge;
use super::config::{Endpoint, Scheme};
use super::wire::{Ask, Wire};
use bytes::Bytes;
use http::header::{
    ACCEPT as ACCEPT_HEADER, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE,
};
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Mutex;

/// Token answers and error texts are small.
const ANSWER_MAX: u64 = 256 * 1024;
const DIGEST_HEADER: &str = "docker-content-digest";
const CLIENT_ID: &str = "edged";

/// See the module.
pub(super) struct Session {
    pub(super) wire: Arc<Wire>,
    pub(super) endpoint: Endpoint,
    repository: String,
    /// The whole reference, for messages.
    pub(super) reference: String,
    credentials: Option<RegistryAuth>,
    authorization: Mutex<Option<HeaderValue>>,
    /// A secret was sent on the way.
    secret: AtomicBool,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
}

impl Session {
    pub(super) fn new(
        wire: Arc<Wire>,
        endpoint: Endpoint,
        repository: &str,
        reference: &str,
        credentials: Option<RegistryAuth>,
    ) -> Session {
        Session {
            wire,
            endpoint,
            repository: repository.to_string(),
            reference: reference.to_string(),
            credentials,
            authorization: Mutex::new(None),
            secret: AtomicBool::new(false),
        }
    }

    /// True once a password or the like has been sent.
    pub(super) fn used_secret(&self) -> bool {
        self.secret.load(Ordering::Relaxed)
    }

    fn host(&self) -> &str {
        &self.endpoint.authority
    }

    fn path(&self, rest: &str) -> String {
        let path = format!("/v2/{}/{rest}", self.repository);
        match &self.endpoint.mirrors {
            None => path,
            Some(registry) => {
                format!("{path}?ns={}", utf8_percent_encode(registry, NON_ALPHANUMERIC))
            }
        }
    }

    /// The digest that the registry has for a tag, without fetching anything; `None` when it won't
    /// say, which is no error.
    pub(super) async fn head(&self, target: &str) -> Result<Option<Digest>, ImageError> {
        let answer = self.ask(Method::HEAD, &self.path(&format!("manifests/{target}"))).await?;
        if !answer.status().is_success() {
            return Ok(None);
        }
        Ok(stated_digest(&answer))
    }

    /// A manifest or index, checked against the digest that was asked for or stated.
    pub(super) async fn manifest(&self, target: &str) -> Result<(Digest, Vec<u8>), ImageError> {
        let what = format!("manifest of {}", self.reference);
        let answer = self.ask(Method::GET, &self.path(&format!("manifests/{target}"))).await?;
        let answer = self.succeed(answer, &what).await?;
        let expected = Digest::parse(target).ok().or_else(|| stated_digest(&answer));
        let bytes = self.body(answer, &what).await?;
        let digest = Digest::of(&bytes);
        match expected {
            Some(expected) if expected != digest => Err(ImageError::Corrupt {
                what: format!("{what} from {}", self.host()),
                detail: format!("its digest is {digest}, not {expected}"),
            }),
            _ => Ok((digest, bytes)),
        }
    }

    /// A small blob, whole.
    pub(super) async fn document(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let what = format!("configuration of {}", self.reference);
        let answer = self.ask(Method::GET, &self.path(&format!("blobs/{digest}"))).await?;
        let answer = self.succeed(answer, &what).await?;
        let bytes = self.body(answer, &what).await?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(ImageError::Corrupt {
                what: format!("{what} from {}", self.host()),
                detail: format!("its digest is {found}, not {digest}"),
            });
        }
        Ok(bytes)
    }

    /// Starts a blob's download at `offset`.
    pub(super) async fn blob(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<Response<Incoming>, ImageError> {
        let mut ask = Ask::new(Method::GET);
        if offset > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={offset}-"))
        {
            ask.headers.insert(http::header::RANGE, range);
        }
        let answer = self.exchange(&self.path(&format!("blobs/{digest}")), ask).await?;
        if offset > 0 && answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(answer);
        }
        self.succeed(answer, &format!("layer {digest}")).await
    }

    async fn body(&self, answer: Response<Incoming>, what: &str) -> Result<Vec<u8>, ImageError> {
        let html = answer
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.starts_with("text/html"));
        if html {
            return Err(ImageError::malformed(
                format!("{what} from {}", self.host()),
                "it is HTML, not JSON: a proxy or a log-in page may be in the way",
            ));
        }
        self.wire.small(self.host(), what, answer.into_body(), DOCUMENT_MAX).await
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Response<Incoming>, ImageError> {
        let mut ask = Ask::new(method);
        ask.headers.insert(ACCEPT_HEADER, HeaderValue::from_static(ACCEPT));
        self.exchange(path, ask).await
    }

    /// Sends, answers a challenge, sends again.
    async fn exchange(&self, path: &str, mut ask: Ask) -> Result<Response<Incoming>, ImageError> {
        let before = self.authorization.lock().await.clone();
        if let Some(value) = &before {
            ask.headers.insert(AUTHORIZATION, value.clone());
        }
        let answer = self.wire.send(&self.endpoint, path, &ask).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let headers = answer.headers().get_all(WWW_AUTHENTICATE);
        let challenge = Challenge::best(headers.iter().filter_map(|h| h.to_str().ok()));
        let Some(challenge) = challenge else { return Ok(answer) };
        let mut current = self.authorization.lock().await;
        // Another download may have answered the challenge in the meantime.
        if *current == before {
            *current = Some(self.answer(&challenge).await?);
        }
        if let Some(value) = current.clone() {
            ask.headers.insert(AUTHORIZATION, value);
        }
        drop(current);
        self.wire.send(&self.endpoint, path, &ask).await
    }

    fn denied(&self, detail: impl Into<String>) -> ImageError {
        ImageError::Denied { reference: self.reference.clone(), detail: detail.into() }
    }

    async fn answer(&self, challenge: &Challenge) -> Result<HeaderValue, ImageError> {
        self.secret.fetch_or(self.credentials.is_some(), Ordering::Relaxed);
        let text = match challenge {
            Challenge::Basic => match &self.credentials {
                Some(credentials) => credentials.header(),
                None => return Err(self.denied(format!("{} wants a password", self.host()))),
            },
            Challenge::Bearer { realm, service, scope } => {
                let token = self.token(realm, service.as_deref(), scope.as_deref()).await?;
                format!("Bearer {token}")
            }
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| self.denied("the token can't be sent in a header"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Asks the registry's token service, anonymously or with what we have.
    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<String, ImageError> {
        let what = "token";
        let own_scope = format!("repository:{}:pull", self.repository);
        let scope = scope.unwrap_or(&own_scope);
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut query = vec![format!("scope={}", encode(scope))];
        query.extend(service.map(|service| format!("service={}", encode(service))));
        let secret = self.credentials.is_some();
        if secret && self.endpoint.scheme == Scheme::Https && !realm.starts_with("https://") {
            let detail = format!("it wants the password sent to {realm}, without TLS");
            return Err(ImageError::registry(self.host(), what, detail));
        }
        let (url, ask) = match &self.credentials {
            Some(auth) if !auth.identity_token.is_empty() => {
                query.push("grant_type=refresh_token".into());
                query.push(format!("client_id={CLIENT_ID}"));
                query.push(format!("refresh_token={}", encode(&auth.identity_token)));
                let mut ask = Ask::new(Method::POST);
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                ask.headers.insert(CONTENT_TYPE, form);
                ask.body = Bytes::from(query.join("&"));
                (realm.to_string(), ask)
            }
            other => {
                let mut ask = Ask::new(Method::GET);
                if let Some(auth) = other {
                    let mut value = HeaderValue::from_str(&auth.header())
                        .map_err(|_| self.denied("the password can't be sent in a header"))?;
                    value.set_sensitive(true);
                    ask.headers.insert(AUTHORIZATION, value);
                }
                let join = if realm.contains('?') { '&' } else { '?' };
                (format!("{realm}{join}{}", query.join("&")), ask)
            }
        };
        let answer = self.wire.follow(&url, &ask).await?;
        let answer = self.succeed(answer, what).await?;
        let bytes = self.wire.small(self.host(), what, answer.into_body(), ANSWER_MAX).await?;
        let token: Token = serde_json::from_slice(&bytes)
            .map_err(|e| ImageError::registry(self.host(), what, not_json(&bytes, &e)))?;
        token
            .token
            .or(token.access_token)
            .filter(|token| !token.is_empty())
            .ok_or_else(|| ImageError::registry(self.host(), what, "the answer holds no token"))
    }

    /// Passes a success on; of anything else it makes the right error.
    async fn succeed(
        &self,
        answer: Response<Incoming>,
        what: &str,
    ) -> Result<Response<Incoming>, ImageError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = self.wire.small(self.host(), what, answer.into_body(), ANSWER_MAX).await;
        let said = said(&text.unwrap_or_default());
        let detail = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
        Err(match status {
            StatusCode::NOT_FOUND => ImageError::NotFound {
                reference: self.reference.clone(),
                detail: format!("{} has no {what}: {detail}", self.host()),
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.denied(detail),
            _ => ImageError::registry(self.host(), what, detail),
        })
    }
}

fn stated_digest(answer: &Response<Incoming>) -> Option<Digest> {
    let stated = answer.headers().get(DIGEST_HEADER)?.to_str().ok()?;
    Digest::parse(stated.trim()).ok()
}

/// The registry's own words, if it gave any in the usual form.
fn said(body: &[u8]) -> String {
    const SHOWN_MAX: usize = 300;
    let Ok(refusal) = serde_json::from_slice::<Refusal>(body) else { return String::new() };
    let reasons = refusal.errors.into_iter().map(|reason| match reason.message {
        Some(message) if !message.is_empty() => message,
        _ => reason.code,
    });
    let joined = reasons.collect::<Vec<_>>().join("; ");
    joined.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_MAX).collect()
}
