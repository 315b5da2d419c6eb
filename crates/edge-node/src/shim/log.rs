//! The container's log: what the kubelet of any Kubernetes writes and its tools read, one line
//! `<RFC3339Nano> <stream> <F|P> <text>` per line of output, rotated by size.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::wall;

/// Longest text of one log line; a longer line of output is split, all parts but the last
/// marked `P`.
pub(super) const MAX_TEXT: usize = 16 * 1024;
/// Lines that are written with one system call.
const BATCH: usize = 16;
/// `2006-01-02T15:04:05.000000000Z stdout F `
const HEADER: usize = 40;
/// New names tried when several rotations fall into one second.
const ROTATION_NAMES: i64 = 60;

/// Where a line came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Stdout,
    Stderr,
}

/// The live log file.
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    max_bytes: u64,
    max_files: u32,
    /// Time that the last rotated file's name tells; the next one's is later.
    rotated: i64,
}

impl Log {
    /// Opens (or makes) the log. A log that cannot be opened loses the output, not the container.
    pub(super) fn open(path: &Path, max_bytes: u64, max_files: u32) -> Log {
        let mut log =
            Log { path: path.into(), file: None, size: 0, max_bytes, max_files, rotated: 0 };
        log.reopen();
        log
    }

    fn reopen(&mut self) {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o640);
        self.file = options.open(&self.path).ok();
        self.size = self.file.as_ref().and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
    }

    /// Writes all whole lines of `bytes`, and over-long ones in parts; answers how many bytes it
    /// used. What is left is the beginning of a line.
    pub(super) fn write(&mut self, source: Source, bytes: &[u8]) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            let mut headers = [[0u8; HEADER]; BATCH];
            let mut parts: [(&[u8], bool); BATCH] = [(&[], true); BATCH];
            let (mut count, mut taken) = (0, used);
            while count < BATCH {
                let Some((text, whole, length)) = next_part(&bytes[taken..]) else { break };
                parts[count] = (text, whole);
                taken += length;
                count += 1;
            }
            if count == 0 {
                break;
            }
            let now = wall();
            for (header, (_, whole)) in headers.iter_mut().zip(&parts[..count]) {
                *header = stamp(now, source, *whole);
            }
            self.append(&headers[..count], &parts[..count]);
            used = taken;
        }
        used
    }

    /// Writes what is left when a stream ends without a newline: partial, as containerd has it.
    pub(super) fn finish(&mut self, source: Source, rest: &[u8]) {
        if !rest.is_empty() {
            let now = wall();
            self.append(&[stamp(now, source, false)], &[(rest, false)]);
        }
    }

    fn append(&mut self, headers: &[[u8; HEADER]], parts: &[(&[u8], bool)]) {
        if self.size >= self.max_bytes && self.max_bytes > 0 {
            self.rotate();
        }
        if self.file.is_none() {
            self.reopen();
        }
        let Some(file) = self.file.as_mut() else { return };
        let mut slices = [IoSlice::new(&[]); BATCH * 3];
        for (n, (header, (text, _))) in headers.iter().zip(parts).enumerate() {
            slices[n * 3] = IoSlice::new(header);
            slices[n * 3 + 1] = IoSlice::new(text);
            slices[n * 3 + 2] = IoSlice::new(b"\n");
        }
        match write_all(file, &mut slices[..parts.len() * 3]) {
            Ok(written) => self.size += written,
            // A full disk: take back the torn line, so that the log stays readable.
            Err(_) => drop(file.set_len(self.size)),
        }
    }

    /// Renames the log to `<name>.<YYYYMMDD-HHMMSS>`, as the kubelet does, and starts a new one.
    fn rotate(&mut self) {
        let now = wall().as_secs();
        self.rotated = (self.rotated + 1).max(now as i64);
        let name = |seconds: i64| {
            let mut name = self.path.clone().into_os_string();
            name.push(".");
            name.push(std::str::from_utf8(&name_stamp(seconds)).unwrap_or("rotated"));
            PathBuf::from(name)
        };
        // A file of that name can be left of an earlier container with the same log.
        let free = (0..ROTATION_NAMES).map(|n| self.rotated + n).find(|s| !name(*s).exists());
        if let Some(seconds) = free {
            let _ = std::fs::rename(&self.path, name(seconds));
            self.rotated = seconds;
        }
        self.file = None;
        self.reopen();
        // When the rename fails the log grows past its limit, but not for ever.
        if self.size >= self.max_bytes.saturating_mul(2)
            && let Some(file) = &self.file
            && file.set_len(0).is_ok()
        {
            self.size = 0;
        }
        self.prune();
    }

    /// Deletes the oldest rotated files until `max_files` are left, the live one counted.
    fn prune(&self) {
        let keep = self.max_files.saturating_sub(1) as usize;
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return;
        };
        let Ok(entries) = std::fs::read_dir(parent) else { return };
        let mut rotated: Vec<PathBuf> = entries
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| is_rotation_of(p, name.as_encoded_bytes()))
            .collect();
        rotated.sort();
        for path in rotated.iter().take(rotated.len().saturating_sub(keep)) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn is_rotation_of(path: &Path, live: &[u8]) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.strip_prefix(live).and_then(|rest| rest.strip_prefix(b".")).is_some_and(|s| {
        s.len() == 15 && s[8] == b'-' && s.iter().all(|c| c.is_ascii_digit() || *c == b'-')
    })
}

/// The next loggable part of `bytes`: its text, whether it ends its line, and the bytes it uses.
fn next_part(bytes: &[u8]) -> Option<(&[u8], bool, usize)> {
    let window = &bytes[..bytes.len().min(MAX_TEXT + 1)];
    match window.iter().position(|b| *b == b'\n') {
        Some(end) => Some((&bytes[..end], true, end + 1)),
        None if bytes.len() > MAX_TEXT => Some((&bytes[..MAX_TEXT], false, MAX_TEXT)),
        None => None,
    }
}

fn write_all(file: &mut File, mut slices: &mut [IoSlice<'_>]) -> std::io::Result<u64> {
    let mut total = 0;
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                total += n as u64;
                IoSlice::advance_slices(&mut slices, n);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(total)
}

/// Year, month, day, hour, minute and second of a Unix time, in UTC.
fn civil(seconds: i64) -> [u32; 6] {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) as u32);
    // Days are counted from 0000-03-01, so that a leap day ends its year.
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097) as u32);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = (i64::from(year_of_era) + era * 400) as u32 + u32::from(month <= 2);
    [year, month, day, rest / 3_600, rest / 60 % 60, rest % 60]
}

/// Writes `value` right-aligned with zeros, over all of `place`.
fn digits(place: &mut [u8], mut value: u32) {
    for cell in place.iter_mut().rev() {
        *cell = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn stamp(now: Duration, source: Source, whole: bool) -> [u8; HEADER] {
    let mut out = *b"0000-00-00T00:00:00.000000000Z stdout F ";
    let [year, month, day, hour, minute, second] = civil(now.as_secs() as i64);
    digits(&mut out[0..4], year);
    digits(&mut out[5..7], month);
    digits(&mut out[8..10], day);
    digits(&mut out[11..13], hour);
    digits(&mut out[14..16], minute);
    digits(&mut out[17..19], second);
    digits(&mut out[20..29], now.subsec_nanos());
    if source == Source::Stderr {
        out[31..37].copy_from_slice(b"stderr");
    }
    if !whole {
        out[38] = b'P';
    }
    out
}

fn name_stamp(seconds: i64) -> [u8; 15] {
    let mut out = *b"00000000-000000";
    let [year, month, day, hour, minute, second] = civil(seconds);
    digits(&mut out[0..4], year);
    digits(&mut out[4..6], month);
    digits(&mut out[6..8], day);
    digits(&mut out[9..11], hour);
    digits(&mut out[11..13], minute);
    digits(&mut out[13..15], second);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_stamp_is_rfc3339_with_nanoseconds() {
        let at = Duration::new(1_709_210_096, 7_000_001);
        let got = stamp(at, Source::Stderr, false);
        assert_eq!(text(&got), "2024-02-29T12:34:56.007000001Z stderr P ");
        assert_eq!(text(&name_stamp(1_709_210_096)), "20240229-123456");
        assert_eq!(civil(0), [1970, 1, 1, 0, 0, 0]);
        assert_eq!(civil(951_868_799), [2000, 2, 29, 23, 59, 59]);
        assert_eq!(civil(4_102_444_799), [2099, 12, 31, 23, 59, 59]);
    }

    #[test]
    fn lines_are_cut_at_newlines_and_at_the_longest_text() {
        let dir = std::env::temp_dir().join(format!("edge-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("0.log");
        let mut log = Log::open(&path, 0, 1);
        let mut bytes = b"one\n\n".to_vec();
        bytes.extend(vec![b'x'; MAX_TEXT]);
        bytes.push(b'\n');
        bytes.extend(vec![b'y'; MAX_TEXT + 5]);
        let used = log.write(Source::Stdout, &bytes);
        assert_eq!(bytes.len() - used, 5);
        log.finish(Source::Stdout, &bytes[used..]);
        let all = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = all.lines().map(|l| &l[31..]).collect();
        assert_eq!(lines[..2], ["stdout F one", "stdout F "]);
        assert_eq!(lines[2].len(), 9 + MAX_TEXT);
        assert!(lines[2].starts_with("stdout F x"), "exactly the longest text is one line");
        assert!(lines[3].starts_with("stdout P y") && lines[3].len() == 9 + MAX_TEXT);
        assert_eq!(lines[4], "stdout P yyyyy");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    /// Bytes of all files in a directory.
    fn bytes_in(dir: &Path) -> u64 {
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum()
    }

    /// As the shim writes it: what is there of a line, as far as its room goes.
    fn pour(log: &mut Log, source: &[u8], mut check: impl FnMut()) {
        let mut room = Vec::with_capacity(MAX_TEXT + 1);
        for part in source.chunks(4096) {
            let fits = part.len().min(MAX_TEXT + 1 - room.len());
            room.extend_from_slice(&part[..fits]);
            let used = log.write(Source::Stdout, &room);
            room.drain(..used);
            room.extend_from_slice(&part[fits..]);
            check();
        }
    }

    #[test]
    fn a_flood_is_as_large_as_its_files() {
        let dir = std::env::temp_dir().join(format!("edge-flood-{}", std::process::id()));
        const MAX: u64 = 256 << 10;
        let mut megabyte = vec![b'x'; 1 << 20];
        megabyte.push(b'\n');
        for text in [vec![b'y'; 16 << 20], megabyte.repeat(16), b"\n".repeat(400_000)] {
            std::fs::create_dir_all(&dir).unwrap();
            let mut log = Log::open(&dir.join("0.log"), MAX, 3);
            // A file is full when it has passed its limit, by what one call writes at most.
            let most = 3 * (MAX + (BATCH * (MAX_TEXT + HEADER + 1)) as u64);
            let mut largest = 0;
            pour(&mut log, &text, || largest = largest.max(bytes_in(&dir)));
            assert!(largest <= most, "{largest} bytes of {} at most", most);
            std::fs::remove_dir_all(&dir).unwrap();
        }
    }

    #[test]
    fn a_log_that_cannot_be_renamed_is_bounded_as_well() {
        let dir = std::env::temp_dir().join(format!("edge-stuck-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut log = Log::open(&dir.join("0.log"), 1_000, 3);
        // All names that a rotation could take are taken, and are no files that it could remove.
        let now = wall().as_secs() as i64;
        for second in now..now + 2 * ROTATION_NAMES {
            let name = name_stamp(second);
            std::fs::create_dir(dir.join(format!("0.log.{}", text(&name)))).unwrap();
        }
        for n in 0..2_000 {
            log.write(Source::Stdout, format!("line {n}\n").as_bytes());
        }
        assert!(std::fs::metadata(dir.join("0.log")).unwrap().len() <= 2_100);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn rotation_keeps_so_many_files_and_loses_no_line_of_them() {
        let dir = std::env::temp_dir().join(format!("edge-rotate-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut log = Log::open(&dir.join("0.log"), 1_000, 3);
        for n in 0..200 {
            log.write(Source::Stdout, format!("line {n}\n").as_bytes());
        }
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        assert_eq!(names.len(), 3);
        let kept: String = names[1..]
            .iter()
            .chain(&names[..1])
            .map(|p| std::fs::read_to_string(p).unwrap())
            .collect();
        let numbers: Vec<u32> =
            kept.lines().map(|l| l.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|w| w[0] + 1 == w[1]), "{numbers:?}");
        assert_eq!(numbers.last(), Some(&199));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
