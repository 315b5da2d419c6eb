//! Every deliberate bug must be caught, and by how many seeds it takes a table is made.

use std::panic::{AssertUnwindSafe, catch_unwind};

use edge_core::consensus::{Mutant, choose};

/// No mutant may need more seeds than this.
const SEEDS_MAX: u64 = 2000;

/// A mutant is looked for from so many starting points, unless `EDGED_SIM_STARTS` says otherwise.
const STARTS: u64 = 1;

/// Whether a rule is the store's own, so that only runs with its shell can miss it.
fn is_of_the_store(mutant: Mutant) -> bool {
    use Mutant::{CommandTermIgnored, SnapshotWithoutTail, WatchGap};
    matches!(mutant, CommandTermIgnored | SnapshotWithoutTail | WatchGap)
}

/// How many seeds from `from` on it takes to catch a mutant, and the rule that it breaks.
fn hunt(mutant: Mutant, from: u64) -> Option<(u64, String)> {
    for count in 0..SEEDS_MAX {
        choose(Some(mutant));
        let report =
            catch_unwind(AssertUnwindSafe(|| super::run(from + count, is_of_the_store(mutant))));
        choose(None);
        let rule = match report {
            Ok(report) => report.broken.map(|broken| broken.rule.to_owned()),
            Err(_) => Some("the brain's own assertions".to_owned()),
        };
        if let Some(rule) = rule {
            return Some((count + 1, rule));
        }
    }
    None
}

/// Prints the table of `docs/simulator.md`; `EDGED_SIM_MUTANT` names one row.
#[test]
fn every_mutant_is_caught() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    let only = std::env::var("EDGED_SIM_MUTANT").ok();
    let chosen = |mutant: &&Mutant| {
        let name = format!("{mutant:?}");
        only.as_ref().is_none_or(|only| *only == name)
    };
    for mutant in Mutant::ALL.iter().filter(chosen) {
        let mut seeds = Vec::new();
        let mut rules = std::collections::BTreeMap::new();
        for start in 0..super::number("EDGED_SIM_STARTS", STARTS) {
            match hunt(*mutant, start * 100_000) {
                Some((count, rule)) => {
                    seeds.push(count);
                    *rules.entry(rule).or_insert(0) += 1;
                }
                None => missed.push(format!("{mutant:?} from seed {}", start * 100_000)),
            }
        }
        seeds.sort_unstable();
        let median = seeds.get(seeds.len() / 2);
        println!("| `{mutant:?}` | {rules:?} | {median:?} |");
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not caught within {SEEDS_MAX} seeds: {missed:?}");
}
