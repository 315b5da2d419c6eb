//! Every way a segment's end can be torn or changed, without a file.

use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::command::{Expect, Op};
use crate::log::record::encode_batch;

const SEED: u64 = 0x5eed;
const TERM: u64 = 1;

fn command(key: &str, size: usize) -> Command {
    let value = Bytes::from(vec![b'v'; size]);
    let (key, stamp, expect) = (key.to_owned(), None, Expect::Any);
    Command { ops: vec![Op::Put { key, value, stamp, expect }] }
}

/// A segment with these batches of values of these sizes, and where each batch ends.
fn image(batches: &[&[usize]]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = vec![0x11; SECTOR];
    let mut ends = Vec::new();
    let mut next = 2;
    for sizes in batches {
        let commands: Vec<Command> = sizes.iter().map(|size| command("key", *size)).collect();
        let mut batch = Vec::new();
        encode_batch(&mut batch, SEED, TERM, next, &commands.iter().collect::<Vec<_>>());
        next += sizes.len() as u64;
        bytes.extend_from_slice(&batch);
        ends.push(bytes.len());
    }
    bytes.resize(bytes.len() + 4 * SECTOR, 0);
    (bytes, ends)
}

fn read(bytes: &[u8], applied: u64, proven: bool) -> (Result<(), Bad>, Contents) {
    let path = Path::new("segment");
    let reader = Reader { bytes, path, seed: SEED, first: 2, applied, proven };
    let mut contents = Contents::default();
    (reader.read(&mut contents), contents)
}

#[test]
fn a_whole_segment_reads_back() {
    for batches in [&[&[10][..]][..], &[&[1, 2, 3], &[2000], &[0, 600, 0], &[440, 441, 450]]] {
        let (bytes, ends) = image(batches);
        let (result, contents) = read(&bytes, 1, false);
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
        let (result, contents) = read(&bytes, 1, false);
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
        let (result, contents) = read(&torn, 1, false);
        assert_eq!(result, Ok(()), "missing {missing:b}");
        assert_eq!((contents.entries.len(), contents.end), (3, ends[1]), "missing {missing:b}");
        let left = torn[ends[1]..].iter().any(|byte| *byte != 0);
        assert_eq!(contents.torn, left, "missing {missing:b}");
        let (result, contents) = read(&torn, 1, true);
        assert!(result.is_err() || contents.next < 8, "a later segment proves it was whole");
    }
}

#[test]
fn a_write_that_stopped_anywhere_is_cut() {
    let (bytes, ends) = image(&[&[10, 300], &[700], &[900, 3, 400, 1300]]);
    for stop in ends[1]..ends[2] {
        let mut torn = bytes.clone();
        torn[stop..].fill(0);
        let (result, contents) = read(&torn, 1, false);
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
        let bad = read(&torn, 1, false).0.unwrap_err();
        assert_eq!(bad.highest, 6, "{bad:?}");
    }
}

#[test]
fn a_flipped_bit_never_loses_a_record() {
    let (bytes, ends) = image(&[&[10, 460], &[700], &[5, 30]]);
    let whole = read(&bytes, 1, false).1.entries;
    for position in SECTOR * 8..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[position / 8] ^= 1 << (position % 8);
        let (result, contents) = read(&flipped, 1, false);
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
    let whole = read(&bytes, 4, false).1.entries;
    assert_eq!(whole.len(), 2);
    for position in SECTOR * 8..ends[1] * 8 {
        let mut flipped = bytes.clone();
        flipped[position / 8] ^= 1 << (position % 8);
        let (result, contents) = read(&flipped, 4, false);
        assert_eq!((result, &contents.entries), (Ok(()), &whole), "bit {position}");
    }
}

#[test]
fn a_log_that_ends_before_the_state_is_damage() {
    let (bytes, _) = image(&[&[10], &[20]]);
    assert_eq!(read(&bytes, 3, false).0, Ok(()));
    let bad = read(&bytes, 4, false).0.unwrap_err();
    assert_eq!(bad.index, 4);
}

#[test]
fn a_full_segment_ends_at_its_end() {
    let (mut bytes, ends) = image(&[&[10], &[20]]);
    bytes.truncate(ends[1]);
    let (result, contents) = read(&bytes, 1, false);
    assert_eq!((result, contents.end, contents.torn), (Ok(()), ends[1], false));
}
