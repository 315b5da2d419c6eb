//! `patch`: changes that the person writes out.

use crate::fault::Fault;
use crate::input::yaml;
use crate::session::Session;
use crate::targets::{Files, Which, expand};
use crate::writing::{self, Writing};
use edge_api::patch;
use edge_client::PatchType;
use serde_json::Value;
use std::path::PathBuf;

/// Change fields of objects
#[derive(Debug, clap::Args)]
pub(crate) struct Patch {
    /// TYPE NAME…, or TYPE/NAME…
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// The patch, as JSON or YAML
    #[arg(short, long, conflicts_with = "patch_file")]
    patch: Option<String>,
    /// A file with the patch
    #[arg(long, value_name = "FILE")]
    patch_file: Option<PathBuf>,
    /// The language of the patch
    #[arg(long = "type", default_value = "strategic",
          value_parser = ["strategic", "merge", "json"])]
    kind: String,
    /// The part of the object to patch: status or scale
    #[arg(long)]
    subresource: Option<String>,
    #[command(flatten)]
    writing: Writing,
}

pub(crate) async fn run(args: Patch, session: &mut Session) -> Result<(), Fault> {
    let text = match (&args.patch, &args.patch_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map_err(|error| Fault::io(format!("read {}", path.display()), error))?,
        (None, None) => return Err(Fault::text("must specify --patch or --patch-file")),
    };
    let documents = yaml::documents(&text)
        .map_err(|why| Fault::text(format!("unable to parse {text:?}: {why}")))?;
    let [change] = documents.as_slice() else {
        return Err(Fault::text("a patch is one JSON or YAML document"));
    };
    let targets = expand(session, &args.words, &args.files, &Which::default(), false).await?;
    let params = args.writing.params();
    let mut faults = Vec::new();
    for target in targets {
        let patch_type = match args.kind.as_str() {
            "json" => PatchType::Json,
            "merge" => PatchType::Merge,
            _ => PatchType::Strategic,
        };
        let before = target.read(session).await?;
        let path = target.path(args.subresource.as_deref());
        let result = match (args.writing.is_local(), target.resource.known()) {
            (false, _) => writing::patch(session, &path, patch_type, change, &params).await,
            (true, Some(kind)) => patch::apply(kind, patch_type, &before, change)
                .map_err(|status| edge_client::Error::Status(Box::new(status))),
            (true, None) => Ok(before.clone()),
        };
        match result {
            Ok(after) => {
                let own = args.subresource.is_none();
                let same = if own { wish(&after) == wish(&before) } else { after == before };
                let done = if same { "patched (no change)" } else { "patched" };
                args.writing.report(session, &target.resource, &after, done)?;
            }
            Err(error) => faults.push(Fault::from(error)),
        }
    }
    Fault::all(faults)
}

/// What people wish for in an object: all but its status and its version, which controllers may
/// write between the reading of the object and its patch.
fn wish(object: &Value) -> Value {
    let mut wish = object.clone();
    if let Some(fields) = wish.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = wish.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    wish
}
