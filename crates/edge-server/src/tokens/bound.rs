//! Whether what a token is bound to is still there, and still the same: a token ends with its
//! account, its pod, its Secret or its board.

use super::Refused;
use super::claims::{Named, Private};
use crate::api::{Api, Place};
use edge_api::kinds::{self, Kind};
use edge_api::{Object, meta, time};

/// For how long a token counts after the time at which its object was to be gone, as in
/// Kubernetes: what ends with grace may say good-bye.
const LEEWAY_MS: i64 = 60_000;

/// Checks everything that a token names.
pub(super) fn check(api: &Api, private: &Private, now_ms: i64) -> Result<(), Refused> {
    let namespace = private.namespace.as_str();
    let all = [
        (kinds::SERVICE_ACCOUNT, Some(&private.serviceaccount)),
        (kinds::POD, private.pod.as_ref()),
        (kinds::SECRET, private.secret.as_ref()),
        // The board of a pod goes with the pod; only a token of the board itself is bound to it.
        (kinds::NODE, private.node.as_ref().filter(|_| private.pod.is_none())),
    ];
    for (kind, named) in all {
        if let Some(named) = named {
            let namespace = if kind.namespaced { namespace } else { "" };
            one(api, kind, namespace, named, now_ms)?;
        }
    }
    Ok(())
}

fn one(
    api: &Api,
    kind: &'static Kind,
    namespace: &str,
    named: &Named,
    now_ms: i64,
) -> Result<(), Refused> {
    let gone = |why: &str| Refused {
        why: format!("the {} {namespace}/{} of the token {why}", kind.singular, named.name),
        missing: true,
    };
    let object = api.object(Place::new(kind, namespace, &named.name));
    let object = object.map_err(|status| gone(&status.message))?;
    if meta::uid(&object) != named.uid {
        return Err(gone("is another one by now"));
    }
    if over(&object, now_ms) {
        return Err(Refused { missing: false, ..gone("is being deleted") });
    }
    Ok(())
}

fn over(object: &Object, now_ms: i64) -> bool {
    let end = object["metadata"]["deletionTimestamp"].as_str().and_then(time::parse);
    end.is_some_and(|end| end.saturating_add(LEEWAY_MS) < now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_ends_with_grace_may_say_good_bye() {
        let pod = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let end = edge_core::clock::BUILT_MS;
        assert!(!over(&pod, end + LEEWAY_MS) && over(&pod, end + LEEWAY_MS + 1));
        assert!(!over(&json!({"metadata": {}}), i64::MAX));
    }
}
