//! Of which IP families a Service is. The cluster has IPv4 alone, and says so in Kubernetes' words
//! to whoever asks for more (its `initIPFamilyFields`).

use edge_api::Object;
use edge_api::field::{Errors, Path};
use edge_api::meta;
use serde_json::{Value, json};
use std::net::IpAddr;

const V4: &str = "IPv4";
const V6: &str = "IPv6";
const SINGLE: &str = "SingleStack";

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Settles `ipFamilies` and `ipFamilyPolicy`; false when the Service gets no address: either a
/// complaint says why, or the kind's validation will.
pub(super) fn settle(service: &mut Object, errors: &mut Errors) -> bool {
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" {
        return true;
    }
    let ips = match (spec["clusterIP"].as_str().unwrap_or_default(), texts(&spec["clusterIPs"])) {
        ("", all) => all,
        (ip, all) if all.is_empty() => vec![ip],
        (ip, all) if all[0] == ip => all,
        _ => return false,
    };
    let families = texts(&spec["ipFamilies"]);
    let policy = spec["ipFamilyPolicy"].as_str().unwrap_or(SINGLE);
    let headless = ips == ["None"];
    let own = if headless { &[] } else { ips.as_slice() };
    let Some(kinds) = kinds_of(own, &families) else { return false };
    let before = errors.len();
    complain(&ips, &kinds, &families, policy, errors);
    if errors.len() > before {
        return false;
    }
    let free = headless && spec["selector"].as_object().is_none_or(|labels| labels.is_empty());
    if !free && !has_all(&families, policy, errors) {
        return false;
    }
    let mut settled = if families.is_empty() { vec![V4] } else { families };
    if free && policy != SINGLE && settled.len() == 1 {
        settled.push(if settled[0] == V4 { V6 } else { V4 });
    }
    let (settled, policy) = (json!(settled), json!(policy));
    let spec = meta::ensure(service, "spec");
    spec.insert("ipFamilies".to_owned(), settled);
    spec.insert("ipFamilyPolicy".to_owned(), policy);
    true
}

/// The families of addresses; none where validation has something to say.
fn kinds_of(ips: &[&str], families: &[&str]) -> Option<Vec<&'static str>> {
    let known = families.iter().all(|family| [V4, V6].contains(family));
    let twice = |all: &[&str]| all.len() > 2 || all.len() == 2 && all[0] == all[1];
    let kind = |ip: &&str| Some(if ip.parse::<IpAddr>().ok()?.is_ipv4() { V4 } else { V6 });
    let kinds = ips.iter().map(kind).collect::<Option<Vec<_>>>()?;
    let meant = kinds.iter().zip(families).all(|(kind, family)| kind == family);
    (known && meant && !twice(families) && !twice(&kinds)).then_some(kinds)
}

/// What addresses, families and policy say against each other and against the cluster.
fn complain(ips: &[&str], kinds: &[&str], families: &[&str], policy: &str, errors: &mut Errors) {
    let spec = Path::new("spec");
    for (count, what) in [(ips.len(), "cluster IPs"), (families.len(), "IP families")] {
        if policy == SINGLE && count == 2 {
            let detail = format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            );
            errors.invalid(&spec.child("ipFamilyPolicy"), policy, &detail);
        }
    }
    for (index, kind) in kinds.iter().enumerate().skip(families.len()) {
        if *kind == V6 {
            let at = spec.child("clusterIPs");
            errors.invalid(&at.index(index), json!(ips), "IPv6 is not configured on this cluster");
        }
    }
}

/// Whether the cluster has all families that are asked for.
fn has_all(families: &[&str], policy: &str, errors: &mut Errors) -> bool {
    let (spec, before) = (Path::new("spec"), errors.len());
    if policy == "RequireDualStack" {
        let detail = "this cluster is not configured for dual-stack services";
        errors.invalid(&spec.child("ipFamilyPolicy"), policy, detail);
    }
    for (index, family) in families.iter().enumerate().filter(|(_, family)| **family != V4) {
        let at = spec.child("ipFamilies");
        errors.invalid(&at.index(index), *family, "not configured on this cluster");
    }
    errors.len() == before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(spec: Value) -> Result<(Value, Value), Vec<String>> {
        let mut service = json!({ "spec": spec });
        let mut errors = Errors::new();
        let good = settle(&mut service, &mut errors);
        let said: Vec<String> = errors.into_vec().iter().map(ToString::to_string).collect();
        let spec = &service["spec"];
        match good && said.is_empty() {
            true => Ok((spec["ipFamilies"].clone(), spec["ipFamilyPolicy"].clone())),
            false => Err(said),
        }
    }

    #[test]
    fn what_the_cluster_has_is_settled() {
        let plain = |spec| assert_eq!(settled(spec), Ok((json!(["IPv4"]), json!("SingleStack"))));
        plain(json!({}));
        plain(json!({"ipFamilies": ["IPv4"], "clusterIP": "10.43.0.7"}));
        plain(json!({"clusterIP": "None", "selector": {"a": "b"}}));
        plain(json!({"clusterIP": "None"}));
        let prefers = json!({"ipFamilyPolicy": "PreferDualStack", "clusterIPs": ["10.43.0.7"]});
        assert_eq!(settled(prefers), Ok((json!(["IPv4"]), json!("PreferDualStack"))));
        // Nobody gives endpoints to one without a selector but whoever made it.
        let both = (json!(["IPv6", "IPv4"]), json!("RequireDualStack"));
        let own = json!({"clusterIP": "None", "ipFamilies": ["IPv6"],
                         "ipFamilyPolicy": "RequireDualStack"});
        assert_eq!(settled(own), Ok(both));
        let external = json!({"type": "ExternalName", "ipFamilies": ["IPv6"]});
        assert_eq!(settled(external), Ok((json!(["IPv6"]), Value::Null)));
    }

    #[test]
    fn what_it_does_not_have_is_refused_in_kubernetes_words() {
        let refused = |spec: Value, want: &[&str]| {
            assert_eq!(settled(spec.clone()).unwrap_err(), want, "{spec}");
        };
        let none = "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not \
                    configured for dual-stack services";
        refused(
            json!({"clusterIP": "fd00::1"}),
            &["spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this \
               cluster"],
        );
        let v6 = "Invalid value: \"IPv6\": not configured on this cluster";
        refused(json!({"ipFamilies": ["IPv6"]}), &[&format!("spec.ipFamilies[0]: {v6}")]);
        refused(json!({"ipFamilyPolicy": "RequireDualStack"}), &[none]);
        refused(
            json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
                   "clusterIP": "None", "selector": {"a": "b"}}),
            &[none, &format!("spec.ipFamilies[1]: {v6}")],
        );
        let single = "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be \
                      'RequireDualStack' or 'PreferDualStack' when multiple";
        refused(
            json!({"ipFamilies": ["IPv4", "IPv6"]}),
            &[&format!("{single} IP families are specified")],
        );
        refused(
            json!({"clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7", "fd00::1"]}),
            &[
                &format!("{single} cluster IPs are specified"),
                "spec.clusterIPs[1]: Invalid value: [\"10.43.0.7\",\"fd00::1\"]: IPv6 is not \
                 configured on this cluster",
            ],
        );
        // The kind's validation has words for these.
        for spec in [
            json!({"ipFamilies": ["IPv4", "IPv4"]}),
            json!({"ipFamilies": ["IPv5"]}),
            json!({"clusterIP": "x"}),
            json!({"clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.8"]}),
            json!({"clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7", "10.43.0.8"]}),
            json!({"clusterIP": "10.43.0.7", "ipFamilies": ["IPv6"]}),
        ] {
            refused(spec, &[]);
        }
    }
}
