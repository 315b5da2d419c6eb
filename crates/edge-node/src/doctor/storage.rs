//! Disks: room, kinds of file systems, wear, swap.

use std::path::Path;

use edge_core::doctor::{Facts, Filesystem, Flash, Swap};
use nix::sys::statfs::statfs;
use nix::sys::statvfs::{FsFlags, statvfs};

use super::files::Files;

/// Kinds of file systems by the number that the kernel has for them (`linux/magic.h`); what is not
/// here is a disk's.
const KINDS: [(i64, &str); 13] = [
    (0xef53, "ext4"),
    (0x4d44, "vfat"),
    (0x2011_bab0, "exfat"),
    (0x7366_746e, "ntfs"),
    (0x5346_544e, "ntfs"),
    (0x6969, "nfs"),
    (0xfe53_4d42, "smb"),
    (0xff53_4d42, "cifs"),
    (0x0102_1997, "9p"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlay"),
    (0xf2f5_2010, "f2fs"),
];

pub(super) fn gather(files: &Files<'_>, data_dir: &Path, facts: &mut Facts) {
    facts.filesystems.extend(filesystem(files.0, "/", false));
    // Before the first start there is no such directory: it will be made on this disk.
    let exists = data_dir.ancestors().find(|dir| dir.exists());
    let shown = data_dir.display().to_string();
    facts.filesystems.extend(exists.and_then(|dir| filesystem(dir, &shown, true)));
    for device in files.names("sys/block") {
        facts.flash.extend(flash(files, device));
    }
    facts.swaps = swaps(files);
}

#[allow(clippy::useless_conversion, reason = "the fields are narrower on 32-bit boards")]
#[allow(clippy::unnecessary_cast, reason = "the type differs between C libraries")]
fn filesystem(dir: &Path, shown: &str, data: bool) -> Option<Filesystem> {
    let room = statvfs(dir).ok()?;
    let number = statfs(dir).ok()?.filesystem_type().0 as i64 & 0xffff_ffff;
    let kind = KINDS.iter().find(|(known, _)| *known == number).map(|(_, kind)| *kind);
    let unit = u64::from(room.fragment_size());
    Some(Filesystem {
        path: shown.to_owned(),
        data,
        kind: kind.map_or_else(|| format!("a disk (type {number:#x})"), str::to_owned),
        read_only: room.flags().contains(FsFlags::ST_RDONLY),
        bytes: u64::from(room.blocks()) * unit,
        bytes_free: u64::from(room.blocks_available()) * unit,
        files: u64::from(room.files()),
        files_free: u64::from(room.files_available()),
    })
}

/// A device's registers of wear; 0 means that it doesn't know.
fn flash(files: &Files<'_>, device: String) -> Option<Flash> {
    let words = |name: &str| {
        let text = files.line(&format!("sys/block/{device}/device/{name}")).unwrap_or_default();
        let numbers = text.split_ascii_whitespace();
        let number = |word: &str| u32::from_str_radix(word.trim_start_matches("0x"), 16).ok();
        numbers.filter_map(number).filter(|number| *number > 0).collect::<Vec<_>>()
    };
    let (life, spare) = (words("life_time"), words("pre_eol_info").first().copied());
    (!life.is_empty() || spare.is_some()).then_some(Flash { device, life, spare })
}

fn swaps(files: &Files<'_>) -> Vec<Swap> {
    let table = files.text("proc/swaps").unwrap_or_default();
    let read = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let path = fields.next()?.replace("\\040", " ");
        let bytes = fields.nth(1)?.parse::<u64>().ok()? << 10;
        let device = device_of(files, &path)?;
        Some(Swap { flash: is_flash(files, &device), path, bytes })
    };
    table.lines().skip(1).filter_map(read).collect()
}

/// The block device that a path is, or is on.
fn device_of(files: &Files<'_>, path: &str) -> Option<String> {
    if let Some(device) = path.strip_prefix("/dev/") {
        let behind = files.line(&format!("sys/block/{device}/loop/backing_file"));
        return match behind {
            Some(file) if !file.starts_with("/dev/") => device_of(files, &file),
            _ => Some(device.to_owned()),
        };
    }
    let mounts = files.text("proc/self/mounts")?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (source, at) = (fields.next()?, fields.next()?);
        Path::new(path).starts_with(at).then_some((at.len(), source))
    });
    // Of two at the same place, the later one covers the earlier.
    let (_, source) = mounts.max_by_key(|(length, _)| *length)?;
    Some(source.strip_prefix("/dev/").unwrap_or(source).to_owned())
}

/// Whether a device is a card, eMMC or a stick: what wears out soonest. Sticks and cards in readers
/// say that they are removable; turning disks and SSDs do not, however they are plugged in. What a
/// device says of turning tells nothing: sticks say that they turn.
fn is_flash(files: &Files<'_>, device: &str) -> bool {
    let boots_from_card = || {
        let line = files.line("proc/cmdline").unwrap_or_default();
        line.split(' ').any(|word| word.starts_with("root=/dev/mmcblk"))
            || files.names("sys/block").iter().any(|name| name.starts_with("mmcblk"))
    };
    match device {
        "root" => boots_from_card(),
        device if device.starts_with("mmcblk") => true,
        device if device.starts_with("sd") => {
            let disk = device.trim_end_matches(|c: char| c.is_ascii_digit());
            files.number::<u8>(&format!("sys/block/{disk}/removable")) == Some(1)
        }
        _ => false,
    }
}
