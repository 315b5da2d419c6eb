//! What the board keeps things on: room, kind of file system, wear, swap.

use super::{Facts, Filesystem, Finding, Fix, Flash, Severity};

/// Less than this part of a disk, in hundredths, is little …
const LOW: u64 = 10;
/// … if it is also less than this many bytes: the kubelet's DiskPressure of this board.
const PLENTY: u64 = 2 << 30;
/// Below this, writes of the next minutes may fail.
const NEARLY_NONE: u64 = 64 << 20;
/// Less than this part of a file system's files, in hundredths, is little.
const FILES_LOW: u64 = 5;
/// Tenths of its life after which flash is to be replaced soon.
const OLD: u32 = 9;
/// The register's word for more than all of its life.
const OVER: u32 = 11;

pub(super) fn judge(facts: &Facts, found: &mut Vec<Finding>) {
    for one in &facts.filesystems {
        room(one, found);
        if one.data {
            kind(one, found);
        }
    }
    wear(&facts.flash, found);
    let flash: Vec<_> = facts.swaps.iter().filter(|swap| swap.flash).collect();
    if flash.is_empty() {
        let what = match facts.swaps.is_empty() {
            true => "no swap",
            false => "swap is in memory or on a disk that bears it",
        };
        found.push(Finding::ok("swap-on-flash", what));
    }
    for swap in flash {
        let what = format!("memory of {} MiB is swapped to flash: {}", swap.bytes >> 20, swap.path);
        let why = "swapping wears a card out within months, and a board that swaps misses its \
                   heartbeats";
        let todo = "take the swap away for good: `systemctl disable --now dphys-swapfile` on \
                    Raspberry Pi OS up to 12, `Mechanism=zram` in /etc/rpi/swap.conf on later \
                    ones, or its line in /etc/fstab elsewhere";
        let finding = Finding::warning("swap-on-flash", what, why, todo);
        found.push(finding.with(Fix::SwapOff(swap.path.clone())));
    }
}

fn room(one: &Filesystem, found: &mut Vec<Finding>) {
    let id = if one.data { "disk-space" } else { "root-space" };
    let (free, all) = (one.bytes_free, one.bytes);
    // A small disk that is empty has no room either.
    let low = free < PLENTY.min(all / 100 * LOW) || one.data && free < NEARLY_NONE;
    let said = format!("{}: {} MiB of {} MiB are free", one.path, free >> 20, all >> 20);
    let why = "images can't be pulled, logs and the cluster's state can't be written, and pods are \
               evicted";
    let todo = match one.data {
        true => "remove what is not needed, or put --data-dir on a larger disk",
        false => "remove what is not needed (journals, package caches), or grow the partition",
    };
    // A root that is read-only is as full as it was made.
    let severity = match (low, one.read_only && !one.data) {
        (false, _) | (_, true) => Severity::Ok,
        _ if free < NEARLY_NONE && one.data => Severity::Error,
        _ => Severity::Warning,
    };
    match severity {
        Severity::Ok => found.push(Finding::ok(id, said)),
        severity => found.push(Finding::bad(id, severity, said, why, todo)),
    }
    inodes(one, found);
}

fn inodes(one: &Filesystem, found: &mut Vec<Finding>) {
    let id = if one.data { "disk-inodes" } else { "root-inodes" };
    // Some file systems make inodes as they are needed, and say 0.
    if one.files == 0 || one.read_only && !one.data {
        return;
    }
    let said = format!("{}: {} of {} files can be made", one.path, one.files_free, one.files);
    if one.files_free >= one.files.div_ceil(100) * FILES_LOW {
        return found.push(Finding::ok(id, said));
    }
    let (severity, why) = match one.data {
        true => (
            Severity::Error,
            "no file can be made although there is room: images can't be unpacked, logs not begun",
        ),
        false => (
            Severity::Warning,
            "no file can be made there although there is room: logins, updates and settings fail",
        ),
    };
    let todo = "remove directories of many small files (old sessions, caches, mail), or make the \
                file system anew with more inodes (mkfs.ext4 -T small)";
    found.push(Finding::bad(id, severity, said, why, todo));
}

fn kind(one: &Filesystem, found: &mut Vec<Finding>) {
    let id = "data-dir";
    if one.read_only {
        return found.push(Finding::error(
            id,
            format!("{} is read-only", one.path),
            "nothing can be kept; a card turns read-only when it is at its end or its file system \
             is damaged",
            "look for errors of the card in `dmesg`; remount it writable, or put --data-dir on \
             another disk",
        ));
    }
    let what = format!("{} is on {}", one.path, one.kind);
    let elsewhere = "put --data-dir on ext4, f2fs, xfs or btrfs of the board's own disk";
    let (severity, why) = match one.kind.as_str() {
        "vfat" | "exfat" | "ntfs" => (
            Severity::Error,
            "it knows no owners, permissions and links: images can't be unpacked, keys not kept \
             from others",
        ),
        "nfs" | "cifs" | "smb" | "9p" => (
            Severity::Error,
            "the state's file is mapped into memory and locked, which a network's file system \
             breaks silently",
        ),
        "tmpfs" | "ramfs" => (
            Severity::Warning,
            "it is memory: the board forgets its cluster and its images when it is switched off",
        ),
        "overlay" => (
            Severity::Warning,
            "containers' own overlays can't stand on an overlay with some kernels, and it is often \
             memory that is gone after a boot",
        ),
        _ => return found.push(Finding::ok(id, what)),
    };
    found.push(Finding::bad(id, severity, what, why, elsewhere));
}

fn wear(all: &[Flash], found: &mut Vec<Finding>) {
    let id = "storage-worn";
    if all.is_empty() {
        return found.push(Finding::ok(id, "no card or eMMC that tells its wear"));
    }
    for flash in all {
        let life = flash.life.iter().copied().max().unwrap_or(0);
        let used = match life {
            0 => "it does not say how much of its life is used".to_owned(),
            OVER.. => "more than all of its life is used".to_owned(),
            tenths => format!("{} to {} % of its life are used", (tenths - 1) * 10, tenths * 10),
        };
        let spare = match flash.spare {
            Some(2) => ", four fifths of its spare blocks as well",
            Some(3) => ", nearly all of its spare blocks as well",
            _ => "",
        };
        let what = format!("{}: {used}{spare}", flash.device);
        let severity = match (life, flash.spare) {
            (OVER.., _) | (_, Some(3)) => Severity::Error,
            (OLD.., _) | (_, Some(2)) => Severity::Warning,
            _ => Severity::Ok,
        };
        if severity == Severity::Ok {
            found.push(Finding::ok(id, what));
            continue;
        }
        let why = "flash at its end loses data or turns read-only, without a word before";
        let todo = "take a backup (edgectl backup) and replace the card or board soon; a board \
                    that leads no cluster can be set up anew";
        found.push(Finding::bad(id, severity, what, why, todo));
    }
}
