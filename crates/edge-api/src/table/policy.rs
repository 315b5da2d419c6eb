//! Rows of NetworkPolicies.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, Table, age, name, selector_text, text};
use crate::Object;

const COLUMNS: &[Column] = &[NAME, text("Pod-Selector", "The pods that it is about."), AGE];

/// The table of NetworkPolicies.
pub(crate) const NETWORK_POLICY: Table = Table { columns: COLUMNS, cells };

fn cells(policy: &Object, now: Timestamp) -> Vec<Value> {
    let selector = selector_text(&policy["spec"]["podSelector"]);
    vec![name(policy), json!(selector), age(policy, now)]
}
