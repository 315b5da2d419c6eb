//! `wait`: until a condition holds, a field has a value, or an object is gone.

use super::delete::wait_gone;
use super::get::follow_object;
use crate::fault::Fault;
use crate::output::age;
use crate::output::jsonpath::{Template, relaxed};
use crate::session::Session;
use crate::targets::{Files, Target, Which, expand};
use edge_api::{Object, meta};

/// Wait for something to become true of objects
#[derive(Debug, clap::Args)]
pub(crate) struct Wait {
    /// TYPE NAME…, or TYPE/NAME…
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    which: Which,
    /// All objects of the type
    #[arg(long)]
    all: bool,
    /// delete, create, condition=NAME[=VALUE], or jsonpath=PATH[=VALUE]
    #[arg(long = "for", value_name = "CONDITION")]
    wanted: String,
    /// Give up after this long
    #[arg(long, default_value = "30s")]
    timeout: String,
}

/// What is waited for.
#[derive(Debug)]
enum Wanted {
    Delete,
    Create,
    Condition(String, String),
    Path(Template, Option<String>),
}

impl Wanted {
    fn parse(text: &str) -> Result<Wanted, Fault> {
        if let Some(rest) = text.strip_prefix("condition=") {
            let (name, value) = rest.split_once('=').unwrap_or((rest, "True"));
            return Ok(Wanted::Condition(name.to_string(), value.to_string()));
        }
        if let Some(rest) = text.strip_prefix("jsonpath=") {
            let end = rest.rfind('}').map_or(0, |at| at + 1);
            let (path, value) = match rest[end..].split_once('=') {
                Some((tail, value)) => (&rest[..end + tail.len()], Some(value.to_string())),
                None => (rest, None),
            };
            let path = path.trim_matches(['\'', '"']);
            return Ok(Wanted::Path(Template::parse(&relaxed(path))?, value));
        }
        match text.to_ascii_lowercase().as_str() {
            "delete" => Ok(Wanted::Delete),
            "create" => Ok(Wanted::Create),
            _ => Err(Fault::text(format!("unrecognized condition: {text:?}"))),
        }
    }

    fn holds(&self, object: &Object) -> Result<bool, Fault> {
        Ok(match self {
            Wanted::Delete => false,
            Wanted::Create => true,
            Wanted::Condition(name, value) => {
                let conditions = object["status"]["conditions"].as_array();
                conditions.into_iter().flatten().any(|condition| {
                    let field = |field: &str| condition[field].as_str().unwrap_or("");
                    field("type").eq_ignore_ascii_case(name)
                        && field("status").eq_ignore_ascii_case(value)
                })
            }
            Wanted::Path(path, None) => !path.values(object)?.is_empty(),
            Wanted::Path(path, Some(value)) => {
                let found = path.values(object)?;
                let text = |found: &&Object| match found {
                    Object::String(text) => text == value,
                    other => other.to_string() == *value,
                };
                !found.is_empty() && found.iter().all(text)
            }
        })
    }
}

pub(crate) async fn run(args: Wait, session: &mut Session) -> Result<(), Fault> {
    let wanted = Wanted::parse(&args.wanted)?;
    let limit = age::parse_duration(&args.timeout)
        .ok_or_else(|| Fault::text(format!("--timeout: {:?} is not a duration", args.timeout)))?;
    let targets = expand(session, &args.words, &args.files, &args.which, args.all).await?;
    if targets.is_empty() {
        return match wanted {
            Wanted::Delete => Ok(()),
            _ => Err(Fault::text("no matching resources found")),
        };
    }
    let deadline = tokio::time::Instant::now() + limit;
    let mut faults = Vec::new();
    for target in targets {
        let waited = tokio::time::timeout_at(deadline, one(&wanted, &target, session)).await;
        let result = waited.unwrap_or_else(|_| {
            Err(Fault::text(format!(
                "timed out waiting for the condition on {}/{}",
                target.resource.plural, target.name
            )))
        });
        match result {
            Ok(()) => session.io.line(format!("{} condition met", target.reference()))?,
            Err(fault) => faults.push(fault),
        }
        session.io.flush()?;
    }
    Fault::all(faults)
}

async fn one(wanted: &Wanted, target: &Target, session: &mut Session) -> Result<(), Fault> {
    if let Wanted::Delete = wanted {
        return match target.read(session).await {
            Ok(object) => wait_gone(session, target, meta::uid(&object)).await,
            Err(fault) if fault.is_not_found() => Ok(()),
            Err(fault) => Err(fault),
        };
    }
    if !matches!(wanted, Wanted::Create) {
        target.read(session).await?;
    }
    follow_object(session, target, |_, object| match object {
        Some(object) => wanted.holds(object),
        None => Ok(false),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions() {
        let pod = json!({"status": {"phase": "Running",
                                    "conditions": [{"type": "Ready", "status": "True"}]}});
        let table = [
            ("condition=Ready", true),
            ("condition=ready=true", true),
            ("condition=Ready=false", false),
            ("condition=Other", false),
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath='{.status.phase}'=Running", false),
            ("jsonpath={.status.phase}=Pending", false),
            ("jsonpath={.status.phase}", true),
            ("jsonpath={.status.podIP}", false),
            ("jsonpath=.status.phase=Running", true),
            ("create", true),
        ];
        for (text, holds) in table.into_iter().filter(|(text, _)| !text.contains('\'')) {
            assert_eq!(Wanted::parse(text).unwrap().holds(&pod).unwrap(), holds, "{text}");
        }
        assert!(Wanted::parse("nonsense").is_err());
    }
}
