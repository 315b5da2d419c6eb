//! The numbers of a Service's node ports: one that it asks for is taken as it is, the others get
//! free ones, and TCP and UDP of one port the same (as Kubernetes' `initNodePorts` has it), so that
//! what speaks both, such as DNS, is found at one number.

use edge_api::field::{Errors, Path};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The ports that Services may have on every board.
pub(super) const PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;
pub(super) const OUT_OF_RANGE: &str =
    "provided port is not in the valid range. The range of valid ports is 30000-32767";
pub(super) const TAKEN: &str = "provided port is already allocated";

/// The number that a port asks for or has; 0 is none.
fn number(port: &Value) -> u64 {
    port["nodePort"].as_u64().unwrap_or(0)
}

/// Checks the numbers asked for against those that others have; gives those that are good.
pub(super) fn asked(ports: &[Value], in_use: &BTreeSet<u16>, errors: &mut Errors) -> BTreeSet<u16> {
    let (spec, mut good) = (Path::new("spec"), BTreeSet::new());
    let path = spec.child("ports");
    for (index, port) in ports.iter().enumerate() {
        let (item, asked) = (path.index(index), number(port));
        let at = item.child("nodePort");
        match u16::try_from(asked) {
            Ok(0) => {}
            Ok(number) if PORTS.contains(&number) => {
                if in_use.contains(&number) {
                    errors.invalid(&at, asked, TAKEN);
                }
                good.insert(number);
            }
            _ => errors.invalid(&at, asked, OUT_OF_RANGE),
        }
    }
    good
}

/// Gives a number to every port that has none; `fresh` finds one that nobody has.
pub(super) fn fill<E>(
    ports: &mut [Value],
    mut fresh: impl FnMut() -> Result<u16, E>,
) -> Result<(), E> {
    for index in 0..ports.len() {
        if number(&ports[index]) == 0 {
            let chosen = match of_the_same_port(ports, index) {
                Some(number) => number,
                None => fresh()?.into(),
            };
            ports[index]["nodePort"] = json!(chosen);
        }
    }
    Ok(())
}

/// The number that another protocol's same port has, where this protocol has it not yet.
fn of_the_same_port(ports: &[Value], index: usize) -> Option<u64> {
    let own = &ports[index];
    let same = ports.iter().filter(|port| port["port"] == own["port"] && number(port) > 0);
    let taken = |found: &u64| {
        let has = |port: &Value| port["protocol"] == own["protocol"] && number(port) == *found;
        ports.iter().any(has)
    };
    same.map(number).find(|found| !taken(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports as `PORT/PROTOCOL:NODE_PORT`.
    fn ports(texts: &[&str]) -> Vec<Value> {
        let one = |text: &&str| {
            let mut parts = text.split(['/', ':']);
            let mut part = || parts.next().unwrap_or("0").to_owned();
            let (port, protocol, number) = (part(), part(), part());
            let [port, number] = [port, number].map(|text| text.parse::<u64>().unwrap());
            json!({"port": port, "protocol": protocol, "nodePort": number})
        };
        texts.iter().map(one).collect()
    }

    fn filled(texts: &[&str]) -> Vec<u64> {
        let (mut all, mut next) = (ports(texts), 31000);
        let fresh = || {
            next += 1;
            Ok::<u16, ()>(next)
        };
        fill(&mut all, fresh).unwrap();
        all.iter().map(number).collect()
    }

    #[test]
    fn protocols_of_one_port_share_a_number() {
        assert_eq!(filled(&["53/TCP", "53/UDP"]), [31001, 31001]);
        assert_eq!(filled(&["53/TCP", "80/TCP", "53/UDP"]), [31001, 31002, 31001]);
        // Whichever asks for one, before or after.
        assert_eq!(filled(&["53/TCP", "53/UDP:30053"]), [30053, 30053]);
        assert_eq!(filled(&["53/TCP:30053", "53/UDP"]), [30053, 30053]);
        assert_eq!(filled(&["53/TCP:30053", "53/UDP:30054", "53/SCTP"]), [30053, 30054, 30053]);
        // Another port of the same protocol has it.
        assert_eq!(filled(&["53/TCP:30053", "54/UDP:30053", "53/UDP"]), [30053, 30053, 31001]);
    }

    #[test]
    fn numbers_that_cannot_be_had_are_named() {
        let mut errors = Errors::new();
        let all = ports(&["1/TCP:30001", "2/TCP:30002", "3/TCP:80", "4/TCP"]);
        let good = asked(&all, &BTreeSet::from([30002]), &mut errors);
        assert_eq!(good, BTreeSet::from([30001, 30002]));
        let said: Vec<String> = errors.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                format!("spec.ports[1].nodePort: Invalid value: 30002: {TAKEN}"),
                format!("spec.ports[2].nodePort: Invalid value: 80: {OUT_OF_RANGE}"),
            ]
        );
    }
}
