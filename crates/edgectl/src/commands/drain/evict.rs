//! Evicts pods and waits until they are gone, all of them side by side.

use super::filter::overdue;
use super::{Drain, suffix, target};
use crate::fault::Fault;
use crate::session::Session;
use crate::writing::DryRun;
use edge_api::{Object, meta};
use edge_client::{Call, Error};
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How often pods are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// An eviction that the server has put off is asked for again after this long.
const PUT_OFF: Duration = Duration::from_secs(5);

/// Where a pod is on its way.
enum Step {
    Ask(Instant),
    Wait,
    Done,
}

/// Takes the pods off.
pub(super) async fn all(
    args: &Drain,
    pods: &[Object],
    timeout: Duration,
    session: &mut Session,
) -> Result<(), Fault> {
    let began = Instant::now();
    let dry_run = args.boards.dry_run;
    let mut steps: Vec<Step> = pods.iter().map(|_| Step::Ask(began)).collect();
    let mut faults: Vec<String> = Vec::new();
    loop {
        for (pod, step) in pods.iter().zip(&mut steps) {
            let next = match step {
                Step::Ask(at) if *at <= Instant::now() => ask(args, pod, session).await,
                Step::Wait => wait(args, pod, session).await,
                _ => continue,
            };
            *step = next.unwrap_or_else(|why| {
                faults.push(why);
                Step::Done
            });
        }
        session.io.flush()?;
        if steps.iter().all(|step| matches!(step, Step::Done)) {
            break;
        }
        if !timeout.is_zero() && began.elapsed() >= timeout {
            let late = pods.iter().zip(&steps).filter(|(_, step)| !matches!(step, Step::Done));
            faults.extend(late.map(|(pod, step)| too_late(pod, step, &args.timeout)));
            break;
        }
        if dry_run == DryRun::None {
            tokio::time::sleep(LOOK).await;
        }
    }
    match faults.as_slice() {
        [] => Ok(()),
        [only] => Err(Fault::text(only)),
        several => Err(Fault::text(format!("[{}]", several.join(", ")))),
    }
}

fn too_late(pod: &Object, step: &Step, timeout: &str) -> String {
    let (name, namespace) = (meta::name(pod), meta::namespace(pod));
    let doing = match step {
        Step::Ask(_) => format!("error when evicting pods/{name:?} -n {namespace:?}"),
        _ => format!("error when waiting for pod {name:?} in namespace {namespace:?} to terminate"),
    };
    format!("{doing}: global timeout reached: {timeout}")
}

/// Asks for one pod's end. What goes wrong is told as `kubectl` tells it.
async fn ask(args: &Drain, pod: &Object, session: &mut Session) -> Result<Step, String> {
    let (name, namespace) = (meta::name(pod), meta::namespace(pod));
    let dry_run = args.boards.dry_run;
    let verb = if args.disable_eviction { "deleting" } else { "evicting" };
    let line = format!("{verb} pod {namespace}/{name}{}", suffix(dry_run));
    session.io.line(line).map_err(|fault| fault.to_string())?;
    if dry_run == DryRun::Client {
        return Ok(Step::Done);
    }
    let client = session.client().map_err(|fault| fault.to_string())?;
    match client.call(&call(args, pod)).await {
        Ok(_) if dry_run == DryRun::Server => Ok(Step::Done),
        Ok(_) => Ok(Step::Wait),
        Err(error) if error.is_not_found() => Ok(Step::Done),
        Err(Error::Status(status)) if status.code == 429 => {
            session.io.say(format!(
                "error when evicting pods/{name:?} -n {namespace:?} (will retry after 5s): {}",
                status.message
            ));
            Ok(Step::Ask(Instant::now() + PUT_OFF))
        }
        Err(error) => {
            let error = match &error {
                Error::Status(status) => status.message.clone(),
                other => other.to_string(),
            };
            Err(format!("error when {verb} pods/{name:?} -n {namespace:?}: {error}"))
        }
    }
}

fn call(args: &Drain, pod: &Object) -> Call {
    let mut options = json!({});
    if args.grace_period >= 0 {
        options["gracePeriodSeconds"] = json!(args.grace_period);
    }
    if args.boards.dry_run == DryRun::Server {
        options["dryRun"] = json!(["All"]);
    }
    if args.disable_eviction {
        options["preconditions"] = json!({"uid": meta::uid(pod)});
        return Call::new(Method::DELETE, target(pod).path(None)).json(&options);
    }
    let eviction: Value = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": meta::name(pod), "namespace": meta::namespace(pod)},
        "deleteOptions": options,
    });
    Call::new(Method::POST, target(pod).path(Some("eviction"))).json(&eviction)
}

/// Looks whether a pod is gone.
async fn wait(args: &Drain, pod: &Object, session: &mut Session) -> Result<Step, String> {
    let (name, patience) = (meta::name(pod), args.skip_wait_for_delete_timeout);
    match target(pod).read(session).await {
        Ok(now) if meta::uid(&now) == meta::uid(pod) => {
            if patience > 0 && overdue(&now).is_some_and(|seconds| seconds > patience) {
                let line = format!(
                    "pod/{name} has DeletionTimestamp older than {patience} seconds, skipping"
                );
                session.io.line(line).map_err(|fault| fault.to_string())?;
                return Ok(Step::Done);
            }
            return Ok(Step::Wait);
        }
        Err(fault) if !fault.is_not_found() => {
            let namespace = meta::namespace(pod);
            return Err(format!(
                "error when waiting for pod {name:?} in namespace {namespace:?} to terminate: \
                 {fault}"
            ));
        }
        _ => {}
    }
    let done = if args.disable_eviction { "deleted" } else { "evicted" };
    session.io.line(format!("pod/{name} {done}")).map_err(|fault| fault.to_string())?;
    Ok(Step::Done)
}
