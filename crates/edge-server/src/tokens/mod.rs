//! Tokens of ServiceAccounts: issued on request, bound to what they are for, and checked with every
//! request that carries one. All servers hold the same keys, in the replicated store beside the
//! objects and under a name that no path of the API leads to ([`KEYS`]), so that a token outlives
//! the server that issued it.

mod bound;
mod claims;
mod jws;
mod request;

pub(crate) use request::Wanted;

use crate::api::Api;
use crate::auth::Identity;
use claims::Claims;
use edge_api::status::Status;
use edge_core::clock::ClusterClock;
use edge_store::{Expect, Op, Revision};
use jws::{Forged, Ring};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the keys are in the store. It is no kind's, so nothing of the API shows or changes it.
const KEYS: &str = "edged.tokens//keys";

/// The keys as they were at a revision.
type AsOf = (Revision, Arc<Ring>);

/// Issues tokens and checks them.
#[derive(Clone)]
pub(crate) struct Tokens {
    api: Api,
    clock: ClusterClock,
    issuer: Arc<str>,
    /// The keys as they were read last, and the revision that they are of.
    ring: Arc<Mutex<Option<AsOf>>>,
}

/// Whose a token is.
#[derive(Debug)]
pub(crate) struct Owner {
    /// Who a request with it speaks for.
    pub(crate) who: Identity,
    /// For whom it is, of those that were asked about.
    pub(crate) audiences: Vec<String>,
}

/// Why a token does not count.
#[derive(Debug)]
struct Refused {
    why: String,
    /// A server that is behind may not have what the token is bound to yet.
    missing: bool,
}

impl Refused {
    fn because(why: impl Into<String>) -> Refused {
        Refused { why: why.into(), missing: false }
    }
}

/// Makes the cluster's keys if it has none yet.
pub(crate) async fn furnish(api: &Api) -> Result<(), Status> {
    if api.entry(KEYS)?.is_some() {
        return Ok(());
    }
    let value = Ring::found().map_err(Status::internal)?.into();
    let op = Op::Put { key: KEYS.to_owned(), value, stamp: None, expect: Expect::Absent };
    match api.propose(vec![op]).await {
        // Whoever was first has made them.
        Ok(_) | Err(crate::api::CommitError::Conflict) => Ok(()),
        Err(crate::api::CommitError::Status(status)) => Err(status),
    }
}

impl Tokens {
    /// Tokens of the cluster behind `api`, which calls itself `domain`.
    pub(crate) fn new(api: Api, clock: ClusterClock, domain: &str) -> Tokens {
        let issuer = format!("https://kubernetes.default.svc.{domain}").into();
        Tokens { api, clock, issuer, ring: Arc::default() }
    }

    /// For whom tokens are that name nobody: this API.
    pub(crate) fn audience(&self) -> String {
        self.issuer.to_string()
    }

    fn now(&self) -> i64 {
        self.clock.now_ms() / 1000
    }

    fn ring(&self) -> Result<Arc<Ring>, Status> {
        let entry = self.api.entry(KEYS)?;
        let entry = entry.ok_or_else(|| {
            Status::unavailable("this cluster has no keys for tokens yet; ask again soon")
        })?;
        let mut known = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((revision, ring)) = &*known
            && *revision == entry.revision
        {
            return Ok(ring.clone());
        }
        let read = Ring::read(&entry.value);
        let ring = read.map_err(|why| Status::internal(format!("keys of tokens: {why}")))?;
        let ring = Arc::new(ring);
        *known = Some((entry.revision, ring.clone()));
        Ok(ring)
    }

    /// Whose a token is that is for the API itself.
    ///
    /// # Errors
    /// 401 for a token that does not count; 503 when this server cannot find that out.
    pub(crate) async fn authenticate(&self, token: &str) -> Result<Identity, Status> {
        let audiences = [self.audience()];
        self.review(token, &audiences).await?.map(|owner| owner.who).map_err(|why| {
            tracing::debug!("a token is refused: {why}");
            Status::unauthorized()
        })
    }

    /// Whose a token is that is for one of `audiences`; else why it does not count.
    ///
    /// # Errors
    /// When this server cannot find that out.
    pub(crate) async fn review(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Result<Owner, String>, Status> {
        let leadership = &self.api.inner.leadership;
        match self.judge(token, audiences)? {
            // What it is bound to may be so new that only the leader has it.
            Err(refused) if refused.missing && !leadership.leads() => {
                leadership.barrier(&self.api).await?;
                Ok(self.judge(token, audiences)?.map_err(|refused| refused.why))
            }
            judged => Ok(judged.map_err(|refused| refused.why)),
        }
    }

    fn judge(&self, token: &str, audiences: &[String]) -> Result<Result<Owner, Refused>, Status> {
        let opened = self.ring()?.open(token);
        Ok(opened.map_err(Refused::of).and_then(|claims| {
            let claims: Claims = serde_json::from_slice(&claims)
                .map_err(|_| Refused::because("the token's claims can't be read"))?;
            let audiences = claims.judge(&self.issuer, audiences, self.now());
            let audiences = audiences.map_err(Refused::because)?;
            bound::check(&self.api, &claims.private, self.clock.now_ms())?;
            Ok(Owner { who: claims.identity(), audiences })
        }))
    }

    /// `/openid/v1/jwks`: the keys that tokens can be checked with elsewhere.
    pub(crate) fn key_set(&self) -> Result<Value, Status> {
        Ok(self.ring()?.public())
    }

    /// `/.well-known/openid-configuration`
    pub(crate) fn openid(&self) -> Value {
        json!({
            "issuer": &*self.issuer,
            "jwks_uri": format!("{}/openid/v1/jwks", self.issuer),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}

impl Refused {
    fn of(forged: Forged) -> Refused {
        Refused::because(match forged {
            Forged::Shape => "it is no signed token",
            Forged::Header => "it is not signed with ES256, or wants more understood than that",
            Forged::Key => "it is signed with a key that this cluster does not have",
            Forged::Signature => "its signature is not its key's",
        })
    }
}
