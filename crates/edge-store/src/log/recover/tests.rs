//! Every way a segment's end can be torn or changed, without a file.

use std::path::Path;

use edge_core::consensus::EntryKind;

use super::*;
use crate::log::record::{Batch, encode_batch};

const SEED: u64 = 0x5eed;
/// The first entry and the first batch in `image`.
const FIRST: u64 = 2;

fn entry(term: u64, index: u64, size: usize) -> LogEntry {
    let data = Bytes::from(vec![b'v'; size]);
    LogEntry { term, index, kind: EntryKind::Command, data }
}

fn batch(bytes: &mut Vec<u8>, number: u64, hard: Option<HardState>, entries: &[LogEntry]) {
    let from = entries.first().map_or(FIRST, |entry| entry.index);
    let commit = hard.map_or(0, |hard| hard.commit);
    let mut out = Vec::new();
    encode_batch(&mut out, SEED, &Batch { number, hard, from, commit, entries });
    bytes.extend_from_slice(&out);
}

/// A segment with these batches of values of these sizes, and where each batch ends.
fn image(batches: &[&[usize]]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = vec![0x11; SECTOR];
    let mut ends = Vec::new();
    let mut next = FIRST;
    for (number, sizes) in (1..).zip(batches) {
        let entries: Vec<_> = (next..).zip(*sizes).map(|(at, size)| entry(1, at, *size)).collect();
        batch(&mut bytes, number, None, &entries);
        next += sizes.len() as u64;
        ends.push(bytes.len());
    }
    bytes.resize(bytes.len() + 4 * SECTOR, 0);
    (bytes, ends)
}

/// Reads with a state that has seen the entry `applied` in the batch `synced`.
fn read_with(bytes: &[u8], applied: u64, synced: u64, proven: bool) -> (Result<(), Bad>, Contents) {
    let path = Path::new("segment");
    let outlived = Outlived { applied, batch: synced, hard: HardState::default() };
    let reader = Reader { bytes, path, seed: SEED, outlived, proven };
    let mut contents = Contents::new(outlived, 1, FIRST);
    (reader.read(&mut contents), contents)
}

fn read(bytes: &[u8], proven: bool) -> (Result<(), Bad>, Contents) {
    read_with(bytes, 1, 0, proven)
}

#[test]
fn a_whole_segment_reads_back() {
    for batches in [&[&[10][..]][..], &[&[1, 2, 3], &[2000], &[0, 600, 0], &[440, 441, 450]]] {
        let (bytes, ends) = image(batches);
        let (result, contents) = read(&bytes, false);
        assert_eq!(result, Ok(()));
        let count: usize = batches.iter().map(|sizes| sizes.len()).sum();
        let indexes: Vec<u64> = contents.entries.iter().map(|entry| entry.index).collect();
        assert_eq!(indexes, (2..2 + count as u64).collect::<Vec<_>>());
        assert_eq!((contents.end, contents.torn), (*ends.last().unwrap(), false));
    }
}

#[test]
fn records_of_every_size_lie_where_they_are_looked_for() {
    for size in 0..1200 {
        let (bytes, ends) = image(&[&[size, 5, size], &[7]]);
        let (result, contents) = read(&bytes, false);
        assert_eq!((result, contents.entries.len(), contents.end), (Ok(()), 4, ends[1]));
    }
}

#[test]
fn a_torn_last_batch_is_cut_whatever_sectors_are_missing() {
    let (bytes, ends) = image(&[&[10, 300], &[700], &[900, 3, 400, 1300]]);
    let sectors: Vec<usize> = (ends[1]..ends[2]).step_by(SECTOR).collect();
    assert!(sectors.len() < 12);
    for missing in 1u32..1 << sectors.len() {
        let mut torn = bytes.clone();
        for (number, at) in sectors.iter().enumerate() {
            if missing >> number & 1 == 1 {
                torn[*at..at + SECTOR].fill(0);
            }
        }
        let (result, contents) = read(&torn, false);
        assert_eq!(result, Ok(()), "missing {missing:b}");
        assert_eq!((contents.entries.len(), contents.end), (3, ends[1]), "missing {missing:b}");
        let left = torn[ends[1]..].iter().any(|byte| *byte != 0);
        assert_eq!(contents.torn, left, "missing {missing:b}");
        let (result, contents) = read(&torn, true);
        assert!(result.is_err() || contents.next < 8, "a later segment proves it was whole");
    }
}

#[test]
fn a_write_that_stopped_anywhere_is_cut() {
    let (bytes, ends) = image(&[&[10, 300], &[700], &[900, 3, 400, 1300]]);
    for stop in ends[1]..ends[2] {
        let mut torn = bytes.clone();
        torn[stop..].fill(0);
        let (result, contents) = read(&torn, false);
        assert_eq!(result, Ok(()), "stopped at {stop}");
        let whole = contents.end == ends[2] && contents.entries.len() == 7;
        let cut = contents.end == ends[1] && contents.entries.len() == 3;
        assert!(whole || cut && contents.torn == (stop > ends[1]), "stopped at {stop}");
    }
}

#[test]
fn a_missing_sector_before_the_last_batch_is_damage() {
    let (bytes, ends) = image(&[&[10, 300], &[700, 5], &[9]]);
    for at in (SECTOR..ends[1]).step_by(SECTOR) {
        let mut torn = bytes.clone();
        torn[at..at + SECTOR].fill(0);
        let bad = read(&torn, false).0.unwrap_err();
        assert_eq!(bad.highest, 6, "{bad:?}");
    }
}

#[test]
fn a_flipped_bit_never_loses_a_record() {
    let (bytes, ends) = image(&[&[10, 460], &[700], &[5, 30]]);
    let whole = read(&bytes, false).1.entries;
    for position in SECTOR * 8..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[position / 8] ^= 1 << (position % 8);
        let (result, contents) = read(&flipped, false);
        match result {
            Ok(()) => {
                assert_eq!(contents.entries, whole, "bit {position}");
                assert_eq!(contents.end, ends[2], "bit {position}");
            }
            Err(bad) => {
                assert!(position / 8 < ends[2], "bit {position}: {bad:?}");
                let before = &whole[..contents.entries.len()];
                assert_eq!(contents.entries, before, "bit {position}");
                assert_eq!(bad.index, contents.next.max(bad.index), "bit {position}");
            }
        }
    }
}

#[test]
fn damage_that_the_state_outlived_is_skipped() {
    let (bytes, ends) = image(&[&[10, 300], &[700], &[5, 30]]);
    let whole = read_with(&bytes, 4, 2, false).1.entries;
    assert_eq!(whole.len(), 2);
    for position in SECTOR * 8..ends[1] * 8 {
        let mut flipped = bytes.clone();
        flipped[position / 8] ^= 1 << (position % 8);
        let (result, contents) = read_with(&flipped, 4, 2, false);
        assert_eq!((result, &contents.entries), (Ok(()), &whole), "bit {position}");
    }
}

#[test]
fn a_log_that_ends_before_the_state_is_damage() {
    let (bytes, _) = image(&[&[10], &[20]]);
    assert_eq!(read_with(&bytes, 3, 2, false).0, Ok(()));
    let bad = read_with(&bytes, 4, 2, false).0.unwrap_err();
    assert_eq!(bad.index, 4);
}

/// The state's commit notes how many batches were synced, wherever they are: in a segment that
/// another one follows, the end where nothing more was written is no hole.
#[test]
fn a_state_that_is_ahead_of_a_full_segment_makes_no_hole_of_its_end() {
    let (bytes, ends) = image(&[&[10, 300], &[700], &[5, 30]]);
    for (applied, synced) in [(1, 0), (6, 3), (6, 4), (9, 40)] {
        let (result, contents) = read_with(&bytes, applied, synced, true);
        assert_eq!((result, contents.end), (Ok(()), ends[2]), "{applied} and {synced}");
    }
    // In the newest segment it is one: the state has seen a batch that should be there.
    assert!(read_with(&bytes, 6, 4, false).0.is_err());
    // And so is a gap before a batch that is there, in either.
    let mut gap = bytes.clone();
    gap[ends[0]..ends[1]].fill(0);
    assert!(read_with(&gap, 1, 0, true).0.is_err());
    assert!(read_with(&gap, 1, 0, false).0.is_err());
}

#[test]
fn a_full_segment_ends_at_its_end() {
    let (mut bytes, ends) = image(&[&[10], &[20]]);
    bytes.truncate(ends[1]);
    let (result, contents) = read(&bytes, false);
    assert_eq!((result, contents.end, contents.torn), (Ok(()), ends[1], false));
}

/// A log of three leaders: the second replaces entries of the first, the third all of the second.
fn contested() -> (Vec<u8>, Vec<usize>) {
    let mut bytes = vec![0x11; SECTOR];
    let mut ends = Vec::new();
    let hard = |term, vote, commit| Some(HardState { term, vote, commit });
    let entries = |term, from: u64, count: u64| -> Vec<LogEntry> {
        (from..from + count).map(|at| entry(term, at, 90 * at as usize)).collect()
    };
    for (number, hard, entries) in [
        (1, hard(1, 7, 1), entries(1, 2, 2)),
        (2, None, entries(1, 4, 3)),
        (3, hard(2, 8, 3), vec![]),
        (4, None, entries(2, 5, 1)),
        (5, hard(3, 7, 3), entries(3, 4, 4)),
    ] {
        let from = entries.first().map_or(7, |entry| entry.index);
        let commit = hard.map_or(0, |hard| hard.commit);
        let mut out = Vec::new();
        let batch = Batch { number, hard, from, commit, entries: &entries };
        encode_batch(&mut out, SEED, &batch);
        bytes.extend_from_slice(&out);
        ends.push(bytes.len());
    }
    bytes.resize(bytes.len() + 4 * SECTOR, 0);
    (bytes, ends)
}

/// Term and vote, and the terms of the entries from 2 on, after so many batches.
const HISTORY: [(u64, u64, &[u64]); 6] = [
    (0, 0, &[]),
    (1, 7, &[1, 1]),
    (1, 7, &[1, 1, 1, 1, 1]),
    (2, 8, &[1, 1, 1, 1, 1]),
    (2, 8, &[1, 1, 1, 2]),
    (3, 7, &[1, 1, 3, 3, 3, 3]),
];

fn check_history(contents: &Contents, batches: usize, what: &str) {
    let (term, vote, terms) = HISTORY[batches];
    assert_eq!((contents.hard.term, contents.hard.vote), (term, vote), "{what}");
    let found: Vec<u64> = contents.entries.iter().map(|entry| entry.term).collect();
    assert_eq!(found, terms, "{what}");
    assert!((2..).zip(&contents.entries).all(|(at, entry)| entry.index == at), "{what}");
    assert_eq!(contents.next, 2 + terms.len() as u64, "{what}");
    assert_eq!(contents.batch, 1 + batches as u64, "{what}");
}

#[test]
fn later_batches_override_earlier_ones() {
    let (bytes, ends) = contested();
    let (result, contents) = read(&bytes, false);
    assert_eq!(result, Ok(()));
    check_history(&contents, 5, "whole");
    assert_eq!((contents.hard.commit, contents.end), (3, ends[4]));
}

#[test]
fn every_cut_of_a_truncating_batch_leaves_a_whole_history() {
    let (bytes, ends) = contested();
    for stop in SECTOR..ends[4] {
        let mut torn = bytes.clone();
        torn[stop..].fill(0);
        let (result, contents) = read(&torn, false);
        assert_eq!(result, Ok(()), "stopped at {stop}");
        // The fillers and zeroes at a batch's end may be missing.
        let whole = ends.iter().filter(|end| **end <= stop).count();
        let batches = contents.batch as usize - 1;
        assert!(batches == whole || batches == whole + 1, "stopped at {stop}");
        check_history(&contents, batches, &format!("stopped at {stop}"));
    }
}

#[test]
fn a_flipped_bit_never_changes_a_contested_history() {
    let (bytes, ends) = contested();
    for position in SECTOR * 8..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[position / 8] ^= 1 << (position % 8);
        let (result, contents) = read(&flipped, false);
        match result {
            Ok(()) => check_history(&contents, 5, &format!("bit {position}")),
            Err(bad) => assert!(position / 8 < ends[4], "bit {position}: {bad:?}"),
        }
    }
}

#[test]
fn damage_below_a_truncation_is_skipped_only_if_the_state_outlived_it() {
    let (bytes, ends) = contested();
    let hard = HardState { term: 2, vote: 8, commit: 3 };
    let outlived = Outlived { applied: 3, batch: 4, hard };
    for at in SECTOR..ends[3] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        let path = Path::new("segment");
        let reader = Reader { bytes: &damaged, path, seed: SEED, outlived, proven: false };
        let mut contents = Contents::new(outlived, 1, FIRST);
        let (result, (term, vote, terms)) = (reader.read(&mut contents), HISTORY[5]);
        match result {
            // What the third leader wrote begins behind the state: nothing between is missed.
            Ok(()) => {
                assert_eq!((contents.hard.term, contents.hard.vote), (term, vote), "byte {at}");
                let found: Vec<u64> = contents.entries.iter().map(|entry| entry.term).collect();
                assert_eq!(found, terms[2..], "byte {at}");
                assert_eq!(contents.next, 8, "byte {at}");
            }
            Err(bad) => assert!(bad.index >= 4, "byte {at}: {bad:?}"),
        }
    }
}
