//! `kubectl`'s dialect of JSONPath: text with `{…}` in it, `range … end`, wildcards, filters,
//! unions, slices, recursive descent. Written here because the libraries that exist follow RFC
//! 9535, which has neither templates nor ranges nor the unquoted forms that people type.

mod eval;
mod parse;

use crate::fault::Fault;
use edge_api::Object;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    /// The value itself and everything below it.
    Descend,
    Index(i64),
    Slice(Option<i64>, Option<i64>, i64),
    Union(Vec<Step>),
    Filter(Operand, Option<(Compare, Operand)>),
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Value(Object),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Template {
    /// Reads a template. One without braces is taken as a single path.
    pub(crate) fn parse(text: &str) -> Result<Template, Fault> {
        let relaxed = if text.contains('{') { text.to_string() } else { relaxed(text) };
        let nodes = parse::template(&relaxed)
            .map_err(|why| Fault::text(format!("error parsing jsonpath {text}, {why}")))?;
        Ok(Template { nodes })
    }

    /// Fills the template in.
    pub(crate) fn render(&self, object: &Object) -> Result<String, Fault> {
        let mut out = String::new();
        eval::render(&self.nodes, object, &mut out).map_err(Fault::Text)?;
        Ok(out)
    }

    /// The values that the paths of the template find.
    pub(crate) fn values<'a>(&self, object: &'a Object) -> Result<Vec<&'a Object>, Fault> {
        let mut found = Vec::new();
        for node in &self.nodes {
            if let Node::Path(steps) = node {
                found.extend(eval::walk(steps, object).map_err(Fault::Text)?);
            }
        }
        Ok(found)
    }
}

/// `metadata.name`, `.metadata.name` and `{.metadata.name}` all mean the last.
pub(crate) fn relaxed(path: &str) -> String {
    let inner = path.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(path);
    let dotted = inner.starts_with(['.', '[', '$', '@']);
    if dotted { format!("{{{inner}}}") } else { format!("{{.{inner}}}") }
}

#[cfg(test)]
mod tests;
