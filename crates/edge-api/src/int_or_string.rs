//! `IntOrString`: ports by number or name, and rollout budgets as a count or a percentage.

use serde_json::Value;

/// A value that is a number or a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntOrString {
    /// `80`, `1`
    Int(i64),
    /// `"http"`, `"25%"`
    Text(String),
}

impl IntOrString {
    /// Reads the JSON form; `None` when it is neither.
    pub fn read(value: &Value) -> Option<IntOrString> {
        match value {
            Value::Number(number) => number.as_i64().map(IntOrString::Int),
            Value::String(text) => Some(IntOrString::Text(text.clone())),
            _ => None,
        }
    }

    /// The percentage, when the text is one: `25%` is 25.
    pub fn percent(&self) -> Option<i64> {
        match self {
            IntOrString::Int(_) => None,
            IntOrString::Text(text) => {
                let digits = text.strip_suffix('%')?;
                let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                plain.then(|| digits.parse().ok()).flatten()
            }
        }
    }

    /// The count it stands for out of `total`: a number is itself, a percentage is scaled and
    /// rounded up or down.
    pub fn scaled(&self, total: i64, round_up: bool) -> Option<i64> {
        match self {
            IntOrString::Int(number) => Some(*number),
            IntOrString::Text(_) => {
                let product = self.percent()?.checked_mul(total)?;
                Some(if round_up { product.checked_add(99)? / 100 } else { product / 100 })
            }
        }
    }
}

/// `maxSurge` and `maxUnavailable` of a rolling update as pod counts, resolved as Kubernetes does:
/// surge rounds up, unavailable rounds down, and they are never both zero.
pub fn fenceposts(surge: &Value, unavailable: &Value, desired: i64) -> (i64, i64) {
    let read = |value, up| IntOrString::read(value).and_then(|v| v.scaled(desired, up));
    let surge = read(surge, true).unwrap_or(0);
    let unavailable = read(unavailable, false).unwrap_or(0);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scales_as_kubernetes_does() {
        for (value, total, up, want) in [
            (json!(3), 10, true, Some(3)),
            (json!("25%"), 10, true, Some(3)),
            (json!("25%"), 10, false, Some(2)),
            (json!("100%"), 7, true, Some(7)),
            (json!("0%"), 7, true, Some(0)),
            (json!("http"), 7, true, None),
            (json!("%"), 7, true, None),
            (json!("-5%"), 7, true, None),
        ] {
            let read = IntOrString::read(&value).expect("int or string");
            assert_eq!(read.scaled(total, up), want, "{value}");
        }
        assert_eq!(IntOrString::read(&json!(true)), None);
    }

    #[test]
    fn fenceposts_never_both_zero() {
        assert_eq!(fenceposts(&json!("25%"), &json!("25%"), 3), (1, 0));
        assert_eq!(fenceposts(&json!(0), &json!("25%"), 3), (0, 1));
        assert_eq!(fenceposts(&json!(2), &json!(1), 3), (2, 1));
    }
}
