//! `rollout`: how far a Deployment's change has come, what there was before, and back to it.

mod history;
mod status;

use crate::fault::Fault;
use crate::session::Session;
use crate::targets::{Files, Target, Which, expand};
use crate::writing;
use edge_api::Object;
use edge_client::{PatchType, WriteParams};
use jiff::Timestamp;
use serde_json::json;

/// The annotation of the template that makes a restart.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// Manage the rollout of a Deployment
#[derive(Debug, clap::Args)]
pub(crate) struct Rollout {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show how far it has come, until it is done
    Status(status::Status),
    /// Show earlier revisions
    History(history::History),
    /// Go back to an earlier revision
    Undo(history::Undo),
    /// Replace all pods by new ones
    Restart(Simple),
    /// Let changes wait
    Pause(Simple),
    /// Let changes happen again
    Resume(Simple),
}

/// Commands that take objects only.
#[derive(Debug, clap::Args)]
struct Simple {
    /// TYPE NAME…, or TYPE/NAME…
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    which: Which,
}

pub(crate) async fn run(args: Rollout, session: &mut Session) -> Result<(), Fault> {
    match args.command {
        Command::Status(args) => status::run(args, session).await,
        Command::History(args) => history::history(args, session).await,
        Command::Undo(args) => history::undo(args, session).await,
        Command::Restart(args) => {
            let now = Timestamp::now().to_string();
            let moment = now.split('.').next().unwrap_or(&now).trim_end_matches('Z');
            let annotations = json!({RESTARTED: format!("{moment}Z")});
            let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
            each(args, session, &patch, "restarted", |object| {
                let paused = object["spec"]["paused"] == true;
                paused.then_some("can't restart paused deployment (run rollout resume first)")
            })
            .await
        }
        Command::Pause(args) => {
            each(args, session, &json!({"spec": {"paused": true}}), "paused", |object| {
                (object["spec"]["paused"] == true).then_some("is already paused")
            })
            .await
        }
        Command::Resume(args) => {
            each(args, session, &json!({"spec": {"paused": null}}), "resumed", |object| {
                (object["spec"]["paused"] != true).then_some("is not paused")
            })
            .await
        }
    }
}

/// Patches every object, unless something speaks against it.
async fn each(
    args: Simple,
    session: &mut Session,
    patch: &Object,
    done: &str,
    objection: impl Fn(&Object) -> Option<&'static str>,
) -> Result<(), Fault> {
    let targets = expand(session, &args.words, &args.files, &args.which, false).await?;
    let mut faults = Vec::new();
    for target in targets {
        match one(session, &target, patch, &objection).await {
            Ok(()) => session.io.line(format!("{} {done}", target.reference()))?,
            Err(fault) => faults.push(fault),
        }
    }
    Fault::all(faults)
}

async fn one(
    session: &mut Session,
    target: &Target,
    patch: &Object,
    objection: &impl Fn(&Object) -> Option<&'static str>,
) -> Result<(), Fault> {
    deployment_only(target)?;
    let object = target.read(session).await?;
    if let Some(why) = objection(&object) {
        return Err(Fault::text(format!(
            "{} {:?} {why}",
            target.resource.plural_name(),
            target.name
        )));
    }
    let params = manager();
    writing::patch(session, &target.path(None), PatchType::Merge, patch, &params).await?;
    Ok(())
}

fn manager() -> WriteParams {
    WriteParams { field_manager: Some(writing::MANAGER.to_string()), ..WriteParams::default() }
}

fn deployment_only(target: &Target) -> Result<(), Fault> {
    match target.resource.kind.as_str() {
        "Deployment" => Ok(()),
        _ => Err(Fault::text(format!(
            "no rollouts for {}: only deployments have them",
            target.resource.singular_name()
        ))),
    }
}
