//! How long ago something was, in as few characters as `kubectl` takes.

use jiff::Timestamp;

/// `5s`, `3m10s`, `47h`, `2y14d`: the same steps as `kubectl`.
pub(crate) fn human(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".to_string();
    }
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: i64, unit: char, small: i64, part: char| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{part}"),
    };
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        two(minutes, 'm', seconds % 60, 's')
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, 'h', minutes % 60, 'm')
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 192 {
        two(days, 'd', hours % 24, 'h')
    } else if days < 365 * 2 {
        format!("{days}d")
    } else if days < 365 * 8 {
        two(days / 365, 'y', days % 365, 'd')
    } else {
        format!("{}y", days / 365)
    }
}

/// The age of a moment in RFC 3339; `<unknown>` when there is none.
pub(crate) fn since(moment: &str, now: Timestamp) -> String {
    match moment.parse::<Timestamp>() {
        Ok(then) => human(now.as_second() - then.as_second()),
        Err(_) => "<unknown>".to_string(),
    }
}

/// A length of time as Go writes it: `30s`, `5m`, `1h30m`, `250ms`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Option<std::time::Duration> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(std::time::Duration::from_secs(seconds));
    }
    let mut total = 0f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |at| digits + at);
        total += number
            * match &rest[digits..unit_end] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    if text.is_empty() { None } else { std::time::Duration::try_from_secs_f64(total).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let table = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (190, "3m10s"),
            (600, "10m"),
            (179 * 60, "179m"),
            (180 * 60, "3h"),
            (7 * 3600 + 120, "7h2m"),
            (9 * 3600, "9h"),
            (47 * 3600, "47h"),
            (49 * 3600, "2d1h"),
            (8 * 86_400, "8d"),
            (700 * 86_400, "700d"),
            (735 * 86_400, "2y5d"),
            (3000 * 86_400, "8y"),
        ];
        for (seconds, text) in table {
            assert_eq!(human(seconds), text, "{seconds}");
        }
        assert_eq!(since("nonsense", Timestamp::UNIX_EPOCH), "<unknown>");
    }

    #[test]
    fn durations() {
        let secs = |text| parse_duration(text).map(|d| d.as_millis());
        assert_eq!(secs("30"), Some(30_000));
        assert_eq!(secs("1h30m"), Some(5_400_000));
        assert_eq!(secs("250ms"), Some(250));
        assert_eq!(secs("1.5s"), Some(1500));
        for bad in ["", "x", "5", "5x", "h", "-3s"].into_iter().filter(|t| *t != "5") {
            assert_eq!(secs(bad), None, "{bad}");
        }
    }
}
