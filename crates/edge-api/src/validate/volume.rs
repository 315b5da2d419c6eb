//! Volumes of a pod: each has a name of its own and exactly one source.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{container, env, list, needs, one_of, text};
use crate::field::{Errors, Path};
use crate::names;
use crate::quantity::Quantity;

/// The names that mounts may refer to.
pub(super) type VolumeNames<'a> = BTreeSet<&'a str>;

const HOST_PATH_TYPES: [&str; 7] = [
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// `volumes` of a pod; gives the names that are taken.
pub(super) fn volumes<'a>(
    volumes: &'a Value,
    at: &Path<'_>,
    errors: &mut Errors,
) -> VolumeNames<'a> {
    let mut seen = VolumeNames::new();
    for (index, volume) in list(volumes).iter().enumerate() {
        let at = at.index(index);
        source(volume, &at, errors);
        let name = text(&volume["name"]);
        if name.is_empty() {
            errors.required(&at.child("name"), "");
            continue;
        }
        errors.each(&at.child("name"), name, names::dns1123_label(name));
        if !seen.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
    }
    seen
}

fn source(volume: &Value, at: &Path<'_>, errors: &mut Errors) {
    let mut count = 0;
    let sources = volume.as_object().into_iter().flatten().filter(|(key, _)| *key != "name");
    for (kind, source) in sources {
        count += 1;
        let at = at.child(kind);
        if count > 1 {
            errors.forbidden(&at, "may not specify more than 1 volume type");
            continue;
        }
        match kind.as_str() {
            "emptyDir" => empty_dir(source, &at, errors),
            "hostPath" => host_path(source, &at, errors),
            "secret" => {
                needs(errors, &at.child("secretName"), &source["secretName"]);
                files(source, &at, errors);
            }
            "configMap" => {
                needs(errors, &at.child("name"), &source["name"]);
                files(source, &at, errors);
            }
            "downwardAPI" => downward(source, &at, errors),
            "projected" => projected(source, &at, errors),
            "persistentVolumeClaim" => {
                needs(errors, &at.child("claimName"), &source["claimName"]);
            }
            "nfs" => {
                needs(errors, &at.child("server"), &source["server"]);
                if needs(errors, &at.child("path"), &source["path"])
                    && !text(&source["path"]).starts_with('/')
                {
                    let detail = "must be an absolute path";
                    errors.invalid(&at.child("path"), source["path"].clone(), detail);
                }
            }
            _ => {}
        }
    }
    if count == 0 {
        errors.required(at, "must specify a volume type");
    }
}

fn empty_dir(source: &Value, at: &Path<'_>, errors: &mut Errors) {
    let negative = |value: &Value| Quantity::read(value).is_ok_and(|size| size.sign() < 0);
    if negative(&source["sizeLimit"]) {
        let detail = "SizeLimit field must be a valid resource quantity";
        errors.forbidden(&at.child("sizeLimit"), detail);
    }
    let medium = text(&source["medium"]);
    if !matches!(medium, "" | "Memory") && !medium.starts_with("HugePages") {
        errors.not_supported(&at.child("medium"), medium, &["", "HugePages", "Memory"]);
    }
}

fn host_path(source: &Value, at: &Path<'_>, errors: &mut Errors) {
    if needs(errors, &at.child("path"), &source["path"])
        && text(&source["path"]).split('/').any(|part| part == "..")
    {
        errors.invalid(&at.child("path"), source["path"].clone(), "must not contain '..'");
    }
    one_of(errors, &at.child("type"), &source["type"], &HOST_PATH_TYPES);
}

fn mode(value: &Value, at: &Path<'_>, errors: &mut Errors) {
    if let Some(mode) = value.as_i64().filter(|mode| !(0..=0o777).contains(mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.invalid(at, mode, detail);
    }
}

/// `defaultMode` and `items` of what is made of keys.
fn files(source: &Value, at: &Path<'_>, errors: &mut Errors) {
    mode(&source["defaultMode"], &at.child("defaultMode"), errors);
    for (index, item) in list(&source["items"]).iter().enumerate() {
        let items = at.child("items");
        let at = items.index(index);
        needs(errors, &at.child("key"), &item["key"]);
        file(item, &at, errors);
    }
}

/// `path` and `mode` of one file.
fn file(item: &Value, at: &Path<'_>, errors: &mut Errors) {
    let path = text(&item["path"]);
    if path.is_empty() {
        errors.required(&at.child("path"), "");
    } else {
        container::inside(path, &at.child("path"), errors);
        if path.starts_with("..") && !path.split('/').any(|part| part == "..") {
            errors.invalid(&at.child("path"), path, "must not start with '..'");
        }
    }
    mode(&item["mode"], &at.child("mode"), errors);
}

fn downward(source: &Value, at: &Path<'_>, errors: &mut Errors) {
    mode(&source["defaultMode"], &at.child("defaultMode"), errors);
    for (index, item) in list(&source["items"]).iter().enumerate() {
        let items = at.child("items");
        let at = items.index(index);
        file(item, &at, errors);
        let (field, resource) = (&item["fieldRef"], &item["resourceFieldRef"]);
        match (field.is_null(), resource.is_null()) {
            (false, false) => {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(&at, "resource", detail);
            }
            (false, true) => env::file_field(field, &at.child("fieldRef"), errors),
            (true, false) => {
                let at = at.child("resourceFieldRef");
                needs(errors, &at.child("containerName"), &resource["containerName"]);
                env::resource_ref(resource, &at, errors);
            }
            (true, true) => {
                errors.required(&at, "one of fieldRef and resourceFieldRef is required");
            }
        }
    }
}

fn projected(source: &Value, at: &Path<'_>, errors: &mut Errors) {
    mode(&source["defaultMode"], &at.child("defaultMode"), errors);
    for (index, part) in list(&source["sources"]).iter().enumerate() {
        let sources = at.child("sources");
        let at = sources.index(index);
        let kinds = part.as_object().map_or(0, serde_json::Map::len);
        if kinds != 1 {
            let detail = "may not specify more than 1 volume type";
            if kinds == 0 {
                errors.required(&at, "must specify a volume type");
            } else {
                errors.forbidden(&at, detail);
            }
            continue;
        }
        for kind in ["secret", "configMap"] {
            if !part[kind].is_null() {
                let at = at.child(kind);
                needs(errors, &at.child("name"), &part[kind]["name"]);
                files(&part[kind], &at, errors);
            }
        }
        if !part["downwardAPI"].is_null() {
            downward(&part["downwardAPI"], &at.child("downwardAPI"), errors);
        }
        let (token, at) = (&part["serviceAccountToken"], at.child("serviceAccountToken"));
        if !token.is_null() {
            if token["expirationSeconds"].as_i64().is_some_and(|seconds| seconds < 600) {
                let detail = "may not specify a duration less than 10 minutes";
                let seconds = token["expirationSeconds"].clone();
                errors.invalid(&at.child("expirationSeconds"), seconds, detail);
            }
            needs(errors, &at.child("path"), &token["path"]);
        }
    }
}
