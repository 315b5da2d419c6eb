//! The older iptables' filter table as the kernel gives it (`linux/netfilter_ipv4/ip_tables.h`):
//! what it does with packets that pass through the board.

use super::Legacy;

/// `struct ipt_getinfo`.
pub const INFO_BYTES: usize = 84;
/// Where a hook's first rule, its last one and the size of all are written there. The third hook is
/// the one for what passes.
const FIRST: usize = 36 + 2 * 4;
const POLICY: usize = 56 + 2 * 4;
const SIZE: usize = 80;
/// What stands before the rules in `struct ipt_get_entries`: a name, a size and a gap.
const BEFORE: usize = 40;
/// `struct ipt_entry`: where its target and the next entry are.
const TARGET: usize = 88;
const NEXT: usize = 90;
/// `struct xt_entry_target`: its name, and the verdict behind it.
const NAME: usize = 2;
const NAME_BYTES: usize = 29;
const VERDICT: usize = 32;
/// `-NF_DROP - 1`
const DROP: u32 = u32::MAX;

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    let two = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
    Some(usize::from(u16::from_ne_bytes(two)))
}

fn place(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(word(bytes, at)?).ok()
}

/// How many bytes to ask for, given what the kernel says of the table, and how many of them are
/// rules.
#[must_use]
pub fn entries_bytes(info: &[u8]) -> Option<(usize, u32)> {
    let size = word(info, SIZE)?;
    Some((BEFORE.checked_add(usize::try_from(size).ok()?)?, size))
}

/// What the table does with packets that pass, given what the kernel says of it (`ipt_getinfo`) and
/// all of it (`ipt_get_entries`). `None` for what does not hold together.
#[must_use]
pub fn forward(info: &[u8], table: &[u8]) -> Option<Legacy> {
    let rules = table.get(BEFORE..)?;
    let (mut at, policy) = (place(info, FIRST)?, place(info, POLICY)?);
    let mut dropping = 0;
    while at < policy {
        dropping += usize::from(drops(rules, at)?);
        let step = half(rules, at.checked_add(NEXT)?)?;
        // A step of nothing would never end.
        at = at.checked_add((step > 0).then_some(step)?)?;
    }
    Some(Legacy { drops: drops(rules, policy)?, rules: dropping })
}

/// Whether the rule at `at` drops or rejects what it matches.
fn drops(rules: &[u8], at: usize) -> Option<bool> {
    let target = at.checked_add(half(rules, at.checked_add(TARGET)?)?)?;
    let from = target.checked_add(NAME)?;
    let name = rules.get(from..from.checked_add(NAME_BYTES)?)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(match name {
        b"" => word(rules, target.checked_add(VERDICT)?)? == DROP,
        name => name == b"REJECT",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One rule without matches.
    fn rule(name: &str, verdict: i32) -> Vec<u8> {
        let mut bytes = vec![0; 112 + 40];
        bytes[TARGET..TARGET + 2].copy_from_slice(&112u16.to_ne_bytes());
        bytes[NEXT..NEXT + 2].copy_from_slice(&152u16.to_ne_bytes());
        bytes[112 + NAME..112 + NAME + name.len()].copy_from_slice(name.as_bytes());
        bytes[112 + VERDICT..112 + VERDICT + 4].copy_from_slice(&verdict.to_ne_bytes());
        bytes
    }

    fn table(rules: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
        let all = rules.concat();
        let mut info = vec![0; INFO_BYTES];
        let last = u32::try_from(all.len() - 152).unwrap();
        info[POLICY..POLICY + 4].copy_from_slice(&last.to_ne_bytes());
        info[SIZE..SIZE + 4].copy_from_slice(&u32::try_from(all.len()).unwrap().to_ne_bytes());
        (info, [vec![0; BEFORE], all].concat())
    }

    #[test]
    fn what_a_table_drops() {
        let (accept, drop, reject) = (rule("", -2), rule("", -1), rule("REJECT", 0));
        for (rules, wanted) in [
            (vec![accept.clone()], (false, 0)),
            (vec![drop.clone()], (true, 0)),
            (vec![reject, drop.clone(), accept.clone(), accept.clone()], (false, 2)),
            (vec![rule("", 304), drop], (true, 0)),
        ] {
            let (info, all) = table(&rules);
            let found = forward(&info, &all).unwrap();
            assert_eq!((found.drops, found.rules), wanted);
            assert_eq!(entries_bytes(&info), Some((all.len(), all.len() as u32 - 40)));
            for length in 0..all.len() {
                assert!(forward(&info, &all[..length]).is_none() || length > 40);
            }
        }
        let (mut info, mut all) = table(&[accept.clone(), accept]);
        all[BEFORE + NEXT..BEFORE + NEXT + 2].copy_from_slice(&[0, 0]);
        assert_eq!(forward(&info, &all), None);
        info[FIRST] = 255;
        assert!(forward(&info[..10], &all).is_none());
    }
}
