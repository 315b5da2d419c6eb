//! Walking an object along a path. What is not there gives nothing, as with `kubectl`.

use super::{Compare, Node, Operand, Step};
use edge_api::Object;
use std::cmp::Ordering;

/// Fills nodes in from an object.
pub(super) fn render(nodes: &[Node], object: &Object, out: &mut String) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(steps) => {
                let texts: Vec<String> = walk(steps, object)?.into_iter().map(text).collect();
                out.push_str(&texts.join(" "));
            }
            Node::Range(over, body) => {
                for item in walk(over, object)? {
                    render(body, item, out)?;
                }
            }
        }
    }
    Ok(())
}

fn text(value: &Object) -> String {
    match value {
        Object::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The values at the end of a path.
pub(super) fn walk<'a>(steps: &[Step], object: &'a Object) -> Result<Vec<&'a Object>, String> {
    let mut found = vec![object];
    for step in steps {
        let mut next = Vec::new();
        for value in found {
            take(step, value, &mut next)?;
        }
        found = next;
    }
    Ok(found)
}

fn take<'a>(step: &Step, value: &'a Object, out: &mut Vec<&'a Object>) -> Result<(), String> {
    match step {
        Step::Field(name) => out.extend(value.get(name)),
        Step::Wildcard => out.extend(children(value)),
        Step::Descend => descend(value, out),
        Step::Index(index) => {
            let Some(items) = value.as_array() else { return Ok(()) };
            let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let place = if *index < 0 { index + count } else { *index };
            let item = usize::try_from(place).ok().and_then(|place| items.get(place));
            let message = format!("array index out of bounds: index {index}, length {count}");
            out.push(item.ok_or(message)?);
        }
        Step::Slice(first, last, step) => {
            let Some(items) = value.as_array() else { return Ok(()) };
            let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let place = |end: i64| if end < 0 { end + count } else { end }.clamp(0, count);
            let (from, to) = (place(first.unwrap_or(0)), place(last.unwrap_or(count)));
            let range = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
            let step = usize::try_from(*step).unwrap_or(1);
            out.extend(items.get(range).unwrap_or(&[]).iter().step_by(step));
        }
        Step::Union(steps) => {
            for step in steps {
                take(step, value, out)?;
            }
        }
        Step::Filter(left, condition) => {
            for item in children(value) {
                if holds(left, condition.as_ref(), item)? {
                    out.push(item);
                }
            }
        }
    }
    Ok(())
}

fn children(value: &Object) -> Vec<&Object> {
    match value {
        Object::Array(items) => items.iter().collect(),
        Object::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn descend<'a>(value: &'a Object, out: &mut Vec<&'a Object>) {
    out.push(value);
    for child in children(value) {
        descend(child, out);
    }
}

fn holds(
    left: &Operand,
    condition: Option<&(Compare, Operand)>,
    item: &Object,
) -> Result<bool, String> {
    let left = resolve(left, item)?;
    let Some((compare, right)) = condition else { return Ok(left.is_some()) };
    let (Some(left), Some(right)) = (left, resolve(right, item)?) else { return Ok(false) };
    let order = match (left, right) {
        (Object::Number(a), Object::Number(b)) => {
            a.as_f64().unwrap_or(0.0).partial_cmp(&b.as_f64().unwrap_or(0.0))
        }
        (Object::String(a), Object::String(b)) => Some(a.cmp(b)),
        // A number typed without quotes is compared with a string that holds one.
        (a, b) if text(a) == text(b) => Some(Ordering::Equal),
        _ => None,
    };
    Ok(match compare {
        Compare::Equal => order == Some(Ordering::Equal),
        Compare::NotEqual => order != Some(Ordering::Equal),
        Compare::Less => order == Some(Ordering::Less),
        Compare::LessOrEqual => order.is_some_and(Ordering::is_le),
        Compare::Greater => order == Some(Ordering::Greater),
        Compare::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
    })
}

fn resolve<'a>(operand: &'a Operand, item: &'a Object) -> Result<Option<&'a Object>, String> {
    match operand {
        Operand::Value(value) => Ok(Some(value)),
        Operand::Path(steps) => Ok(walk(steps, item)?.into_iter().next()),
    }
}
