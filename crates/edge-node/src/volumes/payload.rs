//! What files a volume holds that is made from objects: configMap, secret, downwardAPI, projected.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use edge_api::k8s::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, PodSpec, Volume, VolumeProjection,
};
use edge_api::{Object, k8s};
use serde_json::{Value, json};

use super::atomic::{File, Files, is_safe};
use super::{Scene, token, volume_dir};

/// `defaultMode` when a volume says nothing.
const DEFAULT_MODE: i32 = 0o644;

/// An object in the pod's namespace that a volume is made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// A ConfigMap.
    ConfigMap(String),
    /// A Secret.
    Secret(String),
}

impl Reference {
    fn missing(&self) -> String {
        match self {
            Reference::ConfigMap(name) => format!("configmap \"{name}\" not found"),
            Reference::Secret(name) => format!("secret \"{name}\" not found"),
        }
    }
}

/// The objects that a pod's volumes are made from.
pub fn references(spec: &PodSpec) -> Vec<Reference> {
    let mut out = Vec::new();
    for volume in spec.volumes.iter().flatten() {
        if let Some(map) = &volume.config_map {
            out.push(Reference::ConfigMap(map.name.clone()));
        }
        if let Some(name) = volume.secret.as_ref().and_then(|s| s.secret_name.clone()) {
            out.push(Reference::Secret(name));
        }
        let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        for source in projected {
            out.extend(source.config_map.iter().map(|m| Reference::ConfigMap(m.name.clone())));
            out.extend(source.secret.iter().map(|s| Reference::Secret(s.name.clone())));
        }
    }
    out.sort();
    out.dedup();
    out
}

/// True for a volume whose files must never reach the disk.
pub(super) fn is_secret(volume: &Volume) -> bool {
    let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    volume.secret.is_some()
        || projected.into_iter().any(|s| s.secret.is_some() || s.service_account_token.is_some())
}

/// The files of a volume; `None` for a volume that is not made from objects.
pub(super) fn payload(volume: &Volume, scene: &Scene<'_>) -> Result<Option<Files>, String> {
    let mut files = Files::new();
    if let Some(map) = &volume.config_map {
        let wanted = Wanted {
            from: Reference::ConfigMap(map.name.clone()),
            items: map.items.as_deref(),
            optional: map.optional.unwrap_or(false),
            mode: map.default_mode.unwrap_or(DEFAULT_MODE),
        };
        wanted.add(scene, &mut files)?;
    } else if let Some(secret) = &volume.secret {
        let wanted = Wanted {
            from: Reference::Secret(secret.secret_name.clone().unwrap_or_default()),
            items: secret.items.as_deref(),
            optional: secret.optional.unwrap_or(false),
            mode: secret.default_mode.unwrap_or(DEFAULT_MODE),
        };
        wanted.add(scene, &mut files)?;
    } else if let Some(downward) = &volume.downward_api {
        let mode = downward.default_mode.unwrap_or(DEFAULT_MODE);
        add_downward(downward.items.as_deref(), mode, scene, &mut files)?;
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        let dir = volume_dir(scene.pod_dir, &volume.name);
        for source in projected.sources.iter().flatten() {
            add_projection(source, (&dir, mode), scene, &mut files)?;
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

fn add_projection(
    source: &VolumeProjection,
    (dir, mode): (&Path, i32),
    scene: &Scene<'_>,
    files: &mut Files,
) -> Result<(), String> {
    if let Some(wanted) = &source.service_account_token {
        token::add(wanted, dir, bits(mode), scene, files);
    }
    if source.cluster_trust_bundle.is_some() {
        return Err("clusterTrustBundle is not supported; remove the source".into());
    }
    if let Some(map) = &source.config_map {
        let wanted = Wanted {
            from: Reference::ConfigMap(map.name.clone()),
            items: map.items.as_deref(),
            optional: map.optional.unwrap_or(false),
            mode,
        };
        wanted.add(scene, files)?;
    }
    if let Some(secret) = &source.secret {
        let wanted = Wanted {
            from: Reference::Secret(secret.name.clone()),
            items: secret.items.as_deref(),
            optional: secret.optional.unwrap_or(false),
            mode,
        };
        wanted.add(scene, files)?;
    }
    if let Some(downward) = &source.downward_api {
        add_downward(downward.items.as_deref(), mode, scene, files)?;
    }
    Ok(())
}

struct Wanted<'a> {
    from: Reference,
    items: Option<&'a [KeyToPath]>,
    optional: bool,
    mode: i32,
}

impl Wanted<'_> {
    fn add(&self, scene: &Scene<'_>, files: &mut Files) -> Result<(), String> {
        let Some(object) = scene.material.get(&self.from).and_then(Option::as_ref) else {
            return if self.optional { Ok(()) } else { Err(self.from.missing()) };
        };
        let content = content(&self.from, object)?;
        match self.items.filter(|items| !items.is_empty()) {
            None => {
                for (key, content) in content {
                    files.insert(key, File { content, mode: bits(self.mode), owner: None });
                }
            }
            Some(items) => {
                for item in items {
                    self.add_item(item, &content, files)?;
                }
            }
        }
        Ok(())
    }

    fn add_item(
        &self,
        item: &KeyToPath,
        content: &BTreeMap<String, Vec<u8>>,
        files: &mut Files,
    ) -> Result<(), String> {
        let Some(content) = content.get(&item.key) else {
            if self.optional {
                return Ok(());
            }
            return Err(format!("references non-existent config key: {}", item.key));
        };
        if !is_safe(&item.path) {
            return Err(format!(
                "invalid path \"{}\": must be relative and must not contain '..'",
                item.path
            ));
        }
        let mode = bits(item.mode.unwrap_or(self.mode));
        files.insert(item.path.clone(), File { content: content.clone(), mode, owner: None });
        Ok(())
    }
}

fn bits(mode: i32) -> u32 {
    mode.unsigned_abs() & 0o777
}

/// Decodes the data of a ConfigMap or Secret.
pub(crate) fn content(
    from: &Reference,
    object: &Object,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let entries = |field: &str| {
        let map = object[field].as_object().into_iter().flatten();
        map.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect::<Vec<_>>()
    };
    let decode = |key: &str, text: &str| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text);
        bytes.map_err(|e| format!("key {key} is not valid base64: {e}"))
    };
    let mut out = BTreeMap::new();
    match from {
        Reference::ConfigMap(_) => {
            out.extend(entries("data").into_iter().map(|(k, v)| (k, v.into_bytes())));
            for (key, text) in entries("binaryData") {
                let bytes = decode(&key, &text)?;
                out.insert(key, bytes);
            }
        }
        Reference::Secret(_) => {
            for (key, text) in entries("data") {
                let bytes = decode(&key, &text)?;
                out.insert(key, bytes);
            }
        }
    }
    Ok(out)
}

fn add_downward(
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: i32,
    scene: &Scene<'_>,
    files: &mut Files,
) -> Result<(), String> {
    for item in items.into_iter().flatten() {
        if !is_safe(&item.path) {
            return Err(format!(
                "invalid path \"{}\": must be relative and must not contain '..'",
                item.path
            ));
        }
        let text = if let Some(field) = &item.field_ref {
            scene.fields.field(&field.field_path)?
        } else if let Some(wanted) = &item.resource_field_ref {
            let divisor = divisor(wanted.divisor.as_ref());
            let container = wanted.container_name.as_deref().unwrap_or_default();
            scene.fields.resource(container, &wanted.resource, divisor)?
        } else {
            String::new()
        };
        let mode = bits(item.mode.unwrap_or(mode));
        files.insert(item.path.clone(), File { content: text.into_bytes(), mode, owner: None });
    }
    Ok(())
}

fn divisor(q: Option<&k8s::apimachinery::pkg::api::resource::Quantity>) -> &str {
    q.map_or("1", |q| q.0.as_str())
}

/// The data of an object as text, for environment variables; they never come from `binaryData`.
pub(crate) fn text_content(
    from: &Reference,
    object: &Value,
) -> Result<BTreeMap<String, String>, String> {
    let all = match from {
        Reference::ConfigMap(_) => content(from, &json!({ "data": object["data"] }))?,
        Reference::Secret(_) => content(from, object)?,
    };
    Ok(all.into_iter().map(|(k, v)| (k, String::from_utf8_lossy(&v).into_owned())).collect())
}
