//! A watch never misses, doubles or reorders an event, on whatever servers it is continued.

use super::super::state::Event;
use super::Checks;

const RULE: &str = "watches miss and double nothing";

impl Checks {
    pub(in super::super) fn watched(&mut self, who: usize, seen: u64, last: u64, event: &Event) {
        self.watched += 1;
        let next = self.truth.range(last + 1..).next().map(|(_, event)| *event);
        if next != Some(*event) {
            self.breaks(RULE, || {
                format!("watcher {who} at {seen} got {event:?}; {next:?} follows {last}")
            });
        }
    }

    /// A watcher was told that it has everything up to a revision.
    pub(in super::super) fn bookmarked(&mut self, who: usize, last: u64, upto: u64) {
        if upto <= last {
            return;
        }
        if let Some((missed, _)) = self.truth.range(last + 1..=upto).next() {
            let missed = *missed;
            self.breaks(RULE, || format!("watcher {who} is at {upto} and never got {missed}"));
        }
    }

    /// A watcher listed again.
    pub(in super::super) fn listed(
        &mut self,
        who: usize,
        seen: u64,
        revision: u64,
        found: &[(u8, u64, u64)],
    ) {
        let mut keys = std::collections::BTreeMap::new();
        for event in self.truth.range(..=revision).map(|(_, event)| event) {
            keys.insert(event.key, (event.key, event.revision, event.value));
        }
        let wanted: Vec<_> = keys.into_values().collect();
        if revision < seen || wanted != found {
            self.breaks(RULE, || {
                format!("watcher {who}, who saw {seen}, listed {found:?} at {revision}: {wanted:?}")
            });
        }
    }
}
