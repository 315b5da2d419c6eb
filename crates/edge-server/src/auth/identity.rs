//! Who a request speaks for: the common name and the organizations of the client's certificate,
//! whoever a server of this cluster says that it passes a request on for, or nobody in particular.

use crate::pki::{CertFacts, KeyHash};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::collections::BTreeMap;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The group of the cluster's servers, who may speak for others.
pub const SERVERS: &str = "edged:servers";
const REMOTE_USER: HeaderName = HeaderName::from_static("x-remote-user");
const REMOTE_GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const REMOTE_KEY: HeaderName = HeaderName::from_static("x-remote-extra-edged-key");

/// A user and the groups they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name.
    pub user: String,
    /// The groups.
    pub groups: Vec<String>,
    /// The uid, of those that have one.
    pub(crate) uid: String,
    /// What else is known of them.
    pub(crate) extra: BTreeMap<String, Vec<String>>,
    /// The key that was proven, if a certificate was shown.
    pub(crate) key: Option<KeyHash>,
    /// The server's board that made this credential for a use of its own, such as its person's.
    pub(crate) by: Option<KeyHash>,
    /// The board whose certificate was shown after its time. It may ask for another, and nothing
    /// else.
    pub(crate) lapsed: Option<String>,
    /// What whoever shows a certificate after its time is answered.
    pub(crate) over: Option<String>,
}

impl Identity {
    fn of(user: String, groups: Vec<String>) -> Identity {
        let (uid, extra) = Default::default();
        Identity { user, groups, uid, extra, key: None, by: None, lapsed: None, over: None }
    }

    /// A client that showed no certificate.
    pub fn anonymous() -> Identity {
        let groups = vec!["system:unauthenticated".to_owned()];
        Identity::of("system:anonymous".to_owned(), groups)
    }

    /// A ServiceAccount, or whoever else has a uid and what goes with it.
    pub(crate) fn account(
        user: String,
        groups: Vec<String>,
        uid: String,
        extra: BTreeMap<String, Vec<String>>,
    ) -> Identity {
        Identity { uid, extra, ..Identity::of(user, groups) }
    }

    /// A part of the control plane itself, such as `kube-scheduler`.
    pub fn system(part: &str) -> Identity {
        let groups = vec!["system:masters".to_owned(), "system:authenticated".to_owned()];
        Identity::of(format!("system:{part}"), groups)
    }

    /// The subject of a client certificate that the TLS layer has verified, but for its time: `now`
    /// is the cluster's, in seconds since 1970.
    pub(crate) fn from_certificate(der: &[u8], now: u64) -> Option<Identity> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let facts = CertFacts::read_der(der)?;
        let organizations = cert.subject().iter_organization();
        let mut groups: Vec<String> =
            organizations.filter_map(|o| o.as_str().ok().map(str::to_owned)).collect();
        groups.push("system:authenticated".to_owned());
        let unit = cert.subject().iter_organizational_unit().next();
        let by = unit.and_then(|unit| KeyHash::parse(unit.as_str().ok()?));
        let identity = Identity { key: Some(facts.key), by, ..Identity::of(facts.user, groups) };
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        if (facts.not_before..=facts.not_after).contains(&now) {
            return Some(identity);
        }
        let lapsed = identity.node().map(str::to_owned);
        let over = Some(over(&identity, facts.not_after));
        Some(Identity { lapsed, over, key: identity.key, ..Identity::anonymous() })
    }

    /// Who a request speaks for that came from this identity with these headers: a server of this
    /// cluster may pass on what others asked it; nobody else's word counts.
    pub(crate) fn speaking(&self, headers: &HeaderMap) -> Option<Identity> {
        if !self.in_group(SERVERS) {
            return None;
        }
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        let user = headers.get(REMOTE_USER).and_then(text)?;
        let groups = headers.get_all(REMOTE_GROUP).iter().filter_map(text).collect();
        let key = headers.get(REMOTE_KEY).and_then(|value| KeyHash::parse(value.to_str().ok()?));
        Some(Identity { key, ..Identity::of(user, groups) })
    }

    /// Puts this identity on a request that is passed on to another server, in place of whatever
    /// the client wrote there.
    pub(crate) fn pass_on(&self, headers: &mut HeaderMap) {
        for name in [REMOTE_USER, REMOTE_GROUP, REMOTE_KEY] {
            headers.remove(name);
        }
        let value = |text: &str| HeaderValue::from_str(text).ok();
        if let Some(user) = value(&self.user) {
            headers.insert(REMOTE_USER, user);
        }
        for group in self.groups.iter().filter_map(|group| value(group)) {
            headers.append(REMOTE_GROUP, group);
        }
        if let Some(key) = self.key.as_ref().and_then(|key| value(key.as_str())) {
            headers.insert(REMOTE_KEY, key);
        }
    }

    /// Whether the user belongs to this group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The board that this identity is the agent of.
    pub fn node(&self) -> Option<&str> {
        let name = self.user.strip_prefix("system:node:")?;
        self.in_group("system:nodes").then_some(name)
    }

    /// The board, also when its certificate's time is over.
    pub(crate) fn board(&self) -> Option<&str> {
        self.node().or(self.lapsed.as_deref())
    }
}

/// What is said to a certificate whose time is over, and what to do.
fn over(who: &Identity, ended: i64) -> String {
    let user = &who.user;
    let at = edge_api::time::format(ended.saturating_mul(1000));
    let then = match user.strip_prefix("system:").is_some() {
        true => crate::join::RENEWS_ITSELF,
        false => {
            "take a fresh admin.kubeconfig from the data directory of a server \
             (/var/lib/edged/admin.kubeconfig), which renews it by itself"
        }
    };
    format!("the certificate of {user:?} ended at {at}: {then}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_speak_for_others() {
        let mut headers = HeaderMap::new();
        let mut who = Identity::of("system:node:b".into(), vec!["system:nodes".into()]);
        who.key = KeyHash::parse(&"a".repeat(64));
        who.pass_on(&mut headers);
        let server = Identity::of("system:server:s".into(), vec![SERVERS.into()]);
        assert_eq!(server.speaking(&headers), Some(who.clone()));
        assert_eq!(server.speaking(&HeaderMap::new()), None);
        for other in [Identity::anonymous(), who, Identity::system("x")] {
            assert_eq!(other.speaking(&headers), None, "{}", other.user);
        }
        // What a client wrote there is not passed on.
        Identity::anonymous().pass_on(&mut headers);
        assert_eq!(server.speaking(&headers), Some(Identity::anonymous()));
    }
}
