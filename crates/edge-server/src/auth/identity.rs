//! Who a request speaks for: the common name and the organizations of the client's certificate,
//! or nobody in particular.

use x509_parser::prelude::{FromDer, X509Certificate};

/// A user and the groups they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name.
    pub user: String,
    /// The groups.
    pub groups: Vec<String>,
}

impl Identity {
    /// A client that showed no certificate.
    pub fn anonymous() -> Identity {
        Identity {
            user: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
        }
    }

    /// A part of the control plane itself, such as `kube-scheduler`.
    pub fn system(part: &str) -> Identity {
        Identity {
            user: format!("system:{part}"),
            groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
        }
    }

    /// The subject of a client certificate that the TLS layer has verified.
    pub(crate) fn from_certificate(der: &[u8]) -> Option<Identity> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let user = cert.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
        let organizations = cert.subject().iter_organization();
        let mut groups: Vec<String> =
            organizations.filter_map(|o| o.as_str().ok().map(str::to_owned)).collect();
        groups.push("system:authenticated".to_owned());
        Some(Identity { user, groups })
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
}
