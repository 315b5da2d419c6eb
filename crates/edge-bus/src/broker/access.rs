//! Who may do what at the embedded broker: decided by the name in the client's certificate, never
//! by what the client says of itself.

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::topics::{Topic, Topics};

/// Organization in the certificates of servers.
const SERVERS: &str = "edged:servers";

/// Organization in the certificates of agents.
const NODES: &str = "system:nodes";

/// Who a client is, by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// A server of the cluster.
    Server(String),
    /// An agent of the cluster.
    Agent(String),
}

impl Identity {
    /// Reads a client certificate (DER), whose chain TLS has verified.
    pub(crate) fn of(certificate: &[u8]) -> Option<Identity> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        let organizations: Vec<_> =
            subject.iter_organization().filter_map(|o| o.as_str().ok()).collect();
        if let Some(name) = name.strip_prefix("system:server:") {
            let member = organizations.contains(&SERVERS);
            return (member && crate::topics::valid_level(name))
                .then(|| Identity::Server(name.into()));
        }
        let name = name.strip_prefix("system:node:")?;
        let member = organizations.contains(&NODES);
        (member && crate::topics::valid_level(name)).then(|| Identity::Agent(name.into()))
    }

    /// The common name, which is the client id that it may have.
    pub(crate) fn common_name(&self) -> String {
        match self {
            Identity::Server(name) => format!("system:server:{name}"),
            Identity::Agent(name) => format!("system:node:{name}"),
        }
    }

    /// The board's name.
    pub(crate) fn name(&self) -> &str {
        let (Identity::Server(name) | Identity::Agent(name)) = self;
        name
    }

    /// The client id of its session: its common name, or that with `/` and more; one of ours if
    /// it gives none. `None`: the id belongs to somebody else.
    pub(crate) fn client_id(&self, wanted: &str, number: u64) -> Option<String> {
        let own = self.common_name();
        if wanted.is_empty() {
            return Some(format!("{own}/{number}"));
        }
        let rest = wanted.strip_prefix(own.as_str())?;
        (wanted.len() <= 256 && (rest.is_empty() || rest.starts_with('/')))
            .then(|| wanted.to_owned())
    }
}

/// The rules of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    topics: Topics,
}

impl Access {
    pub(crate) fn new(topics: Topics) -> Access {
        Access { topics }
    }

    /// Whether `who` may publish to `topic`: a board under its own name, servers also to each
    /// other and as leader.
    pub(crate) fn may_publish(&self, who: &Identity, topic: &str) -> bool {
        match self.topics.read(topic) {
            Some(Topic::Beat(node) | Topic::Gone(node, _) | Topic::Twin(node)) => {
                node == who.name()
            }
            Some(Topic::Raft(_) | Topic::Leader) => matches!(who, Identity::Server(_)),
            None => false,
        }
    }

    /// Whether the broker keeps messages of `who`: servers' only, so that no agent fills the store.
    pub(crate) fn may_retain(&self, who: &Identity) -> bool {
        matches!(who, Identity::Server(_))
    }

    /// Whether `who` may subscribe to `filter`: agents to the leader's hint and their own name,
    /// servers to all but other servers' raft messages.
    pub(crate) fn may_subscribe(&self, who: &Identity, filter: &str) -> bool {
        match (self.topics.read(filter), who) {
            (Some(Topic::Leader), _) => true,
            (Some(Topic::Raft(server)), Identity::Server(me)) => server == me,
            (Some(Topic::Twin(node)), Identity::Agent(me)) => node == me,
            (Some(Topic::Beat(_) | Topic::Gone(..)), Identity::Server(_)) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_speak_under_their_own_name_only() {
        let topics = Topics::new("c");
        let access = Access::new(topics.clone());
        let (server, agent) = (Identity::Server("s".into()), Identity::Agent("a".into()));
        for (who, topic, publish) in [
            (&server, topics.raft("t"), true),
            (&server, topics.leader(), true),
            (&server, topics.beat("s"), true),
            (&server, topics.beat("a"), false),
            (&agent, topics.beat("a"), true),
            (&agent, topics.beat("s"), false),
            (&agent, topics.gone("a", "s"), true),
            (&agent, topics.gone("b", "s"), false),
            (&agent, topics.raft("s"), false),
            (&agent, topics.twin("a"), true),
            (&agent, topics.twin("b"), false),
            (&agent, topics.leader(), false),
            (&server, "edge/other/leader".into(), false),
            (&server, "home/light".into(), false),
        ] {
            assert_eq!(access.may_publish(who, &topic), publish, "{who:?} {topic}");
        }
        for (who, filter, subscribe) in [
            (&server, "edge/c/raft/s", true),
            (&server, "edge/c/raft/t", false),
            (&server, "edge/c/raft/+", false),
            (&server, "edge/c/beat/+", true),
            (&server, "edge/c/gone/+/+", true),
            (&server, "#", false),
            (&server, "edge/+/leader", false),
            (&agent, "edge/c/leader", true),
            (&agent, "edge/c/beat/+", false),
            (&agent, "edge/c/raft/a", false),
            (&agent, "edge/c/twin/a", true),
            (&agent, "edge/c/twin/b", false),
            (&agent, "edge/c/twin/+", false),
        ] {
            assert_eq!(access.may_subscribe(who, filter), subscribe, "{who:?} {filter}");
        }
    }

    #[test]
    fn client_ids_are_the_certificates() {
        let who = Identity::Agent("a".into());
        assert_eq!(who.client_id("", 7).as_deref(), Some("system:node:a/7"));
        assert_eq!(who.client_id("system:node:a", 7).as_deref(), Some("system:node:a"));
        assert_eq!(who.client_id("system:node:a/x", 7).as_deref(), Some("system:node:a/x"));
        assert_eq!(who.client_id("system:node:ab", 7), None);
        assert_eq!(who.client_id("system:server:s", 7), None);
    }
}
