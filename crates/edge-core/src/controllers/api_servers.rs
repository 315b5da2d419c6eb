//! The `kubernetes` Service leads to servers that live: one that has fallen silent gets no new
//! connections of pods until it is heard again.

use edge_api::{Object, kinds};
use serde_json::{Value, json};

use crate::liveness::Standing;
use crate::plan::{Action, Plan};
use crate::view::{Round, View};

/// Where the servers are, as the leading one keeps it.
const SLICE: (&str, &str) = ("default", "kubernetes");

/// Marks the servers that are silent as not ready; but never all of them, for then it is rather
/// us who hear nothing.
pub fn plan(view: &View, _round: &Round) -> Plan {
    let mut plan = Plan::default();
    let Some(have) = view.get(kinds::ENDPOINT_SLICE, SLICE.0, SLICE.1) else { return plan };
    let lives = |endpoint: &Value| {
        let node = endpoint["nodeName"].as_str().unwrap_or_default();
        // A server without pods has no Node and does not beat, though it may have had one a moment
        // ago; the election hears of it all the same.
        let beats = view.get(kinds::NODE, "", node).and_then(|_| view.liveness.get(node));
        match beats {
            Some(known) => !matches!(known.standing, Standing::Silent | Standing::Lost),
            None => !view.away.contains(node),
        }
    };
    let none = Vec::new();
    let endpoints = have["endpoints"].as_array().unwrap_or(&none);
    let some = endpoints.iter().any(lives);
    let mut slice = Object::clone(have);
    for (index, endpoint) in endpoints.iter().enumerate() {
        let ready = json!(!some || lives(endpoint));
        if endpoint["conditions"]["ready"] != ready {
            slice["endpoints"][index]["conditions"]["ready"] = ready;
        }
    }
    if slice != **have {
        plan.push(Action::update(kinds::ENDPOINT_SLICE, slice));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liveness::Liveness;
    use std::sync::Arc;

    #[test]
    fn silent_servers_are_left_out_until_they_are_heard() {
        let endpoint = |name: &str| {
            json!({
                "addresses": ["10.0.0.1"],
                "conditions": { "ready": true },
                "nodeName": name,
            })
        };
        let slice = json!({ "metadata": { "namespace": "default", "name": "kubernetes" },
            "endpoints": [endpoint("s1"), endpoint("s2")] });
        let mut view = View::default();
        let round = Round { now_ms: 0, seed: 0 };
        view.put(kinds::ENDPOINT_SLICE, Arc::new(slice));
        let stand = |view: &mut View, name: &str, standing| {
            view.put(kinds::NODE, Arc::new(json!({ "metadata": { "name": name } })));
            view.liveness.insert(name.into(), Liveness { standing, ..Liveness::default() });
        };
        let ready = |view: &mut View| {
            for action in plan(view, &round).actions {
                let Action::Update { object, .. } = action else { panic!("{action:?}") };
                view.put(kinds::ENDPOINT_SLICE, Arc::new(object));
            }
            assert!(plan(view, &round).is_empty());
            let slice = view.get(kinds::ENDPOINT_SLICE, "default", "kubernetes").unwrap();
            [0, 1].map(|at| slice["endpoints"][at]["conditions"]["ready"] == true)
        };
        assert_eq!(ready(&mut view), [true, true], "nothing is known");
        stand(&mut view, "s1", Standing::Silent);
        assert_eq!(ready(&mut view), [false, true]);
        stand(&mut view, "s2", Standing::Lost);
        assert_eq!(ready(&mut view), [true, true], "then it is us");
        stand(&mut view, "s1", Standing::Alive);
        assert_eq!(ready(&mut view), [true, false]);
        // Without a Node nobody beats, and the election says who is there.
        view.liveness.clear();
        assert_eq!(ready(&mut view), [true, true]);
        view.away.insert("s1".to_owned());
        assert_eq!(ready(&mut view), [false, true]);
        stand(&mut view, "s1", Standing::Alive);
        assert_eq!(ready(&mut view), [true, true], "what beats lives");
        // It runs no pods any more: its silence as a Node is nobody's.
        view.away.clear();
        stand(&mut view, "s1", Standing::Lost);
        assert_eq!(ready(&mut view), [false, true]);
        view.remove(kinds::NODE, "", "s1", u64::MAX);
        assert_eq!(ready(&mut view), [true, true]);
    }
}
