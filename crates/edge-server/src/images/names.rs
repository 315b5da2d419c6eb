//! The names that people have pushed, and what they stand for: the ConfigMap
//! `kube-system/edged-images`, one entry a name. Names hold characters that keys may not, so a key
//! is the name in hexadecimal where short enough, and its hash otherwise; the name is in the value.

use crate::api::{Api, Place, WriteOptions};
use crate::auth::Identity;
use edge_api::status::{Reason, Status};
use edge_api::{Object, kinds};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "edged-images";
/// Names that a cluster keeps: with as many layers as usual, they fit a ConfigMap.
const NAMES_MAX: usize = 512;
/// Layers of one image; overlayfs takes no more.
const LAYERS_MAX: usize = 500;
/// Characters of a name.
const NAME_CHARS: usize = 400;
/// Tries when others write at the same time.
const TRIES: u32 = 8;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pushed {
    /// The complete reference.
    pub(super) name: String,
    /// Of the manifest or index; of the configuration for an image without a manifest.
    pub(super) digest: String,
    /// Of the configuration.
    pub(super) id: String,
    /// Bytes on a board's disk.
    pub(super) bytes: u64,
    /// Diff ids, bottom first.
    pub(super) layers: Vec<String>,
}

fn place() -> Place<'static> {
    Place::new(kinds::CONFIG_MAP, NAMESPACE, NAME)
}

/// Letters, digits and dashes of a name, for people, and its hash, for safety.
fn key(name: &str) -> String {
    let hash = digest(&SHA256, name.as_bytes());
    let hash: String = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let last = name.rsplit('/').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let shown: String = last.chars().take(100).map(plain).collect();
    format!("{shown}.{hash}")
}

fn read() -> impl Fn(&Api) -> Result<Option<Object>, Status> {
    |api: &Api| match api.object(place()) {
        Ok(object) => Ok(Some(object)),
        Err(status) if status.reason == Reason::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

/// All names, by name.
pub(super) fn all(api: &Api) -> Result<BTreeMap<String, Pushed>, Status> {
    let Some(object) = read()(api)? else { return Ok(BTreeMap::new()) };
    let data = object["data"].as_object();
    let values = data.into_iter().flatten().filter_map(|(_, value)| value.as_str());
    let parsed = values.filter_map(|text| serde_json::from_str::<Pushed>(text).ok());
    Ok(parsed.map(|pushed| (pushed.name.clone(), pushed)).collect())
}

/// What one name stands for.
pub(super) fn find(api: &Api, name: &str) -> Result<Option<Pushed>, Status> {
    let Some(object) = read()(api)? else { return Ok(None) };
    let text = object["data"][key(name)].as_str();
    Ok(text.and_then(|text| serde_json::from_str(text).ok()).filter(|p: &Pushed| p.name == name))
}

/// Makes names stand for images.
pub(super) async fn record(
    api: &Api,
    who: &Identity,
    images: Vec<Pushed>,
) -> Result<Vec<String>, Status> {
    for image in &images {
        check(image)?;
    }
    let names = images.iter().map(|image| image.name.clone()).collect();
    write(api, who, |data| {
        for image in &images {
            let text = serde_json::to_string(image).map_err(Status::internal)?;
            data.insert(key(&image.name), json!(text));
        }
        if data.len() > NAMES_MAX {
            return Err(Status::bad_request(format!(
                "the cluster keeps {NAMES_MAX} names of images: remove some with `edgectl image rm`"
            )));
        }
        Ok(())
    })
    .await?;
    Ok(names)
}

/// Forgets a name; the boards remove the image when they need the room.
pub(super) async fn remove(api: &Api, who: &Identity, name: &str) -> Result<String, Status> {
    if find(api, name)?.is_none() {
        let message = format!("no image {name:?} has been pushed: see `edgectl image list`");
        return Err(Status::new(Reason::NotFound, message));
    }
    write(api, who, |data| {
        data.remove(&key(name));
        Ok(())
    })
    .await?;
    Ok(name.to_owned())
}

fn check(image: &Pushed) -> Result<(), Status> {
    let bad = |what: &str| Status::bad_request(format!("image {:?}: {what}", image.name));
    if image.name.is_empty() || image.name.len() > NAME_CHARS {
        return Err(bad("its name is empty or too long"));
    }
    if image.layers.len() > LAYERS_MAX {
        return Err(bad("it has too many layers"));
    }
    let digests = [&image.digest, &image.id].into_iter().chain(&image.layers);
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match digests.into_iter().find(|text| !text.strip_prefix("sha256:").is_some_and(hex)) {
        Some(text) => Err(bad(&format!("{text:?} is no sha256 digest"))),
        None => Ok(()),
    }
}

/// Changes the ConfigMap, made if missing, against what others write meanwhile.
async fn write(
    api: &Api,
    who: &Identity,
    change: impl Fn(&mut serde_json::Map<String, Object>) -> Result<(), Status>,
) -> Result<(), Status> {
    let options = WriteOptions::default();
    let mut last = Status::method_not_allowed();
    for _ in 0..TRIES {
        let found = read()(api)?;
        let new = found.is_none();
        let mut object = found.unwrap_or_else(|| {
            json!({ "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": NAME, "namespace": NAMESPACE } })
        });
        let mut data = object["data"].as_object().cloned().unwrap_or_default();
        change(&mut data)?;
        object["data"] = Object::Object(data);
        let written = match new {
            true => api.create(who, kinds::CONFIG_MAP, NAMESPACE, object, &options).await,
            false => api.update(who, place(), object, &options).await,
        };
        match written {
            Ok(_) => return Ok(()),
            Err(status) if matches!(status.reason, Reason::Conflict | Reason::AlreadyExists) => {
                last = status;
            }
            Err(status) => return Err(status),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_such_as_a_config_map_takes() {
        let one = key("docker.io/team/web_app:1.0-rc@x");
        assert!(one.starts_with("web-app-1-0-rc-x."), "{one}");
        assert_ne!(key("a/b:1"), key("c/b:1"));
        let good = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        assert!(one.chars().all(good) && key(&"x".repeat(400)).len() < 253);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let good = Pushed {
            name: "docker.io/library/a:1".into(),
            digest: digest.clone(),
            id: digest.clone(),
            bytes: 1,
            layers: vec![digest.clone()],
        };
        assert!(check(&good).is_ok());
        for bad in [
            Pushed { name: String::new(), ..good.clone() },
            Pushed { digest: "sha256:../..".into(), ..good.clone() },
            Pushed { layers: vec!["x".into()], ..good.clone() },
            Pushed { layers: vec![digest; LAYERS_MAX + 1], ..good },
        ] {
            assert_eq!(check(&bad).expect_err("bad").code, 400);
        }
    }
}
