//! Programs on the person's disk: looked into without being run.

use crate::fault::Fault;
use edge_api::release::{Elf, HEAD_BYTES, Scan, Version};
use ring::digest;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The longest signature file.
const SIGNATURE_BYTES: u64 = 4096;
/// How a compressed file begins, and what undoes that.
const COMPRESSED: [(&[u8], &str); 3] =
    [(b"\x28\xb5\x2f\xfd", "zstd -d"), (b"\x1f\x8b", "gzip -d"), (b"\xfd7zXZ", "xz -d")];

/// A program for one kind of board.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) version: Version,
    pub(super) arch: String,
    pub(super) bytes: u64,
    /// In hexadecimal digits.
    pub(super) sha256: String,
    /// The text of its `.minisig` file.
    pub(super) signature: Option<String>,
}

/// All programs that were named: of one version, each for another kind of board.
pub(super) fn load(named: &[PathBuf]) -> Result<Vec<Program>, Fault> {
    let mut programs: Vec<Program> = Vec::new();
    for path in named {
        if path.is_dir() {
            let doing = |error| Fault::io(format!("read {}", path.display()), error);
            let mut found: Vec<PathBuf> = Vec::new();
            for entry in fs::read_dir(path).map_err(doing)? {
                found.push(entry.map_err(doing)?.path());
            }
            found.sort();
            let before = programs.len();
            for file in found.iter().filter(|file| file.is_file() && begins_as_elf(file)) {
                programs.push(read(file)?);
            }
            if programs.len() == before {
                return Err(Fault::text(format!("{} holds no edged", path.display())));
            }
        } else {
            programs.push(read(path)?);
        }
    }
    for (at, program) in programs.iter().enumerate() {
        let first = &programs[0];
        if program.version != first.version {
            return Err(Fault::text(format!(
                "{} is edged {} and {} is {}: bring one version at a time",
                first.path.display(),
                first.version,
                program.path.display(),
                program.version
            )));
        }
        if let Some(other) = programs[..at].iter().find(|other| other.arch == program.arch) {
            return Err(Fault::text(format!(
                "{} and {} are both for {}",
                other.path.display(),
                program.path.display(),
                program.arch
            )));
        }
    }
    Ok(programs)
}

fn begins_as_elf(path: &Path) -> bool {
    let mut head = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == *b"\x7fELF"
}

fn read(path: &Path) -> Result<Program, Fault> {
    let shown = path.display();
    let doing = |error| Fault::io(format!("read {shown}"), error);
    let mut file = File::open(path).map_err(doing)?;
    let mut piece = vec![0; 64 * 1024];
    let (mut head, mut scan, mut bytes) = (Vec::new(), Scan::default(), 0);
    let mut sha256 = digest::Context::new(&digest::SHA256);
    loop {
        let count = file.read(&mut piece).map_err(doing)?;
        if count == 0 {
            break;
        }
        let room = HEAD_BYTES.saturating_sub(head.len()).min(count);
        head.extend_from_slice(&piece[..room]);
        scan.take(&piece[..count]);
        sha256.update(&piece[..count]);
        bytes += count as u64;
    }
    if let Some((_, undo)) = COMPRESSED.iter().find(|(begin, _)| head.starts_with(begin)) {
        return Err(Fault::text(format!("{shown} is compressed: unpack it first ({undo})")));
    }
    let elf = Elf::read(&head).map_err(|error| Fault::text(format!("{shown}: {error}")))?;
    if bytes < elf.least_bytes {
        let least = elf.least_bytes;
        return Err(Fault::text(format!(
            "{shown} is cut off: it has {bytes} bytes and its head asks for {least}"
        )));
    }
    let version = scan
        .version()
        .ok_or_else(|| Fault::text(format!("{shown} is not edged, or does not say its version")))?;
    let digest = sha256.finish();
    Ok(Program {
        path: path.to_owned(),
        version,
        arch: elf.arch.to_owned(),
        bytes,
        sha256: digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
        signature: signature(path)?,
    })
}

/// What stands in the file's `.minisig`, if there is one.
fn signature(path: &Path) -> Result<Option<String>, Fault> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".minisig");
    let beside = PathBuf::from(beside);
    let doing = |error| Fault::io(format!("read {}", beside.display()), error);
    match fs::metadata(&beside) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(doing(error)),
        Ok(found) if found.len() > SIGNATURE_BYTES => {
            Err(Fault::text(format!("{} is no signature: it is too long", beside.display())))
        }
        Ok(_) => fs::read_to_string(&beside).map(Some).map_err(doing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_api::release::mark;

    /// A head without tables, and a mark.
    fn program(machine: u8, version: &str) -> Vec<u8> {
        let mut file = vec![0; 200];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (file[16], file[18]) = (2, machine);
        file.extend(mark(version));
        file
    }

    #[test]
    fn files_are_told_apart() {
        let dir = std::env::temp_dir().join(format!("edgectl-up-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let put = |name: &str, bytes: &[u8]| {
            fs::write(dir.join(name), bytes).unwrap();
            dir.join(name)
        };
        let one = put("edged-arm64", &program(183, "0.2.0"));
        let two = put("edged-amd64", &program(62, "0.2.0"));
        put("edged-amd64.minisig", b"a signature");
        put("README", b"words");
        let all = load(std::slice::from_ref(&dir)).unwrap();
        assert_eq!(all.iter().map(|p| p.arch.as_str()).collect::<Vec<_>>(), ["amd64", "arm64"]);
        assert_eq!(all[0].signature.as_deref(), Some("a signature"));
        assert_eq!(all[1].signature, None);
        let fails = |paths: &[PathBuf], word: &str| {
            let line = load(paths).unwrap_err().to_string();
            assert!(line.contains(word) && !line.contains('\n'), "{line}");
        };
        fails(&[one.clone(), dir.clone()], "both for arm64");
        let newer = put("newer", &program(40, "0.2.0"));
        fails(&[newer], "no build for");
        fails(&[two, put("other", &program(183, "0.3.0"))], "one version at a time");
        fails(&[put("packed", b"\x28\xb5\x2f\xfd....")], "zstd -d");
        fails(&[put("text", b"hello")], "no program");
        fails(&[put("plain", &program(62, "0.2.0")[..200])], "is not edged");
        fails(&[dir.join("nowhere")], "nowhere");
        fs::remove_dir_all(&dir).unwrap();
    }
}
