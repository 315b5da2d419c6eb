//! `delete`: by name, by file, by label; and waits until the objects are gone.

use crate::fault::Fault;
use crate::output::{Format, age};
use crate::session::Session;
use crate::targets::{Files, Target, Which, expand};
use edge_api::Object;
use edge_client::query::Query;
use edge_client::{Call, DeleteParams, Propagation, WatchEvent};
use http::Method;
use std::time::Duration;

/// How long one look at a dying object lasts before it is read again.
const LOOK: Duration = Duration::from_secs(20);

/// Delete objects
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// TYPE NAME…, or TYPE/NAME…
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    which: Which,
    /// All objects of the type
    #[arg(long)]
    all: bool,
    /// Wait until they are gone
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = clap::ArgAction::Set)]
    wait: bool,
    /// Give up waiting after this long; 0 waits for ever
    #[arg(long, default_value = "0s")]
    timeout: String,
    /// Seconds that pods have to end by themselves
    #[arg(long, allow_hyphen_values = true)]
    grace_period: Option<i64>,
    /// Do not wait for the node to confirm; with --grace-period=0
    #[arg(long)]
    force: bool,
    /// End pods at once (a grace period of one second)
    #[arg(long, conflicts_with = "grace_period")]
    now: bool,
    /// What becomes of dependents: background, foreground or orphan
    #[arg(long, default_value = "background", default_missing_value = "background",
          num_args = 0..=1, require_equals = true,
          value_parser = ["background", "foreground", "orphan"])]
    cascade: String,
    /// An object that does not exist is no error
    #[arg(long, default_missing_value = "true", num_args = 0..=1, require_equals = true,
          action = clap::ArgAction::Set)]
    ignore_not_found: Option<bool>,
    /// Say what would be deleted: `client` sends nothing, `server` lets the server check
    #[arg(long, value_enum, default_value = "none", default_missing_value = "client",
          num_args = 0..=1, require_equals = true)]
    dry_run: crate::writing::DryRun,
    /// `name` prints TYPE/NAME only
    #[arg(short, long)]
    output: Option<String>,
}

pub(crate) async fn run(args: Delete, session: &mut Session) -> Result<(), Fault> {
    let timeout = age::parse_duration(&args.timeout)
        .ok_or_else(|| Fault::text(format!("--timeout: {:?} is not a duration", args.timeout)))?;
    let format = Format::parse(args.output.as_deref())?;
    if !format.is_table() && !matches!(format, Format::Name) {
        return Err(Fault::text("unexpected -o output mode: only '-o name' is supported"));
    }
    let targets = expand(session, &args.words, &args.files, &args.which, args.all).await?;
    if args.force && args.grace_period.is_none() && !args.now || args.grace_period == Some(0) {
        session.io.say(
            "Warning: Immediate deletion does not wait for confirmation that the running resource \
             has been terminated. The resource may continue to run on the cluster indefinitely.",
        );
    }
    if targets.is_empty() {
        session.io.say("No resources found");
        return Ok(());
    }
    let params = params(&args);
    let lenient = args.ignore_not_found.unwrap_or(args.all || args.which.selects());
    let mut faults = Vec::new();
    let mut dying = Vec::new();
    for target in targets {
        match one(&args, &params, &target, session).await {
            Ok(object) => {
                report(&args, &format, &target, session)?;
                let uid = object["metadata"]["uid"].as_str();
                let uid = uid.or(object["details"]["uid"].as_str()).unwrap_or("").to_string();
                dying.push((target, uid));
            }
            Err(fault) if fault.is_not_found() && lenient => {}
            Err(fault) => faults.push(fault),
        }
    }
    session.io.flush()?;
    if args.wait && args.dry_run == crate::writing::DryRun::None {
        for (target, uid) in dying {
            let gone = wait_gone(session, &target, &uid);
            let result = match timeout.is_zero() {
                true => gone.await,
                false => tokio::time::timeout(timeout, gone).await.unwrap_or_else(|_| {
                    let what = target.reference();
                    Err(Fault::text(format!("timed out waiting for the condition on {what}")))
                }),
            };
            faults.extend(result.err());
        }
    }
    Fault::all(faults)
}

fn params(args: &Delete) -> DeleteParams {
    let grace = match args.grace_period {
        Some(seconds) if seconds >= 0 => Some(seconds),
        _ if args.now => Some(1),
        _ if args.force => Some(0),
        _ => None,
    };
    DeleteParams {
        grace_period_seconds: grace,
        propagation: Some(match args.cascade.as_str() {
            "foreground" => Propagation::Foreground,
            "orphan" => Propagation::Orphan,
            _ => Propagation::Background,
        }),
        dry_run: args.dry_run == crate::writing::DryRun::Server,
        ..DeleteParams::default()
    }
}

async fn one(
    args: &Delete,
    params: &DeleteParams,
    target: &Target,
    session: &mut Session,
) -> Result<Object, Fault> {
    let client = session.client()?;
    let doing = |error| match &target.source {
        Some(source) => Fault::when(error, format!("error when deleting {source:?}")),
        None => Fault::from(error),
    };
    let call = match args.dry_run {
        crate::writing::DryRun::Client => Call::get(target.path(None)),
        _ => Call::new(Method::DELETE, target.path(None)).json(&params.body()),
    };
    Ok(client.call(&call).await.map_err(doing)?.object)
}

fn report(
    args: &Delete,
    format: &Format,
    target: &Target,
    session: &mut Session,
) -> Result<(), Fault> {
    if matches!(format, Format::Name) {
        return session.io.line(target.reference());
    }
    let done = if args.force { "force deleted" } else { "deleted" };
    let suffix = match args.dry_run {
        crate::writing::DryRun::None => "",
        crate::writing::DryRun::Client => " (dry run)",
        crate::writing::DryRun::Server => " (server dry run)",
    };
    let kind = target.resource.singular_name();
    session.io.line(format!("{kind} {:?} {done}{suffix}", target.name))
}

/// Returns when the object with this uid does not exist any more.
pub(crate) async fn wait_gone(
    session: &mut Session,
    target: &Target,
    uid: &str,
) -> Result<(), Fault> {
    let client = session.client()?;
    loop {
        let object = match client.call(&Call::get(target.path(None))).await {
            Ok(answer) => answer.object,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(Fault::from(error)),
        };
        let metadata = &object["metadata"];
        if !uid.is_empty() && metadata["uid"].as_str().is_some_and(|now| now != uid) {
            return Ok(());
        }
        let mut query = Query::new();
        query.add("watch", "true");
        query.add("fieldSelector", &format!("metadata.name={}", target.name));
        query.add_some("resourceVersion", metadata["resourceVersion"].as_str());
        let collection = target.resource.path(&target.namespace, "", None);
        let call = Call::get(query.on(&collection));
        let deleted = async {
            let mut stream = client.watch_call(&call).await.ok()?;
            loop {
                if let WatchEvent::Deleted(_) = stream.next().await?.ok()? {
                    return Some(());
                }
            }
        };
        if tokio::time::timeout(LOOK, deleted).await == Ok(None) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
