//! Random numbers of the system's generator.

use ring::rand::{SecureRandom, SystemRandom};

/// Eight random bytes; `None` if the system has none to give.
pub(crate) fn try_number() -> Option<u64> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// A number for spreading attempts in time: need not be a secret.
pub(crate) fn number() -> u64 {
    try_number().unwrap_or(0x5EED)
}
