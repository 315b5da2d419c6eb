//! What a token of a ServiceAccount says, in Kubernetes' words: whose it is, for whom, from when
//! till when, and which objects it is bound to.

use crate::auth::Identity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Seconds by which the clocks of the cluster's servers may differ: what one of them has just
/// issued is not "not yet valid" at another.
const EARLY: i64 = edge_core::clock::TOLERANCE_MS / 1000;
/// Seconds for which a token still counts after its time, as in Kubernetes.
const LATE: i64 = 60;

/// An object by name and uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    /// Its name.
    pub(crate) name: String,
    /// Its uid; empty for a Node that is not there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
}

/// The part that is Kubernetes' own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Private {
    /// The account's namespace, and that of the pod or Secret.
    pub(crate) namespace: String,
    /// The board of the pod, or the board that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Named>,
    /// The pod that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Named>,
    /// The Secret that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Named>,
    /// The account.
    pub(crate) serviceaccount: Named,
    /// From when on whoever uses it should have asked for another, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warnafter: Option<i64>,
}

/// All of a token's claims; times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// For whom it is.
    pub(crate) aud: Vec<String>,
    /// Till when.
    pub(crate) exp: i64,
    /// When it was issued.
    pub(crate) iat: i64,
    /// By whom.
    pub(crate) iss: String,
    /// Its own id.
    pub(crate) jti: String,
    /// Kubernetes' part.
    #[serde(rename = "kubernetes.io")]
    pub(crate) private: Private,
    /// From when.
    pub(crate) nbf: i64,
    /// Whose it is: `system:serviceaccount:<namespace>:<name>`.
    pub(crate) sub: String,
}

/// The user that an account is.
pub(crate) fn user(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

impl Claims {
    /// What is wrong with the claims themselves at `now`, in seconds since 1970; else those of
    /// `audiences` that the token is for.
    pub(crate) fn judge(
        &self,
        issuer: &str,
        audiences: &[String],
        now: i64,
    ) -> Result<Vec<String>, String> {
        let Private { namespace, serviceaccount, .. } = &self.private;
        if self.iss != issuer {
            return Err("the token is of another issuer".to_owned());
        }
        if self.sub != user(namespace, &serviceaccount.name) {
            return Err("the token's subject is not its account".to_owned());
        }
        if now.saturating_add(EARLY) < self.nbf {
            return Err("the token is not valid yet".to_owned());
        }
        if now > self.exp.saturating_add(LATE) {
            return Err("the token has expired".to_owned());
        }
        let common: Vec<String> =
            audiences.iter().filter(|wanted| self.aud.contains(wanted)).cloned().collect();
        if common.is_empty() {
            return Err(format!(
                "token audiences {:?} is invalid for the target audiences {audiences:?}",
                self.aud
            ));
        }
        Ok(common)
    }

    /// Who a request with this token speaks for.
    pub(crate) fn identity(&self) -> Identity {
        let Private { namespace, node, pod, serviceaccount, .. } = &self.private;
        let groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ];
        let mut extra = BTreeMap::new();
        let mut add = |what: &str, value: String| {
            extra.insert(format!("authentication.kubernetes.io/{what}"), vec![value]);
        };
        add("credential-id", format!("JTI={}", self.jti));
        for (what, named) in [("node", node), ("pod", pod)] {
            if let Some(named) = named {
                add(&format!("{what}-name"), named.name.clone());
                if !named.uid.is_empty() {
                    add(&format!("{what}-uid"), named.uid.clone());
                }
            }
        }
        Identity::account(self.sub.clone(), groups, serviceaccount.uid.clone(), extra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims() -> Claims {
        let named = |name: &str, uid: &str| Named { name: name.into(), uid: uid.into() };
        Claims {
            aud: vec!["https://kubernetes.default.svc.cluster.local".into()],
            exp: 1_800_003_607,
            iat: 1_800_000_000,
            iss: "https://kubernetes.default.svc.cluster.local".into(),
            jti: "j".into(),
            private: Private {
                namespace: "ns".into(),
                node: Some(named("b1", "u3")),
                pod: Some(named("p", "u2")),
                secret: None,
                serviceaccount: named("robot", "u1"),
                warnafter: Some(1_800_003_607),
            },
            nbf: 1_800_000_000,
            sub: "system:serviceaccount:ns:robot".into(),
        }
    }

    #[test]
    fn claims_are_kubernetes_claims() {
        let want = json!({
            "aud": ["https://kubernetes.default.svc.cluster.local"],
            "exp": 1_800_003_607_i64, "iat": 1_800_000_000, "nbf": 1_800_000_000,
            "iss": "https://kubernetes.default.svc.cluster.local",
            "jti": "j",
            "kubernetes.io": {
                "namespace": "ns",
                "node": { "name": "b1", "uid": "u3" },
                "pod": { "name": "p", "uid": "u2" },
                "serviceaccount": { "name": "robot", "uid": "u1" },
                "warnafter": 1_800_003_607_i64,
            },
            "sub": "system:serviceaccount:ns:robot",
        });
        assert_eq!(serde_json::to_value(claims()).unwrap(), want);
        let who = claims().identity();
        assert_eq!(who.groups[1], "system:serviceaccounts:ns");
        assert_eq!(who.extra["authentication.kubernetes.io/pod-uid"], ["u2"]);
        assert_eq!((who.uid.as_str(), who.node()), ("u1", None));
    }

    #[test]
    fn time_issuer_audience_and_subject_count() {
        let issuer = "https://kubernetes.default.svc.cluster.local";
        let api = vec![issuer.to_owned()];
        let at = |now: i64| claims().judge(issuer, &api, now);
        assert_eq!(at(1_800_000_000), Ok(api.clone()));
        assert_eq!(at(1_800_000_000 - EARLY), Ok(api.clone()));
        assert!(at(1_800_000_000 - EARLY - 1).unwrap_err().contains("not valid yet"));
        assert!(at(0).is_err(), "a clock of 1970 judges nothing valid");
        assert_eq!(at(1_800_003_607 + LATE), Ok(api.clone()));
        assert!(at(1_800_003_607 + LATE + 1).unwrap_err().contains("expired"));
        let now = 1_800_000_100;
        assert!(claims().judge("https://other", &api, now).is_err());
        let vault = vec!["vault".to_owned()];
        assert!(claims().judge(issuer, &vault, now).unwrap_err().contains("audiences"));
        let mut for_both = claims();
        for_both.aud.push("vault".into());
        assert_eq!(for_both.judge(issuer, &vault, now), Ok(vault));
        let mut stolen = claims();
        stolen.sub = "system:serviceaccount:ns:admin".into();
        assert!(stolen.judge(issuer, &api, now).is_err());
    }
}
