//! Signals by the names that pods and images give them.

/// `SIGTERM`, `TERM` or `15`.
pub(crate) fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    if let Some(offset) = full.strip_prefix("SIGRTMIN+") {
        let offset: i32 = offset.parse().ok()?;
        return Some(nix::libc::SIGRTMIN() + offset);
    }
    full.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_any_name() {
        let cases = [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(nix::libc::SIGRTMIN() + 3)),
            ("0", None),
            ("SIGNONE", None),
        ];
        for (name, want) in cases {
            assert_eq!(signal_number(name), want, "{name}");
        }
    }
}
