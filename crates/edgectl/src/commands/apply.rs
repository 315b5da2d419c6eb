//! `apply`: makes objects be as files say, with a three-way patch from what was applied last,
//! so that what others set stays set.

use crate::fault::Fault;
use crate::input::manifest::{self, Manifest};
use crate::output::{self, Format};
use crate::resource::{self, Resource};
use crate::session::Session;
use crate::targets::{Files, namespace_for};
use crate::writing::{self, Validate, Writing};
use edge_api::selector::LabelSelector;
use edge_api::{Object, patch};
use edge_client::{Call, PatchType, WriteParams};

/// Where the object that was applied last is kept.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Attempts of a patch that loses against other writers.
const ATTEMPTS: u32 = 5;

/// Create or change objects as files describe them
#[derive(Debug, clap::Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    files: Files,
    /// Only objects with these labels
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// What to do about unknown fields
    #[arg(long, value_enum, default_value = "warn", default_missing_value = "strict",
          num_args = 0..=1, require_equals = true)]
    validate: Validate,
    #[command(flatten)]
    writing: Writing,
}

pub(crate) async fn run(args: Apply, session: &mut Session) -> Result<(), Fault> {
    if args.files.filename.is_empty() {
        return Err(Fault::text(
            "must specify one of -f: a file, a directory, or - for standard input",
        ));
    }
    let format = Format::parse(args.writing.output.as_deref())?;
    let selector = match &args.selector {
        None => LabelSelector::everything(),
        Some(text) => LabelSelector::parse(text).map_err(|error| Fault::text(error.to_string()))?,
    };
    let mut manifests =
        manifest::read(&args.files.filename, args.files.recursive, &mut session.io)?;
    manifests.retain(|manifest| selector.matches(&manifest.object));
    if manifests.is_empty() {
        return Err(Fault::text("no objects passed to apply"));
    }
    let mut faults = Vec::new();
    let mut results = Vec::new();
    for manifest in manifests {
        match one(&args, manifest, session).await {
            Ok((resource, object, done)) if format.is_table() => {
                args.writing.report(session, &resource, &object, done)?;
                session.io.flush()?;
            }
            Ok((_, object, _)) => results.push(object),
            Err(fault) => faults.push(fault),
        }
    }
    results.iter_mut().for_each(output::tidy);
    if let Some(last) = results.pop() {
        let whole = match results.is_empty() {
            true => last,
            false => {
                results.push(last);
                output::list_of(results)
            }
        };
        let text = format.render(&whole)?;
        session.io.print(&text)?;
    }
    Fault::all(faults)
}

/// Applies one object; gives it as it is now, and what was done.
async fn one(
    args: &Apply,
    manifest: Manifest,
    session: &mut Session,
) -> Result<(Resource, Object, &'static str), Fault> {
    let Manifest { source, mut object } = manifest;
    let client = session.client()?;
    let resource = resource::of_object(&client, &object).await.map_err(|fault| {
        let name = object["metadata"]["name"].as_str().unwrap_or("");
        match fault {
            Fault::Text(why) => Fault::text(format!(
                "resource mapping not found for name: {name:?} from {source:?}: {why}"
            )),
            other => other,
        }
    })?;
    let namespace = namespace_for(session, &resource, &object)?;
    if resource.namespaced {
        object["metadata"]["namespace"] = Object::from(namespace.as_str());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or("").to_string();
    if name.is_empty() {
        return Err(Fault::text(format!(
            "{source}: apply needs metadata.name; use `edgectl create` with generateName"
        )));
    }
    let params =
        WriteParams { field_validation: Some(args.validate.into()), ..args.writing.params() };
    let path = resource.path(&namespace, &name, None);
    let modified = with_last_applied(&object)?;
    for attempt in 1.. {
        let read = client.call(&Call::get(path.as_str())).await;
        let outcome = match read {
            Err(error) if error.is_not_found() => {
                if args.writing.is_local() {
                    return Ok((resource, modified, "created"));
                }
                writing::create(session, &resource, &namespace, &modified, &params)
                    .await
                    .map(|object| (object, "created"))
                    .map_err(|error| (error, "creating"))
            }
            Err(error) => return Err(Fault::when(error, retrieving(&source))),
            Ok(answer) => {
                change(args, session, &resource, &modified, answer.object, &params).await?
            }
        };
        match outcome {
            Ok((object, done)) => return Ok((resource, object, done)),
            // Somebody created, changed or deleted it in between: look again.
            Err((error, _)) if attempt < ATTEMPTS && raced(&error) => {}
            Err((error, doing)) => {
                return Err(Fault::when(error, format!("error when {doing} {source:?}")));
            }
        }
    }
    Err(Fault::text("invariant: the loop above ends with an answer"))
}

fn retrieving(source: &str) -> String {
    format!("error when retrieving current configuration of {source:?}")
}

fn raced(error: &edge_client::Error) -> bool {
    use edge_api::status::Reason;
    error
        .status()
        .is_some_and(|status| matches!(status.reason, Reason::Conflict | Reason::AlreadyExists))
}

type Outcome = Result<(Object, &'static str), (edge_client::Error, &'static str)>;

/// Patches an object that exists.
async fn change(
    args: &Apply,
    session: &mut Session,
    resource: &Resource,
    modified: &Object,
    current: Object,
    params: &WriteParams,
) -> Result<Outcome, Fault> {
    let annotation = current["metadata"]["annotations"][LAST_APPLIED].as_str();
    let original = annotation.and_then(|text| serde_json::from_str::<Object>(text).ok());
    if original.is_none() {
        session.io.say(format!(
            "Warning: resource {}/{} is missing the {LAST_APPLIED} annotation which is required by \
             edgectl apply. It will be patched automatically.",
            resource.plural_name(),
            current["metadata"]["name"].as_str().unwrap_or(""),
        ));
    }
    let original = original.unwrap_or(Object::Null);
    let (patch, patch_type) = match resource.known() {
        Some(kind) => (patch::three_way(kind, &original, modified, &current), PatchType::Strategic),
        None => (patch::three_way_merge(&original, modified, &current), PatchType::Merge),
    };
    if patch.as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok(Ok((current, "unchanged")));
    }
    if args.writing.is_local() {
        return Ok(Ok((current, "configured")));
    }
    let metadata = &current["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or("");
    let path = resource.path(text("namespace"), text("name"), None);
    let done = writing::patch(session, &path, patch_type, &patch, params).await;
    Ok(match done {
        Ok(object) if object["metadata"]["resourceVersion"] == metadata["resourceVersion"] => {
            Ok((object, "unchanged"))
        }
        Ok(object) => Ok((object, "configured")),
        Err(error) => Err((error, "applying patch to")),
    })
}

/// The object with itself in its annotation, as it will be compared with next time.
pub(crate) fn with_last_applied(object: &Object) -> Result<Object, Fault> {
    let mut bare = object.clone();
    bare["metadata"].as_object_mut().map(|metadata| metadata.remove("resourceVersion"));
    if let Some(annotations) = bare["metadata"]["annotations"].as_object_mut() {
        annotations.remove(LAST_APPLIED);
    } else if let Some(metadata) = bare["metadata"].as_object_mut() {
        // `kubectl` always writes the map, so that both tools agree on what was applied.
        metadata.insert("annotations".to_string(), Object::Object(serde_json::Map::new()));
    }
    let text = format!("{bare}\n");
    let mut modified = object.clone();
    modified["metadata"]["annotations"][LAST_APPLIED] = Object::from(text);
    Ok(modified)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_applied_is_kept_beside_it() {
        let object = json!({"kind": "Pod", "metadata": {"name": "a", "annotations": {"x": "y"}}});
        let once = with_last_applied(&object).unwrap();
        let twice = with_last_applied(&once).unwrap();
        assert_eq!(once, twice);
        let text = once["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Object>(text).unwrap(), object);
        assert!(text.ends_with("}\n"));
        let bare = with_last_applied(&json!({"metadata": {"name": "a"}})).unwrap();
        let text = bare["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
        assert_eq!(text, "{\"metadata\":{\"annotations\":{},\"name\":\"a\"}}\n");
    }
}
