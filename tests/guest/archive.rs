//! The archive that a kernel unpacks as its first disk: cpio in its `newc` form, written here,
//! since that is a header of numbers before each file.

/// An archive in the making.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    count: u32,
}

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

impl Archive {
    pub(crate) fn directory(&mut self, path: &str) {
        self.add(path, DIRECTORY | 0o755, &[]);
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.add(path, FILE | mode, content);
    }

    pub(crate) fn link(&mut self, path: &str, to: &str) {
        self.add(path, LINK | 0o777, to.as_bytes());
    }

    /// Closes the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn add(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.count += 1;
        let size = u32::try_from(content.len()).expect("less than 4 GiB");
        let name = u32::try_from(path.len() + 1).expect("a short name");
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        // Number, mode, owner, group, links, time, size, two devices, length of the name, sum.
        let numbers = [self.count, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for number in numbers {
            self.bytes.extend_from_slice(format!("{number:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        let over = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(over, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_cpio_reads() {
        let mut archive = Archive::default();
        archive.directory("etc");
        archive.file("etc/name", 0o644, b"guest");
        archive.link("bin", "etc/name");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(bytes.len() % 4, 0);
        assert!(text.starts_with("07070100000001000041ED0000000000000000"), "{text}");
        assert!(text.contains("etc/name\0\0guest\0\0\0"), "{text:?}");
        assert!(text.ends_with("TRAILER!!!\0\0\0\0"), "{text}");
    }
}
