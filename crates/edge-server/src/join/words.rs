//! What boards and servers say to each other while joining and renewing: JSON under `/edged/v1`.
//! Fields that a reader does not know are passed over; a newer major protocol is refused by whoever
//! is older, in a line that says who must be updated.

use serde::{Deserialize, Serialize};

/// The protocol's number: boards of different numbers don't join each other.
pub const PROTOCOL: u32 = 1;

/// How the refusal of a board's certificate ends whose time is over: the board sees to it.
pub const RENEWS_ITSELF: &str = "it asks for another by itself";

/// `POST /edged/v1/join`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JoinRequest {
    /// The board's [`PROTOCOL`].
    pub protocol: u32,
    /// The board's version, for people.
    pub version: String,
    /// The token's text.
    pub token: String,
    /// A certificate request that proves the board's key, in PEM.
    pub csr: String,
    /// The name that the board wants.
    pub name: String,
    /// `server` or `agent`
    pub role: String,
    /// The board's addresses.
    pub addresses: Vec<String>,
    /// `https://ip:6443`, of a server.
    pub api: String,
    /// `ip:8883`, of a server.
    pub broker: String,
    /// Whether the board runs pods.
    pub pods: bool,
}

/// One of a cluster's servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerInfo {
    /// Its id among the members, in decimal (64 bits do not fit a JSON number everywhere).
    pub id: String,
    /// The board's name.
    pub name: String,
    /// `https://ip:6443`
    pub api: String,
    /// `ip:8883`
    pub broker: String,
    /// Whether it votes; a server that is catching up does not yet.
    pub voter: bool,
    /// Whether it leads now.
    pub leader: bool,
    /// Whether the leader does not hear of it.
    pub away: bool,
}

/// The answer to a join.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JoinAnswer {
    /// The server's [`PROTOCOL`].
    pub protocol: u32,
    /// The server's version, for people.
    pub version: String,
    /// The cluster's id.
    pub cluster: String,
    /// The board's name as granted.
    pub name: String,
    /// Certificate of the board as a node, in PEM.
    pub node_cert: String,
    /// Certificate of the board as a server, in PEM; empty for an agent.
    pub server_cert: String,
    /// The authority's certificate, in PEM.
    pub ca: String,
    /// The authority's key, in PEM; for servers only.
    pub ca_key: String,
    /// The cluster's secret, in hex; for servers only.
    pub secret: String,
    /// The key of the board's beats, in hex.
    pub beat_key: String,
    /// The key of the leader's hints, in hex.
    pub leader_key: String,
    /// The range of all pods' addresses.
    pub cluster_cidr: String,
    /// The range of Services' addresses.
    pub service_cidr: String,
    /// `cluster.local`
    pub cluster_domain: String,
    /// This board's part of the pods' addresses.
    pub pod_cidr: String,
    /// All servers.
    pub servers: Vec<ServerInfo>,
    /// The cluster's time, in milliseconds since 1970.
    pub time_ms: i64,
    /// URLs of the user's own brokers, with their passwords; none when the servers' are used.
    pub brokers: Vec<String>,
    /// What people should be told.
    pub warnings: Vec<String>,
}

/// `POST /edged/v1/renew`, with the certificate that is to be renewed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RenewRequest {
    /// The board's [`PROTOCOL`].
    pub protocol: u32,
    /// The board's version, for people.
    pub version: String,
    /// A certificate request that proves the board's key, in PEM.
    pub csr: String,
    /// The board's addresses now.
    pub addresses: Vec<String>,
}

/// The answer to a renewal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RenewAnswer {
    /// The server's [`PROTOCOL`].
    pub protocol: u32,
    /// Certificate of the board as a node, in PEM.
    pub node_cert: String,
    /// All servers.
    pub servers: Vec<ServerInfo>,
    /// The cluster's time, in milliseconds since 1970.
    pub time_ms: i64,
}

/// `GET /edged/v1/time`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TimeAnswer {
    /// The server's [`PROTOCOL`].
    pub protocol: u32,
    /// The server's version, for people.
    pub version: String,
    /// The cluster's id.
    pub cluster: String,
    /// The cluster's time, in milliseconds since 1970.
    pub time_ms: i64,
    /// Bytes that the cluster's state takes on the server's disk, for those who will need as much.
    pub state_bytes: u64,
}

/// `GET /edged/v1/servers`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServersAnswer {
    /// All servers.
    pub servers: Vec<ServerInfo>,
    /// What an even number of servers does not give, if there is one.
    pub warning: String,
}

/// `POST /edged/v1/servers/member`, asked by a server about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberAnswer {
    /// Whether whoever asks is one of the cluster's servers. It has no default: an answer without
    /// it is none.
    pub member: bool,
}

/// Refuses a peer whose protocol is another one; `None` when both speak the same.
pub fn differs(ours: &str, theirs: u32, their_version: &str) -> Option<String> {
    if theirs == PROTOCOL {
        return None;
    }
    let (newer, older) = match theirs > PROTOCOL {
        true => ("it", "this one"),
        false => ("this one", "it"),
    };
    Some(format!(
        "version {their_version} speaks protocol {theirs} and this {ours} (version {}) protocol \
         {PROTOCOL}: {newer} is newer, so update {older}",
        env!("CARGO_PKG_VERSION"),
    ))
}

/// What an even number of voting servers does not give; `None` for an odd number.
pub fn even_warning(voters: usize) -> Option<String> {
    match voters {
        2 => Some(
            "2 servers: the cluster stops when either of them fails, so it is less available than \
             one alone; add a third"
                .to_owned(),
        ),
        n if n > 0 && n % 2 == 0 => Some(format!(
            "{n} servers survive the loss of {} only, as {} do; add or remove one",
            n / 2 - 1,
            n - 1
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_older_is_told() {
        assert_eq!(differs("server", PROTOCOL, "0.1.0"), None);
        let newer = differs("server", PROTOCOL + 1, "9.0").unwrap();
        assert!(newer.contains("9.0") && newer.ends_with("update this one"), "{newer}");
        let older = differs("server", 0, "0.0.1").unwrap();
        assert!(older.ends_with("this one is newer, so update it"), "{older}");
    }

    #[test]
    fn even_numbers_are_warned_of() {
        assert!([0, 1, 3, 5].into_iter().all(|n| even_warning(n).is_none()));
        assert!(even_warning(2).unwrap().contains("either of them fails"));
        assert!(even_warning(4).unwrap().contains("loss of 1 only, as 3 do"));
    }
}
