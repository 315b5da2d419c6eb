//! Reads a container's log (CRI format, rotated): from where to begin, which lines count, and what
//! of each line a client is shown.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use edge_api::time;

/// Bytes read at once.
const BLOCK: usize = 64 << 10;

/// How often the next file is looked for while files are rotated at that very moment.
const LOOKS: usize = 16;

/// What a client wants of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The last so many lines.
    pub(super) tail: Option<u64>,
    /// Lines from this time on, Unix milliseconds.
    pub(super) since_ms: Option<i64>,
    /// Each line with its time.
    pub(super) timestamps: bool,
    /// At most so many bytes.
    pub(super) limit: Option<u64>,
    /// Only lines of this stream.
    pub(super) stream: Option<&'static str>,
}

/// The files of a log, oldest first; the live one is last.
pub(super) fn files(live: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (live.parent(), live.file_name()) else { return Vec::new() };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut out: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    out.sort();
    out.push(live.to_owned());
    out
}

/// The first of these files that exists.
fn first_of(paths: &[PathBuf]) -> io::Result<Option<File>> {
    for path in paths {
        match File::open(path) {
            Ok(file) => return Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// True when the file at `path` is that one, whatever it was called before.
fn is(path: &Path, file: &Metadata) -> bool {
    fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (file.dev(), file.ino()))
}

/// Where the last `lines` lines of a file begin, and how many there are (fewer, if it is short).
fn last_lines(file: &mut File, lines: u64) -> io::Result<(u64, u64)> {
    let size = file.metadata()?.len();
    let (mut at, mut found) = (size, 0);
    let mut block = vec![0; BLOCK];
    while at > 0 {
        let from = at.saturating_sub(BLOCK as u64);
        let length = usize::try_from(at - from).unwrap_or(BLOCK);
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut block[..length])?;
        for (index, byte) in block[..length].iter().enumerate().rev() {
            let place = from + index as u64;
            if *byte == b'\n' && place + 1 < size {
                found += 1;
                if found == lines {
                    return Ok((place + 1, found));
                }
            }
        }
        at = from;
    }
    Ok((0, found + u64::from(size > 0)))
}

/// A log being read, and the place in the file that is open.
pub(super) struct Log {
    live: PathBuf,
    file: Option<File>,
    /// The beginning of a line whose rest was not there yet.
    partial: Vec<u8>,
    block: Vec<u8>,
    view: View,
}

/// Turns lines of the log into what the client sees.
struct View {
    wanted: Wanted,
    /// True in the middle of a long line that was logged in parts.
    midway: bool,
    sent: u64,
}

impl Log {
    /// Opens the log whose live file is `live`, where the client wants it to begin.
    pub(super) fn open(live: &Path, wanted: Wanted) -> io::Result<Log> {
        let mut all = files(live);
        let mut start = 0;
        if let Some(lines) = wanted.tail {
            let mut left = lines;
            let mut first = all.len();
            while first > 0 && left > 0 {
                first -= 1;
                let Ok(mut file) = File::open(&all[first]) else { continue };
                let (offset, found) = last_lines(&mut file, left)?;
                left -= found.min(left);
                start = offset;
            }
            if lines == 0 {
                first = all.len().saturating_sub(1);
                start = fs::metadata(live).map_or(0, |m| m.len());
            }
            all.drain(..first);
        }
        let mut log = Log {
            live: live.to_owned(),
            file: first_of(&all)?,
            partial: Vec::new(),
            block: vec![0; BLOCK],
            view: View { wanted, midway: false, sent: 0 },
        };
        if let Some(file) = log.file.as_mut() {
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(log)
    }

    /// True when the live file is no longer the one that is open: it was rotated away.
    fn rotated(&self) -> bool {
        let Some(file) = &self.file else { return true };
        let (Ok(mine), Ok(live)) = (file.metadata(), fs::metadata(&self.live)) else {
            return false;
        };
        (mine.dev(), mine.ino()) != (live.dev(), live.ino())
    }

    /// The file that comes after the open one. Found by looking each time: what was the live file
    /// when the open one was begun has another name now.
    fn successor(&self) -> io::Result<Option<PathBuf>> {
        let Some(file) = &self.file else { return Ok(Some(self.live.clone())) };
        let mine = file.metadata()?;
        let all = files(&self.live);
        // One that is not there any more was the oldest.
        let after = all.iter().position(|path| is(path, &mine)).map_or(0, |at| at + 1);
        Ok(all.into_iter().nth(after))
    }

    /// Goes on to the file after the open one, which is at its end; false when it is the live one.
    fn catch_up(&mut self) -> io::Result<bool> {
        for _ in 0..LOOKS {
            if !self.rotated() {
                return Ok(false);
            }
            let Some(path) = self.successor()? else { return Ok(false) };
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // The live file may have been rotated away between the look and the opening.
            let opened = file.metadata()?;
            if self.successor()?.is_some_and(|path| is(&path, &opened)) {
                self.file = Some(file);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next piece for the client: `Some` bytes (perhaps none, when all that was read is not
    /// wanted), or `None` at the log's present end.
    pub(super) fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let count = match self.file.as_mut() {
                Some(file) => file.read(&mut self.block)?,
                None => 0,
            };
            if count > 0 {
                let mut out = Vec::new();
                self.partial.extend_from_slice(&self.block[..count]);
                let whole = self.partial.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
                for line in self.partial[..whole].split_inclusive(|b| *b == b'\n') {
                    self.view.show(line, &mut out);
                }
                self.partial.drain(..whole);
                return Ok(Some(out));
            }
            if !self.catch_up()? {
                return Ok(None);
            }
        }
    }

    /// True when the client has all the bytes it wants.
    pub(super) fn full(&self) -> bool {
        self.view.wanted.limit.is_some_and(|limit| self.view.sent >= limit)
    }
}

impl View {
    /// Adds what the client sees of one line, newline included.
    fn show(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut parts = line.splitn(4, |b| *b == b' ');
        let (Some(stamp), Some(stream), Some(tag)) = (parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        let text = parts.next().unwrap_or_default();
        let stamp = std::str::from_utf8(stamp).unwrap_or_default();
        if self.wanted.stream.is_some_and(|only| only.as_bytes() != stream) {
            return;
        }
        if let Some(since) = self.wanted.since_ms {
            if time::parse(stamp).is_none_or(|at| at < since) {
                return;
            }
            // Lines come in the order of their times.
            self.wanted.since_ms = None;
        }
        let before = out.len();
        if self.wanted.timestamps && !self.midway {
            out.extend_from_slice(stamp.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(text);
        self.midway = tag == b"P";
        if !self.midway {
            out.push(b'\n');
        }
        let room = self.wanted.limit.map_or(u64::MAX, |limit| limit - self.sent.min(limit));
        let added = (out.len() - before) as u64;
        if added > room {
            out.truncate(before + usize::try_from(room).unwrap_or(0));
        }
        self.sent += added.min(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let dir = std::env::temp_dir().join(format!("edged-log-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            Dir(dir)
        }

        fn write(&self, name: &str, text: &str) {
            let mut file =
                File::options().create(true).append(true).open(self.0.join(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn live(&self) -> PathBuf {
            self.0.join("0.log")
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn all(log: &mut Log) -> String {
        let mut out = Vec::new();
        while let Some(bytes) = log.read().unwrap() {
            out.extend(bytes);
        }
        String::from_utf8(out).unwrap()
    }

    fn line(second: u32, tag: &str, text: &str) -> String {
        format!("2025-01-01T00:00:{second:02}.000000001Z stdout {tag} {text}\n")
    }

    #[test]
    fn reads_rotated_files_in_order_and_what_is_wanted_of_them() {
        let dir = Dir::new("order");
        dir.write("0.log.20250101-000001", &(line(0, "F", "a") + &line(1, "F", "b")));
        dir.write("0.log.20250101-000002", &line(2, "P", "c1-"));
        dir.write("0.log", &(line(3, "F", "c2") + &line(4, "F", "d")));
        let read = |wanted: Wanted| all(&mut Log::open(&dir.live(), wanted).unwrap());
        assert_eq!(read(Wanted::default()), "a\nb\nc1-c2\nd\n");
        for (tail, want) in [(0, ""), (1, "d\n"), (3, "c1-c2\nd\n"), (4, "b\nc1-c2\nd\n")] {
            assert_eq!(read(Wanted { tail: Some(tail), ..Wanted::default() }), want);
        }
        assert_eq!(read(Wanted { tail: Some(99), ..Wanted::default() }), "a\nb\nc1-c2\nd\n");
        let since = time::parse("2025-01-01T00:00:04Z");
        assert_eq!(read(Wanted { since_ms: since, ..Wanted::default() }), "d\n");
        let stamped = read(Wanted { timestamps: true, tail: Some(1), ..Wanted::default() });
        assert_eq!(stamped, "2025-01-01T00:00:04.000000001Z d\n");
        assert_eq!(read(Wanted { limit: Some(3), ..Wanted::default() }), "a\nb");
    }

    #[test]
    fn follows_across_rotation_and_torn_lines() {
        let dir = Dir::new("follow");
        dir.write("0.log", &line(0, "F", "a"));
        let mut log = Log::open(&dir.live(), Wanted::default()).unwrap();
        assert_eq!(all(&mut log), "a\n");
        let next = line(1, "F", "b");
        dir.write("0.log", &next[..20]);
        assert_eq!(all(&mut log), "");
        dir.write("0.log", &next[20..]);
        fs::rename(dir.live(), dir.0.join("0.log.20250101-000001")).unwrap();
        dir.write("0.log", &line(2, "F", "c"));
        fs::rename(dir.live(), dir.0.join("0.log.20250101-000002")).unwrap();
        dir.write("0.log", &line(3, "F", "d"));
        assert_eq!(all(&mut log), "b\nc\nd\n");
    }

    #[test]
    fn follows_what_is_rotated_while_an_older_file_is_read() {
        let dir = Dir::new("behind");
        let rotate = |to: &str| fs::rename(dir.live(), dir.0.join(to)).unwrap();
        dir.write("0.log.20250101-000001", &line(0, "F", "a"));
        dir.write("0.log", &line(1, "F", "b"));
        let mut log = Log::open(&dir.live(), Wanted::default()).unwrap();
        assert_eq!(log.read().unwrap().unwrap(), b"a\n");
        rotate("0.log.20250101-000002");
        dir.write("0.log", &line(2, "F", "c"));
        rotate("0.log.20250101-000003");
        dir.write("0.log", &line(3, "F", "d"));
        assert_eq!(all(&mut log), "b\nc\nd\n");
    }

    #[test]
    fn a_log_that_is_not_there_yet_is_empty() {
        let dir = Dir::new("none");
        let mut log = Log::open(&dir.live(), Wanted::default()).unwrap();
        assert_eq!(all(&mut log), "");
        dir.write("0.log", &line(0, "F", "a"));
        assert_eq!(all(&mut log), "a\n");
    }

    #[test]
    fn long_files_are_tailed_in_blocks() {
        let dir = Dir::new("long");
        let many: String = (0..5000).map(|n| line(0, "F", &n.to_string())).collect();
        dir.write("0.log", &many);
        let wanted = Wanted { tail: Some(3000), ..Wanted::default() };
        let text = all(&mut Log::open(&dir.live(), wanted).unwrap());
        assert_eq!(text.lines().count(), 3000);
        assert!(text.starts_with("2000\n") && text.ends_with("4999\n"));
    }
}
