//! Looks into an archive before it is sent: which images it has, and where in the file their layers
//! are, so that layers that a board has need not travel. An archive that is compressed, or that
//! this reader doesn't understand, is sent whole: the board says what is wrong with it.

use edge_api::Object;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

const BLOCK: u64 = 512;
/// Documents in an archive are smaller.
const DOCUMENT_MAX: u64 = 4 << 20;
/// An archive with more files is none of images.
const FILES_MAX: usize = 20_000;
/// An index may point to an index; more levels are nonsense.
const DEPTH: usize = 4;

/// An archive, as far as it was understood.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Where entries are in the file, headers and padding included, by name.
    entries: BTreeMap<String, Range<u64>>,
    /// Of each image: its diff ids, and the names of its layers' entries, bottom first.
    pub(super) images: Vec<(Vec<String>, Vec<String>)>,
}

impl Survey {
    /// Looks into the file; nothing is known of one that can't be read this way.
    pub(super) fn of(file: &mut File) -> Survey {
        let survey = Survey::read(file).ok().flatten().unwrap_or_default();
        let _ = file.rewind();
        survey
    }

    fn read(file: &mut File) -> io::Result<Option<Survey>> {
        let Some((entries, data)) = walk(file)? else { return Ok(None) };
        let mut document = |name: &str| -> io::Result<Option<Object>> {
            let Some(range) = data.get(name) else { return Ok(None) };
            if range.end - range.start > DOCUMENT_MAX {
                return Ok(None);
            }
            file.seek(SeekFrom::Start(range.start))?;
            let mut bytes = Vec::new();
            file.take(range.end - range.start).read_to_end(&mut bytes)?;
            Ok(serde_json::from_slice(&bytes).ok())
        };
        let mut images = Vec::new();
        let mut todo: Vec<(String, usize)> = vec![("index.json".into(), 0)];
        while let Some((name, depth)) = todo.pop() {
            let Some(found) = document(&name)? else { continue };
            let blobs = |list: &Object| -> Vec<String> {
                list.as_array().into_iter().flatten().filter_map(blob).collect()
            };
            if depth < DEPTH {
                todo.extend(blobs(&found["manifests"]).into_iter().map(|name| (name, depth + 1)));
            }
            if let Some(config) = blob(&found["config"])
                && let Some(config) = document(&config)?
            {
                images.push((diffs(&config), blobs(&found["layers"])));
            }
        }
        let docker = document("manifest.json")?;
        for image in docker.iter().filter_map(Object::as_array).flatten() {
            let Some(config) = document(image["Config"].as_str().unwrap_or_default())? else {
                continue;
            };
            let layers = image["Layers"].as_array().into_iter().flatten();
            let layers = layers.filter_map(|layer| layer.as_str().map(str::to_owned)).collect();
            images.push((diffs(&config), layers));
        }
        Ok(Some(Survey { entries, images }))
    }

    /// The parts of a file of `size` bytes that must be sent, when of each image only the layers
    /// at these positions are missing.
    pub(super) fn parts(&self, missing: &[Vec<usize>], size: u64) -> Vec<Range<u64>> {
        let (mut known, mut needed) = (BTreeSet::new(), BTreeSet::new());
        for (number, (diffs, layers)) in self.images.iter().enumerate() {
            let whole = diffs.len() == layers.len();
            for (position, layer) in layers.iter().enumerate() {
                let lacks = missing.get(number).is_none_or(|lack| lack.contains(&position));
                if lacks || !whole {
                    needed.insert(layer)
                } else {
                    known.insert(layer)
                };
            }
        }
        let mut left_out: Vec<&Range<u64>> =
            known.difference(&needed).filter_map(|layer| self.entries.get(*layer)).collect();
        left_out.sort_by_key(|range| range.start);
        let mut parts = Vec::new();
        let mut at = 0;
        for range in left_out {
            if range.start > at {
                parts.push(at..range.start);
            }
            at = range.end;
        }
        if at < size {
            parts.push(at..size);
        }
        parts
    }
}

/// The name of a descriptor's blob in an OCI layout.
fn blob(descriptor: &Object) -> Option<String> {
    Some(format!("blobs/{}", descriptor["digest"].as_str()?.replacen(':', "/", 1)))
}

fn diffs(config: &Object) -> Vec<String> {
    let list = config["rootfs"]["diff_ids"].as_array().into_iter().flatten();
    list.filter_map(|diff| diff.as_str().map(str::to_owned)).collect()
}

/// Entries with headers and padding, and their data alone.
type Places = (BTreeMap<String, Range<u64>>, BTreeMap<String, Range<u64>>);

/// Walks the headers of a plain tar file; `None` for anything out of the ordinary, links too.
fn walk(file: &mut File) -> io::Result<Option<Places>> {
    let (mut entries, mut data) = Places::default();
    let mut at = 0u64;
    while entries.len() < FILES_MAX {
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0u8; BLOCK as usize];
        if file.read_exact(&mut header).is_err() || header.iter().all(|byte| *byte == 0) {
            return Ok((!entries.is_empty()).then_some((entries, data)));
        }
        let (Some(size), true) = (octal(&header[124..136]), sum_is_right(&header)) else {
            return Ok(None);
        };
        let start = at + BLOCK;
        let Some(end) = size.checked_next_multiple_of(BLOCK).and_then(|s| start.checked_add(s))
        else {
            return Ok(None);
        };
        match header[156] {
            b'0' | 0 => {
                let name = name(&header);
                entries.insert(name.clone(), at..end);
                data.insert(name, start..start + size);
            }
            b'5' => {}
            // Long names, links, sparse files: not in archives that tools write today.
            _ => return Ok(None),
        }
        at = end;
    }
    Ok(None)
}

fn name(header: &[u8]) -> String {
    let text = |field: &[u8]| {
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        String::from_utf8_lossy(&field[..end]).into_owned()
    };
    let name = text(&header[..100]);
    let prefix = text(&header[345..500]);
    let full = match &header[257..263] == b"ustar\0" && !prefix.is_empty() {
        true => format!("{prefix}/{name}"),
        false => name,
    };
    full.trim_start_matches("./").to_owned()
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}

fn sum_is_right(header: &[u8]) -> bool {
    let rest = header[..148].iter().chain(&header[156..]);
    let sum = rest.fold(8 * 32, |sum, byte| sum + u64::from(*byte));
    octal(&header[148..156]) == Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::io::Write;

    fn add(tar: &mut Vec<u8>, name: &str, content: &[u8]) {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[156] = b'0';
        header[257..263].copy_from_slice(b"ustar\0");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        header[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        tar.extend_from_slice(&header);
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }

    fn survey(tar: &[u8]) -> Survey {
        let name = format!("edgectl-survey-{}-{}", std::process::id(), tar.len());
        let path = std::env::temp_dir().join(name);
        File::create(&path).expect("a file").write_all(tar).expect("written");
        let found = Survey::of(&mut File::open(&path).expect("a file"));
        std::fs::remove_file(path).expect("removed");
        found
    }

    fn oci() -> Vec<u8> {
        let config = json!({ "rootfs": { "diff_ids": ["sha256:d1", "sha256:d2"] } }).to_string();
        let manifest = json!({ "config": { "digest": "sha256:c" },
            "layers": [{ "digest": "sha256:l1" }, { "digest": "sha256:l2" }] });
        let index = json!({ "manifests": [{ "digest": "sha256:m" }] }).to_string();
        let mut tar = Vec::new();
        add(&mut tar, "index.json", index.as_bytes());
        add(&mut tar, "./blobs/sha256/c", config.as_bytes());
        add(&mut tar, "blobs/sha256/l1", &[1; 1000]);
        add(&mut tar, "blobs/sha256/m", manifest.to_string().as_bytes());
        add(&mut tar, "blobs/sha256/l2", &[2; 2000]);
        tar.resize(tar.len() + 1024, 0);
        tar
    }

    fn whole(size: u64) -> Vec<Range<u64>> {
        Some(0..size).filter(|all| !all.is_empty()).into_iter().collect()
    }

    #[test]
    fn layers_that_a_board_has_are_left_out() {
        let tar = oci();
        let size = tar.len() as u64;
        let found = survey(&tar);
        assert_eq!(found.images.len(), 1);
        assert_eq!(found.images[0].0, ["sha256:d1", "sha256:d2"]);
        assert_eq!(found.parts(&[vec![0, 1]], size), whole(size));
        let first_gone = found.parts(&[vec![1]], size);
        let sent: u64 = first_gone.iter().map(|part| part.end - part.start).sum();
        assert_eq!((first_gone.len(), size - sent), (2, 512 + 1024));
        let both_gone = found.parts(&[vec![]], size);
        let sent: u64 = both_gone.iter().map(|part| part.end - part.start).sum();
        assert_eq!(size - sent, 512 + 1024 + 512 + 2048);
        // A board that said nothing gets everything.
        assert_eq!(found.parts(&[], size), whole(size));
    }

    #[test]
    fn what_is_not_understood_is_sent_whole() {
        for odd in [b"".to_vec(), b"\x1f\x8b compressed".to_vec(), vec![b'x'; 2048]] {
            let found = survey(&odd);
            assert_eq!(found, Survey::default());
            let size = odd.len() as u64;
            assert_eq!(found.parts(&[], size), whole(size));
        }
    }
}
