//! Files of edged, packed and not, and all the others that people name by mistake.

use super::*;
use edge_api::release::mark;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// A head without tables, and a mark.
pub(in super::super) fn program(machine: u8, version: &str) -> Vec<u8> {
    let mut file = vec![0; 200];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    (file[16], file[18]) = (2, machine);
    file.extend(mark(version));
    file
}

pub(in super::super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// A directory of its own, gone when the test ends.
pub(in super::super) struct Dir(pub(in super::super) PathBuf);

impl Dir {
    pub(in super::super) fn new(name: &str) -> Dir {
        let name = format!("edgectl-up-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    pub(in super::super) fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn fails(paths: &[PathBuf], word: &str) {
    let line = load(paths).unwrap_err().to_string();
    assert!(line.contains(word) && !line.contains('\n'), "{line}");
}

#[test]
fn files_are_told_apart() {
    let dir = Dir::new("plain");
    let one = dir.put("edged-arm64", &program(183, "0.2.0"));
    let two = dir.put("edged-amd64", &program(62, "0.2.0"));
    dir.put("edged-amd64.minisig", b"a signature");
    dir.put("README", b"words");
    let all = load(std::slice::from_ref(&dir.0)).unwrap();
    assert_eq!(all.iter().map(|p| p.arch.as_str()).collect::<Vec<_>>(), ["amd64", "arm64"]);
    assert_eq!(all[0].signature.as_deref(), Some("a signature"));
    assert_eq!(all[1].signature, None);
    fails(&[one.clone(), dir.0.clone()], "both for arm64");
    fails(&[dir.put("newer", &program(40, "0.2.0"))], "no build for");
    fails(&[two, dir.put("other", &program(183, "0.3.0"))], "one version at a time");
    fails(&[dir.put("packed", b"\xfd7zXZ....")], "`xz -d` it");
    fails(&[dir.put("text", b"hello")], "no program");
    fails(&[dir.put("page", b"<!DOCTYPE html>\n<title>404</title>")], "it is a web page");
    fails(&[dir.put("plain", &program(62, "0.2.0")[..200])], "is not edged");
    fails(&[dir.0.join("nowhere")], "nowhere");
}

#[test]
fn packed_files_are_unpacked() {
    let dir = Dir::new("packed");
    let file = program(62, "0.2.0");
    let packed = dir.put("edged-amd64.zst", &zstd(&file));
    let one = read(&packed).unwrap();
    assert_eq!((one.bytes, one.signature), (file.len() as u64, None));
    assert_eq!(one.sha256, read(&dir.put("bare", &file)).unwrap().sha256);
    dir.put("edged-amd64.zst.minisig", b"of what is packed");
    fails(std::slice::from_ref(&packed), "sign that, as");
    dir.put("edged-amd64.minisig", b"of the program");
    let signed = read(&packed).unwrap().signature;
    assert_eq!(signed.as_deref(), Some("of the program"));
    // In a directory: beside the program it is the same one; what is called otherwise is none.
    dir.put("disk.img.zst", &zstd(b"an image"));
    assert_eq!(inside(&dir.0).unwrap(), [dir.0.join("bare"), packed]);
    let bare = dir.put("edged-amd64", &file);
    assert_eq!(inside(&dir.0).unwrap(), [dir.0.join("bare"), bare]);
}

#[test]
fn what_is_packed_badly_says_so() {
    let dir = Dir::new("badly");
    let packed = zstd(&program(62, "0.2.0"));
    fails(&[dir.put("cut.zst", &packed[..packed.len() - 9])], "cut.zst: it is cut off: get it");
    let mut odd = packed.clone();
    *odd.last_mut().unwrap() ^= 1;
    fails(&[dir.put("odd.zst", &odd)], "its checksum is another): get it again");
    fails(&[dir.put("nonsense.zst", b"\x28\xb5\x2f\xfd....")], "nonsense.zst: it is ");
    fails(&[dir.put("page.zst", &zstd(b"<html>"))], "it is a web page");
    let much = zstd(&vec![0; 1 << 20]);
    assert!(much.len() < 1000, "{} bytes of zeros", much.len());
    let line = unpacked("x.zst", Cursor::new(much), 1000).unwrap_err().to_string();
    assert!(line.contains("it is no edged"), "{line}");
}

#[test]
fn what_is_no_file_is_not_read() {
    let dir = Dir::new("nofile");
    dir.put("inner/README", b"words");
    fails(&[dir.0.join("inner")], "holds no edged");
    #[cfg(unix)]
    {
        fails(&["/dev/zero".into()], "/dev/zero: it is no file");
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(to, dir.0.join(name)).unwrap();
            dir.0.join(name)
        };
        fails(&[link("nowhere", "dangles")], "dangles");
        fails(&[link("circles", "circles")], "circles");
        dir.put("edged", &program(62, "0.2.0"));
        assert_eq!(read(&link("edged", "linked")).unwrap().arch, "amd64");
    }
    let signed = dir.put("signed", &program(62, "0.2.0"));
    fs::create_dir(dir.0.join("signed.minisig")).unwrap();
    fails(std::slice::from_ref(&signed), "is no signature");
    fs::remove_dir(dir.0.join("signed.minisig")).unwrap();
    dir.put("signed.minisig", b"\xff\xfe");
    fails(std::slice::from_ref(&signed), "signed.minisig");
}
