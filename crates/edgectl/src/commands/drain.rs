//! `cordon`, `uncordon` and `drain`: no more pods for a board, pods again, and none left on it.

mod evict;
mod filter;

use crate::fault::Fault;
use crate::output::age;
use crate::resource::Resource;
use crate::session::Session;
use crate::targets::{Files, Target, Which, expand};
use crate::writing::{self, DryRun, MANAGER};
use edge_api::{Object, kinds, meta};
use edge_client::{ListParams, PatchType, WriteParams};
use filter::Choice;
use serde_json::json;
use std::time::Duration;

/// Which boards.
#[derive(Debug, clap::Args)]
pub(crate) struct Boards {
    /// Names of nodes
    nodes: Vec<String>,
    /// Nodes with these labels
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Say what would be done: `client` sends nothing, `server` lets the server check
    #[arg(long, value_enum, default_value = "none", default_missing_value = "client",
          num_args = 0..=1, require_equals = true)]
    dry_run: DryRun,
}

/// Mark a node as unschedulable
#[derive(Debug, clap::Args)]
pub(crate) struct Cordon {
    #[command(flatten)]
    boards: Boards,
}

/// Move all pods off a node, in preparation for maintenance
#[derive(Debug, clap::Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    boards: Boards,
    /// Only pods with these labels
    #[arg(long)]
    pod_selector: Option<String>,
    /// Leave the pods of DaemonSets where they are
    #[arg(long)]
    ignore_daemonsets: bool,
    /// Also pods with an emptyDir, whose content is lost
    #[arg(long, alias = "delete-local-data")]
    delete_emptydir_data: bool,
    /// Also pods that nobody will make again elsewhere
    #[arg(long)]
    force: bool,
    /// Seconds that pods have to end by themselves; negative: what each pod says
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    grace_period: i64,
    /// Give up after this long; 0 waits for ever
    #[arg(long, default_value = "0s")]
    timeout: String,
    /// Delete pods instead of evicting them, past their disruption budgets
    #[arg(long)]
    disable_eviction: bool,
    /// Do not wait for pods that have been ending for longer than this many seconds; 0 waits
    #[arg(long, default_value_t = 0)]
    skip_wait_for_delete_timeout: i64,
}

fn suffix(dry_run: DryRun) -> &'static str {
    match dry_run {
        DryRun::None => "",
        DryRun::Client => " (dry run)",
        DryRun::Server => " (server dry run)",
    }
}

/// The Nodes that are meant, as they are now.
async fn find(boards: &Boards, command: &str, session: &mut Session) -> Result<Vec<Object>, Fault> {
    if boards.nodes.is_empty() && boards.selector.is_none() {
        return Err(Fault::text(format!(
            "USAGE: {command} NODE [flags]\nSee 'edgectl {command} -h' for help and examples"
        )));
    }
    if !boards.nodes.is_empty() && boards.selector.is_some() {
        return Err(Fault::text(format!(
            "error: cannot specify both a node name and a --selector option\n\
             See 'edgectl {command} -h' for help and examples"
        )));
    }
    // `node/board-1` is as good as `board-1`.
    let plain = |name: &String| match name.split_once('/') {
        Some(("node" | "nodes" | "no", name)) => name.to_owned(),
        _ => name.clone(),
    };
    let mut words = vec!["nodes".to_owned()];
    words.extend(boards.nodes.iter().map(plain));
    let which = Which { selector: boards.selector.clone(), ..Which::default() };
    let mut found = Vec::new();
    for target in expand(session, &words, &Files::default(), &which, false).await? {
        found.push(target.read(session).await?);
    }
    Ok(found)
}

/// `cordon` and `uncordon`.
pub(crate) async fn cordon(args: Cordon, on: bool, session: &mut Session) -> Result<(), Fault> {
    let nodes = find(&args.boards, if on { "cordon" } else { "uncordon" }, session).await?;
    mark(&nodes, on, args.boards.dry_run, session).await
}

/// Marks boards; one that can't be marked doesn't keep the others from it.
async fn mark(
    nodes: &[Object],
    on: bool,
    dry_run: DryRun,
    session: &mut Session,
) -> Result<(), Fault> {
    let (verb, done) = if on { ("cordon", "cordoned") } else { ("uncordon", "uncordoned") };
    for node in nodes {
        let name = meta::name(node);
        if (node["spec"]["unschedulable"] == true) == on {
            session.io.line(format!("node/{name} already {done}{}", suffix(dry_run)))?;
            continue;
        }
        if dry_run != DryRun::Client {
            let value = if on { json!(true) } else { Object::Null };
            let patch = json!({"spec": {"unschedulable": value}});
            let params = WriteParams {
                dry_run: dry_run == DryRun::Server,
                field_manager: Some(MANAGER.to_owned()),
                field_validation: None,
            };
            let path = Resource::from(kinds::NODE).path("", name, None);
            let sent = writing::patch(session, &path, PatchType::Merge, &patch, &params).await;
            if let Err(error) = sent {
                session.io.say(format!("error: unable to {verb} node {name:?}: {error}"));
                continue;
            }
        }
        session.io.line(format!("node/{name} {done}{}", suffix(dry_run)))?;
    }
    Ok(())
}

/// `drain`.
pub(crate) async fn drain(args: Drain, session: &mut Session) -> Result<(), Fault> {
    let timeout = age::parse_duration(&args.timeout)
        .ok_or_else(|| Fault::text(format!("--timeout: {:?} is not a duration", args.timeout)))?;
    let nodes = find(&args.boards, "drain", session).await?;
    mark(&nodes, true, args.boards.dry_run, session).await?;
    let mut pending: Vec<&str> = nodes.iter().map(meta::name).collect();
    let mut faults = Vec::new();
    for node in &nodes {
        let name = meta::name(node);
        if args.boards.dry_run == DryRun::None {
            super::boards::hand_over(name, session).await?;
        }
        match empty(&args, name, timeout, session).await {
            Ok(()) => {
                pending.retain(|known| *known != name);
                let done = suffix(args.boards.dry_run);
                session.io.line(format!("node/{name} drained{done}"))?;
            }
            Err(fault) => {
                let why = fault.to_string();
                let why = why.strip_prefix("error: ").unwrap_or(&why);
                session.io.say(format!(
                    "error: unable to drain node {name:?} due to error: {why}, continuing \
                     command..."
                ));
                session.io.say("There are pending nodes to be drained:");
                for name in &pending {
                    session.io.say(format!(" {name}"));
                }
                faults.push(why.to_owned());
            }
        }
    }
    for why in &faults {
        session.io.say(why);
    }
    if faults.is_empty() { Ok(()) } else { Err(Fault::Exit(1)) }
}

/// Takes all pods off one board.
async fn empty(
    args: &Drain,
    node: &str,
    timeout: Duration,
    session: &mut Session,
) -> Result<(), Fault> {
    let pods = leaving(args, node, session).await?;
    let outcome = evict::all(args, &pods, timeout, session).await;
    if let Err(fault) = &outcome {
        let still = leaving(args, node, session).await.unwrap_or_default();
        if !still.is_empty() {
            session.io.say(format!(
                "There are pending pods in node {node:?} when an error occurred: {fault}"
            ));
            for pod in still {
                session.io.say(format!("pod/{}", meta::name(&pod)));
            }
        }
    }
    outcome
}

/// The pods that a drain takes off; an error names those that it may not.
async fn leaving(args: &Drain, node: &str, session: &mut Session) -> Result<Vec<Object>, Fault> {
    let client = session.client()?;
    let params = ListParams {
        label_selector: args.pod_selector.clone(),
        field_selector: Some(format!("spec.nodeName={node}")),
        ..ListParams::default()
    };
    let list = client.list_all(kinds::POD, "", &params).await?;
    let mut choice = Choice::default();
    for pod in list.items {
        let owner = filter::lost_owner(&client, &pod).await?;
        choice.take(args, pod, owner);
    }
    if let Some(why) = choice.refusal() {
        return Err(Fault::text(why));
    }
    let warnings = choice.warnings();
    if !warnings.is_empty() {
        session.io.say(format!("Warning: {warnings}"));
    }
    Ok(choice.pods)
}

/// The object of a pod, for its paths.
fn target(pod: &Object) -> Target {
    Target {
        resource: Resource::from(kinds::POD),
        namespace: meta::namespace(pod).to_owned(),
        name: meta::name(pod).to_owned(),
        source: None,
    }
}
