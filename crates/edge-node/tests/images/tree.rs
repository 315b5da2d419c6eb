//! Everything that can be told of a directory tree, as text, one line an entry, to be compared.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Path to description.
pub(crate) type Tree = BTreeMap<String, String>;

/// Describes all below `root`. Times of directories are left out: podman gives those that a layer
/// uses but doesn't mention the time of unpacking, we what they have in the layer beneath.
pub(crate) fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut first: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii();
        let name = format!("./{name}");
        let kind = meta.file_type();
        let mut line = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
        if !kind.is_dir() {
            line.push_str(&format!(" t={}.{:09}", meta.mtime(), meta.mtime_nsec()));
        }
        if kind.is_symlink() {
            line.push_str(&format!(" -> {:?}", fs::read_link(&path).unwrap()));
        } else if kind.is_char_device() || kind.is_block_device() {
            line.push_str(&format!(" device {:x}", meta.rdev()));
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            let sum = bytes.iter().fold(17u64, |sum, b| {
                sum.wrapping_mul(1_099_511_628_211).wrapping_add(u64::from(*b))
            });
            line.push_str(&format!(" {} bytes {sum:x}", bytes.len()));
        }
        if !kind.is_dir() && meta.nlink() > 1 {
            // Which of the names was seen first depends on nothing but their order.
            let key = (meta.dev(), meta.ino());
            line.push_str(&format!(" inode of {}", first.entry(key).or_insert(name.clone())));
        }
        for (key, value) in xattrs(&path) {
            line.push_str(&format!(" {key}={}", value.escape_ascii()));
        }
        if kind.is_dir() {
            let mut children: Vec<_> =
                fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            children.sort();
            pending.extend(children.into_iter().rev());
        }
        tree.insert(name, line);
    }
    // A layer without an entry for the root leaves its mode open: podman takes 0555, we 0755.
    tree.remove("./");
    tree
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0u8; 65536];
    let length = rustix::fs::llistxattr(path, list.as_mut_slice()).unwrap_or(0);
    let mut found = BTreeMap::new();
    for key in list[..length].split(|b| *b == 0).filter(|key| !key.is_empty()) {
        let mut value = vec![0u8; 65536];
        let length = rustix::fs::lgetxattr(path, key, value.as_mut_slice()).unwrap();
        value.truncate(length);
        found.insert(String::from_utf8(key.to_vec()).unwrap(), value);
    }
    found
}

/// Fails with the lines that differ.
pub(crate) fn assert_same(what: &str, ours: &Tree, theirs: &Tree) {
    let mut differences = Vec::new();
    for path in ours.keys().chain(theirs.keys().filter(|path| !ours.contains_key(*path))) {
        let nothing = "(nothing)".to_string();
        let (a, b) = (ours.get(path).unwrap_or(&nothing), theirs.get(path).unwrap_or(&nothing));
        if a != b {
            differences.push(format!("{path}\n   ours: {a}\n theirs: {b}"));
        }
    }
    assert!(differences.is_empty(), "{what}:\n{}", differences.join("\n"));
    assert!(ours.len() > 20, "{what}: only {} entries compared", ours.len());
}
