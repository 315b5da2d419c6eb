//! Protection against moving everything at once (`handleDisruption` in `nodelifecycle`): when most
//! boards seem to be lost, it is more likely that we can't see them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edge_api::{Object, kinds, meta};

use super::{condition, goes_off, ready};
use crate::liveness::Standing;
use crate::view::View;

/// A zone is partly disrupted when at least this part of its boards, in hundredths …
const UNHEALTHY_PERCENT: usize = 55;
/// … and more boards than this are not ready.
const UNHEALTHY_LEAST: usize = 2;

/// Boards with this label count in no zone.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

/// What may be done to boards that are not ready.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Disruption {
    /// Nobody is ready, or nobody but the leader is heard: all evictions stop, and those that are
    /// due are called off (`stateFullDisruption` in all zones).
    pub full: bool,
    /// Zones where no further board is given up (`statePartialDisruption`).
    pub partial: BTreeSet<String>,
}

/// A board's zone (`GetZoneKey`).
pub(super) fn zone(node: &Object) -> String {
    let label = |key: &str| meta::label(node, key).unwrap_or_default();
    let region = label("topology.kubernetes.io/region");
    format!("{region}/{}", label("topology.kubernetes.io/zone"))
}

/// Whether a board's agent ever spoke: the silence of one that never started says nothing of our
/// link.
fn came(node: &Object) -> bool {
    condition(node, "Ready").is_some_and(|c| c["reason"] != "NodeStatusNeverUpdated")
}

/// How the zones stand. A board whose process is known to have crashed (its will was heard) is
/// not held against our own link: our link is how we heard.
pub(super) fn disruption(view: &View) -> Disruption {
    let mut zones: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let (mut others, mut heard) = (0, false);
    let counts = |node: &&Arc<Object>| came(node) && meta::label(node, EXCLUDED).is_none();
    for node in view.list(kinds::NODE).filter(counts) {
        let name = meta::name(node);
        let known = view.liveness.get(name);
        // One that said that it goes off tells nothing of our link.
        let unready = !ready(node) && !goes_off(node);
        let lost = known.is_some_and(|l| l.standing == Standing::Lost) || unready;
        let (well, unwell) = zones.entry(zone(node)).or_default();
        if lost {
            *unwell += 1
        } else {
            *well += 1
        }
        if Some(name) != view.leader.as_deref() {
            others += 1;
            heard |= !lost || known.is_some_and(|l| l.crashed);
        }
    }
    let nobody = !zones.is_empty() && zones.values().all(|(well, _)| *well == 0);
    let crashed = view.liveness.values().any(|l| l.crashed);
    // With one other board there is no telling whose link it is; it is given up like any other.
    let alone = others > 1 && !heard;
    let partly = |(well, unwell): &(usize, usize)| {
        *unwell > UNHEALTHY_LEAST && unwell * 100 >= (well + unwell) * UNHEALTHY_PERCENT
    };
    let partial = zones.iter().filter(|(_, counts)| partly(counts)).map(|(zone, _)| zone.clone());
    Disruption { full: (nobody && !crashed) || alone, partial: partial.collect() }
}
