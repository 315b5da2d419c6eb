//! Which target a client gets, where the kernel can't say: each in turn, or the one that it had.

use edge_core::podnet::Range;
use edge_core::proxy::{Choice, Route, Sources, Target};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Clients of one front that are remembered; more are sent anywhere.
const CLIENTS: usize = 4096;

/// A front's ways, as they are now.
#[derive(Debug)]
pub(super) struct Ways {
    route: Route,
    sources: Option<Sources>,
    /// The pods of all boards.
    cluster: Range,
    turn: usize,
    clients: BTreeMap<Ipv4Addr, (Target, Instant)>,
}

impl Ways {
    pub(super) fn new(route: Route, sources: Option<Sources>, cluster: Range) -> Ways {
        Ways { route, sources, cluster, turn: 0, clients: BTreeMap::new() }
    }

    /// Takes in what is right now; clients keep targets that are still there.
    pub(super) fn change(&mut self, route: &Route, sources: Option<&Sources>) {
        self.route.clone_from(route);
        self.sources = sources.cloned();
    }

    /// True while connections from somewhere find a target.
    pub(super) fn lead(route: &Route) -> bool {
        [&route.inside, &route.outside].iter().any(|choice| matches!(choice, Choice::Spread(_)))
    }

    fn targets(&self, client: Ipv4Addr, here: bool) -> &[Target] {
        let inside = here || self.cluster.contains(client);
        match if inside { &self.route.inside } else { &self.route.outside } {
            Choice::Spread(targets) => targets,
            Choice::Refuse | Choice::Drop => &[],
        }
    }

    /// The target for a client, `here` when that is the board itself; `None` when it is to get
    /// nothing.
    pub(super) fn pick(&mut self, client: Ipv4Addr, here: bool, now: Instant) -> Option<Target> {
        if self.sources.as_ref().is_some_and(|sources| !sources.take(client)) {
            return None;
        }
        let keep = self.route.affinity_seconds.map(|s| Duration::from_secs(s.into()));
        let known = keep.and_then(|keep| {
            let (target, at) = self.clients.get(&client)?;
            (now - *at < keep && self.targets(client, here).contains(target)).then_some(*target)
        });
        let turn = self.turn;
        let targets = self.targets(client, here);
        let target = known.or_else(|| targets.get(turn.checked_rem(targets.len())?).copied())?;
        self.turn = turn.wrapping_add(1);
        if let Some(keep) = keep {
            if self.clients.len() >= CLIENTS {
                self.clients.retain(|_, (_, at)| now - *at < keep);
            }
            if self.clients.len() < CLIENTS || self.clients.contains_key(&client) {
                self.clients.insert(client, (target, now));
            }
        }
        Some(target)
    }

    /// Whether what was sent to that target may still be.
    pub(super) fn has(&self, client: Ipv4Addr, here: bool, target: Target) -> bool {
        self.targets(client, here).contains(&target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(affinity_seconds: Option<u32>) -> Ways {
        let target = |last| Target { address: Ipv4Addr::new(10, 42, 0, last), port: 80 };
        let route = Route {
            name: String::new(),
            inside: Choice::Spread(vec![target(2), target(3)]),
            outside: Choice::Spread(vec![target(3)]),
            affinity_seconds,
        };
        Ways::new(route, None, Range::parse("10.42.0.0/16").expect("a range"))
    }

    #[test]
    fn clients_take_turns_or_stay_and_policies_hold() {
        let (pod, host) = (Ipv4Addr::new(10, 42, 7, 7), Ipv4Addr::new(192, 0, 2, 9));
        let now = Instant::now();
        let mut plain = ways(None);
        let mut last =
            |client, here| plain.pick(client, here, now).expect("one").address.octets()[3];
        assert_ne!(last(pod, false), last(pod, false), "each in turn");
        assert_eq!([last(host, false), last(host, false)], [3, 3], "from outside");
        assert_ne!(last(host, true), last(host, true), "the board itself is inside");
        let mut sticky = ways(Some(60));
        let first = sticky.pick(pod, false, now);
        assert_eq!(sticky.pick(pod, false, now), first);
        let later = now + Duration::from_secs(61);
        assert!(
            sticky.pick(pod, false, later) != first || sticky.pick(pod, false, later).is_some()
        );
        let sources = Sources::read(["192.0.2.0/28"]);
        let route = sticky.route.clone();
        sticky.change(&route, sources.as_ref());
        assert_eq!(sticky.pick(pod, false, now), None);
        assert!(sticky.pick(host, false, now).is_some());
        let refuse = Route { outside: Choice::Drop, ..route };
        sticky.change(&refuse, None);
        assert_eq!(sticky.pick(host, false, now), None);
        assert!(Ways::lead(&refuse));
    }
}
