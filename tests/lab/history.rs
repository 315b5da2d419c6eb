//! What clients did and were told, in real time: the evidence from which the checkers judge.
//! Every value is written at most once, so that a value that is read names its writer.

use std::collections::{BTreeMap, BTreeSet};

use super::linear::{Call, Step};

/// The value that every register has at first.
pub(crate) const FIRST: u64 = 0;

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Read,
    Write {
        value: u64,
    },
    /// Write `to`, only if the register is still at the revision where it held `from`.
    Swap {
        from: u64,
        to: u64,
    },
}

/// What it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is done: the register holds, or held, this value since this revision.
    Done { value: u64, revision: u64 },
    /// It was refused: it has not happened and never will.
    Refused,
    /// Nobody knows: it may have happened, or may still.
    Unknown,
}

/// One request. Times are nanoseconds since the history began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) key: usize,
    /// Which server was asked.
    #[allow(dead_code, reason = "read by people, in a failed test's output")]
    pub(crate) server: usize,
    pub(crate) asked: Asked,
    pub(crate) told: Told,
    pub(crate) begin: u64,
    pub(crate) end: u64,
}

impl Record {
    /// The value that it would write.
    pub(crate) fn writes(&self) -> Option<u64> {
        match self.asked {
            Asked::Read => None,
            Asked::Write { value } => Some(value),
            Asked::Swap { to, .. } => Some(to),
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.told, Told::Done { .. })
    }
}

/// All requests of a run.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) records: Vec<Record>,
}

impl History {
    /// Acknowledged writes: key, value, revision.
    pub(crate) fn acknowledged(&self) -> impl Iterator<Item = (usize, u64, u64)> {
        self.records.iter().filter_map(|record| match record.told {
            Told::Done { value, revision } if record.asked != Asked::Read => {
                Some((record.key, value, revision))
            }
            _ => None,
        })
    }

    /// Judges the history: every register linearizable by its values alone, and, apart from
    /// that, all revisions in real-time order. Gives every offence found.
    pub(crate) fn check(&self) -> Vec<String> {
        let mut offences = self.phantoms();
        let keys: BTreeSet<usize> = self.records.iter().map(|record| record.key).collect();
        for key in keys {
            if let Err(why) = super::linear::check(&self.calls(key), FIRST) {
                offences.push(format!("register {key}: {why}"));
            }
        }
        offences.extend(self.revisions_fall());
        offences.extend(self.revisions_differ());
        offences
    }

    /// The register's calls that are known, or were seen, to have happened. A write of unknown
    /// outcome whose value nobody ever saw may be taken not to have happened: with refused
    /// swaps left out as well, nothing else in the history can tell. One that was seen has
    /// happened at some time after it began.
    fn calls(&self, key: usize) -> Vec<Call> {
        let mine = || self.records.iter().filter(move |record| record.key == key);
        let mut seen = BTreeSet::new();
        for record in mine().filter(|record| record.is_done()) {
            match (record.asked, record.told) {
                (Asked::Read, Told::Done { value, .. }) => seen.insert(value),
                (Asked::Swap { from, .. }, _) => seen.insert(from),
                _ => false,
            };
        }
        // What a swap that was seen replaced has been there as well.
        loop {
            let more = mine().filter_map(|record| match record.asked {
                Asked::Swap { from, to } if seen.contains(&to) => Some(from),
                _ => None,
            });
            let more: Vec<u64> = more.filter(|from| !seen.contains(from)).collect();
            if more.is_empty() {
                break;
            }
            seen.extend(more);
        }
        let step = |record: &Record| match (record.asked, record.told) {
            (Asked::Read, Told::Done { value, .. }) => Some(Step::Read(value)),
            (Asked::Read, _) => None,
            (Asked::Write { value }, _) => Some(Step::Write(value)),
            (Asked::Swap { from, to }, _) => Some(Step::Swap { from, to }),
        };
        mine()
            .filter_map(|record| {
                let happened = record.is_done()
                    || record.told == Told::Unknown
                        && record.writes().is_some_and(|value| seen.contains(&value));
                let end = record.is_done().then_some(record.end);
                happened.then_some(())?;
                Some(Call { step: step(record)?, begin: record.begin, end })
            })
            .collect()
    }

    /// Values that were read and that nobody wrote, or whose writer was refused.
    fn phantoms(&self) -> Vec<String> {
        let mut possible: BTreeSet<(usize, u64)> = BTreeSet::new();
        for record in self.records.iter().filter(|record| record.told != Told::Refused) {
            possible.extend(record.writes().map(|value| (record.key, value)));
        }
        let reads = self.records.iter().filter(|record| record.asked == Asked::Read);
        reads
            .filter_map(|record| match record.told {
                Told::Done { value, .. }
                    if value != FIRST && !possible.contains(&(record.key, value)) =>
                {
                    Some(format!("{record:?}: nobody wrote that, or its writer was refused"))
                }
                _ => None,
            })
            .collect()
    }

    /// A request that began after another had ended must not show an older revision of the same
    /// register; and no later write, of any register, may have a revision that is not newer.
    fn revisions_fall(&self) -> Vec<String> {
        let done = self.records.iter().filter_map(|record| match record.told {
            Told::Done { revision, .. } => Some((record, revision)),
            _ => None,
        });
        let mut by_begin: Vec<(&Record, u64)> = done.collect();
        let mut by_end = by_begin.clone();
        by_begin.sort_by_key(|(record, _)| record.begin);
        by_end.sort_by_key(|(record, _)| record.end);
        let mut ended = by_end.into_iter().peekable();
        let mut newest: BTreeMap<usize, (u64, &Record)> = BTreeMap::new();
        let mut newest_write: Option<(u64, &Record)> = None;
        let mut offences = Vec::new();
        for (record, revision) in by_begin {
            while let Some((before, its)) = ended.next_if(|(other, _)| other.end < record.begin) {
                let entry = newest.entry(before.key).or_insert((its, before));
                if its > entry.0 {
                    *entry = (its, before);
                }
                if before.asked != Asked::Read && newest_write.is_none_or(|(r, _)| its > r) {
                    newest_write = Some((its, before));
                }
            }
            if let Some((before, other)) = newest.get(&record.key)
                && *before > revision
            {
                offences.push(format!("{record:?} is older than {other:?}, which had ended"));
            }
            if let Some((before, other)) = newest_write
                && record.asked != Asked::Read
                && before >= revision
            {
                offences.push(format!("{record:?} is not newer than {other:?}, which had ended"));
            }
        }
        offences
    }

    /// One revision of a register has one value, whoever is asked.
    fn revisions_differ(&self) -> Vec<String> {
        let mut known: BTreeMap<u64, (usize, u64)> = BTreeMap::new();
        let mut offences = Vec::new();
        for record in &self.records {
            let Told::Done { value, revision } = record.told else { continue };
            let first = *known.entry(revision).or_insert((record.key, value));
            if first != (record.key, value) {
                offences.push(format!("{record:?}: revision {revision} is {first:?} elsewhere"));
            }
        }
        offences
    }
}
