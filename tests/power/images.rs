//! The image store on a disk that loses its power: an image is there whole or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use edge_node::images::{ImageStore, ImagesConfig, Progress};

use super::cut::{Cutter, Fate};
use super::disk::{Disk, Record};
use super::fuse::{Left, Mounted, can_run, empty};
use super::leftovers;
use crate::lab::{cargo, load::runtime};
use crate::store::{Directory, Random};

/// MiB of the disk.
const DISK: u64 = 96;
/// Images that are loaded; the first is removed at the end.
const IMAGES: usize = 4;
/// Bytes of each beside its shell, which all have.
const NOISE: usize = 400_000;

/// Loads the images; gives the record, when each was there, and when the removal began.
fn record(dir: &Directory) -> (Record, Vec<usize>, usize) {
    let disk = Arc::new(Disk::new(empty(&dir.0, DISK)));
    let mounted = Mounted::new(disk.clone(), &dir.0);
    let place = mounted.path().join("images");
    let mut moments = Vec::new();
    let begun = runtime().block_on(async {
        let store = ImageStore::open(&place, ImagesConfig::default()).unwrap();
        for number in 0..IMAGES {
            let archive = dir.0.join("box.tar");
            let name = format!("example.org/box-{number}:1");
            cargo::named(&archive, &name, NOISE, number as u64 + 1);
            let bytes = std::fs::read(&archive).unwrap();
            store.load(&bytes[..], &Progress::none()).await.unwrap();
            moments.push(disk.moment());
        }
        let begun = disk.moment();
        store.remove("example.org/box-0:1").unwrap();
        begun
    });
    (disk.take(), moments, begun)
}

#[test]
fn an_image_is_there_whole_or_not_at_all() {
    if !can_run() {
        return;
    }
    let cuts = super::cuts(20);
    let dir = Directory::quick();
    let (record, loaded, begun) = record(&dir);
    let events = record.events.len() as u64;
    let mut random = Random(super::seed() | 1);
    let mut moments: Vec<usize> = (0..cuts).map(|_| random.below(events + 1) as usize).collect();
    moments.sort_unstable();
    let (mut cutter, mut bad, mut lossy) = (Cutter::new(&record), Vec::new(), 0);
    for moment in moments {
        cutter.go(moment);
        lossy += usize::from(cutter.pending() > 0);
        let fate = Fate::draw(cutter.pending(), &mut random);
        let there = |number: &usize| loaded[*number] <= moment && (*number > 0 || moment <= begun);
        let known: BTreeSet<usize> = (0..IMAGES).filter(there).collect();
        let verdict = Left::mount(&cutter.image(fate), &dir.0).and_then(|left| {
            leftovers::check(left.path(), &known)?;
            leftovers::check(left.path(), &known).map_err(|why| format!("the second time: {why}"))
        });
        if let Err(why) = verdict {
            bad.push(format!("cut at {moment} of {events}, {fate:?}: {why}"));
        }
    }
    println!("{events} events, {cuts} cuts, {lossy} with writes to lose");
    assert!(bad.is_empty(), "{} of {cuts}:\n{}", bad.len(), bad.join("\n"));
}
