//! `set image` and `set env`: the two fields of a template that change most often.

use crate::fault::Fault;
use crate::session::Session;
use crate::targets::{Files, Target, Which, expand};
use crate::writing::{self, Writing};
use edge_api::Object;
use edge_client::PatchType;
use serde_json::json;

/// Change an image or the environment of containers
#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Change images: TYPE/NAME CONTAINER=IMAGE…, `*` for every container
    Image(What),
    /// Change the environment: TYPE/NAME NAME=VALUE…, NAME- to remove
    Env(What),
}

#[derive(Debug, clap::Args)]
struct What {
    /// TYPE NAME… or TYPE/NAME…, then the changes
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    which: Which,
    /// All objects of the type
    #[arg(long)]
    all: bool,
    /// Only these containers (for env)
    #[arg(short, long, default_value = "*")]
    containers: String,
    #[command(flatten)]
    writing: Writing,
}

pub(crate) async fn run(args: Set, session: &mut Session) -> Result<(), Fault> {
    let (args, image) = match args.command {
        Command::Image(args) => (args, true),
        Command::Env(args) => (args, false),
    };
    let is_change = |word: &String| word.contains('=') || (!image && word.ends_with('-'));
    let first = args.words.iter().position(is_change).unwrap_or(args.words.len());
    let (words, changes) = args.words.split_at(first);
    if changes.is_empty() || !changes.iter().all(is_change) {
        let wanted = if image { "CONTAINER=IMAGE" } else { "NAME=VALUE or NAME-" };
        return Err(Fault::text(format!("say what to change as {wanted}, after the objects")));
    }
    let targets = expand(session, words, &args.files, &args.which, args.all).await?;
    let mut faults = Vec::new();
    for target in targets {
        if let Err(fault) = one(&args, image, changes, &target, session).await {
            faults.push(fault);
        }
    }
    Fault::all(faults)
}

async fn one(
    args: &What,
    image: bool,
    changes: &[String],
    target: &Target,
    session: &mut Session,
) -> Result<(), Fault> {
    let object = target.read(session).await?;
    let is_pod = target.resource.kind == "Pod";
    let spec = if is_pod { &object["spec"] } else { &object["spec"]["template"]["spec"] };
    let patched = match image {
        true => images(spec, changes, &target.reference())?,
        false => environment(spec, changes, &args.containers),
    };
    let patch = match is_pod {
        true => json!({"spec": patched}),
        false => json!({"spec": {"template": {"spec": patched}}}),
    };
    if patched.as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok(());
    }
    let mut result = object.clone();
    if !args.writing.is_local() {
        let params = args.writing.params();
        let path = target.path(None);
        result = writing::patch(session, &path, PatchType::Strategic, &patch, &params).await?;
        if result["metadata"]["resourceVersion"] == object["metadata"]["resourceVersion"] {
            return Ok(());
        }
    }
    let done = if image { "image updated" } else { "env updated" };
    args.writing.report(session, &target.resource, &result, done)
}

const LISTS: [&str; 2] = ["initContainers", "containers"];

fn names<'a>(spec: &'a Object, list: &str) -> impl Iterator<Item = &'a str> {
    let containers = spec[list].as_array().into_iter().flatten();
    containers.filter_map(|container| container["name"].as_str())
}

fn images(spec: &Object, changes: &[String], reference: &str) -> Result<Object, Fault> {
    let mut patch = json!({});
    for change in changes {
        let Some((wanted, image)) = change.split_once('=') else { continue };
        let mut found = false;
        for list in LISTS {
            for name in names(spec, list).filter(|name| wanted == "*" || *name == wanted) {
                found = true;
                add(&mut patch, list, json!({"name": name, "image": image}));
            }
        }
        if !found {
            return Err(Fault::text(format!(
                "unable to find container named {wanted:?} in {reference}"
            )));
        }
    }
    Ok(patch)
}

fn environment(spec: &Object, changes: &[String], wanted: &str) -> Object {
    let mut patch = json!({});
    let chosen = |name: &str| wanted == "*" || wanted.split(',').any(|one| one == name);
    for name in names(spec, "containers").filter(|name| chosen(name)) {
        let env: Vec<Object> = changes
            .iter()
            .map(|change| match change.split_once('=') {
                Some((key, value)) => json!({"name": key, "value": value}),
                None => json!({"name": change.trim_end_matches('-'), "$patch": "delete"}),
            })
            .collect();
        add(&mut patch, "containers", json!({"name": name, "env": env}));
    }
    patch
}

fn add(patch: &mut Object, list: &str, entry: Object) {
    match patch[list].as_array_mut() {
        Some(entries) => entries.push(entry),
        None => patch[list] = json!([entry]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_name_the_containers() {
        let spec = json!({"containers": [{"name": "a"}, {"name": "b"}],
                          "initContainers": [{"name": "i"}]});
        let changes = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        assert_eq!(
            images(&spec, &changes("b=web:2"), "x").unwrap(),
            json!({"containers": [{"name": "b", "image": "web:2"}]})
        );
        let all = images(&spec, &changes("*=web:2"), "x").unwrap();
        assert_eq!(all["containers"].as_array().unwrap().len(), 2);
        assert_eq!(all["initContainers"].as_array().unwrap().len(), 1);
        assert!(images(&spec, &changes("c=web:2"), "x").is_err());
        assert_eq!(
            environment(&spec, &changes("A=1 B-"), "a"),
            json!({"containers": [{"name": "a", "env": [{"name": "A", "value": "1"},
                                                        {"name": "B", "$patch": "delete"}]}]})
        );
    }
}
