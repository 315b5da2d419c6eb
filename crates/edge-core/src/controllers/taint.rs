//! Taints and tolerations (`k8s.io/component-helpers/scheduling/corev1`): which pod puts up with
//! what, and until when. The scheduler and the controllers read them the same way.

use edge_api::{Object, time};
use serde_json::{Value, json};

/// The board does not report Ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Nothing is heard of the board.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// A person says that no more pods shall come.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// A person says that the board is off and stays off: what ran there has ended.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// `NoSchedule`
pub const NO_SCHEDULE: &str = "NoSchedule";
/// `NoExecute`
pub const NO_EXECUTE: &str = "NoExecute";

/// The taints of a Node.
pub fn of(node: &Object) -> &[Value] {
    node["spec"]["taints"].as_array().map_or(&[], Vec::as_slice)
}

/// Whether a Node has a taint with this key, whatever its effect.
pub fn has(node: &Object, key: &str) -> bool {
    of(node).iter().any(|taint| taint["key"] == key)
}

/// A taint put on now.
pub fn new(key: &str, effect: &str, now_ms: i64) -> Value {
    json!({"key": key, "effect": effect, "timeAdded": time::format(now_ms)})
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

/// `Toleration.ToleratesTaint`.
fn covers(toleration: &Value, taint: &Value) -> bool {
    let is = |field: &str| text(toleration, field);
    let effect = is("effect").is_empty() || is("effect") == text(taint, "effect");
    let key = is("key").is_empty() || is("key") == text(taint, "key");
    let value = match is("operator") {
        "Exists" => true,
        _ => !is("key").is_empty() && is("value") == text(taint, "value"),
    };
    effect && key && value
}

/// Whether a pod's spec tolerates a taint, for however long.
pub fn tolerates(spec: &Value, taint: &Value) -> bool {
    spec["tolerations"].as_array().into_iter().flatten().any(|t| covers(t, taint))
}

/// Until when a pod may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// For ever.
    Always,
    /// Until this moment, in Unix milliseconds; the past means not at all.
    Until(i64),
}

/// Until when a pod with this spec puts up with these `NoExecute` taints, each counted from when
/// it was put on: the shortest of the tolerations that are used for it, and the soonest of all.
pub fn stay<'a>(spec: &Value, taints: impl Iterator<Item = &'a Value>) -> Stay {
    let mut end: Option<i64> = None;
    for taint in taints.filter(|taint| taint["effect"] == NO_EXECUTE) {
        let list = spec["tolerations"].as_array();
        let used: Vec<&Value> = list.into_iter().flatten().filter(|t| covers(t, taint)).collect();
        if used.is_empty() {
            return Stay::Until(i64::MIN);
        }
        let shortest = used.iter().filter_map(|t| t["tolerationSeconds"].as_i64()).min();
        let Some(seconds) = shortest else { continue };
        let since = time::parse(text(taint, "timeAdded")).unwrap_or(i64::MIN);
        let until = if seconds <= 0 {
            i64::MIN
        } else {
            since.saturating_add(seconds.saturating_mul(1000))
        };
        end = Some(end.map_or(until, |known| known.min(until)));
    }
    end.map_or(Stay::Always, Stay::Until)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str, effect: &str) -> Value {
        json!({"key": key, "value": "v", "effect": effect, "timeAdded": time::format(10_000)})
    }

    #[test]
    fn tolerations_are_read_as_kubernetes_reads_them() {
        let cases = [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), false),
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "operator": "Equal", "value": "w"}), false),
            (json!({"value": "v"}), false),
            (json!({"key": "other", "operator": "Exists"}), false),
        ];
        for (toleration, want) in cases {
            let spec = json!({"tolerations": [toleration]});
            assert_eq!(tolerates(&spec, &taint("k", NO_EXECUTE)), want, "{spec}");
        }
    }

    #[test]
    fn the_time_to_stay() {
        let seconds = |n: i64| json!({"key": "k", "operator": "Exists", "tolerationSeconds": n});
        let forever = json!({"key": "k", "operator": "Exists"});
        let cases = [
            (json!([]), Stay::Until(i64::MIN)),
            (json!([seconds(5)]), Stay::Until(15_000)),
            (json!([seconds(0)]), Stay::Until(i64::MIN)),
            (json!([seconds(-3)]), Stay::Until(i64::MIN)),
            (json!([forever]), Stay::Always),
            (json!([forever, seconds(7), seconds(9)]), Stay::Until(17_000)),
        ];
        for (tolerations, want) in cases {
            let spec = json!({"tolerations": tolerations});
            assert_eq!(stay(&spec, [taint("k", NO_EXECUTE)].iter()), want, "{spec}");
            assert_eq!(stay(&spec, [taint("k", NO_SCHEDULE)].iter()), Stay::Always);
        }
        let spec = json!({"tolerations": [seconds(5)]});
        let both = [taint("k", NO_EXECUTE), taint("l", NO_EXECUTE)];
        assert_eq!(stay(&spec, both.iter()), Stay::Until(i64::MIN));
    }
}
