//! Which images a board removes when its disk fills up: the kubelet's rule, with one difference.
//! Images share layers here, so what a removal frees is counted by layers that nobody else needs.

use std::collections::{BTreeMap, BTreeSet};

/// When to remove images and how many; the kubelet's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Removal starts when the disk is fuller than this.
    pub high_percent: u64,
    /// Removal stops when the disk is no fuller than this.
    pub low_percent: u64,
    /// Images seen for a shorter time stay.
    pub min_age_ms: i64,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { high_percent: 85, low_percent: 80, min_age_ms: 2 * 60 * 1000 }
    }
}

/// How full the disk is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// All that the file system holds.
    pub capacity: u64,
    /// What is free for us.
    pub available: u64,
}

/// An image on the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: String,
    /// Bytes of each of its layers, by the layer's id.
    pub layers: BTreeMap<String, u64>,
    /// True when a container, running or not, is of this image.
    pub in_use: bool,
    /// When it was first seen.
    pub first_seen_ms: i64,
    /// When a container of it was last seen; 0 for never.
    pub last_used_ms: i64,
}

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Ids of images to remove, in this order.
    pub remove: Vec<String>,
    /// Bytes that the rule wants freed.
    pub wanted: u64,
    /// Bytes that the removals free.
    pub frees: u64,
    /// Ids of images that would have gone, but must be kept.
    pub kept: Vec<String>,
}

/// Decides. Images in use are never removed, nor those in `keep`, the last copies of what the
/// cluster's names point to; of the others, the one unused for longest goes first.
pub fn plan(
    usage: Usage,
    policy: &Policy,
    images: &[Candidate],
    keep: &BTreeSet<String>,
    now_ms: i64,
) -> Plan {
    let used = usage.capacity.saturating_sub(usage.available);
    if usage.capacity == 0 || percent(used, usage.capacity) < policy.high_percent {
        return Plan::default();
    }
    let free = u128::from(usage.capacity) * u128::from(100 - policy.low_percent.min(100)) / 100;
    let free = u64::try_from(free).unwrap_or(u64::MAX);
    let mut plan = Plan { wanted: free.saturating_sub(usage.available), ..Plan::default() };
    let mut users: BTreeMap<&str, usize> = BTreeMap::new();
    for layer in images.iter().flat_map(|image| image.layers.keys()) {
        *users.entry(layer).or_default() += 1;
    }
    let mut candidates: Vec<&Candidate> = images
        .iter()
        .filter(|image| !image.in_use)
        .filter(|image| now_ms.saturating_sub(image.first_seen_ms) >= policy.min_age_ms)
        .collect();
    candidates.sort_by_key(|image| (image.last_used_ms, image.first_seen_ms, &image.id));
    let mut freed: BTreeSet<&str> = BTreeSet::new();
    for image in candidates {
        if plan.frees >= plan.wanted {
            break;
        }
        if keep.contains(&image.id) {
            plan.kept.push(image.id.clone());
            continue;
        }
        for (layer, bytes) in &image.layers {
            let left = users.entry(layer).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 && freed.insert(layer) {
                plan.frees = plan.frees.saturating_add(*bytes);
            }
        }
        plan.remove.push(image.id.clone());
    }
    plan
}

fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const NOW: i64 = 100 * HOUR;

    fn image(id: &str, layers: &[(&str, u64)], last_used_ms: i64) -> Candidate {
        Candidate {
            id: id.into(),
            layers: layers.iter().map(|(name, bytes)| (name.to_string(), *bytes)).collect(),
            in_use: false,
            first_seen_ms: HOUR,
            last_used_ms,
        }
    }

    fn usage(available: u64) -> Usage {
        Usage { capacity: 1000, available }
    }

    #[test]
    fn nothing_goes_below_the_high_mark() {
        let images = [image("a", &[("l", 100)], 0)];
        let (policy, none) = (Policy::default(), BTreeSet::new());
        assert_eq!(plan(usage(151), &policy, &images, &none, NOW), Plan::default());
        let empty = Usage { capacity: 0, available: 0 };
        assert_eq!(plan(empty, &policy, &images, &none, NOW), Plan::default());
    }

    #[test]
    fn the_longest_unused_goes_first_until_the_low_mark() {
        let images = [
            image("new", &[("x", 60)], 3),
            image("old", &[("y", 60)], 1),
            image("mid", &[("z", 60)], 2),
        ];
        let plan = plan(usage(100), &Policy::default(), &images, &BTreeSet::new(), NOW);
        assert_eq!((plan.wanted, plan.frees), (100, 120));
        assert_eq!(plan.remove, ["old", "mid"]);
    }

    #[test]
    fn images_in_use_and_young_ones_stay() {
        let mut busy = image("busy", &[("x", 500)], 1);
        busy.in_use = true;
        let mut young = image("young", &[("y", 500)], 1);
        young.first_seen_ms = NOW - 1000;
        let plan = plan(usage(0), &Policy::default(), &[busy, young], &BTreeSet::new(), NOW);
        assert!(plan.remove.is_empty());
        assert_eq!((plan.wanted, plan.frees), (200, 0));
    }

    #[test]
    fn a_shared_layer_counts_when_its_last_user_goes() {
        let mut busy = image("busy", &[("base", 300), ("b", 1)], 9);
        busy.in_use = true;
        let one = image("one", &[("base", 300), ("o", 50)], 1);
        let two = image("two", &[("base", 300), ("t", 50)], 2);
        let policy = Policy::default();
        let none = BTreeSet::new();
        let all = [busy, one.clone(), two.clone()];
        let with_busy = plan(usage(100), &policy, &all, &none, NOW);
        assert_eq!((with_busy.frees, with_busy.remove.len()), (100, 2));
        let alone = plan(usage(100), &policy, &[one, two], &none, NOW);
        assert_eq!((alone.frees, alone.remove.len()), (400, 2));
    }

    #[test]
    fn last_copies_stay_and_the_next_in_line_go() {
        let images = [
            image("last", &[("x", 60)], 1),
            image("mid", &[("y", 60)], 2),
            image("new", &[("z", 60)], 3),
        ];
        let keep = BTreeSet::from(["last".to_owned()]);
        let kept = plan(usage(100), &Policy::default(), &images, &keep, NOW);
        assert_eq!((kept.remove.len(), kept.frees), (2, 120));
        assert_eq!(kept.kept, ["last"]);
        let keep = images.iter().map(|image| image.id.clone()).collect();
        let stuck = plan(usage(100), &Policy::default(), &images, &keep, NOW);
        assert!(stuck.remove.is_empty() && stuck.wanted > 0);
        assert_eq!(stuck.kept.len(), 3);
    }
}
