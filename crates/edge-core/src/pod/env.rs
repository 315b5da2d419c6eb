//! Environment of a container: `$(NAME)` references and the order in which sources override each
//! other. What ConfigMaps, Secrets and fields hold comes in through [`Lookup`].

use std::collections::BTreeMap;

use edge_api::k8s::api::core::v1::{Container, EnvVarSource};

/// Where values that are not written in the pod come from.
pub trait Lookup {
    /// One key of a ConfigMap; `Ok(None)` when map or key is missing.
    fn config_map_key(&self, name: &str, key: &str) -> Result<Option<String>, String>;
    /// All of a ConfigMap; `Ok(None)` when it is missing.
    fn config_map(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, String>;
    /// One key of a Secret.
    fn secret_key(&self, name: &str, key: &str) -> Result<Option<String>, String>;
    /// All of a Secret.
    fn secret(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, String>;
    /// A field of the pod.
    fn field(&self, path: &str) -> Result<String, String>;
    /// A resource of a container: `resource`, `divisor`, and the container when not this one.
    fn resource(
        &self,
        container: Option<&str>,
        resource: &str,
        divisor: &str,
    ) -> Result<String, String>;
}

/// The environment in order, later entries overriding earlier ones: `services` first, then
/// `envFrom`, then `env`. An error is the message of a `CreateContainerConfigError`.
pub fn environment(
    container: &Container,
    services: &BTreeMap<String, String>,
    lookup: &impl Lookup,
) -> Result<Vec<(String, String)>, String> {
    let mut known = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut set = |known: &mut BTreeMap<String, String>, name: String, value: String| {
        if known.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    };
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(wanted) = &from.config_map_ref {
            let optional = wanted.optional.unwrap_or(false);
            let found = lookup.config_map(&wanted.name)?;
            let all = required(found, optional, || missing("configmap", &wanted.name))?;
            for (key, value) in all.into_iter().flatten() {
                set(&mut known, format!("{prefix}{key}"), value);
            }
        }
        if let Some(wanted) = &from.secret_ref {
            let optional = wanted.optional.unwrap_or(false);
            let found = lookup.secret(&wanted.name)?;
            let all = required(found, optional, || missing("secret", &wanted.name))?;
            for (key, value) in all.into_iter().flatten() {
                set(&mut known, format!("{prefix}{key}"), value);
            }
        }
    }
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(text), _) if !text.is_empty() => Some(expand_env(text, &known, services)),
            (_, Some(source)) => from_source(source, lookup)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            set(&mut known, var.name.clone(), value);
        }
    }
    let services = services.iter().filter(|(name, _)| !known.contains_key(*name));
    let mut out: Vec<_> = services.map(|(k, v)| (k.clone(), v.clone())).collect();
    out.extend(order.into_iter().map(|name| {
        let value = known.get(&name).cloned().unwrap_or_default();
        (name, value)
    }));
    Ok(out)
}

fn missing(kind: &str, name: &str) -> String {
    format!("{kind} \"{name}\" not found")
}

fn required<T>(
    found: Option<T>,
    optional: bool,
    error: impl Fn() -> String,
) -> Result<Option<T>, String> {
    if found.is_none() && !optional { Err(error()) } else { Ok(found) }
}

fn from_source(source: &EnvVarSource, lookup: &impl Lookup) -> Result<Option<String>, String> {
    if let Some(key) = &source.config_map_key_ref {
        let found = lookup.config_map_key(&key.name, &key.key)?;
        return required(found, key.optional.unwrap_or(false), || {
            format!("couldn't find key {} in ConfigMap {}", key.key, key.name)
        });
    }
    if let Some(key) = &source.secret_key_ref {
        let found = lookup.secret_key(&key.name, &key.key)?;
        return required(found, key.optional.unwrap_or(false), || {
            format!("couldn't find key {} in Secret {}", key.key, key.name)
        });
    }
    if let Some(field) = &source.field_ref {
        return lookup.field(&field.field_path).map(Some);
    }
    if let Some(wanted) = &source.resource_field_ref {
        let divisor = wanted.divisor.as_ref().map_or("1", |q| q.0.as_str());
        let container = wanted.container_name.as_deref().filter(|name| !name.is_empty());
        return lookup.resource(container, &wanted.resource, divisor).map(Some);
    }
    Ok(Some(String::new()))
}

fn expand_env(
    text: &str,
    known: &BTreeMap<String, String>,
    services: &BTreeMap<String, String>,
) -> String {
    expand(text, |name| known.get(name).or_else(|| services.get(name)).cloned())
}

/// Replaces `$(NAME)` by what `lookup` gives; `$$` is a dollar, and an unknown name stays as it is.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) =
            after.strip_prefix('(').and_then(|inner| inner.split_once(')'))
        {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Fixed;

    impl Lookup for Fixed {
        fn config_map_key(&self, name: &str, key: &str) -> Result<Option<String>, String> {
            Ok(self.config_map(name)?.and_then(|m| m.get(key).cloned()))
        }
        fn config_map(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, String> {
            Ok((name == "cm").then(|| BTreeMap::from([("k".into(), "v".into())])))
        }
        fn secret_key(&self, _: &str, _: &str) -> Result<Option<String>, String> {
            Ok(None)
        }
        fn secret(&self, _: &str) -> Result<Option<BTreeMap<String, String>>, String> {
            Ok(None)
        }
        fn field(&self, path: &str) -> Result<String, String> {
            Ok(format!("<{path}>"))
        }
        fn resource(&self, _: Option<&str>, resource: &str, _: &str) -> Result<String, String> {
            Ok(format!("<{resource}>"))
        }
    }

    fn env(container: serde_json::Value) -> Result<Vec<(String, String)>, String> {
        let services = BTreeMap::from([("SVC".to_owned(), "10.0.0.1".to_owned())]);
        environment(&serde_json::from_value(container).unwrap(), &services, &Fixed)
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn references_see_what_stands_before_them() {
        let got = env(json!({ "name": "a", "env": [
            { "name": "A", "value": "1" },
            { "name": "B", "value": "$(A)-$(SVC)-$(LATER)-$$(A)-$x" },
            { "name": "LATER", "value": "2" },
            { "name": "A", "value": "3" },
        ]}));
        let want =
            [("SVC", "10.0.0.1"), ("A", "3"), ("B", "1-10.0.0.1-$(LATER)-$(A)-$x"), ("LATER", "2")];
        assert_eq!(got, Ok(pairs(&want)));
    }

    #[test]
    fn sources() {
        let got = env(json!({ "name": "a", "envFrom": [
            { "prefix": "P_", "configMapRef": { "name": "cm" } },
            { "secretRef": { "name": "none", "optional": true } },
        ], "env": [
            { "name": "C", "valueFrom": { "configMapKeyRef": { "name": "cm", "key": "k" } } },
            { "name": "F", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
            { "name": "R", "valueFrom": { "resourceFieldRef": { "resource": "limits.cpu" } } },
            { "name": "O", "valueFrom":
                { "secretKeyRef": { "name": "s", "key": "k", "optional": true } } },
        ]}));
        let want = [
            ("SVC", "10.0.0.1"),
            ("P_k", "v"),
            ("C", "v"),
            ("F", "<metadata.name>"),
            ("R", "<limits.cpu>"),
        ];
        assert_eq!(got, Ok(pairs(&want)));
    }

    #[test]
    fn missing_sources_say_so_in_kubernetes_words() {
        let map = env(json!({ "name": "a", "envFrom": [{ "configMapRef": { "name": "x" } }] }));
        assert_eq!(map, Err("configmap \"x\" not found".into()));
        let key = env(json!({ "name": "a", "env": [{ "name": "A", "valueFrom":
            { "configMapKeyRef": { "name": "cm", "key": "z" } } }] }));
        assert_eq!(key, Err("couldn't find key z in ConfigMap cm".into()));
    }

    #[test]
    fn odd_dollars_stay() {
        let id = |name: &str| (name == "A").then(|| "a".to_owned());
        for (text, want) in
            [("$", "$"), ("$$", "$"), ("$(A", "$(A"), ("x$(A)y", "xay"), ("$$$(A)", "$a")]
        {
            assert_eq!(expand(text, id), want, "{text}");
        }
    }
}
