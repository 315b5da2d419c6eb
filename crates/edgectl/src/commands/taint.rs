//! `taint`: `key=value:effect` puts a taint on a node, `key-` and `key:effect-` take it off.

use crate::fault::Fault;
use crate::session::Session;
use crate::targets::{Files, Target, Which, expand};
use crate::writing::{self, Writing};
use edge_api::{Object, meta, names};
use edge_client::PatchType;
use serde_json::{Value, json};

/// How often a write is tried that somebody else's comes before.
const TRIES: u32 = 5;

/// Put taints on nodes, or take them off
#[derive(Debug, clap::Args)]
pub(crate) struct Taint {
    /// node NAME…, then KEY=VALUE:EFFECT to put on, and KEY:EFFECT- or KEY- to take off
    words: Vec<String>,
    /// Nodes with these labels
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// All nodes
    #[arg(long)]
    all: bool,
    /// Replace taints that are there
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    writing: Writing,
}

/// A taint as it is typed; without an effect it stands for all of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spec {
    key: String,
    value: String,
    effect: String,
}

impl Spec {
    fn parse(text: &str) -> Result<Spec, String> {
        let wrong = || format!("invalid taint spec: {text}");
        let (front, effect) = match text.split(':').collect::<Vec<_>>()[..] {
            [key] => (key, ""),
            [front, effect] => (front, effect),
            _ => return Err(wrong()),
        };
        let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        if text.contains(':') && !known.contains(&effect) {
            return Err(format!("invalid taint effect: {effect}, unsupported taint effect"));
        }
        let (key, value) = match front.split('=').collect::<Vec<_>>()[..] {
            [key] => (key, ""),
            [key, value] if text.contains(':') => (key, value),
            _ => return Err(wrong()),
        };
        for faults in [names::label_value(value), names::qualified_name(key)] {
            if !faults.is_empty() {
                return Err(format!("{}, {}", wrong(), faults.join("; ")));
            }
        }
        let [key, value, effect] = [key, value, effect].map(str::to_owned);
        Ok(Spec { key, value, effect })
    }

    fn is(&self, taint: &Value) -> bool {
        taint["key"] == self.key.as_str()
            && (self.effect.is_empty() || taint["effect"] == self.effect.as_str())
    }

    fn shown(&self) -> String {
        match (self.value.as_str(), self.effect.as_str()) {
            ("", "") => self.key.clone(),
            ("", effect) => format!("{}:{effect}", self.key),
            (value, effect) => format!("{}={value}:{effect}", self.key),
        }
    }
}

/// What is asked for.
#[derive(Debug, Default)]
struct Changes {
    add: Vec<Spec>,
    remove: Vec<Spec>,
}

impl Changes {
    fn parse(words: &[String]) -> Result<Changes, String> {
        let mut changes = Changes::default();
        for word in words {
            if let Some(word) = word.strip_suffix('-') {
                changes.remove.push(Spec { value: String::new(), ..Spec::parse(word)? });
                continue;
            }
            let spec = Spec::parse(word)?;
            if spec.effect.is_empty() {
                return Err(format!("invalid taint spec: {word}"));
            }
            if changes.add.iter().any(|a| a.key == spec.key && a.effect == spec.effect) {
                let shown = spec.shown();
                return Err(format!("duplicated taints with the same key and effect: {shown}"));
            }
            changes.add.push(spec);
        }
        let both = |remove: &&Spec| {
            let all = remove.effect.is_empty();
            changes.add.iter().any(|a| a.key == remove.key && (all || a.effect == remove.effect))
        };
        let both: Vec<String> = changes
            .remove
            .iter()
            .filter(both)
            .map(|spec| format!("{{{:?}:{:?}}}", spec.key, spec.effect))
            .collect();
        if both.is_empty() {
            return Ok(changes);
        }
        Err(format!(
            "can not both modify and remove the following taint(s) in the same command: {}",
            both.join(", ")
        ))
    }

    /// The taints of a node afterwards, and the word for it.
    fn apply(&self, node: &Object, overwrite: bool) -> Result<(Vec<Value>, &'static str), String> {
        let old = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let there = |spec: &&Spec| old.iter().any(|taint| spec.is(taint));
        let taken: Vec<&str> = self.add.iter().filter(there).map(|s| s.key.as_str()).collect();
        if !overwrite && !taken.is_empty() {
            return Err(format!(
                "node {} already has {} taint(s) with same effect(s) and --overwrite is false",
                meta::name(node),
                taken.join(",")
            ));
        }
        let mut new: Vec<Value> = self
            .add
            .iter()
            .map(|spec| {
                let mut taint = json!({"key": spec.key, "effect": spec.effect});
                if !spec.value.is_empty() {
                    taint["value"] = json!(spec.value);
                }
                taint
            })
            .collect();
        new.extend(old.iter().filter(|t| !self.add.iter().any(|spec| spec.is(t))).cloned());
        let added = new.len() != old.len();
        let mut removed = false;
        for spec in &self.remove {
            let before = new.len();
            new.retain(|taint| !spec.is(taint));
            if new.len() == before {
                return Err(format!("taint {:?} not found", spec.shown()));
            }
            removed = true;
        }
        let word = match (added, removed) {
            (true, true) => "modified",
            _ if overwrite => "modified",
            (true, false) => "tainted",
            (false, _) => "untainted",
        };
        Ok((new, word))
    }
}

pub(crate) async fn run(args: Taint, session: &mut Session) -> Result<(), Fault> {
    let (objects, changes) = split(&args.words).map_err(Fault::text)?;
    let named = objects.len() > 1 || objects.iter().any(|word| word.contains('/'));
    if args.all && args.selector.is_some() {
        let why = "setting 'all' parameter with a non empty selector is prohibited";
        return Err(Fault::text(why));
    }
    if !args.all && args.selector.is_none() && !named {
        let why = "at least one resource name must be specified since 'all' parameter is not set";
        return Err(Fault::text(why));
    }
    let which = Which { selector: args.selector.clone(), ..Which::default() };
    let mut faults = Vec::new();
    for target in expand(session, &objects, &Files::default(), &which, args.all).await? {
        if target.resource.kind != "Node" {
            let kind = &objects[0];
            return Err(Fault::text(format!(
                "invalid resource type {kind}, only node types are supported"
            )));
        }
        faults.extend(one(&args, &changes, &target, session).await.err());
    }
    Fault::all(faults)
}

fn split(words: &[String]) -> Result<(Vec<String>, Changes), String> {
    let is_taint = |word: &&String| word.contains(['=', ':']) || word.ends_with('-');
    let first = words.iter().position(|word| is_taint(&word)).unwrap_or(words.len());
    let (objects, taints) = words.split_at(first);
    if let Some(word) = taints.iter().find(|word| !is_taint(word)) {
        return Err(format!("all resources must be specified before taint changes: {word}"));
    }
    if objects.is_empty() {
        return Err("one or more resources must be specified as <resource> <name>".to_owned());
    }
    if taints.is_empty() {
        return Err("at least one taint update is required".to_owned());
    }
    Ok((objects.to_vec(), Changes::parse(taints)?))
}

async fn one(
    args: &Taint,
    changes: &Changes,
    target: &Target,
    session: &mut Session,
) -> Result<(), Fault> {
    for left in (0..TRIES).rev() {
        let node = target.read(session).await?;
        let (taints, word) = changes.apply(&node, args.overwrite).map_err(Fault::text)?;
        let taints = if taints.is_empty() { Value::Null } else { json!(taints) };
        let mut result = node.clone();
        result["spec"]["taints"] = taints.clone();
        if !args.writing.is_local() {
            let revision = meta::resource_version(&node);
            let patch =
                json!({"metadata": {"resourceVersion": revision}, "spec": {"taints": taints}});
            let (path, params) = (target.path(None), args.writing.params());
            match writing::patch(session, &path, PatchType::Merge, &patch, &params).await {
                Ok(object) => result = object,
                Err(error) if error.is_conflict() && left > 0 => continue,
                Err(error) => return Err(error.into()),
            }
        }
        return args.writing.report(session, &target.resource, &result, word);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_typed_is_read_as_kubectl_reads_it() {
        for (line, wrong) in [
            ("nodes", "at least one taint update is required"),
            ("a=b:NoSchedule", "one or more resources must be specified as <resource> <name>"),
            ("node n a:NoSchedule m", "all resources must be specified before taint changes: m"),
            ("node n a=b", "invalid taint spec: a=b"),
            ("node n a:b:c", "invalid taint spec: a:b:c"),
            ("node n a=b=c:NoSchedule", "invalid taint spec: a=b=c:NoSchedule"),
            ("node n a:Never", "invalid taint effect: Never, unsupported taint effect"),
            (
                "node n a:NoSchedule a=b:NoSchedule",
                "duplicated taints with the same key and effect: a=b:NoSchedule",
            ),
            (
                "node n a:NoSchedule a-",
                "can not both modify and remove the following taint(s) in the same command: \
              {\"a\":\"\"}",
            ),
        ] {
            assert_eq!(split(&words(line)).unwrap_err(), wrong, "{line}");
        }
        let (objects, changes) = split(&words("node n a=b:NoSchedule c- d:NoExecute-")).unwrap();
        assert_eq!(objects, ["node", "n"]);
        assert_eq!(changes.add[0].shown(), "a=b:NoSchedule");
        let removed: Vec<String> = changes.remove.iter().map(Spec::shown).collect();
        assert_eq!(removed, ["c", "d:NoExecute"]);
    }

    #[test]
    fn taints_come_and_go() {
        let node = json!({"metadata": {"name": "n"}, "spec": {"taints": [
            {"key": "a", "value": "1", "effect": "NoSchedule"},
            {"key": "a", "effect": "NoExecute", "timeAdded": "then"}]}});
        let apply = |line: &str, overwrite| {
            let (_, changes) = split(&words(&format!("node n {line}"))).unwrap();
            let (taints, word) = changes.apply(&node, overwrite)?;
            let shown = |t: &Value| format!("{}:{}", t["key"], t["effect"]).replace('"', "");
            Ok((taints.iter().map(shown).collect::<Vec<_>>().join(" "), word))
        };
        let good: &[(&str, bool, &str, &str)] = &[
            ("b:NoSchedule", false, "b:NoSchedule a:NoSchedule a:NoExecute", "tainted"),
            ("a-", false, "", "untainted"),
            ("a:NoExecute-", false, "a:NoSchedule", "untainted"),
            ("b:NoSchedule a-", false, "b:NoSchedule", "modified"),
            ("a=2:NoSchedule", true, "a:NoSchedule a:NoExecute", "modified"),
        ];
        for (line, overwrite, taints, word) in good {
            assert_eq!(apply(line, *overwrite), Ok(((*taints).to_owned(), *word)), "{line}");
        }
        for (line, wrong) in [
            (
                "a=2:NoSchedule",
                "node n already has a taint(s) with same effect(s) and --overwrite is false",
            ),
            ("x-", "taint \"x\" not found"),
            ("a:PreferNoSchedule-", "taint \"a:PreferNoSchedule\" not found"),
        ] {
            assert_eq!(apply(line, false), Err(wrong.to_owned()), "{line}");
        }
    }
}
