//! Endpoints and EndpointSlices: addresses of the right kind, ports with names of their own.

use serde_json::Value;

use super::{immutable, list, needs_one_of, text};
use crate::Object;
use crate::field::{Errors, Path, Problem};
use crate::names;

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;

fn at_most(all: usize, max: usize, at: &Path<'_>, errors: &mut Errors) {
    if all > max {
        let detail = format!("must have at most {max} items");
        errors.push(Problem::TooMany, at, &all.into(), &detail);
    }
}

/// `Endpoints`
pub(crate) fn endpoints(endpoints: &Object, _: Option<&Object>, errors: &mut Errors) {
    let at = Path::new("subsets");
    for (index, subset) in list(&endpoints["subsets"]).iter().enumerate() {
        let at = at.index(index);
        if list(&subset["addresses"]).is_empty() && list(&subset["notReadyAddresses"]).is_empty() {
            errors.required(&at, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (index, address) in list(&subset[field]).iter().enumerate() {
                let at = at.child(field);
                let ip = text(&address["ip"]);
                errors.each(&at.index(index).child("ip"), ip, names::ip(ip));
            }
        }
        let ports = list(&subset["ports"]);
        for (index, port) in ports.iter().enumerate() {
            let at = at.child("ports");
            let at = at.index(index);
            let name = text(&port["name"]);
            if !name.is_empty() {
                errors.each(&at.child("name"), name, names::dns1123_label(name));
            } else if ports.len() > 1 {
                errors.required(&at.child("name"), "");
            }
            let number = port["port"].as_i64().unwrap_or(0);
            errors.each(&at.child("port"), number, names::port_number(number));
            needs_one_of(errors, &at.child("protocol"), &port["protocol"], &PROTOCOLS);
        }
    }
}

/// `EndpointSlice`
pub(crate) fn endpoint_slice(slice: &Object, old: Option<&Object>, errors: &mut Errors) {
    let kinds = ["FQDN", "IPv4", "IPv6"];
    needs_one_of(errors, &Path::new("addressType"), &slice["addressType"], &kinds);
    let kind = text(&slice["addressType"]);
    let (all, at) = (list(&slice["endpoints"]), Path::new("endpoints"));
    at_most(all.len(), MAX_ENDPOINTS, &at, errors);
    for (index, endpoint) in all.iter().enumerate() {
        addresses(&endpoint["addresses"], kind, &at.index(index).child("addresses"), errors);
        let hostname = text(&endpoint["hostname"]);
        if !hostname.is_empty() {
            let at = at.index(index);
            errors.each(&at.child("hostname"), hostname, names::dns1123_label(hostname));
        }
    }
    ports(&slice["ports"], &Path::new("ports"), errors);
    if let Some(old) = old {
        let at = Path::new("addressType");
        immutable(errors, &at, &slice["addressType"], &old["addressType"]);
    }
}

fn addresses(addresses: &Value, kind: &str, at: &Path<'_>, errors: &mut Errors) {
    let all = list(addresses);
    if all.is_empty() {
        errors.required(at, "must contain at least 1 address");
    }
    at_most(all.len(), MAX_ADDRESSES, at, errors);
    for (index, address) in all.iter().enumerate() {
        let (at, address) = (at.index(index), text(address));
        match kind {
            "IPv4" if address.parse::<core::net::Ipv4Addr>().is_err() => {
                errors.each(&at, address, names::ip(address));
                errors.invalid(&at, address, "must be a valid IPv4 address");
            }
            "IPv6" if address.parse::<core::net::Ipv6Addr>().is_err() => {
                errors.each(&at, address, names::ip(address));
                errors.invalid(&at, address, "must be a valid IPv6 address");
            }
            "FQDN" => errors.each(&at, address, names::dns1123_subdomain(address)),
            _ => {}
        }
    }
}

fn ports(ports: &Value, at: &Path<'_>, errors: &mut Errors) {
    let all = list(ports);
    at_most(all.len(), MAX_PORTS, at, errors);
    let mut seen: Vec<&str> = Vec::new();
    for (index, port) in all.iter().enumerate() {
        let at = at.index(index);
        let name = text(&port["name"]);
        if !name.is_empty() {
            errors.each(&at.child("name"), name, names::dns1123_label(name));
        }
        if seen.contains(&name) {
            errors.duplicate(&at.child("name"), name);
        }
        seen.push(name);
        if let Some(number) = port["port"].as_i64() {
            errors.each(&at.child("port"), number, names::port_number(number));
        }
        needs_one_of(errors, &at.child("protocol"), &port["protocol"], &PROTOCOLS);
    }
}
