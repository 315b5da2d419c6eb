//! The image: how it is packed, and whether all of it is there.

use crate::commands::packed;
use crate::fault::Fault;
use ring::digest::{Context, SHA256};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::fill;

pub(super) const SECTOR: u64 = 512;
const BUFFER: usize = 256 << 10;
/// The beginning of an image: its partition table, and the second one's header.
pub(super) const HEAD: usize = 1024;

fn bad(path: &Path, what: impl std::fmt::Display) -> Fault {
    Fault::text(format!("{}: {what}", path.display()))
}

/// The image ends, or is nonsense, in the middle.
pub(super) fn broken(path: &Path, error: &io::Error) -> Fault {
    packed::broken(path.display(), error)
}

/// The image's file, and how much of it was read.
struct Counted {
    file: File,
    read: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let have = self.file.read(buffer)?;
        self.read.set(self.read.get() + have as u64);
        Ok(have)
    }
}

/// Opens the image and reads it unpacked.
pub(super) fn unpack(path: &Path) -> Result<Box<dyn Read>, Fault> {
    counted(path, Rc::default())
}

fn counted(path: &Path, read: Rc<Cell<u64>>) -> Result<Box<dyn Read>, Fault> {
    let failed = |e| Fault::io(format!("read {}", path.display()), e);
    let file = Counted { file: File::open(path).map_err(failed)?, read };
    packed::unpack(path.display(), BufReader::with_capacity(BUFFER, file))
}

/// Reads the whole image; gives its unpacked size and its beginning. `show` gets how much of the
/// file is read, of how much.
///
/// # Errors
/// When it is not whole, or no image of a disk.
pub(super) fn check(path: &Path, show: &mut dyn FnMut(u64, u64)) -> Result<(u64, Vec<u8>), Fault> {
    let packed = std::fs::metadata(path).map_err(|e| Fault::io(path.display().to_string(), e))?;
    if !packed.is_file() {
        return Err(bad(path, "it is no file"));
    }
    summed(path)?;
    let read = Rc::new(Cell::new(0));
    let mut reader = counted(path, read.clone())?;
    let mut buffer = vec![0; super::CHUNK];
    let (mut size, mut head) = (0, Vec::new());
    loop {
        let have = fill(&mut reader, &mut buffer).map_err(|e| broken(path, &e))?;
        if have == 0 {
            break;
        }
        if size == 0 {
            head = buffer[..have.min(HEAD)].to_vec();
        }
        size += have as u64;
        show(read.get(), packed.len());
    }
    table(&head, size).map_err(|what| bad(path, what))?;
    Ok((size, head))
}

/// Compares with `<image>.sha256`, if it is there: as `sha256sum` writes it.
fn summed(path: &Path) -> Result<(), Fault> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".sha256");
    let beside = PathBuf::from(beside);
    let text = match std::fs::read_to_string(&beside) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Fault::io(format!("read {}", beside.display()), error)),
    };
    let wanted = text.split_whitespace().next().unwrap_or_default().to_lowercase();
    if wanted.len() != 64 || !wanted.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad(&beside, "it begins with no SHA-256 of 64 hex digits"));
    }
    let failed = |e| Fault::io(format!("read {}", path.display()), e);
    let mut file = File::open(path).map_err(failed)?;
    let (mut sum, mut buffer) = (Context::new(&SHA256), vec![0; BUFFER]);
    loop {
        match fill(&mut file, &mut buffer).map_err(failed)? {
            0 => break,
            have => sum.update(&buffer[..have]),
        }
    }
    let is = sum.finish().as_ref().iter().fold(String::new(), |s, b| s + &format!("{b:02x}"));
    match is == wanted {
        true => Ok(()),
        false => {
            Err(bad(path, format!("it is not what {} says: get both again", beside.display())))
        }
    }
}

/// Whether the image has a partition table, and all partitions that it names.
fn table(head: &[u8], size: u64) -> Result<(), String> {
    if head.get(510..512) != Some(&[0x55, 0xaa]) {
        return Err("it has no partition table: it is no image of a card".to_owned());
    }
    let word = |at: usize| head[at..at + 4].iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let parts = (0..4).map(|number| 446 + 16 * number).filter(|at| head[at + 4] != 0);
    let mut end = 0;
    for at in parts {
        let guard = head[at + 4] == 0xee;
        // A guard stands for the second table, whose own end is the image's.
        let second = (guard && head.len() == HEAD && head[512..].starts_with(b"EFI PART"))
            .then(|| (word(512 + 32) | word(512 + 36) << 32).saturating_add(1));
        end = end.max(second.unwrap_or(if guard { 0 } else { word(at + 8) + word(at + 12) }));
    }
    if end == 0 {
        return Err("its partition table is empty: it is no image of a card".to_owned());
    }
    match end.checked_mul(SECTOR) {
        Some(bytes) if bytes <= size => Ok(()),
        _ => Err(format!(
            "it is cut off: its partitions end at {}, and it has {}: get it again",
            super::megabytes(end.saturating_mul(SECTOR)),
            super::megabytes(size)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: u8, start: u32, count: u32) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[450] = kind;
        head[454..458].copy_from_slice(&start.to_le_bytes());
        head[458..462].copy_from_slice(&count.to_le_bytes());
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        head
    }

    #[test]
    fn a_sum_beside_the_image_is_looked_at() {
        let image = std::env::temp_dir().join(format!("edged-summed-{}", std::process::id()));
        let sum = image.with_extension("sha256");
        std::fs::write(&image, "abc").unwrap();
        // FIPS 180-2, B.1, as `images/card.sh` has it written.
        let right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  card.img\n";
        let told = |text: &str| {
            std::fs::write(&sum, text).unwrap();
            check(&image, &mut |_, _| ()).unwrap_err().to_string()
        };
        assert!(told(right).contains("no partition table"), "the sum is right");
        let wrong = told(&right.replace("ba", "ab"));
        assert!(wrong.contains("get both again") && wrong.lines().count() == 1, "{wrong}");
        assert!(told("hello\n").contains("64 hex digits"));
        std::fs::remove_file(&image).unwrap();
        std::fs::remove_file(&sum).unwrap();
    }

    #[test]
    fn an_image_has_all_its_partitions() {
        assert_eq!(table(&head(0x0c, 8, 8), 16 * SECTOR), Ok(()));
        assert!(table(&head(0x0c, 8, 9), 16 * SECTOR).unwrap_err().contains("cut off"));
        assert!(table(&head(0, 8, 8), 16 * SECTOR).unwrap_err().contains("empty"));
        assert!(table(b"<html>", 6).unwrap_err().contains("no partition table"));
        let mut second = head(0xee, 1, u32::MAX);
        second[512..520].copy_from_slice(b"EFI PART");
        second[544..552].copy_from_slice(&31u64.to_le_bytes());
        assert_eq!(table(&second, 32 * SECTOR), Ok(()));
        assert!(table(&second, 31 * SECTOR).unwrap_err().contains("cut off"));
        second[544..552].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(table(&second, 99).unwrap_err().contains("cut off"));
    }
}
