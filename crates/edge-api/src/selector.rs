//! Label selectors in both their forms, the string of a query and the object of a spec, and field
//! selectors. Both forms of label selector become the same list of requirements.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use crate::names;

mod field;
mod parse;

pub use field::{FieldSelector, FieldSelectorError};
pub use parse::SelectorError;

/// How a label must stand to a requirement's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// the value is one of these
    In,
    /// the value is none of these, or there is no such label
    NotIn,
    /// there is such a label
    Exists,
    /// there is no such label
    DoesNotExist,
    /// the value is a number above this one
    GreaterThan,
    /// the value is a number below this one
    LessThan,
}

/// What one label must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// the label's key
    pub key: String,
    /// how it must stand to the values
    pub operator: Operator,
    /// the values
    pub values: BTreeSet<String>,
}

impl Requirement {
    /// Whether labels meet it.
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        let found = labels.and_then(|labels| labels.get(&self.key)).and_then(Value::as_str);
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = || self.values.first().and_then(|text| number(text));
        match (self.operator, found) {
            (Operator::In, Some(value)) => self.values.contains(value),
            (Operator::NotIn, Some(value)) => !self.values.contains(value),
            (Operator::NotIn | Operator::DoesNotExist, None) => true,
            (Operator::Exists, found) => found.is_some(),
            (Operator::GreaterThan, Some(value)) => {
                number(value) > bound() && number(value).is_some()
            }
            (Operator::LessThan, Some(value)) => number(value).is_some() && number(value) < bound(),
            (Operator::DoesNotExist, Some(_)) | (_, None) => false,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<&str> = self.values.iter().map(String::as_str).collect();
        match (self.operator, &values[..]) {
            (Operator::In, [value]) => write!(f, "{}={value}", self.key),
            (Operator::In, values) => write!(f, "{} in ({})", self.key, values.join(",")),
            (Operator::NotIn, [value]) => write!(f, "{}!={value}", self.key),
            (Operator::NotIn, values) => write!(f, "{} notin ({})", self.key, values.join(",")),
            (Operator::Exists, _) => f.write_str(&self.key),
            (Operator::DoesNotExist, _) => write!(f, "!{}", self.key),
            (Operator::GreaterThan, values) => write!(f, "{}>{}", self.key, values.join(",")),
            (Operator::LessThan, values) => write!(f, "{}<{}", self.key, values.join(",")),
        }
    }
}

/// Which labels an object must have. All requirements must hold; without any, all objects match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelSelector {
    nothing: bool,
    requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> LabelSelector {
        LabelSelector { nothing: false, requirements: Vec::new() }
    }

    /// Matches no object.
    pub fn nothing() -> LabelSelector {
        LabelSelector { nothing: true, requirements: Vec::new() }
    }

    /// Reads the string form: `app=web,tier in (a,b),!old`.
    pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
        parse::parse(text).map(LabelSelector::from_requirements)
    }

    /// A selector of these requirements, kept sorted by key.
    pub fn from_requirements(mut requirements: Vec<Requirement>) -> LabelSelector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        LabelSelector { nothing: false, requirements }
    }

    /// Reads the object form, `matchLabels` and `matchExpressions`. A missing selector matches
    /// nothing and an empty one everything, as Kubernetes has it.
    pub fn from_object(selector: &Value) -> Result<LabelSelector, SelectorError> {
        if selector.is_null() {
            return Ok(LabelSelector::nothing());
        }
        let mut requirements = match &selector["matchLabels"] {
            Value::Object(labels) => from_map(labels),
            _ => Vec::new(),
        };
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            requirements.push(from_expression(expression)?);
        }
        Ok(LabelSelector::from_requirements(requirements))
    }

    /// Reads a plain map of labels, such as a Service's `spec.selector`. A missing or empty map
    /// selects nothing there: a Service without a selector has its endpoints made by somebody else.
    pub fn from_labels(labels: &Value) -> LabelSelector {
        match labels.as_object() {
            Some(labels) if !labels.is_empty() => {
                LabelSelector::from_requirements(from_map(labels))
            }
            _ => LabelSelector::nothing(),
        }
    }

    /// Whether an object's labels match.
    pub fn matches(&self, object: &Value) -> bool {
        self.matches_labels(object["metadata"]["labels"].as_object())
    }

    /// Whether labels match.
    pub fn matches_labels(&self, labels: Option<&Map<String, Value>>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether every object matches.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// What must hold.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

fn from_map(labels: &Map<String, Value>) -> Vec<Requirement> {
    labels
        .iter()
        .map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: BTreeSet::from([value.as_str().unwrap_or_default().to_string()]),
        })
        .collect()
}

fn from_expression(expression: &Value) -> Result<Requirement, SelectorError> {
    let key = expression["key"].as_str().unwrap_or_default().to_string();
    let values: BTreeSet<String> = expression["values"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|value| value.as_str().map(str::to_string))
        .collect();
    let word = expression["operator"].as_str().unwrap_or_default();
    let operator = match word {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => {
            return Err(SelectorError(format!(
                "\"{word}\" is not a valid label selector operator"
            )));
        }
    };
    check(Requirement { key, operator, values })
}

/// The rules that hold for both forms.
fn check(requirement: Requirement) -> Result<Requirement, SelectorError> {
    let fail = |message: String| Err(SelectorError(message));
    let bad = names::qualified_name(&requirement.key);
    if let Some(message) = bad.first() {
        return fail(format!("key: Invalid value: \"{}\": {message}", requirement.key));
    }
    let count = requirement.values.len();
    match requirement.operator {
        Operator::In | Operator::NotIn if count == 0 => {
            return fail(
                "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
                    .to_string(),
            );
        }
        Operator::Exists | Operator::DoesNotExist if count != 0 => {
            return fail(
                "values: Invalid value: values set must be empty for exists and does not exist"
                    .to_string(),
            );
        }
        Operator::GreaterThan | Operator::LessThan => {
            let numeric = requirement.values.iter().all(|value| value.parse::<i64>().is_ok());
            if count != 1 || !numeric {
                return fail(
                    "values: Invalid value: for 'Gt', 'Lt' operators, exactly one value is \
                     required, and it must be an integer"
                        .to_string(),
                );
            }
        }
        _ => {}
    }
    for (index, value) in requirement.values.iter().enumerate() {
        if let Some(message) = names::label_value(value).first() {
            let key = &requirement.key;
            return fail(format!("values[{index}][{key}]: Invalid value: \"{value}\": {message}"));
        }
    }
    Ok(requirement)
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.requirements.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

#[cfg(test)]
mod tests;
