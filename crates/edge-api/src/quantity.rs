//! Quantities: `500m`, `1.5Gi`, `1e3`. Held exactly, in billionths, as Kubernetes does; printed in
//! the canonical form, so that `1000m` and `1` are the same bytes in the store.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

/// Billionths in one.
const NANO: i128 = 1_000_000_000;
/// Kubernetes caps quantities here.
const MAX: i128 = i64::MAX as i128 * NANO;
/// More digits than any number below the cap needs.
const MAX_DIGITS: usize = 48;

/// How a quantity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `1500m`, `2k`
    Decimal,
    /// `1536Mi`
    Binary,
    /// `12e6`
    Exponent,
}

/// An exact number with the style it was written in.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Why a text is no quantity, in Kubernetes' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// it does not look like one
    Format,
    /// the suffix is not one of those allowed
    Suffix,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ParseError::Format => {
                "quantities must match the regular expression \
                 '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            }
            ParseError::Suffix => "unable to parse quantity's suffix",
        })
    }
}

impl std::error::Error for ParseError {}

const BINARY: [(&str, u32); 6] =
    [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

enum Scale {
    Two(u32),
    Ten(i32, Format),
}

fn scale(suffix: &str) -> Option<Scale> {
    if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some(Scale::Two(*bits));
    }
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some(Scale::Ten(*exponent, Format::Decimal));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let exponent = exponent.parse().unwrap_or(if exponent.starts_with('-') { -999 } else { 999 });
    Some(Scale::Ten(exponent, Format::Exponent))
}

/// The decimal `digits × 10^exponent` in billionths, away from zero where it does not fit exactly.
fn scaled(digits: i128, exponent: i32) -> i128 {
    let shift = exponent.saturating_add(9);
    if digits == 0 {
        return 0;
    }
    if shift >= 0 {
        let power = 10i128.checked_pow(shift.unsigned_abs());
        return power.and_then(|power| digits.checked_mul(power)).unwrap_or(MAX).min(MAX);
    }
    let power = 10i128.checked_pow(shift.unsigned_abs()).unwrap_or(i128::MAX);
    (digits / power + i128::from(digits % power != 0)).min(MAX)
}

impl Quantity {
    /// Reads a quantity.
    pub fn parse(text: &str) -> Result<Quantity, ParseError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end =
            unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(ParseError::Format);
        }
        let known = |b: u8| b"eEinumkKMGTP+-".contains(&b) || b.is_ascii_digit();
        if !suffix.bytes().all(known) {
            return Err(ParseError::Format);
        }
        let scale = scale(suffix).ok_or(ParseError::Suffix)?;
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let nano = if whole.len() > MAX_DIGITS / 2 {
            MAX
        } else {
            // Digits beyond what a billionth of the smallest suffix can show only round up.
            let kept = fraction.len().min(14);
            let digits: i128 =
                format!("0{whole}{}", &fraction[..kept]).parse().unwrap_or(i128::MAX);
            let rest = fraction.len() > kept;
            let exponent = -i32::try_from(kept).unwrap_or(0);
            let nano = match scale {
                Scale::Ten(power, _) => scaled(digits, exponent.saturating_add(power)),
                Scale::Two(bits) => {
                    let product = digits.checked_mul(1i128 << bits);
                    product.map_or(MAX, |product| scaled(product, exponent))
                }
            };
            nano.saturating_add(i128::from(rest)).min(MAX)
        };
        let format = match scale {
            Scale::Two(_) => Format::Binary,
            Scale::Ten(_, format) => format,
        };
        Ok(Quantity { nano: if negative { -nano } else { nano }, format })
    }

    /// Reads the JSON form: text or a number.
    pub fn read(value: &Value) -> Result<Quantity, ParseError> {
        match value {
            Value::String(text) => Quantity::parse(text.trim()),
            Value::Number(number) => Quantity::parse(&number.to_string()),
            _ => Err(ParseError::Format),
        }
    }

    /// The JSON value's amount in thousandths; 0 when it is missing or no quantity.
    pub fn milli_of(value: &Value) -> i64 {
        Quantity::read(value).map_or(0, |quantity| quantity.milli())
    }

    /// The JSON value's amount in units; 0 when it is missing or no quantity.
    pub fn value_of(value: &Value) -> i64 {
        Quantity::read(value).map_or(0, |quantity| quantity.value())
    }

    /// A number of units, written in decimal.
    pub fn from_value(value: i64) -> Quantity {
        Quantity { nano: i128::from(value) * NANO, format: Format::Decimal }
    }

    /// A number of thousandths, written in decimal.
    pub fn from_milli(milli: i64) -> Quantity {
        Quantity { nano: i128::from(milli) * (NANO / 1000), format: Format::Decimal }
    }

    /// A number of bytes, written with `Ki`, `Mi`, ….
    pub fn from_bytes(bytes: i64) -> Quantity {
        Quantity { format: Format::Binary, ..Quantity::from_value(bytes) }
    }

    /// The amount in units, rounded up.
    pub fn value(&self) -> i64 {
        self.in_units_of(NANO)
    }

    /// The amount in thousandths, rounded up.
    pub fn milli(&self) -> i64 {
        self.in_units_of(NANO / 1000)
    }

    /// Rounds away from zero, as Kubernetes does.
    fn in_units_of(&self, unit: i128) -> i64 {
        let whole = self.nano / unit;
        let rest = self.nano % unit;
        let rounded = whole + rest.signum();
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nano.signum() as i32
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// Whether it has no part below one.
    pub fn is_whole(&self) -> bool {
        self.nano % NANO == 0
    }

    /// The sum, in this quantity's style (the other's when this is zero).
    pub fn plus(&self, other: &Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity { nano: self.nano.saturating_add(other.nano).clamp(-MAX, MAX), format }
    }

    /// The difference, in this quantity's style (the other's when this is zero).
    pub fn minus(&self, other: &Quantity) -> Quantity {
        self.plus(&Quantity { nano: -other.nano, format: other.format })
    }

    /// How it is written.
    pub fn format(&self) -> Format {
        self.format
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let small = self.nano > -1024 * NANO && self.nano < 1024 * NANO;
        if self.format == Format::Binary && !small {
            // Fractions of a byte round away from zero.
            let mut value = self.nano / NANO + (self.nano % NANO).signum();
            let mut suffix = "";
            for (name, _) in BINARY {
                if value % 1024 != 0 {
                    break;
                }
                value /= 1024;
                suffix = name;
            }
            return write!(f, "{value}{suffix}");
        }
        let (mut value, mut exponent) = (self.nano, -9);
        while value % 1000 == 0 && exponent < 18 {
            value /= 1000;
            exponent += 3;
        }
        if self.format == Format::Exponent {
            return match exponent {
                0 => write!(f, "{value}"),
                _ => write!(f, "{value}e{exponent}"),
            };
        }
        let row = DECIMAL.iter().find(|(_, power)| *power == exponent);
        write!(f, "{value}{}", row.map_or("", |(name, _)| name))
    }
}

/// Rewrites a quantity in its canonical form.
pub fn canonical(value: &Value) -> Result<String, ParseError> {
    Quantity::read(value).map(|quantity| quantity.to_string())
}

#[cfg(test)]
mod tests;
