//! What is made of boards that fall silent, as settings: three durations.

use clap::Args;
use edge_server::NodeSettings;

use super::{ConfigError, File, bad};

/// Silence shorter than this is ordinary; longer than this nobody wants to wait.
const BOUNDS_MS: std::ops::RangeInclusive<i64> = 200..=600_000;

/// The flags, each also a key of the file.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct NodeFlags {
    /// Silence after which a board's pods get no traffic [default: 1s]
    #[arg(long, env = "EDGED_SILENT_AFTER", value_name = "DURATION")]
    pub silent_after: Option<String>,
    /// Silence after which a board is lost and its pods are replaced [default: 3s]
    #[arg(long, env = "EDGED_NODE_GRACE", value_name = "DURATION")]
    pub node_grace: Option<String>,
    /// How long pods stay on a lost board, where they do not say [default: 0s]
    #[arg(long, env = "EDGED_DEFAULT_TOLERATION", value_name = "DURATION")]
    pub default_toleration: Option<String>,
}

/// The settled settings.
pub(super) fn settle(flags: &NodeFlags, file: &File) -> Result<NodeSettings, ConfigError> {
    let mut settings = NodeSettings::default();
    let pick = |typed: &Option<String>, filed: &Option<String>| typed.clone().or(filed.clone());
    let silence = |key: &str, text: Option<String>, default: i64| {
        let Some(text) = text else { return Ok(default) };
        let ms = milliseconds(&text).filter(|ms| BOUNDS_MS.contains(ms));
        ms.ok_or_else(|| bad(key, &text, "a duration from 200ms to 10m, such as 1s"))
    };
    let liveness = &mut settings.liveness;
    let silent = pick(&flags.silent_after, &file.silent_after);
    liveness.silent_after_ms = silence("silent-after", silent, liveness.silent_after_ms)?;
    let grace = pick(&flags.node_grace, &file.node_grace);
    liveness.node_grace_ms = silence("node-grace", grace.clone(), liveness.node_grace_ms)?;
    if liveness.node_grace_ms < liveness.silent_after_ms {
        let text = grace.unwrap_or_else(|| "3s".to_owned());
        return Err(bad("node-grace", &text, "at least silent-after"));
    }
    if let Some(text) = pick(&flags.default_toleration, &file.default_toleration) {
        let whole = milliseconds(&text).filter(|ms| ms % 1000 == 0);
        let ms = whole.ok_or_else(|| bad("default-toleration", &text, "whole seconds, as 300s"))?;
        settings.default_toleration_seconds = ms / 1000;
    }
    Ok(settings)
}

/// `500ms`, `3s`, `5m`, `1h`; a bare number is refused, since nobody knows of what.
fn milliseconds(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(silent: &str, grace: &str, toleration: &str) -> Result<(i64, i64, i64), String> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let flags = NodeFlags {
            silent_after: some(silent),
            node_grace: some(grace),
            default_toleration: some(toleration),
        };
        let settings = settle(&flags, &File::default()).map_err(|error| error.to_string())?;
        let liveness = settings.liveness;
        let seconds = settings.default_toleration_seconds;
        Ok((liveness.silent_after_ms, liveness.node_grace_ms, seconds))
    }

    #[test]
    fn durations_are_read_and_refused_by_name() {
        assert_eq!(settled("", "", ""), Ok((1000, 3000, 0)));
        assert_eq!(settled("500ms", "40s", "5m"), Ok((500, 40_000, 300)));
        for (silent, grace, toleration, key) in [
            ("1", "", "", "silent-after"),
            ("0s", "", "", "silent-after"),
            ("", "1d", "", "node-grace"),
            ("5s", "", "", "node-grace"),
            ("", "", "1500ms", "default-toleration"),
            ("", "", "-1s", "default-toleration"),
        ] {
            let error = settled(silent, grace, toleration).unwrap_err();
            assert!(error.starts_with(key), "{error}");
        }
    }
}
