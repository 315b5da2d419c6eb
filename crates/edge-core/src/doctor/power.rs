//! Power and heat. The Raspberry Pi firmware tells both in one word of bits: the lower ones are
//! about now, the same sixteen higher say that it has happened since boot
//! (raspberrypi.com, `vcgencmd get_throttled`).

use super::{Condition, Facts, Finding, condition};

const UNDER_VOLTAGE: u32 = 0x1;
const CAPPED: u32 = 0x2;
const THROTTLED: u32 = 0x4;
const WARM: u32 = 0x8;
const SINCE_BOOT: u32 = 16;
/// A board is hot from here on, in thousandths of a degree: the firmware slows a Pi at 80 to 85.
const HOT: i64 = 80_000;

const SUPPLY: &str = "use the board's own power supply (5.1 V, 3 A or 5 A) and a short cable, and \
    take power-hungry USB devices to a powered hub";
const COOLING: &str = "give the board a heat sink or a fan, and air";

/// The bits in words: what is now, or has been since boot.
#[must_use]
pub fn words(bits: u32) -> Vec<&'static str> {
    let all = [
        (UNDER_VOLTAGE, "under-voltage"),
        (CAPPED, "the processor's frequency is capped"),
        (THROTTLED, "the processor is throttled"),
        (WARM, "the soft temperature limit is reached"),
    ];
    all.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, words)| words).collect()
}

pub(super) fn judge(facts: &Facts, found: &mut Vec<Finding>) {
    under_voltage(facts, found);
    throttled(facts, found);
    match facts.temperature_milli {
        Some(milli) if milli >= HOT => found.push(Finding::warning(
            "temperature",
            format!("the board is at {} °C", milli / 1000),
            "it slows itself down to cool, and probes and deadlines of pods are missed",
            COOLING,
        )),
        Some(milli) => {
            found.push(Finding::ok("temperature", format!("{} °C", milli / 1000)));
        }
        None => found.push(Finding::ok("temperature", "the board has no thermometer")),
    }
}

/// Whether the supply's voltage is too low now, and whether it was since boot; `None` where nobody
/// says.
fn supply(facts: &Facts) -> Option<(bool, bool)> {
    match (facts.throttled, facts.voltage_alarm) {
        (Some(bits), _) => {
            Some((bits & UNDER_VOLTAGE != 0, bits >> SINCE_BOOT & UNDER_VOLTAGE != 0))
        }
        // The kernel's alarm keeps what the firmware has seen since it was last asked.
        (None, Some(alarm)) => Some((alarm, alarm)),
        (None, None) => None,
    }
}

fn under_voltage(facts: &Facts, found: &mut Vec<Finding>) {
    let id = "under-voltage";
    let why = "cards are corrupted, USB disks and Wi-Fi drop out and boards hang, at moments that \
               nobody can explain";
    let Some(seen) = supply(facts) else {
        return found.push(match facts.raspberry {
            true => {
                Finding::unseen(id, "this board measures its supply, but its kernel doesn't say")
            }
            false => Finding::ok(id, "this board does not measure its supply"),
        });
    };
    found.push(match seen {
        (true, _) => Finding::error(id, "the supply's voltage is too low right now", why, SUPPLY),
        (false, true) => {
            Finding::warning(id, "the supply's voltage was too low since boot", why, SUPPLY)
        }
        (false, false) => Finding::ok(id, "the supply's voltage was never too low since boot"),
    });
}

fn throttled(facts: &Facts, found: &mut Vec<Finding>) {
    let id = "throttled";
    let Some(bits) = facts.throttled else {
        let what = "whether it is slowed down by heat or by its supply: this board does not say";
        return found.push(Finding::unseen(id, what));
    };
    let now = words(bits & !UNDER_VOLTAGE);
    let since = words(bits >> SINCE_BOOT & !UNDER_VOLTAGE);
    let what = match (now.is_empty(), since.is_empty()) {
        (true, true) => return found.push(Finding::ok(id, "never slowed down since boot")),
        (false, _) => format!("now: {}", now.join(", ")),
        (true, false) => format!("since boot, not now: {}", since.join(", ")),
    };
    let why = "the board is slower than its pods expect";
    found.push(Finding::warning(id, what, why, COOLING));
}

/// What has happened since boot stays until the next one, so it does not flap.
pub(super) fn conditions(facts: &Facts) -> Vec<Condition> {
    let bits = facts.throttled.unwrap_or(0);
    let seen = bits | bits >> SINCE_BOOT;
    let mut found = Vec::new();
    if supply(facts).is_some_and(|(now, since)| now || since) {
        let message = format!("the supply's voltage was too low since boot: {SUPPLY}");
        found.extend(condition("UnderVoltage", message));
    }
    if seen & THROTTLED != 0 {
        let message = format!("the processor was throttled since boot: {COOLING}");
        found.extend(condition("Throttled", message));
    }
    found
}
