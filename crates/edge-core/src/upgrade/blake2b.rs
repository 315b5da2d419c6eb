//! BLAKE2b with 64 bytes of output and no key (RFC 7693): what minisign hashes a file with before
//! it signs it, so that a file is checked while it streams by. Neither `ring` nor any library that
//! is here already has it.

/// Bytes of a block.
const BLOCK: usize = 128;
const ROUNDS: usize = 12;

/// RFC 7693, 2.6: the first 64 bits of the fractional parts of the first square roots of primes.
const IV: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// RFC 7693, 2.7: which word of the message is mixed in when. Rounds 11 and 12 are 1 and 2 again.
const SIGMA: [[usize; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

/// Which four words each of the eight mixings of a round takes: columns, then diagonals.
const MIXED: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];

/// The hash of what was given so far.
#[derive(Debug, Clone)]
pub struct Blake2b {
    state: [u64; 8],
    /// A block is worked in only once it is known not to be the last.
    buffer: [u8; BLOCK],
    filled: usize,
    count: u128,
}

impl Default for Blake2b {
    fn default() -> Blake2b {
        let mut state = IV;
        // The parameter block: 64 bytes of output, no key, one leaf.
        state[0] ^= 0x0101_0040;
        Blake2b { state, buffer: [0; BLOCK], filled: 0, count: 0 }
    }
}

impl Blake2b {
    /// Takes more bytes in.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filled == BLOCK {
                self.compress(false);
                self.filled = 0;
            }
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
            self.buffer[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            self.count += now.len() as u128;
            bytes = rest;
        }
    }

    /// The hash.
    pub fn finish(mut self) -> [u8; 64] {
        self.buffer[self.filled..].fill(0);
        self.compress(true);
        let mut out = [0; 64];
        for (bytes, word) in out.chunks_exact_mut(8).zip(self.state) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    fn compress(&mut self, last: bool) {
        let mut message = [0u64; 16];
        for (word, bytes) in message.iter_mut().zip(self.buffer.chunks_exact(8)) {
            *word = bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        }
        let mut v = [0u64; 16];
        v[..8].copy_from_slice(&self.state);
        v[8..].copy_from_slice(&IV);
        #[allow(clippy::cast_possible_truncation, reason = "the two halves of the count")]
        let (low, high) = (self.count as u64, (self.count >> 64) as u64);
        v[12] ^= low;
        v[13] ^= high;
        if last {
            v[14] = !v[14];
        }
        for round in 0..ROUNDS {
            let order = &SIGMA[round % SIGMA.len()];
            for (at, places) in MIXED.iter().enumerate() {
                mix(&mut v, places, message[order[2 * at]], message[order[2 * at + 1]]);
            }
        }
        for (at, word) in self.state.iter_mut().enumerate() {
            *word ^= v[at] ^ v[at + 8];
        }
    }
}

/// RFC 7693, 3.1.
fn mix(v: &mut [u64; 16], [a, b, c, d]: &[usize; 4], x: u64, y: u64) {
    let (a, b, c, d) = (*a, *b, *c, *d);
    v[a] = v[a].wrapping_add(v[b]).wrapping_add(x);
    v[d] = (v[d] ^ v[a]).rotate_right(32);
    v[c] = v[c].wrapping_add(v[d]);
    v[b] = (v[b] ^ v[c]).rotate_right(24);
    v[a] = v[a].wrapping_add(v[b]).wrapping_add(y);
    v[d] = (v[d] ^ v[a]).rotate_right(16);
    v[c] = v[c].wrapping_add(v[d]);
    v[b] = (v[b] ^ v[c]).rotate_right(63);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn hash(bytes: &[u8], piece: usize) -> String {
        let mut hash = Blake2b::default();
        bytes.chunks(piece).for_each(|piece| hash.update(piece));
        hex(&hash.finish())
    }

    #[test]
    fn the_standards_own_examples() {
        assert_eq!(
            hash(b"abc", 2),
            "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1\
             7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"
        );
        assert_eq!(
            hash(b"", 1),
            "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419\
             d25e1031afee585313896444934eb04b903a685b1448b755d56f701afe9be2ce"
        );
    }

    #[test]
    fn pieces_make_no_difference() {
        let bytes: Vec<u8> = (0..1000u32).map(|n| (n % 251) as u8).collect();
        let whole = hash(&bytes, 1000);
        for piece in [1, 127, 128, 129, 256] {
            assert_eq!(hash(&bytes, piece), whole, "{piece}");
        }
        // As Python's hashlib has it.
        assert!(whole.starts_with("c11e1c0340bd7e5a1b275f1230c962fad215ecb1391486e7"), "{whole}");
        let full = hash(&bytes[..256], 128);
        assert!(full.starts_with("93463ac058b6163eb43be3f5bb32b28541498f4e3366f1ef"), "{full}");
    }
}
