//! What this board was last told to run, on disk, so that it starts its pods with no server in
//! reach. Written when a pod's desired state changes, and never because time passed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use edge_api::{Object, meta};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

type Hash = [u8; 32];

/// The file of policies.
const POLICIES: &str = "policies.json";

/// Pods, the ConfigMaps and Secrets that they use, and policies, under `<data-dir>/ledger`.
#[derive(Debug)]
pub(crate) struct Ledger {
    dir: PathBuf,
    /// What each file holds, to leave unchanged ones alone.
    written: Mutex<BTreeMap<PathBuf, Hash>>,
}

/// Name of an object's file; object names have no characters that a file name can't.
fn object_file(kind: &str, namespace: &str, name: &str) -> String {
    format!("{kind}_{namespace}_{name}.json")
}

impl Ledger {
    /// Opens the ledger in `dir`, made if missing.
    pub(crate) fn open(dir: &Path) -> io::Result<Ledger> {
        for sub in ["pods", "objects"] {
            let dir = dir.join(sub);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
            sweep_fresh(&dir)?;
        }
        Ok(Ledger { dir: dir.to_owned(), written: Mutex::default() })
    }

    fn pod_path(&self, uid: &str) -> PathBuf {
        self.dir.join("pods").join(format!("{uid}.json"))
    }

    fn object_path(&self, kind: &str, namespace: &str, name: &str) -> PathBuf {
        self.dir.join("objects").join(object_file(kind, namespace, name))
    }

    /// All pods in the ledger. A file that can't be read is left out, with a warning.
    pub(crate) fn pods(&self) -> Vec<Object> {
        let entries = match fs::read_dir(self.dir.join("pods")) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!("read the ledger in {}: {error}", self.dir.display());
                return Vec::new();
            }
        };
        let mut out = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            match self.read(&path) {
                Some(pod) => out.push(pod),
                None => tracing::warn!("the ledger's {} can't be read; ignored", path.display()),
            }
        }
        out
    }

    fn read(&self, path: &Path) -> Option<Object> {
        let bytes = fs::read(path).ok()?;
        let object = serde_json::from_slice(&bytes).ok()?;
        self.remember(path, hash(&bytes));
        Some(object)
    }

    fn remember(&self, path: &Path, hash: Hash) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(path.to_owned(), hash);
    }

    /// Records a pod, if what matters for running it has changed.
    pub(crate) fn put_pod(&self, pod: &Object) -> io::Result<()> {
        self.put(&self.pod_path(meta::uid(pod)), &essence(pod))
    }

    /// Drops a pod.
    pub(crate) fn remove_pod(&self, uid: &str) -> io::Result<()> {
        self.remove(&self.pod_path(uid))
    }

    /// Records a ConfigMap or Secret.
    pub(crate) fn put_object(&self, kind: &str, object: &Object) -> io::Result<()> {
        let mut copy = json!({ "metadata": {
            "name": meta::name(object), "namespace": meta::namespace(object),
        }});
        for key in ["data", "binaryData", "type"] {
            if let Some(value) = object.get(key) {
                copy[key] = value.clone();
            }
        }
        let path = self.object_path(kind, meta::namespace(object), meta::name(object));
        self.put(&path, &copy)
    }

    /// A ConfigMap or Secret as it last was.
    pub(crate) fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<Object> {
        self.read(&self.object_path(kind, namespace, name))
    }

    /// Drops a ConfigMap or Secret.
    pub(crate) fn remove_object(&self, kind: &str, namespace: &str, name: &str) -> io::Result<()> {
        self.remove(&self.object_path(kind, namespace, name))
    }

    /// Records what policies there are; `None` when there is none.
    pub(crate) fn put_policies(&self, known: Option<&Value>) -> io::Result<()> {
        let path = self.dir.join(POLICIES);
        match known {
            Some(known) => self.put(&path, known),
            None if path.exists() => self.remove(&path),
            None => Ok(()),
        }
    }

    /// What policies there were last.
    pub(crate) fn policies(&self) -> Option<Value> {
        self.read(&self.dir.join(POLICIES))
    }

    /// Drops all pods that `keep` does not name by uid: they went while no agent was looking.
    pub(crate) fn retain_pods(&self, keep: impl Fn(&str) -> bool) {
        for entry in fs::read_dir(self.dir.join("pods")).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.strip_suffix(".json").is_some_and(|uid| !keep(uid)) {
                let _ = self.remove(&entry.path());
            }
        }
    }

    /// Drops all ConfigMaps and Secrets that `keep` does not name as (kind, namespace, name).
    pub(crate) fn retain_objects(&self, keep: impl Fn(&str, &str, &str) -> bool) {
        for entry in fs::read_dir(self.dir.join("objects")).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let parts: Vec<&str> = name.trim_end_matches(".json").splitn(3, '_').collect();
            if let [kind, namespace, object] = parts[..]
                && !keep(kind, namespace, object)
            {
                let _ = self.remove(&entry.path());
            }
        }
    }

    fn put(&self, path: &Path, object: &Object) -> io::Result<()> {
        let bytes = object.to_string().into_bytes();
        let hash = hash(&bytes);
        {
            let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            if written.get(path) == Some(&hash) {
                return Ok(());
            }
        }
        write_atomic(path, &bytes)?;
        self.remember(path, hash);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Removes fresh copies that a crash left unfinished.
fn sweep_fresh(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "new") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn hash(bytes: &[u8]) -> Hash {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// Tells fresh copies apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A file that is there whole, or as it was before.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Writers of the same file don't share their fresh copies; the last one to finish wins.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let fresh = path.with_extension(format!("{number}.new"));
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// A pod without what changes all the time and starts nothing.
fn essence(pod: &Object) -> Object {
    let mut meta = serde_json::Map::new();
    let kept = [
        "name",
        "namespace",
        "uid",
        "labels",
        "annotations",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "ownerReferences",
    ];
    for key in kept {
        if let Some(value) = pod["metadata"].get(key) {
            meta.insert(key.into(), value.clone());
        }
    }
    let mut out = json!({ "apiVersion": "v1", "kind": "Pod", "spec": pod["spec"] });
    out["metadata"] = Value::Object(meta);
    let status = &pod["status"];
    if matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")) {
        out["status"] = status.clone();
    } else if let Some(start) = status.get("startTime") {
        out["status"] = json!({ "startTime": start });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(image: &str, revision: &str, phase: &str) -> Object {
        json!({ "metadata": { "uid": "u", "name": "p", "resourceVersion": revision },
            "spec": { "containers": [{ "name": "a", "image": image }] },
            "status": { "phase": phase } })
    }

    #[test]
    fn writes_on_change_only_and_reads_back() {
        let dir = std::env::temp_dir().join(format!("edged-ledger-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let ledger = Ledger::open(&dir).unwrap();
        ledger.put_pod(&pod("a:1", "1", "Pending")).unwrap();
        let path = ledger.pod_path("u");
        fs::remove_file(&path).unwrap();
        ledger.put_pod(&pod("a:1", "2", "Running")).unwrap();
        assert!(!path.exists(), "a new revision alone is not worth a write");
        ledger.put_pod(&pod("a:2", "3", "Running")).unwrap();
        assert!(path.exists());
        fs::write(dir.join("pods/broken.json"), "{").unwrap();
        let again = Ledger::open(&dir).unwrap();
        let pods = again.pods();
        assert_eq!(pods.len(), 1);
        assert_eq!(pods[0]["spec"]["containers"][0]["image"], "a:2");
        fs::remove_file(&path).unwrap();
        again.put_pod(&pods[0]).unwrap();
        assert!(!path.exists(), "what was read need not be written");
        again.retain_pods(|uid| uid == "u");
        assert!(!dir.join("pods/broken.json").exists());
        let map = json!({ "metadata": { "name": "m", "namespace": "n" }, "data": { "k": "v" } });
        again.put_object("ConfigMap", &map).unwrap();
        assert_eq!(again.object("ConfigMap", "n", "m").unwrap()["data"]["k"], "v");
        again.retain_objects(|kind, ns, name| (kind, ns, name) != ("ConfigMap", "n", "m"));
        assert_eq!(again.object("ConfigMap", "n", "m"), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
