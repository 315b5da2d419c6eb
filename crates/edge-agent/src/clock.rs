//! The clock of a board that has no battery for it: set forward at the start to the newest moment
//! that the board's own disk knows of, and again when the cluster tells the time. Never back, and
//! only where nobody else has set it since the boot: no source of time, no person.

use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use edge_core::clock::{BUILT_MS, Heard, Reading, TOLERANCE_MS, heard, never_set};
use edge_node::clock;

/// Lies in the run directory, which a boot empties, of a board whose clock nobody had set when
/// `edged` first started. It says how far that is from the time since the boot, in milliseconds, by
/// which a clock that somebody else sets is known; and [`SET`] once somebody has.
const MARK: &str = "clock-was-not-set";
const SET: &str = "since then it was";
/// What tells when a board wrote last, in its data directory; of directories, their files do.
const WITNESSES: [&str; 7] =
    ["cluster.json", "name", "pki", "ledger/pods", "ledger/objects", "store", "images"];
/// A file that claims to be from later than this has lost its inode's words: fifty years.
const LATEST_MS: i64 = BUILT_MS + 50 * 365 * 24 * 60 * 60 * 1000;
/// How often clocks are compared.
const LOOK: Duration = Duration::from_secs(5);

/// Both clocks of the board, and whether the one that may be wrong follows a source of time.
pub(crate) fn read() -> Reading {
    Reading { synchronised: clock::is_synchronised(), ..edge_server::clock::read() }
}

/// Sees to it, once in a boot, that a board whose clock was never set does not live in 1970, or at
/// the day that its systemd was made: time goes on from when it last wrote. What cannot be set is
/// left; all works in 1970 as well.
pub(crate) fn settle(data_dir: &Path, run_dir: &Path) {
    let mark = run_dir.join(MARK);
    let reading = read();
    let judged = reading.wall_ms >= BUILT_MS && mark.exists();
    if judged || !never_set(reading, &clock::kept()) {
        return;
    }
    let floor = newest(data_dir);
    if floor > reading.wall_ms {
        if let Err(error) = clock::set_ms(floor) {
            tracing::warn!("this board's clock was never set, nor can it be: {error}");
            return;
        }
        let at = edge_api::time::format(floor);
        tracing::warn!("this board's clock was never set: it goes on from {at}");
    }
    note(std::fs::create_dir_all(run_dir).and_then(|()| write_apart(&mark)));
}

/// The cluster tells its time: a board whose clock nobody has set takes it.
pub(crate) fn hear(run_dir: &Path, cluster_ms: i64) {
    let mark = run_dir.join(MARK);
    let Ok(said) = std::fs::read_to_string(&mark) else { return };
    let Some(reading) = clock::since_boot().ok().filter(|_| said != SET) else { return };
    let noted: Option<i64> = said.parse().ok();
    match heard(noted.unwrap_or(reading.apart_ms()), reading, cluster_ms) {
        // An earlier version has noted nothing.
        Heard::Leave if noted.is_none() => note(write_apart(&mark)),
        Heard::Leave => {}
        Heard::Theirs => {
            note(std::fs::write(&mark, SET));
            tracing::info!("this board's clock has been set: the cluster's time leaves it alone");
        }
        Heard::Take => match clock::set_ms(cluster_ms) {
            Ok(()) => {
                note(write_apart(&mark));
                let at = edge_api::time::format(cluster_ms);
                tracing::info!("this board's clock is the cluster's now: {at}");
            }
            Err(error) => tracing::debug!("set the clock to the cluster's: {error}"),
        },
    }
}

/// Notes where the clock is left.
fn write_apart(mark: &Path) -> io::Result<()> {
    let apart = clock::since_boot().map(|reading| reading.apart_ms().to_string());
    // Without it, what a person sets is not known; that the clock was not set counts all the same.
    std::fs::write(mark, apart.unwrap_or_default())
}

fn note(noted: io::Result<()>) {
    if let Err(error) = noted {
        tracing::debug!("remember who set the clock: {error}");
    }
}

/// How far apart the board's two clocks are, in milliseconds: as long as neither jumps, the same.
pub(crate) fn apart() -> i64 {
    let reading = edge_server::clock::read();
    reading.wall_ms - reading.steady_ms
}

/// Waits until the board's clock has jumped, in either direction, since they were so far apart.
pub(crate) async fn jumps(since: i64) {
    while (apart() - since).abs() <= TOLERANCE_MS {
        tokio::time::sleep(LOOK).await;
    }
}

/// The newest moment that this board's disk knows of.
fn newest(data_dir: &Path) -> i64 {
    let time = |path: &Path| {
        let changed = std::fs::metadata(path).ok()?.modified().ok()?;
        let since = changed.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok().filter(|at| *at <= LATEST_MS)
    };
    let program = std::env::current_exe().ok();
    let places = WITNESSES.map(|name| data_dir.join(name));
    let below = places.iter().filter_map(|place| std::fs::read_dir(place).ok());
    let below = below.flatten().flatten().map(|entry| entry.path());
    let all = places.iter().cloned().chain(below).chain(program);
    all.filter_map(|path| time(&path)).max().unwrap_or_default().max(BUILT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn the_newest_file_tells_the_time() {
        let dir = std::env::temp_dir().join(format!("edged-newest-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("ledger/pods")).unwrap();
        let file = dir.join("ledger/pods/a.json");
        // A new file is news of its directory; one that is written anew is not.
        std::fs::File::create(&file).unwrap();
        let years = |n: u64| UNIX_EPOCH + Duration::from_secs((n - 1970) * 31_556_952);
        let stamp = |at: SystemTime| {
            std::fs::File::create(&file).unwrap().set_modified(at).unwrap();
            newest(&dir)
        };
        let before = newest(&dir);
        assert!(before >= BUILT_MS);
        assert_eq!(stamp(years(1971)), before, "one from 1971 says nothing");
        assert_eq!(stamp(years(2200)), before, "nor does one that no board lives to see");
        assert_eq!(stamp(years(2040)) / 1000, (2040 - 1970) * 31_556_952);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    /// The machine's own clock is not touched: what is noted says where it was.
    #[test]
    fn a_clock_that_was_set_by_hand_is_known_by_what_is_noted() {
        let dir = std::env::temp_dir().join(format!("edged-by-hand-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let said = || std::fs::read_to_string(dir.join(MARK)).unwrap();
        let reading = clock::since_boot().unwrap();
        if reading.synchronised {
            return eprintln!("SKIPPED: this machine's clock follows a source of time");
        }
        // As an earlier version leaves it.
        std::fs::write(dir.join(MARK), "").unwrap();
        hear(&dir, reading.wall_ms);
        let noted: i64 = said().parse().unwrap();
        assert!((noted - reading.apart_ms()).abs() <= 1000, "{noted} {reading:?}");
        hear(&dir, reading.wall_ms);
        assert_eq!(said(), noted.to_string(), "nothing is written again");
        // It was an hour behind when that was noted: somebody has set it since.
        std::fs::write(dir.join(MARK), (noted - 3_600_000).to_string()).unwrap();
        hear(&dir, i64::MAX / 2);
        assert_eq!(said(), SET);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_clock_that_was_set_since_the_boot_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("edged-settled-{}", std::process::id()));
        hear(&dir, i64::MAX / 2);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(MARK), SET).unwrap();
        settle(&dir, &dir);
        hear(&dir, i64::MAX / 2);
        assert_eq!(std::fs::read_to_string(dir.join(MARK)).unwrap(), SET);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
