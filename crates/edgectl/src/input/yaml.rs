//! YAML to JSON objects, document by document, with the place of every mistake.

use edge_api::Object;
use serde::Deserialize;
use serde_yaml::Value;

/// All documents of a text that hold something. A mistake is told with line and column.
pub(crate) fn documents(text: &str) -> Result<Vec<Object>, String> {
    let mut found = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let mut value = Value::deserialize(document).map_err(|error| place(&error))?;
        value.apply_merge().map_err(|error| place(&error))?;
        let mut object = to_json(value)?;
        if !object.is_null() {
            octal_modes(&mut object);
            found.push(object);
        }
    }
    Ok(found)
}

/// `line 3, column 5: did not find expected key`.
fn place(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    match error.location() {
        None => text,
        Some(location) => {
            let suffix = format!(" at line {} column {}", location.line(), location.column());
            let bare = text.strip_suffix(suffix.as_str()).unwrap_or(&text);
            format!("line {}, column {}: {bare}", location.line(), location.column())
        }
    }
}

fn to_json(value: Value) -> Result<Object, String> {
    Ok(match value {
        Value::Null => Object::Null,
        Value::Bool(value) => Object::Bool(value),
        Value::String(text) => Object::String(text),
        Value::Number(number) => number_to_json(&number)?,
        Value::Sequence(items) => {
            Object::Array(items.into_iter().map(to_json).collect::<Result<_, _>>()?)
        }
        Value::Mapping(map) => {
            let mut object = serde_json::Map::new();
            for (key, value) in map {
                object.insert(key_text(key)?, to_json(value)?);
            }
            Object::Object(object)
        }
        Value::Tagged(tagged) => to_json(tagged.value)?,
    })
}

fn number_to_json(number: &serde_yaml::Number) -> Result<Object, String> {
    if let Some(whole) = number.as_i64() {
        return Ok(Object::from(whole));
    }
    if let Some(whole) = number.as_u64() {
        return Ok(Object::from(whole));
    }
    let float = number.as_f64().and_then(serde_json::Number::from_f64);
    float.map(Object::Number).ok_or(format!("the number {number} has no place in JSON"))
}

fn key_text(key: Value) -> Result<String, String> {
    match key {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Null => Ok("null".to_string()),
        _ => Err("a list or a map cannot be the key of a map".to_string()),
    }
}

/// People write file modes as `0644`, which YAML 1.1 reads as octal and YAML 1.2 as text. Within
/// `volumes` such a text is a number; elsewhere it stays what it is.
fn octal_modes(object: &mut Object) {
    match object {
        Object::Array(items) => items.iter_mut().for_each(octal_modes),
        Object::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), &*value) {
                    ("volumes", Object::Array(_)) => modes_within(value),
                    _ => octal_modes(value),
                }
            }
        }
        _ => {}
    }
}

fn modes_within(value: &mut Object) {
    match value {
        Object::Array(items) => items.iter_mut().for_each(modes_within),
        Object::Object(map) => {
            for (key, value) in map {
                let octal = match value.as_str() {
                    Some(text) if key == "defaultMode" || key == "mode" => {
                        text.strip_prefix('0').and_then(|rest| i64::from_str_radix(rest, 8).ok())
                    }
                    _ => None,
                };
                match octal {
                    Some(mode) => *value = Object::from(mode),
                    None => modes_within(value),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn several_documents_comments_and_empty_ones() {
        let text = "# a comment\n---\na: 1\n---\n---\n# nothing\n---\nb: [x, 2.5, true, ~]\n...\n";
        assert_eq!(
            documents(text).unwrap(),
            [json!({"a": 1}), json!({"b": ["x", 2.5, true, null]})]
        );
        assert!(documents("").unwrap().is_empty());
        assert_eq!(documents("{\"a\": {\"b\": []}}").unwrap(), [json!({"a": {"b": []}})]);
    }

    #[test]
    fn anchors_merges_and_odd_keys() {
        let text = "base: &b {x: 1, y: 2}\nmore:\n  <<: *b\n  y: 3\n1: one\ntrue: yes\n";
        let wanted = json!({"base": {"x": 1, "y": 2}, "more": {"x": 1, "y": 3},
                            "1": "one", "true": "yes"});
        assert_eq!(documents(text).unwrap(), [wanted]);
    }

    #[test]
    fn mistakes_have_a_place_counted_through_the_whole_file() {
        let error = documents("a: 1\n---\nb:\n  c: 1\n d: 2\n").unwrap_err();
        assert!(error.starts_with("line 5, column 2: "), "{error}");
        let error = documents("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert!(error.contains("duplicate entry"), "{error}");
        assert!(documents("a:\n\t- b\n").unwrap_err().starts_with("line 2, column 1: "));
    }

    #[test]
    fn file_modes_are_octal_only_where_they_are_modes() {
        let text = "spec:\n  volumes:\n  - configMap: {defaultMode: 0644, items: [{mode: 0400}]}\n\
                    data: {mode: '0644'}\n";
        let found = &documents(text).unwrap()[0];
        assert_eq!(found["spec"]["volumes"][0]["configMap"]["defaultMode"], 420);
        assert_eq!(found["spec"]["volumes"][0]["configMap"]["items"][0]["mode"], 256);
        assert_eq!(found["data"]["mode"], "0644");
    }
}
