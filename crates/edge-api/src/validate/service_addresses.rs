//! A Service's addresses: those that it has in the cluster, of which families they are, and those
//! from outside that boards take in for it.

use serde_json::{Value, json};

use super::{list, one_of, text};
use crate::field::{Errors, Path};
use crate::names;

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
/// One of each family.
const MOST_ADDRESSES: usize = 2;

/// What Kubernetes checks in `clusterIP`, `clusterIPs`, `ipFamilies`, `ipFamilyPolicy` and
/// `externalIPs`, in that order.
pub(super) fn addresses(spec: &Value, at: &Path<'_>, errors: &mut Errors) {
    if text(&spec["type"]) != "ExternalName" {
        let all = of_cluster(spec, at, errors);
        families(spec, at, errors);
        cluster_ips(&all, spec, at, errors);
    }
    let at = at.child("externalIPs");
    for (index, ip) in list(&spec["externalIPs"]).iter().enumerate() {
        let bad = match names::ip(text(ip)) {
            none if none.is_empty() => names::special_ip(text(ip)),
            bad => bad,
        };
        errors.each(&at.index(index), ip.clone(), bad);
    }
}

/// All addresses in the cluster; `clusterIP` must be the first one.
fn of_cluster<'a>(spec: &'a Value, at: &Path<'_>, errors: &mut Errors) -> Vec<&'a str> {
    let ip = text(&spec["clusterIP"]);
    let mut all: Vec<&str> = list(&spec["clusterIPs"]).iter().map(text).collect();
    match all.first() {
        None if ip.is_empty() => {}
        None => all.push(ip),
        Some(first) if *first == ip => {}
        Some(_) => {
            let detail = match ip.is_empty() {
                true => "must be empty when `clusterIP` is not specified",
                false => "first value must match `clusterIP`",
            };
            errors.invalid(&at.child("clusterIPs"), json!(all), detail);
        }
    }
    all
}

fn families(spec: &Value, at: &Path<'_>, errors: &mut Errors) {
    let (all, field) = (list(&spec["ipFamilies"]), at.child("ipFamilies"));
    for (index, family) in all.iter().enumerate() {
        if !FAMILIES.contains(&text(family)) {
            errors.not_supported(&field.index(index), family.clone(), &FAMILIES);
        }
        if all[..index].contains(family) {
            errors.duplicate(&field.index(index), family.clone());
        }
    }
    one_of(errors, &at.child("ipFamilyPolicy"), &spec["ipFamilyPolicy"], &POLICIES);
}

fn cluster_ips(all: &[&str], spec: &Value, at: &Path<'_>, errors: &mut Errors) {
    let at = at.child("clusterIPs");
    let mut bad = false;
    for (index, ip) in all.iter().enumerate() {
        if index == 0 && *ip == "None" {
            if all.len() > 1 {
                bad = true;
                errors.invalid(&at, json!(all), "'None' must be the first and only value");
            }
            continue;
        }
        let complaints = names::ip(ip);
        bad |= !complaints.is_empty();
        errors.each(&at.index(index), *ip, complaints);
    }
    if all.len() > MOST_ADDRESSES {
        errors.invalid(&at, json!(all), "may only hold up to 2 values");
    }
    if bad {
        return;
    }
    let is_v6 = |ip: &str| ip.contains(':');
    let of_v6 = all.iter().filter(|ip| is_v6(ip)).count();
    if all.len() > 1 && (of_v6 == 0 || of_v6 == all.len()) {
        let detail = "may specify no more than one IP for each IP family";
        errors.invalid(&at, json!(all), detail);
    }
    for (index, (ip, family)) in all.iter().zip(list(&spec["ipFamilies"])).enumerate() {
        let family = text(family);
        let other = matches!((family, is_v6(ip)), ("IPv4", true) | ("IPv6", false));
        if *ip != "None" && other {
            let detail =
                format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.invalid(&at.index(index), *ip, &detail);
        }
    }
}
