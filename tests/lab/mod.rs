//! The laboratory: clusters of real `edged` processes, each in a network namespace of its own,
//! on a switch of ours that cuts, delays, loses and throttles frames per direction of each
//! pair. See `docs/laboratory.md`.

#[cfg(test)]
mod abuse;
#[cfg(test)]
mod abuse_packets;
#[cfg(test)]
mod accounts;
mod announced;
pub(crate) mod asking;
pub(crate) mod board;
pub(crate) mod broker;
pub(crate) mod cargo;
pub(crate) mod chance;
pub(crate) mod cluster;
#[cfg(test)]
mod copy;
#[cfg(test)]
mod costs;
pub(crate) mod crowd;
pub(crate) mod etcd;
pub(crate) mod fabric;
pub(crate) mod failover;
#[cfg(test)]
mod faults;
pub(crate) mod history;
#[cfg(test)]
mod install;
pub(crate) mod leader;
#[cfg(test)]
mod leaks;
#[cfg(test)]
mod leaving;
pub(crate) mod linear;
pub(crate) mod link;
pub(crate) mod load;
pub(crate) mod lookup;
pub(crate) mod lost;
#[cfg(test)]
mod members;
#[cfg(test)]
mod moved;
#[cfg(test)]
mod names;
pub(crate) mod namespace;
pub(crate) mod nemesis;
#[cfg(test)]
mod net_check;
#[cfg(test)]
mod no_clock;
#[cfg(test)]
mod nodeless;
#[cfg(test)]
mod paused;
pub(crate) mod pods;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod policy_model;
#[cfg(test)]
mod policy_probes;
#[cfg(test)]
mod policy_recipes;
pub(crate) mod processes;
#[cfg(test)]
mod proof;
pub(crate) mod pulse;
#[cfg(test)]
mod quiet;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod restored;
#[cfg(test)]
mod served;
#[allow(dead_code, reason = "the bench measures with it")]
pub(crate) mod speed;
#[cfg(test)]
mod switched_off;
pub(crate) mod tap;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod traffic_boot;
#[cfg(test)]
mod traffic_deaths;
#[cfg(test)]
mod traffic_held;
pub(crate) mod traffic_loss;
pub(crate) mod traffic_places;
#[cfg(test)]
mod traffic_rolling;
pub(crate) mod traffic_ways;
#[cfg(test)]
pub(crate) mod upgrade;
pub(crate) mod watching;
#[cfg(test)]
mod years;

/// Whether this machine can run laboratories. What is missing is said aloud: a silent skip
/// would look like a pass.
pub(crate) fn can_run() -> bool {
    if !crate::board::can_run() {
        return false;
    }
    if std::path::Path::new("/dev/net/tun").exists() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "CI must run every room: no /dev/net/tun");
    eprintln!("SKIPPED: laboratories need /dev/net/tun");
    false
}

/// Only one laboratory at a time: it measures times, and boards beside it would be in them.
pub(crate) fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Says that all is done when it is dropped, by a panic as well: a scope waits for its threads,
/// and those that go on until they are told would hold up a failed test for ever.
pub(crate) struct Ended<'a>(pub(crate) &'a std::sync::atomic::AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Release);
    }
}
