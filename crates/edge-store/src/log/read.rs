//! One segment among the others: whether it is the one that belongs here, and what it holds.

use std::path::Path;

use super::recover::{Bad, Contents, Outlived, Reader};
use super::segment::{SegmentHeader, SegmentName};

/// Whether a segment begins where the state has everything that lies before.
pub(super) fn is_behind(state: &Outlived, name: SegmentName) -> bool {
    name.next <= state.applied + 1 && name.batch <= state.batch + 1
}

/// Where a segment stands among its kind.
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) name: SegmentName,
    pub(super) state: Outlived,
    pub(super) proven: bool,
    pub(super) store: u64,
    pub(super) length: u64,
}

pub(super) fn read_segment(
    place: &Place<'_>,
    bytes: &[u8],
    oldest: bool,
    contents: &mut Contents,
) -> Result<(), Bad> {
    let index = contents.next;
    let bad = |what: &str, offset: usize| {
        Err(Bad { offset, index, what: what.to_owned(), highest: index })
    };
    let header = match SegmentHeader::decode(bytes) {
        Some(header) => header,
        None => return bad("a first sector that changed", 0),
    };
    if header.store != place.store {
        return bad("a segment of another store", 0);
    }
    let gap = if oldest {
        !is_behind(&place.state, header.name)
    } else {
        (header.name.batch, header.name.next) != (contents.batch, contents.next)
    };
    if header.name != place.name || gap {
        return bad(&format!("a segment that begins with batch {}", header.name.batch), 0);
    }
    let reader = Reader {
        bytes,
        path: place.path,
        seed: place.store,
        outlived: place.state,
        proven: place.proven,
    };
    let read = reader.read(contents);
    if place.length < header.length {
        let what = format!("the file's end, where {} bytes should be", header.length);
        let highest = read.map_or_else(|bad| bad.highest, |()| contents.next);
        return Err(Bad { offset: place.length as usize, index: contents.next, what, highest });
    }
    read
}
