//! PAX records: the `length key=value` lines before an entry that widen its header's fields, carry
//! extended attributes, and describe sparse files.

use super::tarstream::SPARSE_MAX;
use std::io::{self, Read};

/// The records that matter, parsed.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Option<Sparse>,
}

/// GNU tar's description of a sparse file in PAX records, versions 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    numbers: Vec<u64>,
    /// Version 1.0: the map is at the start of the data.
    in_data: bool,
}

fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn number<T: std::str::FromStr>(bytes: &[u8]) -> io::Result<T> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| bad("a PAX record holds no usable number"))
}

impl Pax {
    /// Parses all records of one extension header.
    pub(super) fn parse(mut records: &[u8]) -> io::Result<Pax> {
        let mut pax = Pax::default();
        while !records.is_empty() && !records.iter().all(|b| *b == 0) {
            let space = records.iter().position(|b| *b == b' ');
            let space = space.ok_or_else(|| bad("a PAX record has no length"))?;
            let length: usize = number(&records[..space])?;
            if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
                return Err(bad("a PAX record's length is wrong"));
            }
            let record = &records[space + 1..length - 1];
            let equals = record.iter().position(|b| *b == b'=');
            let equals = equals.ok_or_else(|| bad("a PAX record has no '='"))?;
            pax.set(&record[..equals], &record[equals + 1..])?;
            records = &records[length..];
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.get_or_insert_default().set(key, value);
        }
        if value.is_empty() {
            return Ok(());
        }
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"mtime" => self.mtime = Some(timestamp(value)?),
            _ => {}
        }
        Ok(())
    }
}

/// `[-]seconds[.fraction]`, as seconds rounded down and nanoseconds.
fn timestamp(value: &[u8]) -> io::Result<(i64, u32)> {
    let at = value.iter().position(|b| *b == b'.');
    let (whole, fraction) = match at {
        None => (value, &[][..]),
        Some(at) => (&value[..at], &value[at + 1..]),
    };
    let seconds: i64 = number(whole)?;
    let mut digits = [b'0'; 9];
    for (digit, byte) in digits.iter_mut().zip(fraction) {
        *digit = *byte;
    }
    let nanos: u32 = number(&digits)?;
    if whole.starts_with(b"-") && nanos > 0 {
        return Ok((seconds.saturating_sub(1), 1_000_000_000 - nanos));
    }
    Ok((seconds, nanos))
}

/// What a sparse entry's records come to: its real name if they give one, size and runs.
type Resolved = (Option<Vec<u8>>, u64, Vec<(u64, u64)>);

impl Sparse {
    fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number(value)?),
            b"major" => self.in_data = value == b"1",
            b"offset" | b"numbytes" => self.push(number(value)?)?,
            b"map" => {
                for part in value.split(|b| *b == b',').filter(|part| !part.is_empty()) {
                    self.push(number(part)?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, value: u64) -> io::Result<()> {
        if self.numbers.len() >= 2 * SPARSE_MAX {
            return Err(bad("too many runs in a sparse file"));
        }
        self.numbers.push(value);
        Ok(())
    }

    /// Reads the map from the start of `data` if it is there.
    pub(super) fn resolve(mut self, data: &mut impl Read) -> io::Result<Resolved> {
        if self.in_data {
            let mut lines = Lines { data, read: 0 };
            let count = lines.number()?;
            for _ in 0..count.saturating_mul(2) {
                let value = lines.number()?;
                self.push(value)?;
            }
            lines.finish()?;
        }
        let size = self.size.ok_or_else(|| bad("a sparse file without its size"))?;
        if !self.numbers.len().is_multiple_of(2) {
            return Err(bad("a sparse file's map has an odd number of fields"));
        }
        let pairs = self.numbers.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        let runs = pairs.filter(|(offset, length)| *length > 0 || *offset < size).collect();
        Ok((self.name, size, runs))
    }
}

/// Decimal numbers, one a line, at the start of an entry's data.
struct Lines<'a, R> {
    data: &'a mut R,
    read: u64,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> io::Result<u64> {
        let mut digits = Vec::new();
        loop {
            let mut byte = [0];
            if self.data.read(&mut byte)? == 0 {
                return Err(bad("a sparse file's map is cut off"));
            }
            self.read += 1;
            match byte[0] {
                b'\n' => return number(&digits),
                _ if digits.len() >= 20 => return Err(bad("a sparse file's map holds no number")),
                byte => digits.push(byte),
            }
        }
    }

    /// Skips to the end of the map's last block.
    fn finish(self) -> io::Result<()> {
        let pad = self.read.next_multiple_of(512) - self.read;
        io::copy(&mut self.data.take(pad), &mut io::sink())?;
        Ok(())
    }
}
