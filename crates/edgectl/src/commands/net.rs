//! `net check`: tries every path of the cluster with real packets and says why one fails. Each
//! board's agent makes a pod's network without a pod for it, so no image is needed; these are
//! there only while this process reads from them, and so go however it ends; unless it is killed,
//! it waits until they are gone. The Services in front of them are removed at the end, and after a
//! kill by the next check.

mod board;
mod explain;
mod judge;
mod plan;
mod report;
mod stage;

use crate::fault::Fault;
use crate::output::age;
use crate::session::Session;
use board::Board;
use edge_api::Object;
use edge_client::{Call, Client};
use futures_util::StreamExt;
use futures_util::stream;
use http::Method;
use plan::{Check, Front, Outcome, Scene};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Paths that a board tries with one request.
const BATCH: usize = 32;
/// Boards that try at once, and paths from this computer.
const AT_ONCE: usize = 16;
/// The longest that all of it may take.
const LONGEST: Duration = Duration::from_secs(170);
/// Ports from which that of the Service is drawn: the load balancer takes it on every board.
const PORTS: (u16, u16) = (20_000, 9_000);
/// The agent's port, which every board has open.
const AGENT: u16 = 10250;

/// Look at the cluster's network
#[derive(Debug, clap::Args)]
pub(crate) struct Net {
    #[command(subcommand)]
    command: NetCommand,
}

#[derive(Debug, clap::Subcommand)]
enum NetCommand {
    /// Try every path: between boards, pods, Services, names, outside; explain what fails
    Check(NetCheck),
}

/// Try every path of the cluster and explain the one that fails
#[derive(Debug, clap::Args)]
pub(crate) struct NetCheck {
    /// Only paths that begin on this board
    #[arg(long, value_name = "BOARD")]
    from: Option<String>,
    /// How long a path may take to work
    #[arg(long, default_value = "5s")]
    timeout: String,
    /// `json` for programs
    #[arg(short, long, value_parser = ["json"])]
    output: Option<String>,
    /// Tell each path, not only those that fail
    #[arg(short, long)]
    verbose: bool,
}

pub(crate) async fn run(args: Net, session: &mut Session) -> Result<(), Fault> {
    let NetCommand::Check(args) = args.command;
    let limit = age::parse_duration(&args.timeout).filter(|limit| !limit.is_zero());
    let limit = limit
        .ok_or_else(|| Fault::text(format!("--timeout: {:?} is not a duration", args.timeout)))?;
    let client = session.client()?;
    let namespace = session.typed_namespace().unwrap_or("kube-system").to_owned();
    let draw = Draw::new()?;
    let tried = tokio::select! {
        tried = timeout(LONGEST, all(&args, limit, &client, &namespace, &draw, session)) => {
            let late = |_| Fault::text(format!("the check took longer than {LONGEST:?}"));
            tried.map_err(late).and_then(|tried| tried)
        }
        _ = tokio::signal::ctrl_c() => Err(Fault::Exit(130)),
    };
    let removed = stage::remove(&client, &namespace, &draw.run);
    let (removed, ()) = tokio::join!(removed, stage::close(&client, &draw.run));
    let (boards, results) = tried?;
    if let Err(fault) = removed {
        session.io.say(fault);
    }
    let failed = match args.output {
        Some(_) => report::json(&boards, &results, session)?,
        None => report::text(&boards, &results, args.verbose, session)?,
    };
    if failed == 0 { Ok(()) } else { Err(Fault::Exit(1)) }
}

/// What chance decides about a run.
struct Draw {
    run: String,
    port: u16,
}

impl Draw {
    fn new() -> Result<Draw, Fault> {
        let mut bytes = [0; 8];
        let failed = |_| Fault::text("the system gives no random numbers");
        SystemRandom::new().fill(&mut bytes).map_err(failed)?;
        let drawn = u64::from_be_bytes(bytes);
        let port = PORTS.0 + u16::try_from(drawn % u64::from(PORTS.1)).unwrap_or(0);
        Ok(Draw { run: format!("{:08x}", drawn >> 32), port })
    }
}

type Results = Vec<(Check, Outcome)>;

async fn all(
    args: &NetCheck,
    limit: Duration,
    client: &Client,
    namespace: &str,
    draw: &Draw,
    session: &mut Session,
) -> Result<(Vec<Board>, Results), Fault> {
    stage::sweep(client, namespace).await?;
    let (boards, open) = stage::boards(client, &draw.run).await?;
    if let Some(from) = args.from.as_deref().filter(|name| !boards.iter().any(|b| b.name == *name))
    {
        let names: Vec<&str> = boards.iter().map(|board| board.name.as_str()).collect();
        let names = names.join(", ");
        return Err(Fault::text(format!("there is no board {from:?}; there are {names}")));
    }
    let front = stage::services(client, namespace, &draw.run, draw.port, &boards).await;
    let strange = format!("net-check-{}.example.com", draw.run);
    let scene = Scene {
        boards: &boards,
        only: args.from.as_deref(),
        front: front.as_ref().map_err(String::as_str),
        timeout: limit,
        strange: &strange,
    };
    let checks = plan::plan(&scene);
    let paths = checks.iter().filter(|check| check.known.is_none()).count();
    session.io.say(format!("{} boards, {paths} paths to try …", boards.len()));
    let mut results = attempt(client, &boards, checks, limit, session).await;
    let on_network = reaches(&boards, limit, front.as_ref().ok()).await;
    judge::settle(&mut results, on_network);
    drop(open);
    Ok((boards, results))
}

/// Tries all paths: each board its own, in batches, all boards at once.
async fn attempt(
    client: &Client,
    boards: &[Board],
    checks: Vec<Check>,
    limit: Duration,
    session: &mut Session,
) -> Results {
    let total = checks.len();
    let mut results: Vec<(usize, Check, Outcome)> = Vec::with_capacity(total);
    let mut work: Vec<Vec<(usize, Check)>> = Vec::new();
    for (n, check) in checks.into_iter().enumerate() {
        if let Some(outcome) = check.known.clone() {
            results.push((n, check, outcome));
            continue;
        }
        let same = |batch: &&mut Vec<(usize, Check)>| {
            batch.len() < BATCH
                && batch.first().is_some_and(|(_, first)| {
                    first.from == check.from && first.sandbox == check.sandbox
                })
        };
        match work.iter_mut().rev().find(same) {
            Some(batch) => batch.push((n, check)),
            None => work.push(vec![(n, check)]),
        }
    }
    let mut done = stream::iter(work)
        .map(|batch| try_batch(client, boards, batch, limit))
        .buffer_unordered(AT_ONCE);
    while let Some(batch) = done.next().await {
        results.extend(batch);
        if session.io.err_terminal {
            session.io.write_err(format!("\r{} of {total}", results.len()).as_bytes());
        }
    }
    if session.io.err_terminal {
        session.io.write_err(b"\r\x1b[K");
    }
    results.sort_by_key(|(n, ..)| *n);
    results.into_iter().map(|(_, check, outcome)| (check, outcome)).collect()
}

async fn try_batch(
    client: &Client,
    boards: &[Board],
    batch: Vec<(usize, Check)>,
    limit: Duration,
) -> Vec<(usize, Check, Outcome)> {
    let Some((_, first)) = batch.first() else { return Vec::new() };
    let Some(from) = first.from.clone() else {
        let tried = stream::iter(batch).map(|(n, check)| async move {
            let outcome = from_here(&check, limit).await;
            (n, check, outcome)
        });
        return tried.buffered(AT_ONCE).collect().await;
    };
    let board = boards.iter().find(|board| board.name == from);
    let sandbox = board.and_then(|board| board.sandbox.as_ref().ok());
    let uid = sandbox.filter(|_| first.sandbox).map(|sandbox| sandbox.uid.clone());
    let probes: Vec<&Object> = batch.iter().flat_map(|(_, check)| &check.probes).collect();
    let asked = json!({"sandbox": uid, "probes": probes});
    let call = Call::new(Method::POST, stage::agent(&from, "probe")).json(&asked);
    let answer = client.call(&call).await;
    let mut answers = match &answer {
        Ok(answer) => answer.object["results"].as_array().cloned().unwrap_or_default(),
        Err(_) => Vec::new(),
    }
    .into_iter();
    let judged = batch.into_iter().map(|(n, check)| {
        let own: Vec<Object> = answers.by_ref().take(check.probes.len()).collect();
        let outcome = match &answer {
            Ok(_) => judge::judge(&check, &own),
            Err(error) => Outcome::Skipped(format!("board {from} could not be asked: {error}")),
        };
        (n, check, outcome)
    });
    judged.collect()
}

/// Connects from this computer, again and again until the time is over.
async fn from_here(check: &Check, limit: Duration) -> Outcome {
    let to = check.probes.first().and_then(|probe| probe["to"].as_str()).unwrap_or_default();
    let end = Instant::now() + limit;
    let mut last = "no answer in time".to_owned();
    while Instant::now() < end {
        let began = Instant::now();
        let asked = async {
            let mut text = String::new();
            TcpStream::connect(to).await?.take(512).read_to_string(&mut text).await?;
            std::io::Result::Ok(text)
        };
        let left = end - began;
        match timeout(left.min(Duration::from_millis(1200)), asked).await {
            Ok(Ok(text)) if !text.is_empty() => {
                return Outcome::Passed(began.elapsed().as_secs_f64() * 1000.0);
            }
            Ok(Ok(_)) => last = "the connection ended without an answer".to_owned(),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Outcome::Failed("person".to_owned(), last)
}

/// Whether this computer reaches any board by itself.
async fn reaches(boards: &[Board], limit: Duration, front: Option<&Front>) -> bool {
    let limit = limit.min(Duration::from_secs(2));
    let known = front.into_iter().flat_map(|front| front.balancers.iter().copied());
    let all: Vec<Ipv4Addr> = boards.iter().filter_map(|board| board.address).chain(known).collect();
    let tried = stream::iter(all).map(|ip| async move {
        matches!(timeout(limit, TcpStream::connect((ip, AGENT))).await, Ok(Ok(_)))
    });
    let mut tried = tried.buffer_unordered(AT_ONCE);
    while let Some(reached) = tried.next().await {
        if reached {
            return true;
        }
    }
    false
}

/// A path that fails, for those who tell.
fn failures(results: &[(Check, Outcome)]) -> impl Iterator<Item = (&Check, &str, &str)> {
    results.iter().filter_map(|(check, outcome)| match outcome {
        Outcome::Failed(code, error) => Some((check, code.as_str(), error.as_str())),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
