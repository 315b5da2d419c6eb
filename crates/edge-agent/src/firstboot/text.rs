//! The text of `edged.yaml`: a small, strict part of YAML, read so that every mistake has its line
//! and every value its place in the file (a secret is taken out of it later). Values are words as
//! they were typed: a password of digits stays one, and `NO` is Norway.

use std::fmt;
use std::ops::Range;

/// What is wrong, and where. One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) line: usize,
    pub(super) what: String,
}

impl Mistake {
    pub(super) fn at(line: usize, what: impl Into<String>) -> Mistake {
        Mistake { line, what: what.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "edged.yaml, line {}: {}", self.line, self.what)
    }
}

/// A word, its line, and the bytes of the file that it takes, with its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) line: usize,
    pub(super) span: Range<usize>,
    /// Whether a comment follows it on its line, so that a `#` may have been meant as part of it.
    pub(super) commented: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Empty,
    Scalar(Scalar),
    List(Vec<Scalar>),
    Map(Vec<Entry>),
}

/// A key, its line, and what it is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Value,
}

/// Reads the whole file.
///
/// # Errors
/// The first thing that is not understood.
pub(super) fn read(text: &str) -> Result<Vec<Entry>, Mistake> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (index, raw) in text.split_inclusive('\n').enumerate() {
        let base = start;
        start += raw.len();
        let body = raw.trim_end_matches(['\n', '\r']);
        let body = if index == 0 { body.trim_start_matches('\u{feff}') } else { body };
        let base = base + (raw.trim_end_matches(['\n', '\r']).len() - body.len());
        let number = index + 1;
        let words = body.trim_start_matches([' ', '\t']);
        if words.is_empty() || words.starts_with('#') || (words == "---" && entries.is_empty()) {
            continue;
        }
        let indent = body.len() - words.len();
        let comment = words.find(" #").unwrap_or(words.len());
        if body[..indent + comment].contains('\t') {
            return Err(Mistake::at(number, "there is a tab in it: use spaces instead"));
        }
        let mut line = Line { text: body, at: indent, base, number };
        if let Some(rest) = words.strip_prefix('-').filter(|r| r.is_empty() || r.starts_with(' ')) {
            line.at = body.len() - rest.len();
            item(&mut entries, &mut line)?;
        } else if indent == 0 {
            depth = 0;
            let entry = line.entry(&[])?;
            add(&mut entries, entry)?;
        } else {
            nested(&mut entries, &mut line, indent, &mut depth)?;
        }
    }
    Ok(entries)
}

/// The values of a key of the file's margin, read by themselves: a mistake elsewhere takes nothing
/// from them.
pub(super) fn alone(text: &str, key: &str) -> Vec<Scalar> {
    let mut parts: Vec<String> = Vec::new();
    let mut within = false;
    for line in text.split_inclusive('\n') {
        let line = line.trim_start_matches('\u{feff}');
        if line.starts_with(|c: char| !c.is_whitespace() && c != '#' && c != '-') {
            let rest = line.strip_prefix(key).map(str::trim_start);
            within = rest.is_some_and(|rest| rest.starts_with(':'));
            parts.extend(within.then(String::new));
        }
        if let Some(part) = parts.last_mut().filter(|_| within) {
            part.push_str(line);
        }
    }
    let entries = parts.iter().filter_map(|part| read(part).ok()).flatten();
    let values = entries.map(|entry| match entry.value {
        Value::Scalar(scalar) => vec![scalar],
        Value::List(items) => items,
        _ => Vec::new(),
    });
    values.flatten().collect()
}

fn add(entries: &mut Vec<Entry>, entry: Entry) -> Result<(), Mistake> {
    if entries.iter().any(|e| e.key == entry.key) {
        return Err(Mistake::at(entry.line, format!("{}: it is there twice", entry.key)));
    }
    entries.push(entry);
    Ok(())
}

/// `- word` beneath a key that has nothing after its colon.
fn item(entries: &mut [Entry], line: &mut Line<'_>) -> Result<(), Mistake> {
    let number = line.number;
    let stray = || Mistake::at(number, "this list belongs to no key");
    let last = entries.last_mut().ok_or_else(stray)?;
    let scalar = match line.value(&[])? {
        Value::Scalar(scalar) => scalar,
        _ => return Err(Mistake::at(line.number, format!("{}: one word an item", last.key))),
    };
    match &mut last.value {
        Value::Empty => last.value = Value::List(vec![scalar]),
        Value::List(items) => items.push(scalar),
        _ => return Err(stray()),
    }
    Ok(())
}

/// `  key: value` beneath a key that has nothing after its colon.
fn nested(
    entries: &mut [Entry],
    line: &mut Line<'_>,
    indent: usize,
    depth: &mut usize,
) -> Result<(), Mistake> {
    let stray = || Mistake::at(line.number, "it is indented, and belongs to nothing above it");
    let last = entries.last_mut().ok_or_else(stray)?;
    if let Value::Empty = last.value {
        *depth = indent;
        last.value = Value::Map(Vec::new());
    }
    let Value::Map(inner) = &mut last.value else { return Err(stray()) };
    if indent != *depth {
        return Err(Mistake::at(line.number, "it is not indented as the line above it"));
    }
    let entry = line.entry(&[])?;
    add(inner, entry)
}

/// A line being read, from `at` on.
struct Line<'a> {
    text: &'a str,
    at: usize,
    /// Where the line begins in the file.
    base: usize,
    number: usize,
}

impl Line<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn wrong(&self, what: impl Into<String>) -> Mistake {
        Mistake::at(self.number, what)
    }

    fn spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches(' ').len();
    }

    /// Steps over `c` if it is next.
    fn takes(&mut self, c: char) -> bool {
        let there = self.rest().starts_with(c);
        self.at += if there { c.len_utf8() } else { 0 };
        there
    }

    /// `key: value`; within braces the value ends at one of `ends`.
    fn entry(&mut self, ends: &[char]) -> Result<Entry, Mistake> {
        let number = self.number;
        let rest = self.rest();
        let no_colon = || self.wrong("it is not of the form `key: value`");
        let colon = rest.find(':').ok_or_else(no_colon)?;
        let key = rest[..colon].trim_end().to_owned();
        let after = &rest[colon + 1..];
        if !(after.is_empty() || after.starts_with(' ')) {
            return Err(self.wrong(format!("{key}: a space is missing after the colon")));
        }
        self.at += colon + 1;
        let value = self.value(ends)?;
        Ok(Entry { key, line: number, value })
    }

    fn value(&mut self, ends: &[char]) -> Result<Value, Mistake> {
        self.spaces();
        let value = match self.rest().chars().next() {
            None | Some('#') => Value::Empty,
            Some(c) if ends.contains(&c) => return Ok(Value::Empty),
            Some('{' | '[') if !ends.is_empty() => {
                return Err(self.wrong("brackets within brackets are not understood"));
            }
            Some('{') => Value::Map(self.braces()?),
            Some('[') => Value::List(self.brackets()?),
            Some(quote @ ('"' | '\'')) => Value::Scalar(self.quoted(quote)?),
            Some(_) => Value::Scalar(self.plain(ends)?),
        };
        self.spaces();
        let clean = self.rest().is_empty() || self.rest().starts_with('#') || !ends.is_empty();
        if !clean {
            return Err(self.wrong("something stands after the value: put the value in quotes"));
        }
        Ok(value)
    }

    fn braces(&mut self) -> Result<Vec<Entry>, Mistake> {
        let mut inner = Vec::new();
        self.at += 1;
        loop {
            self.spaces();
            if self.takes('}') {
                return Ok(inner);
            }
            let entry = self.entry(&[',', '}'])?;
            add(&mut inner, entry)?;
            self.comma('}')?;
        }
    }

    fn brackets(&mut self) -> Result<Vec<Scalar>, Mistake> {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            self.spaces();
            if self.takes(']') {
                return Ok(items);
            }
            if let Value::Scalar(scalar) = self.value(&[',', ']'])? {
                items.push(scalar);
            }
            self.comma(']')?;
        }
    }

    /// Between two items there is a comma; the last may have none.
    fn comma(&mut self, end: char) -> Result<(), Mistake> {
        self.spaces();
        if self.takes(',') || self.rest().starts_with(end) {
            return Ok(());
        }
        Err(self.wrong(format!("a `{end}` is missing on this line")))
    }

    fn scalar(&self, from: usize, text: String) -> Scalar {
        let span = self.base + from..self.base + self.at;
        Scalar { text, line: self.number, span, commented: false }
    }

    fn plain(&mut self, ends: &[char]) -> Result<Scalar, Mistake> {
        let from = self.at;
        let rest = self.rest();
        if rest.starts_with(['&', '*', '!', '|', '>', '%', '@', '`', '{', '[', ']', '}', ',']) {
            return Err(self.wrong("the value begins with a special sign: put it in quotes"));
        }
        let comment = rest.find(" #").unwrap_or(rest.len());
        let end = rest.find(ends).unwrap_or(rest.len()).min(comment);
        let text = rest[..end].trim_end();
        if text.contains(": ") || text.ends_with(':') {
            return Err(self.wrong("there is a second colon in it: put the value in quotes"));
        }
        let commented = end == comment && comment < rest.len();
        let text = text.to_owned();
        self.at += text.len();
        Ok(Scalar { commented, ..self.scalar(from, text) })
    }

    fn quoted(&mut self, quote: char) -> Result<Scalar, Mistake> {
        let from = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '\'' if quote == '\'' && chars.next_if(|(_, c)| *c == '\'').is_some() => {
                    text.push('\'');
                }
                c if c == quote => {
                    self.at += at + 1;
                    return Ok(self.scalar(from, text));
                }
                '\\' if quote == '"' => match chars.next() {
                    Some((_, c @ ('"' | '\\' | '/'))) => text.push(c),
                    _ => {
                        return Err(self.wrong("a backslash in \"…\": use '…' instead"));
                    }
                },
                c => text.push(c),
            }
        }
        Err(self.wrong(format!("the closing {quote} is missing on this line")))
    }
}

/// The one of `known` that is most like `word`, if any is like it: at most two letters differ.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().replace('_', "-").chars().collect();
    let best = known.iter().map(|name| (distance(&word, name), *name)).min()?;
    (best.0 <= 2 && best.0 < best.1.len()).then_some(best.1)
}

/// Levenshtein's, with one row.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut before = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let here = (before + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            before = std::mem::replace(&mut row[j + 1], here);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
