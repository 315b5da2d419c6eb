//! What is noted of the edged.yaml that was taken: what it was then, by its hash, and for what
//! where that is NetworkManager. While its secrets are taken out of it, also where they stand: a
//! power cut leaves half of one, which must not be taken for a new one.

use std::ops::Range;
use std::path::Path;

use edge_server::pki::{read_if_present, to_hex};

use super::boot::{self, Boot};
use super::{Refusal, failed, put};

/// The hash of a file, and a word for who it was taken for.
pub(super) fn mark(bytes: &[u8], manager: bool) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let sum = <&[u8; 32]>::try_from(digest.as_ref()).map(to_hex).unwrap_or_default();
    format!("{sum}{}\n", if manager { " NetworkManager" } else { "" })
}

/// The line for where secrets stand.
pub(super) fn places(secrets: &[Range<usize>]) -> String {
    let place = |span: &Range<usize>| format!(" {}-{}", span.start, span.end);
    format!("secrets{}\n", secrets.iter().map(place).collect::<String>())
}

/// A note, as its mark and where secrets stand that are being taken out.
fn read(text: &str) -> (String, Vec<Range<usize>>) {
    let mut lines = text.lines();
    let mark = format!("{}\n", lines.next().unwrap_or_default());
    let spans = lines.next().and_then(|line| line.strip_prefix("secrets "));
    let span = |word: &str| {
        let (start, end) = word.split_once('-')?;
        Some(start.parse().ok()?..end.parse().ok()?)
    };
    (mark, spans.into_iter().flat_map(|words| words.split(' ')).filter_map(span).collect())
}

/// Goes on taking the secrets out where that was cut off. A file that is another one by now has
/// been written by a person since, and is left alone.
pub(super) fn finish(boot: &Boot, note: &Path) -> Result<(), Refusal> {
    let text = read_if_present(note).map_err(|e| failed("read", note, e))?;
    let (mark_of, secrets) = read(&text.unwrap_or_default());
    if secrets.is_empty() {
        return Ok(());
    }
    // A partition that is away for now, or can't be read, keeps its note for the boot that can.
    let Ok(bytes) = std::fs::read(boot.file()) else { return Ok(()) };
    let is_noted = |left: &Vec<u8>| [true, false].iter().any(|m| mark(left, *m) == mark_of);
    if let Some(left) = boot::without(&bytes, &secrets).filter(is_noted) {
        let done = boot.write_over(&left, &secrets);
        done.map_err(|e| failed("take the secrets out of", &boot.file(), e))?;
    }
    put(note, &mark_of, 0o644)
}
