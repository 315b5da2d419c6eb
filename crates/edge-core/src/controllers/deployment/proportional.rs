//! Scaling while a rollout is under way or paused: the change is shared among the sets in
//! proportion to their size (`scale` in `pkg/controller/deployment/sync.go`), so that risk stays
//! spread as it was.

use edge_api::{Object, meta};

use super::replicasets::{Sets, bounds, replicas};
use super::{DESIRED, MAXIMUM, wanted};
use crate::plan::Plan;

/// Whether somebody changed `replicas`: a set with pods remembers another number.
pub(super) fn is_scaling(deployment: &Object, sets: &Sets) -> bool {
    let want = wanted(deployment);
    sets.all()
        .filter(|set| replicas(set) > 0)
        .any(|set| remembered(set, DESIRED).is_some_and(|desired| desired != want))
}

fn remembered(set: &Object, annotation: &str) -> Option<i64> {
    meta::annotation(set, annotation)?.parse().ok()
}

/// Applies the change.
pub(super) fn scale(deployment: &Object, sets: &mut Sets, plan: &mut Plan) {
    let want = wanted(deployment);
    let active = sets.all().filter(|set| replicas(set) > 0).count();
    if active <= 1 {
        scale_only(deployment, sets, want, plan);
        return;
    }
    // With the new set saturated the old ones have nothing more to do.
    if sets.new.as_ref().is_some_and(|set| replicas(set) == want && is_full(set, want)) {
        for at in 0..sets.old.len() {
            if replicas(&sets.old[at]) > 0 {
                sets.scale_old_to(deployment, at, 0, plan);
            }
        }
        return;
    }
    if deployment["spec"]["strategy"]["type"] != "Recreate" {
        share(deployment, sets, plan);
    }
}

/// The one set with pods, or the newest when there is none.
fn scale_only(deployment: &Object, sets: &mut Sets, want: i64, plan: &mut Plan) {
    if let Some(at) = sets.old.iter().position(|set| replicas(set) > 0) {
        sets.scale_old_to(deployment, at, want, plan);
    } else if sets.new.is_some() {
        sets.scale_new_to(deployment, want, plan);
    } else if let Some(last) = sets.old.len().checked_sub(1) {
        sets.scale_old_to(deployment, last, want, plan);
    }
}

fn is_full(set: &Object, want: i64) -> bool {
    remembered(set, DESIRED) == Some(want)
        && crate::workload::number(&set["status"]["availableReplicas"], 0) == want
}

fn share(deployment: &Object, sets: &mut Sets, plan: &mut Plan) {
    let total = sets.total();
    let allowed =
        if wanted(deployment) > 0 { wanted(deployment) + bounds(deployment).0 } else { 0 };
    let to_add = allowed - total;
    // (is it the new one, its place among the old ones, its size), larger sets first; among
    // equals the newer when growing, the older when shrinking.
    let mut order: Vec<(bool, usize, i64)> =
        sets.old.iter().enumerate().map(|(at, set)| (false, at, replicas(set))).collect();
    order.extend(sets.new.as_ref().map(|set| (true, usize::MAX, replicas(set))));
    order.retain(|(_, _, size)| *size > 0);
    order.sort_by(|a, b| {
        let age = if to_add > 0 { b.1.cmp(&a.1) } else { a.1.cmp(&b.1) };
        b.2.cmp(&a.2).then(age)
    });
    let mut left = to_add;
    let mut sizes = Vec::new();
    for (is_new, at, size) in &order {
        let set = if *is_new { sets.new.as_ref() } else { sets.old.get(*at) };
        let part = set.map_or(0, |set| fraction(set, *size, allowed, to_add, left));
        sizes.push((*size + part).max(0));
        left -= part;
    }
    // What rounding left over goes to the largest.
    if let Some(first) = sizes.first_mut() {
        *first = (*first + left).max(0);
    }
    for ((is_new, at, _), size) in order.into_iter().zip(sizes) {
        if is_new {
            sets.scale_new_to(deployment, size, plan);
        } else {
            sets.scale_old_to(deployment, at, size, plan);
        }
    }
}

/// A set's share of `to_add`, rounded to the nearest and kept within what is `left`.
fn fraction(set: &Object, size: i64, allowed: i64, to_add: i64, left: i64) -> i64 {
    if to_add == 0 || left == 0 || size == 0 {
        return 0;
    }
    let before = remembered(set, MAXIMUM).filter(|max| *max > 0).unwrap_or(allowed.max(1));
    // round(size × allowed ÷ before) − size, in whole numbers.
    let scaled = (2 * size * allowed + before) / (2 * before);
    let part = scaled - size;
    if to_add > 0 { part.clamp(0, left) } else { part.clamp(left, 0) }
}
