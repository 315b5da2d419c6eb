//! Short numbers for long descriptions. They are made of what they describe, so that the same
//! thing has the same number tomorrow, and after a restart, and a change stays small.

use std::collections::BTreeMap;

/// A number in the kernel's maps that stands for a description.
pub type Id = u32;

/// Everybody as a peer; as what a pod allows: nothing at all.
pub const NONE: Id = 0;

/// FNV-1a's start and factor, for 32 bits.
const START: u32 = 0x811c_9dc5;
const FACTOR: u32 = 0x0100_0193;

fn hash(text: &str, turn: u8) -> u32 {
    let bytes = text.bytes().chain([0, turn]);
    bytes.fold(START, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(FACTOR))
}

/// The numbers given out so far.
#[derive(Debug, Default)]
pub(super) struct Ids {
    taken: BTreeMap<Id, String>,
}

impl Ids {
    /// How many have been given out.
    pub(super) fn count(&self) -> usize {
        self.taken.len()
    }

    /// The number of a description. Two descriptions never share one, even where somebody has
    /// written labels until their hashes met.
    pub(super) fn of(&mut self, text: &str) -> Id {
        for turn in 0..=u8::MAX {
            let id = hash(text, turn);
            match self.taken.get(&id) {
                _ if id == NONE => {}
                Some(holder) if holder != text => {}
                Some(_) => return id,
                None => {
                    self.taken.insert(id, text.to_owned());
                    return id;
                }
            }
        }
        NONE
    }
}
