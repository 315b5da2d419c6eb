//! `scale`: how many replicas there shall be.

use crate::fault::Fault;
use crate::session::Session;
use crate::targets::{Files, Target, Which, expand};
use crate::writing::{self, Writing};
use edge_client::PatchType;
use serde_json::json;

/// Set the number of replicas
#[derive(Debug, clap::Args)]
pub(crate) struct Scale {
    /// TYPE NAME…, or TYPE/NAME…
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    which: Which,
    /// All objects of the type
    #[arg(long)]
    all: bool,
    /// The number of replicas
    #[arg(long)]
    replicas: u32,
    /// Only if there are this many now
    #[arg(long)]
    current_replicas: Option<u64>,
    #[command(flatten)]
    writing: Writing,
}

pub(crate) async fn run(args: Scale, session: &mut Session) -> Result<(), Fault> {
    let targets = expand(session, &args.words, &args.files, &args.which, args.all).await?;
    let mut faults = Vec::new();
    for target in targets {
        if let Err(fault) = one(&args, &target, session).await {
            faults.push(fault);
        }
    }
    Fault::all(faults)
}

async fn one(args: &Scale, target: &Target, session: &mut Session) -> Result<(), Fault> {
    let object = target.read(session).await?;
    if let Some(expected) = args.current_replicas {
        let found = object["spec"]["replicas"].as_u64().unwrap_or(1);
        if found != expected {
            return Err(Fault::text(format!("Expected replicas to be {expected}, was {found}")));
        }
    }
    if !args.writing.is_local() {
        let patch = json!({"spec": {"replicas": args.replicas}});
        let path = target.path(Some("scale"));
        let params = args.writing.params();
        writing::patch(session, &path, PatchType::Merge, &patch, &params).await?;
    }
    args.writing.report(session, &target.resource, &object, "scaled")
}
