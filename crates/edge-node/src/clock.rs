//! The board's own clock, read here by the agent, the runtime's helpers and the shims alike, so
//! that what one of them stamps means the same to the others; and set forward where it was never
//! set.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edge_core::clock::{Kept, Reading};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

/// By how many milliseconds a test wants the board's clock to be off, or the path of a file that
/// says so at any moment: a variable that only debug builds know.
pub const SKEW: &str = "EDGED_TEST_CLOCK_SKEW_MS";

/// The variable's value, in debug builds. Shims of other builds must not touch their heap for it.
pub(crate) fn skew() -> Option<&'static str> {
    static TOLD: OnceLock<Option<String>> = OnceLock::new();
    if !cfg!(debug_assertions) {
        return None;
    }
    TOLD.get_or_init(|| std::env::var(SKEW).ok()).as_deref()
}

/// How far a test has moved the clock, in milliseconds.
fn skewed_ms(told: &str) -> i64 {
    let number = |text: &str| text.trim().parse().ok();
    let file = || number(&fs::read_to_string(told).ok()?);
    number(told).or_else(file).unwrap_or_default()
}

/// The time since 1970 by the board's clock.
pub fn wall() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let Some(told) = skew() else { return now };
    let skewed = skewed_ms(told);
    let by = Duration::from_millis(skewed.unsigned_abs());
    if skewed < 0 { now.saturating_sub(by) } else { now.saturating_add(by) }
}

/// [`wall`] in milliseconds.
pub fn wall_ms() -> i64 {
    i64::try_from(wall().as_millis()).unwrap_or(i64::MAX)
}

/// As long as both clocks may take to be read as if at one moment, in milliseconds.
const AT_ONCE_MS: i64 = 1000;

/// Reads the board's clock, and beside it the time since the boot, asleep or not.
///
/// # Errors
/// When the kernel has no such clock.
pub fn since_boot() -> io::Result<Reading> {
    let booted = || -> io::Result<i64> {
        let since = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
        Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    };
    loop {
        let (steady_ms, wall_ms) = (booted()?, wall_ms());
        // Who was kept waiting in between reads again.
        if booted()? - steady_ms < AT_ONCE_MS {
            return Ok(Reading { wall_ms, steady_ms, synchronised: is_synchronised() });
        }
    }
}

/// Whether the kernel says that its clock follows a source of time.
pub fn is_synchronised() -> bool {
    skew().is_none() && crate::runtime::clock_is_synchronised() == Some(true)
}

/// Where the kernel shows the clocks that a board keeps beside the system's.
const CLOCKS: &str = "/sys/class/rtc";

/// Those clocks. One that can't be read keeps nothing.
pub fn kept() -> Vec<Kept> {
    if skew().is_some() { Vec::new() } else { kept_below(Path::new(CLOCKS)) }
}

fn kept_below(dir: &Path) -> Vec<Kept> {
    let read = |clock: &Path| {
        let text = |name: &str| fs::read_to_string(clock.join(name)).ok();
        let seconds: i64 = text("since_epoch")?.trim().parse().ok()?;
        let set_ours = text("hctosys").is_some_and(|said| said.trim() == "1");
        Some(Kept { ms: seconds.saturating_mul(1000), set_ours })
    };
    let clocks = fs::read_dir(dir).into_iter().flatten().flatten();
    clocks.filter_map(|clock| read(&clock.path())).collect()
}

/// Sets the board's clock to this many milliseconds since 1970.
///
/// # Errors
/// When the kernel refuses: this is not root, or a container that may not.
pub fn set_ms(to_ms: i64) -> io::Result<()> {
    if let Some(told) = skew() {
        if told.parse::<i64>().is_ok() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let real = i64::try_from(real.as_millis()).unwrap_or(i64::MAX);
        // Others read it meanwhile: never half of it.
        let fresh = format!("{told}.set");
        fs::write(&fresh, (to_ms - real).to_string())?;
        return fs::rename(fresh, told);
    }
    let to = Duration::from_millis(u64::try_from(to_ms).unwrap_or_default());
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(to)).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_of_a_board_are_read() {
        let dir = std::env::temp_dir().join(format!("edge-kept-{}", std::process::id()));
        for (name, since, hctosys) in [("rtc0", "1767225601\n", "1\n"), ("rtc1", "x", "0\n")] {
            fs::create_dir_all(dir.join(name)).unwrap();
            fs::write(dir.join(name).join("since_epoch"), since).unwrap();
            fs::write(dir.join(name).join("hctosys"), hctosys).unwrap();
        }
        assert_eq!(kept_below(&dir), [Kept { ms: 1_767_225_601_000, set_ours: true }]);
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(kept_below(&dir), []);
    }

    #[test]
    fn both_clocks_go_at_one_pace() {
        let before = since_boot().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let after = since_boot().unwrap();
        assert!(after.steady_ms >= before.steady_ms + 20 && before.steady_ms > 0, "{before:?}");
        let moved = (after.apart_ms() - before.apart_ms()).abs();
        assert!(moved <= AT_ONCE_MS, "{before:?} {after:?}");
    }

    #[test]
    fn a_test_moves_the_clock_by_a_number_or_by_a_file() {
        let file = std::env::temp_dir().join(format!("edge-clock-{}", std::process::id()));
        let path = file.display().to_string();
        assert_eq!((skewed_ms("-5"), skewed_ms("nonsense"), skewed_ms(&path)), (-5, 0, 0));
        std::fs::write(&file, "86400000\n").unwrap();
        assert_eq!(skewed_ms(&path), 86_400_000);
        std::fs::remove_file(&file).unwrap();
    }
}
