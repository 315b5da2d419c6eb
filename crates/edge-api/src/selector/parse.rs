//! The string form of a label selector: `a=b, c!=d, e in (f,g), h notin (i), j, !k, l>1`.

use std::collections::BTreeSet;
use std::fmt;

use super::{Operator, Requirement, check};

/// Why a label selector cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectorError(pub(super) String);

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SelectorError {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Sign(&'a str),
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(text) | Token::Sign(text) => f.write_str(text),
            Token::End => f.write_str(""),
        }
    }
}

const SIGNS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Token<'a> {
        self.split().0
    }

    fn next(&mut self) -> Token<'a> {
        let (token, rest) = self.split();
        self.rest = rest;
        token
    }

    fn split(&self) -> (Token<'a>, &'a str) {
        let text = self.rest.trim_start();
        if text.is_empty() {
            return (Token::End, text);
        }
        if let Some(sign) = SIGNS.iter().find(|sign| text.starts_with(**sign)) {
            let (sign, rest) = text.split_at(sign.len());
            return (Token::Sign(sign), rest);
        }
        let stop = |c: char| c.is_whitespace() || "=!(),<>".contains(c);
        let (word, rest) = text.split_at(text.find(stop).unwrap_or(text.len()));
        (Token::Word(word), rest)
    }
}

fn unexpected<T>(found: Token<'_>, expected: &str) -> Result<T, SelectorError> {
    Err(SelectorError(format!(
        "unable to parse requirement: found '{found}', expected: {expected}"
    )))
}

/// Reads the whole selector.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut reader = Reader { rest: text };
    let mut requirements = Vec::new();
    if reader.peek() == Token::End {
        return Ok(requirements);
    }
    loop {
        let requirement = requirement(&mut reader)?;
        requirements.push(
            check(requirement)
                .map_err(|error| SelectorError(format!("unable to parse requirement: {error}")))?,
        );
        match reader.next() {
            Token::End => return Ok(requirements),
            Token::Sign(",") => match reader.peek() {
                Token::Word(_) | Token::Sign("!") => {}
                other => {
                    return Err(SelectorError(format!(
                        "found '{other}', expected: identifier after ','"
                    )));
                }
            },
            other => {
                return Err(SelectorError(format!(
                    "found '{other}', expected: ',' or 'end of string'"
                )));
            }
        }
    }
}

fn requirement(reader: &mut Reader<'_>) -> Result<Requirement, SelectorError> {
    let plain = |key: &str, operator| Requirement {
        key: key.to_string(),
        operator,
        values: BTreeSet::new(),
    };
    if reader.peek() == Token::Sign("!") {
        reader.next();
        return match reader.next() {
            Token::Word(key) => Ok(plain(key, Operator::DoesNotExist)),
            other => unexpected(other, "identifier"),
        };
    }
    let key = match reader.next() {
        Token::Word(key) => key,
        other => return unexpected(other, "!, identifier, or 'end of string'"),
    };
    let operator = match reader.peek() {
        Token::End | Token::Sign(",") => return Ok(plain(key, Operator::Exists)),
        Token::Sign("=" | "==") | Token::Word("in") => Operator::In,
        Token::Sign("!=") | Token::Word("notin") => Operator::NotIn,
        Token::Sign(">") => Operator::GreaterThan,
        Token::Sign("<") => Operator::LessThan,
        other => return unexpected(other, "in, notin, =, ==, !=, gt, lt"),
    };
    let values = match reader.next() {
        Token::Word(_) => set(reader)?,
        _ => BTreeSet::from([value(reader)?]),
    };
    Ok(Requirement { key: key.to_string(), operator, values })
}

/// One value; nothing at all is the empty value.
fn value(reader: &mut Reader<'_>) -> Result<String, SelectorError> {
    match reader.peek() {
        Token::Word(word) => {
            reader.next();
            Ok(word.to_string())
        }
        Token::End | Token::Sign(",") => Ok(String::new()),
        other => unexpected(other, "identifier"),
    }
}

/// `(a, b)`
fn set(reader: &mut Reader<'_>) -> Result<BTreeSet<String>, SelectorError> {
    match reader.next() {
        Token::Sign("(") => {}
        other => return unexpected(other, "'('"),
    }
    let mut values = BTreeSet::new();
    loop {
        match reader.next() {
            Token::Word(word) => {
                values.insert(word.to_string());
                match reader.next() {
                    Token::Sign(")") => return Ok(values),
                    Token::Sign(",") => {}
                    other => return unexpected(other, "',' or ')'"),
                }
                if reader.peek() == Token::Sign(")") {
                    reader.next();
                    values.insert(String::new());
                    return Ok(values);
                }
            }
            Token::Sign(",") => {
                values.insert(String::new());
            }
            Token::Sign(")") => return Ok(values),
            other => return unexpected(other, "',', ')' or identifier"),
        }
    }
}
