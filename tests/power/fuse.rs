//! The recording disk as a loop device of this machine: its file lies in a file system of our own
//! (FUSE, spoken here), so that every block that the kernel writes and every flush that it asks
//! for comes by. On the device is an ext4 with its journal, as on a card.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::disk::Disk;
use crate::board::command::must;

/// The most bytes of one write.
const WRITE_MAX: u32 = 128 * 1024;
/// A request: a head, an argument, and the bytes of a write.
const REQUEST_MAX: usize = WRITE_MAX as usize + 8192;
const HEAD: usize = 40;
const WRITE_HEAD: usize = 40;
/// How the kernel and we speak.
const VERSION: (u32, u32) = (7, 31);
const BIG_WRITES: u32 = 1 << 5;
const ROOT: u64 = 1;
const NODE: u64 = 2;
const NAME: &[u8] = b"disk";
const IS_DIR: u32 = 0o040_700;
const IS_FILE: u32 = 0o100_600;

/// A mounted file system on a recording disk; unmounted when this is dropped.
pub(crate) struct Mounted {
    dir: PathBuf,
    device: String,
}

/// Whether this machine has what it takes: root, FUSE, loop devices and ext4.
pub(crate) fn can_run() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let fuse = known.lines().any(|line| line.trim_end().ends_with("\tfuse"));
    let ext4 = known.lines().any(|line| line.trim_end().ends_with("\text4"));
    let loops = ["/dev/fuse", "/dev/loop-control"].iter().all(|path| Path::new(path).exists());
    let programs = ["losetup", "mke2fs"].iter().all(|name| crate::board::command::has(name));
    if root && fuse && ext4 && loops && programs {
        return true;
    }
    eprintln!(
        "SKIPPED: disks that lose power need root ({root}), FUSE ({fuse}), ext4 ({ext4}), loop \
         devices ({loops}), losetup and mke2fs ({programs})"
    );
    false
}

/// An empty ext4 of so many MiB, as `mke2fs` makes it, with nothing left to be made later.
pub(crate) fn empty(dir: &Path, mib: u64) -> Vec<u8> {
    std::fs::create_dir_all(dir).expect("a directory");
    let path = dir.join("empty.img");
    let file = File::create(&path).expect("an image");
    file.set_len(mib << 20).expect("an image's length");
    let shown = path.display().to_string();
    let now = "lazy_itable_init=0,lazy_journal_init=0";
    must("mke2fs", &["-q", "-F", "-t", "ext4", "-E", now, &shown]);
    let image = std::fs::read(&path).expect("an image");
    std::fs::remove_file(&path).expect("a file of ours");
    image
}

impl Mounted {
    /// Mounts a disk's file system at `<dir>/disk`.
    pub(crate) fn new(disk: Arc<Disk>, dir: &Path) -> Mounted {
        let fuse = dir.join("fuse");
        let place = dir.join("disk");
        for dir in [&fuse, &place] {
            std::fs::create_dir_all(dir).expect("a directory");
        }
        serve(disk, &fuse);
        let device = attach(&fuse.join("disk"));
        mount_ext4(&device, &place);
        Mounted { dir: dir.to_owned(), device }
    }

    /// Where the files are.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join("disk")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.path());
        must("losetup", &["-d", &self.device]);
        unmount(&self.dir.join("fuse"));
    }
}

/// What a cut left, mounted as the next boot would; unmounted when this is dropped.
pub(crate) struct Left {
    place: PathBuf,
    device: String,
    file: PathBuf,
}

impl Left {
    /// Mounts an image at `<dir>/left`; the journal is replayed. A superblock that is torn between
    /// its two sectors is none for the kernel: it is mended from a copy, as the card's start does
    /// (images/card/init). Whatever the kernel has against it otherwise is the error.
    pub(crate) fn mount(image: &[u8], dir: &Path) -> Result<Left, String> {
        const CHUNK: usize = 64 * 1024;
        let (place, file) = (dir.join("left"), dir.join("left.img"));
        std::fs::create_dir_all(&place).expect("a directory");
        let mut out = File::create(&file).expect("an image");
        out.set_len(image.len() as u64).expect("an image's length");
        for (number, chunk) in image.chunks(CHUNK).enumerate() {
            if chunk.iter().any(|byte| *byte != 0) {
                let at = (number * CHUNK) as u64;
                std::os::unix::fs::FileExt::write_all_at(&out, chunk, at).expect("an image");
            }
        }
        out.flush().expect("an image");
        let device = attach(&file);
        let left = Left { place, device, file };
        let none: Option<&str> = None;
        let mounted =
            || mount(Some(&*left.device), &left.place, Some("ext4"), MsFlags::empty(), none);
        let outcome = match mounted() {
            Err(Errno::EBADMSG) => {
                println!("ext4's superblock is torn: {}", left.mend());
                mounted()
            }
            outcome => outcome,
        };
        outcome.map_err(|error| format!("mounting what the cut left: {error}"))?;
        Ok(left)
    }

    /// Has `e2fsck` mend it, and gives what that says last.
    fn mend(&self) -> String {
        let output = Command::new("e2fsck").args(["-y", &self.device]).output().expect("e2fsck");
        let said = String::from_utf8_lossy(&output.stdout);
        format!("{}: {}", output.status, said.lines().last().unwrap_or_default())
    }

    /// Where the files are.
    pub(crate) fn path(&self) -> &Path {
        &self.place
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
        let _ = std::fs::remove_file(&self.file);
    }
}

fn attach(file: &Path) -> String {
    must("losetup", &["-f", "--show", &file.display().to_string()]).trim().to_owned()
}

fn mount_ext4(device: &str, place: &Path) {
    let none: Option<&str> = None;
    mount(Some(device), place, Some("ext4"), MsFlags::empty(), none).expect("an ext4 is mounted");
}

fn unmount(place: &Path) {
    // Whoever wrote there may still be ending.
    for _ in 0..200 {
        if umount2(place, MntFlags::empty()).is_ok() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let _ = umount2(place, MntFlags::MNT_DETACH);
}

/// Mounts a file system with one file, the disk, and serves it on a thread until it is unmounted.
fn serve(disk: Arc<Disk>, dir: &Path) {
    let mut options = File::options();
    let device = options.read(true).write(true).open("/dev/fuse").expect("/dev/fuse opens");
    let words = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    mount(Some("edged-test"), dir, Some("fuse"), MsFlags::empty(), Some(&*words))
        .expect("a FUSE is mounted");
    std::thread::spawn(move || {
        let mut buffer = vec![0; REQUEST_MAX];
        while let Ok(length) = (&device).read(&mut buffer) {
            answer(&disk, &device, &buffer[..length]);
        }
    });
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(*bytes[at..].first_chunk().expect("a whole request"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(*bytes[at..].first_chunk().expect("a whole request"))
}

/// Answers one request of the kernel's.
fn answer(disk: &Disk, device: &File, request: &[u8]) {
    let (code, node) = (u32_at(request, 4), u64_at(request, 16));
    let body = &request[HEAD..];
    let told: Result<Vec<u8>, i32> = match code {
        // FORGET, INTERRUPT and BATCH_FORGET want no answer.
        2 | 36 | 42 => return,
        // LOOKUP, of a name that ends with a zero.
        1 if body.strip_suffix(b"\0") == Some(NAME) => {
            let mut out = numbers(&[NODE, 0, 1, 1, 0]);
            out.extend(attributes(NODE, disk));
            Ok(out)
        }
        1 => Err(libc::ENOENT),
        // GETATTR and SETATTR.
        3 | 4 => {
            let mut out = numbers(&[1, 0]);
            out.extend(attributes(node, disk));
            Ok(out)
        }
        // OPEN and OPENDIR.
        14 | 27 => Ok(numbers(&[0, 0])),
        // READ.
        15 => Ok(disk.read(u64_at(body, 8), u32_at(body, 16) as usize)),
        // WRITE.
        16 => {
            let size = u32_at(body, 16);
            disk.write(u64_at(body, 8), &body[WRITE_HEAD..WRITE_HEAD + size as usize], false);
            Ok(numbers(&[u64::from(size)]))
        }
        // STATFS.
        17 => Ok(vec![0; 80]),
        // FSYNC: this is the flush that the file system on the device has asked for.
        20 => {
            disk.flush();
            Ok(Vec::new())
        }
        // RELEASE, FLUSH (a close) and RELEASEDIR.
        18 | 25 | 29 => Ok(Vec::new()),
        // INIT.
        26 => {
            let mut out = Vec::new();
            for word in [VERSION.0, VERSION.1, WRITE_MAX, BIG_WRITES, 0, WRITE_MAX, 1] {
                out.extend_from_slice(&word.to_ne_bytes());
            }
            out.resize(64, 0);
            Ok(out)
        }
        _ => Err(libc::ENOSYS),
    };
    let (error, bytes) = match told {
        Ok(bytes) => (0, bytes),
        Err(error) => (-error, Vec::new()),
    };
    let mut out = Vec::with_capacity(16 + bytes.len());
    out.extend_from_slice(&(16 + bytes.len() as u32).to_ne_bytes());
    out.extend_from_slice(&error.to_ne_bytes());
    out.extend_from_slice(&request[8..16]);
    out.extend_from_slice(&bytes);
    // A request that was interrupted meanwhile has nobody who waits.
    let mut device = device;
    let _ = device.write(&out);
}

fn numbers(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// What the kernel wants to know of a node.
fn attributes(node: u64, disk: &Disk) -> Vec<u8> {
    let (mode, size) = if node == ROOT { (IS_DIR, 0) } else { (IS_FILE, disk.length() as u64) };
    let mut out = numbers(&[node, size, size / 512, 0, 0, 0]);
    for word in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        out.extend_from_slice(&u32::to_ne_bytes(word));
    }
    out
}

#[cfg(test)]
#[test]
fn a_torn_superblock_is_mended() {
    if !can_run() {
        return;
    }
    let dir = crate::store::Directory::quick();
    let mut image = empty(&dir.0, 16);
    // Its count of free blocks lies in the first sector, its checksum in the second.
    image[1024 + 12] ^= 1;
    Left::mount(&image, &dir.0).map(drop).expect("mended from a copy");
}
