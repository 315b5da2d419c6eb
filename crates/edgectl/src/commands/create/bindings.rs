//! RoleBindings and ClusterRoleBindings: who has which role.

use crate::fault::Fault;
use crate::writing::Writing;
use edge_api::Object;
use serde_json::{Value, json};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Whom a binding is for.
#[derive(Debug, clap::Args)]
struct Subjects {
    /// A user who gets the role; may be given several times
    #[arg(long)]
    user: Vec<String>,
    /// A group whose members get it; may be given several times
    #[arg(long)]
    group: Vec<String>,
    /// A ServiceAccount that gets it, as NAMESPACE:NAME; may be given several times
    #[arg(long, value_name = "NAMESPACE:NAME")]
    serviceaccount: Vec<String>,
}

impl Subjects {
    fn listed(&self) -> Result<Value, Fault> {
        let named =
            |kind: &str, name: &String| json!({"kind": kind, "apiGroup": GROUP, "name": name});
        let mut all: Vec<Value> = self.user.iter().map(|name| named("User", name)).collect();
        all.extend(self.group.iter().map(|name| named("Group", name)));
        for text in &self.serviceaccount {
            let parts: Vec<&str> = text.split(':').collect();
            match parts[..] {
                [namespace, name] if !namespace.is_empty() && !name.is_empty() => all
                    .push(json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})),
                _ => return Err(Fault::text("serviceaccount must be <namespace>:<name>")),
            }
        }
        Ok(Value::Array(all))
    }
}

/// A role for somebody, in one namespace
#[derive(Debug, clap::Args)]
pub(super) struct RoleBinding {
    /// Its name
    name: String,
    /// The ClusterRole that it gives
    #[arg(long)]
    clusterrole: Option<String>,
    /// The Role that it gives
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    subjects: Subjects,
    #[command(flatten)]
    pub(super) writing: Writing,
}

impl RoleBinding {
    pub(super) fn object(&self) -> Result<Object, Fault> {
        let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        let (kind, role) = match (given(&self.role), given(&self.clusterrole)) {
            (Some(role), None) => ("Role", role),
            (None, Some(role)) => ("ClusterRole", role),
            _ => return Err(Fault::text("exactly one of clusterrole or role must be specified")),
        };
        binding("RoleBinding", &self.name, (kind, &role), &self.subjects)
    }
}

/// A role for somebody, in all namespaces
#[derive(Debug, clap::Args)]
pub(super) struct ClusterRoleBinding {
    /// Its name
    name: String,
    /// The ClusterRole that it gives
    #[arg(long)]
    clusterrole: String,
    #[command(flatten)]
    subjects: Subjects,
    #[command(flatten)]
    pub(super) writing: Writing,
}

impl ClusterRoleBinding {
    pub(super) fn object(&self) -> Result<Object, Fault> {
        let role = ("ClusterRole", self.clusterrole.as_str());
        binding("ClusterRoleBinding", &self.name, role, &self.subjects)
    }
}

fn binding(
    kind: &str,
    name: &str,
    (role_kind, role): (&str, &str),
    subjects: &Subjects,
) -> Result<Object, Fault> {
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": kind,
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role},
    });
    let subjects = subjects.listed()?;
    if subjects != json!([]) {
        object["subjects"] = subjects;
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    #[command(rename_all = "lower")]
    enum Line {
        RoleBinding(RoleBinding),
        ClusterRoleBinding(ClusterRoleBinding),
    }

    fn made(line: &str) -> Result<Object, String> {
        let object = match Line::parse_from(line.split(' ')) {
            Line::RoleBinding(args) => args.object(),
            Line::ClusterRoleBinding(args) => args.object(),
        };
        object.map_err(|fault| fault.to_string().replacen("error: ", "", 1))
    }

    #[test]
    fn a_role_for_everybody_named() {
        let line = "x rolebinding robot-sees --clusterrole=view --serviceaccount=default:robot";
        assert_eq!(
            made(line).unwrap(),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": "robot-sees"},
                "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "robot"}],
            })
        );
        let all = made("x clusterrolebinding a --clusterrole=edit --user=u --user=v --group=g");
        let subjects = &all.unwrap()["subjects"];
        assert_eq!(subjects[1], json!({"kind": "User", "apiGroup": GROUP, "name": "v"}));
        assert_eq!(subjects[2], json!({"kind": "Group", "apiGroup": GROUP, "name": "g"}));
        assert_eq!(made("x rolebinding a --role=r").unwrap()["roleRef"]["kind"], "Role");
    }

    #[test]
    fn what_is_missing_is_said_as_kubectl_says_it() {
        for line in ["x rolebinding a", "x rolebinding a --role=r --clusterrole=c"] {
            let said = made(line).unwrap_err();
            assert_eq!(said, "exactly one of clusterrole or role must be specified", "{line}");
        }
        for account in ["robot", ":robot", "a:b:c"] {
            let said = made(&format!("x rolebinding a --role=r --serviceaccount={account}"));
            assert_eq!(said.unwrap_err(), "serviceaccount must be <namespace>:<name>");
        }
    }
}
