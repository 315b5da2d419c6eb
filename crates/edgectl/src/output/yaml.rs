//! Writing YAML, byte for byte as `kubectl` does: what a YAML 1.1 reader would take for something
//! else than text is quoted (dates, `yes`, `12:30`), and text of several lines is a block. The
//! YAML library that reads manifests writes YAML 1.2, which leaves those bare.

use edge_api::Object;

/// One document.
pub(crate) fn write(object: &Object) -> String {
    let mut out = String::new();
    match object {
        Object::Object(map) if !map.is_empty() => mapping(map, 0, false, &mut out),
        Object::Array(items) if !items.is_empty() => sequence(items, 0, false, &mut out),
        other => {
            scalar(other, 0, false, &mut out);
            out.push('\n');
        }
    }
    out
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// The entries of a map; the first one goes on the present line when `inline`.
fn mapping(map: &serde_json::Map<String, Object>, indent: usize, inline: bool, out: &mut String) {
    for (n, (key, value)) in map.iter().enumerate() {
        if n > 0 || !inline {
            pad(indent, out);
        }
        text(key, 0, true, out);
        out.push(':');
        match value {
            Object::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                mapping(inner, indent + 2, false, out);
            }
            // A list stands at the column of its key.
            Object::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(items, indent, false, out);
            }
            other => {
                out.push(' ');
                scalar(other, indent + 2, false, out);
                out.push('\n');
            }
        }
    }
}

fn sequence(items: &[Object], indent: usize, inline: bool, out: &mut String) {
    for (n, item) in items.iter().enumerate() {
        if n > 0 || !inline {
            pad(indent, out);
        }
        out.push_str("- ");
        match item {
            Object::Object(map) if !map.is_empty() => mapping(map, indent + 2, true, out),
            Object::Array(inner) if !inner.is_empty() => sequence(inner, indent + 2, true, out),
            other => {
                scalar(other, indent + 2, false, out);
                out.push('\n');
            }
        }
    }
}

fn scalar(value: &Object, indent: usize, key: bool, out: &mut String) {
    match value {
        Object::String(value) => text(value, indent, key, out),
        other => out.push_str(&other.to_string()),
    }
}

/// A text in the plainest style that reads back as the same text.
fn text(text: &str, indent: usize, key: bool, out: &mut String) {
    let shape = Shape::of(text);
    if text.contains('\n') {
        match key || !shape.block {
            true => double(text, out),
            false => block(text, indent, out),
        }
    } else if looks_like_something_else(text) {
        double(text, out);
    } else if shape.plain {
        out.push_str(text);
    } else if shape.single {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
    } else {
        double(text, out);
    }
}

/// Which styles can hold a text.
struct Shape {
    plain: bool,
    single: bool,
    block: bool,
}

impl Shape {
    fn of(text: &str) -> Shape {
        let chars: Vec<char> = text.chars().collect();
        let special = chars.iter().any(|c| !printable(*c));
        let space_before_break = text.contains(" \n");
        let edge_space = text.starts_with(' ') || text.ends_with(' ');
        let mut indicator = text.starts_with("---") || text.starts_with("...");
        for (n, c) in chars.iter().enumerate() {
            let ends = chars.get(n + 1).is_none_or(|next| next.is_whitespace());
            let starts = n == 0 || chars[n - 1].is_whitespace();
            indicator |= match c {
                '#' => starts,
                ':' => ends,
                '-' | '?' => n == 0 && ends,
                ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%'
                | '@' | '`' => n == 0,
                _ => false,
            };
        }
        Shape {
            plain: !indicator && !edge_space && !special && !text.is_empty(),
            single: !special && !space_before_break,
            block: !special && !space_before_break && !text.ends_with(' '),
        }
    }
}

fn printable(c: char) -> bool {
    c == '\n'
        || (c >= ' ' && c != '\u{7f}' && !('\u{80}'..'\u{a0}').contains(&c) && c != '\u{feff}')
}

/// Whether a YAML 1.1 reader would not take it for text.
fn looks_like_something_else(text: &str) -> bool {
    const WORDS: [&str; 16] = [
        "", "~", "null", "true", "false", "y", "n", "yes", "no", "on", "off", "<<", ".inf",
        "+.inf", "-.inf", ".nan",
    ];
    let lower = text.to_ascii_lowercase();
    let starts = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    WORDS.contains(&lower.as_str())
        || (starts && (is_number(&lower) || is_sexagesimal(text) || is_date(text)))
}

fn is_number(lower: &str) -> bool {
    let bare = lower.strip_prefix(['+', '-']).unwrap_or(lower);
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = bare.strip_prefix(prefix) {
            return !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix) || c == '_');
        }
    }
    let digits = bare.replace('_', "");
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let power = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let numeric = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let some = !whole.is_empty() || !part.is_empty();
    some && numeric(whole) && numeric(part) && !power.is_empty() && numeric(power)
}

/// `12:30`, which YAML 1.1 counts in sixties.
fn is_sexagesimal(text: &str) -> bool {
    let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = bare.split(':');
    let first = parts.next().unwrap_or("");
    let rest: Vec<&str> = parts.collect();
    let small = |part: &&str| {
        let whole = part.split('.').next().unwrap_or("");
        (1..=2).contains(&whole.len()) && whole.parse::<u8>().is_ok_and(|number| number < 60)
    };
    !rest.is_empty()
        && !first.is_empty()
        && first.chars().all(|c| c.is_ascii_digit() || c == '_')
        && rest.iter().all(small)
}

/// A date, or a date and a time.
fn is_date(text: &str) -> bool {
    let shape: String =
        text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).take(10).collect();
    if shape != "0000-00-00" {
        return false;
    }
    let rest = &text[10..];
    rest.is_empty() || (rest.starts_with(['T', 't', ' ']) && rest.contains(':'))
}

fn block(text: &str, indent: usize, out: &mut String) {
    out.push('|');
    if text.starts_with([' ', '\n']) {
        out.push('2');
    }
    let bare = text.trim_end_matches('\n');
    match text.len() - bare.len() {
        0 => out.push('-'),
        1 if !bare.is_empty() => {}
        _ => out.push('+'),
    }
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            pad(indent, out);
            out.push_str(line);
        }
    }
}

fn double(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            '\u{1b}' => out.push_str("\\e"),
            c if printable(c) => out.push(c),
            c if u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02X}", u32::from(c))),
            c => out.push_str(&format!("\\u{:04X}", u32::from(c))),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
