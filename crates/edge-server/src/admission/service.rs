//! Addresses and ports of Services. What is taken is read from the Services themselves, under a
//! lock, so nothing can leak and nothing needs repair after a crash.

use super::families;
use super::node_ports::{self, OUT_OF_RANGE, PORTS, TAKEN};
use crate::api::{Api, peek};
use crate::config::Range;
use edge_api::field::{Errors, FieldError, Path};
use edge_api::status::Status;
use edge_api::{Object, kinds, meta};
use edge_store::ListOptions;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Below this, addresses are left to those who ask for one, as Kubernetes leaves them.
const STATIC_BAND: u32 = 256;

#[derive(Deserialize)]
struct Taken {
    spec: TakenSpec,
}

#[derive(Deserialize)]
struct TakenSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(default)]
    ports: Vec<TakenPort>,
    #[serde(rename = "healthCheckNodePort")]
    health: Option<u16>,
}

#[derive(Deserialize)]
struct TakenPort {
    #[serde(rename = "nodePort")]
    node_port: Option<u16>,
}

#[derive(Default)]
struct InUse {
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<u16>,
}

/// Gives a Service its address and ports; complaints are about those it asks for itself.
pub(super) fn allocate(
    api: &Api,
    new: &mut Object,
    old: Option<&Object>,
) -> Result<Vec<FieldError>, Status> {
    if !new["spec"].is_object() {
        return Ok(Vec::new());
    }
    let in_use = in_use(api, new)?;
    let mut errors = Errors::new();
    if let Some(old) = old {
        inherit(new, old);
    }
    if !families::settle(new, &mut errors) {
        return Ok(errors.into_vec());
    }
    address(api, new, &in_use, &mut errors)?;
    ports(api, new, &in_use, &mut errors)?;
    health(api, new, &in_use, &mut errors)?;
    Ok(errors.into_vec())
}

fn in_use(api: &Api, but: &Object) -> Result<InUse, Status> {
    let listing = api.store().list(&kinds::SERVICE.key_prefix(None), ListOptions::default());
    let listing = listing.map_err(|error| Status::internal(error.to_string()))?;
    let own = kinds::SERVICE.key(meta::namespace(but), meta::name(but));
    let mut in_use = InUse::default();
    for entry in listing.entries.iter().filter(|entry| *entry.key != *own) {
        let Some(service) = peek::<Taken>(&entry.value) else { continue };
        let address = service.spec.cluster_ip.and_then(|ip| ip.parse::<Ipv4Addr>().ok());
        in_use.addresses.extend(address);
        let ports = service.spec.ports.iter().filter_map(|port| port.node_port);
        let ports = ports.chain(service.spec.health);
        in_use.ports.extend(ports.filter(|port| *port > 0));
    }
    Ok(in_use)
}

fn kind_of(service: &Object) -> &str {
    service["spec"]["type"].as_str().unwrap_or("ClusterIP")
}

fn has_node_ports(service: &Object) -> bool {
    matches!(kind_of(service), "NodePort" | "LoadBalancer")
}

/// What an update leaves out stays as it was; what the new type does not have goes.
fn inherit(new: &mut Object, old: &Object) {
    let external = kind_of(new) == "ExternalName";
    let was_external = kind_of(old) == "ExternalName";
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let unset = new["spec"][field].as_str().is_some_and(str::is_empty)
            || new["spec"].get(field).is_none_or(Value::is_null);
        let same = new["spec"].get(field) == old["spec"].get(field);
        if external && !was_external && same {
            if let Some(spec) = new["spec"].as_object_mut() {
                spec.remove(field);
            }
        } else if !external
            && unset
            && let Some(value) = old["spec"].get(field)
        {
            new["spec"][field] = value.clone();
        }
    }
    let drop = !has_node_ports(new);
    if drop && new["spec"]["externalIPs"].is_null() {
        leave_behind(new, old, &["externalTrafficPolicy"]);
    }
    if kind_of(new) != "LoadBalancer" {
        leave_behind(new, old, &["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    if !is_checked(new) {
        leave_behind(new, old, &["healthCheckNodePort"]);
    } else if is_checked(old) && new["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0) == 0 {
        new["spec"]["healthCheckNodePort"] = old["spec"]["healthCheckNodePort"].clone();
    }
    let old_ports = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let Some(ports) = new["spec"]["ports"].as_array_mut() else { return };
    for port in ports {
        let before = old_ports.iter().find(|before| {
            before["port"] == port["port"] && before["protocol"] == port["protocol"]
        });
        let had = before.and_then(|before| before["nodePort"].as_u64()).unwrap_or(0);
        let asked = port["nodePort"].as_u64().unwrap_or(0);
        if drop && asked == had {
            if let Some(port) = port.as_object_mut() {
                port.remove("nodePort");
            }
        } else if !drop && asked == 0 && had > 0 {
            port["nodePort"] = json!(had);
        }
    }
}

/// Drops fields that the new type does not have, unless the update sets them itself.
fn leave_behind(new: &mut Object, old: &Object, fields: &[&str]) {
    for field in fields {
        if let Some(spec) = new["spec"].as_object_mut()
            && spec.get(*field) == old["spec"].get(*field)
        {
            spec.remove(*field);
        }
    }
}

fn address(
    api: &Api,
    service: &mut Object,
    in_use: &InUse,
    errors: &mut Errors,
) -> Result<(), Status> {
    if kind_of(service) == "ExternalName" {
        return Ok(());
    }
    let first = &service["spec"]["clusterIPs"][0];
    let given = service["spec"]["clusterIP"].as_str().filter(|ip| !ip.is_empty());
    let given = given.or(first.as_str()).unwrap_or_default().to_owned();
    let spec = Path::new("spec");
    let path = spec.child("clusterIPs");
    let chosen = match given.as_str() {
        "None" => given,
        "" => free_address(api, &in_use.addresses)?.to_string(),
        _ => {
            let range = &api.inner.services;
            let why = match given.parse::<Ipv4Addr>() {
                // What is no address at all is the validation's to say.
                Err(_) => None,
                Ok(ip) if !range.usable(ip) => Some(format!(
                    "failed to allocate IP {given}: the provided IP ({given}) is not in the valid \
                     range. The range of valid IPs is {range}"
                )),
                Ok(ip) if in_use.addresses.contains(&ip) => {
                    Some(format!("failed to allocate IP {given}: provided IP is already allocated"))
                }
                Ok(_) => None,
            };
            if let Some(why) = why {
                errors.invalid(&path, json!([given]), &why);
            }
            given
        }
    };
    let spec = meta::ensure(service, "spec");
    spec.insert("clusterIP".to_owned(), json!(chosen));
    spec.entry("clusterIPs").or_insert_with(|| json!([chosen]));
    Ok(())
}

/// A free address: from a random start upwards, the static band only when the rest is taken.
fn free_address(api: &Api, taken: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, Status> {
    let range: &Range = &api.inner.services;
    let band = (range.size() / 16).clamp(16.min(range.size() / 2), STATIC_BAND);
    let last = range.size() - 1;
    let start = u32::try_from(api.random() % u64::from(last - band)).unwrap_or(0);
    let upper = (0..last - band).map(|step| band + (start + step) % (last - band));
    // .1 is the API's own, .10 is where cluster DNS is expected.
    let lower = (2..band).filter(|offset| *offset != 10);
    upper
        .chain(lower)
        .filter_map(|offset| range.nth(offset))
        .find(|ip| !taken.contains(ip))
        .ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))
}

fn ports(
    api: &Api,
    service: &mut Object,
    in_use: &InUse,
    errors: &mut Errors,
) -> Result<(), Status> {
    if !has_node_ports(service) {
        return Ok(());
    }
    let balanced = kind_of(service) == "LoadBalancer";
    let all = !balanced || service["spec"]["allocateLoadBalancerNodePorts"] != false;
    let Some(ports) = service["spec"]["ports"].as_array_mut() else { return Ok(()) };
    let asked = node_ports::asked(ports, &in_use.ports, errors);
    if !all {
        return Ok(());
    }
    let mut taken: BTreeSet<u16> = in_use.ports.union(&asked).copied().collect();
    node_ports::fill(ports, || {
        let number = free_port(api, &taken)?;
        taken.insert(number);
        Ok(number)
    })
}

/// Whether boards answer for a Service to whoever balances between them.
fn is_checked(service: &Object) -> bool {
    let local = service["spec"]["externalTrafficPolicy"] == "Local";
    kind_of(service) == "LoadBalancer" && local
}

/// Gives a Service the port on which boards say whether they have its endpoints.
fn health(
    api: &Api,
    service: &mut Object,
    in_use: &InUse,
    errors: &mut Errors,
) -> Result<(), Status> {
    if !is_checked(service) {
        return Ok(());
    }
    let mut taken = in_use.ports.clone();
    let own = service["spec"]["ports"].as_array().into_iter().flatten();
    let own = own.filter_map(|port| u16::try_from(port["nodePort"].as_u64()?).ok());
    taken.extend(own);
    let spec = Path::new("spec");
    let at = spec.child("healthCheckNodePort");
    let asked = service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0);
    match u16::try_from(asked) {
        Ok(0) => {
            service["spec"]["healthCheckNodePort"] = json!(free_port(api, &taken)?);
        }
        Ok(port) if PORTS.contains(&port) => {
            if taken.contains(&port) {
                errors.invalid(&at, asked, TAKEN);
            }
        }
        _ => errors.invalid(&at, asked, OUT_OF_RANGE),
    }
    Ok(())
}

fn free_port(api: &Api, taken: &BTreeSet<u16>) -> Result<u16, Status> {
    let count = PORTS.len() as u64;
    let start = api.random() % count;
    (0..count)
        .filter_map(|step| u16::try_from((start + step) % count).ok())
        .map(|offset| PORTS.start() + offset)
        .find(|port| !taken.contains(port))
        .ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))
}
