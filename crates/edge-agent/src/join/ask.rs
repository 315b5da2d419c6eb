//! Asking a server to be let in. The server's authority is fetched first and believed only if it is
//! the one that the token names; the token goes out over a connection that this authority vouches
//! for, never before.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_client::{Call, Client, Error, Patience};
use edge_core::clock::ClusterClock;
use edge_server::join::{Finder, JoinAnswer, JoinRequest, TimeAnswer, Token, differs};
use edge_server::pki::CertFacts;
use serde_json::json;

use super::clock::Judge;
use super::{JoinError, SERVER_NAME};
use crate::config::AUTO;

/// Pause between two rounds, at first and at last.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often it is said that no server can be asked.
const SAY: Duration = Duration::from_secs(10 * 60);
/// One try is short: there may be other servers, and another round.
const TRY: Patience = Patience {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(20),
    attempts: 1,
    rounds: 1,
};

/// Whoever wants a certificate says so before it hangs up, and its hanging up may overtake that: so
/// often a connection that ended without an answer is made again at once.
const OVERTAKEN: usize = 8;

/// How one try went wrong.
enum Trouble {
    /// Another server, or another moment, may do better.
    Passing(String),
    /// It will not get better.
    Final(JoinError),
}

/// Asks the servers in turn until one lets the board in. While none can be asked it goes on: boards
/// and servers get their current in any order. `has_room` is asked before a server is, with the
/// bytes of the cluster's state; `waits` is told what keeps the board out when that lasts.
///
/// # Errors
/// What a server refused, or that there is no room.
pub(super) async fn join(
    given: &[String],
    own: IpAddr,
    token: &Token,
    request: &JoinRequest,
    (has_room, waits): (impl Fn(u64) -> Result<(), JoinError>, impl Fn(&str)),
) -> Result<JoinAnswer, JoinError> {
    let (mut pause, mut said) = (PAUSE.0, None::<Instant>);
    let mut finder = Finder::default();
    loop {
        let mut last = String::new();
        let (servers, found) = places(given, own, &mut finder, &mut last).await;
        for (server, found) in
            servers.iter().map(|s| (s, false)).chain(found.iter().map(|s| (s, true)))
        {
            match attempt(server, token, request, &has_room, found).await {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(reason)) => last = reason,
            }
        }
        if said.is_none_or(|at| at.elapsed() >= SAY) {
            tracing::warn!("join: {last}; it is tried again until a server answers");
            // Boards and servers get their current in any order: not at the first time.
            if said.is_some() {
                waits(&format!("join: {last}"));
            }
            said = Some(Instant::now());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// The servers that were given, and those that the LAN has, if that was asked for.
async fn places(
    given: &[String],
    own: IpAddr,
    finder: &mut Finder,
    last: &mut String,
) -> (Vec<String>, Vec<String>) {
    let named = given.iter().filter(|server| *server != AUTO).cloned().collect();
    if !given.iter().any(|server| server == AUTO) {
        return (named, Vec::new());
    }
    let found = match finder.find(own).await {
        Ok(found) => found,
        Err(error) => {
            *last = format!("look for servers on the LAN: {error}");
            return (named, Vec::new());
        }
    };
    if found.is_empty() {
        *last = "no server answers on this LAN: give its address with --join".to_owned();
    }
    (named, found)
}

async fn attempt(
    server: &str,
    token: &Token,
    request: &JoinRequest,
    has_room: &impl Fn(u64) -> Result<(), JoinError>,
    found: bool,
) -> Result<JoinAnswer, Trouble> {
    let ca = match authority(server, token).await {
        // On the LAN anybody may answer, for another cluster or for none: who was not named by a
        // person ends nothing.
        Err(Trouble::Final(error)) if found => return Err(Trouble::Passing(error.to_string())),
        asked => asked?,
    };
    let clock = ClusterClock::new(0, crate::clock::read);
    let client = client(edge_client::Config {
        servers: vec![server.to_owned()],
        ca_pem: Some(ca.into_bytes()),
        server_name: Some(SERVER_NAME.to_owned()),
        clock: Some(Arc::new(Judge(clock.clone()))),
        ..edge_client::Config::default()
    })?;
    let time: TimeAnswer = read(server, client.call(&Call::get("/edged/v1/time")).await)?;
    if let Some(why) = differs("board", time.protocol, &time.version) {
        let reason = format!("the server's {why}");
        return Err(Trouble::Final(JoinError::Refused { server: server.to_owned(), reason }));
    }
    clock.tell(time.time_ms);
    has_room(time.state_bytes).map_err(Trouble::Final)?;
    let call = Call::new(http::Method::POST, "/edged/v1/join").json(&json!(request));
    read(server, client.call(&call).await)
}

/// The authority's certificate, if it is the token's.
async fn authority(server: &str, token: &Token) -> Result<String, Trouble> {
    let client = client(edge_client::Config {
        servers: vec![server.to_owned()],
        insecure: true,
        ..edge_client::Config::default()
    })?;
    let call = Call::get("/edged/v1/ca");
    let mut asked = client.text(&call).await;
    for _ in 0..OVERTAKEN {
        match &asked {
            Err(Error::Status(_) | Error::Connect { .. }) | Ok(_) => break,
            Err(error) if wants_certificate(error) => break,
            Err(_) => asked = client.text(&call).await,
        }
    }
    let pem = asked.map_err(|e| trouble(server, &e))?;
    match CertFacts::read(&pem) {
        Some(facts) if facts.authority && facts.pin == token.pin => Ok(pem),
        Some(_) => Err(Trouble::Final(JoinError::WrongCluster { server: server.to_owned() })),
        None => Err(Trouble::Final(JoinError::Refused {
            server: server.to_owned(),
            reason: "this is not a server of edged: it shows no authority".to_owned(),
        })),
    }
}

fn client(config: edge_client::Config) -> Result<Client, Trouble> {
    Client::with_patience(config, TRY)
        .map_err(|e| Trouble::Final(JoinError::Told(format!("join: {e}"))))
}

fn read<T: serde::de::DeserializeOwned>(
    server: &str,
    answer: Result<edge_client::Answer, Error>,
) -> Result<T, Trouble> {
    let object = answer.map_err(|e| trouble(server, &e))?.object;
    serde_json::from_value(object).map_err(|e| {
        let reason = format!("cannot read its answer: {e}");
        Trouble::Final(JoinError::Refused { server: server.to_owned(), reason })
    })
}

fn trouble(server: &str, error: &Error) -> Trouble {
    match error {
        Error::Status(status) if matches!(status.code, 429 | 500..) => {
            Trouble::Passing(format!("{server}: {}", status.message))
        }
        Error::Status(status) => Trouble::Final(JoinError::Refused {
            server: server.to_owned(),
            reason: status.message.clone(),
        }),
        other if wants_certificate(other) => Trouble::Final(JoinError::Refused {
            server: server.to_owned(),
            reason: format!(
                "nobody is answered there without a certificate: it is the port of edged's broker \
                 (8883) or agent (10250), or not edged at all; the API is on 6443: {}",
                beside(server)
            ),
        }),
        other => Trouble::Passing(other.to_string()),
    }
}

/// Whether the other side ends whoever shows no certificate: the API never does.
fn wants_certificate(error: &Error) -> bool {
    let line = error.to_string();
    ["CertificateRequired", "certificate required"].iter().any(|words| line.contains(words))
}

/// Where the API of the server with this URL most likely is.
fn beside(server: &str) -> String {
    let (host, _) = server.rsplit_once(':').unwrap_or((server, ""));
    format!("--join {host}:6443")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_wants_a_certificate_is_not_the_apis() {
        let server = "https://192.0.2.1:8883";
        let ended = |words: &str| Error::Tls {
            server: server.to_owned(),
            source: std::io::Error::other(words.to_owned()),
        };
        let told = trouble(server, &ended("received fatal alert: CertificateRequired"));
        let Trouble::Final(error) = told else { panic!("it is tried again") };
        let line = error.to_string();
        assert!(line.ends_with("the API is on 6443: --join https://192.0.2.1:6443"), "{line}");
        let passing = trouble(server, &ended("received fatal alert: InternalError"));
        assert!(matches!(passing, Trouble::Passing(_)));
    }
}
