//! A card that gets another system and keeps its data: the first two partitions of an image of
//! edged's, over those of a card that was written with one.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use super::image::{HEAD, SECTOR};
use crate::fault::Fault;

/// Where a partition begins in the table, if it is named there.
fn start(head: &[u8], number: usize) -> Option<u64> {
    let entry = head.get(446 + 16 * number..462 + 16 * number)?;
    let start = u32::from_le_bytes(entry[8..12].try_into().ok()?);
    (entry[4] != 0 && start > 0).then_some(u64::from(start) * SECTOR)
}

/// The bytes of the system, on the image and on the card: from the first partition to the third,
/// which has the data.
pub(super) fn system(image: &[u8], card: &[u8]) -> Result<Range<u64>, String> {
    let starts = |head: &[u8]| match [0, 1, 2].map(|number| start(head, number)) {
        [Some(boot), Some(root), Some(data)] if boot < root && root < data => {
            Some([boot, root, data])
        }
        _ => None,
    };
    let said = "--keep-data is for the card image of edged";
    let Some(wanted) = starts(image) else {
        return Err(format!("the image has not three partitions: {said}"));
    };
    // The disk's signature: the image's own boot words look for the root by it.
    if image.get(440..444) != card.get(440..444) || starts(card) != Some(wanted) {
        return Err(format!(
            "the card was not written with such an image: {said}; leave it out, and all that is on \
             the card is lost"
        ));
    }
    Ok(wanted[0]..wanted[2])
}

/// Reads the card's beginning and says what of it will be written.
pub(super) fn of(card: &Path, image: &[u8]) -> Result<Range<u64>, Fault> {
    let failed = |error| Fault::io(format!("read {}", card.display()), error);
    let mut head = Vec::new();
    let file = File::open(card).map_err(failed)?;
    file.take(HEAD as u64).read_to_end(&mut head).map_err(failed)?;
    system(image, &head).map_err(|what| Fault::text(format!("{}: {what}", card.display())))
}

/// What of a piece at `at` lies in the range: the place of its first byte, and the bytes.
pub(super) fn within<'a>(range: &Range<u64>, at: u64, piece: &'a [u8]) -> Option<(u64, &'a [u8])> {
    let end = range.end.min(at + piece.len() as u64);
    let begin = range.start.max(at);
    (begin < end).then(|| (begin, &piece[(begin - at) as usize..(end - at) as usize]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(starts: [u32; 3]) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        for (number, start) in starts.into_iter().enumerate() {
            head[450 + 16 * number] = 0x83;
            head[454 + 16 * number..458 + 16 * number].copy_from_slice(&start.to_le_bytes());
        }
        head
    }

    #[test]
    fn only_a_card_with_the_same_partitions() {
        let image = head([8, 16, 64]);
        assert_eq!(system(&image, &image), Ok(8 * SECTOR..64 * SECTOR));
        for card in [head([8, 16, 56]), head([8, 16, 0]), vec![0; HEAD], Vec::new()] {
            assert!(system(&image, &card).unwrap_err().contains("not written with"));
            assert!(system(&card, &image).is_err());
        }
        let mut other = image.clone();
        other[440] = 1;
        assert!(system(&image, &other).unwrap_err().contains("not written with"));
    }

    #[test]
    fn pieces_are_cut_to_the_range() {
        let piece = b"abcdefgh";
        assert_eq!(within(&(4..12), 0, piece), Some((4, &b"efgh"[..])));
        assert_eq!(within(&(4..12), 8, piece), Some((8, &b"abcd"[..])));
        assert_eq!(within(&(0..99), 8, piece), Some((8, &piece[..])));
        assert_eq!(within(&(4..12), 12, piece), None);
        assert_eq!(within(&(8..12), 0, piece), None);
    }
}
