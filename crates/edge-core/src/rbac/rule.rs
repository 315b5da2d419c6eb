//! One rule of a role, and what it allows.

use edge_api::Object;
use serde_json::{Map, Value, json};

/// What somebody asks to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// Something with objects.
    Resource {
        /// `get`, `list`, …
        verb: &'a str,
        /// The API group; empty for the core.
        group: &'a str,
        /// The plural.
        resource: &'a str,
        /// The subresource; empty for the object itself.
        sub: &'a str,
        /// The namespace; empty for all of them and for what has none.
        namespace: &'a str,
        /// The object's name; empty for collections.
        name: &'a str,
    },
    /// A path that is no resource.
    Path {
        /// `get`, `post`, …
        verb: &'a str,
        /// `/metrics`
        path: &'a str,
    },
}

impl What<'_> {
    /// The namespace that it is about; empty for none.
    pub fn namespace(&self) -> &str {
        match self {
            What::Resource { namespace, .. } => namespace,
            What::Path { .. } => "",
        }
    }
}

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Verbs; `*` for all.
    pub verbs: Vec<String>,
    /// API groups; `*` for all.
    pub groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    pub resources: Vec<String>,
    /// The names that it is limited to; empty for no limit.
    pub names: Vec<String>,
    /// Paths that are no resources; a `*` at the end stands for anything.
    pub paths: Vec<String>,
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == wanted)
}

impl Rule {
    /// Reads a rule.
    pub fn of(rule: &Value) -> Rule {
        Rule {
            verbs: texts(&rule["verbs"]),
            groups: texts(&rule["apiGroups"]),
            resources: texts(&rule["resources"]),
            names: texts(&rule["resourceNames"]),
            paths: texts(&rule["nonResourceURLs"]),
        }
    }

    /// The rules of a Role or ClusterRole.
    pub fn all_of(role: &Object) -> Vec<Rule> {
        role["rules"].as_array().into_iter().flatten().map(Rule::of).collect()
    }

    /// The rule as `SelfSubjectRulesReview` shows it.
    pub fn show(&self) -> Value {
        let mut shown = Map::new();
        let fields = [
            ("verbs", &self.verbs),
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ];
        for (name, list) in fields {
            if !list.is_empty() {
                shown.insert(name.to_owned(), json!(list));
            }
        }
        Value::Object(shown)
    }

    /// Whether it speaks of resources; a Role's other rules mean nothing.
    pub fn names_resources(&self) -> bool {
        !self.resources.is_empty()
    }

    /// Whether it allows this.
    pub fn allows(&self, what: &What<'_>) -> bool {
        match what {
            What::Resource { verb, group, resource, sub, name, .. } => {
                has(&self.verbs, verb)
                    && has(&self.groups, group)
                    && self.takes_resource(resource, sub)
                    && (self.names.is_empty() || self.names.iter().any(|own| own == name))
            }
            What::Path { verb, path } => has(&self.verbs, verb) && self.takes_path(path),
        }
    }

    /// Whether it speaks of this resource.
    pub(super) fn takes_resource(&self, resource: &str, sub: &str) -> bool {
        self.resources.iter().any(|own| {
            if own == "*" {
                return true;
            }
            match own.split_once('/') {
                None => sub.is_empty() && own == resource,
                Some((of, own)) => !sub.is_empty() && own == sub && (of == "*" || of == resource),
            }
        })
    }

    /// Whether it speaks of this path.
    pub(super) fn takes_path(&self, path: &str) -> bool {
        self.paths.iter().any(|own| match own.strip_suffix('*') {
            Some(stem) => path.starts_with(stem),
            None => own == path,
        })
    }
}
