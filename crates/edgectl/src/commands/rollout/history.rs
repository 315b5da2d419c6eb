//! `rollout history` and `rollout undo`: the ReplicaSets that a Deployment keeps are its past.

use super::{deployment_only, manager};
use crate::describe;
use crate::fault::Fault;
use crate::output::Format;
use crate::output::tabs;
use crate::pods::selector_text;
use crate::resource::Resource;
use crate::session::Session;
use crate::targets::{Target, one};
use crate::writing;
use edge_api::{Object, kinds, meta};
use edge_client::query::Query;
use edge_client::{Call, PatchType};
use serde_json::json;

const REVISION: &str = "deployment.kubernetes.io/revision";
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
const HASH: &str = "pod-template-hash";

#[derive(Debug, clap::Args)]
pub(super) struct History {
    /// TYPE NAME, or TYPE/NAME
    words: Vec<String>,
    /// Show this revision in full
    #[arg(long, default_value_t = 0)]
    revision: i64,
    /// yaml, json, …: the ReplicaSet of the revision
    #[arg(short, long)]
    output: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Undo {
    /// TYPE NAME, or TYPE/NAME
    words: Vec<String>,
    /// To this revision; 0 is the one before the present one
    #[arg(long, default_value_t = 0)]
    to_revision: i64,
    /// Say what would be done
    #[arg(long, value_enum, default_value = "none", default_missing_value = "client",
          num_args = 0..=1, require_equals = true)]
    dry_run: writing::DryRun,
}

pub(super) async fn history(args: History, session: &mut Session) -> Result<(), Fault> {
    let target = one(session, &args.words).await?;
    deployment_only(&target)?;
    let deployment = target.read(session).await?;
    let revisions = revisions(session, &target, &deployment).await?;
    let format = Format::parse(args.output.as_deref())?;
    let reference = target.reference();
    if args.revision > 0 {
        let set = find(&revisions, args.revision)?;
        if !format.is_table() {
            let text = format.render(set)?;
            return session.io.print(&text);
        }
        session.io.line(format!("{reference} with revision #{}", args.revision))?;
        session.io.line("Pod Template:")?;
        let text = describe::template(&set["spec"]["template"]);
        return session.io.line(text);
    }
    session.io.line(format!("{reference} "))?;
    let mut text = "REVISION\tCHANGE-CAUSE\n".to_string();
    for (revision, set) in &revisions {
        let cause = meta::annotation(set, CHANGE_CAUSE).unwrap_or("<none>");
        text.push_str(&format!("{revision}\t{cause}\n"));
    }
    session.io.print(&tabs::DESCRIBE.align(&text))?;
    session.io.line("")
}

pub(super) async fn undo(args: Undo, session: &mut Session) -> Result<(), Fault> {
    let target = one(session, &args.words).await?;
    deployment_only(&target)?;
    let deployment = target.read(session).await?;
    if deployment["spec"]["paused"] == true {
        return Err(Fault::text(format!(
            "you cannot rollback a paused deployment; resume it first with 'edgectl rollout resume \
             {}' and try again",
            target.reference()
        )));
    }
    let revisions = revisions(session, &target, &deployment).await?;
    let set = match args.to_revision {
        0 => match revisions.as_slice() {
            [.., (_, before), _] => before,
            _ => {
                return Err(Fault::text(format!(
                    "no rollout history found for deployment {:?}",
                    target.name
                )));
            }
        },
        wanted => find(&revisions, wanted)?,
    };
    let mut template = set["spec"]["template"].clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH);
    }
    let reference = target.reference();
    if template == deployment["spec"]["template"] {
        let number = meta::annotation(set, REVISION).unwrap_or("");
        return session.io.line(format!(
            "{reference} skipped rollback (current template already matches revision {number})"
        ));
    }
    if args.dry_run != writing::DryRun::Client {
        let mut params = manager();
        params.dry_run = args.dry_run == writing::DryRun::Server;
        let patch = json!([{"op": "replace", "path": "/spec/template", "value": template}]);
        writing::patch(session, &target.path(None), PatchType::Json, &patch, &params).await?;
    }
    let suffix = if args.dry_run == writing::DryRun::None { "" } else { " (dry run)" };
    session.io.line(format!("{reference} rolled back{suffix}"))
}

/// The ReplicaSets of a Deployment with their revisions, oldest first.
async fn revisions(
    session: &mut Session,
    target: &Target,
    deployment: &Object,
) -> Result<Vec<(i64, Object)>, Fault> {
    let mut query = Query::new();
    query.add_some("labelSelector", selector_text(deployment).as_deref());
    let path = Resource::from(kinds::REPLICA_SET).path(&target.namespace, "", None);
    let mut list = session.client()?.call(&Call::get(query.on(&path))).await?.object;
    let Object::Array(sets) = list["items"].take() else { return Ok(Vec::new()) };
    let owner = meta::uid(deployment);
    let mut found: Vec<(i64, Object)> = sets
        .into_iter()
        .filter(|set| meta::controller(set).is_some_and(|controller| controller.uid == owner))
        .filter_map(|set| Some((meta::annotation(&set, REVISION)?.parse().ok()?, set)))
        .collect();
    found.sort_by_key(|(revision, _)| *revision);
    Ok(found)
}

fn find(revisions: &[(i64, Object)], wanted: i64) -> Result<&Object, Fault> {
    let found = revisions.iter().find(|(revision, _)| *revision == wanted);
    found.map(|(_, set)| set).ok_or_else(|| {
        Fault::text(format!("unable to find specified revision {wanted} in history"))
    })
}
