//! Topics: those of the bus, and the rules of MQTT for names, filters and what matches.

/// Bytes of the longest topic or filter.
const MAX_BYTES: usize = 512;

/// Levels of the deepest topic or filter.
const MAX_LEVELS: usize = 16;

/// Whether `name` may be one level of a topic: letters, digits, `-`, `_`, `.`.
pub(crate) fn valid_level(name: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=128).contains(&name.len()) && name.chars().all(ok)
}

fn bounded(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_BYTES
        && text.split('/').count() <= MAX_LEVELS
        && !text.chars().any(char::is_control)
}

/// Whether something may be published there. Topics that begin with `$` are the broker's own.
pub(crate) fn valid_topic(topic: &str) -> bool {
    bounded(topic) && !topic.contains(['+', '#']) && !topic.starts_with('$')
}

/// Whether it is a filter: `+` alone in a level, `#` alone in the last.
pub(crate) fn valid_filter(filter: &str) -> bool {
    let levels = filter.split('/').count();
    bounded(filter)
        && filter.split('/').enumerate().all(|(n, level)| match level {
            "+" => true,
            "#" => n + 1 == levels,
            other => !other.contains(['+', '#']),
        })
}

/// Whether a filter has wildcards.
pub(crate) fn is_wild(filter: &str) -> bool {
    filter.split('/').any(|level| level == "+" || level == "#")
}

/// Whether a valid topic matches a valid filter.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topics = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match topics.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    topics.next().is_none()
}

/// What a topic of the bus is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topic<'a> {
    /// Raft messages for a server.
    Raft(&'a str),
    /// Beats of a node.
    Beat(&'a str),
    /// The will of a node at a broker.
    Gone(&'a str, &'a str),
    /// What an agent's processes say to their own name.
    Twin(&'a str),
    /// The leader's hint.
    Leader,
}

/// The topics of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Topics {
    prefix: String,
}

impl Topics {
    pub(crate) fn new(cluster: &str) -> Topics {
        Topics { prefix: format!("edge/{cluster}/") }
    }

    pub(crate) fn raft(&self, server: &str) -> String {
        format!("{}raft/{server}", self.prefix)
    }

    pub(crate) fn beat(&self, node: &str) -> String {
        format!("{}beat/{node}", self.prefix)
    }

    pub(crate) fn gone(&self, node: &str, broker: &str) -> String {
        format!("{}gone/{node}/{broker}", self.prefix)
    }

    pub(crate) fn twin(&self, node: &str) -> String {
        format!("{}twin/{node}", self.prefix)
    }

    pub(crate) fn leader(&self) -> String {
        format!("{}leader", self.prefix)
    }

    /// Reads a topic or a filter.
    pub(crate) fn read<'a>(&self, topic: &'a str) -> Option<Topic<'a>> {
        let mut levels = topic.strip_prefix(self.prefix.as_str())?.split('/');
        let found = match (levels.next()?, levels.next(), levels.next()) {
            ("raft", Some(server), None) => Topic::Raft(server),
            ("beat", Some(node), None) => Topic::Beat(node),
            ("gone", Some(node), Some(broker)) => Topic::Gone(node, broker),
            ("twin", Some(node), None) => Topic::Twin(node),
            ("leader", None, None) => Topic::Leader,
            _ => return None,
        };
        levels.next().is_none().then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_mqtt_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("+", "/a", false),
            ("/+", "/a", true),
            ("+/+", "/a", true),
            ("ä/+", "ä/é", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn names_and_filters_are_bounded() {
        assert!(valid_filter("a/+/#") && valid_filter("#") && valid_filter("+"));
        for bad in ["", "a#", "#/a", "a/+b", "a\0b", "++"] {
            assert!(!valid_filter(bad), "{bad:?}");
        }
        assert!(valid_topic("a/b") && valid_topic("/"));
        let deep = "a/".repeat(MAX_LEVELS);
        let long = "a".repeat(MAX_BYTES + 1);
        for bad in ["", "a/+", "#", "$SYS/a", "a\nb", deep.as_str(), long.as_str()] {
            assert!(!valid_topic(bad), "{bad:?}");
        }
    }

    #[test]
    fn topics_of_the_bus_are_read() {
        let topics = Topics::new("c1");
        assert_eq!(topics.read(&topics.raft("s1")), Some(Topic::Raft("s1")));
        assert_eq!(topics.read(&topics.gone("n", "b")), Some(Topic::Gone("n", "b")));
        assert_eq!(topics.read(&topics.leader()), Some(Topic::Leader));
        assert_eq!(topics.read("edge/c1/beat/+"), Some(Topic::Beat("+")));
        for other in ["edge/c2/leader", "edge/c1/leader/x", "edge/c1/raft", "edge/c1/beat/a/b"] {
            assert_eq!(topics.read(other), None, "{other}");
        }
    }
}
