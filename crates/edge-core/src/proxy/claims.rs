//! How a board takes addresses of the LAN for Services and holds them: ARP packets, the cluster's
//! word and the time go in; packets to send and addresses that somebody else has come out. As
//! RFC 5227 has it (probe, announce, defend), in less time: a Service waits for it.
//!
//! A board answers only while it reaches the cluster. One that is cut off falls silent about when
//! another one takes over, and asks again whose an address is before it answers for it again.

use core::net::Ipv4Addr;
use std::collections::{BTreeMap, BTreeSet};

/// A hardware address.
pub type Mac = [u8; 6];

/// Probes before an address that nobody of the cluster had is taken …
const PROBES: u8 = 3;
/// … and the time after each. RFC 5227 has 1 to 2 s.
const PROBE_EVERY_MS: i64 = 150;
/// Announcements of an address that was taken, and the time between them.
const ANNOUNCEMENTS: u8 = 3;
const ANNOUNCE_EVERY_MS: i64 = 500;
/// Another board may have been told a moment earlier or later: so long a claim of somebody else
/// may stand before it is answered with ours.
const DEFEND_AFTER_MS: i64 = 300;
/// Who is contradicted again within this time gives the address up (`DEFEND_INTERVAL`).
const DEFEND_EVERY_MS: i64 = 10_000;
/// An address that somebody else has is asked for again after this long.
const ASK_AGAIN_MS: i64 = 60_000;
/// A board that has not reached the cluster for this long answers for no address.
pub const CUT_OFF_MS: i64 = 1500;

/// What an ARP packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// It asks for an answer.
    pub request: bool,
    /// Who sent it; its address is 0.0.0.0 in a probe.
    pub sender: (Mac, Ipv4Addr),
    /// Whom it is about.
    pub target: Ipv4Addr,
}

/// A packet to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// Asks everybody who has the address.
    Probe(Ipv4Addr),
    /// Tells everybody that this board has it.
    Announce(Ipv4Addr),
    /// Tells somebody who asked.
    Answer(Ipv4Addr, (Mac, Ipv4Addr)),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// So many probes are left; the next thing happens then.
    Asking(u8, i64),
    /// So many announcements are left; the next is due then.
    Holding(u8, i64),
    /// Somebody else has it; asked again then.
    Taken(i64),
}

#[derive(Debug, Clone)]
struct Claim {
    wanted: bool,
    stage: Stage,
    /// It was this board's before it was cut off: who has it now is most likely another board.
    again: bool,
    /// Who else was found to have it, until nobody answers any more.
    other: Option<Mac>,
    /// Somebody else claimed it: when that is answered.
    defend_at: Option<i64>,
    defended: Option<i64>,
}

/// The addresses that one board answers for, or would.
#[derive(Debug)]
pub struct Claims {
    claims: BTreeMap<Ipv4Addr, Claim>,
    reached_ms: i64,
    cut_off: bool,
}

impl Claims {
    /// A board that has just heard of the cluster and claims nothing.
    pub fn new(now_ms: i64) -> Claims {
        Claims { claims: BTreeMap::new(), reached_ms: now_ms, cut_off: false }
    }

    /// The addresses that the cluster wants this board to answer for; those in `from_board` were
    /// another board's until now, so that nobody has to be asked.
    pub fn want(
        &mut self,
        wanted: &BTreeSet<Ipv4Addr>,
        from_board: &BTreeSet<Ipv4Addr>,
        now_ms: i64,
    ) {
        if self.claims.is_empty() {
            // It was the cluster that said so.
            (self.reached_ms, self.cut_off) = (now_ms, false);
        }
        for (ip, claim) in &mut self.claims {
            claim.wanted = wanted.contains(ip);
        }
        self.claims.retain(|_, claim| claim.wanted || claim.other.is_some());
        for ip in wanted {
            let stage = match from_board.contains(ip) && !self.cut_off {
                true => Stage::Holding(ANNOUNCEMENTS, now_ms),
                false => Stage::Asking(PROBES, now_ms),
            };
            let fresh = Claim {
                wanted: true,
                stage,
                again: false,
                other: None,
                defend_at: None,
                defended: None,
            };
            self.claims.entry(*ip).or_insert(fresh);
        }
    }

    /// True while there is nothing to do for any address.
    pub fn is_idle(&self) -> bool {
        self.claims.is_empty()
    }

    /// The cluster answered a question that was asked then.
    pub fn reached(&mut self, asked_ms: i64, now_ms: i64) {
        self.reached_ms = self.reached_ms.max(asked_ms);
        if self.cut_off && now_ms - self.reached_ms < CUT_OFF_MS {
            self.cut_off = false;
            for claim in self.claims.values_mut() {
                // Others may have taken them meanwhile.
                claim.stage = Stage::Asking(PROBES, now_ms);
                claim.again = claim.other.is_none();
                (claim.defend_at, claim.defended) = (None, None);
            }
        }
    }

    /// A packet was heard. `own` is the hardware address of the link.
    pub fn hear(&mut self, packet: &Arp, own: Mac, now_ms: i64) -> Option<Say> {
        if packet.sender.0 == own {
            return None;
        }
        if let Some(claim) = self.claims.get_mut(&packet.sender.1) {
            match claim.stage {
                Stage::Asking(..) if claim.again => {
                    claim.stage = Stage::Taken(now_ms + DEFEND_EVERY_MS);
                }
                Stage::Asking(..) => {
                    claim.other = Some(packet.sender.0);
                    claim.stage = Stage::Taken(now_ms + ASK_AGAIN_MS);
                }
                Stage::Holding(..) if self.cut_off => {}
                Stage::Holding(..) if claim.defended.is_some_and(|at| soon(at, now_ms)) => {
                    claim.other = Some(packet.sender.0);
                    claim.stage = Stage::Taken(now_ms + ASK_AGAIN_MS);
                    claim.defend_at = None;
                }
                Stage::Holding(..) => {
                    claim.defend_at.get_or_insert(now_ms + DEFEND_AFTER_MS);
                }
                Stage::Taken(_) => {}
            }
            return None;
        }
        let claim = self.claims.get(&packet.target).filter(|claim| claim.wanted)?;
        let holds = matches!(claim.stage, Stage::Holding(..)) && !self.cut_off;
        (packet.request && holds).then_some(Say::Answer(packet.target, packet.sender))
    }

    /// What is due by now.
    pub fn tick(&mut self, now_ms: i64) -> Vec<Say> {
        if now_ms - self.reached_ms >= CUT_OFF_MS {
            self.cut_off = true;
        }
        let mut said = Vec::new();
        for (ip, claim) in &mut self.claims {
            if let Stage::Taken(at) = claim.stage
                && at <= now_ms
            {
                claim.stage = Stage::Asking(PROBES, now_ms);
            }
            match claim.stage {
                _ if self.cut_off => {}
                Stage::Asking(0, at) if at <= now_ms => {
                    (claim.other, claim.again) = (None, false);
                    claim.stage = Stage::Holding(ANNOUNCEMENTS, now_ms);
                }
                Stage::Asking(left, at) if at <= now_ms => {
                    claim.stage = Stage::Asking(left - 1, now_ms + PROBE_EVERY_MS);
                    said.push(Say::Probe(*ip));
                }
                _ => {}
            }
            let Stage::Holding(left, at) = claim.stage else { continue };
            if self.cut_off || !claim.wanted {
                continue;
            }
            if claim.defend_at.is_some_and(|at| at <= now_ms) {
                (claim.defend_at, claim.defended) = (None, Some(now_ms));
                said.push(Say::Announce(*ip));
            } else if left > 0 && at <= now_ms {
                claim.stage = Stage::Holding(left - 1, now_ms + ANNOUNCE_EVERY_MS);
                said.push(Say::Announce(*ip));
            }
        }
        self.claims.retain(|_, claim| claim.wanted || claim.other.is_some());
        said
    }

    /// When to look again; `None` while nothing is claimed.
    pub fn due_ms(&self) -> Option<i64> {
        let stages = self.claims.values().map(|claim| {
            let at = match claim.stage {
                Stage::Holding(0, _) => i64::MAX,
                Stage::Asking(_, at) | Stage::Holding(_, at) | Stage::Taken(at) => at,
            };
            at.min(claim.defend_at.unwrap_or(i64::MAX))
        });
        let next = stages.min()?;
        Some(if self.cut_off { i64::MAX } else { next.min(self.reached_ms + CUT_OFF_MS) })
    }

    /// The addresses that this board answers for now.
    pub fn held(&self) -> impl Iterator<Item = Ipv4Addr> {
        let holds = |claim: &Claim| claim.wanted && matches!(claim.stage, Stage::Holding(..));
        let held = self.claims.iter().filter(move |(_, claim)| holds(claim) && !self.cut_off);
        held.map(|(ip, _)| *ip)
    }

    /// Addresses that somebody else was found to have.
    pub fn conflicts(&self) -> BTreeMap<Ipv4Addr, Mac> {
        let claims = self.claims.iter();
        claims.filter_map(|(ip, claim)| Some((*ip, claim.other?))).collect()
    }
}

fn soon(at: i64, now_ms: i64) -> bool {
    now_ms - at < DEFEND_EVERY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 9];
    const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 240);
    const CLIENT: (Mac, Ipv4Addr) = ([2, 0, 0, 0, 0, 5], Ipv4Addr::new(192, 0, 2, 5));

    fn asks() -> Arp {
        Arp { request: true, sender: CLIENT, target: IP }
    }

    fn claims_it() -> Arp {
        Arp { request: false, sender: (OTHER, IP), target: IP }
    }

    fn only(ip: Ipv4Addr) -> BTreeSet<Ipv4Addr> {
        BTreeSet::from([ip])
    }

    /// Lets time pass in which the cluster is reached; what was said, and when.
    fn run(claims: &mut Claims, from: i64, to: i64, reached: bool) -> Vec<(i64, Say)> {
        let mut said = Vec::new();
        for now in (from..to).step_by(10) {
            if reached {
                claims.reached(now, now);
            }
            said.extend(claims.tick(now).into_iter().map(|say| (now, say)));
        }
        said
    }

    #[test]
    fn an_address_is_asked_for_then_announced_then_answered_for() {
        let mut claims = Claims::new(0);
        claims.want(&only(IP), &BTreeSet::new(), 0);
        let said = run(&mut claims, 0, 2000, true);
        let probes: Vec<i64> =
            said.iter().filter(|(_, say)| *say == Say::Probe(IP)).map(|(at, _)| *at).collect();
        let told: Vec<i64> =
            said.iter().filter(|(_, say)| *say == Say::Announce(IP)).map(|(at, _)| *at).collect();
        assert_eq!(probes, [0, 150, 300]);
        assert_eq!(told, [450, 950, 1450]);
        assert_eq!(claims.hear(&asks(), OWN, 2000), Some(Say::Answer(IP, CLIENT)));
        claims.want(&BTreeSet::new(), &BTreeSet::new(), 2000);
        assert!(claims.is_idle() && claims.hear(&asks(), OWN, 2000).is_none());
    }

    #[test]
    fn nobody_is_answered_before_the_address_is_known_to_be_free() {
        let mut claims = Claims::new(0);
        claims.want(&only(IP), &BTreeSet::new(), 0);
        run(&mut claims, 0, 440, true);
        assert_eq!(claims.hear(&asks(), OWN, 440), None);
        assert_eq!(claims.hear(&claims_it(), OWN, 440), None);
        assert!(run(&mut claims, 440, 50_000, true).is_empty());
        assert_eq!(claims.conflicts(), BTreeMap::from([(IP, OTHER)]));
        // The cluster gives up the address; it is still asked for, until nobody answers.
        claims.want(&BTreeSet::new(), &BTreeSet::new(), 50_000);
        assert_eq!(claims.conflicts().len(), 1);
        let again = run(&mut claims, 50_000, 70_000, true);
        assert!(again.iter().all(|(_, say)| *say == Say::Probe(IP)) && again.len() == 3);
        assert!(claims.conflicts().is_empty() && claims.is_idle());
    }

    #[test]
    fn a_take_over_is_announced_at_once() {
        let mut claims = Claims::new(0);
        claims.want(&only(IP), &only(IP), 0);
        assert_eq!(claims.tick(0), [Say::Announce(IP)]);
        assert_eq!(claims.held().collect::<Vec<_>>(), [IP]);
    }

    #[test]
    fn a_board_that_is_cut_off_falls_silent_and_asks_before_it_speaks_again() {
        let mut claims = Claims::new(0);
        claims.want(&only(IP), &only(IP), 0);
        run(&mut claims, 0, 5000, true);
        assert!(run(&mut claims, 5000, 6480, false).is_empty());
        assert!(claims.hear(&asks(), OWN, 6480).is_some());
        run(&mut claims, 6480, 6500, false);
        assert_eq!(claims.hear(&asks(), OWN, 6500), None);
        assert_eq!((claims.held().count(), claims.due_ms()), (0, Some(i64::MAX)));
        // An answer to what was asked long ago is none.
        claims.reached(5100, 9000);
        assert!(claims.tick(9000).is_empty());
        claims.reached(9000, 9010);
        assert_eq!(claims.tick(9010), [Say::Probe(IP)]);
        claims.hear(&claims_it(), OWN, 9020);
        assert_eq!(run(&mut claims, 9020, 15_000, true), [], "another board has it by now");
        assert!(claims.conflicts().is_empty(), "which is no stranger");
    }

    #[test]
    fn one_contradiction_is_answered_and_a_second_one_is_the_end() {
        let mut claims = Claims::new(0);
        claims.want(&only(IP), &only(IP), 0);
        run(&mut claims, 0, 5000, true);
        claims.hear(&claims_it(), OWN, 5000);
        // The other board hears from the cluster that it is not to.
        assert_eq!(run(&mut claims, 5000, 7000, true), [(5300, Say::Announce(IP))]);
        claims.hear(&claims_it(), OWN, 7000);
        assert_eq!((claims.held().count(), claims.conflicts().len()), (0, 1));
        // Long after, one is answered again.
        let mut claims = Claims::new(0);
        claims.want(&only(IP), &only(IP), 0);
        for round in 0..3 {
            claims.hear(&claims_it(), OWN, round * 11_000);
            run(&mut claims, round * 11_000, (round + 1) * 11_000, true);
        }
        assert_eq!(claims.held().count(), 1);
    }
}
