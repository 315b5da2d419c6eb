//! `label` and `annotate`: `key=value` sets, `key-` removes.

use crate::fault::Fault;
use crate::session::Session;
use crate::targets::{Files, Target, Which, expand};
use crate::writing::{self, Writing};
use edge_api::Object;
use edge_client::PatchType;
use serde_json::json;

/// Set or remove labels or annotations
#[derive(Debug, clap::Args)]
pub(crate) struct Labels {
    /// TYPE NAME… or TYPE/NAME…, then KEY=VALUE to set and KEY- to remove
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    which: Which,
    /// All objects of the type
    #[arg(long)]
    all: bool,
    /// Replace values that are there
    #[arg(long)]
    overwrite: bool,
    /// Show what is set now
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    writing: Writing,
}

/// Which of the two maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Labels,
    Annotations,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Field::Labels => "labels",
            Field::Annotations => "annotations",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Field::Labels => "labeled",
            Field::Annotations => "annotated",
        }
    }
}

/// One `key=value` or `key-`.
type Change = (String, Option<String>);

pub(crate) async fn run(args: Labels, field: Field, session: &mut Session) -> Result<(), Fault> {
    let (words, changes) = split(&args.words)?;
    if changes.is_empty() && !args.list {
        let name = field.name().trim_end_matches('s');
        return Err(Fault::text(format!("at least one {name} update is required")));
    }
    let targets = expand(session, &words, &args.files, &args.which, args.all).await?;
    let mut faults = Vec::new();
    for target in targets {
        if let Err(fault) = one(&args, field, &changes, &target, session).await {
            faults.push(fault);
        }
    }
    Fault::all(faults)
}

/// Objects come first, changes after them.
fn split(words: &[String]) -> Result<(Vec<String>, Vec<Change>), Fault> {
    let is_change = |word: &String| word.contains('=') || word.ends_with('-');
    let first = words.iter().position(is_change).unwrap_or(words.len());
    let mut changes: Vec<Change> = Vec::new();
    for word in &words[first..] {
        let change = match (word.split_once('='), word.strip_suffix('-')) {
            (Some((key, value)), _) => (key.to_string(), Some(value.to_string())),
            (None, Some(key)) => (key.to_string(), None),
            (None, None) => {
                return Err(Fault::text(format!(
                    "{word:?} is neither KEY=VALUE nor KEY-, and names come before changes"
                )));
            }
        };
        if change.0.is_empty() || changes.iter().any(|(key, _)| *key == change.0) {
            return Err(Fault::text(format!("{word:?}: each key needs a name and stands once")));
        }
        changes.push(change);
    }
    Ok((words[..first].to_vec(), changes))
}

async fn one(
    args: &Labels,
    field: Field,
    changes: &[Change],
    target: &Target,
    session: &mut Session,
) -> Result<(), Fault> {
    let object = target.read(session).await?;
    let current = &object["metadata"][field.name()];
    if args.list {
        for (key, value) in current.as_object().into_iter().flatten() {
            session.io.line(format!("{key}={}", value.as_str().unwrap_or("")))?;
        }
        return Ok(());
    }
    let mut map = serde_json::Map::new();
    let (mut sets, mut removes) = (false, false);
    for (key, value) in changes {
        let old = current[key.as_str()].as_str();
        match (old, value) {
            (None, None) => {
                let name = field.name().trim_end_matches('s');
                session.io.say(format!("{name} {key:?} not found."));
            }
            (Some(old), Some(new)) if old == new => {}
            (Some(old), Some(new)) if !args.overwrite => {
                return Err(Fault::text(format!(
                    "'{key}' already has a value ({old}), and --overwrite is false: {new} was not \
                     set on {}",
                    target.reference()
                )));
            }
            (_, value) => {
                sets |= value.is_some();
                removes |= value.is_none();
                map.insert(key.clone(), value.clone().map_or(Object::Null, Object::from));
            }
        }
    }
    let done = match (sets, removes, field) {
        (true, _, field) => field.done().to_string(),
        (false, true, Field::Labels) => "unlabeled".to_string(),
        (false, true, Field::Annotations) => "annotated".to_string(),
        (false, false, field) => format!("not {}", field.done()),
    };
    let mut result = object.clone();
    if !map.is_empty() && !args.writing.is_local() {
        let patch = json!({"metadata": {field.name(): map}});
        let params = args.writing.params();
        let path = target.path(None);
        result = writing::patch(session, &path, PatchType::Merge, &patch, &params).await?;
    }
    args.writing.report(session, &target.resource, &result, &done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_changes() {
        let words = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        let (objects, changes) = split(&words("pods a b x=1 y- z=")).unwrap();
        assert_eq!(objects, ["pods", "a", "b"]);
        let set = |text: &str| Some(text.to_string());
        assert_eq!(changes, [("x".into(), set("1")), ("y".into(), None), ("z".into(), set(""))]);
        assert!(split(&words("pods a x=1 b")).is_err());
        assert!(split(&words("pods a x=1 x-")).is_err());
    }
}
