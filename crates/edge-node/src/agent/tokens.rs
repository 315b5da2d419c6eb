//! Tokens of this board's pods: asked for when a pod's volumes are set up, renewed when four fifths
//! of their life are over, and held in memory and in the pods' tmpfs only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use edge_api::kinds::SERVICE_ACCOUNT;
use edge_client::{Client, Error};
use edge_core::clock::TOLERANCE_MS;
use edge_core::pod::Desired;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::clock::now_ms;
use crate::volumes::{Token, TokenWanted, Tokens};

/// A token is renewed after a day at the latest.
const OLDEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Boards and pods that began together do not renew together: up to so much earlier.
const SPREAD_MS: u64 = 10_000;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// A token that could not be had, or renewed, is asked for again after so long …
const AGAIN: Duration = Duration::from_secs(10);
/// … and after so long where a server has said no.
const REFUSED: Duration = Duration::from_secs(60);

/// How often the board's clock is compared with the steady one. When it has jumped, so may the
/// servers' have, and what was issued before is long over.
const LOOK: Duration = Duration::from_secs(10);

/// Why there is no token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoToken {
    /// A server says no.
    Refused(String),
    /// No server can say anything.
    Unreachable(String),
}

impl NoToken {
    /// How long to wait before asking again.
    fn pause(&self) -> Duration {
        match self {
            NoToken::Refused(_) => REFUSED,
            NoToken::Unreachable(_) => AGAIN,
        }
    }
}

struct Kept {
    token: Token,
    renew_at: Instant,
}

#[derive(Default)]
struct Held {
    tokens: BTreeMap<TokenWanted, Kept>,
    alarm: Option<JoinHandle<()>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(alarm) = &self.alarm {
            alarm.abort();
        }
    }
}

struct Inner {
    client: Client,
    held: Mutex<BTreeMap<String, Held>>,
    changed: mpsc::Sender<String>,
}

/// The one way to tokens; cheap to clone.
#[derive(Clone)]
pub(crate) struct TokenBox(Arc<Inner>);

impl TokenBox {
    /// `changed` gets the uid of each pod whose tokens are to be renewed.
    pub(crate) fn new(client: Client, changed: mpsc::Sender<String>) -> TokenBox {
        let inner = Arc::new(Inner { client, held: Mutex::default(), changed });
        tokio::spawn(follow_clock(Arc::downgrade(&inner)));
        TokenBox(inner)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tokens that a pod's volumes want. One that cannot be renewed goes on being what it is;
    /// when one is missing altogether, why that is stands beside those that there are.
    pub(crate) async fn get(
        &self,
        pod: &Desired,
        wanted: &[TokenWanted],
    ) -> (Tokens, Option<NoToken>) {
        let (mut out, mut missing) = (Tokens::new(), None);
        if wanted.is_empty() {
            return (out, missing);
        }
        let mut again_at = None;
        for one in wanted {
            let kept = self.kept(pod.uid(), one);
            if let Some((token, renew_at)) = &kept
                && Instant::now() < *renew_at
            {
                out.insert(one.clone(), token.clone());
                continue;
            }
            match self.ask(pod, one).await {
                Ok(token) => {
                    let renew_at = Instant::now() + life(one.seconds, pod.uid());
                    let kept = Kept { token: token.clone(), renew_at };
                    let mut held = self.held();
                    let tokens = &mut held.entry(pod.uid().to_owned()).or_default().tokens;
                    tokens.insert(one.clone(), kept);
                    out.insert(one.clone(), token);
                }
                Err(why) => {
                    again_at = Some(Instant::now() + why.pause());
                    match kept {
                        Some((token, _)) => {
                            tracing::debug!("a token of pod {} stays: {why:?}", pod.label());
                            out.insert(one.clone(), token);
                        }
                        None => missing = Some(why),
                    }
                }
            }
        }
        self.set_alarm(pod.uid(), again_at);
        (out, missing)
    }

    fn kept(&self, uid: &str, wanted: &TokenWanted) -> Option<(Token, Instant)> {
        let held = self.held();
        let kept = held.get(uid)?.tokens.get(wanted)?;
        Some((kept.token.clone(), kept.renew_at))
    }

    /// Has the pod's tokens looked at when the first of them is to be renewed.
    fn set_alarm(&self, uid: &str, again_at: Option<Instant>) {
        let mut held = self.held();
        let entry = held.entry(uid.to_owned()).or_default();
        let first = entry.tokens.values().map(|kept| kept.renew_at).min();
        let Some(at) = again_at.or(first) else { return };
        let (changed, uid) = (self.0.changed.clone(), uid.to_owned());
        let alarm = tokio::spawn(async move {
            sleep_until(at).await;
            let _ = changed.send(uid).await;
        });
        if let Some(before) = entry.alarm.replace(alarm) {
            before.abort();
        }
    }

    /// The pod shows no tokens any more.
    pub(crate) fn release(&self, uid: &str) {
        self.held().remove(uid);
    }

    async fn ask(&self, pod: &Desired, wanted: &TokenWanted) -> Result<Token, NoToken> {
        let mut spec = json!({
            "expirationSeconds": wanted.seconds,
            "boundObjectRef":
                { "apiVersion": "v1", "kind": "Pod", "name": pod.name(), "uid": pod.uid() },
        });
        if !wanted.audience.is_empty() {
            spec["audiences"] = json!([wanted.audience]);
        }
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {},
            "spec": spec,
        });
        let account = pod.spec().service_account_name.as_deref().unwrap_or("default");
        let (client, namespace) = (&self.0.client, pod.namespace());
        let asked = client.create_sub(SERVICE_ACCOUNT, namespace, account, "token", &request);
        let why = |why: String| format!("failed to fetch token: {why}");
        match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => match answer["status"]["token"].as_str() {
                Some(token) => Ok(Token::new(token)),
                None => Err(NoToken::Refused(why("the server's answer has none".into()))),
            },
            Ok(Err(error)) if is_away(&error) => Err(NoToken::Unreachable(why(error.to_string()))),
            Ok(Err(error)) => Err(NoToken::Refused(why(error.to_string()))),
            Err(_) => Err(NoToken::Unreachable(why("no server answers".into()))),
        }
    }
}

/// Has all tokens renewed when the board's clock jumps; ends with the box.
async fn follow_clock(held: Weak<Inner>) {
    let began = Instant::now();
    let apart = || now_ms() - i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    let mut before = apart();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(inner) = held.upgrade() else { return };
        if (apart() - before).abs() > TOLERANCE_MS {
            before = apart();
            inner.renew_all().await;
        }
    }
}

impl Inner {
    /// Counts every token as due, and has the pods ask for others.
    async fn renew_all(&self) {
        let pods: Vec<String> = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            for kept in held.values_mut().flat_map(|held| held.tokens.values_mut()) {
                kept.renew_at = Instant::now();
            }
            held.iter()
                .filter(|(_, held)| !held.tokens.is_empty())
                .map(|(uid, _)| uid.clone())
                .collect()
        };
        for pod in pods {
            let _ = self.changed.send(pod).await;
        }
    }
}

/// Whether nobody could say anything: no server, or none that a leader stands behind.
fn is_away(error: &Error) -> bool {
    matches!(error.code(), 0 | 503 | 504)
}

/// How long a token is used that was asked for so many seconds.
fn life(seconds: i64, uid: &str) -> Duration {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    let spread = uid.bytes().fold(0, |sum, byte| sum * 31 % SPREAD_MS + u64::from(byte));
    let life = Duration::from_millis(seconds * 800).min(OLDEST);
    life.saturating_sub(Duration::from_millis(spread % SPREAD_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_its_life_is_left_when_it_is_renewed() {
        let usual = life(3607, "a-uid");
        assert!(
            usual > Duration::from_secs(2870) && usual <= Duration::from_secs(2886),
            "{usual:?}"
        );
        assert!(life(86_400 * 365, "x") <= OLDEST);
        assert_ne!(life(3607, "8a1"), life(3607, "9b2"));
    }

    #[test]
    fn an_answer_is_an_answer_whatever_it_says() {
        let status = |code| {
            Error::Status(Box::new(edge_api::status::Status {
                code,
                ..edge_api::status::Status::unauthorized()
            }))
        };
        assert!(is_away(&status(503)) && is_away(&status(504)));
        assert!(!is_away(&status(403)) && !is_away(&status(404)));
    }
}
