//! `rollout status`: says how far a rollout has come, each time that it gets further.

use super::deployment_only;
use crate::commands::get::follow_object;
use crate::fault::Fault;
use crate::output::age;
use crate::session::Session;
use crate::targets::one;
use edge_api::Object;

/// The annotation that numbers the revisions of a Deployment.
const REVISION: &str = "deployment.kubernetes.io/revision";

#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// TYPE NAME, or TYPE/NAME
    words: Vec<String>,
    /// Wait until it is done
    #[arg(short, long, default_value = "true", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = clap::ArgAction::Set)]
    watch: bool,
    /// Give up after this long; 0 waits for ever
    #[arg(long, default_value = "0s")]
    timeout: String,
    /// Only as long as this revision is the one being rolled out
    #[arg(long, default_value_t = 0)]
    revision: i64,
}

pub(super) async fn run(args: Status, session: &mut Session) -> Result<(), Fault> {
    let limit = age::parse_duration(&args.timeout)
        .ok_or_else(|| Fault::text(format!("--timeout: {:?} is not a duration", args.timeout)))?;
    let target = one(session, &args.words).await?;
    deployment_only(&target)?;
    target.read(session).await?;
    let mut said = String::new();
    let watch = args.watch;
    let following = follow_object(session, &target, |session, object| {
        let Some(object) = object else {
            return Err(Fault::text(format!("deployment {:?} was deleted", target.name)));
        };
        let (text, done) = progress(object, args.revision)?;
        if text != said {
            session.io.line(&text)?;
            session.io.flush()?;
            said = text;
        }
        Ok(done || !watch)
    });
    match limit.is_zero() {
        true => following.await,
        false => tokio::time::timeout(limit, following)
            .await
            .unwrap_or_else(|_| Err(Fault::text("timed out waiting for the condition"))),
    }
}

/// What to say about a Deployment, and whether its rollout is done.
fn progress(deployment: &Object, wanted_revision: i64) -> Result<(String, bool), Fault> {
    let metadata = &deployment["metadata"];
    let name = metadata["name"].as_str().unwrap_or("");
    if wanted_revision > 0 {
        let text = metadata["annotations"][REVISION].as_str().unwrap_or("");
        if text.parse() != Ok(wanted_revision) {
            return Err(Fault::text(format!(
                "desired revision ({wanted_revision}) is different from the running revision \
                 ({text})"
            )));
        }
    }
    let status = &deployment["status"];
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    if metadata["generation"].as_i64().unwrap_or(0) > count("observedGeneration") {
        return Ok(("Waiting for deployment spec update to be observed...".to_string(), false));
    }
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    if conditions.any(|c| c["reason"] == "ProgressDeadlineExceeded") {
        return Err(Fault::text(format!("deployment {name:?} exceeded its progress deadline")));
    }
    let replicas = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    let (total, updated) = (count("replicas"), count("updatedReplicas"));
    let available = count("availableReplicas");
    let waiting = format!("Waiting for deployment {name:?} rollout to finish:");
    if updated < replicas {
        let text =
            format!("{waiting} {updated} out of {replicas} new replicas have been updated...");
        return Ok((text, false));
    }
    if total > updated {
        let old = total - updated;
        return Ok((format!("{waiting} {old} old replicas are pending termination..."), false));
    }
    if available < updated {
        let text = format!("{waiting} {available} of {updated} updated replicas are available...");
        return Ok((text, false));
    }
    Ok((format!("deployment {name:?} successfully rolled out"), true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(status: Object) -> (String, bool) {
        let deployment = json!({"metadata": {"name": "web", "generation": 2},
                                "spec": {"replicas": 3}, "status": status});
        progress(&deployment, 0).unwrap()
    }

    #[test]
    fn each_step_has_its_words() {
        let seen = |total, updated, available| {
            json!({"observedGeneration": 2, "replicas": total, "updatedReplicas": updated,
                   "availableReplicas": available})
        };
        assert_eq!(
            said(json!({"observedGeneration": 1})).0,
            "Waiting for deployment spec update to be observed..."
        );
        let waiting = "Waiting for deployment \"web\" rollout to finish:";
        assert_eq!(
            said(seen(3, 1, 3)).0,
            format!("{waiting} 1 out of 3 new replicas have been updated...")
        );
        assert_eq!(
            said(seen(4, 3, 3)).0,
            format!("{waiting} 1 old replicas are pending termination...")
        );
        assert_eq!(
            said(seen(3, 3, 2)).0,
            format!("{waiting} 2 of 3 updated replicas are available...")
        );
        let done = ("deployment \"web\" successfully rolled out".to_string(), true);
        assert_eq!(said(seen(3, 3, 3)), done);
    }

    #[test]
    fn a_missed_deadline_and_another_revision_are_faults() {
        let late = json!({"metadata": {"name": "web",
                                       "annotations": {REVISION: "4"}},
                          "status": {"conditions": [{"reason": "ProgressDeadlineExceeded"}]}});
        let fault = progress(&late, 0).unwrap_err().to_string();
        assert_eq!(fault, "error: deployment \"web\" exceeded its progress deadline");
        let fault = progress(&late, 3).unwrap_err().to_string();
        assert!(fault.contains("desired revision (3) is different from the running revision (4)"));
    }
}
