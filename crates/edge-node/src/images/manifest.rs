//! The JSON documents of an image: index, manifest and configuration, OCI's and Docker's alike.
//! They come from strangers, so sizes are capped and every digest is checked before use.

use super::digest::Digest;
use super::error::ImageError;
use super::platform::Platform;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Larger documents are refused; registries themselves stop at 4 MiB.
pub(crate) const DOCUMENT_MAX: u64 = 4 << 20;

/// Overlayfs takes 500 lower directories, so an image with more layers can't run.
const LAYERS_MAX: usize = 500;

/// All kinds of manifest that we take, for `Accept`.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// A reference to a blob by digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// One platform's image: its configuration and its layers, bottom first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// What a registry or an archive may hold under an image's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    /// Several platforms.
    Index(Vec<Descriptor>),
    /// One platform.
    Manifest(Manifest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

impl Document {
    /// Parses an index or a manifest; `what` names it in errors.
    pub(crate) fn parse(what: &str, bytes: &[u8]) -> Result<Document, ImageError> {
        let bad = |detail: String| ImageError::malformed(what, detail);
        if bytes.len() as u64 > DOCUMENT_MAX {
            return Err(bad(format!("it is over {DOCUMENT_MAX} bytes")));
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|e| bad(not_json(bytes, &e)))?;
        let kind = raw.media_type.as_deref().unwrap_or("");
        if raw.schema_version == 1 || kind.contains("manifest.v1") && !kind.contains("oci") {
            return Err(
                bad("Docker's schema 1 is no longer supported: push the image anew".into()),
            );
        }
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), None, _) => Ok(Document::Index(manifests)),
            (None, Some(config), Some(layers)) => {
                if layers.len() > LAYERS_MAX {
                    let n = layers.len();
                    return Err(bad(format!("{n} layers, overlayfs takes {LAYERS_MAX}")));
                }
                let config_kind = config.media_type.as_str();
                if !matches!(config_kind, "" | OCI_CONFIG | DOCKER_CONFIG) {
                    return Err(bad(format!("it is no container image but \"{config_kind}\"")));
                }
                if let Some(layer) = layers.iter().find(|l| l.media_type.contains("encrypted")) {
                    return Err(bad(format!("layer {} is encrypted", layer.digest)));
                }
                Ok(Document::Manifest(Manifest { config, layers }))
            }
            _ => Err(bad("it is neither an image manifest nor an index of them".into())),
        }
    }
}

/// Picks the manifest for this board out of an index.
pub(crate) fn choose<'a>(
    reference: &str,
    manifests: &'a [Descriptor],
    board: &Platform,
) -> Result<&'a Descriptor, ImageError> {
    let image = |d: &&Descriptor| !d.annotations.contains_key("vnd.docker.reference.type");
    let rank = |d: &Descriptor| board.rank(&d.platform.clone().unwrap_or_default());
    manifests
        .iter()
        .filter(image)
        .filter_map(|d| rank(d).map(|r| (r, d)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, d)| d)
        .ok_or_else(|| ImageError::NoPlatform {
            reference: reference.to_string(),
            wanted: board.to_string(),
            offered: manifests
                .iter()
                .filter(image)
                .filter_map(|d| d.platform.as_ref().map(Platform::to_string))
                .collect(),
        })
}

/// What a container started from an image gets, unless the pod says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
    /// `ENV`, as `NAME=value`.
    pub env: Vec<String>,
    /// `USER`; empty for root.
    pub user: String,
    /// `WORKDIR`; empty for `/`.
    pub working_dir: String,
    /// `STOPSIGNAL`.
    pub stop_signal: Option<String>,
    /// `VOLUME`, sorted.
    pub volumes: Vec<String>,
}

/// An image's configuration file, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    pub(crate) platform: Platform,
    pub(crate) diff_ids: Vec<Digest>,
    pub(crate) run: ImageConfig,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default, deserialize_with = "nullable")]
    architecture: String,
    #[serde(default, deserialize_with = "nullable")]
    os: String,
    #[serde(default, deserialize_with = "nullable")]
    variant: String,
    #[serde(default, deserialize_with = "nullable")]
    config: RawRun,
    rootfs: RawRoot,
}

#[derive(Deserialize)]
struct RawRoot {
    #[serde(default, deserialize_with = "nullable")]
    diff_ids: Vec<Digest>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    #[serde(deserialize_with = "nullable")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    env: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    user: String,
    #[serde(deserialize_with = "nullable")]
    working_dir: String,
    stop_signal: Option<String>,
    #[serde(deserialize_with = "nullable")]
    volumes: BTreeMap<String, serde_json::Value>,
}

impl ConfigFile {
    /// Parses a configuration file; `what` names it in errors.
    pub(crate) fn parse(what: &str, bytes: &[u8]) -> Result<ConfigFile, ImageError> {
        let raw: RawConfig = serde_json::from_slice(bytes)
            .map_err(|e| ImageError::malformed(what, not_json(bytes, &e)))?;
        if raw.rootfs.diff_ids.len() > LAYERS_MAX {
            let n = raw.rootfs.diff_ids.len();
            let detail = format!("{n} layers, overlayfs takes {LAYERS_MAX}");
            return Err(ImageError::malformed(what, detail));
        }
        let run = raw.config;
        Ok(ConfigFile {
            platform: Platform { os: raw.os, architecture: raw.architecture, variant: raw.variant },
            diff_ids: raw.rootfs.diff_ids,
            run: ImageConfig {
                entrypoint: run.entrypoint,
                cmd: run.cmd,
                env: run.env,
                user: run.user,
                working_dir: run.working_dir,
                stop_signal: run.stop_signal.filter(|s| !s.is_empty()),
                volumes: run.volumes.into_keys().collect(),
            },
        })
    }

    /// Refuses an image for another architecture.
    pub(crate) fn check_platform(
        &self,
        reference: &str,
        board: &Platform,
    ) -> Result<(), ImageError> {
        match board.rank(&self.platform) {
            Some(_) => Ok(()),
            None => Err(ImageError::NoPlatform {
                reference: reference.to_string(),
                wanted: board.to_string(),
                offered: vec![self.platform.to_string()],
            }),
        }
    }
}

/// Says that a document is no JSON, and what it looks like instead.
pub(crate) fn not_json(bytes: &[u8], error: &serde_json::Error) -> String {
    let start = bytes.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(0);
    if bytes[start..].starts_with(b"<") {
        return "it is HTML, not JSON: a proxy or a log-in page may be in the way".into();
    }
    format!("it doesn't parse: {error}")
}

/// `null` counts as absent.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn descriptor(architecture: &str, variant: &str) -> serde_json::Value {
        let digest = Digest::of(format!("{architecture}{variant}").as_bytes());
        let platform = json!({"os": "linux", "architecture": architecture, "variant": variant});
        json!({"digest": digest, "size": 1, "platform": platform})
    }

    fn index(entries: Vec<serde_json::Value>) -> Vec<Descriptor> {
        let bytes = json!({"schemaVersion": 2, "manifests": entries}).to_string();
        match Document::parse("index", bytes.as_bytes()).unwrap() {
            Document::Index(manifests) => manifests,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_best_platform_is_chosen() {
        let entries = index(vec![
            descriptor("amd64", ""),
            descriptor("arm", "v6"),
            descriptor("arm", "v7"),
            descriptor("arm64", "v8"),
        ]);
        let board = |a: &str, v: &str| Platform {
            os: "linux".into(),
            architecture: a.into(),
            variant: v.into(),
        };
        let pick = |b: &Platform| choose("x", &entries, b).map(|d| d.platform.clone().unwrap());
        assert_eq!(pick(&board("arm64", "v8")).unwrap().architecture, "arm64");
        assert_eq!(pick(&board("arm", "v7")).unwrap().variant, "v7");
        assert_eq!(pick(&board("arm", "v6")).unwrap().variant, "v6");
        let error = pick(&board("riscv64", "")).unwrap_err().to_string();
        assert!(error.contains("no match for platform in manifest"), "{error}");
        assert!(error.contains("linux/arm/v7"), "{error}");
    }

    #[test]
    fn attestations_are_no_images() {
        let mut attestation = descriptor("unknown", "");
        attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
        attestation["platform"] = serde_json::Value::Null;
        let entries = index(vec![attestation]);
        let board = Platform { os: "linux".into(), architecture: "amd64".into(), ..<_>::default() };
        assert!(choose("x", &entries, &board).is_err());
    }

    #[test]
    fn nulls_in_a_configuration_count_as_absent() {
        let bytes = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":null,
            "Env":["A=b"],"Entrypoint":["/x"],"Volumes":{"/v":{}},"StopSignal":""},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = ConfigFile::parse("config", bytes).unwrap();
        assert!(config.run.cmd.is_empty() && config.diff_ids.is_empty());
        assert_eq!(config.run.volumes, ["/v"]);
        assert_eq!(config.run.stop_signal, None);
        let empty = br#"{"config":null,"rootfs":{}}"#;
        assert_eq!(ConfigFile::parse("config", empty).unwrap().run, ImageConfig::default());
    }

    #[test]
    fn strange_documents_get_one_line() {
        for (bytes, word) in [
            (&b"<html><body>log in</body></html>"[..], "HTML"),
            (b"", "parse"),
            (b"{}", "neither"),
            (br#"{"schemaVersion":1,"name":"x"}"#, "schema 1"),
            (br#"{"manifests":[{"digest":"md5:0"}]}"#, "sha256"),
        ] {
            let error = Document::parse("manifest", bytes).unwrap_err().to_string();
            assert!(error.contains(word) && error.lines().count() == 1, "{error}");
        }
    }
}
