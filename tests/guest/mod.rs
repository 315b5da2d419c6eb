//! Guests: whole machines with a kernel of their own, for what this machine's kernel lacks. Each is
//! a `qemu-system-x86_64` without hardware help, with Debian's cloud kernel and an initramfs made
//! here; its network cards end in a network namespace of this machine, where a test routes, bridges
//! and listens.
//!
//! A test says what it needs: [`files::Files`] with what the guest shall have on its disk, then
//! [`machine::Guest::boot`] with its cards, then lines of shell on its console
//! ([`machine::Guest::shell`]). Booting takes 10-15 s, so CI runs none of it: `tests/run.sh guests`
//! sets `EDGED_GUESTS=1`, and installs what is missing. See `docs/laboratory.md`.

mod archive;
#[cfg(test)]
mod cuts;
#[cfg(test)]
mod doctor;
mod files;
mod kernel;
mod lan;
mod machine;
#[cfg(test)]
mod maps;
#[cfg(test)]
mod pair;
#[cfg(test)]
mod secret;
#[cfg(test)]
mod tunnels;
#[cfg(test)]
mod ways;

pub(crate) use lan::Lan;

/// Whether guests are asked for. Nobody waits minutes for them who did not ask.
#[cfg(test)]
pub(crate) fn asked() -> bool {
    if std::env::var_os("EDGED_GUESTS").is_some() {
        return crate::lab::can_run();
    }
    eprintln!("SKIPPED: guests take minutes; `tests/run.sh guests` runs them");
    false
}
