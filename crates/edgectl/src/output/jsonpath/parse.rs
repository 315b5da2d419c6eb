//! Reading a template: text, blocks in braces, and the paths within them.

use super::{Compare, Node, Operand, Step};
use edge_api::Object;

type Parsed<T> = Result<T, String>;

/// Deeper nesting of ranges and filters than anybody writes.
const DEPTH_LIMIT: usize = 16;

/// A whole template.
pub(super) fn template(text: &str) -> Parsed<Vec<Node>> {
    let chars: Vec<char> = text.chars().collect();
    let mut parser = Parser { chars: &chars, at: 0, depth: 0 };
    let (nodes, ended) = parser.nodes(false)?;
    if ended { Err("end without range".to_string()) } else { Ok(nodes) }
}

struct Parser<'a> {
    chars: &'a [char],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.chars[self.at..].iter().copied().take(word.len()).eq(word.chars());
        let next = self.chars.get(self.at + word.len());
        let ends = next.is_none_or(|c| !c.is_alphanumeric() && *c != '_');
        self.at += if found && ends { word.len() } else { 0 };
        found && ends
    }

    fn space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn expect(&mut self, wanted: char) -> Parsed<()> {
        if self.eat(wanted) {
            return Ok(());
        }
        match self.peek() {
            Some(found) => Err(format!("expected {wanted:?}, found {found:?}")),
            None => Err(format!("expected {wanted:?}, found the end")),
        }
    }

    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT { Err("nested too deeply".to_string()) } else { Ok(()) }
    }

    /// Nodes until the end of the text, or until `end` within a range. Says which it was.
    fn nodes(&mut self, in_block: bool) -> Parsed<(Vec<Node>, bool)> {
        self.deeper()?;
        let mut nodes = Vec::new();
        let mut in_block = in_block;
        let ended = loop {
            if in_block {
                self.space();
                if self.eat('}') {
                    in_block = false;
                    continue;
                }
                if self.eat_word("end") {
                    break true;
                }
                nodes.push(self.action()?);
                continue;
            }
            match self.peek() {
                None => break false,
                Some('{') => {
                    self.at += 1;
                    in_block = true;
                }
                Some(_) => nodes.push(Node::Text(self.text())),
            }
        };
        self.depth -= 1;
        Ok((nodes, ended))
    }

    fn text(&mut self) -> String {
        let rest = &self.chars[self.at..];
        let length = rest.iter().position(|c| *c == '{').unwrap_or(rest.len());
        self.at += length;
        rest[..length].iter().collect()
    }

    /// What stands in braces: a literal, a range, or a path.
    fn action(&mut self) -> Parsed<Node> {
        match self.peek() {
            None => Err("unclosed action".to_string()),
            Some('"' | '\'') => Ok(Node::Text(self.quoted()?)),
            Some(_) if self.eat_word("range") => {
                self.space();
                let over = self.path()?;
                let (body, ended) = self.nodes(true)?;
                match ended {
                    true => Ok(Node::Range(over, body)),
                    false => Err("unclosed range: {end} is missing".to_string()),
                }
            }
            Some(_) => Ok(Node::Path(self.path()?)),
        }
    }

    fn quoted(&mut self) -> Parsed<String> {
        let quote = self.peek().unwrap_or('"');
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(c) = self.peek() else { return Err("unterminated quoted string".to_string()) };
            self.at += 1;
            match c {
                c if c == quote => return Ok(text),
                '\\' => {
                    let escaped = self.peek().ok_or("unterminated quoted string")?;
                    self.at += 1;
                    match escaped {
                        'n' => text.push('\n'),
                        't' => text.push('\t'),
                        'r' => text.push('\r'),
                        other => text.push(other),
                    }
                }
                c => text.push(c),
            }
        }
    }

    fn path(&mut self) -> Parsed<Vec<Step>> {
        let mut steps = Vec::new();
        let start = self.at;
        if !self.eat('$') {
            self.eat('@');
        }
        if self.at == start && self.peek().is_some_and(|c| c.is_alphabetic() || c == '_') {
            steps.push(Step::Field(self.name()?));
        }
        loop {
            match self.peek() {
                Some('.') => {
                    self.at += 1;
                    self.dotted(&mut steps)?;
                }
                Some('[') => {
                    self.at += 1;
                    let step = self.bracket()?;
                    steps.push(step);
                }
                _ if self.at == start => {
                    let found = self.peek().map_or(String::new(), String::from);
                    return Err(format!("unrecognized character in action: {found:?}"));
                }
                _ => return Ok(steps),
            }
        }
    }

    /// What follows a dot.
    fn dotted(&mut self, steps: &mut Vec<Step>) -> Parsed<()> {
        match self.peek() {
            Some('.') => {
                self.at += 1;
                steps.push(Step::Descend);
                match self.peek() {
                    Some('[') => Ok(()),
                    _ => self.dotted(steps),
                }
            }
            Some('*') => {
                self.at += 1;
                steps.push(Step::Wildcard);
                Ok(())
            }
            // A lone dot is the value itself; `.[0]` is `[0]`.
            None | Some('}' | '[' | ' ' | ')') => Ok(()),
            Some(_) => {
                let name = self.name()?;
                steps.push(Step::Field(name));
                Ok(())
            }
        }
    }

    /// A field's name, in which a backslash keeps the next character.
    fn name(&mut self) -> Parsed<String> {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            if c == '\\' {
                self.at += 1;
                name.push(self.peek().ok_or("a backslash at the end")?);
            } else if c.is_whitespace() || "{}[]()<>=!.,'\"|&*?".contains(c) {
                break;
            } else {
                name.push(c);
            }
            self.at += 1;
        }
        match name.is_empty() {
            false => Ok(name),
            true => Err(format!("unexpected {:?}", self.peek().unwrap_or(' '))),
        }
    }

    /// What stands in brackets: an index, a slice, names, a wildcard, a filter, or several.
    fn bracket(&mut self) -> Parsed<Step> {
        self.deeper()?;
        let mut steps = Vec::new();
        loop {
            self.space();
            steps.push(self.element()?);
            self.space();
            if self.eat(']') {
                break;
            }
            self.expect(',').map_err(|_| "unterminated array".to_string())?;
        }
        self.depth -= 1;
        Ok(match steps.len() {
            1 => steps.remove(0),
            _ => Step::Union(steps),
        })
    }

    fn element(&mut self) -> Parsed<Step> {
        match self.peek() {
            Some('*') => {
                self.at += 1;
                Ok(Step::Wildcard)
            }
            Some('"' | '\'') => Ok(Step::Field(self.quoted()?)),
            Some('?') => {
                self.at += 1;
                self.expect('(')?;
                let filter = self.filter()?;
                self.space();
                self.expect(')')?;
                Ok(filter)
            }
            _ => self.index_or_slice(),
        }
    }

    fn index_or_slice(&mut self) -> Parsed<Step> {
        let first = self.integer()?;
        if !self.eat(':') {
            return first.map(Step::Index).ok_or("invalid array index".to_string());
        }
        let last = self.integer()?;
        let step = if self.eat(':') { self.integer()?.unwrap_or(1) } else { 1 };
        if step <= 0 {
            return Err("step must be > 0".to_string());
        }
        Ok(Step::Slice(first, last, step))
    }

    fn integer(&mut self) -> Parsed<Option<i64>> {
        let start = self.at;
        self.eat('-');
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        match text.as_str() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| format!("invalid array index {text}")),
        }
    }

    fn filter(&mut self) -> Parsed<Step> {
        self.space();
        let left = self.operand()?;
        self.space();
        let symbols = [
            ("==", Compare::Equal),
            ("!=", Compare::NotEqual),
            ("<=", Compare::LessOrEqual),
            (">=", Compare::GreaterOrEqual),
            ("<", Compare::Less),
            (">", Compare::Greater),
        ];
        for (symbol, compare) in symbols {
            let rest = &self.chars[self.at..];
            if rest.iter().copied().take(symbol.len()).eq(symbol.chars()) {
                self.at += symbol.len();
                self.space();
                let right = self.operand()?;
                return Ok(Step::Filter(left, Some((compare, right))));
            }
        }
        Ok(Step::Filter(left, None))
    }

    fn operand(&mut self) -> Parsed<Operand> {
        match self.peek() {
            Some('"' | '\'') => Ok(Operand::Value(Object::from(self.quoted()?))),
            Some('@' | '.' | '$' | '[') => Ok(Operand::Path(self.path()?)),
            _ => {
                let start = self.at;
                while self.peek().is_some_and(|c| !c.is_whitespace() && c != ')' && c != ']') {
                    self.at += 1;
                }
                let text: String = self.chars[start..self.at].iter().collect();
                serde_json::from_str(&text)
                    .map(Operand::Value)
                    .map_err(|_| format!("cannot read {text:?} in a filter"))
            }
        }
    }
}
