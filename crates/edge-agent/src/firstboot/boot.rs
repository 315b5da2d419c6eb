//! The boot partition: FAT, often mounted for reading only, and read by laptops.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use edge_node::opened::opened;

use super::wish::STORED;
use super::{Refusal, failed};

/// The longest file that is read; nobody types that much.
const LONGEST: u64 = 64 << 10;

const NAME: &str = "edged.yaml";
const ERROR: &str = "edged-error.txt";

/// What laptops make of the name, in small letters.
const MISNAMED: [&str; 4] = ["edged.yaml.txt", "edged.yml", "edged.yml.txt", "edged.txt"];

/// Where systemd finds what it is to mount.
const UNITS: [&str; 3] = ["run/systemd/generator", "etc/systemd/system", "usr/lib/systemd/system"];

/// The directory where the boot partition is mounted.
pub(super) struct Boot {
    dir: PathBuf,
    /// Of the board.
    root: PathBuf,
}

impl Boot {
    pub(super) fn new(dir: &Path, root: &Path) -> Boot {
        Boot { dir: dir.to_owned(), root: root.to_owned() }
    }

    /// Where the settings are.
    pub(super) fn file(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// The settings, if there are any.
    ///
    /// # Errors
    /// When they are there and can't be read, or have another name.
    pub(super) fn read(&self) -> Result<Option<String>, Refusal> {
        let path = self.file();
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return self.misnamed(),
            Err(error) => return Err(failed("read", &path, error)),
            Ok(found) if found.len() > LONGEST => {
                let what = format!("it has {} bytes: is it the right file?", found.len());
                return Err(Refusal::File(what));
            }
            Ok(_) => {}
        }
        let bytes = std::fs::read(&path).map_err(|e| failed("read", &path, e))?;
        let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        let wrong = || Refusal::File("it is no plain text: save it as UTF-8".to_owned());
        text.map(Some).ok_or_else(wrong)
    }

    /// What is there when the settings are not: they have another name, or the partition is not
    /// mounted, or nobody wants anything.
    fn misnamed(&self) -> Result<Option<String>, Refusal> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let like = |name: &String| {
            let small = name.to_lowercase();
            small == NAME || MISNAMED.contains(&small.as_str())
        };
        if let Some(name) = names.filter(like).min() {
            return Err(Refusal::File(format!("it is called {name}: rename it to {NAME}")));
        }
        match self.unit() {
            Some(unit) if !self.mounted() => Err(Refusal::Failed(format!(
                "{} is not mounted: is the card or disk with the boot partition there? (systemctl \
                 status {unit})",
                self.dir.display()
            ))),
            _ => Ok(None),
        }
    }

    /// The unit that is to mount the partition, if there is one.
    fn unit(&self) -> Option<String> {
        let dir = self.dir.to_str()?.trim_matches('/');
        let unit = format!("{}.mount", dir.replace('-', "\\x2d").replace('/', "-"));
        let there = |place: &&str| self.root.join(place).join(&unit).exists();
        UNITS.iter().any(there).then_some(unit)
    }

    fn mounted(&self) -> bool {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let dir = self.dir.to_string_lossy();
        let here =
            |line: &&str| line.split(' ').nth(4) == Some(&dir) && !line.contains(" - autofs ");
        table.lines().any(|line| here(&line))
    }

    /// Says beside the settings what is wrong with them, or that nothing is. It is written only
    /// when it changes, and whether that can be done changes nothing: it has been said elsewhere.
    pub(super) fn told(&self, line: Option<&str>) {
        let path = self.dir.join(ERROR);
        let Some(line) = line else {
            if path.exists() {
                let _ = self.writing(|| std::fs::remove_file(&path));
            }
            return;
        };
        if self.unit().is_some() && !self.mounted() {
            // It would be the directory beneath, where nobody looks.
            return;
        }
        let text = format!("{line}\r\nCorrect edged.yaml and start the board again.\r\n");
        if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            let _ = self
                .writing(|| write(&path, &text).inspect_err(|_| drop(std::fs::remove_file(&path))));
        }
    }

    /// Takes each secret out of the file, which is to be `text`. Everything else stays as the
    /// person wrote it, and where it stands.
    ///
    /// # Errors
    /// When the partition can't be written; the secrets may be there still.
    pub(super) fn redact(&self, text: &str, secrets: &[Range<usize>]) -> io::Result<()> {
        if secrets.is_empty() {
            return Ok(());
        }
        match std::fs::read(self.file()) {
            Ok(bytes) if bytes == text.as_bytes() => {}
            Ok(_) => return Err(io::Error::other("it has been changed meanwhile")),
            // Somebody has taken it away: there is nothing left to take out.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        let short = || io::Error::other("a secret is shorter than what stands in its place");
        self.write_over(&without(text.as_bytes(), secrets).ok_or_else(short)?, secrets)
    }

    /// Writes these places of the file as they are in `left`. Not a new file in its place: a FAT
    /// has no journal, and a power cut in the middle of that leaves a name that leads nowhere. And
    /// the secrets' bytes would stay on the card.
    pub(super) fn write_over(&self, left: &[u8], places: &[Range<usize>]) -> io::Result<()> {
        self.writing(|| {
            let mut file = OpenOptions::new().write(true).open(self.file())?;
            for span in places {
                file.seek(SeekFrom::Start(span.start as u64))?;
                file.write_all(left.get(span.clone()).unwrap_or_default())?;
            }
            file.sync_all()
        })
    }

    /// Does what writes. A partition that is mounted for reading only is opened for that long.
    fn writing<T>(&self, act: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let done = opened(&self.dir, act)?;
        if let Some(open) = done.left_open {
            eprintln!("edged firstboot: {open}");
        }
        Ok(done.value)
    }
}

/// A text with a word, and blanks behind it, in the place of each secret: it is as long as before.
/// `None` where it ends before one, or one is shorter than the word.
pub(super) fn without(text: &[u8], secrets: &[Range<usize>]) -> Option<Vec<u8>> {
    let mut left = text.to_vec();
    for span in secrets {
        let (word, blanks) = left.get_mut(span.clone())?.split_at_mut_checked(STORED.len())?;
        word.copy_from_slice(STORED.as_bytes());
        blanks.fill(b' ');
    }
    Some(left)
}

/// Writes a file. FAT knows no permissions, so none are set.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
