//! NetworkPolicies: peers that are one thing at a time, blocks within their CIDR, ports that make
//! sense together.

use core::net::IpAddr;

use serde_json::Value;

use super::{list, placement, text};
use crate::Object;
use crate::field::{Errors, Path};
use crate::names;

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const TYPES: [&str; 2] = ["Ingress", "Egress"];
const NO_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// `NetworkPolicy`
pub(crate) fn network_policy(policy: &Object, _: Option<&Object>, errors: &mut Errors) {
    let (spec, at) = (&policy["spec"], Path::new("spec"));
    placement::selector(&spec["podSelector"], &at.child("podSelector"), errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let at = at.child(direction);
        for (index, rule) in list(&spec[direction]).iter().enumerate() {
            let at = at.index(index);
            for (index, port) in list(&rule["ports"]).iter().enumerate() {
                self::port(port, &at.child("ports").index(index), errors);
            }
            for (index, peer) in list(&rule[peers]).iter().enumerate() {
                self::peer(peer, &at.child(peers).index(index), errors);
            }
        }
    }
    let (types, at) = (list(&spec["policyTypes"]), at.child("policyTypes"));
    if types.len() > TYPES.len() {
        let detail = "may not specify more than two policyTypes";
        return errors.invalid(&at, spec["policyTypes"].clone(), detail);
    }
    for (index, word) in types.iter().enumerate() {
        if !TYPES.contains(&text(word)) {
            errors.not_supported(&at.index(index), text(word), &TYPES);
        }
    }
}

fn port(port: &Value, at: &Path<'_>, errors: &mut Errors) {
    let protocol = &port["protocol"];
    if !protocol.is_null() && !PROTOCOLS.contains(&text(protocol)) {
        errors.not_supported(&at.child("protocol"), text(protocol), &PROTOCOLS);
    }
    let (end, end_at) = (port["endPort"].as_i64(), at.child("endPort"));
    match (&port["port"], end) {
        (Value::Null, Some(end)) => {
            errors.invalid(&end_at, end, "may not be specified when `port` is not specified");
        }
        (Value::Null, None) => {}
        (Value::String(name), end) => {
            if let Some(end) = end {
                let detail = "may not be specified when `port` is non-numeric";
                errors.invalid(&end_at, end, detail);
            }
            errors.each(&at.child("port"), name.as_str(), names::port_name(name));
        }
        (number, end) => {
            let number = number.as_i64().unwrap_or(0);
            errors.each(&at.child("port"), number, names::port_number(number));
            let Some(end) = end else { return };
            if end < number {
                // Kubernetes shows the first port here, not the last.
                errors.invalid(&end_at, number, "must be greater than or equal to `port`");
            }
            errors.each(&end_at, end, names::port_number(end));
        }
    }
}

fn peer(peer: &Value, at: &Path<'_>, errors: &mut Errors) {
    let mut selectors = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if !peer[field].is_null() {
            selectors += 1;
            placement::selector(&peer[field], &at.child(field), errors);
        }
    }
    let block = &peer["ipBlock"];
    if !block.is_null() {
        ip_block(block, &at.child("ipBlock"), errors);
    }
    if selectors == 0 && block.is_null() {
        errors.required(at, "must specify a peer");
    } else if selectors > 0 && !block.is_null() {
        errors.forbidden(at, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(block: &Value, at: &Path<'_>, errors: &mut Errors) {
    let (written, cidr_at) = (text(&block["cidr"]), at.child("cidr"));
    if written.is_empty() {
        return errors.required(&cidr_at, "");
    }
    let Some(whole) = Cidr::parse(written) else {
        return errors.invalid(&cidr_at, written, NO_CIDR);
    };
    for (index, except) in list(&block["except"]).iter().enumerate() {
        let at = at.child("except");
        let (at, written) = (at.index(index), text(except));
        match Cidr::parse(written) {
            None => errors.invalid(&at, written, NO_CIDR),
            Some(part) if !whole.strictly_covers(&part) => {
                errors.invalid(&at, written, "must be a strict subset of `cidr`");
            }
            Some(_) => {}
        }
    }
}

/// A range of addresses of either family; bits behind the prefix don't count.
struct Cidr {
    base: IpAddr,
    length: u8,
}

impl Cidr {
    fn parse(text: &str) -> Option<Cidr> {
        let (base, length) = text.split_once('/')?;
        let plain = !length.is_empty() && length.bytes().all(|digit| digit.is_ascii_digit());
        let (base, length): (IpAddr, u8) = (base.parse().ok()?, length.parse().ok()?);
        let bits = if base.is_ipv4() { 32 } else { 128 };
        (plain && length <= bits).then_some(Cidr { base, length })
    }

    fn prefix(address: IpAddr, length: u8) -> u128 {
        let (value, bits) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        value.checked_shr(bits - u32::from(length)).unwrap_or(0)
    }

    fn strictly_covers(&self, part: &Cidr) -> bool {
        self.base.is_ipv4() == part.base.is_ipv4()
            && self.length < part.length
            && Cidr::prefix(self.base, self.length) == Cidr::prefix(part.base, self.length)
    }
}
