//! The store on a disk that loses its power: recorded from its first start on, through a kill and
//! a second life, and cut at moments all over the record.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::cut::{Cutter, Fate};
use super::disk::{Disk, Record};
use super::fuse::{Left, Mounted, can_run, empty};
use super::writer::{Ack, WRITES, judge, parse};
use crate::store::{Directory, Random, child, name_of};

/// MiB of the disk.
const DISK: u64 = 64;
/// Writes of each of the program's two lives.
const LIVES: [u64; 2] = [240, 480];

/// Lets the program write until it is done, and kills it.
fn live(disk: &Disk, dir: &Path, writes: u64, acks: &mut Vec<Ack>) {
    let name = name_of(module_path!(), "writes").replace("store::", "writer::");
    let mut process = child(&name, dir).env(WRITES, writes.to_string()).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    for line in lines.map_while(Result::ok) {
        if line.ends_with("done") {
            break;
        }
        acks.extend(parse(&line, disk.moment()));
    }
    process.kill().unwrap();
    process.wait().unwrap();
}

/// Records the program's lives.
fn record(dir: &Path) -> (Record, Vec<Ack>) {
    let disk = Arc::new(Disk::new(empty(dir, DISK)));
    let mounted = Mounted::new(disk.clone(), dir);
    let mut acks = Vec::new();
    for writes in LIVES {
        live(&disk, &mounted.path().join("store"), writes, &mut acks);
    }
    let record = disk.take();
    drop(mounted);
    (record, acks)
}

#[test]
fn a_store_whose_disk_loses_its_cache_keeps_what_was_acknowledged() {
    if !can_run() {
        return;
    }
    let (cuts, seed) = (super::cuts(40), super::seed());
    let dir = Directory::quick();
    let begin = Instant::now();
    let (record, acks) = record(&dir.0);
    assert!(acks.len() > 600, "{}", acks.len());
    let events = record.events.len() as u64;
    println!("{events} events, {} acknowledged, {:?}", acks.len(), begin.elapsed());
    let mut random = Random(seed | 1);
    let mut moments: Vec<usize> = (0..cuts).map(|_| random.below(events + 1) as usize).collect();
    moments.sort_unstable();
    let mut cutter = Cutter::new(&record);
    let (mut bad, mut lossy) = (Vec::new(), 0);
    for moment in moments {
        cutter.go(moment);
        lossy += usize::from(cutter.pending() > 0);
        let fate = Fate::draw(cutter.pending(), &mut random);
        let known: Vec<Ack> = acks.iter().filter(|ack| ack.moment <= moment).cloned().collect();
        let verdict = Left::mount(&cutter.image(fate), &dir.0)
            .and_then(|left| judge(&left.path().join("store"), &known));
        if let Err(why) = verdict {
            bad.push(format!("cut at {moment} of {events}, {fate:?}: {why}"));
        }
    }
    println!("{cuts} cuts, {lossy} with writes to lose, {:?}", begin.elapsed());
    assert!(bad.is_empty(), "seed {seed}: {} of {cuts}:\n{}", bad.len(), bad.join("\n"));
}
