//! `edged demo`: a whole cluster on this machine in a temporary directory, with the example
//! running on it: real API, real containers, real Service. Everything it made goes when it ends.

mod page;
mod show;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edge_api::{Object, kinds, meta};
use edge_client::{Client, ListParams, WriteParams};
use http_body_util::BodyExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Config, File, Settings};
use crate::wire::{self, WireError, failed};
use crate::{cleanup, telemetry};
use show::Show;

/// What the demo applies: the same file that the README shows.
const EXAMPLE: &str = include_str!("../../../docs/examples/web.yaml");

/// The Deployment and Service of the example.
const NAME: &str = "web";

/// How often the page is fetched to show that different replicas answer.
const FETCHES: u32 = 6;

/// How long the example may take to come up before the demo says what is wrong and gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Runs the demo until Ctrl-C.
///
/// # Errors
/// Names the step that failed.
pub(crate) fn run() -> Result<(), WireError> {
    if !nix::unistd::geteuid().is_root() {
        let exe = std::env::current_exe().unwrap_or_else(|_| "edged".into());
        let hint =
            format!("the demo runs containers, which needs root: sudo {} demo", exe.display());
        return Err(failed("demo", hint));
    }
    telemetry::start(tracing::level_filters::LevelFilter::ERROR);
    let place = Place::make()?;
    let config = place.config()?;
    let result = wire::runtime()?.block_on(play(&config));
    let mut show = Show::new();
    show.begin("Cleaning up");
    let cleaned = cleanup::run(&config, true);
    let removed = place.remove();
    show.done("everything the demo made is gone");
    result.and(cleaned).and(removed)
}

/// The demo's own directories, so that it meddles with no other cluster on the machine.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn make() -> Result<Place, WireError> {
        let dir = std::env::temp_dir().join(format!("edged-demo-{}", std::process::id()));
        std::fs::create_dir(&dir).map_err(|e| failed(&format!("make {}", dir.display()), e))?;
        Ok(Place { dir })
    }

    fn config(&self) -> Result<Config, WireError> {
        let port = |listen: u16| {
            free_port(listen).map(|p| format!("0.0.0.0:{p}")).map_err(|e| failed("find a port", e))
        };
        let settings = Settings {
            data_dir: Some(self.dir.join("data")),
            run_dir: Some(self.dir.join("run")),
            listen: Some(port(6443)?),
            agent_listen: Some(port(10250)?),
            cgroup_parent: Some(format!("/edged-demo-{}", std::process::id())),
            log: Some("error".into()),
            ..Settings::default()
        };
        Config::from_parts(&settings, File::default()).map_err(|e| failed("demo", e))
    }

    fn remove(&self) -> Result<(), WireError> {
        std::fs::remove_dir_all(&self.dir)
            .map_err(|e| failed(&format!("remove {}", self.dir.display()), e))
    }
}

/// `wanted` if nothing listens there, else a port that the kernel picks.
fn free_port(wanted: u16) -> std::io::Result<u16> {
    let at = |port| TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    Ok(at(wanted).or_else(|_| at(0))?.local_addr()?.port())
}

async fn play(config: &Config) -> Result<(), WireError> {
    let (stop, stopped) = watch::channel(false);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| failed("listen", e))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| failed("listen", e))?;
    let mut show = Show::new();
    show.begin("Starting a one-board cluster");
    let board = wire::start(config.clone(), true, stopped).await?;
    let result = tokio::select! {
        told = tell(config, &board, &mut show) => match told {
            Ok(()) => {
                tokio::select! {
                    _ = interrupt.recv() => Ok(()),
                    _ = terminate.recv() => Ok(()),
                    ended = board.agent_end() => ended,
                }
            }
            Err(error) => Err(error),
        },
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        ended = board.agent_end() => ended,
    };
    show.interrupted();
    // A receiver that is gone has stopped already.
    let _ = stop.send(true);
    let finished = board.finish().await;
    result.and(finished)
}

/// The story, step by step.
async fn tell(config: &Config, board: &wire::Board, show: &mut Show) -> Result<(), WireError> {
    let kubeconfig = config.data_dir.join("admin.kubeconfig");
    let client = client(&kubeconfig)?;
    until("the board is not Ready", || node_ready(&client, &config.name)).await?;
    show.done(&format!("API at https://{}, board {} is Ready", board.address(), config.name));

    show.begin("Loading the example image");
    let (name, size) = load_image(&client, &config.name).await?;
    show.done(&format!("{name}, {:.1} MB, made by edged itself", size as f64 / 1e6));

    show.begin("Applying docs/examples/web.yaml");
    for document in documents()? {
        create(&client, &document).await?;
    }
    show.done("deployment.apps/web and service/web created");

    show.begin("Waiting for 3 replicas");
    let started = Instant::now();
    rollout(&client, show).await?;
    show.done(&format!("3 of 3 ready after {} ms", started.elapsed().as_millis()));

    let service = client
        .get(kinds::SERVICE, "default", NAME)
        .await
        .map_err(|e| failed("read service/web", e))?;
    let address = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let target: SocketAddr = format!("{address}:80")
        .parse()
        .map_err(|e| failed(&format!("service/web has the address {address:?}"), e))?;
    show.begin(&format!("Fetching http://{address}/ through the Service"));
    let mut answers = Vec::new();
    for _ in 0..FETCHES {
        answers.push(page::fetch(target).await.map_err(|e| failed("fetch the page", e))?);
    }
    show.done(&format!("{FETCHES} answers"));
    for answer in answers {
        show.line(&format!("answered by {answer}"));
    }
    let node_port = service["spec"]["ports"][0]["nodePort"].as_u64().unwrap_or_default();
    show.next(&kubeconfig, config.node_ip, node_port);
    Ok(())
}

fn client(kubeconfig: &Path) -> Result<Client, WireError> {
    let config = edge_client::Config::from_kubeconfig(kubeconfig, None)
        .map_err(|e| failed("read the kubeconfig", e))?;
    Client::new(config).map_err(|e| failed("make a client", e))
}

/// Asks until the answer is yes, or patience is up.
async fn until<F>(otherwise: &str, ask: impl Fn() -> F) -> Result<(), WireError>
where
    F: Future<Output = bool>,
{
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if ask().await {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(failed("demo", format!("{otherwise} after {} s", PATIENCE.as_secs())))
}

async fn node_ready(client: &Client, name: &str) -> bool {
    let Ok(node) = client.get(kinds::NODE, "", name).await else { return false };
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Makes the example image and loads it as `edgectl image load` would. Returns its name and size.
async fn load_image(client: &Client, node: &str) -> Result<(String, usize), WireError> {
    let mut archive = Vec::new();
    let name = edge_node::images::build::webserver(&mut archive)
        .map_err(|e| failed("make the example image", e))?;
    let size = archive.len();
    let request = http::Request::post(format!("/api/v1/nodes/{node}/proxy/images/load"))
        .header("content-type", "application/x-tar")
        .body(edge_client::body::full(archive))
        .map_err(|e| failed("load the example image", e))?;
    let answer = client.request(request).await.map_err(|e| failed("load the example image", e))?;
    let body = answer.into_body().collect().await;
    let body = body.map_err(|e| failed("load the example image", e))?.to_bytes();
    let last = body.split(|b| *b == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
    let last: Object = serde_json::from_slice(last).map_err(|e| failed("load the image", e))?;
    if last["loaded"].is_array() { Ok((name, size)) } else { Err(failed("load the image", last)) }
}

/// The example's documents.
fn documents() -> Result<Vec<Object>, WireError> {
    use serde::Deserialize;
    serde_yaml::Deserializer::from_str(EXAMPLE)
        .map(|d| Object::deserialize(d).map_err(|e| failed("read the example", e)))
        .collect()
}

async fn create(client: &Client, document: &Object) -> Result<(), WireError> {
    let kind = match document["kind"].as_str() {
        Some("Deployment") => kinds::DEPLOYMENT,
        _ => kinds::SERVICE,
    };
    client
        .create(kind, "default", document, &WriteParams::default())
        .await
        .map(|_| ())
        .map_err(|e| failed(&format!("create {}", meta::name(document)), e))
}

/// Follows the rollout, and shows each step of it.
async fn rollout(client: &Client, show: &mut Show) -> Result<(), WireError> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let web = client
            .get(kinds::DEPLOYMENT, "default", NAME)
            .await
            .map_err(|e| failed("read deployment.apps/web", e))?;
        let ready = web["status"]["readyReplicas"].as_u64().unwrap_or_default();
        show.progress(&format!("{ready} of 3 ready"));
        if ready == 3 {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(failed("demo: the replicas did not come up", why(client).await))
}

/// What the pods themselves say of their trouble.
async fn why(client: &Client) -> String {
    let Ok(pods) = client.list(kinds::POD, "default", &ListParams::default()).await else {
        return "the API does not answer".into();
    };
    let words = pods.items.iter().flat_map(|pod| {
        let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        let phase = pod["status"]["phase"].as_str().unwrap_or("Unknown").to_owned();
        let name = meta::name(pod).to_owned();
        statuses
            .iter()
            .map(|s| format!("{name}: {phase} {}", s["state"]))
            .chain(statuses.is_empty().then(|| format!("{name}: {phase}")))
            .collect::<Vec<_>>()
    });
    words.collect::<Vec<_>>().join("; ")
}
