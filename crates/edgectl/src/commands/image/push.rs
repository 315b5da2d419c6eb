//! `image push`: an archive goes to one board, its names are written into the cluster's state, and
//! the other boards take the image from there when they need it, or at once.

use super::archive::Survey;
use super::{human_bytes, nodes, on_node, upload};
use crate::fault::Fault;
use crate::session::Session;
use edge_api::Object;
use edge_client::query::escape;
use edge_client::{Call, Client};
use futures_util::future::join_all;
use http::Method;
use serde_json::json;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Push {
    /// The archive, as `docker save` or `skopeo copy … oci-archive:` make it
    file: PathBuf,
    /// What the image is to be called, when the archive has one; otherwise by the archive's names
    #[arg(long)]
    name: Option<String>,
    /// The board to send it to; otherwise the server's own, or the one with the most free disk
    #[arg(long)]
    node: Option<String>,
    /// Bring it to every board at once, instead of when a pod needs it
    #[arg(long)]
    everywhere: bool,
}

pub(super) async fn run(args: Push, session: &mut Session) -> Result<(), Fault> {
    let shown = args.file.display().to_string();
    let doing = |error| Fault::io(format!("read {shown}"), error);
    let metadata = std::fs::metadata(&args.file).map_err(doing)?;
    if metadata.is_dir() {
        return Err(Fault::text(format!("{shown} is a directory: pack it with tar first")));
    }
    let mut file = File::open(&args.file).map_err(doing)?;
    let client = session.client()?;
    let node = match &args.node {
        Some(node) => node.clone(),
        None => {
            let answer = client.call(&Call::get("/edged/v1/images/target")).await?;
            answer.object["node"].as_str().unwrap_or_default().to_owned()
        }
    };
    let survey = Survey::of(&mut file);
    let parts = missing(&client, &node, &survey, metadata.len()).await?;
    let sent: u64 = parts.iter().map(|part| part.end - part.start).sum();
    let path = match &args.name {
        Some(name) => on_node(&node, &format!("images/load?name={}", escape(name))),
        None => on_node(&node, "images/load"),
    };
    let loaded = upload::send(session, &client, &path, &args.file, parts, &node).await?;
    let images = loaded.images.as_array().cloned().unwrap_or_default();
    let named = |image: &&Object| image["name"].as_str().is_some_and(|n| !n.starts_with("sha256:"));
    let images: Vec<Object> = images.iter().filter(named).cloned().collect();
    if images.is_empty() {
        return Err(Fault::text(format!(
            "{shown} has no name for its image: give one with --name, such as --name app:1"
        )));
    }
    let call = Call::new(Method::POST, "/edged/v1/images/names").json(&json!(images));
    client.call(&call).await?;
    for image in &images {
        let name = image["name"].as_str().unwrap_or_default();
        let of = metadata.len();
        session.io.line(format!(
            "{name} pushed to node/{node} ({} of {} sent)",
            human_bytes(sent),
            human_bytes(of)
        ))?;
    }
    session.io.flush()?;
    if args.everywhere { everywhere(session, &client, &node, &images).await } else { Ok(()) }
}

/// The parts of the archive that the board lacks.
async fn missing(
    client: &Client,
    node: &str,
    survey: &Survey,
    size: u64,
) -> Result<Vec<Range<u64>>, Fault> {
    if survey.images.is_empty() {
        return Ok(survey.parts(&[], size));
    }
    let diffs: Vec<&Vec<String>> = survey.images.iter().map(|(diffs, _)| diffs).collect();
    let call = Call::new(Method::POST, on_node(node, "images/missing")).json(&json!(diffs));
    let missing = match client.call(&call).await {
        Ok(answer) => serde_json::from_value(answer.object["missing"].clone()).unwrap_or_default(),
        // The board finds the archive strange; it says so better when it loads it.
        Err(error) if error.code() == 400 => Vec::new(),
        Err(error) => return Err(Fault::when(error, format!("ask node {node} for its layers"))),
    };
    Ok(survey.parts(&missing, size))
}

/// Has all other boards take the images, all at the same time: they share the work.
async fn everywhere(
    session: &mut Session,
    client: &Client,
    first: &str,
    images: &[Object],
) -> Result<(), Fault> {
    let others = nodes(client, &[]).await?;
    let others: Vec<String> = others.into_iter().filter(|node| node != first).collect();
    let names: Vec<&str> = images.iter().filter_map(|image| image["name"].as_str()).collect();
    let pulls = others.iter().map(|node| {
        let names = &names;
        async move {
            for name in names {
                upload::pull(client, node, name).await?;
            }
            Ok::<_, Fault>(node)
        }
    });
    let mut faults = Vec::new();
    for pulled in join_all(pulls).await {
        match pulled {
            Ok(node) => {
                for name in &names {
                    session.io.line(format!("node/{node} has {name}"))?;
                }
            }
            Err(fault) => faults.push(fault),
        }
    }
    session.io.flush()?;
    Fault::all(faults)
}
