//! Roles and ClusterRoles: which verbs may be done to what.

use crate::fault::Fault;
use crate::resource;
use crate::session::Session;
use crate::writing::Writing;
use edge_api::Object;
use edge_api::kinds;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const API_VERSION: &str = "rbac.authorization.k8s.io/v1";

const VERBS: [&str; 14] = [
    "*",
    "get",
    "delete",
    "list",
    "create",
    "update",
    "patch",
    "watch",
    "proxy",
    "deletecollection",
    "use",
    "bind",
    "escalate",
    "impersonate",
];
const URL_VERBS: [&str; 8] = ["*", "get", "post", "put", "delete", "patch", "head", "options"];

/// Verbs that only mean something with these, each as its group and its plural.
const SPECIAL: [(&str, &[(&str, &str)]); 4] = [
    ("use", &[("policy", "podsecuritypolicies"), ("extensions", "podsecuritypolicies")]),
    ("bind", &RBAC_ROLES),
    ("escalate", &RBAC_ROLES),
    (
        "impersonate",
        &[
            ("", "users"),
            ("", "serviceaccounts"),
            ("", "groups"),
            ("authentication.k8s.io", "userextras"),
        ],
    ),
];
const RBAC_ROLES: [(&str, &str); 2] =
    [("rbac.authorization.k8s.io", "roles"), ("rbac.authorization.k8s.io", "clusterroles")];

/// What may be done.
#[derive(Debug, clap::Args)]
struct Rule {
    /// A verb (get, list, watch, create, …); may be given several times
    #[arg(long, value_delimiter = ',')]
    verb: Vec<String>,
    /// What it is done to, as RESOURCE.GROUP/SUBRESOURCE; may be given several times
    #[arg(long, value_delimiter = ',')]
    resource: Vec<String>,
    /// The name of an object, to allow no other; may be given several times
    #[arg(long)]
    resource_name: Vec<String>,
}

/// What may be done in one namespace
#[derive(Debug, clap::Args)]
pub(super) struct Role {
    /// Its name
    name: String,
    #[command(flatten)]
    rule: Rule,
    #[command(flatten)]
    pub(super) writing: Writing,
}

/// What may be done in all namespaces, or with what is in none
#[derive(Debug, clap::Args)]
pub(super) struct ClusterRole {
    /// Its name
    name: String,
    #[command(flatten)]
    rule: Rule,
    /// A path of the API that is no object's, such as /logs/*; may be given several times
    #[arg(long, value_delimiter = ',')]
    non_resource_url: Vec<String>,
    /// Labels of the ClusterRoles whose rules it takes in, as KEY=VALUE
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE")]
    aggregation_rule: Vec<String>,
    #[command(flatten)]
    pub(super) writing: Writing,
}

/// A word of `--resource`.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    group: String,
    /// The plural, or what was typed where nobody knows it.
    plural: String,
    sub: String,
}

impl Role {
    pub(super) async fn object(&self, session: &mut Session) -> Result<Object, Fault> {
        let verbs = verbs(&self.rule.verb)?;
        if self.rule.resource.is_empty() {
            return Err(Fault::text("at least one resource must be specified"));
        }
        let wanted = self.rule.wanted(&verbs, session).await?;
        let rules = rules(&verbs, &wanted, &once(&self.rule.resource_name), &[]);
        Ok(role("Role", &self.name, ("rules", rules)))
    }
}

impl ClusterRole {
    pub(super) async fn object(&self, session: &mut Session) -> Result<Object, Fault> {
        let (rule, urls) = (&self.rule, once(&self.non_resource_url));
        if !self.aggregation_rule.is_empty() {
            let others = [&rule.verb, &rule.resource, &rule.resource_name, &urls];
            if others.into_iter().any(|given| !given.is_empty()) {
                return Err(Fault::text(
                    "aggregation rule must be specified without nonResourceURLs, verbs, resources \
                     or resourceNames",
                ));
            }
            let selectors = json!({"clusterRoleSelectors": [{"matchLabels": self.labels()?}]});
            return Ok(role("ClusterRole", &self.name, ("aggregationRule", selectors)));
        }
        let verbs = verbs(&rule.verb)?;
        if rule.resource.is_empty() && urls.is_empty() {
            return Err(Fault::text("one of resource or nonResourceURL must be specified"));
        }
        let wanted = match rule.resource.is_empty() {
            true => Vec::new(),
            false => rule.wanted(&verbs, session).await?,
        };
        check_urls(&verbs, &urls)?;
        let rules = rules(&verbs, &wanted, &once(&rule.resource_name), &urls);
        Ok(role("ClusterRole", &self.name, ("rules", rules)))
    }

    fn labels(&self) -> Result<Map<String, Value>, Fault> {
        let pair = |text: &String| {
            let (key, value) = text.split_once('=')?;
            Some((key.trim().to_owned(), json!(value.trim())))
        };
        let malformed =
            |text: &String| Fault::text(format!("malformed pair, expect string=string: {text}"));
        self.aggregation_rule.iter().map(|text| pair(text).ok_or_else(|| malformed(text))).collect()
    }
}

impl Rule {
    /// What is meant by `--resource`, once it is known that it makes sense with the verbs.
    async fn wanted(&self, verbs: &[String], session: &mut Session) -> Result<Vec<Wanted>, Fault> {
        for verb in verbs.iter().filter(|verb| !VERBS.contains(&verb.as_str())) {
            session.io.say(format!("Warning: '{verb}' is not a standard resource verb"));
        }
        let (mut all, mut checked) = (Vec::new(), true);
        for text in resources(&self.resource) {
            let (mut wanted, name) = parse(text);
            if name.is_empty() {
                let what = "resource must be specified if apiGroup/subresource specified";
                return Err(Fault::text(what));
            }
            // As kubectl has it: nothing is looked at any more behind a `*`.
            checked &= wanted.plural != "*";
            let known = find(&name, session).await;
            if let Ok((group, plural)) = &known {
                (wanted.group, wanted.plural) = (group.clone(), plural.clone());
            }
            if checked && !fits_special(&wanted, verbs)? {
                known?;
            }
            all.push(wanted);
        }
        Ok(all)
    }
}

/// The words of `--resource`; a lone `*` stands for all.
fn resources(typed: &[String]) -> Vec<&str> {
    match typed.iter().any(|text| text == "*") {
        true => vec!["*"],
        false => typed.iter().map(String::as_str).collect(),
    }
}

/// A word of `--resource`, and what there is to look up in it.
fn parse(text: &str) -> (Wanted, String) {
    let (name, sub) = text.split_once('/').unwrap_or((text, ""));
    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
    let [group, plural, sub] = [group, plural, sub].map(str::to_owned);
    let name = if plural.is_empty() { String::new() } else { name.to_owned() };
    (Wanted { group, plural, sub }, name)
}

/// The group and the plural of what a person types.
async fn find(name: &str, session: &mut Session) -> Result<(String, String), Fault> {
    if let Some(kind) = kinds::by_name(name) {
        return Ok((kind.group.to_owned(), kind.plural.to_owned()));
    }
    if name.starts_with('*') {
        return Err(Fault::text("not one resource"));
    }
    let found = resource::by_name(&session.client()?, name).await?;
    Ok((found.group, found.plural))
}

/// Whether a special verb says that there is such a thing; refuses one for anything else.
fn fits_special(wanted: &Wanted, verbs: &[String]) -> Result<bool, Fault> {
    let mut named = false;
    for (verb, targets) in SPECIAL.iter().filter(|(verb, _)| verbs.iter().any(|v| v == verb)) {
        let Wanted { group, plural, .. } = wanted;
        if !targets.contains(&(group.as_str(), plural.as_str())) {
            let what = format!("can not perform '{verb}' on '{plural}' in group '{group}'");
            return Err(Fault::text(what));
        }
        named = true;
    }
    Ok(named)
}

/// Each once, in order.
fn once(typed: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for word in typed {
        if !all.contains(word) {
            all.push(word.clone());
        }
    }
    all
}

/// The verbs; `*` stands for all.
fn verbs(typed: &[String]) -> Result<Vec<String>, Fault> {
    if typed.iter().any(|verb| verb == "*") {
        return Ok(vec!["*".to_owned()]);
    }
    match once(typed) {
        none if none.is_empty() => Err(Fault::text("at least one verb must be specified")),
        verbs => Ok(verbs),
    }
}

fn check_urls(verbs: &[String], urls: &[String]) -> Result<(), Fault> {
    if urls.is_empty() {
        return Ok(());
    }
    if let Some(verb) = verbs.iter().find(|verb| !URL_VERBS.contains(&verb.as_str())) {
        return Err(Fault::text(format!("invalid verb: '{verb}' for nonResourceURL")));
    }
    for url in urls.iter().filter(|url| *url != "*") {
        if !url.starts_with('/') {
            return Err(Fault::text("nonResourceURL should start with /"));
        }
        if url.trim_end_matches('*').contains('*') || url.ends_with("**") {
            let what = "nonResourceURL only supports wildcard matches when '*' is at the end";
            return Err(Fault::text(what));
        }
    }
    Ok(())
}

/// A rule for each group, and one for paths.
fn rules(verbs: &[String], wanted: &[Wanted], names: &[String], urls: &[String]) -> Value {
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for Wanted { group, plural, sub } in wanted {
        let resource = if sub.is_empty() { plural.clone() } else { format!("{plural}/{sub}") };
        let all = groups.entry(group).or_default();
        if !all.contains(&resource) {
            all.push(resource);
        }
    }
    let mut rules = Vec::new();
    for (group, resources) in groups {
        let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
        if !names.is_empty() {
            rule["resourceNames"] = json!(names);
        }
        rules.push(rule);
    }
    if !urls.is_empty() {
        rules.push(json!({"nonResourceURLs": urls, "verbs": verbs}));
    }
    Value::Array(rules)
}

fn role(kind: &str, name: &str, (field, value): (&str, Value)) -> Object {
    let mut object = json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}});
    object[field] = value;
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn wanted(text: &str) -> Wanted {
        parse(text).0
    }

    #[test]
    fn a_rule_for_each_group() {
        let all = ["pods", "deployments.apps", "pods/status", "pods"].map(wanted);
        let made = rules(&words("get list"), &all, &words("a"), &words("/logs/*"));
        assert_eq!(
            made,
            json!([
                {"apiGroups": [""], "resources": ["pods", "pods/status"], "verbs": ["get", "list"],
                 "resourceNames": ["a"]},
                {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"],
                 "resourceNames": ["a"]},
                {"nonResourceURLs": ["/logs/*"], "verbs": ["get", "list"]},
            ])
        );
        assert_eq!(
            wanted("x.y.z/scale"),
            Wanted { group: "y.z".into(), plural: "x".into(), sub: "scale".into() }
        );
        assert_eq!(parse("/log").1, "", "there is nothing to look up");
        assert_eq!(resources(&words("pods * nodes")), ["*"]);
    }

    #[test]
    fn verbs_and_paths_make_sense() {
        assert_eq!(verbs(&words("get list get")).unwrap(), words("get list"));
        assert_eq!(verbs(&words("get *")).unwrap(), words("*"));
        assert_eq!(
            verbs(&[]).unwrap_err().to_string(),
            "error: at least one verb must be specified"
        );
        let bind = words("bind");
        assert!(fits_special(&wanted("roles.rbac.authorization.k8s.io"), &bind).unwrap());
        assert!(!fits_special(&wanted("pods"), &words("get")).unwrap());
        let said = fits_special(&wanted("pods"), &bind).unwrap_err().to_string();
        assert_eq!(said, "error: can not perform 'bind' on 'pods' in group ''");
        let told = |verbs: &str, url: &str| {
            check_urls(&words(verbs), &words(url)).err().map(|fault| fault.to_string())
        };
        assert_eq!(told("get", "/logs/* *"), None);
        for (verbs, url, said) in [
            ("watch", "/logs", "invalid verb: 'watch' for nonResourceURL"),
            ("get", "logs", "nonResourceURL should start with /"),
            ("get", "/*/x", "nonResourceURL only supports wildcard matches when '*' is at the end"),
        ] {
            assert_eq!(told(verbs, url), Some(format!("error: {said}")));
        }
    }
}
