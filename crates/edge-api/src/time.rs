//! Timestamps as the API writes them: RFC 3339 in UTC with whole seconds (`Time`), or with six
//! decimals (`MicroTime`). Clients compare these strings, so no other precision may leak out.

use jiff::Timestamp;

/// Milliseconds since the epoch as a `Time`: `2025-01-31T10:20:30Z`.
pub fn format(ms: i64) -> String {
    stamp(ms).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Milliseconds since the epoch as a `MicroTime`: `2025-01-31T10:20:30.123000Z`.
pub fn format_micro(ms: i64) -> String {
    stamp(ms).strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// The instant of an RFC 3339 time in milliseconds since the epoch; `None` when it is not one.
pub fn parse(text: &str) -> Option<i64> {
    parse_timestamp(text).map(|at| at.as_millisecond())
}

/// The instant of an RFC 3339 time.
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    // RFC 3339 wants a full date, a `T` and an offset; the general parser is laxer than that.
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 20
        && bytes[4] == b'-'
        && matches!(bytes[10], b'T' | b't')
        && bytes[13] == b':'
        && bytes[16] == b':';
    if !shaped {
        return None;
    }
    text.parse().ok()
}

/// The instant as a `Timestamp`, clamped to what a timestamp can hold.
pub fn stamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_whole_seconds_in_utc() {
        assert_eq!(format(1_738_318_830_999), "2025-01-31T10:20:30Z");
        assert_eq!(format_micro(1_738_318_830_123), "2025-01-31T10:20:30.123000Z");
        assert_eq!(format(0), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn reads_offsets_and_fractions_and_refuses_the_rest() {
        assert_eq!(parse("2025-01-31T10:20:30Z"), Some(1_738_318_830_000));
        assert_eq!(parse("2025-01-31T12:20:30+02:00"), Some(1_738_318_830_000));
        assert_eq!(parse("2025-01-31T10:20:30.5Z"), Some(1_738_318_830_500));
        for bad in ["", "now", "2025-01-31", "2025-01-31 10:20:30Z", "2025-13-01T00:00:00Z"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
