//! Role-based access control: who may do what, by Kubernetes' rules and no others. Roles only ever
//! allow; what no rule allows is refused. Pure: the objects come in through [`Policy`].

mod bootstrap;
mod cover;
mod rule;

pub use bootstrap::{aggregated, cluster_role_bindings, cluster_roles};
pub use cover::uncovered;
pub use rule::{Rule, What};

use std::sync::Arc;

use edge_api::{Object, meta};
use serde_json::Value;

/// Where roles and bindings are. What cannot be read is not there: it allows nothing.
pub trait Policy {
    /// All ClusterRoleBindings.
    fn cluster_role_bindings(&self) -> Vec<Arc<Object>>;
    /// The RoleBindings of a namespace.
    fn role_bindings(&self, namespace: &str) -> Vec<Arc<Object>>;
    /// A ClusterRole.
    fn cluster_role(&self, name: &str) -> Option<Arc<Object>>;
    /// A Role.
    fn role(&self, namespace: &str, name: &str) -> Option<Arc<Object>>;
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The user's name.
    pub user: &'a str,
    /// The groups.
    pub groups: &'a [String],
}

impl Subject<'_> {
    /// Whether an entry of a binding's `subjects` means this one. A ServiceAccount that names no
    /// namespace is one of the binding's own.
    fn is(&self, entry: &Value, namespace: &str) -> bool {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        match text("kind") {
            "User" => self.user == text("name"),
            "Group" => self.groups.iter().any(|group| group == text("name")),
            "ServiceAccount" => {
                let of = if text("namespace").is_empty() { namespace } else { text("namespace") };
                let wanted = self.user.strip_prefix("system:serviceaccount:");
                !of.is_empty()
                    && wanted.and_then(|rest| rest.split_once(':')) == Some((of, text("name")))
            }
            _ => false,
        }
    }
}

/// Whether anything allows `who` to do `what`.
pub fn allows(policy: &impl Policy, who: &Subject<'_>, what: &What<'_>) -> bool {
    each(policy, who, what.namespace(), &mut |rule| rule.allows(what))
}

/// All rules that hold for `who` in a namespace, those of the whole cluster among them.
pub fn rules(policy: &impl Policy, who: &Subject<'_>, namespace: &str) -> Vec<Rule> {
    let mut found = Vec::new();
    each(policy, who, namespace, &mut |rule| {
        found.push(rule.clone());
        false
    });
    found
}

/// Shows each rule that holds for `who` until one is taken; says whether one was.
fn each(
    policy: &impl Policy,
    who: &Subject<'_>,
    namespace: &str,
    take: &mut dyn FnMut(&Rule) -> bool,
) -> bool {
    let means = |binding: &Object, namespace: &str| {
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        subjects.into_iter().any(|entry| who.is(entry, namespace))
    };
    for binding in policy.cluster_role_bindings() {
        if means(&binding, "") && of_role(policy, &binding, "").iter().any(&mut *take) {
            return true;
        }
    }
    if namespace.is_empty() {
        return false;
    }
    for binding in policy.role_bindings(namespace) {
        if meta::namespace(&binding) == namespace
            && means(&binding, namespace)
            && of_role(policy, &binding, namespace)
                .iter()
                .any(|rule| rule.names_resources() && take(rule))
        {
            return true;
        }
    }
    false
}

/// The rules of the role that a binding (or anything with a `roleRef`) refers to; `namespace` is
/// empty for a ClusterRoleBinding.
pub fn of_role(policy: &impl Policy, binding: &Object, namespace: &str) -> Vec<Rule> {
    let reference = &binding["roleRef"];
    let name = reference["name"].as_str().unwrap_or_default();
    let role = match reference["kind"].as_str() {
        Some("ClusterRole") => policy.cluster_role(name),
        Some("Role") if !namespace.is_empty() => policy.role(namespace, name),
        _ => None,
    };
    role.map(|role| Rule::all_of(&role)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
