//! Every namespace has a ServiceAccount called `default`: pods that name none run as it.

use edge_api::{kinds, meta};
use serde_json::json;

use crate::plan::{Action, Plan};
use crate::view::{Round, View};

/// The account that pods get when they name none.
pub const DEFAULT: &str = "default";

/// Makes the account where it is missing.
pub fn plan(view: &View, _round: &Round) -> Plan {
    let mut plan = Plan::default();
    for namespace in view.list(kinds::NAMESPACE) {
        let name = meta::name(namespace);
        if meta::is_deleting(namespace) || view.get(kinds::SERVICE_ACCOUNT, name, DEFAULT).is_some()
        {
            continue;
        }
        let object = json!({"apiVersion": "v1", "kind": "ServiceAccount",
                            "metadata": {"name": DEFAULT, "namespace": name}});
        plan.push(Action::Create { kind: kinds::SERVICE_ACCOUNT, object });
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn made_once_and_not_in_a_dying_namespace() {
        let mut view = View::default();
        let round = Round { now_ms: 0, seed: 0 };
        view.put(kinds::NAMESPACE, Arc::new(json!({"metadata": {"name": "a"}})));
        let gone = json!({"metadata": {"name": "b", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        view.put(kinds::NAMESPACE, Arc::new(gone));
        let first = plan(&view, &round);
        assert_eq!(first.actions.len(), 1);
        let Action::Create { object, .. } = &first.actions[0] else { panic!("{first:?}") };
        view.put(kinds::SERVICE_ACCOUNT, Arc::new(object.clone()));
        assert!(plan(&view, &round).is_empty());
    }
}
