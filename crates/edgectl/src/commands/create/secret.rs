//! ConfigMaps and Secrets from literals and files.

use crate::fault::Fault;
use crate::writing::Writing;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edge_api::Object;
use serde_json::{Map, json};
use std::path::{Path, PathBuf};

/// Where the data comes from.
#[derive(Debug, clap::Args)]
struct Data {
    /// KEY=VALUE
    #[arg(long)]
    from_literal: Vec<String>,
    /// FILE or KEY=FILE; a directory stands for the files in it
    #[arg(long)]
    from_file: Vec<String>,
    /// A file with KEY=VALUE lines
    #[arg(long)]
    from_env_file: Vec<PathBuf>,
}

type Entries = Vec<(String, Vec<u8>)>;

impl Data {
    fn read(&self) -> Result<Entries, Fault> {
        let mut found: Entries = Vec::new();
        for text in &self.from_literal {
            let (key, value) = text.split_once('=').ok_or_else(|| {
                Fault::text(format!("invalid literal source {text}, expected key=value"))
            })?;
            add(&mut found, key, value.as_bytes().to_vec())?;
        }
        for text in &self.from_file {
            match text.split_once('=') {
                Some((key, path)) => add(&mut found, key, read(Path::new(path))?)?,
                None => from_path(&mut found, Path::new(text))?,
            }
        }
        for path in &self.from_env_file {
            let bytes = read(path)?;
            for line in String::from_utf8_lossy(&bytes).lines() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let (key, value) = match line.split_once('=') {
                    Some((key, value)) => (key, value.to_string()),
                    None => (line, std::env::var(line).unwrap_or_default()),
                };
                add(&mut found, key, value.into_bytes())?;
            }
        }
        Ok(found)
    }
}

fn add(found: &mut Entries, key: &str, value: Vec<u8>) -> Result<(), Fault> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if key.is_empty() || !key.chars().all(legal) {
        return Err(Fault::text(format!(
            "{key:?} is not a valid key: a valid key consists of alphanumeric characters, '-', '_' \
             or '.'"
        )));
    }
    if found.iter().any(|(known, _)| known == key) {
        return Err(Fault::text(format!(
            "cannot add key {key:?}, another key by that name exists"
        )));
    }
    found.push((key.to_string(), value));
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).map_err(|error| Fault::io(format!("read {}", path.display()), error))
}

/// A file under its own name, or all files of a directory.
fn from_path(found: &mut Entries, path: &Path) -> Result<(), Fault> {
    if !path.is_dir() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        return add(found, name, read(path)?);
    }
    let doing = |error| Fault::io(format!("read directory {}", path.display()), error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(doing)? {
        let entry = entry.map_err(doing)?.path();
        if entry.is_file() {
            files.push(entry);
        }
    }
    files.sort();
    files.iter().try_for_each(|file| from_path(found, file))
}

/// A ConfigMap
#[derive(Debug, clap::Args)]
pub(super) struct ConfigMap {
    /// Its name
    name: String,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    pub(super) writing: Writing,
}

impl ConfigMap {
    pub(super) fn object(&self) -> Result<Object, Fault> {
        let (mut data, mut binary) = (Map::new(), Map::new());
        for (key, value) in self.data.read()? {
            match String::from_utf8(value) {
                Ok(text) => data.insert(key, json!(text)),
                Err(error) => binary.insert(key, json!(STANDARD.encode(error.as_bytes()))),
            };
        }
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                                "metadata": {"name": self.name}});
        if !data.is_empty() {
            object["data"] = Object::Object(data);
        }
        if !binary.is_empty() {
            object["binaryData"] = Object::Object(binary);
        }
        Ok(object)
    }
}

/// A Secret
#[derive(Debug, clap::Args)]
pub(super) struct SecretArgs {
    #[command(subcommand)]
    kind: SecretKind,
}

#[derive(Debug, clap::Subcommand)]
enum SecretKind {
    /// Any data
    Generic(Generic),
    /// A certificate with its key
    Tls(Tls),
    /// Credentials of an image registry
    DockerRegistry(Registry),
}

#[derive(Debug, clap::Args)]
struct Generic {
    /// Its name
    name: String,
    #[command(flatten)]
    data: Data,
    /// The type; Opaque when left out
    #[arg(long = "type")]
    kind: Option<String>,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Debug, clap::Args)]
struct Tls {
    /// Its name
    name: String,
    /// The file with the certificate
    #[arg(long)]
    cert: PathBuf,
    /// The file with the private key
    #[arg(long)]
    key: PathBuf,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Debug, clap::Args)]
struct Registry {
    /// Its name
    name: String,
    /// The registry
    #[arg(long, default_value = "https://index.docker.io/v1/")]
    docker_server: String,
    /// The user
    #[arg(long)]
    docker_username: String,
    /// The password
    #[arg(long)]
    docker_password: String,
    /// The e-mail address
    #[arg(long)]
    docker_email: Option<String>,
    #[command(flatten)]
    writing: Writing,
}

impl SecretArgs {
    pub(super) fn object(self) -> Result<(Object, Writing), Fault> {
        Ok(match self.kind {
            SecretKind::Generic(args) => {
                let kind = args.kind.as_deref();
                (secret(&args.name, kind, args.data.read()?), args.writing)
            }
            SecretKind::Tls(args) => {
                let data = vec![
                    ("tls.crt".to_string(), read(&args.cert)?),
                    ("tls.key".to_string(), read(&args.key)?),
                ];
                (secret(&args.name, Some("kubernetes.io/tls"), data), args.writing)
            }
            SecretKind::DockerRegistry(args) => {
                let pair = format!("{}:{}", args.docker_username, args.docker_password);
                let mut entry = json!({"username": args.docker_username,
                                       "password": args.docker_password,
                                       "auth": STANDARD.encode(pair)});
                if let Some(email) = &args.docker_email {
                    entry["email"] = json!(email);
                }
                let config = json!({"auths": {args.docker_server.as_str(): entry}}).to_string();
                let data = vec![(".dockerconfigjson".to_string(), config.into_bytes())];
                let kind = Some("kubernetes.io/dockerconfigjson");
                (secret(&args.name, kind, data), args.writing)
            }
        })
    }
}

fn secret(name: &str, kind: Option<&str>, data: Entries) -> Object {
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    if let Some(kind) = kind {
        object["type"] = json!(kind);
    }
    let data: Map<String, Object> =
        data.into_iter().map(|(key, value)| (key, json!(STANDARD.encode(value)))).collect();
    if !data.is_empty() {
        object["data"] = Object::Object(data);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    enum Line {
        Configmap(ConfigMap),
        Secret(SecretArgs),
    }

    #[test]
    fn literals_files_and_binaries() {
        let dir = std::env::temp_dir().join(format!("edgectl-create-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a.txt"), "text\n").unwrap();
        std::fs::write(dir.join("b.bin"), b"\xff\x00").unwrap();
        let place = dir.display();
        let line = format!("x configmap c --from-literal=k=a=b --from-file={place}");
        let Line::Configmap(args) = Line::parse_from(line.split(' ')) else { panic!() };
        let object = args.object().unwrap();
        assert_eq!(object["data"], json!({"k": "a=b", "a.txt": "text\n"}));
        assert_eq!(object["binaryData"], json!({"b.bin": "/wA="}));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn secrets_are_encoded() {
        let made = |line: &str| match Line::parse_from(line.split(' ')) {
            Line::Secret(args) => args.object().map(|(object, _)| object),
            Line::Configmap(_) => panic!("not a secret"),
        };
        let generic = made("x secret generic s --from-literal=p=hunter2").unwrap();
        assert_eq!(generic["data"]["p"], "aHVudGVyMg==");
        let registry = "x secret docker-registry s --docker-username u --docker-password p";
        let text = made(registry).unwrap()["data"][".dockerconfigjson"].clone();
        let config = STANDARD.decode(text.as_str().unwrap()).unwrap();
        let config: Object = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["auths"]["https://index.docker.io/v1/"]["auth"], "dTpw");
        assert!(made("x secret generic s --from-literal=bad/key=1").is_err());
        assert!(made("x secret generic s --from-literal=a=1 --from-literal=a=2").is_err());
    }
}
