//! Real boards: `edged` as root, real namespaces, containers, rules and programs. Each board has a
//! network namespace and directories of its own, so that tests run beside each other and beside
//! whatever the machine runs.

mod bad_input;
#[cfg(test)]
mod beats;
pub(crate) mod command;
mod demo;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod forward;
#[cfg(test)]
mod full;
mod images;
mod ingress;
mod joined;
mod kubectl;
pub(crate) mod machine;
#[cfg(test)]
mod poweroff;
#[cfg(test)]
mod slots;
mod survive;

/// Whether this machine can run boards. What is missing is said aloud: a silent skip would
/// look like a pass.
pub(crate) fn can_run() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let missing: Vec<&str> = ["ip", "nsenter"].into_iter().filter(|p| !command::has(p)).collect();
    if root && missing.is_empty() {
        return true;
    }
    let why = if root { format!("missing {missing:?}") } else { "not root".to_owned() };
    assert!(std::env::var_os("CI").is_none(), "CI must run every room: {why}");
    eprintln!("SKIPPED: boards need root and Debian's iproute2 and util-linux: {why}");
    false
}
