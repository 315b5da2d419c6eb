//! `image push`, `load`, `list` and `rm`: images on the boards themselves, without any registry.
//! An archive goes through the API server, so it works from wherever the API does.

mod archive;
mod chain;
mod cluster;
mod push;
pub(super) mod upload;

use crate::fault::Fault;
use crate::output::tabs::Rows;
use crate::output::{self, Format};
use crate::resource::Resource;
use crate::session::Session;
use edge_api::{Object, kinds, meta};
use edge_client::query::escape;
use edge_client::{Call, Client};
use serde_json::json;
use std::path::PathBuf;

/// Images on the boards
#[derive(Debug, clap::Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Put an image archive (OCI or docker, gzip or not) on the cluster, for all boards
    Push(push::Push),
    /// Bring an image archive onto boards, one by one, without a name in the cluster
    Load(Load),
    /// Show the images that the boards have
    #[command(visible_aliases = ["ls", "images"])]
    List(List),
    /// Take names of pushed images off the cluster; boards remove the images when they need room
    #[command(visible_aliases = ["remove", "rmi"])]
    Rm(cluster::Rm),
}

#[derive(Debug, clap::Args)]
struct Load {
    /// The archive, as `docker save` or `skopeo copy … oci-archive:` make it
    file: PathBuf,
    /// Only onto this board; may be given several times. Otherwise onto every one that is ready
    #[arg(long)]
    node: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only of this board; may be given several times
    #[arg(long)]
    node: Vec<String>,
    /// yaml, json or jsonpath=TEMPLATE
    #[arg(short, long)]
    output: Option<String>,
    /// Leave the headers out
    #[arg(long)]
    no_headers: bool,
    /// The images that were pushed to the cluster, and which boards have them
    #[arg(long, conflicts_with = "node")]
    pushed: bool,
}

pub(crate) async fn run(args: Image, session: &mut Session) -> Result<(), Fault> {
    match args.command {
        Command::Push(args) => push::run(args, session).await,
        Command::Rm(args) => cluster::remove(args, session).await,
        Command::List(args) if args.pushed => {
            cluster::list(args.output.as_deref(), args.no_headers, session).await
        }
        Command::Load(args) => load(args, session).await,
        Command::List(args) => list(args, session).await,
    }
}

/// The path of something that a board itself answers.
fn on_node(node: &str, rest: &str) -> String {
    format!("/api/v1/nodes/{}/proxy/{rest}", escape(node))
}

/// The boards named, or all that are ready.
async fn nodes(client: &Client, named: &[String]) -> Result<Vec<String>, Fault> {
    let path = Resource::from(kinds::NODE).path("", "", None);
    if !named.is_empty() {
        // Asked before an archive is on its way, since a refusal would cut that off unheard.
        for node in named {
            client.call(&Call::get(format!("{path}/{}", escape(node)))).await?;
        }
        return Ok(named.to_vec());
    }
    let list = client.call(&Call::get(path)).await?.object;
    let all = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let ready = |node: &&Object| {
        let conditions = node["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let found: Vec<String> =
        all.iter().filter(ready).map(|node| meta::name(node).to_string()).collect();
    match (found.is_empty(), all.len()) {
        (false, _) => Ok(found),
        (true, 0) => Err(Fault::text("there is no node")),
        (true, count) => Err(Fault::text(format!(
            "none of the {count} nodes is ready: see `edgectl get nodes`, or name one with --node"
        ))),
    }
}

async fn load(args: Load, session: &mut Session) -> Result<(), Fault> {
    let shown = args.file.display().to_string();
    let metadata =
        std::fs::metadata(&args.file).map_err(|error| Fault::io(format!("read {shown}"), error))?;
    if metadata.is_dir() {
        return Err(Fault::text(format!(
            "{shown} is a directory: pack it first, for example with \
             `tar -C {shown} -cf image.tar .`"
        )));
    }
    let client = session.client()?;
    let nodes = nodes(&client, &args.node).await?;
    let mut faults = Vec::new();
    let whole = std::slice::from_ref(&(0..metadata.len())).to_vec();
    for node in nodes {
        let path = on_node(&node, "images/load");
        match upload::send(session, &client, &path, &args.file, whole.clone(), &node).await {
            Ok(loaded) => {
                for reference in loaded.names {
                    session.io.line(format!("node/{node} loaded {reference}"))?;
                }
                session.io.flush()?;
            }
            Err(fault) => faults.push(fault),
        }
    }
    Fault::all(faults)
}

async fn list(args: List, session: &mut Session) -> Result<(), Fault> {
    let format = Format::parse(args.output.as_deref())?;
    let client = session.client()?;
    let mut rows = Vec::new();
    let mut items = Vec::new();
    let mut faults = Vec::new();
    for node in nodes(&client, &args.node).await? {
        let answer = match client.call(&Call::get(on_node(&node, "images"))).await {
            Ok(answer) => answer.object,
            Err(error) => {
                faults.push(Fault::when(error, format!("node {node}")));
                continue;
            }
        };
        let images = answer.as_array().or(answer["images"].as_array());
        for image in images.into_iter().flatten() {
            rows.extend(lines(&node, image));
            let mut item = image.clone();
            item["node"] = json!(node);
            items.push(item);
        }
    }
    if !format.is_table() {
        let text = format.render(&output::list_of(items))?;
        session.io.print(&text)?;
        return Fault::all(faults);
    }
    rows.sort();
    if !args.no_headers {
        rows.insert(0, ["NODE", "IMAGE", "ID", "SIZE"].map(str::to_string).to_vec());
    }
    let text = Rows::default().render(&rows);
    session.io.print(&text)?;
    Fault::all(faults)
}

/// A row for each name of an image; one for an image without a name.
fn lines(node: &str, image: &Object) -> Vec<Vec<String>> {
    let id = image["id"].as_str().unwrap_or("");
    let short: String = id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect();
    let bytes = image["bytes"].as_u64().unwrap_or(0);
    let names = |field: &str| -> Vec<String> {
        let list = image[field].as_array().into_iter().flatten();
        list.filter_map(|name| name.as_str().map(str::to_string)).collect()
    };
    let mut named = names("tags");
    if named.is_empty() {
        named = names("digests");
    }
    if named.is_empty() {
        named.push("<none>".to_string());
    }
    let row = |name| vec![node.to_string(), name, short.clone(), human_bytes(bytes)];
    named.into_iter().map(row).collect()
}

/// `1.5MiB`.
fn human_bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes}B") } else { format!("{value:.1}{}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_an_image() {
        let image = json!({"id": "sha256:0123456789abcdef", "tags": ["a:1", "a:2"],
                           "bytes": 1_572_864});
        let rows = lines("n", &image);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1], ["n", "a:2", "0123456789ab", "1.5MiB"]);
        assert_eq!(lines("n", &json!({"id": "x"}))[0], ["n", "<none>", "x", "0B"]);
    }
}
