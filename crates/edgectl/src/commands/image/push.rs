//! `image push`: an archive goes to one board, its names are written into the cluster's state, and
//! the other boards take the image from there when they need it, or at once.

use super::archive::Survey;
use super::chain::Chain;
use super::{human_bytes, nodes, on_node, upload};
use crate::fault::Fault;
use crate::session::Session;
use edge_api::Object;
use edge_client::query::escape;
use edge_client::{Call, Client};
use http::Method;
use serde_json::json;
use std::fs::File;
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
    let others = match args.everywhere {
        true => nodes(&client, &[]).await?.into_iter().filter(|other| *other != node).collect(),
        false => Vec::new(),
    };
    let survey = Survey::of(&mut file);
    let lacking = lacking(&client, &node, &survey).await?;
    let parts = survey.parts(&lacking, metadata.len());
    let sent: u64 = parts.iter().map(|part| part.end - part.start).sum();
    let chain = Chain::start(&client, &node, &others, &survey, &lacking).await?;
    let mut path = on_node(&node, "images/load");
    path.push_str(&chain.query());
    if let Some(name) = &args.name {
        path.push_str(if path.contains('?') { "&name=" } else { "?name=" });
        path.push_str(&escape(name));
    }
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
    chain.finish(session, &client, &others, &images).await
}

/// Which layers of each image the board lacks; nothing of an archive that is sent whole.
pub(super) async fn lacking(
    client: &Client,
    node: &str,
    survey: &Survey,
) -> Result<Vec<Vec<usize>>, Fault> {
    if survey.images.is_empty() {
        return Ok(Vec::new());
    }
    let diffs: Vec<&Vec<String>> = survey.images.iter().map(|(diffs, _)| diffs).collect();
    let call = Call::new(Method::POST, on_node(node, "images/missing")).json(&json!(diffs));
    match client.call(&call).await {
        Ok(answer) => {
            Ok(serde_json::from_value(answer.object["missing"].clone()).unwrap_or_default())
        }
        // The board finds the archive strange; it says so better when it loads it.
        Err(error) if error.code() == 400 => Ok(Vec::new()),
        Err(error) => Err(Fault::when(error, format!("ask node {node} for its layers"))),
    }
}
