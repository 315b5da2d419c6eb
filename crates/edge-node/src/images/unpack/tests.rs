//! Layers good and hostile: what comes out, and that nothing leaves the layer's directory. What
//! takes root (owners, devices, opaque marks) is checked where root is.

use super::super::tarstream::TarReader;
use super::super::tests::samples::{Scratch, Tar, record};
use super::attributes::OPAQUE_XATTR;
use super::*;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use tar::EntryType;

/// A scratch directory with a stack of layers in it and a canary beside them.
struct Stack {
    scratch: Scratch,
    layers: Vec<PathBuf>,
}

impl Stack {
    fn new() -> Stack {
        let scratch = Scratch::new("unpack");
        fs::write(scratch.0.join("canary"), b"alive").unwrap();
        Stack { scratch, layers: Vec::new() }
    }

    fn add(&mut self, tar: Tar) -> Result<Outcome, ImageError> {
        self.add_limited(tar, Limits { bytes: 1 << 30 })
    }

    fn add_limited(&mut self, tar: Tar, limits: Limits) -> Result<Outcome, ImageError> {
        let dir = self.scratch.0.join(format!("layer{}", self.layers.len()));
        drop(fs::remove_dir_all(&dir));
        fs::create_dir(&dir).unwrap();
        let lowers: Vec<PathBuf> = self.layers.iter().rev().cloned().collect();
        let bytes = tar.end();
        let mut tar = TarReader::new(bytes.as_slice());
        let result = unpack("layer", &mut tar, &dir, &lowers, limits, None);
        assert_eq!(fs::read(self.scratch.0.join("canary")).unwrap(), b"alive");
        let expected = self.layers.len() + 2;
        assert_eq!(fs::read_dir(&self.scratch.0).unwrap().count(), expected, "it got out");
        self.layers.push(dir);
        if result.is_err() {
            self.layers.pop();
            fs::remove_dir_all(self.scratch.0.join(format!("layer{}", self.layers.len()))).unwrap();
        }
        result
    }

    fn path(&self, path: &str) -> PathBuf {
        self.layers.last().unwrap().join(path)
    }

    fn meta(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.path(path)).unwrap()
    }

    fn text(&self, path: &str) -> String {
        String::from_utf8(fs::read(self.path(path)).unwrap()).unwrap()
    }

    fn whiteout(&self, path: &str) -> bool {
        let meta = self.meta(path);
        meta.file_type().is_char_device() && meta.rdev() == 0
    }

    fn opaque(&self, path: &str) -> bool {
        let mut value = [0u8; 8];
        rustix::fs::lgetxattr(self.path(path), OPAQUE_XATTR, &mut value).is_ok_and(|n| n == 1)
    }
}

/// Some checks need root; say so instead of passing in silence.
fn root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED {test}: it needs root");
    }
    root
}

fn one(tar: Tar) -> Stack {
    let mut stack = Stack::new();
    stack.add(tar).unwrap();
    stack
}

fn refused(tar: Tar, word: &str) {
    let error = Stack::new().add(tar).expect_err(word).to_string();
    assert!(error.contains(word), "{word}: {error}");
    assert_eq!(error.lines().count(), 1);
}

#[test]
fn plain_things_come_out_as_they_went_in() {
    let mut tar = Tar::default()
        .moded(EntryType::Directory, "./", b"", 0o700)
        .moded(EntryType::Directory, "tmp/", b"", 0o1777)
        .moded(EntryType::Regular, "bin/su", b"#!", 0o4755)
        .moded(EntryType::Regular, "none", b"", 0)
        .moded(EntryType::Fifo, "pipe", b"", 0o620)
        .symlink("lib", "usr/lib")
        .symlink("out", "../../../../etc/passwd")
        .symlink("dangling", "/no/where")
        .link("also-su", "/bin/su")
        .link("lib2", "lib")
        .file("\u{fe}weird\nname \u{1F980}", b"x");
    tar.add(EntryType::Regular, b"\xff\xfe", b"bytes", b"", |header| header.set_mtime(7));
    let stack = one(tar);
    let mode = |path: &str| stack.meta(path).permissions().mode() & 0o7777;
    assert_eq!((mode(""), mode("tmp"), mode("bin/su"), mode("none")), (0o700, 0o1777, 0o4755, 0));
    assert!(stack.meta("pipe").file_type().is_fifo() && mode("pipe") == 0o620);
    assert_eq!(fs::read_link(stack.path("out")).unwrap(), Path::new("../../../../etc/passwd"));
    assert_eq!(stack.meta("also-su").ino(), stack.meta("bin/su").ino());
    assert_eq!(stack.meta("lib2").ino(), stack.meta("lib").ino());
    assert_eq!(stack.meta("tmp").mtime(), 1_000_000_000);
    assert_eq!(stack.meta("").mtime(), 1_000_000_000);
    let odd = stack.path("").join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    assert_eq!(fs::metadata(odd).unwrap().mtime(), 7);
}

#[test]
fn owners_times_and_attributes_are_kept() {
    if !root("owners_times_and_attributes_are_kept") {
        return;
    }
    let mut records = Vec::new();
    let capability =
        b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    for (key, value) in [
        (&b"SCHILY.xattr.user.note"[..], &b"hi\0there"[..]),
        (b"SCHILY.xattr.security.capability", capability),
        (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
        (b"SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        (b"SCHILY.xattr.user.overlay.whiteout", b"y"),
        (b"mtime", b"-1.25"),
        (b"uid", b"3000000"),
    ] {
        record(&mut records, key, value);
    }
    let mut tar = Tar::default();
    tar.records(&records);
    tar.add(EntryType::Regular, b"ping", b"#!", b"", |header| {
        header.set_mode(0o4711);
        header.set_gid(1234);
    });
    let stack = one(tar);
    let meta = stack.meta("ping");
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (3_000_000, 1234, 0o4711));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-2, 750_000_000));
    let get = |key: &str| {
        let mut value = [0u8; 64];
        let n = rustix::fs::lgetxattr(stack.path("ping"), key, &mut value).ok()?;
        Some(value[..n].to_vec())
    };
    assert_eq!(get("user.note").unwrap(), b"hi\0there");
    assert_eq!(get("security.capability").unwrap(), capability);
    for key in ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.whiteout"] {
        assert_eq!(get(key), None, "{key}");
    }
}

#[test]
fn nothing_gets_out() {
    refused(Tar::default().file("../canary", b"dead"), "leads out");
    refused(Tar::default().file("a/../../canary", b"dead"), "leads out");
    refused(Tar::default().dir("d").link("d/x", "../canary"), "leads out");
    refused(Tar::default().file("/../canary", b"dead"), "leads out");
    refused(Tar::default().link("x", "/etc/passwd"), "not there");
    refused(Tar::default().symlink("up", "..").link("x", "up/canary"), "not there");
    refused(Tar::default().file("f", b"").file("f/x", b""), "no directory");
    refused(Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", b""), "too many");
    refused(Tar::default().link("x", "x"), "not there");
    refused(Tar::default().file("x", b"").link("x", "x"), "itself");
    refused(Tar::default().dir("d").link("x", "d"), "directory");
    refused(Tar::default().file("./", b"x"), "root of a layer");
    refused(Tar::default().symlink("x", ""), "without a target");
    refused(Tar::default().file("d/.wh...", b""), "names no file");
    refused(Tar::default().file("d/.wh.", b""), "names no file");
    refused(Tar::default().file(&"n".repeat(300), b""), "longer than 255");
    refused(Tar::default().file(&"dir/".repeat(1100), b""), "longer than 4095");
    refused(Tar::default().raw(EntryType::new(b'V'), b"x", b"", b""), "type 0x56");
    refused(Tar::default().pax(b"path", b"a\0b").file("x", b""), "zero byte");
}

#[test]
fn links_are_followed_only_inside_the_layer() {
    let stack = one(Tar::default()
        .symlink("abs", "/")
        .symlink("up", "../../../..")
        .file("abs/one", b"1")
        .file("up/two", b"2")
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .file("lib/three", b"3")
        .symlink("deep", "./usr/../lib/.")
        .link("deep/four", "lib/three"));
    assert_eq!((stack.text("one").as_str(), stack.text("two").as_str()), ("1", "2"));
    assert_eq!(stack.text("usr/lib/three"), "3");
    assert_eq!(stack.text("usr/lib/four"), "3");
    assert!(stack.meta("lib").file_type().is_symlink());
}

#[test]
fn the_last_of_several_entries_wins() {
    let stack = one(Tar::default()
        .file("f", b"first")
        .file("f", b"second")
        .dir("d")
        .file("d/kept", b"k")
        .moded(EntryType::Directory, "d", b"", 0o711)
        .file("to-link", b"x")
        .symlink("to-link", "f")
        .file("to-link", b"own")
        .dir("gone")
        .file("gone/deep/deeper", b"x")
        .file("gone", b"now a file")
        .symlink("s", "d")
        .dir("s")
        .file("s/inside", b"i"));
    assert_eq!(stack.text("f"), "second");
    assert_eq!(stack.text("d/kept"), "k");
    assert_eq!(stack.meta("d").permissions().mode() & 0o777, 0o711);
    assert_eq!(stack.text("to-link"), "own");
    assert_eq!(stack.text("gone"), "now a file");
    assert!(stack.meta("s").is_dir() && !stack.path("d/inside").exists());
}

#[test]
fn whiteouts_hide_what_is_beneath_and_only_that() {
    if !root("whiteouts_hide_what_is_beneath_and_only_that") {
        return;
    }
    let mut stack = Stack::new();
    let beneath = Tar::default()
        .moded(EntryType::Directory, "a", b"", 0o2750)
        .file("a/x", b"")
        .file("a/y", b"")
        .dir("b/sub")
        .file("c", b"");
    stack.add(beneath).unwrap();
    let tar = Tar::default()
        .file("a/.wh.x", b"")
        .file("b/.wh..wh..opq", b"")
        .file("b/new", b"n")
        .file(".wh.c", b"")
        .file("c/now/a/dir", b"d")
        .dir("d")
        .file("d/f", b"f")
        .file(".wh.d", b"")
        .file("e", b"e")
        .file(".wh.e", b"")
        .file(".wh..wh.plnk/1.2", b"")
        .file(".wh.gone", b"")
        .file("gone", b"back")
        .file(".wh.all", b"")
        .file("all/.wh.of", b"")
        .file("all/of/.wh..wh..opq", b"")
        .file("was-dir", b"file")
        .file("was-dir/.wh.x", b"");
    stack.add(tar).unwrap();
    assert!(stack.whiteout("a/x") && stack.whiteout("all") && stack.text("was-dir") == "file");
    assert_eq!(stack.meta("a").permissions().mode() & 0o7777, 0o2750, "as beneath");
    assert_eq!(stack.meta("a").mtime(), 1_000_000_000);
    assert!(stack.opaque("b") && !stack.opaque("a"));
    assert!(stack.opaque("c") && stack.text("c/now/a/dir") == "d");
    assert!(stack.opaque("d") && stack.text("d/f") == "f");
    assert_eq!((stack.text("e"), stack.text("gone")), ("e".into(), "back".into()));
    assert!(!stack.path(".wh..wh.plnk").exists() && !stack.path(".wh.c").exists());
}

#[test]
fn hard_links_reach_into_layers_beneath() {
    if !root("hard_links_reach_into_layers_beneath") {
        return;
    }
    let mut stack = Stack::new();
    let tar = Tar::default()
        .moded(EntryType::Directory, "etc", b"", 0o711)
        .pax(b"SCHILY.xattr.user.k", b"v")
        .moded(EntryType::Regular, "etc/deep", b"deep", 0o6755)
        .symlink("etc/sym", "deep")
        .file("hidden/f", b"")
        .file("gone", b"");
    stack.add(tar).unwrap();
    stack.add(Tar::default().file("hidden/.wh..wh..opq", b"").file(".wh.gone", b"")).unwrap();
    let links = Tar::default().link("copy", "etc/deep").link("symcopy", "etc/sym");
    let outcome = stack.add(links).unwrap();
    assert!(outcome.borrowed && outcome.bytes == 4);
    assert_eq!(stack.text("copy"), "deep");
    assert_eq!(stack.meta("copy").ino(), stack.meta("etc/deep").ino());
    assert_eq!(stack.meta("copy").permissions().mode() & 0o7777, 0o6755);
    assert_eq!(stack.meta("etc").permissions().mode() & 0o7777, 0o711);
    assert_eq!(fs::read_link(stack.path("symcopy")).unwrap(), Path::new("deep"));
    let mut value = [0u8; 4];
    assert_eq!(rustix::fs::lgetxattr(stack.path("copy"), "user.k", &mut value), Ok(1));
    for target in ["hidden/f", "gone", "etc"] {
        let error = stack.add(Tar::default().link("x", target)).unwrap_err().to_string();
        assert!(error.contains("not there") || error.contains("no file"), "{error}");
    }
}

#[test]
fn device_nodes_beyond_the_harmless_are_left_out() {
    if !root("device_nodes_beyond_the_harmless_are_left_out") {
        return;
    }
    let mut stack = Stack::new();
    let tar = Tar::default()
        .device(EntryType::Char, "dev/null", 1, 3)
        .device(EntryType::Char, "dev/mem", 1, 1)
        .device(EntryType::Char, "fake-whiteout", 0, 0)
        .device(EntryType::Block, "dev/mmcblk0", 179, 0);
    let outcome = stack.add(tar).unwrap();
    assert!(stack.meta("dev/null").file_type().is_char_device());
    assert_eq!(outcome.skipped, ["dev/mem", "fake-whiteout", "dev/mmcblk0"]);
    assert_eq!(fs::read_dir(stack.path("")).unwrap().count(), 1);
}

#[test]
fn sparse_files_keep_their_holes_and_huge_ones_are_refused() {
    let sparse = |size: u64, extended: &[u8], real: &[u8]| {
        let mut tar = Tar::default();
        let mut records = Vec::new();
        for (key, value) in [
            ("GNU.sparse.major", "1".to_string()),
            ("GNU.sparse.minor", "0".to_string()),
            ("GNU.sparse.name", "holes".to_string()),
            ("GNU.sparse.realsize", size.to_string()),
        ] {
            record(&mut records, key.as_bytes(), value.as_bytes());
        }
        tar.records(&records);
        let mut data = extended.to_vec();
        data.resize(512, 0);
        data.extend_from_slice(real);
        tar.raw(EntryType::Regular, b"GNUSparseFile.0/holes", &data, b"")
    };
    let stack = one(sparse(50 << 20, b"1\n1048576\n4\n", b"data"));
    let meta = stack.meta("holes");
    assert_eq!(meta.len(), 50 << 20);
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    assert_eq!(&fs::read(stack.path("holes")).unwrap()[1 << 20..(1 << 20) + 4], b"data");
    refused(sparse(100 << 30, b"0\n", b""), "limit is");
    refused(sparse(10, b"1\n8\n4\n", b"data"), "doesn't fit");
    refused(sparse(99, b"2\n8\n2\n4\n2\n", b"data"), "overlap");
    refused(sparse(99, b"1\n8\n", b"data"), "map");
    refused(sparse(99, b"99999999999999\n", b"data"), "map");
    // The same by GNU's own header.
    let mut tar = Tar::default();
    tar.add(EntryType::GNUSparse, b"big", b"", b"", |header| {
        *header = {
            let mut gnu = tar::Header::new_gnu();
            gnu.as_old_mut().name[..3].copy_from_slice(b"big");
            gnu.set_entry_type(EntryType::GNUSparse);
            gnu.set_size(0);
            gnu.set_mode(0o644);
            gnu.set_uid(0);
            gnu.set_gid(0);
            gnu.set_mtime(0);
            gnu.as_gnu_mut().unwrap().set_real_size(100 << 30);
            gnu
        };
    });
    refused(tar, "limit is");
}

#[test]
fn a_layer_larger_than_the_disk_is_refused_before_it_fills_it() {
    let mut stack = Stack::new();
    let tar = || Tar::default().file("a", &[1; 600]).file("b", &[2; 600]);
    let error = stack.add_limited(tar(), Limits { bytes: 1000 }).unwrap_err();
    assert!(matches!(error, ImageError::Full { .. }), "{error}");
    assert!(error.to_string().contains("the disk has 1000 to give"));
    stack.add_limited(tar(), Limits { bytes: 1200 }).unwrap();
}

#[test]
fn a_tree_too_deep_for_handles_is_removed() {
    let deep = "d/".repeat(1100);
    let stack = one(Tar::default().file(&format!("{deep}f"), b"x").file("d", b"flat"));
    assert_eq!(stack.text("d"), "flat");
    let left = one(Tar::default().file(&format!("{deep}f"), b"x"));
    super::super::disk::remove(&left.path("")).unwrap();
    assert!(!left.path("").exists());
    drop(fs::create_dir(left.path("")));
}
