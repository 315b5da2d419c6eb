//! ClusterRoles that are made of others: `admin`, `edit`, `view`, and those of people who extend
//! them by labels.

use edge_api::{Object, kinds};
use serde_json::json;

use crate::plan::{Action, Plan};
use crate::rbac;
use crate::view::{Round, View};

/// Writes the rules of each such role where they are not what its parts say.
pub fn plan(view: &View, _round: &Round) -> Plan {
    let mut plan = Plan::default();
    let all = || view.list(kinds::CLUSTER_ROLE).map(|role| &**role);
    for role in all() {
        let Some(rules) = rbac::aggregated(role, all()) else { continue };
        let none = role["rules"].is_null() && rules.is_empty();
        if !none && role["rules"] != json!(rules) {
            let mut whole = Object::clone(role);
            whole["rules"] = json!(rules);
            plan.push(Action::update(kinds::CLUSTER_ROLE, whole));
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn roles_fill_up_from_the_inside_and_come_to_rest() {
        let mut view = View::default();
        let round = Round { now_ms: 0, seed: 0 };
        for mut role in rbac::cluster_roles() {
            if role["aggregationRule"].is_object() {
                role["rules"] = json!([]);
            }
            view.put(kinds::CLUSTER_ROLE, Arc::new(role));
        }
        for _ in 0..3 {
            for action in plan(&view, &round).actions {
                let Action::Update { object, .. } = action else { panic!("{action:?}") };
                view.put(kinds::CLUSTER_ROLE, Arc::new(object));
            }
        }
        assert!(plan(&view, &round).is_empty());
        let admin = view.get(kinds::CLUSTER_ROLE, "", "admin").unwrap().to_string();
        assert!(admin.contains("rolebindings") && admin.contains("endpointslices"), "{admin}");
        let view = view.get(kinds::CLUSTER_ROLE, "", "view").unwrap().to_string();
        assert!(!view.contains("secrets"), "{view}");
    }
}
