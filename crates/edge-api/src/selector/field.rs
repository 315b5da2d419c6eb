//! Field selectors: `status.phase=Running,spec.nodeName!=board-1`. Which fields a kind lets one
//! select by is in its row.

use std::fmt;

use crate::Object;
use crate::kinds::Kind;

/// One term.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    path: String,
    equal: bool,
    value: String,
}

/// Which fields an object must have; all terms must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

/// Why a field selector cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldSelectorError {
    /// it is no field selector
    Syntax {
        /// the whole text
        selector: String,
        /// the part that cannot be read
        term: String,
    },
    /// the kind cannot be selected by this field
    Unsupported {
        /// the field
        path: String,
    },
}

impl fmt::Display for FieldSelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldSelectorError::Syntax { selector, term } => {
                write!(f, "invalid selector: '{selector}'; can't understand '{term}'")
            }
            FieldSelectorError::Unsupported { path } => {
                write!(f, "field label not supported: {path}")
            }
        }
    }
}

impl std::error::Error for FieldSelectorError {}

/// Splits at commas, except those behind a backslash.
fn terms(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                found.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&text[start..]);
    found
}

/// `\\`, `\,` and `\=` stand for the character itself; any other use of them is an error.
fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                c @ ('\\' | ',' | '=') => plain.push(c),
                _ => return None,
            },
            ',' | '=' => return None,
            c => plain.push(c),
        }
    }
    Some(plain)
}

fn term(text: &str) -> Option<Term> {
    let at = text.find(['=', '!'])?;
    let (path, rest) = text.split_at(at);
    let (equal, value) = if let Some(value) = rest.strip_prefix("!=") {
        (false, value)
    } else if let Some(value) = rest.strip_prefix("==") {
        (true, value)
    } else {
        (true, rest.strip_prefix('=')?)
    };
    Some(Term { path: path.to_string(), equal, value: unescape(value)? })
}

impl FieldSelector {
    /// Reads the string form.
    pub fn parse(text: &str) -> Result<FieldSelector, FieldSelectorError> {
        let mut selector = FieldSelector::default();
        for part in terms(text) {
            if part.is_empty() {
                continue;
            }
            let bad = || FieldSelectorError::Syntax { selector: text.into(), term: part.into() };
            selector.terms.push(term(part).ok_or_else(bad)?);
        }
        Ok(selector)
    }

    /// Reads the string form and checks that the kind can be selected by these fields.
    pub fn parse_for(kind: &Kind, text: &str) -> Result<FieldSelector, FieldSelectorError> {
        let selector = FieldSelector::parse(text)?;
        match selector.terms.iter().find(|term| !kind.selects(&term.path)) {
            Some(term) => Err(FieldSelectorError::Unsupported { path: term.path.clone() }),
            None => Ok(selector),
        }
    }

    /// Whether an object matches. A field that is not there reads as empty.
    pub fn matches(&self, kind: &Kind, object: &Object) -> bool {
        self.terms.iter().all(|term| {
            let found = kind.field(object, &term.path).unwrap_or_default();
            (found == term.value) == term.equal
        })
    }

    /// Whether every object matches.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that a field must equal, when the selector says so: `metadata.name=x` lets a list
    /// become a get.
    pub fn exact(&self, path: &str) -> Option<&str> {
        let term = self.terms.iter().find(|term| term.equal && term.path == path)?;
        Some(&term.value)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape =
            |text: &str| text.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let sign = if term.equal { "=" } else { "!=" };
            write!(f, "{comma}{}{sign}{}", term.path, escape(&term.value))?;
        }
        Ok(())
    }
}
