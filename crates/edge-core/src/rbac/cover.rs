//! Whether rules that somebody wants to give are among those that they have: nobody gives away
//! what they may not do themselves.

use super::rule::{Rule, What};

/// The parts of `wanted` that no rule of `owned` allows, as sentences. Each rule is taken apart
/// into single permissions, and each of those must be within one rule.
pub fn uncovered(owned: &[Rule], wanted: &[Rule]) -> Vec<String> {
    let mut missing = Vec::new();
    for rule in wanted {
        for verb in &rule.verbs {
            for path in &rule.paths {
                if !owned.iter().any(|own| covers_path(own, verb, path)) {
                    missing.push(format!("{{NonResourceURLs:[{path:?}], Verbs:[{verb:?}]}}"));
                }
            }
            for group in &rule.groups {
                for resource in &rule.resources {
                    parts(owned, rule, (verb, group, resource), &mut missing);
                }
            }
        }
    }
    missing
}

fn parts(
    owned: &[Rule],
    rule: &Rule,
    (verb, group, resource): (&str, &str, &str),
    missing: &mut Vec<String>,
) {
    let (of, sub) = resource.split_once('/').unwrap_or((resource, ""));
    let covers = |own: &Rule, name: &str| {
        // A wanted `*` is only within a rule that has one itself.
        let what = What::Resource { verb, group, resource: of, sub, namespace: "", name };
        own.allows(&what) && (!name.is_empty() || own.names.is_empty())
    };
    let mut names: Vec<&str> = rule.names.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.push("");
    }
    for name in names {
        if !owned.iter().any(|own| covers(own, name)) {
            let of =
                if name.is_empty() { String::new() } else { format!(", ResourceNames:[{name:?}]") };
            missing.push(format!(
                "{{APIGroups:[{group:?}], Resources:[{resource:?}]{of}, Verbs:[{verb:?}]}}"
            ));
        }
    }
}

fn covers_path(own: &Rule, verb: &str, path: &str) -> bool {
    let verbs = own.verbs.iter().any(|have| have == "*" || have == verb);
    // `/a/*` is within `/a/*` and `/*`: the star is a letter like any other to a longer stem.
    verbs && own.takes_path(path)
}
