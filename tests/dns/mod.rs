//! The cluster's DNS messages beside those of another maker: what we write, `hickory-proto` reads
//! as the same; what anybody may send us, we take or refuse as it would; and no bytes at all make
//! us stumble. Seeded: `EDGED_DNS_SEED` repeats a run, `EDGED_DNS_CASES` makes it longer.

mod made;
mod odd;
mod oracle;
mod passed;

use edge_core::consensus::Chance;

/// Cases of each kind that CI can afford.
const CASES: u64 = 100_000;

fn number(variable: &str, otherwise: u64) -> u64 {
    let named = std::env::var(variable).ok();
    named.map_or(otherwise, |text| text.parse().expect("a number"))
}

fn cases() -> u64 {
    number("EDGED_DNS_CASES", CASES)
}

/// The chance of a test; its seed is printed.
fn chance(test: &str) -> Chance {
    let seed = number("EDGED_DNS_SEED", u64::from(std::process::id()));
    println!("{test}: EDGED_DNS_SEED={seed}");
    Chance::new(seed)
}

/// A name of labels that share their ends with others, so that references are made; some have
/// odd letters.
fn labels(chance: &mut Chance) -> Vec<Vec<u8>> {
    const WORDS: [&[u8]; 8] =
        [b"a", b"Web", b"svc", b"cluster", b"local", b"_http", b"\xff.\\", &[b'x'; 63]];
    let count = chance.below(5);
    let mut labels: Vec<Vec<u8>> =
        (0..count).map(|_| WORDS[chance.below(WORDS.len())].to_vec()).collect();
    if !chance.next().is_multiple_of(4) {
        labels.extend([&b"ns"[..], b"svc", b"cluster", b"local"].map(<[u8]>::to_vec));
    }
    while labels.iter().map(|label| label.len() + 1).sum::<usize>() >= 255 {
        labels.pop();
    }
    labels
}

fn name(chance: &mut Chance) -> edge_core::dns::Name {
    let labels = labels(chance);
    edge_core::dns::Name::from_labels(labels.iter().map(Vec::as_slice)).expect("a name")
}

/// Changes a few bytes, cuts, or lengthens.
fn mutate(chance: &mut Chance, packet: &mut Vec<u8>) {
    for _ in 0..=chance.below(4) {
        let at = chance.below(packet.len());
        match chance.next() % 8 {
            0 => packet.truncate(at),
            1 => packet.extend((0..chance.below(20)).map(|_| 0xc0)),
            2 if !packet.is_empty() => {
                // A reference, to anywhere.
                packet[at] = 0xc0;
                if let Some(low) = packet.get_mut(at + 1) {
                    *low = (chance.next() % 256) as u8;
                }
            }
            3 if packet.len() > 12 => packet[4 + chance.below(8)] = (chance.next() % 4) as u8,
            4 if packet.len() > 4 => packet[2 + chance.below(2)] ^= 1 << (chance.next() % 8),
            _ if !packet.is_empty() => packet[at] = (chance.next() % 256) as u8,
            _ => packet.push(0),
        }
    }
}
