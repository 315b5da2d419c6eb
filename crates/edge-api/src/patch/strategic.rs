//! Strategic merge patch: lists whose items have a key are merged item by item, and directives say
//! what to delete, replace or reorder. Follows `strategicpatch` of apimachinery step by step, its
//! order of items included, since clients compare the results.

use serde_json::{Map, Value};

use super::{not_a_map, unprocessable};
use crate::Object;
use crate::kinds::Kind;
use crate::schema::{self, Definition, Field, Merge, Type};
use crate::status::Status;

pub(super) const PATCH: &str = "$patch";
pub(super) const RETAIN_KEYS: &str = "$retainKeys";
pub(super) const SET_ORDER: &str = "$setElementOrder/";
pub(super) const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// The type of the object that is being merged, when it is known.
pub(super) type Shape = Option<&'static Definition>;

/// Applies a strategic merge patch to an object of a kind.
pub fn strategic_merge(kind: &Kind, current: &Object, patch: &Value) -> Result<Object, Status> {
    let Value::Object(patch) = patch else { return Err(not_a_map(patch)) };
    let mut object = current.clone();
    let Value::Object(map) = &mut object else { return Err(not_a_map(current)) };
    merge_map(map, patch.clone(), schema::definition(kind.schema)).map_err(unprocessable)?;
    Ok(object)
}

/// The type of a field's value, or of the items of its list.
pub(super) fn shape_of(field: Option<&'static Field>) -> Shape {
    match &field?.ty {
        Type::Object(name) => schema::definition(name),
        Type::List(item) => match **item {
            Type::Object(name) => schema::definition(name),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn field_of(shape: Shape, name: &str) -> Option<&'static Field> {
    shape?.field(name)
}

fn merge_map(
    original: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
    shape: Shape,
) -> Result<(), String> {
    if let Some(directive) = patch.remove(PATCH) {
        match directive.as_str() {
            Some("replace") => {
                *original = patch;
                drop_map_directives(original);
                return Ok(());
            }
            Some("delete") => {
                original.clear();
                return Ok(());
            }
            Some("merge") => {}
            _ => return Err(format!("unknown patch type: {directive}")),
        }
    }
    if let Some(keys) = patch.remove(RETAIN_KEYS) {
        retain(original, &patch, &keys)?;
    }
    set_orders(original, &mut patch, shape)?;
    for (key, value) in patch {
        merge_entry(original, &key, value, shape)?;
    }
    Ok(())
}

fn merge_entry(
    original: &mut Map<String, Value>,
    key: &str,
    mut value: Value,
    shape: Shape,
) -> Result<(), String> {
    let (name, deletes) = match key.strip_prefix(DELETE_FROM) {
        Some(name) => (name, true),
        None => (key, false),
    };
    if value.is_null() {
        original.remove(name);
        return Ok(());
    }
    let field = field_of(shape, name);
    match (original.get_mut(name), &mut value) {
        (None, _) if deletes => {}
        (Some(Value::Array(list)), Value::Array(patch)) if deletes => {
            list.retain(|item| !patch.contains(item));
        }
        (Some(Value::Object(map)), Value::Object(patch)) => {
            merge_map(map, std::mem::take(patch), shape_of(field))?;
        }
        (Some(Value::Array(list)), Value::Array(patch)) if merges(field) => {
            merge_list(list, std::mem::take(patch), field)?;
        }
        _ => {
            drop_directives(&mut value);
            original.insert(name.to_string(), value);
        }
    }
    Ok(())
}

fn merges(field: Option<&Field>) -> bool {
    field.is_some_and(|field| !matches!(field.merge, Merge::Plain | Merge::Retain))
}

fn retain(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    keys: &Value,
) -> Result<(), String> {
    let Some(keys) = keys.as_array() else {
        return Err(format!("{RETAIN_KEYS} has to be a list, found {keys}"));
    };
    let kept = |key: &str| keys.iter().any(|kept| kept == key);
    if let Some(key) = patch.keys().find(|key| !kept(key) && !key.starts_with('$')) {
        return Err(format!("{RETAIN_KEYS} does not contain the key {key} of the patch"));
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

/// Handles each `$setElementOrder/x` together with the list `x` that it orders.
fn set_orders(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    shape: Shape,
) -> Result<(), String> {
    let directives: Vec<String> =
        patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let name = directive[SET_ORDER.len()..].to_string();
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(format!("{directive} has to be a list"));
        };
        let field = field_of(shape, &name);
        let key = field.and_then(|field| field.merge.key());
        // A list that is to be replaced, or removed, needs no order.
        if !merges(field) || patch.get(&name).is_some_and(Value::is_null) {
            continue;
        }
        let before = match original.get(&name) {
            Some(Value::Array(list)) => Some(list.clone()),
            _ => None,
        };
        let mut merged = match (patch.remove(&name), before.clone()) {
            (Some(Value::Array(items)), Some(mut list)) => {
                merge_list(&mut list, items, field)?;
                list
            }
            (Some(mut items), None) => {
                drop_directives(&mut items);
                items.as_array().cloned().unwrap_or_default()
            }
            (_, Some(list)) => list,
            (None, None) => continue,
        };
        sort(&mut merged, &order, &before.unwrap_or_default(), key);
        original.insert(name, Value::Array(merged));
    }
    Ok(())
}

fn merge_list(
    original: &mut Vec<Value>,
    mut patch: Vec<Value>,
    field: Option<&'static Field>,
) -> Result<(), String> {
    let before = original.clone();
    let key = field.and_then(|field| field.merge.key());
    match key {
        None => {
            for item in &patch {
                if !original.contains(item) {
                    original.push(item.clone());
                }
            }
        }
        Some(key) => {
            if special(original, &mut patch, key)? {
                return Ok(());
            }
            let shape = shape_of(field);
            for item in &patch {
                let Value::Object(map) = item else {
                    return Err(format!("the items of a list merged by {key} have to be objects"));
                };
                let Some(wanted) = map.get(key) else {
                    return Err(format!("map: {item} does not contain declared merge key: {key}"));
                };
                match original.iter_mut().find(|found| found.get(key) == Some(wanted)) {
                    Some(Value::Object(found)) => merge_map(found, map.clone(), shape)?,
                    _ => {
                        let mut item = item.clone();
                        drop_directives(&mut item);
                        original.push(item);
                    }
                }
            }
        }
    }
    sort(original, &patch, &before, key);
    Ok(())
}

/// Takes the items with a `$patch` directive out of the patch and obeys them; true when the list
/// was replaced as a whole.
fn special(original: &mut Vec<Value>, patch: &mut Vec<Value>, key: &str) -> Result<bool, String> {
    let (marked, plain): (Vec<Value>, Vec<Value>) =
        std::mem::take(patch).into_iter().partition(|item| item.get(PATCH).is_some());
    *patch = plain;
    let mut replace = false;
    for item in marked {
        match item[PATCH].as_str() {
            Some("delete") => {
                let Some(wanted) = item.get(key) else {
                    return Err(format!("map: {item} does not contain declared merge key: {key}"));
                };
                original.retain(|found| found.get(key) != Some(wanted));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                let mut item = item;
                item.as_object_mut().map(|map| map.remove(PATCH));
                patch.push(item);
            }
            _ => return Err(format!("unknown patch type: {}", item[PATCH])),
        }
    }
    if replace {
        patch.iter_mut().for_each(drop_directives);
        *original = std::mem::take(patch);
    }
    Ok(replace)
}

fn same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    }
}

/// Puts a merged list in order: the items that the patch names as it has them, the others as they
/// were, the two woven together by the order they had before.
fn sort(merged: &mut Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) {
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item, key));
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        std::mem::take(merged).into_iter().partition(|item| place(order, item).is_some());
    named.sort_by_key(|item| place(order, item));
    others.sort_by_key(|item| place(before, item).unwrap_or(usize::MAX));
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (Some(other), Some(item)) => match (place(before, other), place(before, item)) {
                (Some(other), Some(item)) => other < item,
                _ => false,
            },
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return,
        };
        merged.extend(if other_first { others.next() } else { named.next() });
    }
}

fn drop_map_directives(map: &mut Map<String, Value>) {
    map.retain(|key, value| {
        !(key == PATCH
            || key == RETAIN_KEYS
            || key.starts_with(SET_ORDER)
            || key.starts_with(DELETE_FROM)
            || value.is_null())
    });
    map.values_mut().for_each(drop_directives);
}

/// A value that is new as a whole: its directives have nothing to work on, its nulls nothing to
/// remove.
fn drop_directives(value: &mut Value) {
    match value {
        Value::Object(map) => drop_map_directives(map),
        Value::Array(list) => {
            list.retain(|item| item.get(PATCH).is_none_or(|directive| directive == "merge"));
            list.iter_mut().for_each(drop_directives);
        }
        _ => {}
    }
}
