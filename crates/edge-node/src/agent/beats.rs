//! Tells the leader that this board lives, a few times a second and in memory only: what it has,
//! what it uses, how hot it is, which images it holds. Looked up seldom, said often.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use edge_core::liveness::{Beat, MOST_IMAGES, Usage};
use ring::rand::{SecureRandom, SystemRandom};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use tokio::sync::{mpsc, watch};

use super::board::Board;
use super::node::{Pressure, disk_size};
use crate::doctor::{Files, power};

/// How long what was measured is said again.
const MEASURED_FOR: Duration = Duration::from_secs(10);
/// How long the last beat may wait for room in the outlet.
const FAREWELL: Duration = Duration::from_millis(200);
/// Digits of an image's digest that a beat names it by.
const IMAGE_DIGITS: usize = 16;

/// Where beats go, and what the leader wants of them.
#[derive(Debug, Clone)]
pub struct BeatLine {
    /// Takes each beat as bytes. A beat that finds it full is dropped: the next one says more.
    pub outlet: mpsc::Sender<Vec<u8>>,
    /// What the leader asks for; `None` while there is nobody to beat for.
    pub asked: watch::Receiver<Option<Asked>>,
    /// Says, as the agent ends, whether the whole board goes off; may block for a moment.
    pub off: fn() -> bool,
}

/// What the leader asks of beats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// To be said with each beat, so that an old beat can't be played again.
    pub nonce: String,
    /// How often. 300 to 500 ms let a silent board be found within a second.
    pub every: Duration,
}

struct State {
    beat: Beat,
    system: System,
    measured: Option<Instant>,
}

/// Makes this board's beats.
pub(crate) struct Beater {
    board: Arc<Board>,
    line: BeatLine,
    state: Mutex<State>,
}

/// Sixteen digits that no other start of an agent has.
fn session() -> String {
    let mut bytes = [0u8; 8];
    // Without chance, the clock still tells starts apart.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        bytes = super::now_ms().to_be_bytes();
    }
    format!("{:016x}", u64::from_be_bytes(bytes))
}

impl Beater {
    pub(crate) fn new(board: Arc<Board>, line: BeatLine) -> Beater {
        let beat = Beat {
            node: board.name.clone(),
            boot: board.facts.boot_id().to_owned(),
            session: session(),
            ..Beat::default()
        };
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_cpu_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(kinds);
        Beater { board, line, state: Mutex::new(State { beat, system, measured: None }) }
    }

    /// Beats for as long as the agent runs and somebody asks.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut asked = self.line.asked.clone();
        loop {
            let now = asked.borrow_and_update().clone();
            let Some(now) = now else {
                if asked.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            };
            // What finds no room is lost on purpose.
            let _ = self.line.outlet.try_send(self.make(&now, false));
            tokio::select! {
                () = tokio::time::sleep(now.every) => {}
                changed = asked.changed() => if changed.is_err() {
                    tokio::time::sleep(now.every).await;
                },
            }
        }
    }

    /// The last beat: the agent ends, and its pods run on until it is back, or the whole board goes
    /// off, and they end with it. Says whether it does, as far as there is anybody to be told.
    pub(crate) async fn farewell(&self) -> bool {
        let asked = self.line.asked.borrow().clone();
        let Some(asked) = asked else { return false };
        let off = tokio::task::spawn_blocking(self.line.off).await.unwrap_or(false);
        if off {
            tracing::info!("the board goes off: nothing is sent to its pods any more");
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner).beat.off = off;
        let last = self.make(&asked, true);
        // Who doesn't take it finds out by itself.
        let _ = self.line.outlet.send_timeout(last, FAREWELL).await;
        off
    }

    fn make(&self, asked: &Asked, stopping: bool) -> Vec<u8> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.measured.is_none_or(|at| at.elapsed() >= MEASURED_FOR) {
            self.measure(&mut state);
        }
        let beat = &mut state.beat;
        beat.sequence += 1;
        beat.nonce.clone_from(&asked.nonce);
        beat.every_ms = i64::try_from(asked.every.as_millis()).unwrap_or(i64::MAX);
        beat.stopping = stopping;
        beat.away_ms = self.board.upgrades.as_ref().map_or(0, |upgrades| upgrades.away_ms());
        beat.write()
    }

    fn measure(&self, state: &mut State) {
        let system = &mut state.system;
        // The use of processors is known from the second look on: since the one before.
        system.refresh_cpu_usage();
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let cores = u64::try_from(system.cpus().len().max(1)).unwrap_or(1);
        let share = f64::from(system.global_cpu_usage().clamp(0.0, 100.0)) / 100.0;
        let (disk, free) = disk_size(&self.board.data_dir).unwrap_or_default();
        let pressure = Pressure::gather(&self.board.data_dir);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1")]
        let part = (share * 1000.0) as u64;
        if power::alarm(&Files(Path::new("/"))) == Some(true) {
            self.board.alarmed.store(true, Ordering::Relaxed);
        }
        state.beat.usage = Usage {
            cpu_milli: cores * 1000,
            cpu_used_milli: cores * part,
            memory: system.total_memory(),
            memory_used: system.used_memory(),
            disk,
            disk_used: disk.saturating_sub(free),
            temperature_milli: temperature(Path::new("/sys")),
            throttled: throttled(Path::new("/")),
            memory_pressure: pressure.memory,
            disk_pressure: pressure.disk,
            pid_pressure: pressure.pids,
        };
        state.beat.pods = u64::try_from(self.board.pod_count()).unwrap_or(0);
        let images = self.board.images.list();
        let short = |id: &str| {
            let digits = id.rsplit(':').next().unwrap_or_default();
            digits.chars().take(IMAGE_DIGITS).collect::<String>()
        };
        state.beat.images = images.iter().take(MOST_IMAGES).map(|i| short(&i.id)).collect();
        state.measured = Some(Instant::now());
    }
}

fn number(path: &Path) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The hottest thermal zone, in thousandths of a degree Celsius.
fn temperature(sys: &Path) -> Option<i64> {
    let zones = fs::read_dir(sys.join("class/thermal")).ok()?.flatten();
    let zones = zones.filter(|z| z.file_name().to_string_lossy().starts_with("thermal_zone"));
    zones.filter_map(|zone| number(&zone.path().join("temp"))).max()
}

/// Bits of the firmware's word that are about now: under-voltage, frequency capped, throttled,
/// soft temperature limit. The upper half repeats them for "has happened since boot".
const THROTTLED_NOW: u32 = 0xf;

/// Whether the board slows itself down: the Raspberry Pi firmware's word, or else its voltage
/// alarm, or else whether the kernel cools a processor. `None` where none of them is there.
fn throttled(root: &Path) -> Option<bool> {
    let files = Files(root);
    if let Some(bits) = power::word(&files) {
        return Some(bits & THROTTLED_NOW != 0);
    }
    if let Some(alarm) = power::alarm(&files) {
        return Some(alarm);
    }
    let sys = root.join("sys");
    let devices = fs::read_dir(sys.join("class/thermal")).into_iter().flatten().flatten();
    let cooling: Vec<bool> = devices
        .map(|device| device.path())
        .filter(|device| {
            let kind = fs::read_to_string(device.join("type")).unwrap_or_default();
            let kind = kind.to_ascii_lowercase();
            kind.starts_with("cpufreq") || kind.trim() == "processor"
        })
        .filter_map(|device| number(&device.join("cur_state")))
        .map(|state| state > 0)
        .collect();
    (!cooling.is_empty()).then(|| cooling.into_iter().any(|on| on))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board_with(name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
        let sys = std::env::temp_dir().join(format!("edged-sys-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&sys);
        for (path, text) in files {
            let path = sys.join("sys").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        sys
    }

    #[test]
    fn a_raspberry_pi_tells_heat_and_throttling() {
        let four = "devices/platform/soc/soc:firmware/get_throttled";
        let five = "devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled";
        let zone = "class/thermal/thermal_zone0/temp";
        for (word, bits, on) in [
            (four, "50005", true),
            (four, "50000\n", false),
            (five, "0x8", true),
            (five, "0", false),
        ] {
            let sys = board_with("pi", &[(word, bits), (zone, "61320\n")]);
            assert_eq!(throttled(&sys), Some(on), "{bits}");
            assert_eq!(temperature(&sys.join("sys")), Some(61_320));
            fs::remove_dir_all(&sys).unwrap();
        }
    }

    #[test]
    fn other_boards_tell_what_they_can() {
        let volt = [
            ("class/hwmon/hwmon1/name", "rpi_volt\n"),
            ("class/hwmon/hwmon1/in0_lcrit_alarm", "1\n"),
        ];
        let fan = [
            ("class/thermal/cooling_device0/type", "gpio-fan\n"),
            ("class/thermal/cooling_device0/cur_state", "1\n"),
            ("class/thermal/cooling_device1/type", "cpufreq-cpu0\n"),
            ("class/thermal/cooling_device1/cur_state", "0\n"),
        ];
        for (name, files, want) in
            [("volt", &volt[..], Some(true)), ("fan", &fan, Some(false)), ("none", &[], None)]
        {
            let sys = board_with(name, files);
            assert_eq!(throttled(&sys), want, "{name}");
            assert_eq!(temperature(&sys.join("sys")), None);
            let _ = fs::remove_dir_all(&sys);
        }
    }

    #[test]
    fn sessions_differ() {
        assert_ne!(session(), session());
        assert_eq!(session().len(), 16);
    }
}
