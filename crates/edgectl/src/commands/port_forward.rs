//! `port-forward`: ports of this computer that lead to ports of a pod. Each connection has a way of
//! its own to the board while it lasts, so that none holds up another, and a server or a pod that
//! is gone matters to those only that are open.

mod listen;
mod ports;

use crate::fault::Fault;
use crate::output::age;
use crate::pods;
use crate::resource;
use crate::session::Session;
use edge_api::status::Reason;
use edge_api::{Object, meta};
use edge_client::forward::{Ending, PodSession};
use edge_client::{Call, Client, Error};
use listen::Arrival;
use ports::Pair;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 128;
/// Connections that have been accepted and not begun.
const ARRIVALS: usize = 8;
/// Ways to the pod that are kept for the next connections.
const IDLE: usize = 8;
/// How often a pod is looked at until it runs.
const LOOK: Duration = Duration::from_millis(500);

/// Let ports of this computer lead to ports of a pod
#[derive(Debug, clap::Args)]
pub(crate) struct PortForward {
    /// POD, or TYPE/NAME as in service/web
    target: String,
    /// [LOCAL:]REMOTE, by number or by name; `:80` takes any free local port
    #[arg(required = true, value_name = "[LOCAL:]REMOTE")]
    ports: Vec<String>,
    /// Addresses to listen on, with commas between them
    #[arg(long, default_value = "localhost", value_delimiter = ',')]
    address: Vec<String>,
    /// How long to wait for the pod to run
    #[arg(long, default_value = "1m0s")]
    pod_running_timeout: String,
}

/// What was found behind the words.
struct Found {
    namespace: String,
    pod: String,
    pairs: Vec<Pair>,
}

pub(crate) async fn run(args: PortForward, session: &mut Session) -> Result<(), Fault> {
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Ok(()),
        ended = forward(args, session) => ended,
    }
}

async fn forward(args: PortForward, session: &mut Session) -> Result<(), Fault> {
    let limit = &args.pod_running_timeout;
    let limit = age::parse_duration(limit).ok_or_else(|| {
        Fault::text(format!("--pod-running-timeout: {limit:?} is not a duration"))
    })?;
    let found = find(&args, limit, session).await?;
    let client = session.client()?;
    let addresses = listen::addresses(&args.address)?;
    let (arrived, arrivals) = mpsc::channel(ARRIVALS);
    let mut listeners = JoinSet::new();
    let mut heard = false;
    for pair in &found.pairs {
        let (sockets, failure) = listen::on(*pair, &addresses).await;
        if let Some(failure) = failure {
            session.io.say(format!("Unable to listen on port {}: {failure}", pair.local));
        }
        for socket in sockets {
            heard = true;
            let local = socket.local_addr().map_err(|error| Fault::io("listen", error))?;
            session.io.line(format!("Forwarding from {local} -> {}", pair.remote))?;
            listeners.spawn(listen::accept(socket, pair.remote, arrived.clone()));
        }
    }
    session.io.flush()?;
    if !heard {
        let all: Vec<String> = found.pairs.iter().map(Pair::to_string).collect();
        let all = all.join(" ");
        let text = format!("unable to listen on any of the requested ports: [{all}]");
        return Err(Fault::text(text));
    }
    serve(&args, found, client, arrivals, session).await
}

/// Connects whoever comes, until that is of no use any more.
async fn serve(
    args: &PortForward,
    mut found: Found,
    client: Client,
    mut arrivals: mpsc::Receiver<Arrival>,
    session: &mut Session,
) -> Result<(), Fault> {
    let direct = !args.target.contains('/') || is_pod(args.target.as_str());
    let mut open: JoinSet<Ended> = JoinSet::new();
    let mut idle: Vec<PodSession> = Vec::new();
    let mut stale = false;
    loop {
        let Arrival { stream, local, remote } = tokio::select! {
            Some(arrival) = arrivals.recv(), if open.len() < CONNECTIONS => arrival,
            Some(ended) = open.join_next() => {
                let Ok(Ended { local, remote, ended, session: way, pod }) = ended else { continue };
                idle.extend(way.filter(|_| idle.len() < IDLE && pod == found.pod));
                if let Some(why) = trouble(&ended) {
                    let what = format!("an error occurred forwarding {local} -> {remote}");
                    session.io.say(format!("error: {what}: {why}"));
                }
                if is_gone(&ended) {
                    if direct {
                        return Err(Fault::text("lost connection to pod"));
                    }
                    stale = true;
                }
                continue;
            }
        };
        session.io.line(format!("Handling connection for {local}"))?;
        session.io.flush()?;
        if stale {
            // Another pod may have come in its place.
            match find(args, LOOK, session).await {
                Ok(again) => {
                    (found, stale) = (again, false);
                    idle.clear();
                }
                Err(fault) => {
                    session.io.say(fault);
                    continue;
                }
            }
        }
        idle.retain_mut(PodSession::is_open);
        let (client, namespace, pod) = (client.clone(), found.namespace.clone(), found.pod.clone());
        let way = idle.pop();
        open.spawn(async move {
            let way = match way {
                Some(way) => Ok(way),
                None => client.port_forward(&namespace, &pod).await,
            };
            let (ended, session) = match way {
                Ok(way) => {
                    let (ending, way) = way.carry(remote, stream).await;
                    (Ok(ending), way)
                }
                Err(error) => (Err(error), None),
            };
            Ended { local, remote, ended, session, pod }
        });
    }
}

/// How a connection ended, and what is left of it.
struct Ended {
    local: u16,
    remote: u16,
    ended: Result<Ending, Error>,
    session: Option<PodSession>,
    pod: String,
}

fn is_pod(word: &str) -> bool {
    let kind = word.split('/').next().unwrap_or_default();
    matches!(kind, "pod" | "pods" | "po")
}

/// What there is to say about how a connection ended, in one line.
fn trouble(ended: &Result<Ending, Error>) -> Option<String> {
    match ended {
        Ok(Ending::Done | Ending::Abandoned | Ending::Reset) => None,
        Ok(Ending::Refused(why)) => Some(why.trim().to_owned()),
        Ok(Ending::Lost) => Some("lost connection to pod".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// True when the pod is not there any more, or may not be.
fn is_gone(ended: &Result<Ending, Error>) -> bool {
    match ended {
        Ok(ending) => *ending == Ending::Lost,
        Err(Error::Status(status)) => {
            matches!(status.reason, Reason::NotFound) || status.message.contains("is not running")
        }
        Err(_) => false,
    }
}

/// The pod behind the words, once it runs, and its ports.
async fn find(args: &PortForward, limit: Duration, session: &mut Session) -> Result<Found, Fault> {
    let end = Instant::now() + limit;
    let client = session.client()?;
    loop {
        let outcome = pods::named(session, &args.target).await;
        let (namespace, pod, direct) = match outcome {
            Ok(found) => (found.namespace, found.pods.into_iter().next(), !found.indirect),
            Err(fault) if fault.to_string().contains("no pods found") && Instant::now() < end => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            Err(fault) => return Err(fault),
        };
        let Some(pod) = pod else { return Err(Fault::text("no pods found")) };
        let phase = pod["status"]["phase"].as_str().unwrap_or("Unknown");
        if phase != "Running" {
            let over = matches!(phase, "Succeeded" | "Failed");
            if (direct && over) || Instant::now() >= end {
                return Err(Fault::text(format!(
                    "unable to forward port because pod is not running. Current status={phase}"
                )));
            }
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let service = service(&client, &args.target, &namespace).await?;
        let pairs = ports::pairs(&args.ports, service.as_ref(), &pod)?;
        return Ok(Found { namespace, pod: meta::name(&pod).to_owned(), pairs });
    }
}

/// The Service, when one was named.
async fn service(client: &Client, target: &str, namespace: &str) -> Result<Option<Object>, Fault> {
    let Some((kind, name)) = target.split_once('/') else { return Ok(None) };
    let resource = resource::by_name(client, kind).await?;
    if resource.plural != "services" || !resource.group.is_empty() {
        return Ok(None);
    }
    Ok(Some(client.call(&Call::get(resource.path(namespace, name, None))).await?.object))
}
