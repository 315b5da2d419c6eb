//! What systemd wants to hear (`sd_notify(3)`): that the board is ready, what it is doing, and,
//! again and again, that it is alive. One datagram each, to the socket that it named.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::install::UNIT;
use crate::systemd::{Systemd, Word};

/// How often a start that waits says that it does, when the manager watches no beats.
const WAITING: Duration = Duration::from_secs(20);

/// How long a board does what it is for before its earlier ends count no more.
const WELL: Duration = Duration::from_secs(600);

/// How many beats fit into the time after which the manager gives up.
const BEATS: u32 = 3;

/// Whether this process was ready once.
static READY: AtomicBool = AtomicBool::new(false);

/// Whether this process has done what it is for.
pub(crate) fn was_ready() -> bool {
    READY.load(Ordering::Relaxed)
}

/// The service manager, or nobody.
pub(crate) struct Manager {
    ready: Arc<AtomicBool>,
}

impl Manager {
    /// Begins to beat, from a task of the runtime that calls this: a runtime whose workers hang
    /// beats no more, and the manager starts this program again. Until [`Manager::ready`] each beat
    /// asks for more time too: a board may wait for its servers as long as it takes.
    pub(crate) fn meet() -> Manager {
        let ready = Arc::new(AtomicBool::new(false));
        let var = |name: &str| std::env::var(name).ok();
        if var("NOTIFY_SOCKET").is_some() {
            let limit = limit(var("WATCHDOG_USEC"), var("WATCHDOG_PID"), std::process::id());
            tokio::spawn(beat(limit, ready.clone()));
        }
        Manager { ready }
    }

    /// The board does what it is for; `status` is for people.
    pub(crate) fn ready(&self, status: &str) {
        READY.store(true, Ordering::Relaxed);
        let first = !self.ready.swap(true, Ordering::Relaxed);
        if first
            && std::env::var_os("NOTIFY_SOCKET").is_some()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async {
                tokio::time::sleep(WELL).await;
                tokio::task::spawn_blocking(forget);
            });
        }
        tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// What goes on, for people.
    pub(crate) fn status(&self, status: &str) {
        tell(&format!("STATUS={status}"));
    }

    /// The process ends. Not for one that starts again in its place: who said this is killed when
    /// it has not ended after a while.
    pub(crate) fn stopping(&self) {
        tell("STOPPING=1\nSTATUS=stopping; the pods run on");
    }
}

/// Has systemd forget how often it has started edged again: it waits longer each time, and by
/// itself it counts on for as long as the machine is up.
fn forget() {
    let told = Systemd::reach().and_then(|manager| match manager {
        Some(mut manager) => manager.call("ResetFailedUnit", &[Word::Text(UNIT)]),
        None => Ok(()),
    });
    if let Err(error) = told {
        tracing::debug!("{error}");
    }
}

/// The time after which the manager takes this process for hung.
fn limit(usec: Option<String>, pid: Option<String>, own: u32) -> Option<Duration> {
    let ours = pid.is_none_or(|pid| pid.parse() == Ok(own));
    let usec: u64 = usec.filter(|_| ours)?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec))
}

async fn beat(limit: Option<Duration>, ready: Arc<AtomicBool>) {
    let every = limit.map_or(WAITING, |limit| limit / BEATS);
    loop {
        let waits = !ready.load(Ordering::Relaxed);
        if limit.is_none() && !waits {
            return;
        }
        let more = waits.then(|| format!("EXTEND_TIMEOUT_USEC={}", (every * BEATS).as_micros()));
        let beat = limit.map(|_| "WATCHDOG=1".to_owned());
        let lines: Vec<String> = more.into_iter().chain(beat).collect();
        tell(&lines.join("\n"));
        tokio::time::sleep(every).await;
    }
}

/// Tells the service manager `state`; nothing when none listens.
fn tell(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let path = path.to_string_lossy();
    let Ok(socket) = UnixDatagram::unbound() else { return };
    let sent = match path.strip_prefix('@') {
        Some(name) => {
            abstract_address(name).and_then(|a| socket.send_to_addr(state.as_bytes(), &a))
        }
        None => socket.send_to(state.as_bytes(), &*path),
    };
    if let Err(error) = sent {
        tracing::warn!("notify the service manager at {path}: {error}");
    }
}

fn abstract_address(name: &str) -> std::io::Result<std::os::unix::net::SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_only_for_who_was_asked() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(limit(some("60000000"), None, 7), Some(Duration::from_secs(60)));
        assert_eq!(limit(some("60000000"), some("7"), 7), Some(Duration::from_secs(60)));
        for (usec, pid) in [(None, None), (some("60000000"), some("8")), (some("0"), None)] {
            assert_eq!(limit(usec, pid, 7), None);
        }
        assert_eq!(limit(some("soon"), None, 7), None);
    }
}
