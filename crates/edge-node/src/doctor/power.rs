//! What a Raspberry Pi says of its supply and of its heat.

use super::files::Files;

/// The firmware's word about power and heat: a Pi 4 has it at `soc/soc:firmware/get_throttled`;
/// what the directories are called is the device tree's matter, and differs.
pub(crate) fn word(files: &Files<'_>) -> Option<u32> {
    const PLATFORM: &str = "sys/devices/platform";
    let names = files.names(PLATFORM).into_iter().filter(|name| name.starts_with("soc"));
    let words = names.flat_map(|name| {
        let soc = format!("{PLATFORM}/{name}");
        let within = files.names(&soc).into_iter().map(|name| format!("{soc}/{name}"));
        let within: Vec<String> = within.collect();
        std::iter::once(soc).chain(within)
    });
    let mut words = words.filter_map(|dir| {
        let word = files.line(&format!("{dir}/get_throttled"))?;
        u32::from_str_radix(word.trim_start_matches("0x"), 16).ok()
    });
    words.next()
}

/// The kernel's alarm, which is about the last seconds: whether the voltage was too low.
pub(crate) fn alarm(files: &Files<'_>) -> Option<bool> {
    files.names("sys/class/hwmon").iter().find_map(|sensor| {
        let sensor = format!("sys/class/hwmon/{sensor}");
        (files.line(&format!("{sensor}/name"))? == "rpi_volt").then_some(())?;
        Some(files.number::<u32>(&format!("{sensor}/in0_lcrit_alarm"))? != 0)
    })
}

/// Whether the device tree names a Raspberry Pi.
pub(super) fn is_raspberry(files: &Files<'_>) -> bool {
    let names = files.text("proc/device-tree/compatible").unwrap_or_default();
    names.split('\0').any(|name| name.starts_with("raspberrypi,"))
}
