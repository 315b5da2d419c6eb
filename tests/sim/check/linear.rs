//! The history is linearizable.
//!
//! Every write of a key has a revision, so their order is known and only time has to be compared:
//! an operation that began after another one ended must not see less than that one did. For a
//! register whose versions are totally ordered this is all there is to check (the interval orders
//! of Gibbons and Korach, "Testing Shared Memories", 1997). Reads are compared across keys too,
//! since one log orders them all.

use super::super::clients::Call;
use super::Checks;

const RULE: &str = "the history is linearizable";

impl Checks {
    /// What an operation that begins now must at least see: of its key, and of all.
    pub(in super::super) fn floor(&self, key: u8) -> (u64, u64) {
        (self.told.get(&key).copied().unwrap_or(0), self.told_of_all)
    }

    fn tell(&mut self, key: u8, revision: u64, of_all: u64) {
        let told = self.told.entry(key).or_default();
        *told = revision.max(*told);
        self.told_of_all = self.told_of_all.max(of_all);
    }

    pub(in super::super) fn read(&mut self, call: &Call, found: (u64, u64), applied: u64) {
        let (revision, value) = found;
        let write = self.agreed.get(&revision).and_then(|agreed| agreed.write);
        if revision != 0 && write != Some((call.key, value)) {
            self.breaks(RULE, || format!("{call:?} read {found:?}, where {write:?} stands"));
        }
        let (of_key, of_all) = call.floor;
        if revision < of_key || applied < of_all {
            self.breaks(RULE, || format!("{call:?} read {found:?} as of {applied}"));
        }
        self.tell(call.key, revision, applied);
    }

    pub(super) fn wrote(&mut self, call: &Call, revision: u64) {
        let (of_key, of_all) = call.floor;
        if revision <= of_key || revision <= of_all {
            self.breaks(RULE, || format!("{call:?} wrote revision {revision}"));
        }
        self.tell(call.key, revision, revision);
    }

    /// A client asks for a value to be written.
    pub(in super::super) fn calls(&mut self, value: u64) {
        self.values.insert(value, None);
    }

    /// A write was refused for good.
    pub(in super::super) fn refused(&mut self, value: u64) {
        self.never.insert(value);
        if let Some(Some(revision)) = self.values.get(&value).copied() {
            self.breaks(RULE, || format!("refused, and written at {revision}: {value}"));
        }
    }

    /// A client's value was written.
    pub(super) fn happened(&mut self, value: u64, revision: u64) {
        if self.never.contains(&value) {
            self.breaks(RULE, || format!("refused, and then written at {revision}: {value}"));
        }
        if let Some(Some(first)) = self.values.insert(value, Some(revision)) {
            self.breaks(RULE, || format!("{value} written at {first} and at {revision}"));
        }
    }
}
