//! `logs`: what containers wrote, once or as they write; of one pod or of many.

use crate::fault::Fault;
use crate::output::age;
use crate::pods;
use crate::session::Session;
use bytes::Bytes;
use edge_api::{Object, kinds, meta};
use edge_client::query::{Query, kind_path};
use edge_client::{Call, Client, Error};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

/// Pieces of output of several containers that wait to be printed.
const PIECES: usize = 64;

/// The longest line kept together when lines of several containers are told apart.
const LINE_LIMIT: usize = 64 * 1024;

/// Lines shown of each pod when pods are selected by label, as with `kubectl`.
const SELECTED_TAIL: i64 = 10;

/// Show what containers wrote
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// POD, or TYPE/NAME as in deployment/web
    target: Option<String>,
    /// The container
    container: Option<String>,
    /// The container
    #[arg(short, long = "container", value_name = "CONTAINER", id = "container-flag")]
    container_flag: Option<String>,
    /// All containers of the pod
    #[arg(long)]
    all_containers: bool,
    /// All pods of the selected workload
    #[arg(long)]
    all_pods: bool,
    /// Go on as more is written
    #[arg(short, long)]
    follow: bool,
    /// What the container wrote before it was restarted
    #[arg(short, long)]
    previous: bool,
    /// Only the last lines; -1 for all
    #[arg(long, allow_hyphen_values = true)]
    tail: Option<i64>,
    /// Only what is newer than this, as in 5s, 2m or 3h
    #[arg(long)]
    since: Option<String>,
    /// Only what was written after this moment (RFC 3339)
    #[arg(long)]
    since_time: Option<String>,
    /// At most this many bytes
    #[arg(long)]
    limit_bytes: Option<u64>,
    /// Put the time before each line
    #[arg(long)]
    timestamps: bool,
    /// Put pod and container before each line
    #[arg(long)]
    prefix: bool,
    /// The pods with these labels
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// How many containers to follow at once at most
    #[arg(long, default_value_t = 5)]
    max_log_requests: usize,
}

/// One log to read.
struct Source {
    prefix: String,
    call: Call,
}

pub(crate) async fn run(args: Logs, session: &mut Session) -> Result<(), Fault> {
    let (namespace, pods) = pods_of(&args, session).await?;
    let query = query(&args)?;
    let mut sources = Vec::new();
    for pod in &pods {
        for container in chosen(&args, pod, session)? {
            let mut query = query.clone();
            query.add("container", &container);
            let path = kind_path(kinds::POD, &namespace, meta::name(pod), Some("log"));
            let prefix = match args.prefix {
                true => format!("[pod/{}/{container}] ", meta::name(pod)),
                false => String::new(),
            };
            sources.push(Source { prefix, call: Call::get(query.on(&path)).accept("*/*") });
        }
    }
    let client = session.client()?;
    if args.follow && sources.len() > 1 {
        if sources.len() > args.max_log_requests {
            return Err(Fault::text(format!(
                "you are attempting to follow {} log streams, but maximum allowed concurrency is \
                 {}, use --max-log-requests to increase the limit",
                sources.len(),
                args.max_log_requests
            )));
        }
        return together(client, sources, session).await;
    }
    for source in sources {
        alone(&client, &source, session).await?;
    }
    Ok(())
}

async fn pods_of(args: &Logs, session: &mut Session) -> Result<(String, Vec<Object>), Fault> {
    if let Some(selector) = &args.selector {
        if args.target.is_some() {
            return Err(Fault::text("only a selector (-l) or a POD name is allowed"));
        }
        let namespace = session.namespace()?;
        let pods = pods::selected(session, &namespace, selector).await?;
        if pods.is_empty() {
            session.io.say(format!("No resources found in {namespace} namespace."));
        }
        return Ok((namespace, pods));
    }
    let Some(word) = &args.target else {
        return Err(Fault::text("expected POD or TYPE/NAME, as in `edgectl logs deployment/web`"));
    };
    let mut found = pods::named(session, word).await?;
    if found.indirect && !args.all_pods && found.pods.len() > 1 {
        let first = meta::name(&found.pods[0]).to_string();
        session.io.say(format!("Found {} pods, using pod/{first}", found.pods.len()));
        found.pods.truncate(1);
    }
    Ok((found.namespace, found.pods))
}

fn chosen(args: &Logs, pod: &Object, session: &mut Session) -> Result<Vec<String>, Fault> {
    if args.all_containers {
        return Ok(pods::containers(pod, true));
    }
    let all = pods::containers(pod, true);
    match args.container_flag.as_ref().or(args.container.as_ref()) {
        Some(name) if !all.contains(name) => Err(Fault::text(format!(
            "container {name} is not valid for pod {}, which has: {}",
            meta::name(pod),
            all.join(", ")
        ))),
        Some(name) => Ok(vec![name.clone()]),
        None => Ok(pods::default_container(pod, session).into_iter().collect()),
    }
}

fn query(args: &Logs) -> Result<Query, Fault> {
    let mut query = Query::new();
    let flags =
        [("follow", args.follow), ("previous", args.previous), ("timestamps", args.timestamps)];
    for (name, _) in flags.into_iter().filter(|(_, set)| *set) {
        query.add(name, "true");
    }
    let default = args.selector.as_ref().map_or(-1, |_| SELECTED_TAIL);
    let tail = args.tail.unwrap_or(default);
    if tail < -1 {
        return Err(Fault::text("--tail must be greater than or equal to -1"));
    }
    if tail >= 0 {
        query.add("tailLines", &tail.to_string());
    }
    if args.since.is_some() && args.since_time.is_some() {
        return Err(Fault::text("at most one of `sinceTime` or `sinceSeconds` may be specified"));
    }
    if let Some(since) = &args.since {
        let length = age::parse_duration(since)
            .ok_or_else(|| Fault::text(format!("--since: {since:?} is not a duration")))?;
        query.add("sinceSeconds", &length.as_secs_f64().ceil().to_string());
    }
    query.add_some("sinceTime", args.since_time.as_deref());
    query.add_some("limitBytes", args.limit_bytes.map(|n| n.to_string()).as_deref());
    Ok(query)
}

/// Prints one log, and then the next.
async fn alone(client: &Client, source: &Source, session: &mut Session) -> Result<(), Fault> {
    let mut body = client.stream(&source.call).await?.into_body();
    let mut lines = Lines::new(source.prefix.clone());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        if let Some(data) = frame.data_ref() {
            session.io.write(&lines.take(data))?;
            session.io.flush()?;
        }
    }
    session.io.write(&lines.rest())
}

/// Prints several logs as they grow, line by line.
async fn together(
    client: Client,
    sources: Vec<Source>,
    session: &mut Session,
) -> Result<(), Fault> {
    let (send, mut receive) = mpsc::channel::<Result<Bytes, Error>>(PIECES);
    for source in sources {
        let (client, send) = (client.clone(), send.clone());
        tokio::spawn(async move {
            if let Err(error) = forward(&client, &source, &send).await {
                let _ = send.send(Err(error)).await;
            }
        });
    }
    drop(send);
    let mut faults = Vec::new();
    while let Some(piece) = receive.recv().await {
        match piece {
            Ok(bytes) => {
                session.io.write(&bytes)?;
                session.io.flush()?;
            }
            Err(error) => faults.push(Fault::from(error)),
        }
    }
    Fault::all(faults)
}

async fn forward(
    client: &Client,
    source: &Source,
    send: &mpsc::Sender<Result<Bytes, Error>>,
) -> Result<(), Error> {
    let mut body = client.stream(&source.call).await?.into_body();
    let mut lines = Lines { whole: true, ..Lines::new(source.prefix.clone()) };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken_stream(&error))?;
        let ready = frame.data_ref().map(|data| lines.take(data)).unwrap_or_default();
        if !ready.is_empty() && send.send(Ok(Bytes::from(ready))).await.is_err() {
            return Ok(());
        }
    }
    let rest = lines.rest();
    if !rest.is_empty() {
        let _ = send.send(Ok(Bytes::from(rest))).await;
    }
    Ok(())
}

fn broken_stream(error: &dyn std::error::Error) -> Error {
    Error::Protocol { operation: "read the log".to_string(), message: error.to_string() }
}

fn broken(error: &dyn std::error::Error) -> Fault {
    Fault::from(broken_stream(error))
}

/// Cuts a stream into lines, to put a prefix before each.
struct Lines {
    prefix: String,
    /// Hold back what is not yet a whole line.
    whole: bool,
    pending: Vec<u8>,
    at_start: bool,
}

impl Lines {
    fn new(prefix: String) -> Lines {
        Lines { prefix, whole: false, pending: Vec::new(), at_start: true }
    }

    fn take(&mut self, data: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(data);
        let ready = match self.whole && self.pending.len() < LINE_LIMIT {
            true => self.pending.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1),
            false => self.pending.len(),
        };
        let rest = self.pending.split_off(ready);
        let text = std::mem::replace(&mut self.pending, rest);
        self.prefixed(text)
    }

    fn rest(&mut self) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.pending);
        if self.whole && !text.is_empty() {
            text.push(b'\n');
        }
        self.prefixed(text)
    }

    fn prefixed(&mut self, text: Vec<u8>) -> Vec<u8> {
        if self.prefix.is_empty() {
            return text;
        }
        let mut out = Vec::with_capacity(text.len() + self.prefix.len());
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            if self.at_start {
                out.extend_from_slice(self.prefix.as_bytes());
            }
            out.extend_from_slice(line);
            self.at_start = line.ends_with(b"\n");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_stand_before_each_line_once() {
        let mut lines = Lines::new("[a] ".to_string());
        let mut out = lines.take(b"one\ntw");
        out.extend(lines.take(b"o\nthree"));
        out.extend(lines.rest());
        assert_eq!(out, b"[a] one\n[a] two\n[a] three");
        let mut whole = Lines { whole: true, ..Lines::new(String::new()) };
        assert_eq!(whole.take(b"one\ntw"), b"one\n");
        assert_eq!(whole.take(b"o"), b"");
        assert_eq!(whole.rest(), b"two\n");
    }
}
