//! The patch of `apply`: what was added or changed in the new manifest compared with the live
//! object, and what was removed compared with the manifest applied before. Fields that neither
//! manifest names belong to others and stay.

use serde_json::{Map, Value, json};

use super::strategic::{DELETE_FROM, PATCH, RETAIN_KEYS, SET_ORDER, Shape, field_of, shape_of};
use crate::kinds::Kind;
use crate::schema::{self, Field, Merge};

/// The strategic merge patch that brings `current` to `modified`, and removes what `original` (the
/// manifest applied before; null if none) had and `modified` has no more. `{}` when there is
/// nothing to do.
pub fn three_way(kind: &Kind, original: &Value, modified: &Value, current: &Value) -> Value {
    Value::Object(maps(original, modified, current, schema::definition(kind.schema), true))
}

/// The same as a plain merge patch, for objects whose type is not known.
pub fn three_way_merge(original: &Value, modified: &Value, current: &Value) -> Value {
    Value::Object(maps(original, modified, current, None, false))
}

/// The strategic merge patch from one object to another.
pub fn diff(kind: &Kind, from: &Value, to: &Value) -> Value {
    three_way(kind, from, to, from)
}

const NULL: &Value = &Value::Null;

fn maps(
    original: &Value,
    modified: &Value,
    current: &Value,
    shape: Shape,
    strategic: bool,
) -> Map<String, Value> {
    let mut patch = Map::new();
    let Value::Object(wanted) = modified else { return patch };
    for (key, new) in wanted {
        let field = field_of(shape, key);
        let (old, live) = (&original[key], &current[key]);
        match (new, live) {
            (Value::Null, Value::Null) => {}
            (Value::Object(_), Value::Object(_)) => {
                let mut inner = maps(old, new, live, shape_of(field), strategic);
                let retains = field.is_some_and(|field| field.merge == Merge::Retain);
                if !inner.is_empty() && strategic && retains {
                    inner.insert(RETAIN_KEYS.to_string(), keys_of(new));
                }
                if !inner.is_empty() {
                    patch.insert(key.clone(), Value::Object(inner));
                }
            }
            (Value::Array(items), Value::Array(_)) if strategic => match field {
                Some(field) if field.merge.key().is_some() => {
                    keyed_list(&mut patch, field, (old, items, live));
                }
                Some(field) if field.merge == Merge::Set => {
                    plain_set(&mut patch, key, (old, items, live));
                }
                _ => replace(&mut patch, key, new, live),
            },
            _ => replace(&mut patch, key, new, live),
        }
    }
    let dropped = original.as_object().into_iter().flatten();
    for (key, _) in dropped.filter(|(key, _)| !wanted.contains_key(*key)) {
        if !current[key].is_null() {
            patch.insert(key.clone(), Value::Null);
        }
    }
    patch
}

fn replace(patch: &mut Map<String, Value>, key: &str, new: &Value, live: &Value) {
    if new != live {
        patch.insert(key.to_string(), new.clone());
    }
}

/// The keys of a map, sorted, as a list.
fn keys_of(map: &Value) -> Value {
    map.as_object().into_iter().flatten().map(|(key, _)| json!(key)).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn find<'a>(items: &'a [Value], key: &str, wanted: &Value) -> Option<&'a Value> {
    items.iter().find(|item| !wanted.is_null() && item[key] == *wanted)
}

fn keyed_list(
    patch: &mut Map<String, Value>,
    field: &'static Field,
    (old, new, live): (&Value, &[Value], &Value),
) {
    let Some(key) = field.merge.key() else { return };
    let (old, live) = (list(old), list(live));
    let mut items = Vec::new();
    for item in new {
        let Some(found) = find(live, key, &item[key]) else {
            items.push(item.clone());
            continue;
        };
        let before = find(old, key, &item[key]).unwrap_or(NULL);
        let mut inner = maps(before, item, found, shape_of(Some(field)), true);
        if inner.is_empty() {
            continue;
        }
        inner.insert(key.to_string(), item[key].clone());
        if matches!(field.merge, Merge::KeyRetain(_)) {
            inner.insert(RETAIN_KEYS.to_string(), keys_of(item));
        }
        items.push(Value::Object(inner));
    }
    for item in old {
        let gone = find(new, key, &item[key]).is_none();
        if gone && find(live, key, &item[key]).is_some() {
            items.push(json!({PATCH: "delete", key: item[key]}));
        }
    }
    let order: Vec<Value> = new.iter().map(|item| json!({key: item[key]})).collect();
    if items.is_empty() && in_order(live, &order, |a, b| a[key] == b[key]) {
        return;
    }
    patch.insert(format!("{SET_ORDER}{}", field.name), Value::Array(order));
    if !items.is_empty() {
        patch.insert(field.name.to_string(), Value::Array(items));
    }
}

fn plain_set(
    patch: &mut Map<String, Value>,
    key: &str,
    (old, new, live): (&Value, &[Value], &Value),
) {
    let (old, live) = (list(old), list(live));
    let without = |items: &[Value], others: &[Value]| -> Vec<Value> {
        items.iter().filter(|item| !others.contains(item)).cloned().collect()
    };
    let added = without(new, live);
    let mut gone = without(old, new);
    gone.retain(|item| live.contains(item));
    if added.is_empty() && gone.is_empty() && in_order(live, new, |a, b| a == b) {
        return;
    }
    patch.insert(format!("{SET_ORDER}{key}"), Value::Array(new.to_vec()));
    if !added.is_empty() {
        patch.insert(key.to_string(), Value::Array(added));
    }
    if !gone.is_empty() {
        patch.insert(format!("{DELETE_FROM}{key}"), Value::Array(gone));
    }
}

/// Whether the items of `order` stand in `live` in that order.
fn in_order(live: &[Value], order: &[Value], same: impl Fn(&Value, &Value) -> bool) -> bool {
    let place = |item: &Value| live.iter().position(|found| same(found, item));
    let places: Vec<usize> = order.iter().filter_map(place).collect();
    places.is_sorted()
}
