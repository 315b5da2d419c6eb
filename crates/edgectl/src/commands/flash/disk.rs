//! Whether a device may be written over. What Linux says of it is read below `/sys` and `/proc`;
//! the judgement is apart from it.
#![cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "elsewhere it is refused before anything is looked at")
)]

use crate::fault::Fault;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::card::PROTECTED;

const SECTOR: u64 = 512;

/// What a computer that runs needs; whatever has one of them mounted is its own disk.
const SYSTEM: [&str; 6] = ["/", "/boot", "/boot/firmware", "/boot/efi", "/usr", "/var"];

/// Where the kernel tells of its devices; a test has its own.
pub(super) struct Machine {
    sys: PathBuf,
    proc: PathBuf,
}

impl Machine {
    /// The one that this runs on.
    pub(super) fn this() -> Machine {
        Machine { sys: "/sys".into(), proc: "/proc".into() }
    }
}

/// What is known of a device.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    path: PathBuf,
    /// `SanDisk Ultra`, if it says.
    model: String,
    size: u64,
    /// Another card in the same reader has another number.
    sequence: String,
    read_only: bool,
    /// A card, or on USB.
    removable: bool,
    /// It is a part of this disk.
    part_of: Option<String>,
    /// Where it, or a part of it, is mounted.
    mounts: Vec<String>,
    swap: bool,
    /// What is made of it: an encrypted or a RAID device.
    holders: Vec<String>,
}

impl Facts {
    /// For people.
    pub(super) fn shown(&self) -> String {
        let model = if self.model.is_empty() { "" } else { ", " };
        format!("{} ({}{model}{})", self.path.display(), super::megabytes(self.size), self.model)
    }
}

/// A file in the place of a device.
pub(super) fn file(path: &Path) -> Result<Facts, Fault> {
    let found = std::fs::metadata(path).map_err(|e| Fault::io(path.display().to_string(), e))?;
    if !found.is_file() {
        return Err(Fault::text(format!("{}: it is no file: leave --file out", path.display())));
    }
    let read_only = found.permissions().readonly();
    Ok(Facts { path: path.to_owned(), size: found.len(), read_only, ..Facts::default() })
}

/// Says whether `needed` bytes may be written to the device.
pub(super) fn judge(facts: &Facts, needed: u64, fixed_too: bool) -> Result<(), Fault> {
    let no = |what: String| Err(Fault::text(format!("{}: {what}", facts.path.display())));
    if let Some(disk) = &facts.part_of {
        return no(format!("it is a partition: name the whole card, /dev/{disk}"));
    }
    if let Some(place) = facts.mounts.iter().find(|place| SYSTEM.contains(&place.as_str())) {
        return no(format!("it is this computer's own disk: {place} is on it"));
    }
    if facts.swap {
        return no("it is this computer's own disk: it has its swap".to_owned());
    }
    if let Some(place) = facts.mounts.first() {
        return no(format!("it is in use: unmount it first (umount {place})"));
    }
    if let Some(holder) = facts.holders.first() {
        return no(format!("it is a part of {holder}, which is in use"));
    }
    if facts.size == 0 {
        return no("there is no card in it".to_owned());
    }
    if facts.read_only {
        return no(PROTECTED.to_owned());
    }
    if facts.size < needed {
        let [has, wants] = [facts.size, needed].map(super::megabytes);
        return no(format!("it is too small: it has {has}, and the image needs {wants}"));
    }
    match facts.removable || fixed_too {
        true => Ok(()),
        false => no("it is a fixed disk, and no card: say --force-fixed if you mean it".to_owned()),
    }
}

/// Asks the kernel about a device.
#[cfg(target_os = "linux")]
pub(super) fn facts(machine: &Machine, path: &Path) -> Result<Facts, Fault> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let name = path.display();
    let found = std::fs::metadata(path).map_err(|e| Fault::io(name.to_string(), e))?;
    if !found.file_type().is_block_device() {
        let hint = if found.is_file() { ": say --file if you mean a file" } else { "" };
        return Err(Fault::text(format!("{name}: it is no disk{hint}")));
    }
    let number = format!("{}:{}", rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    let dir = machine.sys.join("dev/block").join(number);
    let dir = dir.canonicalize().map_err(|e| Fault::io(format!("look at {name}"), e))?;
    Ok(of(machine, path, &dir))
}

/// Other systems say such things in other ways.
#[cfg(not(target_os = "linux"))]
pub(super) fn facts(_: &Machine, path: &Path) -> Result<Facts, Fault> {
    Err(Fault::text(format!(
        "{}: cards are flashed on Linux only so far: unpack the image (zstd -d) and write it with \
         Raspberry Pi Imager, or with balenaEtcher",
        path.display()
    )))
}

fn text(path: PathBuf) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// What the directory of a device below `/sys/devices` says.
fn of(machine: &Machine, path: &Path, dir: &Path) -> Facts {
    let own = |dir: &Path| dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let part = dir.join("partition").exists();
    let mut facts = Facts {
        path: path.to_owned(),
        model: text(dir.join("device/model")),
        size: text(dir.join("size")).parse::<u64>().unwrap_or(0).saturating_mul(SECTOR),
        sequence: text(dir.join("diskseq")),
        read_only: text(dir.join("ro")) == "1",
        part_of: part.then(|| dir.parent().map(own)).flatten(),
        ..Facts::default()
    };
    let usb = dir.components().any(|c| c.as_os_str().to_string_lossy().starts_with("usb"));
    // A card in a reader of the board's own is not said to be removable.
    let card = text(dir.join("device/type")) == "SD";
    facts.removable = usb || card || text(dir.join("removable")) == "1";
    let (mut devices, mut known) = (Vec::new(), BTreeSet::new());
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        if !known.insert(own(&dir)) {
            continue;
        }
        devices.push(text(dir.join("dev")));
        let inner = names(&dir).into_iter().map(|name| dir.join(name));
        todo.extend(inner.filter(|inner| inner.join("partition").exists()));
        for holder in names(&dir.join("holders")) {
            if let Ok(dir) = machine.sys.join("class/block").join(&holder).canonicalize() {
                todo.push(dir);
            }
            facts.holders.push(holder);
        }
    }
    let mounted = text(machine.proc.join("self/mountinfo"));
    for line in mounted.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, _, device, _, place, ..] = words[..] else { continue };
        let source = words.iter().skip_while(|w| **w != "-").nth(2).unwrap_or(&"");
        let named = source.strip_prefix("/dev/").is_some_and(|name| known.contains(name));
        if named || devices.iter().any(|d| d == device) {
            facts.mounts.push(place.to_owned());
        }
    }
    let swaps = text(machine.proc.join("swaps"));
    let mut swaps = swaps.lines().filter_map(|line| line.split_whitespace().next());
    facts.swap = swaps.any(|s| s.strip_prefix("/dev/").is_some_and(|name| known.contains(name)));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A machine with a system disk, a card with a mounted part, an empty reader and others.
    fn machine() -> (PathBuf, Machine) {
        let dir = std::env::temp_dir().join(format!("edgectl-disks-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let device = |path: &str, files: &[(&str, &str)]| {
            for (name, text) in files {
                let file = dir.join("sys/devices").join(path).join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, format!("{text}\n")).unwrap();
            }
        };
        let big = ("size", "4000000");
        device("pci/nvme0n1", &[big, ("dev", "259:0"), ("ro", "0"), ("removable", "0")]);
        device("pci/nvme0n1/nvme0n1p1", &[("dev", "259:1"), ("partition", "1")]);
        device("pci/nvme0n1/nvme0n1p1/holders", &[("dm-0", "")]);
        device("virtual/dm-0", &[("dev", "254:0")]);
        device("pci/usb1/1-1/sda", &[big, ("dev", "8:0"), ("ro", "0"), ("device/model", "Ultra")]);
        device("pci/usb1/1-1/sda/sda1", &[("dev", "8:1"), ("partition", "1"), ("size", "9")]);
        device("pci/usb1/1-2/sdb", &[("size", "0"), ("dev", "8:16"), ("ro", "0")]);
        device("mmc/mmcblk0", &[big, ("dev", "179:0"), ("ro", "1"), ("device/type", "SD")]);
        device("pci/sdc", &[big, ("dev", "8:32"), ("ro", "0"), ("removable", "0")]);
        device("pci/usb1/1-3/sdd", &[big, ("dev", "8:48"), ("ro", "0")]);
        device("pci/sde", &[big, ("dev", "8:64"), ("ro", "0"), ("removable", "1")]);
        fs::create_dir_all(dir.join("sys/class/block")).unwrap();
        let dm = dir.join("sys/devices/virtual/dm-0");
        std::os::unix::fs::symlink(dm, dir.join("sys/class/block/dm-0")).unwrap();
        fs::create_dir_all(dir.join("proc/self")).unwrap();
        let table = "22 1 254:0 / / rw - ext4 /dev/mapper/root rw\n\
                     30 22 8:1 / /media/me rw - vfat /dev/sda1 rw\n\
                     31 22 0:44 / /data rw - btrfs /dev/sdd rw\n";
        fs::write(dir.join("proc/self/mountinfo"), table).unwrap();
        fs::write(dir.join("proc/swaps"), "Filename Type\n/dev/sde partition 1 0 -2\n").unwrap();
        let machine = Machine { sys: dir.join("sys"), proc: dir.join("proc") };
        (dir, machine)
    }

    #[test]
    fn only_a_card_that_nobody_uses() {
        let (dir, machine) = machine();
        let told = |place: &str, needed: u64, force: bool| {
            let path = Path::new("/dev").join(place.rsplit('/').next().unwrap());
            let facts = of(&machine, &path, &machine.sys.join("devices").join(place));
            judge(&facts, needed, force).err().map(|fault| fault.to_string()).unwrap_or_default()
        };
        for (place, needed, force, words) in [
            ("pci/nvme0n1", 0, true, "own disk: / is on it"),
            ("pci/usb1/1-1/sda", 0, true, "umount /media/me"),
            ("pci/usb1/1-1/sda/sda1", 0, true, "name the whole card, /dev/sda"),
            ("pci/usb1/1-2/sdb", 0, true, "no card in it"),
            ("mmc/mmcblk0", 0, true, "write-protected"),
            ("pci/sdc", 0, false, "--force-fixed"),
            ("pci/usb1/1-3/sdd", 0, true, "umount /data"),
            ("pci/sde", 0, true, "its swap"),
        ] {
            let told = told(place, needed, force);
            assert!(told.contains(words) && !told.contains('\n'), "{place}: {told}");
        }
        assert_eq!(told("pci/sdc", 1, true), "");
        fs::write(dir.join("proc/self/mountinfo"), "").unwrap();
        assert_eq!(told("pci/usb1/1-3/sdd", 2_048_000_000, false), "");
        let small = told("pci/usb1/1-3/sdd", 2_048_000_001, false);
        assert!(small.contains("it has 2048 MB, and the image needs 2049 MB"), "{small}");
        assert!(told("pci/nvme0n1", 0, true).contains("part of dm-0"), "held, though not mounted");
        fs::remove_dir_all(dir).unwrap();
    }
}
